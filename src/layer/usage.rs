//! Measures a folder however deep it is, while others may be writing in it.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::fs::PathError;
use crate::fs::{FOLDER, names};

/// Returns how many bytes of disk a folder and all in it take; a file with several names counts once, what vanishes
/// meanwhile not at all.
pub(super) fn usage(path: &Path) -> Result<u64, PathError> {
    measure(path).map_err(|e| PathError::on("measure", path)(e.into()))
}

/// Goes down by name and up by `..`, with one open folder; `waiting` holds what is still to be seen at each level.
fn measure(path: &Path) -> Result<u64, Errno> {
    let mut at: OwnedFd = rustix::fs::open(path, FOLDER | OFlags::RDONLY, Mode::empty())?;
    let stat = fstat(&at)?;
    let mut total = bytes(&stat);
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut waiting: Vec<(Vec<CString>, (u64, u64))> = vec![(names(&at)?, (stat.st_dev, stat.st_ino))];
    while let Some((entries, _)) = waiting.last_mut() {
        let Some(name) = entries.pop() else {
            waiting.pop();
            if let Some((_, above)) = waiting.last() {
                at = openat(&at, "..", FOLDER | OFlags::RDONLY, Mode::empty())?;
                let stat = fstat(&at)?;
                if (stat.st_dev, stat.st_ino) != *above {
                    // Moved away while we were in it: what is above now is no longer ours to count.
                    return Ok(total);
                }
            }
            continue;
        };
        let stat = match statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)) {
                total += bytes(&stat);
            }
            continue;
        }
        total += bytes(&stat);
        match openat(&at, &name, FOLDER | OFlags::RDONLY, Mode::empty()) {
            Ok(folder) => {
                let stat = fstat(&folder)?;
                waiting.push((names(&folder)?, (stat.st_dev, stat.st_ino)));
                at = folder;
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}

/// Blocks are of 512 bytes whatever the file system's are (stat(2)).
fn bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    #[test]
    fn a_file_with_two_names_counts_once_and_depth_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("a"), vec![1; 1 << 20]).unwrap();
        let one = usage(dir.path()).unwrap();
        assert!(one >= 1 << 20);
        fs::hard_link(&dir.path().join("a"), &dir.path().join("b")).unwrap();
        assert_eq!(usage(dir.path()).unwrap(), one);
        let mut at = rustix::fs::open(dir.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, "deeper", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, "deeper", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        }
        assert!(usage(dir.path()).unwrap() >= one);
        crate::fs::remove_tree(&dir.path().join("deeper")).unwrap();
    }
}
