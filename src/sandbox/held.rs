//! Counts what the processes of a sandbox hold open though it is deleted: it takes room, and no folder has it.
//!
//! A process of the host's looks (`__held`), as uid 0 of the sandbox's outer user namespace: who made that may enter it. A
//! deleted file counts once, whoever holds it: by a descriptor with its blocks on the disk, by a mapping alone with the length that
//! is mapped. Only files of the root itself count, by its mount; a memfd or a file on a tmpfs is memory. What is held by a
//! message in a socket is not seen: then the reserve of the host's disk is what stops the payload.
//!
//! The payload is hostile: a look has an end, however many processes and descriptors there are, and a file that cannot be
//! looked at is left out.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};
use rustix::thread::set_no_new_privs;

use crate::sandbox::range::{become_root, die_with};
use crate::sandbox::step::StepError;
use crate::sandbox::sys;
use crate::sandbox::usage::{Meter, Usage};
use crate::{fs, process};

/// The hidden sub-command.
pub(super) const HELD: &str = "__held";
/// The shortest pause between two looks. A look that takes long is repeated less often.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSES_PER_LOOK: u32 = 20;
/// How long a look may take.
const LONGEST: Duration = Duration::from_secs(5);
/// How soon it is noticed that the sandbox has its user namespace.
const TICK: Duration = Duration::from_millis(20);

/// Starts to look, for the sandbox whose first process is `enter`.
pub(super) fn start(enter: u32) -> Result<Meter, StepError> {
    let mut command = process::this_program_apart();
    let [parent, enter] = [std::process::id(), enter].map(|id| id.to_string());
    Meter::of(command.env_clear().args([HELD, &parent, &enter]), "start to look at what is held open")
}

/// Looks for ever, when the program's arguments ask for it; a failure ends it, which the supervisor sees.
pub(super) fn main(args: &[OsString]) -> Option<()> {
    if args.get(1)? != HELD {
        return None;
    }
    let number = |at: usize| args.get(at)?.to_str()?.parse::<u32>().ok();
    let (Some(parent), Some(enter)) = (number(2), number(3)) else { return Some(()) };
    if let Some(inside) = join(parent, enter) {
        loop {
            let started = Instant::now();
            let Usage { bytes, files } = look(&inside);
            if writeln!(io::stdout(), "{bytes} {files}").and_then(|()| io::stdout().flush()).is_err() {
                break;
            }
            std::thread::sleep(PAUSE.max(started.elapsed() * PAUSES_PER_LOOK));
        }
    }
    Some(())
}

/// Becomes uid 0 of the sandbox's outer user namespace, and returns what its process namespace is called (namespaces(7)).
///
/// The files of proc(5) about the payload's processes belong to its ids: an ordinary user, who may trace them, may not open
/// them; there both is so.
fn join(parent: u32, enter: u32) -> Option<PathBuf> {
    sys::close_inherited().ok()?;
    let parent = i32::try_from(parent).ok()?;
    die_with(parent).ok()?;
    let ours = |name| fs::read_link(&Path::new("/proc/self/ns").join(name)).ok();
    let theirs = |name| fs::read_link(&Path::new("/proc").join(enter.to_string()).join("ns").join(name)).ok();
    let (user, pid) = (ours("user")?, ours("pid")?);
    // It enters both namespaces before their maps are written, without which nobody becomes anyone there.
    let mapped = |name| {
        let map = fs::read(&Path::new("/proc").join(enter.to_string()).join(name));
        map.is_ok_and(|map| !map.is_empty())
    };
    let inside = loop {
        match theirs("pid_for_children") {
            Some(inside) if inside != pid && theirs("user")? != user && mapped("uid_map") && mapped("gid_map") => {
                break inside;
            }
            // Between the namespace and its first process the link leads nowhere.
            _ if Path::new("/proc").join(enter.to_string()).exists() => std::thread::sleep(TICK),
            // It is gone, and nothing is held. The end of this would be taken for a failure.
            _ => loop {
                std::thread::park();
            },
        }
    };
    let namespace = fs::open(&Path::new("/proc").join(enter.to_string()).join("ns/user")).ok()?;
    setns(namespace, CloneFlags::CLONE_NEWUSER).ok()?;
    become_root().ok()?;
    die_with(parent).ok()?;
    set_no_new_privs(true).ok()?;
    Some(inside)
}

/// Returns what is held now by the processes of a process namespace.
fn look(inside: &Path) -> Usage {
    let started = Instant::now();
    let enough = || started.elapsed() > LONGEST;
    let mut held = Files::default();
    for process in fs::read_dir(Path::new("/proc")).unwrap_or_default() {
        if enough() {
            break;
        }
        let is_process = process.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        if is_process && fs::read_link(&process.join("ns/pid")).is_ok_and(|link| link == inside) {
            held.add(&process, &enough);
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
