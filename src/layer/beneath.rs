//! A folder that paths are looked up in without ever leaving it: openat2(2) with every link refused.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::fs::{FOLDER, File, PathError};

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

    /// Returns what a regular file in a folder below this one holds; nothing where there is none, or something else.
    pub(crate) fn read(&self, folder: &Path, name: &OsStr, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
        let path = folder.join(name);
        let folder = match self.folder(folder) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(self.fail("open", folder)(e)),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(e) => return Err(self.fail("open", &path)(e)),
        };
        if !file.metadata().map_err(self.fail("look at", &path))?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(self.fail("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(self.fail("read", &path)(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        Ok(Some(bytes))
    }

    /// Returns the function that names a path below this folder in an error.
    pub(crate) fn fail<E: Into<io::Error>>(&self, action: &'static str, path: &Path) -> impl FnOnce(E) -> PathError {
        let path = self.path.join(path);
        move |source| PathError { action, path, source: source.into() }
    }
}
