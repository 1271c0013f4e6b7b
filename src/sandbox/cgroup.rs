//! Control groups: the limits on processors, memory and processes, and a second way to find what belongs to a sandbox.
//!
//! ```text
//! v2, root          MOUNT/bindery/LEASE            controllers are enabled on the way down
//! v2, anyone else   OWN/bindery-LEASE              OWN is bindery's own group, if it was delegated to the user
//! v1                OWN/bindery-LEASE              in each controller's hierarchy; usually root's alone
//! ```
//!
//! Each limit goes to v2 where its controller is there, else to v1. A limit that is asked for and cannot be given is
//! refused, with one replacement: where no pids controller can be used, Linux 6.14 and later limit the process ids of
//! the sandbox's own process namespace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::process::{Pid, Signal, kill_process};

use crate::fs::{self, PathError};
use crate::sandbox::plan::Limits;
use crate::state::{Lease, StateError};
pub(super) use hierarchy::Host;
use hierarchy::{Hierarchy, Version};

mod hierarchy;

/// The groups of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    dirs: Vec<PathBuf>,
    memory: Option<(Version, PathBuf)>,
    pids: Option<PathBuf>,
    /// The highest process id, where that limits processes.
    pub(super) pid_max: Option<u64>,
    /// Which limit is given by what.
    pub(super) given: Vec<(&'static str, String)>,
}

/// Process ids below are not given out a second time (RESERVED_PIDS of the kernel).
const RESERVED_PIDS: u64 = 300;
/// The type of the unified hierarchy's file system (linux/magic.h).
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
/// How long a group whose processes are killed may take to become empty.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

impl Cgroups {
    /// Makes the groups and sets their limits; `kernel` is the running one's version.
    pub(super) fn create(
        limits: &Limits,
        lease: &mut Lease,
        host: &Host,
        kernel: (u32, u32),
    ) -> Result<Self, CgroupError> {
        let mut groups = Self::default();
        match groups.fill(limits, lease, host, kernel) {
            Ok(()) => Ok(groups),
            Err(e) => {
                groups.remove();
                Err(e)
            }
        }
    }

    fn fill(&mut self, limits: &Limits, lease: &mut Lease, host: &Host, kernel: (u32, u32)) -> Result<(), CgroupError> {
        // Not needed by any limit, but there the kernel kills all of a group at once, so root always has it.
        if let Some(v2) = host.v2().filter(|_| host.as_root) {
            match self.join(v2, lease, host, None) {
                Ok(_) | Err(CgroupError::Path(_)) => {}
                Err(e) => return Err(e),
            }
        }
        if let Some((quota, period)) = limits.cpu {
            let (version, dir) = self.place("cpu", lease, host)?;
            match version {
                Version::V2 => set(&dir, "cpu.max", format!("{quota} {period}"))?,
                Version::V1 => {
                    set(&dir, "cpu.cfs_period_us", period.to_string())?;
                    set(&dir, "cpu.cfs_quota_us", quota.to_string())?;
                }
            }
            self.given.push(("cpus", format!("{quota}/{period} µs by cgroup {version}")));
        }
        if let Some(limit) = limits.memory {
            let (version, dir) = self.place("memory", lease, host)?;
            let limit = limit.to_string();
            let swap = match version {
                Version::V2 => {
                    set(&dir, "memory.max", limit.clone())?;
                    set_if_exists(&dir, "memory.swap.max", "0")?
                }
                Version::V1 => {
                    set(&dir, "memory.limit_in_bytes", limit.clone())?;
                    // The sum of both; where the kernel does not count swap, at least it is not used willingly.
                    set_if_exists(&dir, "memory.memsw.limit_in_bytes", &limit)?
                        || set_if_exists(&dir, "memory.swappiness", "0")?
                }
            };
            let swap = if swap { "no swap" } else { "swap not counted" };
            self.given.push(("memory", format!("{limit} bytes, {swap}, by cgroup {version}")));
            self.memory = Some((version, dir));
        }
        if let Some(limit) = limits.pids {
            match self.place("pids", lease, host) {
                Ok((version, dir)) => {
                    set(&dir, "pids.max", limit.to_string())?;
                    self.given.push(("pids", format!("{limit} by cgroup {version}")));
                    self.pids = Some(dir);
                }
                Err(CgroupError::Missing { .. }) if kernel >= (6, 14) => {
                    let highest = limit.saturating_add(RESERVED_PIDS);
                    self.given.push(("pids", format!("{limit}, once {RESERVED_PIDS} are used up, by kernel.pid_max")));
                    self.pid_max = Some(highest);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Returns the sandbox's group with a controller, which is made if need be.
    fn place(
        &mut self,
        controller: &'static str,
        lease: &mut Lease,
        host: &Host,
    ) -> Result<(Version, PathBuf), CgroupError> {
        let missing = |why: String| CgroupError::Missing { controller, why };
        let hierarchy = host.with(controller).ok_or_else(|| missing("no hierarchy has it".to_string()))?;
        match self.join(hierarchy, lease, host, Some(controller)) {
            Ok(dir) => Ok((hierarchy.version, dir)),
            Err(CgroupError::Path(e)) => Err(missing(format!("{e}: {}", e.source))),
            Err(e) => Err(e),
        }
    }

    fn join(
        &mut self,
        hierarchy: &Hierarchy,
        lease: &mut Lease,
        host: &Host,
        controller: Option<&str>,
    ) -> Result<PathBuf, CgroupError> {
        let dir = host.group(hierarchy, lease.id());
        if let (Version::V2, Some(controller), Some(parent)) = (hierarchy.version, controller, dir.parent()) {
            hierarchy::enable(controller, &hierarchy.top(host.as_root), parent)?;
        }
        if !self.dirs.contains(&dir) {
            if let Some(parent) = dir.parent().filter(|parent| !parent.exists()) {
                fs::create_dir(parent, 0o755)?;
            }
            lease.owns_cgroup(dir.clone())?;
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

    /// Puts a process, and all it will start, into the groups; `there` where it was started in [`Self::unified`].
    pub(super) fn add(&self, pid: u32, there: bool) -> Result<(), CgroupError> {
        let others = self.dirs.iter().filter(|dir| !(there && is_unified(dir)));
        others.into_iter().try_for_each(|dir| set(dir, "cgroup.procs", pid.to_string()))
    }

    /// Returns how often the kernel killed for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let file = |version| if version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        self.memory.as_ref().and_then(|(version, dir)| count(&dir.join(file(*version)), "oom_kill")).unwrap_or(0)
    }

    /// Returns how often a process could not be started because there were too many.
    pub(super) fn refused_processes(&self) -> u64 {
        self.pids.as_ref().and_then(|dir| count(&dir.join("pids.events"), "max")).unwrap_or(0)
    }

    /// Returns the most bytes of memory that were in use.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let (version, dir) = self.memory.as_ref()?;
        let file = if *version == Version::V2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(&dir.join(file)).ok()?.trim().parse().ok()
    }

    /// Returns whether there is any group.
    pub(super) fn any(&self) -> bool {
        !self.dirs.is_empty()
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

/// Kills all processes of a group and removes it; one that is not there is no error.
pub(super) fn destroy(dir: &Path) -> Result<(), PathError> {
    let started = std::time::Instant::now();
    loop {
        kill_all(dir);
        match unlinkat(CWD, dir, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if started.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
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
    fn counts_are_found_by_their_whole_word() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!((find_count(text, "oom_kill"), find_count(text, "max")), (Some(3), None));
    }
}
