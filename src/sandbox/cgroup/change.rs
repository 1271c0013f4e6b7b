//! Limits that are changed while the command runs: all of them, or none.
//!
//! 1. What can be known beforehand is: values, controllers, the disk's scheduler.
//! 2. What the groups' files say is noted.
//! 3. Each limit is changed. A group that was not needed at the start is made when it is, and everything that runs is
//!    moved to it. Memory is the exception: what was used before would not be counted.
//! 4. Should one of them be refused after all, what was noted is written back, and new groups are removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::process::Pid;

use crate::atom::CpuList;
use crate::fs;
use crate::process::chain;
use crate::sandbox::cgroup::hierarchy::Version;
use crate::sandbox::cgroup::{CgroupError, Cgroups, LEAST_MEMORY, Making, placement, set_if_exists, tree};
use crate::sandbox::change::Change;
use crate::sandbox::plan::Limits;

/// The files that limits are written to, of both versions.
const FILES: [&str; 14] = [
    "cpu.max",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpuset.cpus",
    "memory.max",
    "memory.swap.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    // Once more: of the two the second must never be less than the first.
    "memory.limit_in_bytes",
    "pids.max",
    "io.bfq.weight",
    "io.weight",
    "blkio.bfq.weight",
    "cpu.cfs_quota_us",
];

/// What there was before a change.
#[derive(Debug)]
struct Before {
    dirs: Vec<PathBuf>,
    places: BTreeMap<&'static str, (Version, PathBuf)>,
    cpus: Option<CpuList>,
    limits: Limits,
    given: BTreeMap<&'static str, String>,
    /// Each file with its first line.
    files: Vec<(PathBuf, String)>,
}

impl Cgroups {
    /// Changes limits of what runs below the process `top`. Returns each with what gives it now.
    pub(in crate::sandbox) fn change(
        &mut self,
        change: &Change,
        making: &mut Making<'_>,
        top: u32,
    ) -> Result<Vec<(String, String)>, CgroupError> {
        self.check(change, making)?;
        let before = Before::of(self);
        let shared =
            making.together.map(|together| together.with(making, |above, _| Ok(Before::of(above)))).transpose()?;
        self.above = making.host.above();
        match self.apply(change, making, top, &before) {
            Ok(changed) => {
                Ok(changed.into_iter().map(|limit| (limit.to_string(), self.given[limit].clone())).collect())
            }
            Err(error) => Err(match self.undo(before, making, top).and_then(|()| undo_shared(shared, making, top)) {
                Ok(()) => error,
                Err(left) => CgroupError::NotUndone(Box::new(error), chain(&left)),
            }),
        }
    }

    /// Refuses what can be known to be refused before anything is changed.
    fn check(&self, change: &Change, making: &Making<'_>) -> Result<(), CgroupError> {
        if (change.memory.is_some() || change.swap.is_some()) && self.limits.memory.is_none() {
            return Err(CgroupError::NotFromTheStart);
        }
        if let Some(limit) = change.memory.filter(|limit| *limit < LEAST_MEMORY) {
            return Err(CgroupError::TooLittleMemory(limit));
        }
        if change.pids.is_some() && self.pid_max.is_some() {
            return Err(CgroupError::Fixed);
        }
        if let Some(list) = &change.cpuset {
            self.may_run_on(list)?;
        }
        if change.io_weight.is_some() {
            Self::weighing(making)?;
        }
        let wanted =
            [("cpu", change.cpu.is_some()), ("cpuset", change.cpuset.is_some()), ("pids", change.pids.is_some())];
        for (controller, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            if !self.places.contains_key(controller) && making.host.with(controller).is_none() {
                return Err(CgroupError::Missing { controller, why: "no hierarchy has it".to_string() });
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        change: &Change,
        making: &mut Making<'_>,
        top: u32,
        before: &Before,
    ) -> Result<Vec<&'static str>, CgroupError> {
        let mut changed = Vec::new();
        if let Some(list) = &change.cpuset {
            self.give_cpuset(list, making)?;
            changed.push("cpuset");
        }
        if let Some(cpu) = change.cpu {
            self.give_cpu(cpu, making)?;
            changed.push("cpus");
        }
        if let (true, Some(present)) = (change.memory.is_some() || change.swap.is_some(), self.limits.memory) {
            let limit = change.memory.unwrap_or(present);
            self.make_room(limit)?;
            let swap = change.swap.or(self.limits.swap).unwrap_or(0);
            self.give_memory(limit, swap, making)?;
            changed.push("memory");
        }
        if let Some(limit) = change.pids {
            // What replaces the controller at the start can no longer be had.
            self.place("pids", making)?;
            self.give_pids(limit, making)?;
            changed.push("pids");
        }
        if let Some(weight) = change.io_weight {
            self.give_io_weight(weight, making)?;
            changed.push("io-weight");
        }
        self.inherit(making)?;
        for dir in self.dirs.iter().filter(|dir| !before.dirs.contains(dir)) {
            tree::adopt(dir, top)?;
        }
        if change.cpu.is_some() || change.cpuset.is_some() {
            self.place_on_cpus(making.lease.id());
            self.move_to_cpus(before.cpus.as_ref(), top)?;
        }
        Ok(changed)
    }

    /// Makes everything what it was.
    fn undo(&mut self, before: Before, making: &Making<'_>, top: u32) -> Result<(), CgroupError> {
        let Before { dirs, places, cpus, limits, given, files } = before;
        let mut done = Ok(());
        for (file, value) in files {
            // An empty list of processors is written as a line, too.
            let restored =
                if first_line(&file).as_ref() == Some(&value) { Ok(()) } else { fs::write(&file, value + "\n") };
            done = done.and(restored.map_err(CgroupError::from));
        }
        // On the processors where the change has put them, as far as it came.
        let placed = std::mem::replace(&mut self.cpus, cpus);
        (self.places, self.limits, self.given) = (places, limits, given);
        if placed != self.cpus {
            done = done.and(self.move_to_cpus(placed.as_ref(), top));
        }
        for dir in self.dirs.iter().filter(|dir| !dirs.contains(dir)) {
            if let Some(home) = making.host.home(dir) {
                done = done.and(tree::adopt(&home, top));
            }
            done = done.and(match unlinkat(CWD, dir, AtFlags::REMOVEDIR) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
                Err(e) => Err(fs::PathError::on("remove the control group", dir)(e.into()).into()),
            });
        }
        // One that is still there is removed at the end.
        self.dirs.retain(|dir| dirs.contains(dir) || dir.exists());
        done
    }

    /// Takes memory back until a new limit can hold, so that the kernel need not kill for it; v1 does so itself, and
    /// refuses.
    pub(super) fn make_room(&self, limit: u64) -> Result<(), CgroupError> {
        let Some((Version::V2, dir)) = self.places.get("memory") else { return Ok(()) };
        let used = || fs::read_to_string(&dir.join("memory.current")).ok().and_then(|text| text.trim().parse().ok());
        let present: u64 = used().unwrap_or(0);
        if present > limit {
            // Fails where not all of it could be taken.
            let _ = set_if_exists(dir, "memory.reclaim", &(present - limit).to_string());
        }
        match used().filter(|used| *used > limit) {
            Some(used) => Err(CgroupError::InUse { used, limit }),
            None => Ok(()),
        }
    }

    /// Moves every thread that is where it was put to where it is to be now: one that chose for itself stays there.
    fn move_to_cpus(&self, placed: Option<&crate::atom::CpuList>, top: u32) -> Result<(), CgroupError> {
        let Some(to) = self.cpus.as_ref().or(self.limits.cpuset.as_ref()).or(self.allowed.as_ref()) else {
            return Ok(());
        };
        let from = placed.or(self.allowed.as_ref());
        // Twice: a new thread is where the one that started it was.
        for _ in 0..2 {
            for pid in tree::below(top) {
                for thread in fs::read_dir(Path::new(&format!("/proc/{pid}/task"))).unwrap_or_default() {
                    let id = thread.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
                    let Some(id) = id else { continue };
                    if from.is_none() || placement::allowed(Some(id)).as_ref() == from {
                        match placement::restrict(id, to) {
                            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                            Err(e) => return Err(CgroupError::Affinity(to.clone(), e.into())),
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Likewise, above several sandboxes.
fn undo_shared(before: Option<Before>, making: &Making<'_>, top: u32) -> Result<(), CgroupError> {
    match (making.together, before) {
        (Some(together), Some(before)) => together.with(making, |above, making| above.undo(before, making, top)),
        _ => Ok(()),
    }
}

impl Before {
    fn of(groups: &Cgroups) -> Self {
        let files = groups.dirs.iter().flat_map(|dir| FILES.iter().map(|name| dir.join(name)));
        Self {
            dirs: groups.dirs.clone(),
            places: groups.places.clone(),
            cpus: groups.cpus.clone(),
            limits: groups.limits.clone(),
            given: groups.given.clone(),
            files: files.filter_map(|file| Some((file.clone(), first_line(&file)?))).collect(),
        }
    }
}

fn first_line(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.lines().next().unwrap_or_default().to_string())
}
