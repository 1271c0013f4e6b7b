//! What a root may write: how much of the host's disk, and how that is seen to.
//!
//! | who | what bounds it | what is counted |
//! |---|---|---|
//! | root | an ext4 of its own for the writable folder (`filesystem.rs`), a little larger than the limit; who exceeds that is stopped within half a second | everything |
//! | anyone else, or root where that cannot be made | the supervisor looks every few seconds | files in the folder (`usage`), deleted ones that are held open (`held`) |
//!
//! Files are bounded with the bytes: one for every [`BYTES_PER_FILE`]. Whether there is a limit or not, a sandbox is stopped
//! before it fills the host's disk: that is the host's failure, not the payload's.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, statvfs};

use crate::sandbox::step::StepError;
use crate::sandbox::usage::{Meter, Usage};
use crate::sandbox::watchdog::Stopped;
use crate::sandbox::{IdRange, SandboxError, filesystem, held};

/// How much of the host's file system must stay free while a sandbox runs, in bytes and in files; of a small one, a share.
const RESERVE: (u64, u64) = (64 << 20, 1024);
const SHARE: u64 = 16;
/// How many bytes of the limit a payload must have for each file; a build's files are larger on average.
const BYTES_PER_FILE: u64 = 4096;
/// How many files the smallest limit has.
const LEAST_FILES: u64 = 1024;
/// The pause between two looks at what is free.
const PAUSE: Duration = Duration::from_millis(500);

/// The writable folder of one sandbox, and what it may hold.
#[derive(Debug)]
pub(super) struct Disk {
    /// The lease's folder.
    folder: PathBuf,
    /// Where it is on the host.
    base: PathBuf,
    bound: Bound,
    looked: Instant,
}

#[derive(Debug)]
enum Bound {
    None,
    /// By its own file system.
    Own(Usage),
    /// By looking, for this reason.
    Watched {
        limit: Usage,
        written: Counted,
        held: Option<Counted>,
        why: String,
    },
}

/// What is counted by a process, and what that said last.
#[derive(Debug)]
struct Counted {
    meter: Meter,
    last: Usage,
}

impl Counted {
    fn by(meter: Meter) -> Self {
        Self { meter, last: Usage::default() }
    }

    fn read(&mut self) {
        self.last = self.meter.read().unwrap_or(self.last);
    }
}

/// Returns how many files a limit of bytes allows.
fn files(bytes: u64) -> u64 {
    (bytes / BYTES_PER_FILE).max(LEAST_FILES)
}

impl Disk {
    /// Gets the lease's `folder`, which is relative to `base` and is there, ready to be written in. `upper` is where that will
    /// be, and `limit` how many bytes.
    pub(super) fn prepare(
        limit: Option<u64>,
        ids: &IdRange,
        base: &Path,
        folder: &Path,
        upper: &Path,
    ) -> Result<Self, SandboxError> {
        if let Some(free) = short(base) {
            return Err(SandboxError::DiskFull { folder: base.to_path_buf(), free });
        }
        let full = base.join(folder);
        let bound = match limit.map(|bytes| Usage { bytes, files: files(bytes) }) {
            None => Bound::None,
            Some(limit) => match filesystem::mount(ids, &full, limit) {
                Ok(()) => Bound::Own(limit),
                Err(why) => {
                    let written = Counted::by(Meter::start(ids, base, upper)?);
                    Bound::Watched { limit, written, held: None, why }
                }
            },
        };
        Ok(Self { folder: full, base: base.to_path_buf(), bound, looked: Instant::now() })
    }

    /// Begins to look at what the processes of the sandbox hold open, whose first is `enter`.
    pub(super) fn watch(&mut self, enter: u32) -> Result<(), StepError> {
        if let Bound::Watched { held, .. } = &mut self.bound {
            *held = Some(Counted::by(held::start(enter)?));
        }
        Ok(())
    }

    /// Returns what to wait for.
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        match &self.bound {
            Bound::Watched { written, .. } => written.meter.interest(),
            _ => None,
        }
    }

    /// Looks, unless that was just done; `ready` says that what is to be waited for has come.
    pub(super) fn check(&mut self, now: Instant, ready: bool) -> Option<Stopped> {
        if !ready && now.duration_since(self.looked) < PAUSE {
            return None;
        }
        if let Bound::Watched { written, held, .. } = &mut self.bound {
            written.read();
            held.iter_mut().for_each(Counted::read);
        }
        self.looked = now;
        self.exhausted()
    }

    /// Returns what there is too much of: also why a command failed that was faster than a look.
    pub(super) fn exhausted(&self) -> Option<Stopped> {
        if short(&self.base).is_some() {
            return Some(Stopped::Full);
        }
        let over = match &self.bound {
            Bound::None => false,
            Bound::Own(limit) => statvfs(&self.folder).is_ok_and(|fs| {
                let blocks = fs.f_blocks.saturating_sub(fs.f_bfree);
                blocks.saturating_mul(fs.f_frsize) > limit.bytes || fs.f_files.saturating_sub(fs.f_ffree) > limit.files
            }),
            Bound::Watched { limit, written, held, .. } => {
                let (written, held) = (written.last, held.as_ref().map(|held| held.last).unwrap_or_default());
                written.bytes.saturating_add(held.bytes) > limit.bytes
                    || written.files.saturating_add(held.files) > limit.files
            }
        };
        over.then_some(Stopped::Disk)
    }

    /// Returns what gives the limit.
    pub(super) fn how(&self) -> Option<String> {
        let limit = |limit: &Usage| format!("{} bytes and {} files", limit.bytes, limit.files);
        match &self.bound {
            Bound::None => None,
            Bound::Own(own) => Some(format!("{}, by a file system of its own", limit(own))),
            Bound::Watched { limit: watched, .. } => {
                Some(format!("{}, looked at every few seconds, by the supervisor", limit(watched)))
            }
        }
    }

    /// Returns what is missing of an exact limit, and why.
    pub(super) fn not_given(&self) -> Option<String> {
        match &self.bound {
            Bound::Watched { why, .. } => Some(format!("file system of its own for what is written: {why}")),
            _ => None,
        }
    }
}

/// Returns how many bytes are free where a folder is, or is to be.
pub fn free_space(folder: &Path) -> Option<u64> {
    let fs = folder.ancestors().find_map(|dir| statvfs(dir).ok())?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Returns whether a sandbox would be refused in a folder, or is about to be.
pub fn is_nearly_full(folder: &Path) -> bool {
    free_space(folder).is_none_or(|free| free < 2 * RESERVE.0) || short(folder).is_some()
}

/// Returns how many bytes are free where there are too few of them, or too few files; a folder that does not exist yet is
/// judged by those above it.
fn short(folder: &Path) -> Option<u64> {
    let fs = folder.ancestors().find_map(|dir| statvfs(dir).ok())?;
    is_short(&fs).then(|| fs.f_bavail.saturating_mul(fs.f_frsize))
}

fn is_short(fs: &StatVfs) -> bool {
    let bytes = (fs.f_blocks.saturating_mul(fs.f_frsize) / SHARE).min(RESERVE.0);
    // A file system that does not count files says there are none.
    let files = (fs.f_files / SHARE).min(RESERVE.1);
    fs.f_bavail.saturating_mul(fs.f_frsize) < bytes || fs.f_favail < files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nearly_full_disk_is_short_in_bytes_or_in_files() {
        let mut fs = statvfs("/").unwrap();
        (fs.f_frsize, fs.f_blocks, fs.f_bavail, fs.f_files, fs.f_favail) = (4096, 1 << 28, 1 << 14, 1 << 20, 1024);
        assert!(!is_short(&fs));
        fs.f_bavail -= 1;
        assert!(is_short(&fs));
        (fs.f_bavail, fs.f_favail) = (1 << 20, 1023);
        assert!(is_short(&fs));
        // btrfs counts no files; a small file system may be used nearly to its end.
        (fs.f_files, fs.f_favail, fs.f_blocks, fs.f_bavail) = (0, 0, 16 << 8, 1 << 8);
        assert!(!is_short(&fs));
    }

    #[test]
    fn files_go_with_bytes() {
        assert_eq!([files(1), files(64 << 20), files(10 << 30)], [1024, 16384, 2_621_440]);
    }
}
