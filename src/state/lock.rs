//! A lock file: held by a process, freed by the kernel however that process ends.

use std::fs::TryLockError;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::fs::{self, File, PathError};

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock or says which process has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut file = fs::open_lock(path)?;
        match file.try_lock() {
            Ok(()) => {
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
                let mut holder = String::new();
                // Only for the message: the holder may be about to write it.
                let _ = file.read_to_string(&mut holder);
                Err(LockError::Held { path: path.to_path_buf(), holder: holder.trim().to_string() })
            }
            Err(TryLockError::Error(source)) => Err(PathError::on("lock", path)(source).into()),
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
}
