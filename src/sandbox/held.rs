//! Counts what the processes of a sandbox hold open though it is deleted: it takes room, and no folder has it.
//!
//! Seen from the host, whose process (root, or the user who made the sandbox's user namespace) may look at them. A deleted
//! file counts once, whoever holds it: by a descriptor with its blocks on the disk, by a mapping alone with the length that
//! is mapped. Only files of the root itself count, by its mount; a memfd or a file on a tmpfs is memory. What is held by a
//! message in a socket is not seen: then the reserve of the host's disk is what stops the payload.
//!
//! The payload is hostile: a look has an end, however many processes and descriptors there are, and a file that cannot be
//! looked at is left out.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};

use crate::fs;
use crate::sandbox::usage::Usage;

/// The shortest pause between two looks. A look that takes long is repeated less often.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSES_PER_LOOK: u32 = 20;
/// How long a look may take.
const LONGEST: Duration = Duration::from_secs(5);

/// A look every few seconds, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    files: AtomicU64,
    end: AtomicBool,
}

impl Held {
    /// Starts to look at the processes in the process namespace that `enter`'s children are in.
    pub(super) fn start(enter: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !for_thread.end.load(Ordering::Relaxed) {
                let started = Instant::now();
                let usage = look(enter, &for_thread.end);
                for_thread.bytes.store(usage.bytes, Ordering::Relaxed);
                for_thread.files.store(usage.files, Ordering::Relaxed);
                std::thread::park_timeout(PAUSE.max(started.elapsed() * PAUSES_PER_LOOK));
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Returns what was held at the last look.
    pub(super) fn usage(&self) -> Usage {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Usage { bytes: load(&self.shared.bytes), files: load(&self.shared.files) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic, and has nothing to say.
            let _ = thread.join();
        }
    }
}

/// Returns what is held now.
fn look(enter: u32, end: &AtomicBool) -> Usage {
    let namespace = |path: &str| fs::read_link(Path::new(path)).ok();
    let Some(inside) = namespace(&format!("/proc/{enter}/ns/pid_for_children")) else { return Usage::default() };
    // It has not left ours yet.
    if Some(&inside) == namespace("/proc/self/ns/pid").as_ref() {
        return Usage::default();
    }
    let started = Instant::now();
    let mut held = Files::default();
    for process in fs::read_dir(Path::new("/proc")).unwrap_or_default() {
        if end.load(Ordering::Relaxed) || started.elapsed() > LONGEST {
            break;
        }
        let is_process = process.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        if is_process && fs::read_link(&process.join("ns/pid")).is_ok_and(|link| link == inside) {
            held.add(&process, &|| end.load(Ordering::Relaxed) || started.elapsed() > LONGEST);
        }
    }
    held.usage()
}

/// Deleted files: device and number, and bytes.
#[derive(Debug, Default)]
struct Files {
    open: HashMap<(u32, u32, u64), u64>,
    mapped: HashMap<(String, u64), u64>,
}

impl Files {
    fn add(&mut self, process: &Path, enough: &dyn Fn() -> bool) {
        let Some(root) = look_at(&process.join("root")) else { return };
        for descriptor in fs::read_dir(&process.join("fd")).unwrap_or_default() {
            if enough() {
                return;
            }
            let Some(file) = look_at(&descriptor) else { continue };
            let kind = FileType::from_raw_mode(file.stx_mode.into());
            if kind == FileType::RegularFile && file.stx_nlink == 0 && file.stx_mnt_id == root.stx_mnt_id {
                let id = (file.stx_dev_major, file.stx_dev_minor, file.stx_ino);
                self.open.insert(id, file.stx_blocks.saturating_mul(512));
            }
        }
        self.add_mapped(&process.join("maps"));
    }

    /// Adds what is mapped and deleted (proc_pid_maps(5)): `START-END MODE OFFSET DEVICE INODE  PATH (deleted)`.
    fn add_mapped(&mut self, maps: &Path) {
        let text = fs::read(maps).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines().filter(|line| line.ends_with(" (deleted)")) {
            let mut fields = line.split_ascii_whitespace();
            let (Some(range), Some(device), Some(Ok(inode)), Some(path)) =
                (fields.next(), fields.nth(2), fields.next().map(str::parse::<u64>), fields.next())
            else {
                continue;
            };
            // Memory under a name: shared memory, memfd_create(2), System V.
            if ["/dev/shm/", "/memfd:", "/SYSV", "/dev/zero"].iter().any(|memory| path.starts_with(memory)) {
                continue;
            }
            let Some((from, to)) = range.split_once('-') else { continue };
            let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            let length = number(to).saturating_sub(number(from));
            let known = self.mapped.entry((device.to_string(), inode)).or_default();
            *known = (*known).max(length);
        }
    }

    fn usage(&self) -> Usage {
        let open: HashSet<u64> = self.open.keys().map(|(_, _, inode)| *inode).collect();
        let mapped = self.mapped.iter().filter(|((_, inode), _)| !open.contains(inode)).map(|(_, bytes)| *bytes);
        let all: Vec<u64> = self.open.values().copied().chain(mapped).collect();
        Usage { bytes: all.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes)), files: all.len() as u64 }
    }
}

/// Looks at a file through proc(5), which leads to it wherever it is.
fn look_at(path: &Path) -> Option<Statx> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    statx(CWD, path, AtFlags::NO_AUTOMOUNT, wanted).ok()
}
