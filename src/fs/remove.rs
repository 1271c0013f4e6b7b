//! Removes a folder however deep it is, with two open folders at a time and no recursion.
//!
//! What has entries of its own is moved up to the top first; so nothing is ever more than one step below the top, and
//! neither the stack nor PATH_MAX is a limit. Nothing that is mounted in it is ever entered: that is an error (EXDEV).

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

use super::PathError;

/// Removes a file or a whole folder; what is not there is no error. Links are removed, never followed. Where the folder
/// above is not the caller's, an empty folder stays.
pub(crate) fn remove_tree(path: &Path) -> Result<(), PathError> {
    let (parent, name) = (path.parent().filter(|dir| !dir.as_os_str().is_empty()), path.file_name());
    let parent = parent.unwrap_or(Path::new("."));
    let removed =
        match (rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()), name) {
            (Err(Errno::NOENT), _) => Ok(()),
            (Ok(parent), Some(name)) => remove_in(parent, name),
            (Ok(_), None) => Err(Errno::INVAL),
            (Err(e), _) => Err(e),
        };
    match removed {
        Err(Errno::ACCESS) if names_at(path).is_ok_and(|names| names.is_empty()) => Ok(()),
        other => other.map_err(|e| PathError::on("remove", path)(e.into())),
    }
}

/// Removes everything in an open folder, which stays.
pub(crate) fn empty_folder(folder: &OwnedFd) -> Result<(), Errno> {
    names(folder)?.iter().try_for_each(|name| remove_in(folder, name.as_c_str()))
}

fn names_at(path: &Path) -> Result<Vec<CString>, Errno> {
    names(&rustix::fs::open(path, FOLDER | OFlags::RDONLY, Mode::empty())?)
}

/// Opens a folder in a folder, unless something is mounted there.
fn open_in(folder: impl AsFd, name: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(&folder, name, FOLDER | OFlags::RDONLY, Mode::empty(), within) {
            // The kernel could not rule out that something was renamed meanwhile, and asks to be asked again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Removes what an open folder has under a name, which is a single one.
pub(crate) fn remove_in(folder: impl AsFd, name: impl Arg + Copy) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, POSIX EPERM; EACCES comes before both where the folder above is not ours.
        Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
        Err(e) => return Err(e),
    }
    let top = open_in(&folder, name)?;
    let mut moved = 0_u64;
    loop {
        let entries = names(&top)?;
        if entries.is_empty() {
            break;
        }
        for name in entries {
            empty(&top, &name, &mut moved)?;
        }
    }
    rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)
}

/// Removes one entry of `top`; what its own entries hold is moved into `top` for later.
fn empty(top: &OwnedFd, name: &CString, moved: &mut u64) -> Result<(), Errno> {
    if !is_folder_after_unlink(top, name)? {
        return Ok(());
    }
    let folder = open_in(top, name)?;
    for child in names(&folder)? {
        if !is_folder_after_unlink(&folder, &child)? {
            continue;
        }
        match rustix::fs::unlinkat(&folder, &child, AtFlags::REMOVEDIR) {
            Ok(()) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        loop {
            *moved += 1;
            match rustix::fs::renameat(&folder, &child, top, format!(".moved-{moved}")) {
                Ok(()) => break,
                // The name is taken: by an earlier, interrupted removal, or by whoever filled the folder.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(e) => return Err(e),
            }
        }
    }
    rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)
}

/// Unlinks a name and returns whether it is a folder, which stays.
fn is_folder_after_unlink(folder: &OwnedFd, name: &CString) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => Ok(true),
        Err(e) => Err(e),
    }
}

/// Flags for opening a folder and nothing else.
pub(crate) const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns the names in an open folder, without `.` and `..`, in the file system's order.
pub(crate) fn names(folder: &OwnedFd) -> Result<Vec<std::ffi::CString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top, 0o755).unwrap();
        fs::write(&top.join("a-file"), "x").unwrap();
        fs::create_dir(&top.join(".moved-1"), 0o755).unwrap();
        fs::write(&top.join(".moved-1/x"), "x").unwrap();
        fs::write(&top.join(".moved-2"), "a name that is taken").unwrap();
        let mut at = rustix::fs::open(&top, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deeper", Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, "deeper", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn a_folder_is_emptied_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(&dir.path().join("a/b")).unwrap();
        fs::write(&dir.path().join("a/b/file"), "x").unwrap();
        fs::symlink(Path::new("/"), &dir.path().join("link")).unwrap();
        empty_folder(&rustix::fs::open(dir.path(), FOLDER | OFlags::RDONLY, Mode::empty()).unwrap()).unwrap();
        assert!(fs::read_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_link_is_removed_and_what_it_points_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top, 0o755).unwrap();
        fs::create_dir(&dir.path().join("outside"), 0o755).unwrap();
        fs::write(&dir.path().join("outside/kept"), "x").unwrap();
        fs::symlink(Path::new("../outside"), &top.join("link")).unwrap();
        remove_tree(&top).unwrap();
        assert!(dir.path().join("outside/kept").exists());
        remove_tree(&top).unwrap();
    }
}
