//! Measures what a sandbox's writable folder holds, while it grows.
//!
//! The files belong to the id range, so a process inside it (`__usage`) looks and prints a line each round, the bytes
//! and how many files, folders and links; the supervisor's [`Meter`] reads them. The tree is hostile and changes under the look: no link is followed, what vanishes
//! is skipped, and one that is too deep to be walked counts as too big.

use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use crate::sandbox::IdRange;
use crate::sandbox::range;
use crate::sandbox::step::{Doing, StepError};

/// The hidden sub-command.
pub(super) const USAGE: &str = "__usage";
/// The shortest pause between two looks. A look that takes long is repeated less often.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSES_PER_LOOK: u32 = 20;
/// How many folders may be open in one another: each costs a descriptor.
const MAX_DEPTH: usize = 900;

/// What is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// On the disk.
    pub(super) bytes: u64,
    /// Files, folders and links.
    pub(super) files: u64,
}

/// More than any limit.
const OUT_OF_SIGHT: Usage = Usage { bytes: u64::MAX, files: u64::MAX };

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Meter {
    process: Child,
    line: Vec<u8>,
}

impl Meter {
    /// Starts to measure `folder`, which is relative to `base`.
    pub(super) fn start(ids: &IdRange, base: &Path, folder: &Path) -> Result<Self, StepError> {
        Self::of(range::hidden(USAGE, ids, base).arg(folder), "start to measure the root")
    }

    /// Starts a process that prints such lines.
    pub(super) fn of(command: &mut Command, what: &'static str) -> Result<Self, StepError> {
        let process = command.stdout(Stdio::piped()).spawn().doing(what)?;
        let meter = Self { process, line: Vec::new() };
        if let Some(pipe) = &meter.process.stdout {
            // Whoever reads where nothing has come must not wait.
            let flags = rustix::fs::fcntl_getfl(pipe).doing(what)?;
            rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK).doing(what)?;
        }
        Ok(meter)
    }

    /// Returns what to wait for.
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        self.process.stdout.as_ref().map(AsFd::as_fd)
    }

    /// Returns what was measured last.
    pub(super) fn read(&mut self) -> Option<Usage> {
        let mut bytes = [0; 256];
        match rustix::io::read(self.process.stdout.as_ref()?, &mut bytes) {
            Ok(length @ 1..) => self.line.extend_from_slice(bytes.get(..length)?),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return None,
            // It has died: what it measures is out of sight, which is as bad as too big.
            _ => {
                self.process.stdout = None;
                return Some(OUT_OF_SIGHT);
            }
        }
        let end = self.line.iter().rposition(|byte| *byte == b'\n')?;
        let rest = self.line.split_off(end + 1);
        let lines = std::mem::replace(&mut self.line, rest);
        let (bytes, files) = std::str::from_utf8(&lines).ok()?.lines().last()?.split_once(' ')?;
        Some(Usage { bytes: bytes.parse().ok()?, files: files.parse().ok()? })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // It has nothing to clean up.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Measures for ever, when the program's arguments ask for it.
pub(super) fn main(args: &[OsString]) -> Option<()> {
    let folder = match range::enter_hidden(USAGE, args)? {
        Ok([folder]) => PathBuf::from(folder),
        // The supervisor sees the pipe close.
        _ => return Some(()),
    };
    loop {
        let started = Instant::now();
        let Usage { bytes, files } = measure(&folder).unwrap_or(OUT_OF_SIGHT);
        if writeln!(io::stdout(), "{bytes} {files}").and_then(|()| io::stdout().flush()).is_err() {
            return Some(());
        }
        std::thread::sleep(PAUSE.max(started.elapsed() * PAUSES_PER_LOOK));
    }
}

/// Returns what is below `top`; nothing where it is too deep.
fn measure(top: &Path) -> Option<Usage> {
    let mut used = Usage::default();
    let mut linked = HashSet::new();
    let mut open = Vec::new();
    match open_dir(CWD, top) {
        Ok(dir) => open.push(dir),
        // Not made yet.
        Err(rustix::io::Errno::NOENT) => return Some(used),
        Err(_) => return None,
    }
    loop {
        let depth = open.len();
        let Some(dir) = open.last_mut() else { break };
        let Some(entry) = dir.next() else {
            open.pop();
            continue;
        };
        let Ok(entry) = entry else { continue };
        let name: CString = entry.file_name().to_owned();
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        let Ok(stat) = statat(dir.fd().ok()?, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir || stat.st_nlink < 2 || linked.insert(stat.st_ino) {
            used.bytes = used.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
            used.files = used.files.saturating_add(1);
        }
        if is_dir {
            if depth >= MAX_DEPTH {
                return None;
            }
            match open_dir(dir.fd().ok()?, &name) {
                Ok(below) => open.push(below),
                Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => return None,
                Err(_) => {}
            }
        }
    }
    Some(used)
}

fn open_dir(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Dir::new(openat(at, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        assert_eq!(measure(&top), Some(Usage::default()));
        fs::create_dir_all(&top.join("a/b")).unwrap();
        let empty = measure(&top).unwrap();
        fs::write(&dir.path().join("outside"), vec![1; 1 << 20]).unwrap();
        fs::symlink(dir.path(), &top.join("link")).unwrap();
        fs::write(&top.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(&top.join("a/b/file"), &top.join("again")).unwrap();
        let full = measure(&top).unwrap();
        let used = full.bytes - empty.bytes;
        assert!((1 << 20..3 << 19).contains(&used), "{used}");
        assert_eq!((empty.files, full.files), (2, 4));
    }

    #[test]
    fn a_tree_that_is_too_deep_has_no_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut fd = openat(CWD, dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..=MAX_DEPTH {
            rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
            fd = openat(&fd, "d", OFlags::PATH, Mode::empty()).unwrap();
        }
        assert_eq!(measure(dir.path()), None);
    }
}
