//! Copies layers on top of each other into one folder, as uid 0 of the id range: a root for those who mount no overlay.
//!
//! From the bottom to the top; what a layer has replaces what is there, but folders are merged. As in an overlay, a
//! character device 0:0 stands for what is deleted. Owners, modes, times and hard links are kept. Where the file system
//! shares blocks between files (Btrfs, XFS), nothing is copied but names.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};

use crate::fs::{self, Metadata, PathError};
use crate::layer::pack::{self, PackError};

/// Copies `layers`, the top one first, into the empty folder `into`.
pub(super) fn copy(layers: &[PathBuf], into: &Path) -> Result<(), PackError> {
    if !fs::read_dir(into)?.is_empty() {
        let full = std::io::ErrorKind::DirectoryNotEmpty.into();
        return Err(PathError::on("copy layers into", into)(full).into());
    }
    for layer in layers.iter().rev() {
        copy_layer(layer, into)?;
    }
    Ok(())
}

fn copy_layer(layer: &Path, into: &Path) -> Result<(), PackError> {
    let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut folders = Vec::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        let (from, to) = (layer.join(&path), into.join(&path));
        // The layer itself may be named by a link.
        let metadata = if path.as_os_str().is_empty() { fs::metadata(&from)? } else { fs::symlink_metadata(&from)? };
        let kind = metadata.file_type();
        if !path.as_os_str().is_empty() {
            pack::check_attributes(&from)?;
            let there = fs::symlink_metadata(&to).ok();
            // Only folders are merged: no link that is there is ever followed.
            match there {
                Some(there) if there.is_dir() && !kind.is_dir() => fs::remove_dir_all(&to)?,
                Some(there) if !there.is_dir() => fs::remove_file(&to)?,
                _ => {}
            }
        }
        if is_whiteout(&metadata) {
            continue;
        }
        if kind.is_dir() {
            fs::create_dir_all(&to)?;
            let children = fs::read_dir(&from)?;
            stack.extend(children.iter().filter_map(|child| child.file_name()).map(|name| path.join(name)));
            folders.push((to, metadata));
            continue;
        }
        if kind.is_symlink() {
            fs::symlink(&fs::read_link(&from)?, &to)?;
        } else if kind.is_file() {
            let first = (metadata.nlink() > 1).then(|| first_names.get(&(metadata.dev(), metadata.ino()))).flatten();
            if let Some(first) = first {
                fs::hard_link(first, &to)?;
                continue;
            }
            fs::copy(&from, &to)?;
            first_names.insert((metadata.dev(), metadata.ino()), to.clone());
        } else {
            return Err(PackError::Kind { path: from, fifo: FileType::from_raw_mode(metadata.mode()).is_fifo() });
        }
        finish(&to, &metadata)?;
    }
    // What is created in a folder changes its time.
    folders.iter().rev().try_for_each(|(to, metadata)| finish(to, metadata))
}

fn is_whiteout(metadata: &Metadata) -> bool {
    FileType::from_raw_mode(metadata.mode()).is_char_device() && metadata.rdev() == 0
}

/// Gives a copy owner, mode and time, in this order: chown(2) clears set-user-id.
fn finish(to: &Path, metadata: &Metadata) -> Result<(), PackError> {
    let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| PathError::on("give its owner to", to)(e.into()))?;
    if !metadata.is_symlink() {
        let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
        rustix::fs::chmod(to, mode).map_err(|e| PathError::on("set the mode of", to)(e.into()))?;
    }
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| PathError::on("set the time of", to)(e.into()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_layers_win_and_folders_are_merged() {
        let dir = tempfile::tempdir().unwrap();
        let (low, top, into) = (dir.path().join("low"), dir.path().join("top"), dir.path().join("into"));
        for folder in ["into", "low/a", "low/gone", "top/a", "top/gone"] {
            fs::create_dir_all(&dir.path().join(folder)).unwrap();
        }
        for (file, text) in [("low/a/x", "low"), ("low/a/y", "low"), ("top/a/x", "top"), ("low/file", "low")] {
            fs::write(&dir.path().join(file), text).unwrap();
        }
        fs::remove_dir_all(&top.join("gone")).unwrap();
        fs::write(&top.join("gone"), "a file now").unwrap();
        fs::hard_link(&low.join("file"), &low.join("same")).unwrap();
        fs::symlink(Path::new("/etc"), &low.join("link")).unwrap();
        // A folder in the place of a link: what is in it must not go where the link leads.
        fs::create_dir_all(&top.join("link")).unwrap();
        fs::write(&top.join("link/inside"), "x").unwrap();
        fs::set_mode(&low.join("file"), 0o4711).unwrap();
        copy(&[top, low.clone()], &into).unwrap();
        let text = |path: &str| fs::read_to_string(&into.join(path)).unwrap();
        assert_eq!([text("a/x"), text("a/y"), text("gone"), text("link/inside")], ["top", "low", "a file now", "x"]);
        let meta = |path: &str| fs::symlink_metadata(&into.join(path)).unwrap();
        assert_eq!((meta("file").ino(), meta("file").mode() & 0o7777), (meta("same").ino(), 0o4711));
        assert_eq!(meta("file").mtime_nsec(), fs::metadata(&low.join("file")).unwrap().mtime_nsec());
        assert!(!Path::new("/etc/inside").exists());
    }

    #[test]
    fn a_folder_that_is_not_empty_is_not_copied_into() {
        let dir = tempfile::tempdir().unwrap();
        let low = dir.path().join("low");
        fs::create_dir_all(&low.join("x")).unwrap();
        assert!(copy(std::slice::from_ref(&low), &low).is_err());
    }
}
