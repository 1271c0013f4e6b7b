//! The file system that the state lies on, or will: what it is, how much room there is, and what it can do.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, XattrFlags};

use crate::doctor::host::Host;
use crate::doctor::trial;
use crate::doctor::{Check, advice};
use crate::fs::{self, Locked, PathError};
use crate::layer;
use crate::sandbox::IdRange;
use crate::state::State;

/// Below this an image and a build of any size do not fit, in bytes.
const DISK: u64 = 5 << 30;
/// An image has some 15,000 files, a tree of ebuilds 100,000.
const INODES: u64 = 200_000;
/// File systems by the number that statfs(2) gives (linux/magic.h, and the projects' own headers).
const KINDS: [(u32, &str); 17] = [
    (0xef53, "ext4"),
    (0x9123_683e, "btrfs"),
    (0x5846_5342, "xfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
    (0x6969, "NFS"),
    (0x2fc1_2fc1, "ZFS"),
    (0xf15f, "eCryptfs"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x4d44, "FAT"),
    (0x5346_544e, "NTFS"),
];

/// What the names of such folders begin with.
const PREFIX: &str = ".bindery-doctor-";
/// How often one is made that somebody takes for abandoned before it is locked.
const TRIES: u32 = 100;

/// A new folder beside the state, or where that will be; it is removed when this is dropped, and locked until then.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    _lock: Locked,
}

impl Place {
    /// Makes it in the folder of the state, or the nearest above that is there.
    pub(super) fn make(state: &State) -> Result<Self, PathError> {
        let dir = nearest(state);
        for number in 0.. {
            let folder = dir.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match fs::create_dir_new(&folder, 0o755) {
                Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists && number < TRIES => continue,
                made => made?,
            }
            // Or who removes abandoned ones was faster.
            let lock = fs::open(&folder).ok().and_then(|file| Locked::take(file).ok());
            if let Some(lock) = lock.filter(|_| folder.exists()) {
                return Ok(Self { folder, _lock: lock });
            }
        }
        unreachable!("every number is tried")
    }

    /// Returns a new folder in it, for one trial.
    fn part(&self, name: &str) -> Result<PathBuf, PathError> {
        let part = self.folder.join(name);
        fs::create_dir_new(&part, 0o755).map(|()| part)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = remove(&self.folder);
    }
}

fn nearest(state: &State) -> &Path {
    state.state().ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

fn remove(folder: &Path) -> Result<(), PathError> {
    // The kernel's own folder of a trial that was killed has no permission bits.
    let _ = fs::set_mode(&folder.join("overlay/work/work"), 0o700);
    fs::remove_dir_all(folder)
}

/// Removes the folders that were left by a process that was killed; returns how many there were.
pub(super) fn remove_abandoned(state: &State, ids: Option<&IdRange>) -> Result<usize, PathError> {
    let (mut removed, me) = (0, rustix::process::geteuid());
    for folder in fs::read_dir_if_exists(nearest(state))? {
        let named = folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        let ours = |found: &fs::Metadata| found.is_dir() && (me.is_root() || found.uid() == me.as_raw());
        if !named || !fs::symlink_metadata(&folder).as_ref().is_ok_and(ours) {
            continue;
        }
        // One that is locked is at work.
        let Some(lock) = fs::open(&folder).ok().and_then(|file| Locked::take(file).ok()) else { continue };
        match (remove(&folder), ids) {
            (Ok(()), _) => {}
            // What the whole sandbox left belongs to the id range.
            (Err(_), Some(ids)) if layer::clear(ids, &folder).is_ok() => {}
            (Err(e), _) => return Err(e),
        }
        drop(lock);
        removed += 1;
    }
    Ok(removed)
}

pub(super) fn checks(host: &Host, place: &Place, state: &State) -> Vec<Check> {
    let kind = kind(&place.folder);
    let mut checks = vec![flags(place, &kind), overlay(host, place, &kind), id_mapped(host, place, &kind)];
    checks.push(attributes(place, &kind));
    checks.extend(room(place, state));
    checks.push(reflinks(place, &kind));
    checks.push(links(place, state));
    checks.push(loops(host));
    checks
}

fn kind(dir: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(dir) else { return "an unknown file system".to_string() };
    #[expect(clippy::cast_possible_truncation, reason = "these numbers have 32 bits")]
    #[expect(clippy::cast_sign_loss, reason = "some of them are negative where the type is")]
    let number = found.f_type as u32;
    KINDS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_string())
}

fn flags(place: &Place, kind: &str) -> Check {
    const NAME: &str = "state";
    const PURPOSE: &str = "everything: images, packages and roots lie there";
    let dir = place.folder.parent().unwrap_or(Path::new("/")).display();
    let mounted = rustix::fs::statvfs(&place.folder).map(|s| s.f_flag).unwrap_or(StatVfsMountFlags::empty());
    let found = format!("`{dir}` can be written, on {kind}");
    if mounted.contains(StatVfsMountFlags::NOEXEC) {
        let found = format!("`{dir}` is mounted `noexec`: no program in a root could be started");
        return Check::missing(NAME, PURPOSE, found, advice::noexec(&place.folder));
    }
    Check::works(NAME, PURPOSE, found)
}

fn overlay(host: &Host, place: &Place, kind: &str) -> Check {
    const NAME: &str = "overlayfs";
    const PURPOSE: &str = "every root: layers below, what is written above";
    let part = match place.part("overlay") {
        Ok(part) => part,
        Err(error) => return Check::missing(NAME, PURPOSE, crate::process::chain(&error), []),
    };
    match trial::run_in("overlay", &part) {
        Ok(_) => Check::works(NAME, PURPOSE, format!("in a user namespace, on {kind}")),
        Err(refused) => {
            let found = format!("{} (on {kind})", refused.text());
            Check::missing(NAME, PURPOSE, found, advice::overlay(host, kind, refused.errno))
        }
    }
}

fn id_mapped(host: &Host, place: &Place, kind: &str) -> Check {
    const NAME: &str = "id-mapped mounts";
    const PURPOSE: &str = "root only: folders of the host in a root, with the build as their owner";
    match trial::run_in("id-mapped", &place.folder) {
        Ok(_) => Check::works(NAME, PURPOSE, format!("on {kind}")),
        Err(refused) => Check::limited(NAME, PURPOSE, refused.text(), advice::id_mapped(host, kind)),
    }
}

fn attributes(place: &Place, kind: &str) -> Check {
    const NAME: &str = "user attributes";
    const PURPOSE: &str = "every root: overlayfs notes there what a layer hides";
    match rustix::fs::setxattr(&place.folder, "user.bindery", b"1", XattrFlags::empty()) {
        Ok(()) => Check::works(NAME, PURPOSE, format!("on {kind}")),
        Err(e) => {
            Check::missing(NAME, PURPOSE, format!("{} (on {kind})", std::io::Error::from(e)), advice::other_disk())
        }
    }
}

fn room(place: &Place, state: &State) -> Vec<Check> {
    let Ok(found) = rustix::fs::statvfs(&place.folder) else { return Vec::new() };
    let shown = state.state().display();
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let disk = format!("{} GiB free for {shown}", free >> 30);
    let files = format!("{} files more fit into {shown}", found.f_favail);
    const ROOM: &str = "an image takes about 1 GiB, a large build 20";
    const FILES: &str = "an image has some 15,000 files, a tree of ebuilds 100,000";
    vec![
        if free >= DISK {
            Check::works("disk", ROOM, disk)
        } else {
            Check::limited("disk", ROOM, disk, advice::other_disk())
        },
        // Some file systems make them as they go, and say 0.
        if found.f_files == 0 {
            Check::works("inodes", FILES, "as many as there is room for")
        } else if found.f_favail >= INODES {
            Check::works("inodes", FILES, files)
        } else {
            Check::limited("inodes", FILES, files, advice::other_disk())
        },
    ]
}

fn reflinks(place: &Place, kind: &str) -> Check {
    const NAME: &str = "reflinks";
    const PURPOSE: &str = "copies that take no room";
    let clone = || -> Result<(), std::io::Error> {
        let from = place.folder.join("clone-from");
        fs::write(&from, vec![b'x'; 1 << 16]).map_err(|e| e.source)?;
        let from: File = fs::open(&from).map_err(|e| e.source)?;
        let to = fs::create_new(&place.folder.join("clone-to"), 0o600).map_err(|e| e.source)?;
        Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
    };
    match clone() {
        Ok(()) => Check::works(NAME, PURPOSE, format!("on {kind}")),
        Err(e) => Check::limited(NAME, PURPOSE, format!("{e} (on {kind})"), advice::reflinks()),
    }
}

fn links(place: &Place, state: &State) -> Check {
    const NAME: &str = "hard links";
    const PURPOSE: &str = "generations: one file of a package in the pool and in each generation";
    let (from, to) = (place.folder.join("link-from"), place.folder.join("link-to"));
    if let Err(error) = fs::write(&from, "x").and_then(|()| fs::hard_link(&from, &to)) {
        return Check::missing(NAME, PURPOSE, crate::process::chain(&error), advice::other_disk());
    }
    // A pool or a folder of generations that is a mount of its own is out of reach for the other.
    let device = |dir: &Path| fs::metadata(dir).ok().map(|m| std::os::unix::fs::MetadataExt::dev(&m));
    let profiles = fs::read_dir_if_exists(&state.profiles()).unwrap_or_default();
    let apart = profiles.iter().find(|dir| {
        let both = device(&dir.join("pool")).zip(device(&dir.join("generations")));
        both.is_some_and(|(pool, generations)| pool != generations)
    });
    match apart {
        None => Check::works(NAME, PURPOSE, "within the state"),
        Some(dir) => {
            let found = format!("`pool` and `generations` of `{}` are on different file systems", dir.display());
            Check::missing(NAME, PURPOSE, found, advice::one_disk())
        }
    }
}

fn loops(host: &Host) -> Check {
    const NAME: &str = "loop devices";
    const PURPOSE: &str = "root only: a file system of a given size as a limit on disk; else that is watched";
    let opened = rustix::fs::open(
        "/dev/loop-control",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    match opened {
        Ok(_) => Check::works(NAME, PURPOSE, "/dev/loop-control can be opened"),
        Err(e) => Check::limited(
            NAME,
            PURPOSE,
            format!("/dev/loop-control: {}", std::io::Error::from(e)),
            advice::loops(host),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_number_once() {
        for (number, name) in KINDS {
            assert_eq!(KINDS.iter().filter(|(n, _)| *n == number).count(), 1, "{name}");
        }
        assert_eq!(kind(Path::new("/proc")), "0x9fa0");
    }

    #[test]
    fn the_folder_is_beside_the_state_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(&dir.path().join("not/yet/there"));
        let place = Place::make(&state).unwrap();
        assert_eq!(place.folder.parent(), Some(dir.path()));
        fs::create_dir_all(&place.part("overlay").unwrap().join("work/work")).unwrap();
        drop(place);
        assert!(fs::read_dir(dir.path()).unwrap().is_empty());
    }
    #[test]
    fn what_a_killed_doctor_left_is_removed_and_one_at_work_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(&dir.path().join("not/yet/there"));
        let place = Place::make(&state).unwrap();
        let left = dir.path().join(format!("{PREFIX}400001-0"));
        fs::create_dir_all(&left.join("overlay/work/work")).unwrap();
        fs::set_mode(&left.join("overlay/work/work"), 0).unwrap();
        fs::write(&dir.path().join(format!("{PREFIX}file")), "").unwrap();
        assert_eq!(remove_abandoned(&state, None).unwrap(), 1);
        assert!(!left.exists() && place.folder.exists());
        let second = Place::make(&state).unwrap();
        assert_ne!(second.folder, place.folder);
    }
}
