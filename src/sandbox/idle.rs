//! Whether a command has hung: nothing of its sandbox runs, wants to run or has run, and nothing is printed.
//!
//! All threads of all its processes are looked at (proc(5)), some sixty times in the limit. After a look it is
//!
//! ```text
//! busy   where a thread is in any state but sleep: runnable (R), which one is that has no processor because others have
//!        them all; in the kernel, for a disk mostly (D); stopped or traced by somebody (T, t)
//!        where all have used more processor time since the last look than a thousandth of that time
//!        where something was printed
//! idle   otherwise: since the last look, but no longer than two pauses: who could not look does not know
//! ```
//!
//! So neither a busy machine nor a small share of it makes anything look idle. A little processor time is for programs that
//! wake up now and then to see whether something has happened, as the package manager's may.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fs;
use crate::sandbox::cgroup::below;

/// The pause between two looks: a part of the limit, within bounds.
const LOOKS: u32 = 60;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// The part of a processor that nobody counts as work, and the least time that somebody does.
const PART: u32 = 1000;
const LEAST: Duration = Duration::from_millis(1);
/// How many processes a sandbox has at least: `__enter`, `__init` and the command.
const FEWEST: usize = 3;
/// What the ticks of proc(5) are (USER_HZ, which is the same on all machines that we run on).
const TICK: Duration = Duration::from_millis(10);

/// What one look has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether a thread does something else than sleep.
    pub(super) awake: bool,
    /// Processor time of all: only its changes mean something.
    pub(super) used: Duration,
}

/// For how long a command has been idle.
#[derive(Debug, Default)]
pub(super) struct Idle {
    limit: Option<Duration>,
    last: Option<(Instant, Look)>,
    /// How long it was kept from running since the last look.
    skipped: Duration,
    idle: Duration,
}

impl Idle {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Notes that the command printed something.
    pub(super) fn hear(&mut self) {
        self.idle = Duration::ZERO;
    }

    /// Leaves out time in which it was kept from running.
    pub(super) fn skip(&mut self, time: Duration) {
        self.skipped += time;
    }

    /// Looks, unless that was just done. Returns whether the limit is reached. What stands still must not be looked at: all
    /// seems to sleep.
    pub(super) fn check(&mut self, now: Instant, look: impl FnOnce() -> Look) -> bool {
        let Some(limit) = self.limit else { return false };
        let pause = (limit / LOOKS).clamp(SHORTEST, LONGEST);
        if self.last.is_some_and(|(at, _)| now.duration_since(at) < pause) {
            return false;
        }
        let look = look();
        let Some((at, before)) = self.last.replace((now, look)) else { return false };
        let passed = now.duration_since(at).saturating_sub(std::mem::take(&mut self.skipped)).min(2 * pause);
        if look.awake || look.used.abs_diff(before.used) > LEAST.max(passed / PART) {
            self.idle = Duration::ZERO;
        } else {
            self.idle += passed;
        }
        self.idle >= limit
    }
}

/// Looks at `__enter` and all below it. Where not even `__init` and the command are seen, they count as awake.
pub(super) fn look(enter: u32) -> Look {
    let processes = below(enter);
    let mut seen = Look { awake: processes.len() < FEWEST, used: Duration::ZERO };
    for pid in processes {
        let process = Path::new("/proc").join(pid.to_string());
        let stat = |dir: &Path| fs::read_to_string(&dir.join("stat")).ok().as_deref().and_then(Stat::read);
        seen.used += stat(&process).map(|stat| stat.children).unwrap_or_default();
        for thread in fs::read_dir(&process.join("task")).unwrap_or_default() {
            // Of one that has just ended, the change of the sum tells.
            let Some(stat) = stat(&thread) else { continue };
            seen.awake |= !stat.sleeps;
            // In nanoseconds; a kernel without it has the ticks alone.
            let exact = fs::read_to_string(&thread.join("schedstat")).ok();
            let exact = exact.and_then(|text| text.split_whitespace().next()?.parse().ok()).map(Duration::from_nanos);
            seen.used += exact.unwrap_or(stat.own);
        }
    }
    seen
}

/// What `/proc/PID/stat` and `/proc/PID/task/TID/stat` say (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Field 3: whether it waits for something that may take as long as it likes, or has ended.
    sleeps: bool,
    /// Fields 14 and 15: its processor time.
    own: Duration,
    /// Fields 16 and 17: that of the children it has waited for.
    children: Duration,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        // The second field is the program's name and may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
        let time = |user, system| Some(TICK * ticks(user)?.checked_add(ticks(system)?)?);
        let sleeps = matches!(*fields.first()?, "S" | "Z" | "X");
        Some(Self { sleeps, own: time(14, 15)?, children: time(16, 17)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A command with a limit of ten minutes, which is looked at every ten seconds.
    struct Play {
        idle: Idle,
        now: Instant,
        used: Duration,
    }

    impl Play {
        fn new() -> Self {
            Self { idle: Idle::new(Some(10 * MINUTE)), now: Instant::now(), used: Duration::ZERO }
        }

        /// Goes on for some time, in which it uses so much in each second. Returns whether it was stopped meanwhile.
        fn on(&mut self, time: Duration, awake: bool, each: Duration) -> bool {
            let steps = time.as_secs();
            (0..steps).fold(false, |stopped, _| {
                self.now += SECOND;
                self.used += each;
                let look = Look { awake, used: self.used };
                self.idle.check(self.now, || look) || stopped
            })
        }
    }

    #[test]
    fn who_sleeps_is_idle_even_if_it_wakes_up_now_and_then() {
        let mut play = Play::new();
        assert!(!play.on(9 * MINUTE, false, Duration::ZERO));
        assert!(play.on(2 * MINUTE, false, Duration::from_micros(500)));
    }

    #[test]
    fn who_works_or_wants_to_is_not() {
        assert!(!Play::new().on(60 * MINUTE, false, Duration::from_millis(2)));
        assert!(!Play::new().on(60 * MINUTE, true, Duration::ZERO));
        let mut play = Play::new();
        for _ in 0..9 {
            assert!(!play.on(9 * MINUTE, false, Duration::ZERO));
            assert!(!play.on(11 * SECOND, true, Duration::ZERO));
        }
    }

    #[test]
    fn output_begins_anew() {
        let mut play = Play::new();
        assert!(!play.on(9 * MINUTE, false, Duration::ZERO));
        play.idle.hear();
        assert!(!play.on(9 * MINUTE, false, Duration::ZERO));
        assert!(play.on(2 * MINUTE, false, Duration::ZERO));
    }

    #[test]
    fn time_in_which_it_could_not_run_or_nobody_looked_does_not_count() {
        let mut play = Play::new();
        play.on(MINUTE, false, Duration::ZERO);
        // Bindery itself was stopped.
        play.now += 60 * MINUTE;
        assert!(!play.on(MINUTE, false, Duration::ZERO));
        for _ in 0..60 {
            play.idle.skip(9 * SECOND);
            assert!(!play.on(10 * SECOND, false, Duration::ZERO));
        }
        assert!(play.on(10 * MINUTE, false, Duration::ZERO));
    }

    #[test]
    fn without_a_limit_nobody_looks() {
        assert!(!Idle::new(None).check(Instant::now(), || unreachable!("it looked")));
    }

    #[test]
    fn only_sleep_and_death_are_no_work() {
        let line = |state| format!("7 (a) R 1 ) {state} 42 7 7 0 -1 0 0 0 0 0 3 4 5 6 20 0 1 0 99");
        for (state, sleeps) in [
            ("S", true),
            ("Z", true),
            ("X", true),
            ("R", false),
            ("D", false),
            ("T", false),
            ("t", false),
            ("P", false),
        ] {
            let wanted = Stat { sleeps, own: 7 * TICK, children: 11 * TICK };
            assert_eq!(Stat::read(&line(state)), Some(wanted), "{state}");
        }
        assert_eq!(Stat::read("7 (x"), None);
        assert_eq!(Stat::read("7 (x) S 1"), None);
    }

    #[test]
    fn what_is_no_sandbox_counts_as_awake() {
        assert!(look(u32::MAX).awake);
    }
}
