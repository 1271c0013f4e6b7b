//! Mounts: what is read-only stays so by every way, covers stay on, nodes and setuid bits of binds are nothing.
//!
//! The stage binds `/mnt/ro` (a folder of the payload's own user, read-only), `/mnt/rw` (the same, writable) and
//! `/mnt/host-dev` (the host's /dev, read-only, with the mounts below it).

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use nix::libc;

use crate::probe::{Outcome, Probe, ask, at, attack, call, denied, name, refused};
use crate::stage::Stage;

const POWER: &str = "filter second-user-namespace capabilities";
const READ_ONLY: &str = "read-only-binds";

pub(crate) const PROBES: &[Probe] = &[
    attack("mount-new", "mounts a file system over anything", POWER, mount_new),
    attack("mount-bind", "shows a folder in another place, past a cover", POWER, mount_bind),
    attack("mount-proc", "mounts a proc without covers", POWER, mount_proc),
    attack("mount-control-groups", "the host's control groups, with release_agent: CVE-2022-0492", POWER, |_| {
        mount_on_tmp(c"cgroup2", c"cgroup2", 0)
    }),
    attack("mount-remount", "makes a read-only bind writable", POWER, remount),
    attack("mount-uncover", "takes the cover from a masked path", POWER, uncover),
    attack("mount-detached", "clones a tree of mounts by the new calls", POWER, clone_tree),
    attack("read-only-write", "writes to a file of a read-only bind", READ_ONLY, |_| write("/mnt/ro/file")),
    attack("read-only-create", "puts a file into a read-only bind", READ_ONLY, |_| {
        denied(std::fs::OpenOptions::new().append(true).create(true).open("/mnt/ro/new"))
    }),
    attack("read-only-reopen", "opens a file for reading, then its descriptor for writing", READ_ONLY, reopen),
    attack("read-only-rename", "renames in a read-only bind", READ_ONLY, |_| {
        denied(bindery::fs::rename(Path::new("/mnt/ro/file"), Path::new("/mnt/ro/file")).map_err(|e| e.source))
    }),
    attack("read-only-link", "makes a second name in a read-only bind", READ_ONLY, link),
    attack("read-only-mode", "changes a mode in a read-only bind", READ_ONLY, |_| {
        denied(std::fs::set_permissions("/mnt/ro/file", std::fs::Permissions::from_mode(0o644)))
    }),
    attack("read-only-times", "changes times in a read-only bind", READ_ONLY, times),
    attack("read-only-attribute", "sets an attribute in a read-only bind", READ_ONLY, attribute),
    attack("read-only-truncate", "empties a file of a read-only bind", READ_ONLY, |_| {
        refused(call(libc::SYS_truncate, [at(c"/mnt/ro/file"), 4, 0, 0, 0]))
    }),
    attack("read-only-unlink", "removes from a read-only bind", READ_ONLY, unlink),
    attack("read-only-mapped", "writes through shared memory of a read-only bind", READ_ONLY, mapped),
    attack(
        "read-only-below",
        "writes to a writable mount below a read-only bind",
        "recursive-binds | read-only-binds",
        below,
    ),
    attack("bind-device", "opens a device through a bind", "nodev", |_| {
        denied(bindery::fs::open(Path::new("/mnt/host-dev/null")).map_err(|e| e.source))
    }),
    attack("host-root", "finds the host's root above its own", "old-root-detached second-user-namespace", host_root),
    attack(
        "chroot-break-out",
        "the host's root by chroot(2) and a descriptor of what was the root before",
        "old-root-detached second-user-namespace",
        break_out,
    ),
    attack("dev-nodes", "disks, memory, consoles and other devices of the host's", "private-dev", nodes),
    attack("dev-names", "a /dev that is the host's", "private-dev", dev_names),
    attack("shm-size", "fills the host's memory through /dev/shm", "shm-size | private-dev", shm_size),
    attack(
        "files-of-the-caller",
        "reads a file that is its caller's alone",
        "root: id-range | user: second-user-namespace",
        secret,
    ),
];

fn write(path: &str) -> Outcome {
    denied(std::fs::OpenOptions::new().append(true).open(path))
}

/// Whatever comes of a mount, the next probe shall find things as they were.
fn undone(done: i64, undo: impl FnOnce() -> i64) -> Outcome {
    if done >= 0 && undo() < 0 {
        return Err("done, and not to be undone".into());
    }
    refused(done)
}

fn mount_on_tmp(from: &std::ffi::CStr, kind: &std::ffi::CStr, flags: u64) -> Outcome {
    let (from, kind) = (at(from.to_bytes_with_nul()), at(kind.to_bytes_with_nul()));
    undone(call(libc::SYS_mount, [from, at(c"/tmp"), kind, flags, 0]), || {
        call(libc::SYS_umount2, [at(c"/tmp"), 2, 0, 0, 0])
    })
}

fn mount_new(_: &Stage) -> Outcome {
    mount_on_tmp(c"tmpfs", c"tmpfs", 0)
}

fn mount_bind(_: &Stage) -> Outcome {
    mount_on_tmp(c"/dev", c"", libc::MS_BIND)
}

fn mount_proc(_: &Stage) -> Outcome {
    mount_on_tmp(c"proc", c"proc", 0)
}

fn remount(_: &Stage) -> Outcome {
    let plain = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_NOSUID | libc::MS_NODEV;
    let to = |flags| call(libc::SYS_mount, [0, at(c"/mnt/ro"), 0, flags, 0]);
    undone(to(plain), || to(plain | libc::MS_RDONLY))
}

fn uncover(_: &Stage) -> Outcome {
    let (path, null) = (at(c"/proc/interrupts"), at(c"/dev/null"));
    undone(call(libc::SYS_umount2, [path, 2, 0, 0, 0]), || call(libc::SYS_mount, [null, path, 0, libc::MS_BIND, 0]))
}

fn clone_tree(_: &Stage) -> Outcome {
    refused(call(libc::SYS_open_tree, [0xffff_ff9c, at(c"/dev"), 1, 0, 0]))
}

fn reopen(_: &Stage) -> Outcome {
    match bindery::fs::open(Path::new("/mnt/ro/file")) {
        Ok(file) => write(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))),
        Err(e) => Ok(e.source.to_string()),
    }
}

fn link(stage: &Stage) -> Outcome {
    let new = Path::new("/mnt/ro").join(&stage.run);
    let outcome = denied(bindery::fs::hard_link(Path::new("/mnt/ro/file"), &new).map_err(|e| e.source));
    let _ = bindery::fs::remove_file(&new);
    outcome
}

fn times(_: &Stage) -> Outcome {
    refused(call(libc::SYS_utimensat, [0xffff_ff9c, at(c"/mnt/ro/file"), 0, 0, 0]))
}

fn attribute(_: &Stage) -> Outcome {
    refused(call(libc::SYS_setxattr, [at(c"/mnt/ro/file"), at(c"user.x"), at(c"x"), 1, 0]))
}

/// Of a file that is not there: a read-only mount is the first thing that is said, so nothing need be lost.
fn unlink(_: &Stage) -> Outcome {
    match ask(libc::SYS_mkdir, [at(c"/mnt/ro/folder"), 0o755, 0, 0, 0]) {
        Err(libc::EEXIST) | Ok(_) => refused(call(libc::SYS_rmdir, [at(c"/mnt/ro/folder"), 0, 0, 0, 0])),
        Err(e) => Ok(name(i64::from(-e))),
    }
}

fn mapped(_: &Stage) -> Outcome {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/mnt/ro/file");
    let file = match file {
        Ok(file) => file,
        Err(e) => return Ok(e.to_string()),
    };
    drop(file);
    Err("may be mapped".into())
}

fn below(stage: &Stage) -> Outcome {
    let path = Path::new("/mnt/host-dev/shm").join(format!("own-{}", stage.run));
    let outcome = denied(std::fs::OpenOptions::new().write(true).create_new(true).open(&path));
    let _ = bindery::fs::remove_file(&path);
    outcome
}

fn host_root(stage: &Stage) -> Outcome {
    for above in ["/..", "/../..", "/proc/self/root/..", "/proc/self/cwd/../.."] {
        let found = format!("{above}{}", stage.secret);
        if Path::new(&found).symlink_metadata().is_ok() {
            return Err(found);
        }
    }
    Ok(String::new())
}

fn break_out(stage: &Stage) -> Outcome {
    let code = crate::probe::child(|| {
        let Ok(before) = ask(libc::SYS_open, [at(c"/"), 0o20_0000, 0, 0, 0]) else { return 2 };
        call(libc::SYS_chroot, [at(c"/tmp"), 0, 0, 0, 0]);
        call(libc::SYS_fchdir, [before.cast_unsigned(), 0, 0, 0, 0]);
        for _ in 0..64 {
            call(libc::SYS_chdir, [at(c".."), 0, 0, 0, 0]);
        }
        let path = format!(".{}\0", stage.secret);
        i32::from(call(libc::SYS_access, [at(path.as_bytes()), 0, 0, 0, 0]) == 0)
    });
    if code == 1 { Err("sees the host's files".into()) } else { Ok(format!("status {code}")) }
}

const HARMLESS: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

fn nodes(_: &Stage) -> Outcome {
    let mut found = Vec::new();
    for path in bindery::fs::read_dir(Path::new("/dev")).map_err(|e| e.to_string())? {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(kind) = path.symlink_metadata().map(|m| m.file_type()) else { continue };
        if (kind.is_char_device() || kind.is_block_device()) && !HARMLESS.contains(&name.as_str()) && name != "console"
        {
            found.push(name);
        }
    }
    if found.is_empty() { Ok(String::new()) } else { Err(format!("{} others, such as {}", found.len(), found[0])) }
}

fn dev_names(stage: &Stage) -> Outcome {
    match Path::new("/dev/shm").join(&stage.shm_file).symlink_metadata() {
        Ok(_) => Err("the host's /dev/shm".into()),
        Err(e) => Ok(e.to_string()),
    }
}

fn shm_size(_: &Stage) -> Outcome {
    let stat = match rustix::fs::statvfs("/dev/shm") {
        Ok(stat) => stat,
        Err(e) => return Ok(e.to_string()),
    };
    let size = stat.f_blocks * stat.f_frsize;
    if size > 0 && size <= 1 << 30 { Ok(format!("{} MiB", size >> 20)) } else { Err(format!("{} MiB", size >> 20)) }
}

fn secret(_: &Stage) -> Outcome {
    denied(bindery::fs::open(Path::new("/mnt/ro/secret")).map_err(|e| e.source))
}
