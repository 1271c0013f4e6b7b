//! Control groups: which version there is, whether groups can be made, and each controller that a limit needs; pressure.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, unlinkat};

use crate::doctor::host::Host;
use crate::doctor::{Check, advice};
use crate::fs;

/// A controller, what it is called in v1, what a limit of it is for, and the option of the kernel.
const CONTROLLERS: [(&str, &str, &str, &str); 5] = [
    ("cpu", "cpu", "a limit on processors (`--cpus`)", "CONFIG_CFS_BANDWIDTH"),
    ("memory", "memory", "a limit on memory (`--memory`), and telling of its want", "CONFIG_MEMCG"),
    (
        "pids",
        "pids",
        "a limit on processes (`--pids`); from Linux 6.14 on it can be done without",
        "CONFIG_CGROUP_PIDS",
    ),
    ("cpuset", "cpuset", "keeping builds on chosen processors", "CONFIG_CPUSETS"),
    ("io", "blkio", "keeping builds from taking the disks", "CONFIG_BLK_CGROUP"),
];

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    v2: bool,
    /// Names of v1's controllers; v2's are in a file.
    controllers: Vec<String>,
    mount: PathBuf,
    /// The group that this process is in.
    own: PathBuf,
}

pub(super) fn checks(host: &Host) -> Vec<Check> {
    let file = |path| fs::read_if_exists(Path::new(path)).ok().flatten().unwrap_or_default();
    let hierarchies = parse(&file("/proc/self/mountinfo"), &file("/proc/self/cgroup"));
    let tried: Vec<_> = hierarchies.iter().map(|h| (h, try_to_make(&h.parent(host.root)))).collect();
    let mut checks = vec![groups(host, &tried)];
    checks.extend(CONTROLLERS.map(|controller| one(host, &tried, controller)));
    checks.push(pressure());
    checks
}

impl Hierarchy {
    /// Returns the group that bindery makes its groups in: for root that of v2's top, else its own.
    fn parent(&self, root: bool) -> PathBuf {
        if self.v2 && root { self.mount.clone() } else { self.own.clone() }
    }

    fn has(&self, v2_name: &str, v1_name: &str, root: bool) -> bool {
        if !self.v2 {
            return self.controllers.iter().any(|c| c == v1_name);
        }
        let file = self.parent(root).join("cgroup.controllers");
        fs::read_to_string(&file).is_ok_and(|text| text.split_whitespace().any(|c| c == v2_name))
    }
}

/// Makes a group and removes it again.
fn try_to_make(parent: &Path) -> Result<(), String> {
    let group = parent.join(format!("bindery-doctor-{}", std::process::id()));
    fs::create_dir_new(&group, 0o755)
        .map_err(|e| format!("no group can be made in `{}`: {}", parent.display(), e.source))?;
    // Empty, it goes at once.
    unlinkat(CWD, &group, AtFlags::REMOVEDIR).map_err(|e| format!("{}: {}", group.display(), std::io::Error::from(e)))
}

fn groups(host: &Host, tried: &[(&Hierarchy, Result<(), String>)]) -> Check {
    const NAME: &str = "control groups";
    const PURPOSE: &str = "limits on processors, memory and processes, and finding all of a build's processes";
    let v2 = tried.iter().any(|(h, _)| h.v2);
    let v1 = tried.iter().any(|(h, _)| !h.v2);
    let version = match (v2, v1) {
        (true, true) => "v1 and v2 (hybrid)",
        (true, false) => "v2",
        (false, true) => "v1",
        (false, false) => {
            return Check::limited(NAME, PURPOSE, "none is mounted", advice::cgroup_mount(host));
        }
    };
    let refused = tried.iter().find_map(|(_, made)| made.as_ref().err());
    match (tried.iter().any(|(_, made)| made.is_ok()), refused) {
        (false, Some(why)) => Check::limited(NAME, PURPOSE, format!("{version}; {why}"), advice::delegation(host, v2)),
        _ => Check::works(NAME, PURPOSE, format!("{version}; groups can be made")),
    }
}

fn one(
    host: &Host,
    tried: &[(&Hierarchy, Result<(), String>)],
    (name, v1_name, purpose, option): (&'static str, &str, &'static str, &str),
) -> Check {
    let check_name = match name {
        "cpu" => "cpu controller",
        "memory" => "memory controller",
        "pids" => "pids controller",
        "cpuset" => "cpuset controller",
        _ => "io controller",
    };
    match tried.iter().find(|(h, _)| h.has(name, v1_name, host.root)) {
        Some((h, Ok(()))) => Check::works(check_name, purpose, if h.v2 { "by v2" } else { "by v1" }),
        Some((h, Err(why))) => {
            let found = format!("there, by {}, but {why}", if h.v2 { "v2" } else { "v1" });
            Check::limited(check_name, purpose, found, advice::delegation(host, h.v2))
        }
        None => {
            let v2 = tried.iter().any(|(h, _)| h.v2);
            Check::limited(
                check_name,
                purpose,
                "not in any group bindery may use",
                advice::controller(host, v2, name, option),
            )
        }
    }
}

fn pressure() -> Check {
    const NAME: &str = "pressure";
    const PURPOSE: &str = "`--yield`: builds make room when others have to wait";
    match fs::read_to_string(Path::new("/proc/pressure/cpu")) {
        Ok(text) if text.starts_with("some") => Check::works(NAME, PURPOSE, "/proc/pressure tells"),
        Ok(_) => Check::limited(NAME, PURPOSE, "/proc/pressure says nothing", advice::pressure()),
        Err(e) => Check::limited(NAME, PURPOSE, format!("/proc/pressure/cpu: {}", e.source), advice::pressure()),
    }
}

/// Reads which hierarchies are mounted, and this process's group of each (cgroups(7)).
fn parse(mountinfo: &str, own: &str) -> Vec<Hierarchy> {
    let one = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, group) = (fields.next()?, fields.next()?);
        let (root, mount) = mountinfo.lines().find_map(|line| mounted(line, names))?;
        // The group may lie outside of what is mounted (a container's): then the mount's top is all there is.
        let below = Path::new(group).strip_prefix(&root).ok().filter(|below| !below.as_os_str().is_empty());
        let own = below.map_or_else(|| mount.clone(), |below| mount.join(below));
        let controllers = names.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect();
        Some(Hierarchy { v2: names.is_empty(), controllers, mount, own })
    };
    // A named hierarchy of v1 has no controller: systemd keeps its books there.
    own.lines().filter(|line| !line.contains(":name=")).filter_map(one).collect()
}

fn mounted(line: &str, names: &str) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, mount) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (typ, options) = (after.next()?, after.nth(1)?);
    let found = if names.is_empty() {
        typ == "cgroup2"
    } else {
        typ == "cgroup" && names.split(',').all(|name| options.split(',').any(|option| option == name))
    };
    found.then(|| (PathBuf::from(root), PathBuf::from(mount)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_have_both_and_containers_a_part() {
        let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 /box /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let found = parse(mounts, "1:cpu,cpuacct:/a\n3:memory:/\n4:name=systemd:/\n0::/box/b\nnonsense\n");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].v2, &*found[0].own), (false, Path::new("/sys/fs/cgroup/cpu,cpuacct/a")));
        assert!(found[0].has("cpu", "cpu", true) && !found[0].has("memory", "memory", true));
        assert_eq!((found[1].v2, &*found[1].own), (true, Path::new("/sys/fs/cgroup/unified/b")));
        assert_eq!(found[1].parent(true), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(parse(mounts, "0::/elsewhere\n")[0].own, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_group_that_cannot_be_made_says_where() {
        let said = try_to_make(Path::new("/proc/self")).unwrap_err();
        assert!(said.contains("no group can be made in `/proc/self`"), "{said}");
        try_to_make(tempfile::tempdir().unwrap().path()).unwrap();
    }
}
