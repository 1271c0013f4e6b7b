//! Which processors a payload runs on.
//!
//! A program that asks how many there are (nproc(1), sched_getaffinity(2)) starts as many threads; if the quota is less,
//! they use it up in the first part of each period and then all stand still. So a payload may run on as many processors
//! as its quota is worth, rounded up: neighbours by number, because they share caches, but one thread of each core
//! first; starting somewhere else in each run, so that not all sit on the first ones.

use std::path::Path;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::atom::CpuList;
use crate::fs;

/// Returns the processors that a process may run on (this one for none); none where there are more than can be asked for.
pub(super) fn allowed(pid: Option<Pid>) -> Option<CpuList> {
    let set = sched_getaffinity(pid).ok()?;
    CpuList::of((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).filter_map(|cpu| u32::try_from(cpu).ok()))
}

/// Lets a thread, and all that it will start, run on these processors only.
pub(super) fn restrict(pid: Pid, cpus: &CpuList) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus.numbers().iter().filter_map(|cpu| usize::try_from(*cpu).ok()).filter(|cpu| *cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    sched_setaffinity(Some(pid), &set)
}

/// Returns `count` of the allowed processors, or nothing where that is all of them. `seed` decides where to start,
/// `siblings` says which processors are threads of the same core.
pub(super) fn choose(
    allowed: &CpuList,
    count: usize,
    seed: &str,
    siblings: impl Fn(u32) -> Vec<u32>,
) -> Option<CpuList> {
    let all = allowed.numbers();
    if count >= all.len() {
        return None;
    }
    // FNV-1a: any spread will do.
    let start = seed.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let start = usize::try_from(start).unwrap_or(0) % all.len();
    let (mut first, mut second, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for cpu in all.iter().cycle().skip(start).take(all.len()).copied() {
        if first.len() == count {
            break;
        }
        if busy.contains(&cpu) {
            second.push(cpu);
        } else {
            busy.extend(siblings(cpu));
            first.push(cpu);
        }
    }
    CpuList::of(first.into_iter().chain(second).take(count))
}

/// Returns the processors that are threads of the same core.
pub(super) fn siblings(cpu: u32) -> Vec<u32> {
    let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = fs::read_to_string(Path::new(&file)).ok().and_then(|text| text.trim().parse::<CpuList>().ok());
    list.map_or_else(Vec::new, |list| list.numbers().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    #[test]
    fn one_thread_of_each_core_comes_first() {
        let pairs = |cpu: u32| vec![cpu & !1, cpu | 1];
        for seed in ["a", "b", "c", "d", "e"] {
            let chosen = choose(&list("0-7"), 4, seed, pairs).unwrap();
            let mut cores: Vec<_> = chosen.numbers().iter().map(|cpu| cpu / 2).collect();
            cores.dedup();
            assert_eq!(cores, [0, 1, 2, 3], "{chosen}");
            assert_eq!(choose(&list("0-7"), 6, seed, pairs).unwrap().numbers().len(), 6);
        }
    }

    #[test]
    fn runs_start_at_different_processors() {
        let alone = |cpu| vec![cpu];
        let chosen: std::collections::BTreeSet<_> =
            (0..40).map(|i| choose(&list("0-3"), 1, &format!("6b01-{i:x}"), alone).unwrap().to_string()).collect();
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }

    #[test]
    fn all_of_them_need_no_restriction() {
        assert_eq!(choose(&list("2,5"), 2, "x", |cpu| vec![cpu]), None);
        assert_eq!(choose(&list("2,5"), 9, "x", |cpu| vec![cpu]), None);
    }
}
