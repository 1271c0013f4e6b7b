//! File operations whose errors carry the path and say what was tried.
//!
//! Everything else in bindery uses these instead of `std::fs` (clippy enforces it), so that no message ever reads
//! "No such file or directory" without naming one. Publishing goes through [`write_atomic`] and [`replace_symlink`]:
//! write beside, fsync, rename, fsync the folder. What is written beside ([`NEW`]) is locked by its writer from before it
//! has a name, so that [`remove_abandoned`] tells what a process left that was killed.

#![expect(clippy::disallowed_methods, reason = "this is where they are wrapped")]

use std::fs as sys;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

mod locked;
mod remove;

pub use locked::Locked;
pub(crate) use remove::{FOLDER, empty_folder, names, remove_in, remove_tree};
pub use std::fs::{File, Metadata};

/// Returns the bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, PathError> {
    sys::read(path).map_err(PathError::on("read", path))
}

/// Returns the text of a file; text that is not UTF-8 is an error.
pub fn read_to_string(path: &Path) -> Result<String, PathError> {
    sys::read_to_string(path).map_err(PathError::on("read", path))
}

/// Returns the text of a file, or nothing where there is no such file.
pub fn read_if_exists(path: &Path) -> Result<Option<String>, PathError> {
    match sys::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(PathError::on("read", path)(e)),
    }
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File, PathError> {
    File::open(path).map_err(PathError::on("open", path))
}

/// Creates a file that must not exist yet, with the permission bits `mode`.
pub fn create_new(path: &Path, mode: u32) -> Result<File, PathError> {
    sys::OpenOptions::new()
        .write(true)
        .read(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(PathError::on("create", path))
}

/// Opens a file for appending, creating it with the permission bits `mode`.
pub fn append(path: &Path, mode: u32) -> Result<File, PathError> {
    sys::OpenOptions::new().append(true).create(true).mode(mode).open(path).map_err(PathError::on("open", path))
}

/// Opens a file to hold a lock on: created when missing, never truncated.
pub fn open_lock(path: &Path) -> Result<File, PathError> {
    sys::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(PathError::on("open", path))
}

/// Writes a file in place, without any promise should the machine stop: for scratch files only.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), PathError> {
    sys::write(path, bytes).map_err(PathError::on("write", path))
}

/// What the names of files begin with that are not in their place yet.
pub const NEW: &str = ".new-";
/// What the names of links begin with that are not in their place yet; the rest is their writer's process id and a number.
const NEW_LINK: &str = ".new-link-";

/// Writes a file so that a reader, or a machine that stops at any moment, sees the old content or the new one.
pub fn write_atomic(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> Result<(), PathError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |e| PathError::on("write", path)(e);
    let write = |mut file: &File| {
        file.write_all(bytes.as_ref())?;
        file.set_permissions(sys::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(NEW).permissions(sys::Permissions::from_mode(mode));
    match unnamed(dir, mode).map_err(PathError::on("write a file in", dir))? {
        Some(file) => {
            write(&file).map_err(failed)?;
            let named = builder.make_in(dir, |new| name(&file, new)).map_err(PathError::on("write a file in", dir))?;
            named.persist(path).map_err(|e| failed(e.error))?;
        }
        None => {
            let file = builder.tempfile_in(dir).map_err(PathError::on("write a file in", dir))?;
            file.as_file().lock().map_err(failed)?;
            // Not through the wrapper, whose errors name the temporary file.
            write(file.as_file()).map_err(failed)?;
            file.persist(path).map_err(|e| failed(e.error))?;
        }
    }
    sync_dir(dir)
}

/// Writes a file that must not exist yet, so that a reader, or a machine that stops at any moment, sees nothing or all of
/// it.
pub fn write_new(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> Result<(), PathError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let Some(mut file) = unnamed(dir, mode)? else {
            let mut new = tempfile::Builder::new().prefix(NEW).tempfile_in(dir)?;
            new.as_file().lock()?;
            new.as_file_mut().write_all(bytes.as_ref())?;
            new.as_file().set_permissions(sys::Permissions::from_mode(mode))?;
            new.as_file().sync_all()?;
            return new.persist_noclobber(path).map(drop).map_err(|e| e.error);
        };
        file.write_all(bytes.as_ref())?;
        file.set_permissions(sys::Permissions::from_mode(mode))?;
        file.sync_all()?;
        name(&file, path)
    };
    write().map_err(PathError::on("create", path))?;
    sync_dir(dir)
}

/// Makes a file that has no name yet, and so is gone with this process, and locks it; nothing where the file system has
/// no such files.
fn unnamed(dir: &Path, mode: u32) -> io::Result<Option<File>> {
    let flags = nix::libc::O_TMPFILE;
    match sys::OpenOptions::new().read(true).write(true).mode(mode).custom_flags(flags).open(dir) {
        Ok(file) => {
            file.lock()?;
            Ok(Some(file))
        }
        // A file system or a kernel without them (open(2)).
        Err(e) if [nix::libc::EOPNOTSUPP, nix::libc::EISDIR].map(Some).contains(&e.raw_os_error()) => Ok(None),
        Err(e) => Err(e),
    }
}

fn name(file: &File, path: &Path) -> io::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    Ok(rustix::fs::linkat(rustix::fs::CWD, unnamed, rustix::fs::CWD, path, follow)?)
}

/// Removes the temporary files of [`write_atomic`], [`write_new`] and [`replace_symlink`] in a folder that nobody is
/// writing any more; returns how many there were. A folder that is not there has none.
pub fn remove_abandoned(dir: &Path) -> Result<usize, PathError> {
    let mut removed = 0;
    for path in read_dir_if_exists(dir)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with(NEW)) else {
            continue;
        };
        let abandoned = match symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let pid = name.strip_prefix(NEW_LINK).and_then(|rest| rest.split('-').next());
                pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
            }
            // Locked by another: it is being written. Gone meanwhile: it is in its place.
            Ok(found) if found.is_file() => open_regular(&path).is_ok_and(|file| Locked::take(file).is_ok()),
            _ => false,
        };
        if abandoned {
            remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Makes `link` a symbolic link to `target`, replacing an earlier one by one rename.
pub fn replace_symlink(target: &Path, link: &Path) -> Result<(), PathError> {
    // Two threads may do so at once.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let dir = link.parent().unwrap_or(Path::new("."));
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = dir.join(format!("{NEW_LINK}{}-{number}", std::process::id()));
    match sys::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(PathError::on("remove", &new)(e)),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &new).map_err(PathError::on("create the link", &new))?;
    rename(&new, link)?;
    sync_dir(dir)
}

/// Creates a symbolic link.
pub fn symlink(target: &Path, link: &Path) -> Result<(), PathError> {
    std::os::unix::fs::symlink(target, link).map_err(PathError::on("create the link", link))
}

/// Returns where a symbolic link points.
pub fn read_link(path: &Path) -> Result<PathBuf, PathError> {
    sys::read_link(path).map_err(PathError::on("read the link", path))
}

/// Writes a folder's entries through to the disk.
pub fn sync_dir(dir: &Path) -> Result<(), PathError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(PathError::on("sync the folder", dir))
}

/// Creates a folder and the missing ones above it, all with mode 0755 whatever the umask, because roots are entered by
/// user ids that own nothing above them.
pub fn create_dir_all(dir: &Path) -> Result<(), PathError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
    for dir in missing.into_iter().rev() {
        create_dir(dir, 0o755)?;
    }
    Ok(())
}

/// Creates one folder with exactly the permission bits `mode`; one that exists already is left as it is.
pub fn create_dir(dir: &Path, mode: u32) -> Result<(), PathError> {
    match sys::DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => set_mode(dir, mode),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(PathError::on("create the folder", dir)(e)),
    }
}

/// Creates one folder that must not exist yet.
pub fn create_dir_new(dir: &Path, mode: u32) -> Result<(), PathError> {
    sys::DirBuilder::new().mode(mode).create(dir).map_err(PathError::on("create the folder", dir))?;
    set_mode(dir, mode)
}

/// Tells the file system that the folders in a folder have nothing to do with each other (chattr(1), `T`). ext4 then lays each
/// in another place of the disk; without a journal it looks at every file that was just removed in a place before it makes
/// one there. Elsewhere it means nothing, and is no error.
pub fn spread(dir: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if let Ok(opened) = File::open(dir) {
        let _ = ioctl_getflags(&opened).and_then(|flags| ioctl_setflags(&opened, flags | IFlags::TOPDIR));
    }
}

/// Sets the permission bits.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), PathError> {
    sys::set_permissions(path, sys::Permissions::from_mode(mode)).map_err(PathError::on("set the mode of", path))
}

/// Sets a file's modification time.
pub fn set_mtime(path: &Path, time: SystemTime) -> Result<(), PathError> {
    sys::OpenOptions::new()
        .read(true)
        .open(path)
        .and_then(|f| f.set_modified(time))
        .map_err(PathError::on("set the time of", path))
}

/// Renames within one file system.
pub fn rename(from: &Path, to: &Path) -> Result<(), PathError> {
    sys::rename(from, to).map_err(PathError::on("rename to", to))
}

/// Gives a file a second name.
pub fn hard_link(from: &Path, to: &Path) -> Result<(), PathError> {
    sys::hard_link(from, to).map_err(PathError::on("link to", to))
}

/// Copies a file's bytes and permission bits.
pub fn copy(from: &Path, to: &Path) -> Result<u64, PathError> {
    sys::copy(from, to).map_err(PathError::on("copy to", to))
}

/// Removes a file; one that is not there is no error.
pub fn remove_file(path: &Path) -> Result<(), PathError> {
    match sys::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(PathError::on("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a folder that the caller's own user filled; one that is not there is no error. What a sandbox wrote belongs
/// to the id range and goes through `layer` instead.
pub fn remove_dir_all(path: &Path) -> Result<(), PathError> {
    match sys::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(PathError::on("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes a folder if there is nothing in it; returns whether it is gone.
pub fn remove_if_empty(path: &Path) -> bool {
    sys::remove_dir(path).is_ok()
}

/// Returns what is known of a file, following links.
pub fn metadata(path: &Path) -> Result<Metadata, PathError> {
    sys::metadata(path).map_err(PathError::on("look at", path))
}

/// Returns what is known of a file, not following a link.
pub fn symlink_metadata(path: &Path) -> Result<Metadata, PathError> {
    sys::symlink_metadata(path).map_err(PathError::on("look at", path))
}

/// Returns the absolute path without links.
pub fn canonicalize(path: &Path) -> Result<PathBuf, PathError> {
    sys::canonicalize(path).map_err(PathError::on("find", path))
}

/// Returns the paths in a folder, sorted by name, so that nothing depends on the file system's order.
pub fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, PathError> {
    let mut paths = sys::read_dir(dir)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>())
        .map_err(PathError::on("list", dir))?;
    paths.sort();
    Ok(paths)
}

/// Like [`read_dir`], and nothing where there is no such folder.
pub fn read_dir_if_exists(dir: &Path) -> Result<Vec<PathBuf>, PathError> {
    if dir.exists() { read_dir(dir) } else { Ok(Vec::new()) }
}

/// What [`walk`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A folder, before what is in it.
    Folder,
    /// A symbolic link, which is not followed, and its target.
    Link(PathBuf),
    /// A file, or what only looks like one.
    File,
}

/// Shows everything at and below `dir/path`, sorted, by its path below `dir` and its full path; nothing where there is
/// nothing.
pub fn walk<E: From<PathError>>(
    dir: &Path,
    path: &Path,
    show: &mut dyn FnMut(&Path, &Path, Found) -> Result<(), E>,
) -> Result<(), E> {
    let full = dir.join(path);
    let metadata = match symlink_metadata(&full) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.source.kind()) => {
            return Ok(());
        }
        found => found?,
    };
    if metadata.is_symlink() {
        return show(path, &full, Found::Link(read_link(&full)?));
    }
    if !metadata.is_dir() {
        return show(path, &full, Found::File);
    }
    show(path, &full, Found::Folder)?;
    for entry in read_dir(&full)? {
        walk(dir, &path.join(entry.file_name().unwrap_or_default()), show)?;
    }
    Ok(())
}

/// Returns the bytes of a file that must not be longer than `limit`, so that what somebody else may have written cannot
/// fill the memory; a longer one is an error of the kind `FileTooLarge`.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::new();
    open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .and_then(|n| if n as u64 > limit { Err(io::Error::from(io::ErrorKind::FileTooLarge)) } else { Ok(()) })
        .map_err(PathError::on("read", path))?;
    Ok(bytes)
}

/// Opens for reading what somebody else left under a name: a regular file and nothing else. A link is refused, and a fifo
/// does not make the caller wait for its writer.
pub fn open_regular(path: &Path) -> Result<File, PathError> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let open = || {
        let file = sys::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?.file_type();
        if found.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
    };
    open().map_err(PathError::on("open", path))
}

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`", path = path.display())]
pub struct PathError {
    /// What was tried, as it reads after "cannot".
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl PathError {
    /// Returns the function that turns an `io::Error` into this one.
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_path_buf(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_action_and_path() {
        let error = read(Path::new("/does/not/exist")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/does/not/exist`");
    }

    #[test]
    fn a_file_longer_than_expected_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        write(&file, "12345").unwrap();
        assert_eq!(read_at_most(&file, 5).unwrap(), b"12345");
        assert_eq!(read_at_most(&file, 4).unwrap_err().source.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn only_a_regular_file_is_opened_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, fifo] = ["file", "link", "fifo"].map(|name| dir.path().join(name));
        write(&file, "x").unwrap();
        symlink(&file, &link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(open_regular(&file).is_ok());
        for odd in [link, fifo, dir.path().into()] {
            assert!(open_regular(&odd).is_err(), "{}", odd.display());
        }
    }

    #[test]
    fn a_link_is_replaced_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        replace_symlink(Path::new("1"), &link).unwrap();
        replace_symlink(Path::new("2"), &link).unwrap();
        assert_eq!(read_link(&link).unwrap(), Path::new("2"));
        assert_eq!(read_dir(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_new_file_is_whole_and_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        write_new(&file, "one", 0o600).unwrap();
        assert_eq!(write_new(&file, "two", 0o600).unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&file).unwrap(), b"one");
        assert_eq!(metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(read_dir(dir.path()).unwrap(), [file]);
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_abandoned() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write(&path("in-its-place"), "x").unwrap();
        write(&path(".new-dead"), "half").unwrap();
        create_dir(&path(".new-folder"), 0o755).unwrap();
        let held = create_new(&path(".new-alive"), 0o600).unwrap();
        held.lock().unwrap();
        symlink(Path::new("x"), &path(&format!(".new-link-{}-7", std::process::id()))).unwrap();
        // No process has this number: it is above the highest there can be.
        symlink(Path::new("x"), &path(".new-link-4194305-0")).unwrap();
        assert_eq!(remove_abandoned(dir.path()).unwrap(), 2);
        assert!(!path(".new-dead").exists() && path(".new-alive").exists() && path(".new-folder").exists());
        drop(held);
        assert_eq!(remove_abandoned(dir.path()).unwrap(), 1);
        assert_eq!(remove_abandoned(&path("not-there")).unwrap(), 0);
        assert_eq!(read_dir(dir.path()).unwrap().len(), 3);
    }

    #[test]
    fn an_atomic_write_sets_the_mode_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        write_atomic(&file, "x", 0o644).unwrap();
        assert_eq!(metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    }
}
