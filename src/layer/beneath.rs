//! A folder that paths are looked up in without ever leaving it: openat2(2) with every link refused.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::fs::{FOLDER, PathError};

/// An open folder.
#[derive(Debug)]
pub(crate) struct Beneath {
    fd: OwnedFd,
    path: PathBuf,
}

impl Beneath {
    /// Opens a folder, which must not be a link itself.
    pub(crate) fn open(path: &Path) -> Result<Self, PathError> {
        let fd = rustix::fs::open(path, FOLDER | OFlags::RDONLY, Mode::empty())
            .map_err(|e| PathError::on("open the folder", path)(e.into()))?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// Returns the folder itself.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Opens a folder below this one. No component may be a link: `ELOOP`; or anything else than a folder: `ENOTDIR`.
    pub(crate) fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        loop {
            match openat2(&self.fd, path, FOLDER | OFlags::RDONLY, Mode::empty(), resolve) {
                // The kernel could not rule out that something was renamed meanwhile, and asks to be asked again.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// Returns the function that names a path below this folder in an error.
    pub(crate) fn fail<E: Into<io::Error>>(&self, action: &'static str, path: &Path) -> impl FnOnce(E) -> PathError {
        let path = self.path.join(path);
        move |source| PathError { action, path, source: source.into() }
    }
}
