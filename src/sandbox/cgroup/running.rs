//! What happens to the groups while the command runs: limits are changed, and it makes way.
//!
//! A group that was not needed at the start is made when it is, and everything that runs is moved to it. Memory is the
//! exception: what was used before would not be counted.

use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::fs;
use crate::sandbox::cgroup::hierarchy::Version;
use crate::sandbox::cgroup::{CgroupError, Cgroups, Making, placement, set, set_if_exists, tree};
use crate::sandbox::change::Change;
use crate::sandbox::pressure::{self, Pressure};

impl Cgroups {
    /// Changes limits of what runs below the process `top`. Returns each with what gives it now.
    pub(in crate::sandbox) fn change(
        &mut self,
        change: &Change,
        making: &mut Making<'_>,
        top: u32,
    ) -> Result<Vec<(String, String)>, CgroupError> {
        if (change.memory.is_some() || change.swap.is_some()) && self.limits.memory.is_none() {
            return Err(CgroupError::NotFromTheStart);
        }
        if change.pids.is_some() && self.pid_max.is_some() {
            return Err(CgroupError::Fixed);
        }
        let (before, placed) = (self.dirs.clone(), self.cpus.clone());
        self.above = making.host.above();
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
            self.give_pids(limit, making)?;
            changed.push("pids");
        }
        if let Some(weight) = change.io_weight {
            self.give_io_weight(weight, making)?;
            changed.push("io-weight");
        }
        self.inherit(making)?;
        for dir in self.dirs.iter().filter(|dir| !before.contains(dir)) {
            tree::adopt(dir, top)?;
        }
        if change.cpu.is_some() || change.cpuset.is_some() {
            self.place_on_cpus(making.lease.id());
            self.move_to_cpus(placed.as_ref(), top)?;
        }
        Ok(changed.into_iter().map(|limit| (limit.to_string(), self.given[limit].clone())).collect())
    }

    /// Takes memory back until a new limit can hold, so that the kernel need not kill for it; v1 does so itself, and
    /// refuses.
    fn make_room(&self, limit: u64) -> Result<(), CgroupError> {
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

    /// Prepares the group for making way: the lowest weight there is, and a group that can be frozen.
    pub(super) fn give_way(&mut self, making: &mut Making<'_>) -> Result<(), CgroupError> {
        let refused = |why: String| CgroupError::NoWay(why);
        pressure::host().map_err(|e| {
            refused(format!(
                "{e}; the kernel must be built with CONFIG_PSI and, on some distributions, started with `psi=1`"
            ))
        })?;
        let host = making.host;
        let v2 = host.v2().ok_or_else(|| {
            refused("no cgroup2 file system is mounted; `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`".to_string())
        })?;
        let dir = self.join(v2, making, None).map_err(|e| {
            let why = crate::process::chain(&e);
            refused(format!(
                "{why}; start bindery as root, or in a group of its own (`systemd-run --user --scope -p Delegate=yes bindery …`)"
            ))
        })?;
        if !dir.join("cpu.pressure").exists() || !dir.join("cgroup.freeze").exists() {
            return Err(refused(format!("`{}` has no cpu.pressure or cgroup.freeze", dir.display())));
        }
        let by = match self.place("cpu", making) {
            Ok(_) => self.weigh(false)?.to_string(),
            Err(CgroupError::Missing { .. }) => "nice 19 (the cpu controller is out of reach)".to_string(),
            Err(e) => return Err(e),
        };
        self.places.insert("freeze", (Version::V2, dir));
        self.given.insert("yield", format!("by {by}, and by cgroup.freeze while others wait"));
        self.limits.gives_way = true;
        Ok(())
    }

    /// Gives it the usual weight among other groups, or the lowest. Returns what does so.
    fn weigh(&self, usual: bool) -> Result<&'static str, CgroupError> {
        let Some((version, dir)) = self.places.get("cpu") else { return Ok("nothing") };
        if set_if_exists(dir, "cpu.idle", if usual { "0" } else { "1" })? {
            return Ok("cpu.idle");
        }
        // Linux 5.15 brought cpu.idle.
        let (file, value) = match version {
            Version::V2 => ("cpu.weight", if usual { "100" } else { "1" }),
            Version::V1 => ("cpu.shares", if usual { "1024" } else { "2" }),
        };
        set(dir, file, value.to_string())?;
        Ok(file)
    }

    /// Stops all its processes, or lets them go on; with the usual weight where `fair`.
    pub(in crate::sandbox) fn freeze(&self, frozen: bool, fair: bool) -> Result<(), CgroupError> {
        self.weigh(fair)?;
        match self.places.get("freeze") {
            Some((_, dir)) => set(dir, "cgroup.freeze", u8::from(frozen).to_string()),
            None => Ok(()),
        }
    }

    /// Returns the pressure on the host and in the group, in this order.
    pub(in crate::sandbox) fn pressures(&self) -> Option<(Pressure, Pressure)> {
        let dir: &PathBuf = &self.places.get("freeze")?.1;
        Some((pressure::host().ok()?, pressure::group(dir).ok()?))
    }
}
