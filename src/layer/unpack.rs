//! Unpacks a layer's archive into a new folder, as uid 0 of the id range.
//!
//! The order: read a member in full and refuse it ([`super::archive`]); open the folder it goes into without following
//! a link; create it, which must not exist yet; owner, then mode (chown(2) clears set-user-id), then time. The times of
//! folders come last, because what is created in them changes them. At the end the file system is told to write.
//!
//! Nothing is ever replaced, and a folder must come before what is in it. So whatever is found on the way down was
//! created here, and an archive that turns a folder into a link has nothing to turn.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::archive::{Archive, ArchiveError, Kind, Limits, Member};
use super::beneath::Beneath;
use crate::fs::{self, PathError};

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unpacked {
    /// Members.
    pub members: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Unpacks the archive that `reader` yields into `into`, which must not exist yet.
pub(super) fn unpack(reader: impl Read, into: &Path, limits: Limits) -> Result<Unpacked, UnpackError> {
    let mut folder = Filling::new(into)?;
    let mut archive = Archive::new(reader, limits);
    while let Some(member) = archive.next_member()? {
        folder.add(&member, &mut archive)?;
    }
    let root = folder.finish()?;
    rustix::fs::syncfs(root.fd()).map_err(root.fail("write to the disk what is in", Path::new("")))?;
    let (members, bytes) = archive.totals();
    Ok(Unpacked { members, bytes })
}

/// A new folder that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    root: Beneath,
    /// Folders whose times are set at the end.
    folders: Vec<(PathBuf, u64)>,
    /// Archives list a folder's files one after the other: mostly the same folder as before.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Filling {
    /// Makes the folder, which must not exist yet.
    pub(super) fn new(into: &Path) -> Result<Self, PathError> {
        fs::create_dir_new(into, 0o755)?;
        Ok(Self { root: Beneath::open(into)?, folders: Vec::new(), last: None })
    }

    /// Adds a member; `data` yields what a file holds.
    pub(super) fn add(&mut self, member: &Member, data: &mut dyn Read) -> Result<(), UnpackError> {
        if member.kind == Kind::Folder {
            self.folders.push((member.path.clone(), member.mtime));
        }
        let Some(name) = member.path.file_name() else { return finish(&self.root, self.root.fd(), member) };
        let folder = member.path.parent().unwrap_or(Path::new(""));
        if self.last.as_ref().is_none_or(|(path, _)| path != folder) {
            self.last = Some((folder.to_path_buf(), open_folder(&self.root, folder, member)?));
        }
        let (_, parent) = self.last.as_ref().expect("it was set just above");
        create(&self.root, parent, name, member, data)
    }

    /// Adds a whiteout: in an overlay, it hides what lower layers have at that path.
    pub(super) fn whiteout(&mut self, path: &Path) -> Result<(), UnpackError> {
        let (above, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let folder = self.root.folder(above).map_err(self.root.fail("open", above))?;
        // The one device that anybody may make (mknod(2)).
        rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|e| self.root.fail("create the whiteout", path)(e).into())
    }

    /// Returns the folder as it is so far.
    pub(super) fn root(&self) -> &Beneath {
        &self.root
    }

    /// Gives a folder that is there another owner and mode; its time stays.
    pub(super) fn change_folder(&mut self, member: &Member) -> Result<(), UnpackError> {
        let folder = self.root.folder(&member.path).map_err(self.root.fail("open", &member.path))?;
        finish(&self.root, &folder, member)
    }

    /// Removes what is there, folders with all that is in them.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), UnpackError> {
        let folder = self.root.folder(path.parent().unwrap_or(Path::new(""))).map_err(self.root.fail("open", path))?;
        let name = path.file_name().unwrap_or_default();
        fs::remove_in(&folder, name).map_err(self.root.fail("remove", path))?;
        self.folders.retain(|(kept, _)| !kept.starts_with(path));
        self.last = None;
        Ok(())
    }

    /// Sets the folders' times.
    pub(super) fn finish(self) -> Result<Beneath, UnpackError> {
        let root = self.root;
        for (path, mtime) in self.folders.into_iter().rev() {
            let folder = root.folder(&path).map_err(root.fail("open", &path))?;
            rustix::fs::futimens(&folder, &times(mtime)).map_err(root.fail("set the time of", &path))?;
        }
        Ok(root)
    }
}

fn create(
    root: &Beneath,
    parent: &OwnedFd,
    name: &OsStr,
    member: &Member,
    data: &mut dyn Read,
) -> Result<(), UnpackError> {
    let path = &member.path;
    let made = |error: Errno| match error {
        Errno::EXIST => UnpackError::Twice(path.clone()),
        error => root.fail("create", path)(error).into(),
    };
    match &member.kind {
        Kind::Folder => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(made)?;
            let folder = root.folder(path).map_err(root.fail("open", path))?;
            finish(root, &folder, member)
        }
        Kind::File(size) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(made)?;
            let mut file = fs::File::from(file);
            let written = io::copy(data, &mut file).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => ArchiveError::Truncated.into(),
                _ => UnpackError::from(root.fail("write", path)(e)),
            })?;
            if written != *size {
                return Err(ArchiveError::Truncated.into());
            }
            finish(root, &file, member)?;
            Ok(rustix::fs::futimens(&file, &times(member.mtime)).map_err(root.fail("set the time of", path))?)
        }
        Kind::Symlink(target) => {
            rustix::fs::symlinkat(target, parent, name).map_err(made)?;
            let (uid, gid) = (Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)));
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(root.fail("set the owner of", path))?;
            rustix::fs::utimensat(parent, name, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(root.fail("set the time of", path))?;
            Ok(())
        }
        Kind::HardLink(target) => {
            let missing = || UnpackError::Link { path: path.clone(), target: target.clone() };
            let file = target.file_name().ok_or_else(missing)?;
            let from = root.folder(target.parent().unwrap_or(Path::new(""))).map_err(|_| missing())?;
            let stat = rustix::fs::statat(&from, file, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(missing());
            }
            rustix::fs::linkat(&from, file, parent, name, AtFlags::empty()).map_err(made)
        }
    }
}

fn open_folder(root: &Beneath, folder: &Path, member: &Member) -> Result<OwnedFd, UnpackError> {
    root.folder(folder).map_err(|error| match error {
        Errno::NOENT => UnpackError::NoFolder(member.path.clone()),
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => UnpackError::NotAFolder(member.path.clone()),
        error => root.fail("open", folder)(error).into(),
    })
}

fn finish(root: &Beneath, fd: &impl std::os::fd::AsFd, member: &Member) -> Result<(), UnpackError> {
    let path = &member.path;
    let (uid, gid) = (Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)));
    rustix::fs::fchown(fd, uid, gid).map_err(root.fail("set the owner of", path))?;
    for (name, value) in &member.xattrs {
        rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty())
            .map_err(root.fail("set an attribute of", path))?;
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(member.mode)).map_err(root.fail("set the mode of", path))?;
    Ok(())
}

fn times(seconds: u64) -> Timestamps {
    // Checked when the archive was read: below 2^33.
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// An archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The archive itself is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A member is there twice.
    #[error("the archive has the member `{}` twice", .0.display())]
    Twice(PathBuf),
    /// A member without its folder.
    #[error("the archive has the member `{}` before the folder it is in", .0.display())]
    NoFolder(PathBuf),
    /// A member below something that is no folder.
    #[error("the archive puts the member `{}` below something that is a link or a file", .0.display())]
    NotAFolder(PathBuf),
    /// A hard link to nothing that was unpacked.
    #[error("the archive's member `{}` is a hard link to `{}`, which is no file that came before", path.display(), target.display())]
    Link {
        /// The member.
        path: PathBuf,
        /// What it would be another name of.
        target: PathBuf,
    },
}

#[cfg(test)]
mod tests;
