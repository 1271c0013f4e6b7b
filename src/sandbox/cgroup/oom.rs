//! Which process the kernel killed for want of memory.
//!
//! The kernel says so in its log, which root may read: one line names the victim's control group, name and process id.
//! Where the log cannot be read, whoever is near its limit is noted a few times a second, and the largest of those that
//! are gone when the count of kills has grown is taken for the victim.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::fs;

/// A process that the kernel killed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Killed {
    /// Its program's name, as it calls itself: at most 15 characters.
    pub name: String,
    /// Its process id on the host.
    pub pid: u32,
}

/// How many lines of the log are read at most.
const LINES: usize = 1 << 18;
/// A record of the log has at most so many bytes (PRINTK_MESSAGE_MAX with its prefix).
const RECORD: usize = 8192;

/// Opens the kernel's log, if this process may.
fn open_log() -> Option<std::os::fd::OwnedFd> {
    rustix::fs::open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Returns the processes of a group that the kernel's log says were killed, oldest first.
pub(super) fn from_log(group: &Path) -> Vec<Killed> {
    let (Some(log), Some(name)) = (open_log(), group.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut record = [0; RECORD];
    for _ in 0..LINES {
        match rustix::io::read(&log, &mut record) {
            Ok(length) => found.extend(victim(&String::from_utf8_lossy(&record[..length]), name)),
            // It was overwritten while it was read: the next is a later one.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    found
}

/// Reads a line of `dump_oom_victim` (mm/oom_kill.c), if it is about the group of that name.
fn victim(record: &str, group: &str) -> Option<Killed> {
    let line = record.split_once(";oom-kill:constraint=CONSTRAINT_MEMCG,")?.1.lines().next()?;
    let (memcg, rest) = line.split_once(",task_memcg=")?.1.split_once(",task=")?;
    // The name may hold commas; what follows it may not.
    let (name, rest) = rest.rsplit_once(",pid=")?;
    let pid = rest.split_once(",uid=")?.0.parse().ok()?;
    let name = name.chars().flat_map(char::escape_debug).collect();
    (memcg.rsplit('/').next() == Some(group)).then_some(Killed { name, pid })
}

/// Those who may be killed next, for hosts whose log cannot be read.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    kills: u64,
    known: BTreeMap<u32, (String, u64)>,
    found: Vec<Killed>,
}

impl Suspects {
    /// Returns whether there is need of them.
    pub(super) fn needed() -> bool {
        open_log().is_none()
    }

    /// Takes the group's count of kills and its processes as they are now: id, name and pages.
    pub(super) fn look(&mut self, kills: u64, present: BTreeMap<u32, (String, u64)>) {
        let gone = self.known.iter().filter(|(pid, _)| !present.contains_key(pid));
        if kills > self.kills
            && let Some((pid, (name, _))) = gone.max_by_key(|(_, (_, pages))| *pages)
        {
            self.found.push(Killed { name: name.clone(), pid: *pid });
        }
        self.kills = kills;
        self.known = present;
    }

    /// Returns those that were most probably killed.
    pub(super) fn found(&self) -> &[Killed] {
        &self.found
    }
}

/// Returns the processes of a group: id, name and resident pages.
pub(super) fn processes(group: &Path) -> BTreeMap<u32, (String, u64)> {
    let list = fs::read_to_string(&group.join("cgroup.procs")).unwrap_or_default();
    let each = list.lines().filter_map(|line| {
        let pid: u32 = line.parse().ok()?;
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let name = fs::read(&dir.join("comm")).ok()?;
        let name = String::from_utf8_lossy(&name).trim_end().chars().flat_map(char::escape_debug).collect();
        let pages = fs::read_to_string(&dir.join("statm")).ok()?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, (name, pages)))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_victim_is_named_in_the_log() {
        let line = "4,1043,13586908335,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
                    oom_memcg=/a/bindery-6b-7-1,task_memcg=/a/bindery-6b-7-1,task=cc1plus,pid=26611,uid=1879048192\n";
        assert_eq!(victim(line, "bindery-6b-7-1"), Some(Killed { name: "cc1plus".into(), pid: 26611 }));
        assert_eq!(victim(line, "bindery-6b-7-2"), None);
        let odd = line.replace("cc1plus", "a,pid=1,\u{1b}[m");
        assert_eq!(victim(&odd, "bindery-6b-7-1"), Some(Killed { name: "a,pid=1,\\u{1b}[m".into(), pid: 26611 }));
        for cut in (0..line.len()).step_by(7) {
            victim(&line[..cut], "bindery-6b-7-1");
        }
    }

    #[test]
    fn the_largest_that_is_gone_is_suspected() {
        let process = |name: &str, pages| (name.to_string(), pages);
        let before = BTreeMap::from([(1, process("make", 10)), (2, process("cc1", 900)), (3, process("as", 20))]);
        let after = BTreeMap::from([(1, process("make", 10))]);
        let mut suspects = Suspects::default();
        suspects.look(0, before.clone());
        suspects.look(0, after.clone());
        assert_eq!(suspects.found(), []);
        suspects.look(0, before);
        suspects.look(1, after);
        assert_eq!(suspects.found(), [Killed { name: "cc1".into(), pid: 2 }]);
    }
}
