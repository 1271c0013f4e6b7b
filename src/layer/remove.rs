//! Removes a folder however deep it is, with two open folders at a time and no recursion.
//!
//! What has entries of its own is moved up to the top first; so nothing is ever more than one step below the top, and
//! neither the stack nor PATH_MAX is a limit.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::{FOLDER, names};
use crate::fs::PathError;

/// Removes a file or a whole folder; what is not there is no error. Links are removed, never followed.
pub(super) fn remove(path: &Path) -> Result<(), PathError> {
    let fail = |e: Errno| PathError::on("remove", path)(e.into());
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, POSIX EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(fail(e)),
    }
    let top = rustix::fs::open(path, FOLDER | OFlags::RDONLY, Mode::empty()).map_err(fail)?;
    let mut moved = 0_u64;
    loop {
        let entries = names(&top).map_err(fail)?;
        if entries.is_empty() {
            break;
        }
        for name in entries {
            empty(&top, &name, &mut moved).map_err(fail)?;
        }
    }
    rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR).map_err(fail)
}

/// Removes one entry of `top`; what its own entries hold is moved into `top` for later.
fn empty(top: &OwnedFd, name: &CString, moved: &mut u64) -> Result<(), Errno> {
    if !is_folder_after_unlink(top, name)? {
        return Ok(());
    }
    let folder = rustix::fs::openat(top, name, FOLDER | OFlags::RDONLY, Mode::empty())?;
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
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn a_link_is_removed_and_what_it_points_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top, 0o755).unwrap();
        fs::create_dir(&dir.path().join("outside"), 0o755).unwrap();
        fs::write(&dir.path().join("outside/kept"), "x").unwrap();
        fs::symlink(Path::new("../outside"), &top.join("link")).unwrap();
        remove(&top).unwrap();
        assert!(dir.path().join("outside/kept").exists());
        remove(&top).unwrap();
    }
}
