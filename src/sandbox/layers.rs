//! Folders of the host's as layers of a root: any folder, never changed, with owners that mean something inside.
//!
//! Who owns what is seen in the root, decided by the folder's own owner:
//!
//! ```text
//! the id range                  as it is: what belongs to the range's N belongs to N inside
//! anyone else, started by root  through an id-mapped mount: what belongs to the host's N (below 65536) belongs to N inside
//! anyone else, for a user       refused: nothing in it would have an owner inside
//! ```
//!
//! A folder that is written to must be the range's: a setuid program that a payload leaves behind must not be the host
//! root's. Steps: the supervisor looks at the owners ([`check`]); as root it opens and maps the folders once the outer
//! user namespace has its maps ([`open`]), for anyone else enter opens them ([`open_own`]); init attaches them below the
//! lease's folder, where the overlay finds them ([`attach`]).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, capabilities};

use crate::fs::PathError;
use crate::sandbox::plan::{Overlay, Plan};
use crate::sandbox::step::{Doing, StepError};
use crate::sandbox::{IdRange, idmap, mount, sys};

/// Looks whether every folder of the host's among the layers can have owners inside.
pub(super) fn check(plan: &Plan, ids: &IdRange) -> Result<(), LayerError> {
    for (_, folder) in plan.overlay.host_folders() {
        let (uid, gid) = owner(folder)?;
        let folder = || folder.to_path_buf();
        if has(ids, uid, gid) {
            continue;
        }
        if plan.overlay.direct && !plan.readonly {
            return Err(LayerError::Written { folder: folder(), uid, range: ids.uid() });
        }
        if !maps(ids) {
            return Err(LayerError::Ownerless { folder: folder(), uid, range: ids.uid() });
        }
        if uid >= idmap::COUNT || gid >= idmap::COUNT {
            return Err(LayerError::Strange { folder: folder(), uid, gid, range: ids.uid() });
        }
    }
    Ok(())
}

/// Opens the host's folders among the layers as mounts that are attached nowhere yet, where root can map owners to those
/// of the user namespace that `process` is in. Nothing for anyone else.
pub(super) fn open(overlay: &Overlay, ids: &IdRange, process: Pid) -> Result<Vec<OwnedFd>, StepError> {
    if !maps(ids) {
        return Ok(Vec::new());
    }
    let mut namespace = None;
    let mut open_one = |folder: &Path| {
        // What is mounted below is no part of a layer.
        let tree = open_tree_at(folder, false, overlay.direct)?;
        let stat = statat(&tree, "", AtFlags::EMPTY_PATH).doing(format!("look at `{}`", folder.display()))?;
        if !has(ids, stat.st_uid, stat.st_gid) {
            let what = format!("show the owners of `{}` as the root's", folder.display());
            let namespace = match &namespace {
                Some(namespace) => namespace,
                None => {
                    let path = PathBuf::from(format!("/proc/{}/ns/user", process.as_raw_nonzero()));
                    let opened = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                    namespace.insert(opened.doing(&what)?)
                }
            };
            sys::map_mount_ids(&tree, namespace).map_err(explain).doing(what)?;
        }
        Ok(tree)
    };
    overlay.host_folders().map(|(_, folder)| open_one(folder)).collect()
}

/// Opens the host's folders among the layers, in the mount namespace of the sandbox.
pub(super) fn open_own(overlay: &Overlay) -> Result<Vec<OwnedFd>, StepError> {
    // In a user namespace only whole trees can be cloned.
    overlay.host_folders().map(|(_, folder)| open_tree_at(folder, true, overlay.direct)).collect()
}

/// Attaches the opened folders, which come first in `trees`: the one that is the root itself at the lease's folder, others
/// below it. Returns the layers by the names they have then.
pub(super) fn attach(
    overlay: &Overlay,
    folder: &Path,
    trees: &mut impl Iterator<Item = OwnedFd>,
) -> Result<Overlay, StepError> {
    let mut attached = overlay.clone();
    for (place, host) in overlay.host_folders() {
        let what = format!("mount `{}` as a layer", host.display());
        let tree = trees.next().ok_or_else(|| StepError::refused(&what, "it was not opened"))?;
        let to = if overlay.direct { folder.to_path_buf() } else { folder.join(format!("lower-{place}")) };
        mount::ensure_dir(&to, 0o700)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = openat(CWD, &to, flags, Mode::empty()).doing(&what)?;
        mount::attach(&tree, &at).doing(&what)?;
        let name = to.to_str().ok_or_else(|| StepError::refused(&what, "the lease's folder has an odd name"))?;
        attached.lower[place] = name.to_string();
    }
    Ok(attached)
}

fn open_tree_at(folder: &Path, recursive: bool, written: bool) -> Result<OwnedFd, StepError> {
    let what = format!("open `{}` as a layer", folder.display());
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, folder, flags).doing(&what)?;
    let stat = statat(&tree, "", AtFlags::EMPTY_PATH).doing(&what)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(StepError::refused(what, "it is no folder"));
    }
    // Unlike an overlay of the sandbox's own, the host's file system lets its device nodes be opened.
    let readonly = if written { 0 } else { libc::MOUNT_ATTR_RDONLY };
    let attributes = readonly | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::set_mount_attributes(&tree, attributes, recursive).doing(what)?;
    Ok(tree)
}

/// Whether this process may map a mount's owners: host root, not that of a container without the power.
pub(super) fn maps(ids: &IdRange) -> bool {
    ids.is_roots() && capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn has(ids: &IdRange, uid: u32, gid: u32) -> bool {
    let within = |start: u32, id: u32| (start..start.saturating_add(idmap::COUNT)).contains(&id);
    within(ids.uid(), uid) && within(ids.gid(), gid)
}

fn owner(folder: &Path) -> Result<(u32, u32), PathError> {
    let stat = statat(CWD, folder, AtFlags::SYMLINK_NOFOLLOW);
    let stat = stat.map_err(io::Error::from).map_err(PathError::on("look at", folder))?;
    Ok((stat.st_uid, stat.st_gid))
}

fn explain(error: io::Error) -> io::Error {
    if [libc::EINVAL, libc::EOPNOTSUPP, libc::EPERM].map(Some).contains(&error.raw_os_error()) {
        let why = "its file system cannot map owners (ext4, XFS and Btrfs can, tmpfs from Linux 6.3 on); copy it to one \
                   that can, or give it to the id range";
        return io::Error::other(format!("{why} ({error})"));
    }
    error
}

/// A folder of the host's cannot be a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It cannot be looked at.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It is written to, and its owner is the host's.
    #[error(
        "`{}` belongs to the host's user {uid}, so nothing may write to it from inside: setuid programs left there would \
         be that user's; make the root read-only, have what is written thrown away, or give the folder to the id range \
         (its root is user {range})", folder.display()
    )]
    Written {
        /// Which.
        folder: PathBuf,
        /// Its owner.
        uid: u32,
        /// The first user id of the range.
        range: u32,
    },
    /// An ordinary user cannot map owners.
    #[error(
        "`{}` belongs to user {uid}, whom the sandbox does not have: everything in it would be nobody's; use a folder \
         that was unpacked inside the id range (its root is user {range}), as `mmdebstrap --mode=unshare` does, an \
         image (`bindery image make`), or run as root, where owners are mapped", folder.display()
    )]
    Ownerless {
        /// Which.
        folder: PathBuf,
        /// Its owner.
        uid: u32,
        /// The first user id of the range.
        range: u32,
    },
    /// Neither the host's own nor the range's.
    #[error(
        "`{}` belongs to {uid}:{gid}, which is neither below 65536 nor in the id range from {range} on: some other \
         container's; use a folder of root's or the range's", folder.display()
    )]
    Strange {
        /// Which.
        folder: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// The first user id of the range.
        range: u32,
    },
}
