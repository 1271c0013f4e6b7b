//! Locks on files.

use std::fs::TryLockError;
use std::io;
use std::ops::{Deref, DerefMut};

use super::File;

/// A file with a lock on it (flock(2)), which ends with the value, or with the process.
///
/// Closing the file would not do: a lock belongs to the open file, and a child that another thread is just starting has
/// that open, too, until it becomes its program. For so long the lock would be held by nobody.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Takes the lock alone, if nobody has it.
    pub fn take(file: File) -> Result<Self, TryLockError> {
        file.try_lock().map(|()| Self(file))
    }

    /// Takes the lock alone as soon as nobody has it.
    pub fn wait(file: File) -> io::Result<Self> {
        file.lock().map(|()| Self(file))
    }

    /// Takes the lock together with others who share it, as soon as nobody has it alone.
    pub fn share(file: File) -> io::Result<Self> {
        file.lock_shared().map(|()| Self(file))
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // It fails for no lock of this machine's, and the kernel frees the others when the file is closed.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    #[test]
    fn a_lock_is_free_at_once_though_another_process_has_the_file_open_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Locked::take(fs::open_lock(&path).unwrap()).unwrap();
        // What a child has that is being started.
        let inherited = held.try_clone().unwrap();
        assert!(Locked::take(fs::open_lock(&path).unwrap()).is_err());
        drop(held);
        drop(Locked::take(fs::open_lock(&path).unwrap()).unwrap());
        drop(Locked::share(fs::open_lock(&path).unwrap()).unwrap());
        drop(Locked::wait(fs::open_lock(&path).unwrap()).unwrap());
        drop(inherited);
    }
}
