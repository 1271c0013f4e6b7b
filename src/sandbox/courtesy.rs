//! When a command that makes way stands still. Pure: time and pressure are given to it.
//!
//! It always has the lowest weight, so that whoever wakes up runs at once. That does not help those who wait for the
//! disk, for memory, or share a core's caches: while others wait, the command runs in a part of each second only, and is
//! frozen in the rest.
//!
//! ```text
//! others wait   what waited on the host and not in the command's own group, as a part of the last second; the largest
//!               of processor, disk and memory
//! from 10 %     one step down: it runs in 100 %, 50 %, 25 %, 10 % of each second (from 30 %: down to the last at once)
//! below 5 %     five seconds on end: one step up
//! starving      waits for a processor in 90 % of the time it has: in every tenth second it has 100 ms of the usual weight
//! ```

use std::time::{Duration, Instant};

use crate::sandbox::pressure::Pressure;

/// What one decision is about.
const PERIOD: Duration = Duration::from_secs(1);
/// The parts of a period, in per cent, that it runs in.
const PARTS: [u32; 4] = [100, 50, 25, 10];
/// Per cent of a period in which others wait.
const MUCH: u64 = 10;
const TOO_MUCH: u64 = 30;
const LITTLE: u64 = 5;
/// How many periods with little pressure bring a step up.
const CALM: u32 = 5;
/// Per cent of the time it has in which its own processes wait for a processor, from which on it starves.
const STARVING: u64 = 90;
/// In which periods one that starves has its turn, and for how long.
const TURN_EVERY: u32 = 10;
const TURN: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action {
    /// Whether it stands still.
    pub(super) frozen: bool,
    /// Whether it has the usual weight.
    pub(super) fair: bool,
}

/// Decides.
#[derive(Debug)]
pub(super) struct Courtesy {
    step: usize,
    calm: u32,
    period: u32,
    started: Instant,
    at_start: Option<(Pressure, Pressure)>,
    starving: bool,
    now: Action,
}

impl Courtesy {
    pub(super) fn new(now: Instant) -> Self {
        let action = Action { frozen: false, fair: false };
        Self { step: 0, calm: 0, period: 0, started: now, at_start: None, starving: false, now: action }
    }

    /// Returns whether it stands still now.
    pub(super) fn frozen(&self) -> bool {
        self.now.frozen
    }

    /// Returns whether it has the usual weight now.
    pub(super) fn fair(&self) -> bool {
        self.now.fair
    }

    /// Takes the time and the pressure on the host and in its own group; returns what to do, where that is something
    /// else than before.
    pub(super) fn step(&mut self, now: Instant, host: Pressure, own: Pressure) -> Option<Action> {
        let (host_before, own_before) = *self.at_start.get_or_insert((host, own));
        let passed = now.duration_since(self.started);
        if passed >= PERIOD {
            self.judge(passed, [host_before, host], [own_before, own]);
            self.started = now;
            self.at_start = Some((host, own));
            self.period = self.period.wrapping_add(1);
        }
        let within = now.duration_since(self.started);
        let runs = PERIOD * PARTS.get(self.step).copied().unwrap_or(PARTS[0]) / 100;
        let fair = self.starving && self.period.is_multiple_of(TURN_EVERY) && within < TURN;
        let action = Action { frozen: within >= runs, fair };
        (std::mem::replace(&mut self.now, action) != action).then_some(action)
    }

    fn judge(&mut self, passed: Duration, host: [Pressure; 2], own: [Pressure; 2]) {
        let passed = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX).max(1);
        let waited = |[before, after]: [Pressure; 2], of: fn(&Pressure) -> u64| of(&after).saturating_sub(of(&before));
        let others = |of| waited(host, of).saturating_sub(waited(own, of));
        let most = [|p: &Pressure| p.cpu, |p: &Pressure| p.io, |p: &Pressure| p.memory].map(others).into_iter().max();
        let most = most.unwrap_or(0).saturating_mul(100) / passed;
        let part = u64::from(PARTS.get(self.step).copied().unwrap_or(PARTS[0]));
        let ran = (passed.saturating_mul(part) / 100).max(1);
        self.starving = waited(own, |p| p.cpu).saturating_mul(100) / ran >= STARVING;
        let last = PARTS.len() - 1;
        match most {
            TOO_MUCH.. => (self.step, self.calm) = (last, 0),
            MUCH.. => (self.step, self.calm) = (last.min(self.step + 1), 0),
            LITTLE.. => self.calm = 0,
            _ => self.calm += 1,
        }
        if self.calm >= CALM {
            (self.step, self.calm) = (self.step.saturating_sub(1), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// Steps through some seconds in which others and the command itself wait so many per cent. Returns how many of the
    /// ticks of each second it runs in, and in how many it has the usual weight.
    struct Run {
        courtesy: Courtesy,
        now: Instant,
        host: Pressure,
        own: Pressure,
        action: Action,
    }

    impl Run {
        fn new() -> Self {
            let now = Instant::now();
            let action = Action { frozen: false, fair: false };
            Self { courtesy: Courtesy::new(now), now, host: Pressure::default(), own: Pressure::default(), action }
        }

        fn seconds(&mut self, seconds: u32, others: u64, own: u64) -> Vec<(u32, u32)> {
            let each = (0..seconds).map(|_| {
                let (mut runs, mut fair) = (0, 0);
                for _ in 0..10 {
                    if let Some(action) = self.courtesy.step(self.now, self.host, self.own) {
                        self.action = action;
                    }
                    runs += u32::from(!self.action.frozen);
                    fair += u32::from(self.action.fair);
                    self.now += TICK;
                    self.host.io += others * 1000;
                    self.host.cpu += own * 1000;
                    self.own.cpu += own * 1000;
                }
                (runs, fair)
            });
            each.collect()
        }

        fn parts(&mut self, seconds: u32, others: u64) -> Vec<u32> {
            self.seconds(seconds, others, 0).into_iter().map(|(runs, _)| runs).collect()
        }
    }

    #[test]
    fn without_pressure_it_runs() {
        assert_eq!(Run::new().parts(4, 0), [10; 4]);
        assert_eq!(Run::new().parts(4, 9), [10; 4]);
    }

    #[test]
    fn its_own_waiting_is_no_reason() {
        assert!(Run::new().seconds(4, 0, 80).iter().all(|(runs, _)| *runs == 10));
    }

    #[test]
    fn it_steps_down_and_slowly_up_again() {
        let mut run = Run::new();
        assert_eq!(run.parts(6, 15), [10, 5, 3, 1, 1, 1]);
        assert_eq!(run.parts(17, 0), [1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 5, 5, 5, 5, 5, 10, 10]);
    }

    #[test]
    fn much_pressure_brings_it_down_at_once_and_a_little_keeps_it_there() {
        let mut run = Run::new();
        assert_eq!(run.parts(3, 60), [10, 1, 1]);
        assert_eq!(run.parts(20, 7), [1; 20]);
    }

    #[test]
    fn it_always_runs_a_tenth_and_when_it_starves_it_has_its_turn() {
        let mut run = Run::new();
        let seconds = run.seconds(40, 100, 100);
        assert!(seconds.iter().all(|(runs, _)| *runs >= 1));
        assert_eq!(seconds.iter().map(|(_, fair)| fair).sum::<u32>(), 3);
        run.seconds(1, 100, 0);
        assert_eq!(run.seconds(40, 100, 8).iter().map(|(_, fair)| fair).sum::<u32>(), 0);
    }
}
