//! Which control group hierarchies there are, and which group of each this process is in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::geteuid;

use super::{PATIENCE, PAUSE};
use crate::fs::{self, PathError};

/// The interface of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V1 { "v1" } else { "v2" })
    }
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    controllers: Vec<String>,
    pub(super) mount: PathBuf,
    own: PathBuf,
}

/// The group below a delegated one that bindery itself moves to.
const LEAF: &str = "bindery-itself";

/// How long a process that seems to be somebody else's may take to go.
const ORPHAN: Duration = Duration::from_millis(500);

/// Had by the thread that rearranges groups.
static ENABLING: Mutex<()> = Mutex::new(());

/// What the host has.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Host {
    pub(super) as_root: bool,
    pub(super) hierarchies: Vec<Hierarchy>,
}

impl Host {
    /// Reads what this host has.
    pub(in crate::sandbox) fn read() -> Result<Self, PathError> {
        let file = |path| fs::read_to_string(Path::new(path));
        let controllers = |dir: &Path| fs::read_to_string(&dir.join("cgroup.controllers")).unwrap_or_default();
        let (mounts, own) = (file("/proc/self/mountinfo")?, file("/proc/self/cgroup")?);
        Ok(Self::parse(&mounts, &own, geteuid().is_root(), controllers))
    }

    pub(super) fn parse(mounts: &str, groups: &str, as_root: bool, v2_controllers: impl Fn(&Path) -> String) -> Self {
        let mut hierarchies = Vec::new();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(group)) = (fields.next(), fields.next(), fields.next()) else { continue };
            let version = if names.is_empty() { Version::V2 } else { Version::V1 };
            let Some((root, mount)) = mounts.lines().find_map(|line| mounted(line, version, names)) else { continue };
            // The group may lie outside of what is mounted (a container's): then the mount's top is all there is.
            let mut own =
                Path::new(group).strip_prefix(&root).map_or_else(|_| mount.clone(), |below| mount.join(below));
            // Moved there by an earlier sandbox of this process, see `leave`.
            if version == Version::V2 && own.file_name().is_some_and(|name| name == LEAF) {
                own.pop();
            }
            let mut hierarchy = Hierarchy { version, controllers: Vec::new(), mount, own };
            hierarchy.controllers = match version {
                Version::V1 => names.split(',').map(str::to_string).collect(),
                Version::V2 => v2_controllers(&hierarchy.top(as_root)).split_whitespace().map(str::to_string).collect(),
            };
            hierarchies.push(hierarchy);
        }
        Self { as_root, hierarchies }
    }

    pub(super) fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// Returns the hierarchy that has a controller: a controller is in one only.
    pub(super) fn with(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// Returns the folders that sandboxes' groups are in, each with what comes before the lease's id in their names.
    pub(in crate::sandbox) fn places(&self) -> Vec<(PathBuf, &'static str)> {
        let place = |hierarchy: &Hierarchy| match hierarchy.version {
            Version::V2 if self.as_root => (hierarchy.mount.join("bindery"), ""),
            _ => (hierarchy.own.clone(), "bindery-"),
        };
        self.hierarchies.iter().map(place).collect()
    }

    /// Returns the group that this process, and what it starts, is in where a sandbox's group is.
    pub(super) fn home(&self, group: &Path) -> Option<PathBuf> {
        let hierarchy = self.hierarchies.iter().filter(|hierarchy| group.starts_with(&hierarchy.mount));
        let own = &hierarchy.max_by_key(|hierarchy| hierarchy.mount.components().count())?.own;
        let leaf = own.join(LEAF);
        Some(if leaf.exists() { leaf } else { own.clone() })
    }

    /// Returns the folder of the group that a sandbox gets.
    pub(super) fn group(&self, hierarchy: &Hierarchy, lease: &str) -> PathBuf {
        match hierarchy.version {
            Version::V2 if self.as_root => hierarchy.mount.join("bindery").join(lease),
            _ => hierarchy.own.join(format!("bindery-{lease}")),
        }
    }
}

impl Hierarchy {
    /// Returns whether it has a controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }

    /// Returns bindery's own group and all above it.
    pub(super) fn own_and_above(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|dir| dir.starts_with(&self.mount))
    }

    /// Returns whether a group of that path is not below bindery's own, whose limits then do not hold for it.
    pub(super) fn is_outside(&self, group: &Path) -> bool {
        self.own != self.mount && !group.starts_with(&self.own)
    }

    /// Returns the group from which on we may enable controllers.
    pub(super) fn top(&self, as_root: bool) -> PathBuf {
        if as_root { self.mount.clone() } else { self.own.clone() }
    }
}

/// Returns root and mount point of a line of mountinfo (proc(5)), if it mounts the hierarchy.
fn mounted(line: &str, version: Version, names: &str) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, mount) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (typ, options) = (after.next()?, after.nth(1)?);
    let found = match version {
        Version::V2 => typ == "cgroup2",
        Version::V1 => typ == "cgroup" && names.split(',').all(|name| options.split(',').any(|o| o == name)),
    };
    found.then(|| (PathBuf::from(root), PathBuf::from(mount)))
}

/// Enables a controller of v2 for the groups in `dir`, from `top` down.
pub(super) fn enable(controller: &str, top: &Path, dir: &Path) -> Result<(), PathError> {
    let below = dir.strip_prefix(top).unwrap_or(Path::new(""));
    let mut group = top.to_path_buf();
    for name in std::iter::once(None).chain(below.components().map(Some)) {
        if let Some(name) = name {
            group.push(name);
        }
        fs::create_dir(&group, 0o755)?;
        let control = group.join("cgroup.subtree_control");
        if !fs::read_to_string(&control)?.split_whitespace().any(|c| c == controller) {
            enable_in(&group, controller, &control)?;
        }
    }
    Ok(())
}

/// Waits until a group that is older than its controller has the controller's files. The kernel shows a controller as
/// enabled before it has made them: whoever reads that while another process enables it is too early.
pub(super) fn settle(controller: &str, group: &Path, dir: &Path) -> Result<(), PathError> {
    // What every group with that controller has. Other names, such as `cpu.stat`, are there without it.
    let file = match controller {
        "cpu" => "cpu.weight",
        "cpuset" => "cpuset.cpus",
        "io" => "io.stat",
        "memory" => "memory.current",
        _ => "pids.current",
    };
    if dir.join(file).exists() {
        return Ok(());
    }
    // Changes nothing, and is done when the other's is: the kernel takes one at a time.
    fs::write(&group.join("cgroup.subtree_control"), format!("+{controller}"))
}

fn enable_in(group: &Path, controller: &str, control: &Path) -> Result<(), PathError> {
    // Of the threads of this process that want it at the same moment one does it: each process that is moved makes the
    // kernel wait for all processors, and all threads moving the same ones took longer than any patience.
    let _turn = ENABLING.lock().unwrap_or_else(PoisonError::into_inner);
    if fs::read_to_string(control)?.split_whitespace().any(|c| c == controller) {
        return Ok(());
    }
    let started = std::time::Instant::now();
    loop {
        match leave(group) {
            // Or it was of a sandbox beside this one that is being killed: its parent is gone, and it will be.
            Err(_) if started.elapsed() < ORPHAN => {
                std::thread::sleep(PAUSE);
                continue;
            }
            left => left?,
        }
        match fs::write(control, format!("+{controller}")) {
            // A child has started another process meanwhile.
            Err(e) if e.source.kind() == std::io::ErrorKind::ResourceBusy && started.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Moves this process and all it started one level down: a group of v2 has processes or controllers for groups below, not
/// both. Somebody else's processes are left where they are, and then it cannot be done.
fn leave(group: &Path) -> Result<(), PathError> {
    // The top of all groups, which has no type, may have both.
    if !group.join("cgroup.type").exists() {
        return Ok(());
    }
    let inside = fs::read_to_string(&group.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    let (ours, others): (Vec<_>, Vec<_>) = inside.lines().partition(|pid| descends(pid, &own));
    if let Some(other) = others.first() {
        let why = format!("it also has processes that are not bindery's, such as {other}");
        return Err(PathError::on("limit groups below", group)(std::io::Error::other(why)));
    }
    let leaf = group.join(LEAF);
    // This process first: what it starts from then on is there already.
    let (first, then): (Vec<_>, Vec<_>) = ours.into_iter().partition(|pid| *pid == own);
    for pid in first.into_iter().chain(then) {
        fs::create_dir(&leaf, 0o755)?;
        let moved = fs::write(&leaf.join("cgroup.procs"), pid);
        // A child may have ended meanwhile.
        if pid == own {
            moved?;
        }
    }
    Ok(())
}

/// Returns whether a process is `ancestor`, or was started by it or by what it started.
fn descends(pid: &str, ancestor: &str) -> bool {
    if pid == ancestor {
        return true;
    }
    let Ok(status) = fs::read_to_string(&Path::new("/proc").join(pid).join("status")) else {
        // It has ended, unless it is one of another process namespace, all of which are shown as 0.
        return pid != "0";
    };
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.is_some_and(|parent| descends(parent.trim(), ancestor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_has_a_hierarchy_for_each_controller() {
        let own = "4:memory:/some/group\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n";
        let host = Host::parse(HYBRID_MOUNTS, own, true, |_| String::new());
        let group = |controller| host.with(controller).map(|hierarchy| host.group(hierarchy, "1-2"));
        assert_eq!(group("memory"), Some("/sys/fs/cgroup/memory/some/group/bindery-1-2".into()));
        assert_eq!(group("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/bindery-1-2".into()));
        assert_eq!(group("pids"), None);
        let v2 = host.v2().unwrap();
        assert_eq!(host.group(v2, "1-2"), Path::new("/sys/fs/cgroup/unified/bindery/1-2"));
    }

    #[test]
    fn a_users_group_of_v2_is_below_its_own() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/user.slice/user-1000.slice/run-1.scope\n";
        let host = Host::parse(mounts, own, false, |dir| {
            assert!(dir.ends_with("run-1.scope"));
            "memory pids\n".to_string()
        });
        let hierarchy = host.with("memory").unwrap();
        let path = "/sys/fs/cgroup/user.slice/user-1000.slice/run-1.scope/bindery-x";
        assert_eq!(host.group(hierarchy, "x"), Path::new(path));
        assert_eq!(host.with("cpu"), None);
    }

    #[test]
    fn a_group_outside_of_the_mount_is_its_top() {
        let mounts = "30 23 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let host = Host::parse(mounts, "0::/docker/1/x\n", false, |_| "pids".to_string());
        assert_eq!(host.group(host.v2().unwrap(), "l"), Path::new("/sys/fs/cgroup/x/bindery-l"));
        let host = Host::parse(mounts, "0::/elsewhere\n", false, |_| "pids".to_string());
        assert_eq!(host.group(host.v2().unwrap(), "l"), Path::new("/sys/fs/cgroup/bindery-l"));
    }

    #[test]
    fn the_group_that_bindery_moved_to_is_not_its_own() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let host = Host::parse(mounts, "0::/run-1.scope/bindery-itself\n", false, |_| "pids".to_string());
        let v2 = host.v2().unwrap();
        assert_eq!(host.group(v2, "l"), Path::new("/sys/fs/cgroup/run-1.scope/bindery-l"));
        let own = ["/sys/fs/cgroup/run-1.scope", "/sys/fs/cgroup"].map(Path::new);
        assert_eq!(v2.own_and_above().collect::<Vec<_>>(), own);
        assert!(v2.is_outside(Path::new("/sys/fs/cgroup/bindery/l")) && !v2.is_outside(&own[0].join("bindery-l")));
    }

    #[test]
    fn controllers_are_enabled_from_the_top_down() {
        let dir = tempfile::tempdir().unwrap();
        let leaf = dir.path().join("bindery");
        fs::create_dir(&leaf, 0o755).unwrap();
        for group in [dir.path(), &leaf] {
            fs::write(&group.join("cgroup.subtree_control"), "cpu").unwrap();
        }
        enable("memory", dir.path(), &leaf).unwrap();
        assert_eq!(fs::read_to_string(&leaf.join("cgroup.subtree_control")).unwrap(), "+memory");
        assert_eq!(fs::read_to_string(&dir.path().join("cgroup.subtree_control")).unwrap(), "+memory");
    }

    #[test]
    fn somebody_elses_processes_are_neither_moved_nor_overlooked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("cgroup.subtree_control"), "").unwrap();
        fs::write(&dir.path().join("cgroup.type"), "domain\n").unwrap();
        fs::write(&dir.path().join("cgroup.procs"), format!("{}\n1\n", std::process::id())).unwrap();
        let error = enable("memory", dir.path(), dir.path()).unwrap_err();
        assert!(error.source.to_string().contains("not bindery's, such as 1"), "{}", error.source);
        assert!(!dir.path().join(LEAF).exists());
    }
}
