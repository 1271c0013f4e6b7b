//! Reads the spec's mounts: what is mounted on `/` first, then what is mounted in it, in order.
//!
//! On `/` is either an overlay, or a bind: a folder of the host's that is the root itself and is written to. A layer of
//! the overlay is a name relative to the base folder, or the absolute path of any folder of the host's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::Mount as OciMount;

use crate::sandbox::plan::{Unsupported, absolute};

/// The layers of the root, by names relative to the sandbox's base folder or absolute paths of the host's folders.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::sandbox) struct Overlay {
    /// Top first.
    pub(in crate::sandbox) lower: Vec<String>,
    /// `upperdir` and `workdir`.
    pub(in crate::sandbox) upper: Option<(String, String)>,
    /// All other options.
    pub(in crate::sandbox) options: Vec<String>,
    /// No overlay at all: the only layer, a folder of the host's, is the root and is written to.
    pub(in crate::sandbox) direct: bool,
}

impl Overlay {
    /// Returns the layers that are folders of the host's, with their place among the layers.
    pub(in crate::sandbox) fn host_folders(&self) -> impl Iterator<Item = (usize, &Path)> {
        let all = self.lower.iter().map(Path::new).enumerate();
        all.filter(|(_, layer)| layer.is_absolute())
    }
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
    let is_bind = first.typ().as_deref() == Some("bind");
    if first.destination() != Path::new("/") || (first.typ().as_deref() != Some("overlay") && !is_bind) {
        return Err(Unsupported::missing("mounts: an overlay, or a bind, on `/` as the first"));
    }
    let mounts = rest.iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    for (path, typ) in [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts")] {
        let there = |mount: &Mount| mount.to == Path::new(path) && matches!(&mount.kind, Kind::New(t, _) if t == typ);
        if !mounts.iter().any(there) {
            return Err(Unsupported::missing(&format!("mounts: {typ} on {path}")));
        }
    }
    Ok((if is_bind { direct(first)? } else { overlay(first)? }, mounts))
}

fn direct(mount: &OciMount) -> Result<Overlay, Unsupported> {
    let plain = ["bind", "rw", "nosuid", "nodev", "private"];
    if let Some(option) = mount.options().iter().flatten().find(|option| !plain.contains(&option.as_str())) {
        return Err(Unsupported::value("mounts.options", format!("`{option}` of the root")));
    }
    let folder = absolute(mount.source().clone().unwrap_or_default(), "mounts.source")?;
    let folder = folder.to_str().ok_or_else(|| Unsupported::value("mounts.source", folder.display()))?;
    Ok(Overlay { lower: vec![folder.to_string()], upper: None, options: Vec::new(), direct: true })
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
    // Only layers may be the host's: what is written stays below the base folder.
    let below = |name: &String| plain(name.strip_prefix('/').unwrap_or(name));
    let written = || upper.iter().flat_map(|(upper, work)| [upper, work]).find(|name| !plain(name));
    if let Some(name) = lower.iter().find(|name| !below(name)).or_else(written) {
        return Err(Unsupported::value("mounts.options", format!("the name `{name}` in the overlay")));
    }
    Ok(Overlay { lower, upper, options, direct: false })
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
            // When a file was last read: of new file systems alone, binds have their source's way.
            "relatime" if !bind => {}
            "noatime" if !bind => attributes |= libc::MOUNT_ATTR_NOATIME,
            "strictatime" if !bind => attributes |= libc::MOUNT_ATTR_STRICTATIME,
            "nodiratime" if !bind => attributes |= libc::MOUNT_ATTR_NODIRATIME,
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
