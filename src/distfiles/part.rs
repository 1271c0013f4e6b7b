//! A file that is being fetched: hidden below the distfiles until it is known to be right.
//!
//! ```text
//! distfiles/NAME            verified when it was put there
//! distfiles/.part/NAME      being fetched by whoever holds its lock
//! ```

use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fs::{self, Locked, PathError};

/// The folder of parts below the distfiles.
const FOLDER: &str = ".part";

/// How long to wait before looking again whether another process is done with a file.
const WAIT: Duration = Duration::from_millis(50);

/// A file being fetched, locked by this process.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    file: Locked,
}

impl Part {
    /// Takes the part of an archive, waiting for a process that is fetching the same; nothing when cancelled meanwhile.
    pub(super) fn take(distfiles: &Path, name: &str, cancel: &AtomicBool) -> Result<Option<Self>, PathError> {
        let folder = distfiles.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        while !cancel.load(Ordering::Relaxed) {
            let Ok(file) = Locked::take(fs::open_lock(&path)?) else {
                std::thread::sleep(WAIT);
                continue;
            };
            // Whoever had the lock may have put the file in its place or removed it: then the lock is on nothing.
            let ours = file.metadata().map_err(PathError::on("look at", &path))?;
            if fs::symlink_metadata(&path).is_ok_and(|now| now.ino() == ours.ino() && now.dev() == ours.dev()) {
                return Ok(Some(Self { path, file }));
            }
        }
        Ok(None)
    }

    /// Empties the file for another attempt.
    pub(super) fn restart(&mut self) -> Result<(), PathError> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(PathError::on("empty", &self.path))
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        self.file.write_all(bytes).map_err(PathError::on("write", &self.path))
    }

    /// Gives the file, which is complete and right, its name among the distfiles.
    pub(super) fn keep(self, target: &Path) -> Result<(), PathError> {
        fs::set_mode(&self.path, 0o644)?;
        self.file.sync_all().map_err(PathError::on("write", &self.path))?;
        fs::rename(&self.path, target)?;
        fs::sync_dir(target.parent().unwrap_or(Path::new(".")))
    }

    /// Removes the file.
    pub(super) fn discard(self) -> Result<(), PathError> {
        fs::remove_file(&self.path)
    }
}

/// Removes parts that nobody is fetching: what processes left that were killed.
pub fn sweep(distfiles: &Path) -> Result<(), PathError> {
    for path in fs::read_dir_if_exists(&distfiles.join(FOLDER))? {
        // Gone meanwhile, or another user's: neither is in the way.
        let Ok(file) = fs::open(&path) else { continue };
        if let Ok(file) = Locked::take(file) {
            let locked = file.metadata().map_err(PathError::on("look at", &path))?;
            if fs::symlink_metadata(&path).is_ok_and(|now| now.ino() == locked.ino()) {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}
