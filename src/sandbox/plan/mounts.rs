//! Reads the spec's mounts: an overlay on `/` first, then what is mounted in it, in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::Mount as OciMount;

use crate::sandbox::plan::{Unsupported, absolute};

/// The layers of the root, by names relative to the sandbox's base folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::sandbox) struct Overlay {
    /// Top first.
    pub(in crate::sandbox) lower: Vec<String>,
    /// `upperdir` and `workdir`.
    pub(in crate::sandbox) upper: Option<(String, String)>,
    /// All other options.
    pub(in crate::sandbox) options: Vec<String>,
}

/// One mount in the root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::sandbox) struct Mount {
    pub(in crate::sandbox) to: PathBuf,
    pub(in crate::sandbox) kind: Kind,
    /// MOUNT_ATTR_* (mount_setattr(2)), for all mounts of a bind that brings several.
    pub(in crate::sandbox) attributes: u64,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::sandbox) enum Kind {
    /// A file or folder of the host.
    Bind(PathBuf),
    /// A new file system of this type, with its own options.
    New(String, Vec<(String, Option<String>)>),
}

/// The options each type of file system takes here.
const OPTIONS: &[(&str, &[&str])] = &[
    ("proc", &[]),
    ("sysfs", &[]),
    ("mqueue", &[]),
    ("tmpfs", &["size", "mode", "nr_inodes", "uid", "gid"]),
    ("devpts", &["newinstance", "ptmxmode", "mode", "gid"]),
];
/// MOUNT_ATTR_NOSYMFOLLOW (linux/mount.h), which the libc crate lacks.
const NOSYMFOLLOW: u64 = 0x0020_0000;
/// Options of an overlay; the first two matter for safety in a user namespace and must be there.
const OVERLAY: &[&str] = &["userxattr", "redirect_dir=nofollow", "volatile"];

/// Returns the root's layers and the mounts in it.
pub(super) fn read(mounts: &[OciMount]) -> Result<(Overlay, Vec<Mount>), Unsupported> {
    let (first, rest) = mounts.split_first().ok_or(Unsupported::missing("mounts"))?;
    if first.destination() != Path::new("/") || first.typ().as_deref() != Some("overlay") {
        return Err(Unsupported::missing("mounts: an overlay on `/` as the first"));
    }
    let mounts = rest.iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    for (path, typ) in [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts")] {
        let there = |mount: &Mount| mount.to == Path::new(path) && matches!(&mount.kind, Kind::New(t, _) if t == typ);
        if !mounts.iter().any(there) {
            return Err(Unsupported::missing(&format!("mounts: {typ} on {path}")));
        }
    }
    Ok((overlay(first)?, mounts))
}

fn overlay(mount: &OciMount) -> Result<Overlay, Unsupported> {
    let mut found = BTreeMap::new();
    let mut options = Vec::new();
    for option in mount.options().iter().flatten() {
        match option.split_once('=') {
            Some((key @ ("lowerdir" | "upperdir" | "workdir"), value)) => {
                found.insert(key, value);
            }
            _ if OVERLAY.contains(&option.as_str()) => options.push(option.clone()),
            _ => return Err(Unsupported::value("mounts.options", format!("`{option}` of the overlay"))),
        }
    }
    if let Some(missing) = OVERLAY[..2].iter().find(|option| !options.iter().any(|o| o == *option)) {
        return Err(Unsupported::missing(&format!("mounts.options: {missing}")));
    }
    let lower = found.remove("lowerdir").ok_or(Unsupported::missing("mounts.options: lowerdir"))?;
    let upper = match (found.remove("upperdir"), found.remove("workdir")) {
        (Some(upper), Some(work)) => Some((upper.to_string(), work.to_string())),
        (None, None) => None,
        _ => return Err(Unsupported::missing("mounts.options: upperdir and workdir")),
    };
    let lower: Vec<_> = lower.split(':').map(str::to_string).collect();
    // The kernel takes backslash, colon and comma for itself; names with `..` could leave the base folder.
    let plain = |name: &str| {
        use std::path::Component::Normal;
        !name.is_empty()
            && !name.contains(['\\', ':', ',', '\0'])
            && Path::new(name).components().all(|c| matches!(c, Normal(_)))
    };
    let names = lower.iter().chain(upper.iter().flat_map(|(upper, work)| [upper, work]));
    if let Some(name) = names.into_iter().find(|name| !plain(name)) {
        return Err(Unsupported::value("mounts.options", format!("the name `{name}` in the overlay")));
    }
    Ok(Overlay { lower, upper, options })
}

fn mount(mount: &OciMount) -> Result<Mount, Unsupported> {
    let to = absolute(mount.destination().clone(), "mounts.destination")?;
    if to == Path::new("/") {
        return Err(Unsupported::value("mounts.destination", "a second mount on `/`"));
    }
    let mut attributes = 0;
    let mut own = Vec::new();
    let mut bind = mount.typ().as_deref() == Some("bind");
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            // Binds always bring what is mounted below; propagation is always private.
            "bind" | "rbind" => bind = true,
            "rw" | "private" | "rprivate" => {}
            "ro" | "rro" => attributes |= libc::MOUNT_ATTR_RDONLY,
            "nosuid" => attributes |= libc::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= libc::MOUNT_ATTR_NODEV,
            "noexec" => attributes |= libc::MOUNT_ATTR_NOEXEC,
            "nosymfollow" => attributes |= NOSYMFOLLOW,
            other => own.push(match other.split_once('=') {
                Some((key, value)) => (key.to_string(), Some(value.to_string())),
                None => (other.to_string(), None),
            }),
        }
    }
    let source = || mount.source().clone().unwrap_or_default();
    let typ = mount.typ().as_deref().unwrap_or_default();
    let allowed = if bind { Some(&[][..]) } else { OPTIONS.iter().find(|(t, _)| *t == typ).map(|(_, o)| *o) };
    let allowed = allowed.ok_or_else(|| Unsupported::value("mounts.type", format!("`{typ}` on {}", to.display())))?;
    if let Some((key, _)) = own.iter().find(|(key, _)| !allowed.contains(&key.as_str())) {
        return Err(Unsupported::value("mounts.options", format!("`{key}` on {}", to.display())));
    }
    let kind = if bind { Kind::Bind(absolute(source(), "mounts.source")?) } else { Kind::New(typ.to_string(), own) };
    Ok(Mount { to, kind, attributes })
}
