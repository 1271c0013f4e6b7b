//! What the control groups above allow already, and how many processors that comes to.
//!
//! A child's limit never exceeds its parent's, but only below the parent: where the sandbox's group is made elsewhere
//! (v2 as root), what stands above bindery is applied to it by hand. How parallel a build is told to be follows from
//! all of it, too: from quotas (v1 `cpu.cfs_quota_us`, v2 `cpu.max`), cpusets and affinity, never from the number of
//! processors that the machine has.

use std::path::Path;

use crate::fs;
use crate::sandbox::cgroup::hierarchy::{Hierarchy, Host, Version};

/// What all groups above allow together; nothing where none of them limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::sandbox) struct Above {
    /// Processors.
    pub(super) cpus: Option<f64>,
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// Processes and threads.
    pub(super) pids: Option<u64>,
}

impl Host {
    /// Returns what stands above bindery's own groups, them included.
    pub(in crate::sandbox) fn above(&self) -> Above {
        let mut above = Above { cpus: self.cpus_above(), ..Above::default() };
        for dir in self.v2().into_iter().flat_map(Hierarchy::own_and_above) {
            above.memory = least(above.memory, number(dir, "memory.max"));
            above.pids = least(above.pids, number(dir, "pids.max"));
        }
        above
    }

    /// Returns the smallest limit of memory of all groups above, in both versions.
    pub(super) fn memory_above(&self) -> Option<u64> {
        let limits = self.hierarchies.iter().flat_map(|hierarchy| {
            let file = match hierarchy.version {
                Version::V2 => "memory.max",
                Version::V1 => "memory.limit_in_bytes",
            };
            hierarchy.own_and_above().filter_map(move |dir| number(dir, file))
        });
        limits.min()
    }

    /// Returns the smallest quota of processors of all groups above.
    pub(super) fn cpus_above(&self) -> Option<f64> {
        let quotas = self.hierarchies.iter().flat_map(|hierarchy| {
            let quota: fn(&Path) -> Option<f64> = match hierarchy.version {
                Version::V2 => |dir| max(&fs::read_to_string(&dir.join("cpu.max")).ok()?),
                Version::V1 if hierarchy.has("cpu") => {
                    |dir| Some(number(dir, "cpu.cfs_quota_us")? as f64 / number(dir, "cpu.cfs_period_us")? as f64)
                }
                Version::V1 => |_| None,
            };
            hierarchy.own_and_above().filter_map(quota)
        });
        quotas.reduce(f64::min)
    }
}

/// Returns how many processors may be kept busy: the smallest quota, of which a part counts as a whole one, and no more
/// than those that may be run on; at least one.
pub(super) fn processors(allowed: usize, quotas: impl IntoIterator<Item = f64>) -> usize {
    let least = quotas.into_iter().filter(|quota| quota.is_finite()).reduce(f64::min);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    let least = least.map_or(usize::MAX, |quota| quota.ceil() as usize);
    least.min(allowed).max(1)
}

/// Returns how many bytes of memory the machine has (proc(5)).
pub(super) fn machine() -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Reads `cpu.max`: quota and period, or `max`.
fn max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u32>().ok()?, period.parse::<u32>().ok().filter(|period| *period > 0)?);
    Some(f64::from(quota) / f64::from(period))
}

/// Reads a file with one number; none where there is no limit (`max`, or below zero).
fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(&dir.join(file)).ok()?.trim().parse().ok()
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_quota_decides_and_a_part_of_a_processor_is_one() {
        for (allowed, quotas, wanted) in [
            (8, vec![], 8),
            (8, vec![1.5], 2),
            (8, vec![4.0, 1.0, 2.0], 1),
            (8, vec![0.01], 1),
            (2, vec![16.0], 2),
            (0, vec![], 1),
            (4, vec![f64::NAN, f64::INFINITY], 4),
        ] {
            assert_eq!(processors(allowed, quotas.clone()), wanted, "{allowed} {quotas:?}");
        }
    }

    #[test]
    fn quotas_are_read_as_both_versions_write_them() {
        assert_eq!([max("150000 100000\n"), max("max 100000\n"), max("1 0"), max("")], [Some(1.5), None, None, None]);
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("quota"), "-1\n").unwrap();
        fs::write(&dir.path().join("limit"), "4096\n").unwrap();
        assert_eq!((number(dir.path(), "quota"), number(dir.path(), "limit")), (None, Some(4096)));
        assert_eq!(number(dir.path(), "missing"), None);
    }

    #[test]
    fn every_group_above_counts_in_every_hierarchy() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        for (path, text) in [
            ("v2/cpu.max", "max 100000"),
            ("v2/a/cpu.max", "250000 100000"),
            ("v2/a/b/cpu.max", "300000 100000"),
            ("v2/a/memory.max", "1000"),
            ("v2/a/b/memory.max", "max"),
            ("v2/a/b/pids.max", "7"),
            ("v1/cpu.cfs_quota_us", "-1"),
            ("v1/cpu.cfs_period_us", "100000"),
            ("v1/c/cpu.cfs_quota_us", "50000"),
            ("v1/c/cpu.cfs_period_us", "25000"),
        ] {
            fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
            fs::write(&top.join(path), text).unwrap();
        }
        let mounts = format!(
            "1 2 0:1 / {0}/v2 rw - cgroup2 cgroup2 rw\n3 2 0:2 / {0}/v1 rw - cgroup cgroup rw,cpu,cpuacct\n",
            top.display()
        );
        let host = Host::parse(&mounts, "4:cpu,cpuacct:/c\n0::/a/b\n", true, |_| String::new());
        assert_eq!(host.above(), Above { cpus: Some(2.0), memory: Some(1000), pids: Some(7) });
        assert_eq!((host.memory_above(), machine().is_some()), (Some(1000), true));
        let alone = Host::parse(&mounts, "4:cpu,cpuacct:/\n0::/\n", true, |_| String::new());
        assert_eq!(alone.above(), Above::default());
    }
}
