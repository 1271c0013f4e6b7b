//! When a payload is stopped: too long, too quiet or hung, or called off. Pure: time is given to it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::sandbox::idle::{Idle, Look};
use crate::sandbox::plan::Limits;

/// Why a payload was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// It ran longer than it may.
    Time,
    /// It printed nothing for longer than it may.
    Silence,
    /// Nothing of it ran and it printed nothing for longer than it may.
    Idle,
    /// It wrote more than it may.
    Disk,
    /// The host's file system is nearly full, which is no fault of its own.
    Full,
    /// It used more memory than it may: the kernel killed some of it.
    Memory,
    /// It needed more processes than it may have, and failed.
    Processes,
    /// The caller called it off.
    Cancelled,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "it took longer than its limit of time, and was stopped",
            Self::Silence => "it printed nothing for longer than its limit of silence, and was stopped",
            Self::Idle => {
                "it hung: it used no processor time and printed nothing for longer than its limit of idleness, and was stopped"
            }
            Self::Disk => "it wrote more than its limit of disk, or more files than go with that, and was stopped",
            Self::Full => "the disk is nearly full, and it was stopped",
            Self::Memory => "it needed more memory than its limit, and the kernel ended it",
            Self::Processes => "it could not start a process: their limit was reached",
            Self::Cancelled => "it was stopped",
        })
    }
}

#[derive(Debug)]
pub(super) struct Watchdog {
    limits: Limits,
    started: Instant,
    heard: Instant,
    idle: Idle,
}

impl Watchdog {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let idle = Idle::new(limits.idle);
        Self { limits, started: now, heard: now, idle }
    }

    /// Notes that the payload printed something.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.idle.hear();
    }

    /// Leaves out time in which the payload was kept from running.
    pub(super) fn skip(&mut self, time: Duration) {
        self.started += time;
        self.heard += time;
        self.idle.skip(time);
    }

    /// Returns whether it has hung, by what is seen of it: to be called while it does not stand still.
    pub(super) fn check_idle(&mut self, now: Instant, look: impl FnOnce() -> Look) -> Option<Stopped> {
        self.idle.check(now, look).then_some(Stopped::Idle)
    }

    /// Returns whether a limit on time is exceeded.
    pub(super) fn check_time(&self, now: Instant) -> Option<Stopped> {
        let over = |limit: Option<Duration>, since| limit.is_some_and(|limit| now.duration_since(since) >= limit);
        if over(self.limits.time, self.started) {
            Some(Stopped::Time)
        } else if over(self.limits.silence, self.heard) {
            Some(Stopped::Silence)
        } else {
            None
        }
    }

    /// Returns how long nothing needs to be checked, at most `longest`.
    pub(super) fn sleep(&self, now: Instant, longest: Duration) -> Duration {
        let left = |limit: Option<Duration>, since| limit.map(|limit| limit.saturating_sub(now.duration_since(since)));
        [left(self.limits.time, self.started), left(self.limits.silence, self.heard)]
            .into_iter()
            .flatten()
            .fold(longest, Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watchdog(now: Instant) -> Watchdog {
        let limits = Limits { time: Some(10 * SECOND), silence: Some(3 * SECOND), ..Limits::default() };
        Watchdog::new(limits, now)
    }

    #[test]
    fn output_puts_silence_off_but_not_the_end() {
        let start = Instant::now();
        let mut dog = watchdog(start);
        assert_eq!(dog.check_time(start + 2 * SECOND), None);
        assert_eq!(dog.check_time(start + 3 * SECOND), Some(Stopped::Silence));
        dog.hear(start + 8 * SECOND);
        assert_eq!(dog.check_time(start + 9 * SECOND), None);
        assert_eq!(dog.check_time(start + 10 * SECOND), Some(Stopped::Time));
    }

    #[test]
    fn time_in_which_it_is_frozen_does_not_count() {
        let start = Instant::now();
        let mut dog = watchdog(start);
        dog.skip(7 * SECOND);
        assert_eq!(dog.check_time(start + 9 * SECOND), None);
        assert_eq!(dog.check_time(start + 10 * SECOND), Some(Stopped::Silence));
        dog.hear(start + 16 * SECOND);
        assert_eq!(dog.check_time(start + 16 * SECOND), None);
        assert_eq!(dog.check_time(start + 17 * SECOND), Some(Stopped::Time));
    }

    #[test]
    fn it_wakes_for_what_comes_first() {
        let start = Instant::now();
        let mut dog = watchdog(start);
        assert_eq!(dog.sleep(start, 9 * SECOND), 3 * SECOND);
        dog.hear(start + 9 * SECOND);
        assert_eq!(dog.sleep(start + 9 * SECOND, 9 * SECOND), SECOND);
        assert_eq!(dog.sleep(start + 60 * SECOND, SECOND), Duration::ZERO);
        assert_eq!(Watchdog::new(Limits::default(), start).sleep(start + 99 * SECOND, SECOND), SECOND);
    }
}
