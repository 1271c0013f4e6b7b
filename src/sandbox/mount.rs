//! Mounts the root: the overlay, what the plan puts in it, and the covers over parts of /proc; then enters it.
//!
//! The layers may be hostile (an earlier payload wrote them), so no path in the root is ever followed by the kernel on
//! its own: each mount point is resolved below the root without symbolic links, made where it is missing, and mounts are
//! attached to it by descriptor.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, makedev, mkdirat, openat, openat2, statat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::fs;
use crate::sandbox::plan::{Kind, Overlay, Plan};
use crate::sandbox::step::{Doing, StepError};
use crate::sandbox::without::{Mechanism, Without};
use crate::sandbox::{layers, sys};

/// mount(2) takes a page of options.
const MAX_OPTIONS: usize = 4095;
/// What every mount that we add has at least.
const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// Nodes in the root's /dev, bound from the host's: name, major and minor number (admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links in the root's /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Opens the host's files and folders that the plan binds, in order, as mounts that are attached nowhere yet.
pub(super) fn open_binds<P>(plan: &Plan<P>) -> Result<Vec<OwnedFd>, StepError> {
    let binds = plan.mounts.iter().filter_map(|mount| match &mount.kind {
        Kind::Bind(from) => Some((from, mount.attributes)),
        Kind::New(..) => None,
    });
    binds.map(|(from, attributes)| open_bind(from, attributes, &plan.without)).collect()
}

fn open_bind(from: &Path, attributes: u64, without: &Without) -> Result<OwnedFd, StepError> {
    let what = format!("open `{}` to mount it", from.display());
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, without.keeps(Mechanism::SourceResolution));
    let tree = open_tree(CWD, from, flags).doing(&what)?;
    // A link could be exchanged between the caller's look at it and now.
    if file_type(&tree).doing(&what)? == FileType::Symlink {
        return Err(StepError::refused(what, "it is a symbolic link; give the path it points to"));
    }
    let below = without.keeps(Mechanism::RecursiveBinds);
    let private = without.keeps(Mechanism::PrivateBinds);
    sys::change_mount_attributes(&tree, attributes | plain(without), below, private).doing(what)?;
    Ok(tree)
}

/// Returns what every mount that we add has at least.
fn plain(without: &Without) -> u64 {
    let all = [(Mechanism::Nosuid, libc::MOUNT_ATTR_NOSUID), (Mechanism::Nodev, libc::MOUNT_ATTR_NODEV)];
    all.into_iter().filter(|(mechanism, _)| without.keeps(*mechanism)).fold(0, |set, (_, attribute)| set | attribute)
}

/// Mounts the root on `folder`, the lease's, and returns it; `binds` are the host's folders among the layers, and then what
/// is bound. Both `folder` and the overlay's names are relative to the present working folder, so that folders above it
/// need not be passable. A folder of its own to mount it on would take as long as a dozen other steps: on some file
/// systems making and removing one waits for the disk.
pub(super) fn build<P>(plan: &Plan<P>, folder: &Path, binds: Vec<OwnedFd>) -> Result<OwnedFd, StepError> {
    let mut binds = binds.into_iter();
    let layers = layers::attach(&plan.overlay, folder, &mut binds)?;
    if !layers.direct {
        overlay(&layers, folder, &plan.without)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, folder, flags, Mode::empty()).doing("open the root")?;
    for mount in &plan.mounts {
        let what = format!("mount on `{}` in the root", mount.to.display());
        let tree = match &mount.kind {
            Kind::Bind(_) => binds.next().ok_or_else(|| StepError::refused(&what, "its source was not opened"))?,
            Kind::New(typ, options) => {
                // Terminals are devices.
                let plain = plain(&plan.without);
                let plain = if typ == "devpts" { plain & libc::MOUNT_ATTR_NOSUID } else { plain };
                match host_tree(&mount.to, &plan.without) {
                    Some(path) => host(path).doing(&what)?,
                    None => new(typ, options, mount.attributes | plain).map_err(|e| explain(typ, e)).doing(&what)?,
                }
            }
        };
        let is_dir = file_type(&tree).doing(&what)? == FileType::Directory;
        let point = if plan.without.keeps(Mechanism::TargetResolution) {
            resolve(&root, &mount.to, Some(is_dir)).doing(&what)?
        } else {
            follow(&root, &mount.to).doing(&what)?
        };
        attach(&tree, point).doing(what)?;
        if mount.to == Path::new("/dev") && plan.without.keeps(Mechanism::PrivateDev) {
            devices(&resolve(&root, &mount.to, None).doing("open the root's /dev")?, &plan.without)?;
        }
    }
    Ok(root)
}

/// Takes from the root what the payload must not have: the last step before it is entered.
pub(super) fn restrict<P>(plan: &Plan<P>, root: &OwnedFd) -> Result<(), StepError> {
    for path in &plan.masked {
        cover(root, path, true).doing(format!("hide `{}` in the root", path.display()))?;
    }
    for path in &plan.readonly_paths {
        cover(root, path, false).doing(format!("make `{}` in the root read-only", path.display()))?;
    }
    if plan.readonly {
        sys::set_mount_attributes(root, libc::MOUNT_ATTR_RDONLY, false).doing("make the root read-only")?;
    }
    Ok(())
}

/// Writes one of the kernel's settings that belong to a namespace (`/proc/sys`), while the root's are still writable.
pub(super) fn write_setting(root: &OwnedFd, name: &str, value: u64) -> Result<(), StepError> {
    let what = format!("write `{value}` to `/proc/sys/{name}`");
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let file =
        openat2(root, Path::new("/proc/sys").join(name), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), within);
    let written = rustix::io::write(file.doing(&what)?, value.to_string().as_bytes());
    written.map(drop).doing(what)
}

/// Bounds how much of what the kernel counts for the caller (user_namespaces(7), `/proc/sys/user`) may be taken, to a
/// quarter of what a user of the host has.
pub(super) fn write_share(root: &OwnedFd, of: &str, name: &str) -> Result<(), StepError> {
    let what = format!("read `/proc/sys/{of}`");
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let path = Path::new("/proc/sys").join(of);
    let file = match openat2(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), within) {
        // The kernel has no such thing.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        file => file.doing(&what)?,
    };
    let mut text = [0; 32];
    let length = rustix::io::read(file, &mut text).doing(&what)?;
    let number = std::str::from_utf8(&text[..length]).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let number = number.ok_or_else(|| StepError::refused(what, "it is no number"))?;
    write_setting(root, name, (number / 4).max(1))
}

/// Makes `root` the root of this process and everything it starts; the host's is gone.
pub(super) fn enter(root: &OwnedFd, without: &Without) -> Result<(), StepError> {
    fchdir(root)
        .and_then(|()| pivot_root(".", "."))
        .and_then(|()| match without.keeps(Mechanism::OldRootDetached) {
            true => unmount(".", UnmountFlags::DETACH),
            false => Ok(()),
        })
        .and_then(|()| chdir("/"))
        .doing("enter the root")
}

fn overlay(overlay: &Overlay, folder: &Path, without: &Without) -> Result<(), StepError> {
    let (upper, work) = match &overlay.upper {
        Some((upper, work)) => (PathBuf::from(upper), PathBuf::from(work)),
        // A read-only root still needs a place for mount points that are missing in the layers.
        None => (folder.join("upper"), folder.join("work")),
    };
    ensure_dir(&upper, 0o755)?;
    // The kernel refuses one that a volatile mount left, lest its data were lost; here the page cache is still there,
    // and roots do not outlive the machine's restart.
    fs::remove_dir_all(&work).map_err(|e| e.source).doing(format!("empty the folder `{}`", work.display()))?;
    ensure_dir(&work, 0o700)?;
    let mut options = vec![
        format!("lowerdir={}", overlay.lower.join(":")),
        format!("upperdir={}", upper.display()),
        format!("workdir={}", work.display()),
    ];
    let kept = |option: &&String| *option != "userxattr" || without.keeps(Mechanism::Userxattr);
    options.extend(overlay.options.iter().filter(kept).cloned());
    let options = options.join(",");
    let what = format!("mount the root's {} layers", overlay.lower.len());
    if options.len() > MAX_OPTIONS {
        return Err(StepError::refused(what, &format!("their names have {} bytes, {MAX_OPTIONS} fit", options.len())));
    }
    let options = CString::new(options).map_err(|_| io::ErrorKind::InvalidInput).doing(&what)?;
    // The values of these two are the same in both of the kernel's interfaces.
    let flags = MountFlags::from_bits_retain(u32::try_from(plain(without)).unwrap_or(0));
    mount("overlay", folder, "overlay", flags, options.as_c_str()).doing(what)
}

/// Makes a file system that is attached nowhere yet.
pub(super) fn new(typ: &str, options: &[(String, Option<String>)], attributes: u64) -> io::Result<OwnedFd> {
    let context = fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(&context, key.as_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = u32::try_from(attributes).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Says what the kernel's answer means for a /proc: none may show more than those that are there, and container engines
/// cover parts of theirs.
fn explain(typ: &str, error: io::Error) -> io::Error {
    if typ != "proc" || error.raw_os_error() != Some(libc::EPERM) {
        return error;
    }
    io::Error::other(format!(
        "{error}: parts of the /proc around are covered; a container must be started with `--security-opt \
         'unmask=/proc/*'` (Podman) or `--security-opt systempaths=unconfined` (Docker)"
    ))
}

pub(super) fn attach(tree: impl AsFd, point: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", point, "", flags)?)
}

/// Opens `path` below `root` without following any symbolic link. Where `create` says whether a folder or a file is
/// needed, missing folders and the file are made, and the other kind is an error.
fn resolve(root: &OwnedFd, path: &Path, create: Option<bool>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = || loop {
        match openat2(root, path, flags, Mode::empty(), within) {
            // The kernel could not be sure while something was renamed on the machine.
            Err(rustix::io::Errno::AGAIN) => {}
            Err(rustix::io::Errno::LOOP) => {
                return Err(io::Error::other("a symbolic link of the root is in the way"));
            }
            other => return Ok(other?),
        }
    };
    let found = match (open(), create) {
        (Err(e), Some(is_dir)) if e.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(e) };
            let parent = resolve(root, parent, Some(true))?;
            let made = if is_dir {
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))
            } else {
                let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&parent, name, new, Mode::from_raw_mode(0o644)).map(drop)
            };
            made?;
            open()?
        }
        (found, _) => found?,
    };
    match create {
        Some(true) if file_type(&found)? != FileType::Directory => Err(io::ErrorKind::NotADirectory.into()),
        Some(false) if file_type(&found)? == FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Ok(found),
    }
}

/// Covers a path of the root, unless it does not exist, by something empty or by itself read-only.
fn cover(root: &OwnedFd, path: &Path, hide: bool) -> io::Result<()> {
    let point = match resolve(root, path, None) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        point => point?,
    };
    let attributes = PLAIN | libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC;
    let tree = if !hide {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(&point, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
        sys::set_mount_attributes(&tree, attributes, true)?;
        tree
    } else if file_type(&point)? == FileType::Directory {
        new("tmpfs", &[], attributes)?
    } else {
        node("null", 1, 3)?
    };
    attach(tree, point)
}

/// Fills the root's fresh /dev, which nobody else can see yet.
fn devices(dev: &OwnedFd, without: &Without) -> Result<(), StepError> {
    for (name, major, minor) in NODES {
        let what = format!("bind the host's /dev/{name}");
        let point = resolve(dev, &Path::new("/").join(name), Some(false)).doing(&what)?;
        attach(node(name, major, minor).doing(&what)?, point).doing(what)?;
    }
    for (name, to) in LINKS.into_iter().filter(|_| without.keeps(Mechanism::DeviceLinks)) {
        rustix::fs::symlinkat(to, dev, name).doing(format!("link /dev/{name}"))?;
    }
    Ok(())
}

/// Opens a node of the host's /dev as a mount, after a look that it is what its name says.
fn node(name: &str, major: u32, minor: u32) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = open_tree(CWD, Path::new("/dev").join(name), flags)?;
    let stat = statat(&tree, "", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(major, minor) {
        return Err(io::Error::other(format!("it is not the character device {major}:{minor}")));
    }
    sys::set_mount_attributes(&tree, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC, false)?;
    Ok(tree)
}

/// Returns the folder of the host's that stands in for a mount where what makes it the sandbox's own is switched off.
fn host_tree(to: &Path, without: &Without) -> Option<&'static str> {
    let all = [(Mechanism::PrivateDev, "/dev"), (Mechanism::PidNamespace, "/proc")];
    all.into_iter().find(|(mechanism, path)| to == Path::new(path) && !without.keeps(*mechanism)).map(|(_, path)| path)
}

fn host(path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// Opens a mount point as whoever has not heard of hostile roots.
fn follow(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    // It may be there.
    let _ = mkdirat(root, relative, Mode::from_raw_mode(0o755));
    Ok(openat(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

pub(super) fn ensure_dir(dir: &Path, mode: u32) -> Result<(), StepError> {
    match mkdirat(CWD, dir, Mode::from_raw_mode(mode)) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => made.doing(format!("create the folder `{}`", dir.display())),
    }
}

fn file_type(fd: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(statat(fd, "", AtFlags::EMPTY_PATH)?.st_mode))
}
