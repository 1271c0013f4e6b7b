//! Ends what a dead supervisor left: processes and control groups that its lease names, and control groups whose lease
//! is gone with its state folder.

use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::fs::{self, PathError};
use crate::sandbox::cgroup;
use crate::state::{self, LeaseRecord, start_time};

/// Types of control group file systems (linux/magic.h).
const CGROUP: [u64; 2] = [0x0027_e0eb, 0x6367_7270];

/// Kills the processes and removes the control groups that a stale lease names. Folders are the caller's to remove,
/// through the id range.
pub fn reap(record: &LeaseRecord) -> Result<(), PathError> {
    for &(pid, started) in &record.processes {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        // The number may be another process's by now. Held by descriptor, it cannot become so between look and kill.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && start_time(pid.as_raw_nonzero().get().unsigned_abs()) == Some(started)
        {
            // It may have ended.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
    // A damaged record must not lead us to remove anything else.
    let is_cgroup = |dir: &std::path::Path| {
        rustix::fs::statfs(dir).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|typ| CGROUP.contains(&typ)))
    };
    record.cgroups.iter().filter(|dir| is_cgroup(dir)).try_for_each(|dir| cgroup::destroy(dir))
}

/// Removes control groups that no lease names any more: empty ones whose name says that their holder is dead. Whatever
/// has a process in it stays, as it may be another process namespace's. Returns their folders.
pub fn reap_groups() -> Result<Vec<PathBuf>, PathError> {
    let mut removed = Vec::new();
    for (dir, prefix) in cgroup::Host::read()?.places() {
        // Unreadable, or not there: then nothing of ours is in it.
        for group in fs::read_dir_if_exists(&dir).unwrap_or_default() {
            let lease = group.file_name().and_then(|name| name.to_str()?.strip_prefix(prefix));
            if lease.is_some_and(state::holder_is_dead) {
                // Of those that ran side by side.
                for below in fs::read_dir_if_exists(&group).unwrap_or_default() {
                    let lease = below.file_name().and_then(|name| name.to_str());
                    if lease.is_some_and(state::holder_is_dead) {
                        remove(below, &mut removed);
                    }
                }
                remove(group, &mut removed);
            }
        }
    }
    Ok(removed)
}

/// Removes a group; the kernel refuses to remove what is in use.
fn remove(group: PathBuf, removed: &mut Vec<PathBuf>) {
    if unlinkat(CWD, &group, AtFlags::REMOVEDIR).is_ok() {
        removed.push(group);
    }
}
