//! What several threads may want done at the same moment, and what is to be done once: one does it, the others wait and then
//! find it done.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who is at work on what.
#[derive(Debug, Default)]
pub(super) struct Turns {
    busy: Mutex<BTreeSet<String>>,
    ended: Condvar,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    names: BTreeSet<String>,
}

impl Turns {
    /// Waits until nobody is at work on any of these, and has them. All or none are had: no two can wait for each other, as
    /// long as whoever has a turn does not ask for another.
    pub(super) fn take(&self, names: impl IntoIterator<Item = String>) -> Turn<'_> {
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut busy = self.busy();
        while !busy.is_disjoint(&names) {
            busy = self.ended.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.extend(names.iter().cloned());
        Turn { turns: self, names }
    }

    // A set of names is whole whoever panicked beside it.
    fn busy(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.turns.busy();
        busy.retain(|name| !self.names.contains(name));
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_one_at_a_time_is_at_work_on_a_thing() {
        let (turns, inside, done) = (Turns::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (turns, inside, done) = (&turns, &inside, &done);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let _turn = turns.take(["shared".to_string(), format!("own {thread}")]);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), 200);
    }

    #[test]
    fn what_nobody_is_at_work_on_is_had_at_once() {
        let turns = Turns::default();
        let one = turns.take(["a".to_string()]);
        let two = turns.take(["b".to_string()]);
        drop(one);
        let three = turns.take(["a".to_string()]);
        drop((two, three));
        assert!(turns.busy().is_empty());
    }
}
