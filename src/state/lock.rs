//! A lock file: held by a process, freed by the kernel however that process ends.

use std::fs::TryLockError;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fs::{self, Locked, PathError};

/// How often it is looked whether a lock that is waited for is free: what holds one takes seconds to minutes.
const PAUSE: Duration = Duration::from_millis(100);

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    _file: Locked,
}

impl Lock {
    /// Takes the lock or says which process has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        match Locked::take(fs::open_lock(path)?) {
            Ok(mut file) => {
                let note = PathError::on("write", path);
                (|| {
                    file.set_len(0)?;
                    file.rewind()?;
                    writeln!(file, "{}", std::process::id())
                })()
                .map_err(note)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                // Only for the message: the holder may be about to write it.
                let holder = fs::read_to_string(path).unwrap_or_default();
                Err(LockError::Held { path: path.to_path_buf(), holder: holder.trim().to_string() })
            }
            Err(TryLockError::Error(source)) => Err(PathError::on("lock", path)(source).into()),
        }
    }

    /// Takes the lock as soon as nobody has it; `told`, once, which process has. Nothing when `cancel` is set meanwhile.
    pub fn wait(path: &Path, cancel: &AtomicBool, mut told: impl FnMut(&str)) -> Result<Option<Self>, LockError> {
        let mut waits = false;
        loop {
            match Self::take(path) {
                Ok(lock) => return Ok(Some(lock)),
                Err(LockError::Held { .. }) if cancel.load(Ordering::Relaxed) => return Ok(None),
                Err(LockError::Held { holder, .. }) if !waits => {
                    waits = true;
                    told(&holder);
                }
                Err(LockError::Held { .. }) => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Another process has it.
    #[error("`{}` is locked by process {holder}: another bindery is at work there; wait for it or stop it", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process id that its holder wrote.
        holder: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("locked by process {}", std::process::id())), "{error}");
        drop(first);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn who_waits_is_told_once_for_whom_and_may_give_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let cancel = AtomicBool::new(false);
        let mut first = Lock::wait(&path, &cancel, |_| unreachable!("nobody has it")).unwrap();
        let mut said = Vec::new();
        // The first ends as soon as the second has been told of it.
        let second = Lock::wait(&path, &cancel, |holder| {
            said.push(holder.to_string());
            first = None;
        });
        assert!(second.unwrap().is_some());
        assert_eq!(said, [std::process::id().to_string()]);
        let _held = Lock::take(&path).unwrap();
        assert!(Lock::wait(&path, &cancel, |_| cancel.store(true, Ordering::Relaxed)).unwrap().is_none());
    }
}
