//! The id range: the 65536 subordinate user and group ids that own everything inside roots.
//!
//! Two user namespaces use it. The outer one owns the mounts and all other namespaces, the inner one is where the
//! payload lives, so that whatever capabilities the payload shows own nothing:
//!
//! ```text
//! outer, started by root      0 START 65536                      host root is not mapped at all
//! outer, anyone else          0 START 65535   65535 USER 1       the user's files stay reachable for our own code,
//! inner                       0 0 65535                          but the payload can never hold the user's id
//! ```
//!
//! Where START comes from. An ordinary user: /etc/subuid and /etc/subgid, written by newuidmap(1) and newgidmap(1).
//! Root: the configured value, else root's own entry in those files, else 1879048192 (0x7000_0000), which lies above
//! all ranges that systemd hands to containers (524288 to 1879048191), below its foreign range (2147352576), and below
//! 2^31 (systemd's UIDS-GIDS.md calls 1879048192 to 2147352575 unused). In a container whose user namespace lacks these,
//! it is the first 65536 in one piece above its own first 65536. A range of root's that overlaps anybody else's
//! subordinate ids, or a user or group of the host, is refused: files of one would belong to the other.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::process::{Pid, getegid, geteuid};

use crate::fs::{self, PathError};
use crate::process::{self, ProcessError};
use subid::{Owned, parse_map, parse_names, parse_subids};

mod subid;

/// How many ids a range has.
pub const COUNT: u32 = 65536;
/// The map of the payload's own user namespace, in terms of the outer one.
pub(super) const INNER: &str = "0 0 65535\n";
/// Root's range when nothing else says one.
const DEFAULT_START: u32 = 0x7000_0000;

/// The subordinate ids that own the files in roots.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    uids: u32,
    gids: u32,
    /// The user's own ids where newuidmap(1) writes the maps; root writes them itself.
    user: Option<(u32, u32)>,
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user ids from {}, group ids from {}, {COUNT} of each", self.uids, self.gids)
    }
}

/// What the host says about ids.
#[derive(Debug, Default)]
struct Host<'a> {
    subuid: &'a str,
    subgid: &'a str,
    passwd: &'a str,
    group: &'a str,
    uid_map: &'a str,
    gid_map: &'a str,
}

impl Host<'_> {
    /// Returns where root's range starts when nobody says it: the same everywhere but in a container that has not these
    /// ids, where it is the first that are left above those of the container's own users.
    fn default_starts(&self) -> (u32, u32) {
        let start = |map| {
            let extents = parse_map(map);
            if extents.iter().any(|extent| extent.contains(DEFAULT_START, COUNT)) {
                return DEFAULT_START;
            }
            let above = extents.iter().map(|extent| (extent.start.max(COUNT), extent));
            let free = above.filter(|(start, extent)| extent.contains(*start, COUNT)).map(|(start, _)| start).min();
            // Which is then refused for not being here.
            free.unwrap_or(DEFAULT_START)
        };
        (start(self.uid_map), start(self.gid_map))
    }
}

impl IdRange {
    /// Finds the range for whoever runs this process; `configured` are the first user id and the first group id.
    pub fn detect(configured: Option<(u32, u32)>) -> Result<Self, IdRangeError> {
        let file = |path: &str| Ok::<_, PathError>(fs::read_if_exists(Path::new(path))?.unwrap_or_default());
        let (subuid, subgid) = (file("/etc/subuid")?, file("/etc/subgid")?);
        let (passwd, group) = (file("/etc/passwd")?, file("/etc/group")?);
        let (uid_map, gid_map) = (file("/proc/self/uid_map")?, file("/proc/self/gid_map")?);
        let host = Host {
            subuid: &subuid,
            subgid: &subgid,
            passwd: &passwd,
            group: &group,
            uid_map: &uid_map,
            gid_map: &gid_map,
        };
        if geteuid().is_root() {
            let range = Self::for_root(configured, &host)?;
            range.check_own_namespace(&uid_map, &gid_map)?;
            return Ok(range);
        }
        for tool in ["newuidmap", "newgidmap"] {
            process::find(tool).ok_or(IdRangeError::NoTool(tool))?;
        }
        let range = Self::for_user(geteuid().as_raw(), getegid().as_raw(), configured, &host)?;
        range.check_own_namespace(&uid_map, &gid_map)?;
        Ok(range)
    }

    fn for_user(uid: u32, gid: u32, configured: Option<(u32, u32)>, host: &Host) -> Result<Self, IdRangeError> {
        let number = uid.to_string();
        let name = parse_names(host.passwd).into_iter().find(|user| user.start == uid).map(|user| user.owner);
        let user = name.clone().unwrap_or_else(|| number.clone());
        let find = |text: &str, file: &'static str, wanted: Option<u32>| {
            let mut mine =
                parse_subids(text).into_iter().filter(|e| Some(&e.owner) == name.as_ref() || e.owner == number);
            let entry = match wanted {
                Some(start) => mine.find(|e| e.contains(start, COUNT)).map(|_| start),
                None => mine.find(|e| e.count >= COUNT).map(|e| e.start),
            };
            entry.ok_or_else(|| IdRangeError::NoRange { user: user.clone(), file, wanted })
        };
        let uids = find(host.subuid, "/etc/subuid", configured.map(|c| c.0))?;
        let gids = find(host.subgid, "/etc/subgid", configured.map(|c| c.1))?;
        Ok(Self { uids, gids, user: Some((uid, gid)) })
    }

    fn for_root(configured: Option<(u32, u32)>, host: &Host) -> Result<Self, IdRangeError> {
        let is_root = |e: &Owned| e.owner == "root" || e.owner == "0";
        let own = |text| parse_subids(text).into_iter().find(|e| is_root(e) && e.count >= COUNT).map(|e| e.start);
        let (uids, gids) =
            configured.or_else(|| own(host.subuid).zip(own(host.subgid))).unwrap_or_else(|| host.default_starts());
        let check = |start: u32, subids: &str, file: &'static str, names: &str, names_file: &'static str| {
            if start == 0 || start.checked_add(COUNT).is_none() {
                return Err(IdRangeError::Impossible { start });
            }
            let others = parse_subids(subids).into_iter().filter(|e| !is_root(e)).map(|e| (e, file));
            let names = parse_names(names).into_iter().map(|e| (e, names_file));
            match others.chain(names).find(|(e, _)| e.overlaps(start, COUNT)) {
                Some((Owned { owner, .. }, file)) => Err(IdRangeError::Overlap { start, owner, file }),
                None => Ok(()),
            }
        };
        check(uids, host.subuid, "/etc/subuid", host.passwd, "/etc/passwd")?;
        check(gids, host.subgid, "/etc/subgid", host.group, "/etc/group")?;
        Ok(Self { uids, gids, user: None })
    }

    /// Refuses a range that the user namespace this process already lives in (a container's) does not have.
    fn check_own_namespace(&self, uid_map: &str, gid_map: &str) -> Result<(), IdRangeError> {
        for (map, start) in [(uid_map, self.uids), (gid_map, self.gids)] {
            if !parse_map(map).iter().any(|extent| extent.contains(start, COUNT)) {
                return Err(IdRangeError::NotHere { start });
            }
        }
        Ok(())
    }

    /// Returns the host's user id of the range's 0.
    pub fn uid(&self) -> u32 {
        self.uids
    }

    /// Returns the host's group id of the range's 0.
    pub fn gid(&self) -> u32 {
        self.gids
    }

    /// Returns whether root made it, so that folders must be given to the range before it can write to them.
    pub fn is_roots(&self) -> bool {
        self.user.is_none()
    }

    /// Returns the outer map of user ids and of group ids, as the kernel's uid_map files take them.
    fn outer(&self) -> [String; 2] {
        match self.user {
            None => [self.uids, self.gids].map(|start| format!("0 {start} {COUNT}\n")),
            Some((uid, gid)) => [(self.uids, uid), (self.gids, gid)]
                .map(|(start, own)| format!("0 {start} {}\n{} {own} 1\n", COUNT - 1, COUNT - 1)),
        }
    }

    /// Writes the outer maps of a process that has just entered a user namespace of its own.
    pub(super) fn write_outer(&self, pid: Pid) -> Result<(), IdRangeError> {
        let pid = pid.as_raw_nonzero().get();
        let [uids, gids] = self.outer();
        if self.user.is_none() {
            for (name, map) in [("uid_map", uids), ("gid_map", gids)] {
                fs::write(Path::new(&format!("/proc/{pid}/{name}")), map)?;
            }
            return Ok(());
        }
        let write = |tool: &'static str, map: &str| {
            let program = process::find(tool).ok_or(IdRangeError::NoTool(tool))?;
            let mut command = process::command(program);
            command.env_clear().arg(pid.to_string()).args(map.split_whitespace());
            process::run(&mut command).map(drop).map_err(|source| IdRangeError::Tool { tool, source })
        };
        // Both at the same time: neither needs the other's map.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| write("newgidmap", &gids));
            let written = write("newuidmap", &uids);
            let other = other.join().expect("writing a map does not panic");
            written.and(other)
        })?;
        Ok(())
    }
}

/// Returns who has any of the `count` ids from `start`, as subuid(5) says in `text`; each once.
pub fn owners(text: &str, start: u32, count: u32) -> Vec<String> {
    let mut owners: Vec<_> =
        parse_subids(text).into_iter().filter(|e| e.overlaps(start, count)).map(|e| e.owner).collect();
    owners.sort();
    owners.dedup();
    owners
}

/// Writes the inner maps of a process that has just entered a second user namespace.
pub(super) fn write_inner(pid: Pid) -> Result<(), PathError> {
    let pid = pid.as_raw_nonzero().get();
    fs::write(Path::new(&format!("/proc/{pid}/uid_map")), INNER)?;
    fs::write(Path::new(&format!("/proc/{pid}/gid_map")), INNER)
}

/// Returns why the kernel may have refused a user namespace, and the way out, from the settings it has for that.
pub(super) fn explain_refusal(error: &io::Error) -> String {
    let is = |name: &str, value: &str| {
        let text = fs::read_if_exists(Path::new(&format!("/proc/sys/{name}"))).ok().flatten();
        text.is_some_and(|text| text.trim() == value)
    };
    explain(error.raw_os_error(), is)
}

fn explain(errno: Option<i32>, is: impl Fn(&str, &str) -> bool) -> String {
    let enable = |setting: &str, now: &str, set: &str| {
        format!("the setting `{setting}={now}` forbids it; as root: `sysctl -w {setting}={set}`")
    };
    if is("user/max_user_namespaces", "0") {
        enable("user.max_user_namespaces", "0", "15000")
    } else if is("kernel/unprivileged_userns_clone", "0") {
        enable("kernel.unprivileged_userns_clone", "0", "1")
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        enable("kernel.apparmor_restrict_unprivileged_userns", "1", "0")
            + ", or give bindery an AppArmor profile with `userns,`"
    } else if errno == Some(28) {
        "too many user namespaces, or they are nested too deeply; see `user.max_user_namespaces`".to_string()
    } else {
        "the kernel has no user namespaces (CONFIG_USER_NS), or a container around bindery forbids them".to_string()
    }
}

/// There are no subordinate ids to use.
#[derive(Debug, thiserror::Error)]
pub enum IdRangeError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The user has no range.
    #[error(
        "`{user}` has no {COUNT} subordinate ids{} in `{file}`; as root: `usermod --add-subuids 100000-165535 \
         --add-subgids 100000-165535 {user}` (or another range that is nobody's)",
        wanted.map(|start| format!(" from {start}")).unwrap_or_default()
    )]
    NoRange {
        /// The user's name or number.
        user: String,
        /// Where none was found.
        file: &'static str,
        /// The configured start.
        wanted: Option<u32>,
    },
    /// A program is missing.
    #[error("`{0}` is not installed; on Debian: `apt install uidmap`")]
    NoTool(&'static str),
    /// The program that writes maps failed.
    #[error(
        "cannot map the subordinate ids; `{tool}` must be setuid root or have its file capability (on Debian: `apt \
         install --reinstall uidmap`), and its file system not be mounted `nosuid`"
    )]
    Tool {
        /// Which.
        tool: &'static str,
        /// What it said.
        source: ProcessError,
    },
    /// The ids are somebody's.
    #[error(
        "the id range {start} to {} overlaps ids of `{owner}` in `{file}`; choose another start in `bindery.toml`, or \
         give root a range: `usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST root`",
        u64::from(*start) + u64::from(COUNT) - 1
    )]
    Overlap {
        /// The range's first id.
        start: u32,
        /// Whose they are.
        owner: String,
        /// Which file says so.
        file: &'static str,
    },
    /// No range can start there.
    #[error("an id range cannot start at {start}: it needs {COUNT} ids, not host root's")]
    Impossible {
        /// The range's first id.
        start: u32,
    },
    /// The namespace around this process lacks the ids.
    #[error(
        "the user namespace that bindery runs in has no ids {start} to {}: the container around it needs {COUNT} in one \
         piece above its own first {COUNT}, so 131072 of its user's (docs/containers.md)",
        u64::from(*start) + u64::from(COUNT) - 1
    )]
    NotHere {
        /// The range's first id.
        start: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "0 0 4294967295\n";
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";

    fn host<'a>(subuid: &'a str, subgid: &'a str) -> Host<'a> {
        Host { subuid, subgid, passwd: PASSWD, group: "root:x:0:\nann:x:1000:\n", uid_map: WHOLE, gid_map: WHOLE }
    }

    #[test]
    fn a_user_is_found_by_name_or_number_and_ids_may_differ_from_group_ids() {
        let range =
            IdRange::for_user(1000, 1000, None, &host("bob:1:65536\nann:100000:65536\n", "1000:300000:70000\n"));
        let range = range.unwrap();
        assert_eq!((range.uid(), range.gid(), range.is_roots()), (100_000, 300_000, false));
        assert_eq!(range.outer(), ["0 100000 65535\n65535 1000 1\n", "0 300000 65535\n65535 1000 1\n"]);
    }

    #[test]
    fn a_user_without_enough_ids_is_told_the_command() {
        let error = IdRange::for_user(1000, 1000, None, &host("ann:100000:65535\n", "")).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"`ann` has no 65536 subordinate ids in `/etc/subuid`; as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ann` (or another range that is nobody's)");
        let error = IdRange::for_user(1000, 1000, None, &host("ann:1:65536\n", "")).unwrap_err().to_string();
        assert!(error.contains("/etc/subgid"), "{error}");
    }

    #[test]
    fn a_users_configured_start_must_be_the_users() {
        let host = host("ann:100000:200000\n", "ann:100000:200000\n");
        assert_eq!(IdRange::for_user(1000, 1000, Some((165_536, 100_000)), &host).unwrap().uid(), 165_536);
        let error = IdRange::for_user(1000, 1000, Some((250_000, 100_000)), &host).unwrap_err().to_string();
        assert!(error.contains("no 65536 subordinate ids from 250000"), "{error}");
    }

    #[test]
    fn root_takes_the_configured_range_then_its_own_then_the_default() {
        let own = host("root:500000:65536\n", "root:600000:65536\n");
        let starts = |configured, host| IdRange::for_root(configured, host).map(|r| (r.uid(), r.gid())).unwrap();
        assert_eq!(starts(Some((700_000, 800_000)), &own), (700_000, 800_000));
        assert_eq!(starts(None, &own), (500_000, 600_000));
        assert_eq!(starts(None, &host("root:5000:9\n", "")), (0x7000_0000, 0x7000_0000));
        assert_eq!(IdRange::for_root(None, &own).unwrap().outer(), ["0 500000 65536\n", "0 600000 65536\n"]);
    }

    #[test]
    fn a_range_that_is_somebody_elses_is_refused_by_name() {
        let ann = host("ann:100000:65536\n", "ann:100000:65536\n");
        let error = |configured, host: &Host| IdRange::for_root(Some(configured), host).unwrap_err().to_string();
        let text = error((165_535, 300_000), &ann);
        assert!(text.contains("165535 to 231070 overlaps ids of `ann` in `/etc/subuid`"), "{text}");
        assert!(error((300_000, 100_001), &ann).contains("`ann` in `/etc/subgid`"));
        assert!(error((900, 300_000), &ann).contains("`ann` in `/etc/passwd`"));
        assert!(error((300_000, 900), &ann).contains("`ann` in `/etc/group`"));
        assert!(error((0, 1), &ann).contains("not host root's"));
        assert!(error((u32::MAX - 5, 1), &ann).contains("cannot start at"));
    }

    #[test]
    fn a_container_without_the_ids_is_noticed() {
        let range = IdRange { uids: 0x7000_0000, gids: 0x7000_0000, user: None };
        range.check_own_namespace("0 0 4294967295\n", "0 0 4294967295\n").unwrap();
        let error = range.check_own_namespace("0 0 4294967295\n", "0 100000 65536\n").unwrap_err().to_string();
        assert!(error.contains("has no ids 1879048192 to 1879113727"), "{error}");
    }

    #[test]
    fn in_a_container_root_takes_what_is_left_above_its_own_users() {
        let starts = |uid_map, gid_map| Host { uid_map, gid_map, ..host("", "") }.default_starts();
        let whole = "0 0 4294967295\n";
        let rootless = "         0       1000          1\n         1     100000     131072\n";
        let two_ranges = "0 1000 1\n1 100000 65536\n65537 300000 65536\n";
        assert_eq!(starts(whole, rootless), (DEFAULT_START, 65536));
        assert_eq!(starts(two_ranges, "0 100000 65536\n"), (65537, DEFAULT_START));
    }

    #[test]
    fn whoever_shares_the_ids_is_found() {
        let text = "ann:100000:65536\nbob:165535:10\nann:100000:10\neve:165536:65536\n";
        assert_eq!(owners(text, 100_000, COUNT), ["ann", "bob"]);
    }

    #[test]
    fn a_refused_namespace_names_the_setting() {
        let only = |setting: &'static str, value: &'static str| move |s: &str, v: &str| s == setting && v == value;
        assert!(explain(Some(28), only("user/max_user_namespaces", "0")).contains("user.max_user_namespaces=0"));
        assert!(explain(Some(1), only("kernel/unprivileged_userns_clone", "0")).contains("userns_clone=1"));
        let text = explain(Some(1), only("kernel/apparmor_restrict_unprivileged_userns", "1"));
        assert!(text.contains("kernel.apparmor_restrict_unprivileged_userns=0") && text.contains("profile"), "{text}");
        assert!(explain(Some(22), |_, _| false).contains("CONFIG_USER_NS"));
    }
}
