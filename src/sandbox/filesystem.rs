//! A file system of its own for what a root writes: an ext4 in a sparse file, on a loop device. Only root can have one.
//!
//! ```text
//! roots/LEASE/disk      the sparse file
//! roots/LEASE/          the file system in it, mounted over that folder: upper/, work/ and root/ are where they always are
//! ```
//!
//! Nothing of it outlives bindery, however that ends: the mount is in a mount namespace that only bindery and its children
//! are in, the loop device frees itself with its last user (LO_FLAGS_AUTOCLEAR), and the file is in the lease's folder.
//! It is thrown away whole, which takes no time, whatever a build left in it.
//!
//! A project quota would do without device and mount, but hardly any file system is made with it; a loop device is
//! on every host.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};

use crate::fs::{self, File};
use crate::process::{self, chain};
use crate::sandbox::usage::Usage;
use crate::sandbox::{IdRange, sys};

const FILE: &str = "disk";
/// What each inode takes in the file system's tables, which are no part of what a payload may write.
const INODE: u64 = 256;
/// How much more there is than the limit, so that it is seen to be exceeded: ext4 keeps a fiftieth for its own needs, and
/// refuses a little before it is full.
const MORE: u64 = 2 << 20;
const MORE_SHARE: u64 = 40;
/// Likewise in files; ext4 keeps some for itself.
const MORE_FILES: u64 = 64;
/// How often a device may be taken by another between being found free and being taken.
const ATTEMPTS: usize = 16;

thread_local! {
    /// Whether this thread, and so what it starts, is in a mount namespace of bindery's own.
    static APART: Cell<bool> = const { Cell::new(false) };
}

/// Mounts a file system with room for `limit` over a folder, which is there and empty; why that cannot be is a text.
pub(super) fn mount(ids: &IdRange, folder: &Path, limit: Usage) -> Result<(), String> {
    if !ids.is_roots() {
        return Err("only root may mount one".to_string());
    }
    let mkfs = process::find("mkfs.ext4").ok_or("`mkfs.ext4` is missing: install e2fsprogs")?;
    apart().map_err(|e| format!("cannot enter a mount namespace: {e}"))?;
    let path = folder.join(FILE);
    let made = make(ids, &mkfs, &path, limit).and_then(|file| attach(&file, folder));
    if made.is_err() {
        // What stays of it is the lease's to remove.
        let _ = fs::remove_file(&path);
    }
    made
}

/// Takes away what is mounted on a folder, in this namespace; nothing where nothing is.
pub(crate) fn unmount(folder: &Path) {
    if APART.get() {
        // EINVAL: no mount point. Whatever else fails shows when the folder is removed.
        let _ = umount2(folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
}

/// Enters a mount namespace whose mounts nobody else sees; the host's still come here.
fn apart() -> io::Result<()> {
    if APART.get() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount_at(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    APART.set(true);
    Ok(())
}

fn make(ids: &IdRange, mkfs: &Path, path: &Path, limit: Usage) -> Result<File, String> {
    let inodes = limit.files.saturating_add(MORE_FILES);
    let more = inodes.saturating_mul(INODE).saturating_add(limit.bytes / MORE_SHARE).saturating_add(MORE);
    let file = fs::create_new(path, 0o600).map_err(|e| chain(&e))?;
    let length = limit.bytes.saturating_add(more) & !4095;
    file.set_len(length).map_err(|e| format!("cannot size `{}`: {e}", path.display()))?;
    let mut command = process::command(mkfs);
    // No journal: it need not survive the machine. The file is all zero, and so are the inodes.
    command.args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-O", "^has_journal,^resize_inode"]);
    let owner = format!("lazy_itable_init=1,nodiscard,root_owner={}:{}", ids.uid(), ids.gid());
    command.args(["-N", &inodes.to_string(), "-E", &owner]).arg(path);
    process::run(&mut command).map_err(|e| chain(&e))?;
    Ok(file)
}

fn attach(file: &File, folder: &Path) -> Result<(), String> {
    let failed = |what: &'static str| move |e: io::Error| format!("cannot {what}: {e}");
    let open = |path: &str| rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let control = open("/dev/loop-control").map_err(|e| failed("open `/dev/loop-control`")(e.into()))?;
    for _ in 0..ATTEMPTS {
        let number = sys::free_loop_device(&control).map_err(failed("find a free loop device"))?;
        let name = format!("/dev/loop{number}");
        let device = open(&name).map_err(|e| failed("open a loop device")(e.into()))?;
        match sys::attach_loop_device(&device, file.as_fd()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) => continue,
            Err(e) => return Err(failed("attach a loop device")(e)),
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        // What is deleted is given back to the host's disk; the inodes, all zero, need not be written.
        let options = Some("discard,noinit_itable");
        mount_at(Some(name.as_str()), folder, Some("ext4"), flags, options)
            .map_err(|e| failed("mount it")(e.into()))?;
        // What a payload makes may be setuid, and the range's ids own other roots, too.
        return fs::set_mode(folder, 0o700).map_err(|e| chain(&e));
    }
    Err("every free loop device was taken by others".to_string())
}
