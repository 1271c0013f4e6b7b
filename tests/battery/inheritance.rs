//! What comes along from whoever started the sandbox: keys, terminal, descriptors, environment, settings.

use std::path::Path;

use nix::libc;

use crate::probe::{Outcome, Probe, ask, at, attack, call, call_i386, denied, name, refused, room, same};
use crate::stage::{CANARY, Stage};

pub(crate) const PROBES: &[Probe] = &[
    attack("keyring", "finds the caller's keys in its session keyring", "filter session-keyring", keyring),
    attack("keyring-i386", "the same through the 32-bit entry point", "i386-filter session-keyring", keyring_i386),
    attack("terminal", "opens the terminal that bindery was started in", "new-session", terminal),
    attack("terminal-types", "types into that terminal, CVE-2017-5226", "new-session filter", types),
    attack("terminal-types-i386", "the same through the 32-bit entry point", "new-session i386-filter", types_i386),
    attack("descriptors", "descriptors that the caller left open", "descriptors-closed", descriptors),
    attack(
        "folder-descriptor",
        "a folder of the host's by an inherited descriptor, CVE-2024-21626",
        "descriptors-closed",
        folder,
    ),
    attack("environment", "secrets in the environment of any process in sight", "fresh-environment", environment),
    attack("umask", "files that anyone may write, because of the caller's umask", "umask", umask),
    attack("oom-score", "the host's processes killed before the build's when memory is short", "oom-score", oom_score),
    attack(
        "core-dumps",
        "crashes that the host's core handler, run as its root, has to read",
        "core-limit",
        core_limit,
    ),
    attack("personality", "addresses that are easy to guess, because the caller's were", "personality", personality),
    attack(
        "ignored-signals",
        "signals that the caller ignored stay ignored: pipes that never end",
        "signal-reset",
        signals,
    ),
    attack(
        "inotify-instances",
        "uses up what the kernel gives the caller, so that daemons of the host's fail",
        "callers-shares",
        instances,
    ),
    attack("pending-signals", "the same with signals that wait", "callers-shares", pending),
    attack("zombies", "dead processes that nobody waits for use up all process ids", "reaping", zombies),
];

/// KEYCTL_SEARCH and KEY_SPEC_SESSION_KEYRING (linux/keyctl.h).
const SEARCH: u64 = 10;
const SESSION: u64 = 0xffff_fffd;

fn keyring(_: &Stage) -> Outcome {
    refused(call(libc::SYS_keyctl, [SEARCH, SESSION, at(c"user"), at(c"bindery-battery"), 0]))
}

fn keyring_i386(_: &Stage) -> Outcome {
    // Strings below 4 GiB: a page at a fixed address.
    let page = call_mmap(0x1000_0000, 4096)?;
    // SAFETY: the page is new, writable and large enough.
    #[expect(unsafe_code, reason = "32-bit calls take 32-bit addresses")]
    unsafe {
        std::ptr::copy_nonoverlapping(at(b"user\0bindery-battery\0") as *const u8, page as *mut u8, 21);
    }
    let page = u32::try_from(page).unwrap();
    let result = crate::probe::call_i386_4(288, 10, 0xffff_fffd, page, page + 5);
    refused(result.into())
}

fn call_mmap(address: u64, length: u64) -> Result<u64, String> {
    let flags = u64::from((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED).cast_unsigned());
    let page = crate::probe::call6(libc::SYS_mmap, [address, length, 3, flags, u64::MAX, 0]);
    u64::try_from(page).map_err(|_| name(page))
}

fn terminal(_: &Stage) -> Outcome {
    denied(std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty"))
}

fn tty() -> Result<u64, Outcome> {
    ask(libc::SYS_open, [at(c"/dev/tty"), 2, 0, 0, 0]).map(i64::cast_unsigned).map_err(|e| Ok(name(i64::from(-e))))
}

fn types(_: &Stage) -> Outcome {
    match tty() {
        Ok(fd) => crate::probe::not_reached(call(libc::SYS_ioctl, [fd, 0x5412, at(c"x"), 0, 0])),
        Err(outcome) => outcome,
    }
}

fn types_i386(_: &Stage) -> Outcome {
    match tty() {
        // The address cannot be read: nothing is typed where it would be.
        Ok(fd) => crate::probe::not_reached(call_i386(54, u32::try_from(fd).unwrap(), 0x5412, 1).into()),
        Err(outcome) => outcome,
    }
}

fn descriptors(stage: &Stage) -> Outcome {
    if stage.inherited.is_empty() { Ok(String::new()) } else { Err(stage.inherited.join(", ")) }
}

fn folder(stage: &Stage) -> Outcome {
    for fd in 3..256 {
        let found = format!("/proc/self/fd/{fd}/{}", stage.secret.rsplit('/').next().unwrap_or_default());
        if Path::new(&found).symlink_metadata().is_ok() {
            return Err(found);
        }
    }
    Ok(String::new())
}

fn environment(_: &Stage) -> Outcome {
    let mut seen = 0;
    for dir in bindery::fs::read_dir(Path::new("/proc")).map_err(|e| e.to_string())? {
        let Ok(text) = bindery::fs::read(&dir.join("environ")) else { continue };
        seen += 1;
        if String::from_utf8_lossy(&text).contains(CANARY) {
            return Err(dir.display().to_string());
        }
    }
    Ok(format!("{seen} processes"))
}

fn umask(_: &Stage) -> Outcome {
    same(call(libc::SYS_umask, [0o077, 0, 0, 0, 0]), 0o022)
}

fn oom_score(_: &Stage) -> Outcome {
    let text = bindery::fs::read_to_string(Path::new("/proc/self/oom_score_adj")).map_err(|e| e.to_string())?;
    if text.trim().parse::<i32>().is_ok_and(|score| score > 0) { Ok(text) } else { Err(text) }
}

fn core_limit(_: &Stage) -> Outcome {
    let mut limits = [9_u64; 2];
    call(libc::SYS_prlimit64, [0, 4, 0, room(&mut limits), 0]);
    // Pipes have no size: 0 does not keep the kernel from starting the handler, 1 does (fs/coredump.c).
    same(limits, [1, 1])
}

fn personality(_: &Stage) -> Outcome {
    same(call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0]), 0)
}

fn signals(_: &Stage) -> Outcome {
    let status = bindery::fs::read_to_string(Path::new("/proc/self/status")).map_err(|e| e.to_string())?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("-").trim().to_string();
    // SIGPIPE is ignored by Rust's own start.
    let ignored = u64::from_str_radix(&field("SigIgn:"), 16).unwrap_or(u64::MAX) & !(1 << 12);
    same((ignored, field("SigBlk:")), (0, "0".repeat(16)))
}

/// A quarter may be had, and one more is not tried. Twice or thrice: for a moment others may have taken the rest.
fn instances(stage: &Stage) -> Outcome {
    let wanted = stage.watchers / 4 + 1;
    let mut outcome = Ok(String::new());
    for _ in 0..3 {
        let code = crate::probe::child(|| {
            let had = (0..wanted).take_while(|_| call(libc::SYS_inotify_init1, [0; 5]) >= 0).count() as u64;
            i32::from(had == wanted)
        });
        if code == 1 {
            return Err(format!("{wanted} of {}", stage.watchers));
        }
        outcome = Ok(format!("fewer than {wanted} of {}", stage.watchers));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    outcome
}

fn pending(stage: &Stage) -> Outcome {
    let mut limits = [0_u64; 2];
    call(libc::SYS_prlimit64, [0, 11, 0, room(&mut limits), 0]);
    let most = (stage.signals / 4).max(1);
    if limits.iter().all(|limit| *limit <= most) { Ok(format!("{limits:?}")) } else { Err(format!("{limits:?}")) }
}

/// Leaves a grandchild to process 1 and looks what becomes of it.
fn zombies(stage: &Stage) -> Outcome {
    let (mut reader, mut writer) = std::io::pipe().map_err(|e| e.to_string())?;
    crate::probe::child(|| {
        let (read, write) = std::io::pipe().unwrap();
        let pid = crate::probe::fork();
        if pid == 0 {
            drop(write);
            // Ends when its parent has.
            let _ = std::io::Read::read(&mut &read, &mut [0]);
            crate::probe::exit(0);
        }
        let _ = std::io::Write::write_all(&mut writer, &pid.to_le_bytes());
        0
    });
    let mut pid = [0; 4];
    std::io::Read::read_exact(&mut reader, &mut pid).map_err(|e| e.to_string())?;
    let status = format!("/proc/{}/status", i32::from_le_bytes(pid));
    for _ in 0..if stage.impatient { 100 } else { 3000 } {
        if !Path::new(&status).exists() {
            return Ok(String::new());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(format!("process {} is still there", i32::from_le_bytes(pid)))
}
