//! What the supervisor does to a running command a few times a second: it takes changes of limits, freezes one that makes
//! way, and notes who may be killed for want of memory.

use std::time::{Duration, Instant};

use crate::process;
use crate::sandbox::cgroup::{Cgroups, Making};
use crate::sandbox::change::{Change, Inbox};
use crate::sandbox::courtesy::Courtesy;

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);

/// Keeps a running command's limits.
#[derive(Debug)]
pub(super) struct Keeper<'a> {
    pub(super) cgroups: &'a mut Cgroups,
    making: Making<'a>,
    /// The process above all others of the sandbox.
    top: u32,
    inbox: Inbox,
    courtesy: Option<Courtesy>,
    last: Instant,
    /// All changes together.
    pub(super) changed: Change,
    /// For how long it stood still.
    pub(super) frozen: Duration,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(cgroups: &'a mut Cgroups, making: Making<'a>, top: u32, now: Instant) -> Self {
        let inbox = Inbox::new(making.lease.root());
        let making = Making { runs: true, ..making };
        let changed = Change::default();
        Self { cgroups, making, top, inbox, courtesy: None, last: now, changed, frozen: Duration::ZERO }
    }

    /// Notes that the command runs: its sandbox is never frozen while it is set up.
    pub(super) fn start(&mut self, now: Instant) {
        self.courtesy = self.cgroups.limits.gives_way.then(|| Courtesy::new(now));
    }

    /// Returns whether the command stands still.
    pub(super) fn stands_still(&self) -> bool {
        self.courtesy.as_ref().is_some_and(Courtesy::frozen)
    }

    /// Lets it end as fast as anyone: with the lowest weight, on a busy host, even dying takes its time.
    pub(super) fn let_go(&mut self) {
        if self.courtesy.take().is_some() {
            // Without it, it only takes longer.
            let _ = self.cgroups.freeze(false, true);
        }
    }

    /// Does what is to be done; returns for how much of the time since the last look the command stood still.
    pub(super) fn look(&mut self, now: Instant) -> Duration {
        let passed = now.duration_since(self.last);
        if passed < TICK {
            return Duration::ZERO;
        }
        self.last = now;
        let frozen = if self.stands_still() { passed } else { Duration::ZERO };
        self.frozen += frozen;
        if let Some(change) = self.inbox.take() {
            let result = self.cgroups.change(&change, &mut self.making, self.top);
            if result.is_ok() {
                self.changed.merge(&change);
            }
            self.inbox.answer(&result.map_err(|e| process::chain(&e)));
        }
        if let (Some(courtesy), Some((host, own))) = (&mut self.courtesy, self.cgroups.pressures())
            && let Some(action) = courtesy.step(now, host, own)
        {
            // A group that cannot be written to is being removed.
            let _ = self.cgroups.freeze(action.frozen, action.fair);
        }
        if let Some(courtesy) = &self.courtesy {
            // One beside it may have ended, and been let go.
            let _ = self.cgroups.weigh_all(courtesy.fair());
        }
        self.cgroups.suspect();
        frozen
    }
}
