//! Each limit, as both versions write it (cgroup-v2.rst; cgroup-v1/*.rst of the kernel's documentation).

use std::path::Path;

use rustix::process::{Pid, setpriority_process};

use crate::atom::CpuList;
use crate::fs;
use crate::sandbox::cgroup::disk::{self, Weighing};
use crate::sandbox::cgroup::hierarchy::Version;
use crate::sandbox::cgroup::{
    CgroupError, Cgroups, LEAST_MEMORY, Making, RESERVED_PIDS, above, oom, placement, set, set_if_exists,
};

/// Processes of bindery's own in the group: enter and init. What is asked for is meant for the command.
const OWN_PROCESSES: u64 = 2;
/// The lowest priority there is (nice(2)).
const NICEST: i32 = 19;

impl Cgroups {
    /// Limits processor time. More than a group above allows is not refused, because a profile is made for many
    /// machines, but noted.
    pub(super) fn give_cpu(&mut self, cpu: (u64, u64), making: &mut Making<'_>) -> Result<(), CgroupError> {
        if let Some(limits) = self.limit_together("cpus", "cpu", making, |above, making| above.give_cpu(cpu, making))? {
            self.limits.cpu = limits.cpu;
            return Ok(());
        }
        let (version, dir) = self.place("cpu", making)?;
        let (quota, period) = within(cpu, self.above.cpus);
        match version {
            Version::V2 => set(&dir, "cpu.max", format!("{quota} {period}"))?,
            Version::V1 => {
                set(&dir, "cpu.cfs_period_us", period.to_string())?;
                set(&dir, "cpu.cfs_quota_us", quota.to_string())?;
            }
        }
        let mut given = format!("{quota}/{period} µs by cgroup {version}");
        if quota < cpu.0 {
            given.push_str(&format!("; {}/{} were asked for, a control group above allows no more", cpu.0, cpu.1));
        }
        self.given.insert("cpus", given);
        self.limits.cpu = Some(cpu);
        Ok(())
    }

    /// Lets it run on some processors only.
    pub(super) fn give_cpuset(&mut self, list: &CpuList, making: &mut Making<'_>) -> Result<(), CgroupError> {
        self.may_run_on(list)?;
        let (version, dir) = self.place("cpuset", making)?;
        if version == Version::V1 {
            // Empty in a new group, which then takes no process.
            let above = dir.parent().unwrap_or(&dir);
            let effective = fs::read_to_string(&above.join("cpuset.effective_mems"))?;
            set(&dir, "cpuset.mems", effective.trim().to_string())?;
        }
        set(&dir, "cpuset.cpus", list.to_string())?;
        self.given.insert("cpuset", format!("{list} by cgroup {version}"));
        self.limits.cpuset = Some(list.clone());
        Ok(())
    }

    /// Refuses processors that bindery itself may not run on.
    pub(super) fn may_run_on(&self, list: &CpuList) -> Result<(), CgroupError> {
        match &self.allowed {
            Some(allowed) if !list.numbers().iter().all(|cpu| allowed.numbers().contains(cpu)) => {
                Err(CgroupError::NoProcessor { asked: list.clone(), allowed: allowed.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Limits memory, and swap beside it.
    pub(super) fn give_memory(&mut self, limit: u64, swap: u64, making: &mut Making<'_>) -> Result<(), CgroupError> {
        if limit < LEAST_MEMORY {
            return Err(CgroupError::TooLittleMemory(limit));
        }
        if oom::Suspects::needed() {
            self.suspects.get_or_insert_default();
        }
        let give = |above: &mut Self, making: &mut Making<'_>| {
            above.make_room(limit)?;
            above.give_memory(limit, swap, making)
        };
        if let Some(limits) = self.limit_together("memory", "memory", making, give)? {
            (self.limits.memory, self.limits.swap) = (limits.memory, limits.swap);
            return Ok(());
        }
        let (version, dir) = self.place("memory", making)?;
        let sum = limit.saturating_add(swap);
        let counted = match version {
            Version::V2 => {
                set(&dir, "memory.max", self.above.memory.unwrap_or(limit).min(limit).to_string())?;
                set_if_exists(&dir, "memory.swap.max", &swap.to_string())?
            }
            Version::V1 => set_both(&dir, limit, sum)?,
        };
        let swap_text = match (counted, swap) {
            (true, 0) => "no swap".to_string(),
            (true, _) => format!("{swap} bytes of swap"),
            (false, _) if has_swap() => {
                return Err(CgroupError::SwapNotCounted(match version {
                    Version::V2 => "memory.swap.max",
                    Version::V1 => "memory.memsw.limit_in_bytes",
                }));
            }
            (false, _) => "no swap on this host".to_string(),
        };
        let mut given = format!("{limit} bytes, {swap_text}, by cgroup {version}");
        if let Some(less) = self.above.memory.filter(|above| *above < limit) {
            given.push_str(&format!("; a control group above allows no more than {less}"));
        }
        self.given.insert("memory", given);
        (self.limits.memory, self.limits.swap) = (Some(limit), Some(swap));
        Ok(())
    }

    /// Limits processes, with one replacement where no controller can.
    pub(super) fn give_pids(&mut self, limit: u64, making: &mut Making<'_>) -> Result<(), CgroupError> {
        match self.place("pids", making) {
            Ok((version, dir)) => {
                let most = limit.saturating_add(OWN_PROCESSES);
                set(&dir, "pids.max", self.above.pids.unwrap_or(most).min(most).to_string())?;
                self.given.insert("pids", format!("{limit} by cgroup {version}"));
            }
            Err(CgroupError::Missing { .. }) if making.kernel >= (6, 14) => {
                self.given.insert("pids", format!("{limit}, once {RESERVED_PIDS} are used up, by kernel.pid_max"));
                self.pid_max = Some(limit.saturating_add(RESERVED_PIDS));
            }
            Err(e) => return Err(e),
        }
        self.limits.pids = Some(limit);
        Ok(())
    }

    /// Returns what gives shares of the disk that its root is on, or refuses them.
    pub(super) fn weighing(making: &Making<'_>) -> Result<Weighing, CgroupError> {
        let root = making.lease.root();
        let present = root.ancestors().find(|dir| dir.exists()).unwrap_or(root);
        let costs = making.host.v2().and_then(|v2| fs::read_to_string(&v2.mount.join("io.cost.qos")).ok());
        disk::weighing(present, costs.as_deref()).map_err(CgroupError::NoShare)
    }

    /// Gives it a share of the disk that its root is on, where the disk's scheduler knows shares.
    pub(super) fn give_io_weight(&mut self, weight: u16, making: &mut Making<'_>) -> Result<(), CgroupError> {
        let (weighing, host) = (Self::weighing(making)?, making.host);
        let controller = if host.with("io").is_some() { "io" } else { "blkio" };
        let give = |above: &mut Self, making: &mut Making<'_>| above.give_io_weight(weight, making);
        if let Some(limits) = self.limit_together("io-weight", controller, making, give)? {
            self.limits.io_weight = limits.io_weight;
            return Ok(());
        }
        let (version, dir) = self.place(controller, making)?;
        let (file, value) = match (version, weighing) {
            (Version::V2, Weighing::Bfq) => ("io.bfq.weight", u64::from(weight)),
            // From 10..1000 to 1..10000, as runc and crun do it.
            (Version::V2, Weighing::Cost) => ("io.weight", 1 + (u64::from(weight) - 10) * 9999 / 990),
            (Version::V1, _) => ("blkio.bfq.weight", u64::from(weight)),
        };
        if !set_if_exists(&dir, file, &value.to_string())? {
            return Err(CgroupError::NoShare(format!("control groups here have no `{file}`")));
        }
        self.given.insert("io-weight", format!("{weight} by cgroup {version}, {file}"));
        self.limits.io_weight = Some(weight);
        Ok(())
    }

    /// Applies what limits bindery itself to groups that are made elsewhere, even where less was asked for.
    pub(super) fn inherit(&mut self, making: &mut Making<'_>) -> Result<(), CgroupError> {
        if let Some(together) = making.together {
            let needed = !self.dirs.is_empty();
            return if needed { together.with(making, |above, making| above.inherit(making)) } else { Ok(()) };
        }
        let host = making.host;
        let Some(v2) = host.v2().filter(|v2| v2.is_outside(&host.group(v2, making.lease.id()))) else { return Ok(()) };
        if self.dirs.is_empty() {
            return Ok(());
        }
        if let (Some(cpus), None, true) = (self.above.cpus, self.limits.cpu, v2.has("cpu")) {
            let (_, dir) = self.place("cpu", making)?;
            let (quota, period) = within((u64::MAX, PERIOD), Some(cpus));
            set(&dir, "cpu.max", format!("{quota} {period}"))?;
        }
        if let (Some(memory), None, true) = (self.above.memory, self.limits.memory, v2.has("memory")) {
            let (_, dir) = self.place("memory", making)?;
            set(&dir, "memory.max", memory.to_string())?;
        }
        if let (Some(pids), None, true) = (self.above.pids, self.limits.pids, v2.has("pids")) {
            let (_, dir) = self.place("pids", making)?;
            set(&dir, "pids.max", pids.to_string())?;
        }
        Ok(())
    }

    /// Chooses processors, so that who counts them sees the quota.
    pub(super) fn place_on_cpus(&mut self, seed: &str) {
        self.cpus = None;
        let Some(allowed) = self.limits.cpuset.as_ref().or(self.allowed.as_ref()) else { return };
        let quota = self.limits.cpu.map(|(quota, period)| quota as f64 / period as f64);
        let count = above::processors(allowed.numbers().len(), quota.into_iter().chain(self.above.cpus));
        self.cpus = placement::choose(allowed, count, seed, placement::siblings);
    }
}

/// In microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// Returns a quota that is not above what a group above has.
fn within((quota, period): (u64, u64), above: Option<f64>) -> (u64, u64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    let most = above.map_or(u64::MAX, |cpus| (cpus * period as f64) as u64);
    // Below, the kernel takes none.
    (quota.min(most.max(1000)), period)
}

/// Sets memory, and memory with swap, of v1, where the second may never be less than the first. Returns whether swap is
/// counted.
fn set_both(dir: &Path, limit: u64, sum: u64) -> Result<bool, CgroupError> {
    let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    let present = fs::read_to_string(&dir.join(memory))?.trim().parse::<u64>().unwrap_or(u64::MAX);
    let counted = if limit > present {
        let counted = set_if_exists(dir, both, &sum.to_string())?;
        set(dir, memory, limit.to_string())?;
        counted
    } else {
        set(dir, memory, limit.to_string())?;
        set_if_exists(dir, both, &sum.to_string())?
    };
    Ok(counted)
}

/// Returns whether the host has swap on (proc(5)): the first line is a heading.
fn has_swap() -> bool {
    fs::read_to_string(Path::new("/proc/swaps")).is_ok_and(|text| text.lines().count() > 1)
}

/// Gives a process, and all it will start, the lowest priority.
pub(super) fn be_nice(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Anyone may be nicer.
        let _ = setpriority_process(Some(pid), NICEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_never_above_what_a_group_above_has() {
        assert_eq!(within((150_000, 100_000), None), (150_000, 100_000));
        assert_eq!(within((150_000, 100_000), Some(0.5)), (50_000, 100_000));
        assert_eq!(within((150_000, 100_000), Some(8.0)), (150_000, 100_000));
        assert_eq!(within((150_000, 100_000), Some(0.0)), (1000, 100_000));
    }

    #[test]
    fn memory_with_swap_is_never_less_than_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::write(&file("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert!(!set_both(dir.path(), 10 << 20, 20 << 20).unwrap());
        fs::write(&file("memory.memsw.limit_in_bytes"), "1").unwrap();
        assert!(set_both(dir.path(), 30 << 20, 40 << 20).unwrap());
        assert_eq!(fs::read_to_string(&file("memory.memsw.limit_in_bytes")).unwrap(), "41943040");
    }
}
