//! Ends what a dead supervisor left: processes and control groups that its lease names.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::fs::PathError;
use crate::sandbox::cgroup;
use crate::sandbox::supervise::start_time;
use crate::state::LeaseRecord;

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
