//! Which package of a plan starts next. Pure: it is told what has ended, and says what may start.
//!
//! 1. A package may start once everything it needs has ended well, and not more run at a time than may.
//! 2. Of those that may, the one with the longest way to the end goes first: its own time and that of the longest chain of
//!    packages that wait for it. Where two have the same, the plan's order decides.
//! 3. What needs something that failed is never started. That is said once all that it needs has ended, so that what is said
//!    does not depend on who was faster.
//! 4. What is to have everything for itself starts when nothing else runs or may, and nothing starts beside it.

/// One package, by its place in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    /// What must have ended well before: places of earlier packages, in the plan's order.
    pub(super) needs: Vec<usize>,
    /// How long it is expected to take, in any unit that all of them share; nothing where there is nothing to do.
    pub(super) time: u64,
}

/// What is to be done about a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It may start, and counts as running from now on.
    Start(usize),
    /// It cannot be built, because this one failed.
    Skip(usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For so many that it needs.
    Waits(usize),
    Runs,
    Well,
    /// It did not work, because of this one: itself, or what it needs.
    Failed(usize),
}

/// The packages of a plan on their way.
#[derive(Debug)]
pub(super) struct Schedule {
    tasks: Vec<Task>,
    /// Who needs each.
    users: Vec<Vec<usize>>,
    /// The longest way to the end from each on, its own time included.
    ways: Vec<u64>,
    states: Vec<State>,
    /// Those that are to have everything for themselves.
    alone: Vec<bool>,
    most: usize,
    running: usize,
}

impl Schedule {
    /// Takes the packages in the plan's order, of which at most `most` run at a time. With one at a time, they run in that
    /// order: there is nothing to gain by another.
    pub(super) fn new(tasks: Vec<Task>, most: usize) -> Self {
        let mut users = vec![Vec::new(); tasks.len()];
        for (at, task) in tasks.iter().enumerate() {
            for need in &task.needs {
                debug_assert!(*need < at, "a plan names what is needed first");
                if let Some(users) = users.get_mut(*need) {
                    users.push(at);
                }
            }
        }
        let mut ways = vec![0_u64; tasks.len()];
        for (at, task) in tasks.iter().enumerate().rev().filter(|_| most > 1) {
            let after = users[at].iter().map(|user| ways[*user]).max().unwrap_or(0);
            ways[at] = task.time.saturating_add(after);
        }
        let states = tasks.iter().map(|task| State::Waits(task.needs.len())).collect();
        let alone = vec![false; tasks.len()];
        Self { tasks, users, ways, states, alone, most: most.max(1), running: 0 }
    }

    /// Returns what is to be done now; nothing until something has ended, or at all.
    pub(super) fn next(&mut self) -> Option<Next> {
        let waiting =
            || self.states.iter().enumerate().filter(|(_, state)| **state == State::Waits(0)).map(|(at, _)| at);
        if let Some((at, because)) = waiting().find_map(|at| Some((at, self.failed(at)?))) {
            self.end(at, State::Failed(because));
            return Some(Next::Skip(at, because));
        }
        let alone = |at: &usize| self.alone[*at];
        let occupied = self.states.iter().zip(&self.alone).any(|(state, alone)| *alone && *state == State::Runs);
        if self.running >= self.most || occupied {
            return None;
        }
        let first = |these: &mut dyn Iterator<Item = usize>| these.min_by_key(|at| (u64::MAX - self.ways[*at], *at));
        let beside = first(&mut waiting().filter(|at| !alone(at)));
        let at = beside.or_else(|| first(&mut waiting().filter(alone)).filter(|_| self.running == 0))?;
        self.states[at] = State::Runs;
        self.running += 1;
        Some(Next::Start(at))
    }

    /// Returns how many run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Notes that one that ran has ended well.
    pub(super) fn done(&mut self, at: usize) {
        self.running -= 1;
        self.end(at, State::Well);
    }

    /// Notes that one that ran has failed.
    pub(super) fn fail(&mut self, at: usize) {
        self.running -= 1;
        self.end(at, State::Failed(at));
    }

    /// Has one that ran start once more, with everything for itself.
    pub(super) fn again_alone(&mut self, at: usize) {
        self.running -= 1;
        (self.states[at], self.alone[at]) = (State::Waits(0), true);
    }

    /// Returns whether one has, or had, everything for itself.
    pub(super) fn is_alone(&self, at: usize) -> bool {
        self.alone[at]
    }

    /// Returns because of whom one cannot be built: the first that it needs.
    fn failed(&self, at: usize) -> Option<usize> {
        self.tasks[at].needs.iter().find_map(|need| match self.states[*need] {
            State::Failed(because) => Some(because),
            _ => None,
        })
    }

    fn end(&mut self, at: usize, state: State) {
        self.states[at] = state;
        for user in &self.users[at] {
            if let State::Waits(count) = &mut self.states[*user] {
                *count -= 1;
            }
        }
    }
}

/// Returns what each of `running` builds that share `jobs` may have, rounded up: a build waits now and then, and the
/// processors should not.
pub(super) fn share(jobs: u32, running: usize) -> u32 {
    jobs.div_ceil(u32::try_from(running).unwrap_or(u32::MAX).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tasks(all: &[(&[usize], u64)]) -> Vec<Task> {
        all.iter().map(|(needs, time)| Task { needs: needs.to_vec(), time: *time }).collect()
    }

    fn started(schedule: &mut Schedule) -> Vec<usize> {
        let mut all = Vec::new();
        while let Some(next) = schedule.next() {
            let Next::Start(at) = next else { panic!("{next:?}") };
            all.push(at);
        }
        all
    }

    #[test]
    fn the_longest_way_goes_first_and_the_plans_order_decides_between_equals() {
        // 0 is long by itself; 1 is short, and a long chain waits for it; 2 and 3 are alike.
        let all = tasks(&[(&[], 50), (&[], 10), (&[], 5), (&[], 5), (&[1], 30), (&[4], 30)]);
        let mut schedule = Schedule::new(all.clone(), 2);
        assert_eq!(started(&mut schedule), [1, 0]);
        schedule.done(1);
        assert_eq!(started(&mut schedule), [4]);
        schedule.done(0);
        assert_eq!(started(&mut schedule), [2]);
        schedule.done(2);
        assert_eq!(started(&mut schedule), [3]);
        // One at a time: as the plan has them.
        let mut schedule = Schedule::new(all, 1);
        for at in 0..6 {
            assert_eq!(started(&mut schedule), [at]);
            schedule.done(at);
        }
        assert_eq!((schedule.next(), schedule.running()), (None, 0));
    }

    #[test]
    fn what_fails_costs_those_that_need_it_and_the_reason_is_the_first_in_the_plan() {
        let all = tasks(&[(&[], 1), (&[], 1), (&[0, 1], 1), (&[2], 1), (&[1], 1), (&[], 1)]);
        for order in [[0, 1], [1, 0]] {
            let mut schedule = Schedule::new(all.clone(), 3);
            assert_eq!(started(&mut schedule), [0, 1, 5]);
            schedule.fail(order[0]);
            let early = schedule.next();
            // 4 needs nothing but 1; 2 is not judged before both have ended.
            assert_eq!(early, (order[0] == 1).then_some(Next::Skip(4, 1)));
            schedule.fail(order[1]);
            let mut said: Vec<_> = early.into_iter().chain(std::iter::from_fn(|| schedule.next())).collect();
            said.sort_by_key(|next| format!("{next:?}"));
            assert_eq!(said, [Next::Skip(2, 0), Next::Skip(3, 0), Next::Skip(4, 1)]);
            schedule.done(5);
            assert_eq!((schedule.next(), schedule.running()), (None, 0));
        }
    }

    #[test]
    fn what_is_to_be_alone_waits_for_all_others_and_nothing_starts_beside_it() {
        let mut schedule = Schedule::new(tasks(&[(&[], 9), (&[], 5), (&[], 1), (&[0], 1)]), 2);
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.again_alone(0);
        assert_eq!(started(&mut schedule), [2]);
        schedule.done(1);
        assert_eq!(schedule.next(), None);
        schedule.done(2);
        assert_eq!(schedule.next(), Some(Next::Start(0)));
        assert!(schedule.is_alone(0) && schedule.next().is_none());
        schedule.done(0);
        assert_eq!(schedule.next(), Some(Next::Start(3)));
    }

    #[test]
    fn jobs_are_shared_among_those_that_run() {
        let of = |jobs, running| share(jobs, running);
        assert_eq!([of(8, 1), of(8, 3), of(2, 2), of(2, 5), of(1, 1), of(4, 0)], [8, 3, 1, 1, 1, 4]);
    }

    /// What becomes of one that runs.
    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Well,
        Fails,
        Again,
    }

    fn graph() -> impl Strategy<Value = (Vec<Task>, usize)> {
        let task = (0_u64..20, prop::collection::vec(any::<prop::sample::Index>(), 0..4));
        (prop::collection::vec(task, 0..25), 1_usize..5).prop_map(|(all, most)| {
            let needs = |at: usize, picks: Vec<prop::sample::Index>| {
                let mut needs: Vec<usize> = picks.into_iter().filter(|_| at > 0).map(|pick| pick.index(at)).collect();
                needs.sort_unstable();
                needs.dedup();
                needs
            };
            let tasks = all.into_iter().enumerate().map(|(at, (time, picks))| Task { needs: needs(at, picks), time });
            (tasks.collect(), most)
        })
    }

    /// Runs everything to its end; whatever runs ends in an order of `ends`' choice. Returns what each came to.
    fn run(all: &[Task], most: usize, ends: &[(prop::sample::Index, Fate)]) -> Vec<Option<bool>> {
        let mut schedule = Schedule::new(all.to_vec(), most);
        let mut came: Vec<Option<bool>> = vec![None; all.len()];
        let mut running: Vec<usize> = Vec::new();
        let mut ends = ends.iter().cycle();
        loop {
            while let Some(next) = schedule.next() {
                match next {
                    Next::Start(at) => {
                        assert!(came[at].is_none() && !running.contains(&at), "{at} was started twice");
                        assert!(all[at].needs.iter().all(|need| came[*need] == Some(true)), "{at} started too early");
                        assert!(
                            running.iter().all(|other| !schedule.is_alone(*other)),
                            "{at} beside one that is alone"
                        );
                        assert!(running.is_empty() || !schedule.is_alone(at));
                        running.push(at);
                        assert!(running.len() <= most && running.len() == schedule.running());
                    }
                    Next::Skip(at, because) => {
                        assert_eq!(came[because], Some(false));
                        assert!(all[at].needs.iter().any(|need| came[*need] == Some(false)));
                        came[at] = Some(false);
                    }
                }
            }
            if running.is_empty() {
                return came;
            }
            let (which, fate) = ends.next().expect("it is a cycle");
            let at = running.remove(which.index(running.len()));
            match fate {
                Fate::Again if !schedule.is_alone(at) => schedule.again_alone(at),
                Fate::Fails => {
                    schedule.fail(at);
                    came[at] = Some(false);
                }
                Fate::Well | Fate::Again => {
                    schedule.done(at);
                    came[at] = Some(true);
                }
            }
        }
    }

    fn fates() -> impl Strategy<Value = Vec<(prop::sample::Index, Fate)>> {
        let fate = prop_oneof![4 => Just(Fate::Well), 1 => Just(Fate::Fails), 1 => Just(Fate::Again)];
        prop::collection::vec((any::<prop::sample::Index>(), fate), 1..30)
    }

    proptest! {
        #[test]
        fn everything_ends_nothing_starts_too_early_and_only_what_needs_a_failed_one_is_left_out(
            (all, most) in graph(), ends in fates()
        ) {
            let came = run(&all, most, &ends);
            prop_assert!(came.iter().all(Option::is_some));
        }

        #[test]
        fn where_nothing_fails_everything_is_built((all, most) in graph(), ends in fates()) {
            let ends: Vec<_> = ends.into_iter().map(|(which, _)| (which, Fate::Well)).collect();
            prop_assert!(run(&all, most, &ends).iter().all(|came| *came == Some(true)));
        }

        #[test]
        fn the_order_follows_from_the_times_alone((all, most) in graph()) {
            let order = || {
                let mut schedule = Schedule::new(all.clone(), most);
                let (mut order, mut running) = (Vec::new(), std::collections::VecDeque::new());
                loop {
                    let new = started(&mut schedule);
                    order.extend(new.iter().copied());
                    running.extend(new);
                    let Some(at) = running.pop_front() else { return order };
                    schedule.done(at);
                }
            };
            prop_assert_eq!(order(), order());
        }
    }
}
