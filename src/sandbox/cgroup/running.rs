//! How a running command makes way for others: the lowest weight there is, and a group that can be frozen.

use std::path::PathBuf;

use crate::sandbox::cgroup::hierarchy::Version;
use crate::sandbox::cgroup::{CgroupError, Cgroups, Making, set, set_if_exists};
use crate::sandbox::pressure::{self, Pressure};

impl Cgroups {
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
        // Others are all that is not of these sandboxes.
        let whole = if making.together.is_some() { dir.parent().unwrap_or(&dir) } else { &dir }.to_path_buf();
        self.places.insert("pressure", (Version::V2, whole));
        let by = match self.place("cpu", making) {
            Ok(_) => {
                if let Some(together) = making.together {
                    let above = together.with(making, |above, making| above.place("cpu", making))?;
                    self.places.insert("cpu above", above);
                    self.weigh("cpu above", false)?;
                }
                self.weigh("cpu", false)?.to_string()
            }
            Err(CgroupError::Missing { .. }) => "nice 19 (the cpu controller is out of reach)".to_string(),
            Err(e) => return Err(e),
        };
        self.places.insert("freeze", (Version::V2, dir));
        self.given.insert("yield", format!("by {by}, and by cgroup.freeze while others wait"));
        self.limits.gives_way = true;
        Ok(())
    }

    /// Gives it the usual weight among other groups, or the lowest. Returns what does so.
    fn weigh(&self, place: &str, usual: bool) -> Result<&'static str, CgroupError> {
        let Some((version, dir)) = self.places.get(place) else { return Ok("nothing") };
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
        self.weigh("cpu", fair)?;
        self.weigh_all(fair)?;
        match self.places.get("freeze") {
            Some((_, dir)) => set(dir, "cgroup.freeze", u8::from(frozen).to_string()),
            None => Ok(()),
        }
    }

    /// Gives all that runs beside each other the usual weight among other groups, or the lowest.
    pub(in crate::sandbox) fn weigh_all(&self, usual: bool) -> Result<(), CgroupError> {
        self.weigh("cpu above", usual).map(drop)
    }

    /// Returns the pressure on the host and in the group, in this order; in that of all that runs beside each other, if there
    /// is one.
    pub(in crate::sandbox) fn pressures(&self) -> Option<(Pressure, Pressure)> {
        let dir: &PathBuf = &self.places.get("pressure")?.1;
        Some((pressure::host().ok()?, pressure::group(dir).ok()?))
    }
}
