//! What limits several sandboxes together that run side by side: a group above theirs.
//!
//! ```text
//! v2, root          MOUNT/bindery/RUN/LEASE        RUN is the lease that is over all of them
//! v2, anyone else   OWN/bindery-RUN/LEASE
//! v1                OWN/bindery-RUN/LEASE          in the hierarchies of what is limited together, else OWN/bindery-LEASE
//! ```
//!
//! What is used up is limited above, because a quota is there for the host's others: processor time, memory, a share of the
//! disk; and so is how much makes way. What keeps one command from running away (processes), and where it runs, is limited
//! for each sandbox. Groups are made when the first sandbox needs one, also if that runs already.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sandbox::cgroup::hierarchy::{Hierarchy, Version};
use crate::sandbox::cgroup::{CgroupError, Cgroups, Making};
use crate::sandbox::plan::Limits;
use crate::state::{Lease, StateError};

/// What several sandboxes share.
#[derive(Debug)]
pub struct Together(Mutex<Above>);

#[derive(Debug)]
struct Above {
    lease: Lease,
    // Dropped first where it is not closed: then the next command removes the lease.
    groups: Cgroups,
}

impl Together {
    /// Returns what sandboxes share under a lease of their own; nothing is limited yet.
    pub fn new(lease: Lease) -> Self {
        Self(Mutex::new(Above { lease, groups: Cgroups::default() }))
    }

    /// Removes the groups, once all sandboxes are gone, and ends the lease.
    pub fn close(self) -> Result<(), StateError> {
        let Above { lease, mut groups } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        groups.remove();
        lease.release()
    }

    /// Does something to the groups above; `making` is what a sandbox's own are made with.
    pub(super) fn with<T>(
        &self,
        making: &Making<'_>,
        work: impl FnOnce(&mut Cgroups, &mut Making<'_>) -> Result<T, CgroupError>,
    ) -> Result<T, CgroupError> {
        let mut above = self.lock();
        let Above { lease, groups } = &mut *above;
        groups.above = making.host.above();
        let Making { host, kernel, runs, .. } = *making;
        work(groups, &mut Making { lease, host, kernel, together: None, runs })
    }

    // Each step leaves the record as the groups are, whoever panicked beside it.
    fn lock(&self) -> MutexGuard<'_, Above> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a sandbox's group in this hierarchy is below the one above. Not where processors are assigned in v1: a
/// group there has none unless it is told which, and which is each sandbox's own matter.
pub(super) fn nests(hierarchy: &Hierarchy) -> bool {
    let shared = ["cpu", "memory", "blkio"].iter().any(|controller| hierarchy.has(controller));
    hierarchy.version == Version::V2 || (shared && !hierarchy.has("cpuset"))
}

impl Cgroups {
    /// Has the groups above limit something, unless they do already and the command does not run yet: then they say how
    /// much. Returns what they limit now; nothing where the sandbox shares nothing.
    pub(super) fn limit_together(
        &mut self,
        limit: &'static str,
        controller: &'static str,
        making: &mut Making<'_>,
        give: impl FnOnce(&mut Self, &mut Making<'_>) -> Result<(), CgroupError>,
    ) -> Result<Option<Limits>, CgroupError> {
        let Some(together) = making.together else { return Ok(None) };
        let (given, limits) = together.with(making, |groups, above| {
            if above.runs || !groups.given.contains_key(limit) {
                give(groups, above)?;
            }
            Ok((groups.given.get(limit).cloned().unwrap_or_default(), groups.limits.clone()))
        })?;
        // Where it is counted, too.
        self.place(controller, making)?;
        self.given.insert(limit, format!("{given}, with all that runs beside it"));
        Ok(Some(limits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::cgroup::Host;

    #[test]
    fn only_what_is_used_up_is_limited_above_in_v1() {
        let line = |names: &str| format!("1 2 0:1 / /cg/{names} rw - cgroup cgroup rw,{names}\n");
        let names = ["cpu,cpuacct", "memory", "blkio", "pids", "cpuset", "cpu,cpuset"];
        for (names, wanted) in names.into_iter().zip([true, true, true, false, false, false]) {
            let host = Host::parse(&line(names), &format!("1:{names}:/\n"), true, |_| String::new());
            assert_eq!(host.hierarchies.iter().map(nests).collect::<Vec<_>>(), [wanted], "{names}");
        }
        let host = Host::parse("1 2 0:1 / /cg rw - cgroup2 cgroup2 rw\n", "0::/\n", true, |_| "pids".to_string());
        assert!(host.hierarchies.iter().all(nests));
    }
}
