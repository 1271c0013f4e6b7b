//! Builds the packages of a plan side by side: a thread for each that runs, while this one decides, listens and records.
//!
//! 1. What may start is started ([`super::schedule`]): what need not be built is taken, for the rest a thread is started.
//! 2. Events of the threads are recorded and passed on as they come; what a build came to decides what may start then.
//!    One at a time needs no thread.
//! 3. When the host fails, or a signal asks for an end, nothing more is started and what runs is stopped; the first
//!    failure counts.
//!
//! A package that ran out of memory while others had a part of it is built once more, alone: otherwise who fails would
//! depend on who was beside it.
//!
//! A sandbox's processes die with the thread that started them (prctl(2), PR_SET_PDEATHSIG): each thread stays until
//! everything it has started is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::atom::Cpv;
use crate::binhost::pool::Entry;
use crate::build::BuildError;
use crate::build::one::{self, Failed, Shop};
use crate::build::record::Record;
use crate::build::schedule::{Next, Schedule, Task, share};
use crate::build::settle::{self, Next as Decided};
use crate::event::{Event, Sink};
use crate::plan::{Action, Planned};

/// How soon a signal is noticed while builds run.
const TICK: Duration = Duration::from_millis(100);

/// What came of a build.
type Ended = Result<Result<Entry, Failed>, BuildError>;

/// What a thread tells.
enum Word {
    Event(Event),
    End(usize, Box<Ended>),
}

/// Whom to listen to for an end, and whom to tell of it: where one at a time is built, it looks for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop<'a> {
    /// Set by a signal.
    pub(super) asked: &'a AtomicBool,
    /// What the builds look at: this module sets it.
    pub(super) told: &'a AtomicBool,
}

/// Builds or takes every package of the plan, at most `most` at a time; returns those that are there.
pub(super) fn build(
    shop: &Shop<'_>,
    most: usize,
    stop: Stop<'_>,
    record: &mut Record,
    on: Sink<'_>,
) -> Result<BTreeMap<Cpv, Entry>, BuildError> {
    let plan = &shop.prepared.plan;
    let places: BTreeMap<&Cpv, usize> = plan.packages.iter().enumerate().map(|(at, one)| (&one.cpv, at)).collect();
    let expected = &shop.prepared.outlook.expected;
    // Those that nobody has built yet count as much as the others do on average.
    let average = expected.values().sum::<u64>() / u64::try_from(expected.len().max(1)).unwrap_or(1);
    let task = |planned: &Planned| Task {
        needs: planned.needs.iter().filter_map(|cpv| places.get(cpv).copied()).collect(),
        time: match planned.action {
            Action::Reuse(_) | Action::Share(_) => 0,
            Action::Build(_) => expected.get(&planned.cpv).copied().unwrap_or(average).max(1),
        },
    };
    let mut work = Work {
        shop,
        schedule: Schedule::new(plan.packages.iter().map(task).collect(), most),
        of: plan.to_build().count(),
        number: 0,
        ready: BTreeMap::new(),
        company: BTreeSet::new(),
        stop,
        record,
        on,
    };
    let done = if most > 1 { std::thread::scope(|scope| work.run(scope)) } else { work.one_by_one() };
    let ready = work.ready;
    // In the plan's order, whoever was faster.
    let status = &mut record.status;
    for list in [&mut status.built, &mut status.shared, &mut status.failed, &mut status.skipped] {
        list.sort_by_key(|cpv| places.get(cpv).copied());
    }
    done.map(|()| ready)
}

/// A package that is to be built now.
struct New {
    at: usize,
    planned: Planned,
    /// Which of those to build it is, from 1.
    number: usize,
}

struct Work<'a, 'r> {
    shop: &'a Shop<'a>,
    schedule: Schedule,
    /// How many are to be built, and how many of these were decided on.
    of: usize,
    number: usize,
    ready: BTreeMap<Cpv, Entry>,
    /// Those that run, or ran, beside others.
    company: BTreeSet<usize>,
    stop: Stop<'a>,
    record: &'r mut Record,
    on: Sink<'r>,
}

impl Work<'_, '_> {
    fn tell(&mut self, event: Event) {
        self.record.tell(event, self.on);
    }
}

impl<'a> Work<'a, '_> {
    fn one_by_one(&mut self) -> Result<(), BuildError> {
        while let Some(new) = self.decide()?.pop() {
            let (at, task) = (new.at, self.begin(new, self.shop.prepared.jobs));
            let result = one::build(self.shop, &task, &mut |event| self.tell(event))?;
            self.end(at, result)?;
        }
        Ok(())
    }

    fn run<'scope>(&mut self, scope: &'scope Scope<'scope, '_>) -> Result<(), BuildError>
    where
        'a: 'scope,
    {
        let (says, hears) = mpsc::channel();
        let mut threads: BTreeMap<usize, ScopedJoinHandle<'scope, ()>> = BTreeMap::new();
        let mut failure: Option<BuildError> = None;
        loop {
            if failure.is_none() && !self.stop.asked.load(Ordering::SeqCst) {
                match self.decide() {
                    Ok(new) => {
                        let prepared = self.shop.prepared;
                        let jobs = prepared.jobs.min(share(prepared.processors, self.schedule.running()));
                        for new in new {
                            let (at, task) = (new.at, self.begin(new, jobs));
                            let (shop, says) = (self.shop, says.clone());
                            let thread = scope.spawn(move || {
                                // Nobody listens any more only where the listener has panicked.
                                let mut tell = |event| drop(says.send(Word::Event(event)));
                                let result = one::build(shop, &task, &mut tell);
                                let _ = says.send(Word::End(at, Box::new(result)));
                            });
                            threads.insert(at, thread);
                        }
                        if threads.len() > 1 {
                            self.company.extend(threads.keys());
                        }
                    }
                    Err(error) => failure = Some(error),
                }
            }
            if failure.is_some() || self.stop.asked.load(Ordering::SeqCst) {
                self.stop.told.store(true, Ordering::SeqCst);
            }
            if threads.is_empty() {
                break;
            }
            if let Some((at, result)) = self.listen(&hears, &mut threads) {
                if let Some(thread) = threads.remove(&at) {
                    join(thread);
                }
                let ended = result.and_then(|result| self.end(at, result));
                failure = failure.or(ended.err());
            }
        }
        match failure {
            Some(error) => Err(error),
            None if self.stop.asked.load(Ordering::SeqCst) => Err(BuildError::Interrupted),
            None => Ok(()),
        }
    }

    /// Takes what need not be built, says what cannot be, and returns what is to be started.
    fn decide(&mut self) -> Result<Vec<New>, BuildError> {
        let packages = &self.shop.prepared.plan.packages;
        let mut new = Vec::new();
        while let Some(next) = self.schedule.next() {
            let (Next::Start(at) | Next::Skip(at, _)) = next;
            let mut planned = packages[at].clone();
            // One that is built once more was counted.
            self.number += usize::from(matches!(planned.action, Action::Build(_)) && !self.schedule.is_alone(at));
            if let Next::Skip(_, because) = next {
                let because = packages[because].cpv.clone();
                self.tell(Event::BuildSkipped { cpv: planned.cpv.clone(), because });
                self.record.status.skipped.push(planned.cpv);
                continue;
            }
            match settle::settle(self.shop, &mut planned, &self.ready, self.record, self.on)? {
                Decided::There(entry) => {
                    self.ready.insert(planned.cpv, *entry);
                    self.schedule.done(at);
                }
                Decided::Refused(event) => {
                    self.schedule.fail(at);
                    self.tell(*event);
                    self.record.status.failed.push(planned.cpv);
                    self.record.save()?;
                }
                Decided::Build => new.push(New { at, planned, number: self.number }),
            }
        }
        Ok(new)
    }

    /// Says that a package's build starts, and returns what that needs.
    fn begin(&mut self, New { planned, number, .. }: New, jobs: u32) -> one::Task {
        let log = self.record.dir_of(&planned.cpv).join("log");
        self.tell(Event::BuildStarted { cpv: planned.cpv.clone(), log, number, of: self.of });
        let needed = |cpv: &Cpv| Some((cpv.clone(), self.ready.get(cpv)?.clone()));
        let ready = planned.needs.iter().filter_map(needed).collect();
        one::Task { planned, ready, jobs }
    }

    /// Passes on what is told, until a thread ends or it is time to look at the signals.
    fn listen(
        &mut self,
        hears: &Receiver<Word>,
        threads: &mut BTreeMap<usize, ScopedJoinHandle<'_, ()>>,
    ) -> Option<(usize, Box<Ended>)> {
        loop {
            match hears.recv_timeout(TICK) {
                Ok(Word::Event(event)) => self.tell(event),
                Ok(Word::End(at, result)) => return Some((at, result)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        // One that ends without a word has panicked, and so does this one, once the others have stopped: nobody would ever
        // say what came of its package.
        if let Some(at) = threads.iter().find_map(|(at, thread)| thread.is_finished().then_some(*at)) {
            match hears.try_recv() {
                Ok(Word::Event(event)) => self.tell(event),
                Ok(Word::End(at, result)) => return Some((at, result)),
                Err(_) => {
                    self.stop.told.store(true, Ordering::SeqCst);
                    if let Some(thread) = threads.remove(&at) {
                        join(thread);
                    }
                }
            }
        }
        None
    }

    /// Notes what came of a package.
    fn end(&mut self, at: usize, result: Result<Entry, Failed>) -> Result<(), BuildError> {
        let cpv = self.shop.prepared.plan.packages[at].cpv.clone();
        match result {
            Ok(entry) => {
                self.schedule.done(at);
                self.record.status.built.push(cpv.clone());
                self.ready.insert(cpv, entry);
            }
            Err(failed) if failed.by_memory && self.company.remove(&at) && !self.schedule.is_alone(at) => {
                self.schedule.again_alone(at);
                let what = format!("{cpv} ran out of memory beside others, and is built once more, alone");
                self.tell(Event::Step { what });
            }
            Err(Failed { reason, telling, log, .. }) => {
                self.schedule.fail(at);
                self.tell(Event::BuildFailed { cpv: cpv.clone(), reason, telling, log });
                self.record.status.failed.push(cpv);
            }
        }
        Ok(self.record.save()?)
    }
}

/// Waits for a thread that has said its last word.
fn join(thread: ScopedJoinHandle<'_, ()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
