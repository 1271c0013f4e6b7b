//! What building took, from the records of runs; of runs that are gone, from the pool's records.

use std::collections::BTreeSet;

use crate::atom::Name;
use crate::binhost::pool::Entry;
use crate::build::{self, Status};
use crate::event::Event;
use crate::fs::PathError;
use crate::state::State;

/// How long something is recent, in seconds: 30 days.
pub const RECENT: u64 = 30 * 24 * 60 * 60;

/// What was built for a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// How many runs are recorded.
    pub runs: usize,
    /// When the first of what is recorded was, in seconds since 1970.
    pub since: Option<u64>,
    /// All that is recorded.
    pub all: Builds,
    /// That of the last 30 days.
    pub recent: Builds,
    /// How many builds in the pool have no record of how long they took. Those taken over from others took no time.
    pub unrecorded: usize,
}

/// Some builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Builds {
    /// How many packages were built.
    pub finished: usize,
    /// How long that took, in milliseconds of wall time, each package by itself.
    pub milliseconds: u64,
    /// The processor time of that and of what failed, in milliseconds.
    pub cpu_milliseconds: u64,
    /// How many of those built have no record of their processor time.
    pub without_cpu: usize,
    /// How many failed.
    pub failed: usize,
}

impl History {
    pub(super) fn of(
        state: &State,
        profile: &Name,
        runs: &[Status],
        pool: &[Entry],
        now: u64,
    ) -> Result<Self, PathError> {
        let mut history = Self::default();
        let mut known = BTreeSet::new();
        for run in runs.iter().filter(|run| run.profile == *profile) {
            known.insert(run.id.as_str());
            history.runs += 1;
            let mut builds = Builds::default();
            let mut spent = BTreeSet::new();
            for event in build::events(state, &run.id)? {
                match event {
                    Event::Spent { cpv, cpu_milliseconds, .. } => {
                        builds.cpu_milliseconds = builds.cpu_milliseconds.saturating_add(cpu_milliseconds);
                        spent.insert(cpv);
                    }
                    Event::BuildFinished { cpv, milliseconds, .. } => {
                        builds.add(milliseconds);
                        builds.without_cpu += usize::from(!spent.contains(&cpv));
                    }
                    Event::BuildFailed { .. } => builds.failed += 1,
                    _ => {}
                }
            }
            history.add(run.started, builds, now);
        }
        for entry in pool.iter().filter(|entry| entry.origin.shared.is_none()) {
            let Some(milliseconds) = entry.origin.milliseconds else {
                history.unrecorded += 1;
                continue;
            };
            if !entry.origin.run.as_ref().is_some_and(|run| known.contains(run.as_str())) {
                let mut builds = Builds::default();
                builds.add(milliseconds);
                builds.cpu_milliseconds = entry.origin.cpu_milliseconds.unwrap_or(0);
                builds.without_cpu = usize::from(entry.origin.cpu_milliseconds.is_none());
                history.add(entry.origin.built, builds, now);
            }
        }
        Ok(history)
    }

    fn add(&mut self, at: u64, builds: Builds, now: u64) {
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
        self.all = self.all.and(builds);
        // What is later than now, by a clock that was wrong, is not old.
        if now.saturating_sub(at) <= RECENT {
            self.recent = self.recent.and(builds);
        }
    }
}

impl Builds {
    fn add(&mut self, milliseconds: u64) {
        self.finished += 1;
        self.milliseconds = self.milliseconds.saturating_add(milliseconds);
    }

    fn and(self, other: Self) -> Self {
        Self {
            finished: self.finished + other.finished,
            milliseconds: self.milliseconds.saturating_add(other.milliseconds),
            cpu_milliseconds: self.cpu_milliseconds.saturating_add(other.cpu_milliseconds),
            without_cpu: self.without_cpu + other.without_cpu,
            failed: self.failed + other.failed,
        }
    }
}
