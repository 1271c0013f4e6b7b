//! Control groups: the limits on processors, memory and processes, and a second way to find what belongs to a sandbox.
//!
//! ```text
//! v2, root          MOUNT/bindery/LEASE            controllers are enabled on the way down
//! v2, anyone else   OWN/bindery-LEASE              OWN is bindery's own group, if it was delegated to the user
//! v1                OWN/bindery-LEASE              in each controller's hierarchy; usually root's alone
//! ```
//!
//! Those of several sandboxes that run side by side may be in one group, whose limits hold for all of them (together.rs).
//!
//! Files: give.rs (each limit), change.rs (changes while it runs), running.rs (making way), above.rs, placement.rs (processors),
//! disk.rs (weights), oom.rs (who was killed), tree.rs (running processes), hierarchy.rs (what the host has).
//!
//! Each limit goes to v2 where its controller is there, else to v1. A limit that is asked for and cannot be given is
//! refused, with one replacement: where no pids controller can be used, Linux 6.14 and later limit the process ids of
//! the sandbox's own process namespace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::process::{Pid, Signal, kill_process};

use crate::atom::CpuList;
use crate::fs::{self, PathError};
use crate::sandbox::plan::Limits;
use crate::state::{Lease, StateError};
use above::Above;
pub(super) use hierarchy::Host;
use hierarchy::{Hierarchy, Version};
pub use oom::Killed;
pub use together::Together;
pub(super) use tree::below;

mod above;
mod change;
mod disk;
mod give;
mod hierarchy;
mod oom;
mod placement;
mod running;
mod together;
mod tree;

/// The groups of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    dirs: Vec<PathBuf>,
    /// The group that has a controller.
    places: BTreeMap<&'static str, (Version, PathBuf)>,
    /// What holds for bindery itself.
    above: Above,
    /// The processors that bindery itself may run on.
    allowed: Option<CpuList>,
    /// Those that the payload is restricted to, where they are fewer.
    pub(super) cpus: Option<CpuList>,
    /// What is limited now.
    pub(super) limits: Limits,
    /// The highest process id, where that limits processes.
    pub(super) pid_max: Option<u64>,
    /// Which limit is given by what.
    pub(super) given: BTreeMap<&'static str, String>,
    suspects: Option<oom::Suspects>,
}

/// What groups are made with.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) lease: &'a mut Lease,
    pub(super) host: &'a Host,
    /// The running kernel's version.
    pub(super) kernel: (u32, u32),
    /// What is shared with the sandboxes that run beside it.
    pub(super) together: Option<&'a Together>,
    /// Whether the command runs already.
    pub(super) runs: bool,
}

/// Process ids below are not given out a second time (RESERVED_PIDS of the kernel).
const RESERVED_PIDS: u64 = 300;
/// The type of the unified hierarchy's file system (linux/magic.h).
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
/// How long a group whose processes are killed may take to become empty.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

impl Cgroups {
    /// Makes the groups and sets their limits. Without any limit there are none: each costs the time that the kernel
    /// needs to move a process.
    pub(super) fn create(limits: &Limits, making: &mut Making<'_>) -> Result<Self, CgroupError> {
        let mut groups = Self::default();
        groups.allowed = placement::allowed(None);
        match groups.fill(limits, making) {
            Ok(()) => Ok(groups),
            Err(e) => {
                groups.remove();
                Err(e)
            }
        }
    }

    fn fill(&mut self, limits: &Limits, making: &mut Making<'_>) -> Result<(), CgroupError> {
        let any = limits.cpu.is_some()
            || limits.cpuset.is_some()
            || limits.memory.is_some()
            || limits.pids.is_some()
            || limits.io_weight.is_some();
        if any || limits.gives_way {
            self.above = making.host.above();
        } else {
            self.above.cpus = making.host.cpus_above();
        }
        // Not needed by any limit, but there the kernel kills all of a group at once.
        if let Some(v2) = making.host.v2().filter(|_| any && making.host.as_root) {
            match self.join(v2, making, None) {
                Ok(_) | Err(CgroupError::Path(_)) => {}
                Err(e) => return Err(e),
            }
        }
        self.limits = Limits {
            disk: limits.disk,
            time: limits.time,
            silence: limits.silence,
            idle: limits.idle,
            ..Limits::default()
        };
        if limits.gives_way {
            self.give_way(making)?;
        }
        if let Some(list) = &limits.cpuset {
            self.give_cpuset(list, making)?;
        }
        if let Some(cpu) = limits.cpu {
            self.give_cpu(cpu, making)?;
        }
        if let Some(limit) = limits.memory {
            self.give_memory(limit, limits.swap.unwrap_or(0), making)?;
        }
        if let Some(limit) = limits.pids {
            self.give_pids(limit, making)?;
        }
        if let Some(weight) = limits.io_weight {
            self.give_io_weight(weight, making)?;
        }
        self.inherit(making)?;
        self.place_on_cpus(making.lease.id());
        Ok(())
    }

    /// Returns the sandbox's group with a controller, which is made if need be.
    fn place(&mut self, controller: &'static str, making: &mut Making<'_>) -> Result<(Version, PathBuf), CgroupError> {
        if let Some(place) = self.places.get(controller) {
            return Ok(place.clone());
        }
        let missing = |why: String| CgroupError::Missing { controller, why };
        let host = making.host;
        let hierarchy = host.with(controller).ok_or_else(|| missing("no hierarchy has it".to_string()))?;
        match self.join(hierarchy, making, Some(controller)) {
            Ok(dir) => {
                let place = (hierarchy.version, dir);
                self.places.insert(controller, place.clone());
                Ok(place)
            }
            Err(CgroupError::Path(e)) => Err(missing(format!("{e}: {}", e.source))),
            Err(e) => Err(e),
        }
    }

    fn join(
        &mut self,
        hierarchy: &Hierarchy,
        making: &mut Making<'_>,
        controller: Option<&str>,
    ) -> Result<PathBuf, CgroupError> {
        let dir = match making.together.filter(|_| together::nests(hierarchy)) {
            Some(together) => {
                let above = together.with(making, |groups, making| groups.join(hierarchy, making, controller))?;
                above.join(making.lease.id())
            }
            None => making.host.group(hierarchy, making.lease.id()),
        };
        if let (Version::V2, Some(controller), Some(parent)) = (hierarchy.version, controller, dir.parent()) {
            hierarchy::enable(controller, &hierarchy.top(making.host.as_root), parent)?;
            if self.dirs.contains(&dir) {
                hierarchy::settle(controller, parent, &dir)?;
            }
        }
        if !self.dirs.contains(&dir) {
            if let Some(parent) = dir.parent().filter(|parent| !parent.exists()) {
                fs::create_dir(parent, 0o755)?;
            }
            making.lease.owns_cgroup(dir.clone())?;
            fs::create_dir_new(&dir, 0o755)?;
            self.dirs.push(dir.clone());
        }
        Ok(dir)
    }

    /// Returns the folder of the group in the unified hierarchy: a process can be started in it (clone3(2),
    /// CLONE_INTO_CGROUP), where moving one waits for all processors of the machine, some 10 ms.
    pub(super) fn unified(&self) -> Option<PathBuf> {
        self.dirs.iter().find(|dir| is_unified(dir)).cloned()
    }

    /// Returns whether [`Self::add`] has nothing to do, so that it does not matter what a process has started before.
    pub(super) fn asks_nothing(&self) -> bool {
        self.dirs.is_empty() && self.cpus.is_none() && !self.limits.gives_way
    }

    /// Puts a process, and all it will start, into the groups and onto its processors; `there` where it was started in
    /// [`Self::unified`].
    pub(super) fn add(&self, pid: u32, there: bool) -> Result<(), CgroupError> {
        for dir in self.dirs.iter().filter(|dir| !(there && is_unified(dir))) {
            fs::write(&dir.join("cgroup.procs"), pid.to_string()).map_err(|e| CgroupError::Move(pid, e))?;
        }
        if self.limits.gives_way && !self.places.contains_key("cpu") {
            give::be_nice(pid);
        }
        // After the groups: a cpuset's group resets it.
        if let (Some(cpus), Some(pid)) = (&self.cpus, i32::try_from(pid).ok().and_then(Pid::from_raw)) {
            placement::restrict(pid, cpus).map_err(|e| CgroupError::Affinity(cpus.clone(), e.into()))?;
        }
        Ok(())
    }

    /// Returns how often the kernel killed for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let file = |version| if version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        let place = self.places.get("memory").filter(|_| self.limits.memory.is_some());
        place.and_then(|(version, dir)| count(&dir.join(file(*version)), "oom_kill")).unwrap_or(0)
    }

    /// Returns whom the kernel killed for want of memory, as far as can be known.
    pub(super) fn oom_killed(&self) -> Vec<Killed> {
        let Some((_, dir)) = self.places.get("memory").filter(|_| self.oom_kills() > 0) else { return Vec::new() };
        match &self.suspects {
            Some(suspects) => suspects.found().to_vec(),
            None => oom::from_log(dir),
        }
    }

    /// Notes who may be killed next, where the kernel will not tell. To be called a few times a second.
    pub(super) fn suspect(&mut self) {
        let kills = self.oom_kills();
        let (Some(suspects), Some((_, dir))) = (&mut self.suspects, self.places.get("memory")) else { return };
        suspects.look(kills, oom::processes(dir));
    }

    /// Returns how often a process could not be started because there were too many.
    pub(super) fn refused_processes(&self) -> u64 {
        let place = self.places.get("pids").filter(|_| self.limits.pids.is_some());
        place.and_then(|(_, dir)| count(&dir.join("pids.events"), "max")).unwrap_or(0)
    }

    /// Returns the most bytes of memory that were in use.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let (version, dir) = self.places.get("memory")?;
        let file = if *version == Version::V2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(&dir.join(file)).ok()?.trim().parse().ok()
    }

    /// Removes the groups; what cannot be removed stays on the lease's record for the next command.
    pub(super) fn remove(&mut self) {
        self.dirs.retain(|dir| destroy(dir).is_err());
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Returns how many processors may be kept busy under a quota and a list of processors, in the groups that bindery
/// itself is in.
pub fn processors(cpus: Option<f64>, cpuset: Option<&CpuList>) -> u32 {
    let above = Host::read().ok().and_then(|host| host.cpus_above());
    let allowed = match (placement::allowed(None), cpuset) {
        (Some(allowed), Some(list)) => list.numbers().iter().filter(|cpu| allowed.numbers().contains(cpu)).count(),
        (Some(allowed), None) => allowed.numbers().len(),
        (None, Some(list)) => list.numbers().len(),
        (None, None) => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    u32::try_from(above::processors(allowed, cpus.into_iter().chain(above))).unwrap_or(u32::MAX)
}

/// Returns how many bytes of memory there are for everything together under a limit: no more than the machine has, and the
/// groups that bindery itself is in allow; nothing where none of these can be known.
pub fn memory(limit: Option<u64>) -> Option<u64> {
    let above = Host::read().ok().and_then(|host| host.memory_above());
    limit.into_iter().chain(above).chain(above::machine()).min()
}

/// Kills all processes of a group and those below, and removes them; one that is not there is no error.
pub(super) fn destroy(dir: &Path) -> Result<(), PathError> {
    let started = std::time::Instant::now();
    // The processes of one that made way could not even end on a busy host. Most groups have no such file.
    let _ = set_if_exists(dir, "cpu.idle", "0");
    loop {
        kill_all(dir);
        match unlinkat(CWD, dir, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if started.elapsed() < PATIENCE => {
                for below in fs::read_dir_if_exists(dir)?.into_iter().filter(|path| path.is_dir()) {
                    destroy(&below)?;
                }
                std::thread::sleep(PAUSE);
            }
            Err(e) => return Err(PathError::on("remove the control group", dir)(e.into())),
        }
    }
}

fn is_unified(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|typ| typ == CGROUP2_SUPER_MAGIC))
}

fn kill_all(dir: &Path) {
    if fs::write(&dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // v1. New processes may come while the old ones are killed: the caller repeats it.
    let list = fs::read_to_string(&dir.join("cgroup.procs")).unwrap_or_default();
    for pid in list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // It may be gone.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn set(dir: &Path, file: &str, value: String) -> Result<(), CgroupError> {
    let path = dir.join(file);
    fs::write(&path, &value).map_err(|source| CgroupError::Set { value, source })
}

fn set_if_exists(dir: &Path, file: &str, value: &str) -> Result<bool, CgroupError> {
    if !dir.join(file).exists() {
        return Ok(false);
    }
    set(dir, file, value.to_string()).map(|()| true)
}

/// Returns the number after a word at the start of one of the file's lines.
fn count(file: &Path, word: &str) -> Option<u64> {
    find_count(&fs::read_to_string(file).ok()?, word)
}

fn find_count(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The least memory in which a command starts: bindery's own processes before it take some.
const LEAST_MEMORY: u64 = 8 << 20;

/// Writes a number of bytes as people do.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A limit cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no group that could limit it.
    #[error(
        "cannot limit what the `{controller}` controller of control groups is for: {why}; start bindery as root, or \
         in a group of its own (`systemd-run --user --scope -p Delegate=yes bindery …`), or without that limit"
    )]
    Missing {
        /// The controller.
        controller: &'static str,
        /// What stands in the way.
        why: String,
    },
    /// The kernel does not take the limit.
    #[error("cannot set a limit to `{value}`")]
    Set {
        /// What was written.
        value: String,
        /// Where, and what the kernel said.
        source: PathError,
    },
    /// A process cannot be moved to its group.
    #[error("cannot move process {0} to its control group; does something else remove control groups here?")]
    Move(u32, #[source] PathError),
    /// Nothing can start in so little memory.
    #[error("a limit of {} of memory is too little for any command to start; give at least {}", bytes(*.0), bytes(LEAST_MEMORY))]
    TooLittleMemory(u64),
    /// More memory is in use than the new limit allows.
    #[error("{} of memory are in use, of which not enough can be given back for a limit of {}", bytes(*used), bytes(*limit))]
    InUse {
        /// Bytes in use.
        used: u64,
        /// The limit asked for.
        limit: u64,
    },
    /// Memory without swap cannot be promised.
    #[error(
        "cannot limit swap: this kernel does not count it (no `{0}`), and the host has swap on; start it with \
         `swapaccount=1`, switch swap off (`swapoff -a`), or leave the limit of memory out"
    )]
    SwapNotCounted(&'static str),
    /// Processors that are not there.
    #[error("cannot run on processors {asked}: bindery itself may run on {allowed} only")]
    NoProcessor {
        /// The list asked for.
        asked: CpuList,
        /// What there is.
        allowed: CpuList,
    },
    /// The processors could not be set.
    #[error("cannot restrict the command to processors {0}")]
    Affinity(CpuList, #[source] std::io::Error),
    /// No share of the disk can be given.
    #[error("cannot give a share of the disk: {0}; leave `--io-weight` out otherwise")]
    NoShare(String),
    /// It cannot make way.
    #[error("cannot make way for others: {0}")]
    NoWay(String),
    /// Limits of memory hold from the start or not at all.
    #[error(
        "its memory was not limited from the start, and what is in use already would not be counted; start it with \
         `--memory SIZE`, whatever the size, to change it later"
    )]
    NotFromTheStart,
    /// The kernel cannot change it from outside.
    #[error("its processes are limited by `kernel.pid_max` of their own namespace, which can only be set at the start")]
    Fixed,
    /// A change was refused, and part of it could not be taken back.
    #[error("{0}; except for what could not be set back: {1}")]
    NotUndone(#[source] Box<Self>, String),
    /// Processes come too fast.
    #[error("its processes could not be moved to a control group: new ones are started all the time; try again")]
    Restless,
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The lease could not be written.
    #[error(transparent)]
    State(#[from] StateError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        assert_eq!([bytes(512 << 20), bytes(3 << 29), bytes(7)].join(", "), "512 MiB, 1.5 GiB, 7 bytes");
    }

    #[test]
    fn counts_are_found_by_their_whole_word() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!((find_count(text, "oom_kill"), find_count(text, "max")), (Some(3), None));
    }
}
