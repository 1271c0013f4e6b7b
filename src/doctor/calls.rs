//! System calls that not every kernel has or every container lets through; seccomp for both instruction sets; Landlock;
//! keyrings.

use std::io;
use std::path::Path;

use nix::libc;
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
    move_mount, open_tree,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::doctor::host::Host;
use crate::doctor::trial::{self, Refused, Tried, Trying, enter, enter_user_namespace};
use crate::doctor::{Check, advice};
use crate::process;
use crate::sandbox::trial as call;

/// The version of Landlock's interface that has scopes (Linux 6.12).
const SCOPES: i64 = 6;
/// What our trial filter answers: no call of ours fails like this by itself.
const ANSWER: u32 = 77;
/// A program of i386 for Linux that asks for its process id and ends with the error it got for that, or 0.
const I386: [u8; 106] =
    *b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0\x54\x80\x04\x08\x34\0\0\0\0\0\0\0\0\0\0\0\
\x34\0\x20\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x80\x04\x08\0\x80\x04\x08\x6a\0\0\0\x6a\0\0\0\x05\0\0\0\0\x10\0\0\
\xb8\x14\0\0\0\xcd\x80\x31\xdb\x85\xc0\x79\x04\xf7\xd8\x89\xc3\x31\xc0\x40\xcd\x80";

pub(super) fn checks(host: &Host) -> Vec<Check> {
    vec![system_calls(host), seccomp(host), seccomp_i386(host), landlock(), keyrings(host)]
}

/// Tries what `name` stands for, if it is one of these.
pub(super) fn attempt(name: &str) -> Option<Tried> {
    Some(match name {
        "close_range" => Ok(String::new()),
        "openat2" => {
            let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let opened = openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within);
            opened.trying("open a folder without following links (openat2)").map(|_| String::new())
        }
        "pidfd" => {
            pidfd_open(getpid(), PidfdFlags::empty()).trying("open a process (pidfd_open)").map(|_| String::new())
        }
        "mount-calls" => mount_calls(),
        "seccomp" => filtered_native(),
        "seccomp-i386" => filtered_i386(),
        "landlock" => call::landlock().trying("ask for Landlock").map(|version| version.to_string()),
        "keyring" => call::session_keyring().trying("join a new session keyring").map(|()| String::new()),
        _ => return None,
    })
}

fn mount_calls() -> Tried {
    enter_user_namespace()?;
    enter(CloneFlags::CLONE_NEWNS, "a mount")?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).trying("open a file system (fsopen)")?;
    fsconfig_create(&context).trying("create a file system (fsconfig)")?;
    let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV);
    let tree = made.trying("make a mount (fsmount)")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, "/dev", flags).trying("attach a mount (move_mount)")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, "/dev", flags).trying("clone a mount (open_tree)")?;
    let attributes = call::mount_attributes(&clone, libc::MOUNT_ATTR_RDONLY);
    attributes.trying("make a mount read-only (mount_setattr)").map(|()| String::new())
}

/// Classic BPF: answers [`ANSWER`] to one call of one architecture, and lets all else through.
fn answer(architecture: u32, number: u32) -> [(u16, u8, u8, u32); 6] {
    // Load a word of seccomp_data; jump if equal; return.
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        (LOAD, 0, 0, 4),
        (EQUAL, 0, 3, architecture),
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 1, number),
        (RETURN, 0, 0, 0x0005_0000 | ANSWER),
        (RETURN, 0, 0, 0x7fff_0000),
    ]
}

fn filtered_native() -> Tried {
    const GETPRIORITY: u32 = 140;
    rustix::thread::set_no_new_privs(true).trying("give up gaining privileges")?;
    call::filter(&answer(0xc000_003e, GETPRIORITY)).trying("install a filter")?;
    match rustix::process::getpriority_process(None) {
        Err(e) if e.raw_os_error().cast_unsigned() == ANSWER => Ok(String::new()),
        _ => Err(io::Error::other("the filter had no effect")).trying("filter a call"),
    }
}

fn filtered_i386() -> Tried {
    const GETPID: u32 = 20;
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("i386", flags).trying("make a file in memory")?;
    rustix::io::write(&file, &I386).trying("write a program to memory")?;
    let program = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let run = || process::command(&program).status().trying("execute a 32-bit program").map(|status| status.code());
    if run()? != Some(0) {
        return Err(io::Error::other("it does not run as it should")).trying("execute a 32-bit program");
    }
    rustix::thread::set_no_new_privs(true).trying("give up gaining privileges")?;
    call::filter(&answer(0x4000_0003, GETPID)).trying("install a filter")?;
    match run()?.and_then(|code| u32::try_from(code).ok()) {
        Some(ANSWER) => Ok(String::new()),
        _ => Err(io::Error::other("the filter had no effect")).trying("filter a 32-bit call"),
    }
}

fn system_calls(host: &Host) -> Check {
    const NAME: &str = "system calls";
    const PURPOSE: &str = "every sandbox: mounting without following paths, inheriting nothing, waiting for the last";
    let refused: Vec<Refused> =
        ["close_range", "openat2", "pidfd"].into_iter().filter_map(|name| trial::run(name).err()).collect();
    if refused.is_empty() {
        return Check::works(NAME, PURPOSE, "close_range, openat2, pidfd_open");
    }
    let found: Vec<_> = refused.iter().map(Refused::text).collect();
    Check::missing(NAME, PURPOSE, found.join("; "), advice::refused_call(host))
}

/// The calls that mount need namespaces: looked at when those are known to work.
pub(super) fn mount_system_calls(host: &Host) -> Check {
    const NAME: &str = "mount calls";
    const PURPOSE: &str = "every sandbox: mounting without following paths that a build made";
    match trial::run("mount-calls") {
        Ok(_) => Check::works(NAME, PURPOSE, "fsopen, fsmount, move_mount, open_tree, mount_setattr"),
        Err(refused) => Check::missing(NAME, PURPOSE, refused.text(), advice::refused_mount(host)),
    }
}

fn seccomp(host: &Host) -> Check {
    const NAME: &str = "seccomp";
    const PURPOSE: &str = "every sandbox: which system calls a build may make";
    match trial::run("seccomp") {
        Ok(_) => Check::works(NAME, PURPOSE, "filters x86-64 calls"),
        Err(refused) => Check::missing(NAME, PURPOSE, refused.text(), advice::seccomp(host)),
    }
}

fn seccomp_i386(host: &Host) -> Check {
    const NAME: &str = "seccomp for i386";
    const PURPOSE: &str = "32-bit programs (multilib), under the same rules";
    match trial::run("seccomp-i386") {
        Ok(_) => Check::works(NAME, PURPOSE, "32-bit programs run, and their calls are filtered"),
        Err(refused) => Check::limited(NAME, PURPOSE, refused.text(), advice::i386(host)),
    }
}

fn landlock() -> Check {
    const NAME: &str = "Landlock";
    const PURPOSE: &str = "with `--network` only: the host's abstract Unix sockets out of reach";
    match trial::run("landlock").map(|version| (version.parse::<i64>().unwrap_or(0) >= SCOPES, version)) {
        Ok((true, version)) => Check::works(NAME, PURPOSE, format!("version {version}, with scopes")),
        Ok((false, version)) => {
            Check::limited(NAME, PURPOSE, format!("version {version}, without scopes"), advice::landlock_scopes())
        }
        Err(refused) => Check::limited(NAME, PURPOSE, refused.text(), advice::landlock()),
    }
}

fn keyrings(host: &Host) -> Check {
    const NAME: &str = "keyrings";
    const PURPOSE: &str = "every sandbox: the caller's keys out of reach";
    let found = if Path::new("/proc/keys").exists() { "a new one can be joined" } else { "the kernel has none" };
    match trial::run("keyring") {
        Ok(_) => Check::works(NAME, PURPOSE, found),
        Err(refused) => Check::missing(NAME, PURPOSE, refused.text(), advice::refused_call(host)),
    }
}
