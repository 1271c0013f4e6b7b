//! What the host is: kernel, distribution, whether there is a container around bindery, and which settings stand in the
//! way. Everything here is read; the rest is tried.

use std::path::{Path, PathBuf};

use crate::doctor::{Check, advice};
use crate::fs;

/// The oldest kernel with everything that sandboxes need: Debian 12's.
const FLOOR: (u32, u32) = (6, 1);
/// Before this (2026-01-01, in seconds) bindery did not exist: such a clock was never set.
const EARLIEST: u64 = 1_767_225_600;
/// Mounts below /proc that do not hide anything: an automatic mount point and what comes there.
const HARMLESS: &str = "/proc/sys/fs/binfmt_misc";

/// A family of distributions, whose packages have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distribution {
    Debian,
    Fedora,
    Arch,
    Gentoo,
    Other,
}

/// What made the container around bindery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Container {
    Podman,
    Docker,
    /// Known only by what it takes away, or by the name it gives.
    Other(String),
}

/// The facts.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) root: bool,
    pub(super) kernel: (u32, u32),
    pub(super) release: String,
    pub(super) distribution: Distribution,
    pub(super) container: Option<Container>,
    /// Paths below /proc that something is mounted on.
    pub(super) covered: Vec<String>,
    /// Whether a seccomp filter is on this process already.
    pub(super) filtered: bool,
    /// Whether setuid programs have no effect for this process.
    pub(super) no_new_privileges: bool,
    /// This program, as AppArmor names it.
    pub(super) program: PathBuf,
}

impl Host {
    pub(super) fn read() -> Self {
        let text = |path: &str| fs::read_if_exists(Path::new(path)).ok().flatten().unwrap_or_default();
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let status = text("/proc/self/status");
        let exists = |path: &str| Path::new(path).exists();
        let filtered = field(&status, "Seccomp") == Some("2");
        let whole = text("/proc/self/uid_map").split_whitespace().eq(["0", "0", "4294967295"]);
        let mountinfo = text("/proc/self/mountinfo");
        let covered = covered(&mountinfo);
        // The root of a virtual machine may have been made from a container's and still have its mark.
        let marks = filtered || !whole || stacked(&mountinfo);
        let container = if exists("/run/.containerenv") {
            Some(Container::Podman)
        } else if exists("/.dockerenv") && marks {
            Some(Container::Docker)
        } else {
            let name = text("/run/host/container-manager");
            let unknown = filtered || !whole;
            (unknown || !name.is_empty()).then(|| Container::Other(name.trim().to_string()))
        };
        Self {
            root: rustix::process::geteuid().is_root(),
            kernel: version(&release),
            distribution: distribution(&text("/etc/os-release")),
            covered,
            container,
            filtered,
            no_new_privileges: field(&status, "NoNewPrivs") == Some("1"),
            program: fs::canonicalize(Path::new("/proc/self/exe")).unwrap_or_else(|_| "/usr/local/bin/bindery".into()),
            release,
        }
    }

    /// Returns whether a setting of the kernel (`/proc/sys/NAME`) has a value.
    pub(super) fn setting(name: &str) -> Option<String> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::read_if_exists(&path).ok().flatten().map(|text| text.trim().to_string())
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        vec![self.kernel(), self.around(), clock()]
    }

    fn kernel(&self) -> Check {
        const PURPOSE: &str = "every sandbox";
        if self.kernel >= FLOOR {
            return Check::works("kernel", PURPOSE, &self.release);
        }
        let mend = format!("bindery needs Linux {}.{} or later", FLOOR.0, FLOOR.1);
        Check::missing("kernel", PURPOSE, &self.release, [mend])
    }

    fn around(&self) -> Check {
        const PURPOSE: &str = "knowing whose rules apply: a container around bindery may forbid what the kernel can do";
        let found = match &self.container {
            None => "no container around bindery".to_string(),
            Some(Container::Podman) => "inside a Podman container".to_string(),
            Some(Container::Docker) => "inside a Docker container".to_string(),
            Some(Container::Other(name)) if name.is_empty() => "inside a container or another sandbox".to_string(),
            Some(Container::Other(name)) => format!("inside a container of `{name}`"),
        };
        Check::works("surroundings", PURPOSE, found)
    }
}

fn clock() -> Check {
    const PURPOSE: &str = "certificates of servers, signatures, and which build is the newest";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let found = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(now));
    if now >= EARLIEST {
        return Check::works("time", PURPOSE, found.to_string());
    }
    Check::limited("time", PURPOSE, format!("{found}, which is too early"), advice::clock())
}

/// Returns major and minor number of a kernel's release, such as `6.1.0-44-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Returns the value of a line `NAME:\tVALUE` (proc_pid_status(5)).
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Returns the family that os-release(5) tells of.
fn distribution(text: &str) -> Distribution {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_string()
    };
    let names = format!("{} {}", value("ID"), value("ID_LIKE"));
    for name in names.split_whitespace() {
        match name {
            "debian" | "ubuntu" => return Distribution::Debian,
            "fedora" | "rhel" | "centos" => return Distribution::Fedora,
            "arch" => return Distribution::Arch,
            "gentoo" => return Distribution::Gentoo,
            _ => {}
        }
    }
    Distribution::Other
}

/// Returns the paths below /proc that something is mounted on (proc_pid_mountinfo(5)).
fn covered(mountinfo: &str) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<_> =
        points.filter(|point| point.starts_with("/proc/") && *point != HARMLESS).map(str::to_string).collect();
    points.sort();
    points.dedup();
    points
}

/// Returns whether the root is an overlay, as engines make it for containers.
fn stacked(mountinfo: &str) -> bool {
    let mut roots = mountinfo.lines().filter(|line| line.split(' ').nth(4) == Some("/"));
    roots.next_back().is_some_and(|line| line.contains(" - overlay ") || line.contains(" - fuse.fuse-overlayfs "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_by_name_or_likeness() {
        assert_eq!(distribution("NAME=x\nID=ubuntu\nID_LIKE=debian\n"), Distribution::Debian);
        assert_eq!(distribution("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Distribution::Fedora);
        assert_eq!(distribution("ID=manjaro\nID_LIKE=arch\n"), Distribution::Arch);
        assert_eq!(distribution("ID='gentoo'\n"), Distribution::Gentoo);
        assert_eq!(distribution(""), Distribution::Other);
    }

    #[test]
    fn what_covers_parts_of_proc_is_found() {
        let mounts = "\
22 1 0:21 / /proc rw - proc proc rw
23 22 0:22 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw
24 22 0:23 / /proc/kcore rw - tmpfs tmpfs rw
25 22 0:24 / /proc/acpi ro - tmpfs tmpfs ro
26 22 0:24 / /proc/acpi ro - tmpfs tmpfs ro
27 1 0:25 / /process rw - tmpfs tmpfs rw
";
        assert_eq!(covered(mounts), ["/proc/acpi", "/proc/kcore"]);
        assert!(covered("garbage\n\n").is_empty());
        assert!(!stacked(mounts) && stacked("1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / / rw - overlay overlay rw\n"));
    }

    #[test]
    fn fields_of_a_status_are_found_by_their_whole_name() {
        let status = "Name:\tx\nSeccomp_filters:\t1\nSeccomp:\t2\nNoNewPrivs:\t0\n";
        assert_eq!(
            (field(status, "Seccomp"), field(status, "NoNewPrivs"), field(status, "No")),
            (Some("2"), Some("0"), None)
        );
    }
}
