//! What isolation and limits a sandbox really had: recorded with every build.

use std::collections::BTreeMap;

use oci_spec::runtime::Spec;

use crate::sandbox::IdRange;
use crate::sandbox::cgroup::Cgroups;
use crate::sandbox::disk::Disk;
use crate::sandbox::plan::Plan;
use crate::sandbox::sys;

/// What isolation and limits a sandbox really had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Achieved {
    /// The kernel's release, as uname(2) says it.
    pub kernel: String,
    /// The ids that files in the root belong to, and who mapped them.
    pub ids: IdRange,
    /// What the sandbox had of its own; `user` twice.
    pub namespaces: Vec<String>,
    /// What the command could do, in its own user namespace.
    pub capabilities: Vec<String>,
    /// How many instructions the system call filter has.
    pub seccomp_instructions: usize,
    /// `none` or `host`.
    pub network: String,
    /// Each limit that was asked for, with what gives it.
    pub limits: BTreeMap<String, String>,
    /// The processors that it could run on, where they were fewer than bindery's own.
    #[serde(default)]
    pub cpus: Option<String>,
    /// What runs the programs of each machine that is not this one, where some were to be run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub emulators: BTreeMap<String, String>,
    /// What a sandbox can have and this one had not, with the reason.
    pub not_given: Vec<String>,
}

impl Achieved {
    pub(super) fn new(spec: &Spec, plan: &Plan, ids: &IdRange, cgroups: &Cgroups, disk: &Disk, kernel: String) -> Self {
        let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let mut namespaces: Vec<_> = listed.into_iter().flatten().map(|ns| ns.typ().to_string()).collect();
        namespaces.push("user".to_string());
        namespaces.sort();
        let name = |number: &u8| {
            let all = caps::all();
            all.iter().find(|c| c.index() == *number).map_or_else(|| number.to_string(), ToString::to_string)
        };
        let mut limits = given(cgroups);
        let watched = [
            ("time", plan.limits.time.map(|limit| format!("{} s", limit.as_secs()))),
            ("silence", plan.limits.silence.map(|limit| format!("{} s", limit.as_secs()))),
            ("idle", plan.limits.idle.map(|limit| format!("{} s", limit.as_secs()))),
        ];
        for (limit, how) in watched {
            limits.extend(how.map(|how| (limit.to_string(), format!("{how}, by the supervisor"))));
        }
        limits.extend(disk.how().map(|how| ("disk".to_string(), how)));
        let mut not_given: Vec<_> = disk.not_given().into_iter().collect();
        if plan.host_network {
            not_given.push("network namespace: the host's network was asked for".to_string());
            if !sys::can_scope() {
                not_given
                    .push("abstract Unix sockets of the host in reach: Landlock of Linux 6.12 would help".to_string());
            }
        }
        Self {
            kernel,
            ids: ids.clone(),
            namespaces,
            capabilities: plan.process.capabilities.iter().map(name).collect(),
            seccomp_instructions: plan.process.seccomp.len(),
            network: if plan.host_network { "host" } else { "none" }.to_string(),
            limits,
            cpus: cgroups.cpus.as_ref().map(ToString::to_string),
            emulators: BTreeMap::new(),
            not_given,
        }
    }

    /// Takes the limits as they are now, some of which may have been changed.
    pub(super) fn limits_now(&mut self, cgroups: &Cgroups) {
        self.limits.extend(given(cgroups));
        self.cpus = cgroups.cpus.as_ref().map(ToString::to_string);
    }
}

fn given(cgroups: &Cgroups) -> BTreeMap<String, String> {
    cgroups.given.iter().map(|(limit, how)| ((*limit).to_string(), how.clone())).collect()
}

/// Returns major and minor number of a kernel's release, such as `6.1.0-44-amd64`.
pub(super) fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_two_numbers_that_matter() {
        assert_eq!(
            [version("6.18.44-fc"), version("6.1"), version("7"), version("x")],
            [(6, 18), (6, 1), (7, 0), (0, 0)]
        );
    }
}
