//! What builds do with files.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::libc;

use crate::namespaces::file_capability;
use crate::probe::{Outcome, Probe, at, call, need, same, worked, works};
use crate::stage::Stage;

const HERE: u64 = 0xffff_ff9c;

pub(crate) const PROBES: &[Probe] = &[
    need("chown", "image phases give files to any user and group", "chown | writable-root", chown),
    need("setuid-bits", "packages with setuid and setgid files", "modes-setuid | writable-root", |_| {
        mode("setuid", 0o6755)
    }),
    need("sticky-folder", "folders such as /tmp in packages", "modes-sticky | folders | writable-root", sticky),
    need(
        "setgid-folder",
        "new files take a setgid folder's group",
        "chown | fsetid | folders | writable-root",
        setgid_folder,
    ),
    need(
        "file-capability",
        "fcaps.eclass sets capabilities on files",
        "setfcap | writable-attributes | writable-root",
        capability,
    ),
    need("user-attributes", "extended attributes of users", "writable-attributes | writable-root", |_| {
        attribute(c"user.battery")
    }),
    need("access-lists", "access control lists", "writable-attributes | writable-root", access_list),
    need("fifo", "named pipes", "nodes | writable-root", |_| node("fifo", libc::S_IFIFO)),
    need("socket-file", "socket files by mknod(2)", "nodes | writable-root", |_| node("node", libc::S_IFSOCK)),
    need("hard-link", "hard links", "hard-links | writable-root", hard_link),
    need("symbolic-link", "symbolic links", "symbolic-links | writable-root", symbolic_link),
    need("exchange", "RENAME_EXCHANGE, as git and package managers do", "exchanging | writable-root", |_| rename(2)),
    need("rename-no-replace", "RENAME_NOREPLACE", "no-replace | writable-root", rename_no_replace),
    need("rename-folder", "renames of folders that a layer below has", "renaming | writable-root", rename_folder),
    need("remove-lower", "removes what a layer below has", "writable-root", remove_lower),
    need("sparse", "sparse files of a terabyte", "file-sizes | writable-root", sparse),
    need("unnamed-file", "O_TMPFILE", "unnamed-files | writable-root", |_| {
        let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
        match rustix::fs::open("/tmp", flags, 0o600.into()) {
            // Programs know that: older kernels' overlayfs has none.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok("not supported".into()),
            opened => works(opened.map_err(Into::into)),
        }
    }),
    need("locks", "flock and record locks", "flock | record-locks | writable-root", locks),
    need("mapped-file", "files mapped into shared memory", "shared-mappings | writable-root", mapped),
    need("allocate", "fallocate(2)", "allocation | writable-root", allocate),
    need("copy-range", "copy_file_range(2) and reflinks' fall-back", "copying | writable-root", copy_range),
    need("long-names", "names of 255 bytes, in folders 100 deep", "folders | writable-root", long_names),
    need("strange-names", "names with newlines, escapes and bytes that are no UTF-8", "writable-root", strange_names),
    need("times", "file times in the past and the future", "times | writable-root", |_| same(times(), 0)),
    need("foreign-owner-write", "root writes to anyone's files", "chown | dac_override | writable-root", foreign_owner),
    need("notice-changes", "inotify(7)", "inotify", notice),
    need("dev-fd", "/dev/fd, /dev/stdin: shells' process substitution", "device-links | writable-root", dev_fd),
    need("dev-nodes-work", "/dev/null, zero, full, random, urandom", "dev-zero", dev_nodes),
    need(
        "foreign-owner-mode",
        "root changes modes and times of anyone's files",
        "chown | fowner | writable-root",
        |_| {
            let path = fresh("mode")?;
            std::os::unix::fs::chown(&path, Some(250), Some(250)).map_err(|e| e.to_string())?;
            works(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)))
        },
    ),
    need(
        "remove-lower-folder",
        "makes a folder anew that a layer below has",
        "userxattr | folders | writable-root",
        again,
    ),
    need("strange-names-bound", "archives with such names", "bound-files", |_| {
        use std::os::unix::ffi::OsStrExt as _;
        let name = std::ffi::OsStr::from_bytes(crate::ablation::STRANGE);
        works(bindery::fs::read(&Path::new("/mnt/ro").join(name)).map_err(|e| e.source))
    }),
    need("writable-bind", "writes where the host lets it", "writable-binds", |_| {
        works(bindery::fs::write(Path::new("/mnt/rw/file"), "x").map_err(|e| e.source))
    }),
    need("read-only-bind", "reads what the host shows", "bound-files", |_| {
        works(bindery::fs::read(Path::new("/mnt/ro/file")).map_err(|e| e.source))
    }),
];

fn fresh(name: &str) -> Result<String, String> {
    let path = format!("/tmp/need-{name}");
    bindery::fs::write(Path::new(&path), "content").map_err(|e| e.source.to_string())?;
    Ok(path)
}

fn chown(_: &Stage) -> Outcome {
    let path = fresh("chown")?;
    std::os::unix::fs::chown(&path, Some(250), Some(1000)).map_err(|e| e.to_string())?;
    let is = Path::new(&path).symlink_metadata().map_err(|e| e.to_string())?;
    same((is.uid(), is.gid()), (250, 1000))
}

fn mode(name: &str, mode: u32) -> Outcome {
    let path = fresh(name)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(|e| e.to_string())?;
    same(Path::new(&path).symlink_metadata().map_err(|e| e.to_string())?.mode() & 0o7777, mode)
}

fn folder(name: &str) -> Result<String, String> {
    let path = format!("/tmp/need-{name}");
    bindery::fs::create_dir(Path::new(&path), 0o755).map_err(|e| e.source.to_string())?;
    Ok(path)
}

fn sticky(_: &Stage) -> Outcome {
    let path = folder("sticky")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).map_err(|e| e.to_string())?;
    same(Path::new(&path).symlink_metadata().map_err(|e| e.to_string())?.mode() & 0o7777, 0o1777)
}

fn setgid_folder(_: &Stage) -> Outcome {
    let path = folder("setgid")?;
    std::os::unix::fs::chown(&path, None, Some(1000)).map_err(|e| e.to_string())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o2775)).map_err(|e| e.to_string())?;
    let file = format!("{path}/file");
    works(std::fs::OpenOptions::new().create_new(true).write(true).open(&file))?;
    same(Path::new(&file).symlink_metadata().map_err(|e| e.to_string())?.gid(), 1000)
}

fn capability(_: &Stage) -> Outcome {
    let path = format!("{}\0", fresh("capability")?);
    let value = file_capability();
    worked(call(libc::SYS_setxattr, [at(path.as_bytes()), at(c"security.capability"), at(&value), 20, 0]))
}

fn attribute(name: &std::ffi::CStr) -> Outcome {
    let path = format!("{}\0", fresh("attribute")?);
    worked(call(libc::SYS_setxattr, [at(path.as_bytes()), at(name.to_bytes_with_nul()), at(b"x"), 1, 0]))
}

fn access_list(_: &Stage) -> Outcome {
    let path = format!("{}\0", fresh("acl")?);
    // Version 2; owner rw, user 250 r, group r, mask r, others none (posix_acl_xattr.h).
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 250), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let length = value.len() as u64;
    let name = at(c"system.posix_acl_access");
    worked(call(libc::SYS_setxattr, [at(path.as_bytes()), name, at(value.as_slice()), length, 0]))
}

fn node(name: &str, kind: u32) -> Outcome {
    let path = format!("/tmp/need-{name}\0");
    worked(call(libc::SYS_mknod, [at(path.as_bytes()), u64::from(kind | 0o644), 0, 0, 0]))
}

fn hard_link(_: &Stage) -> Outcome {
    let path = fresh("link")?;
    works(bindery::fs::hard_link(Path::new(&path), Path::new("/tmp/need-linked")).map_err(|e| e.source))?;
    same(Path::new(&path).symlink_metadata().map_err(|e| e.to_string())?.nlink(), 2)
}

fn symbolic_link(_: &Stage) -> Outcome {
    works(bindery::fs::symlink(Path::new("/nowhere"), Path::new("/tmp/need-symlink")).map_err(|e| e.source))
}

fn rename(flags: u64) -> Outcome {
    let (a, b) = (format!("{}\0", fresh("a")?), format!("{}\0", fresh("b")?));
    worked(call(libc::SYS_renameat2, [HERE, at(a.as_bytes()), HERE, at(b.as_bytes()), flags]))
}

fn rename_no_replace(_: &Stage) -> Outcome {
    match rename(1) {
        Err(why) if why == "EEXIST" => Ok(why),
        Err(why) => Err(why),
        Ok(_) => Err("replaced".into()),
    }
}

fn rename_folder(_: &Stage) -> Outcome {
    // EXDEV is what overlayfs says without redirects; mv(1) and others then copy.
    match bindery::fs::rename(Path::new("/etc/folder"), Path::new("/etc/renamed")) {
        Err(e) if e.source.kind() != std::io::ErrorKind::CrossesDevices => Err(e.source.to_string()),
        _ => Ok(String::new()),
    }
}

fn remove_lower(_: &Stage) -> Outcome {
    works(bindery::fs::remove_file(Path::new("/etc/lower")).map_err(|e| e.source))?;
    same(Path::new("/etc/lower").symlink_metadata().is_ok(), false)
}

fn again(_: &Stage) -> Outcome {
    let folder = Path::new("/etc/again");
    bindery::fs::remove_file(&folder.join("file")).map_err(|e| e.to_string())?;
    works(std::fs::remove_dir(folder))?;
    bindery::fs::create_dir(folder, 0o755).map_err(|e| e.to_string())?;
    same(bindery::fs::read_dir(folder).map_err(|e| e.to_string())?.len(), 0)
}

fn sparse(_: &Stage) -> Outcome {
    let mut file = std::fs::OpenOptions::new().write(true).open(fresh("sparse")?).map_err(|e| e.to_string())?;
    file.seek(SeekFrom::Start(1 << 40)).map_err(|e| e.to_string())?;
    works(file.write_all(b"x"))
}

fn locks(_: &Stage) -> Outcome {
    let file = std::fs::OpenOptions::new().write(true).open(fresh("locks")?).map_err(|e| e.to_string())?;
    works(file.lock())?;
    // struct flock: a write lock (l_type 1) of everything.
    let fd = u64::from(std::os::fd::AsRawFd::as_raw_fd(&file).cast_unsigned());
    worked(call(libc::SYS_fcntl, [fd, 6, at(&[1_u64, 0, 0, 0]), 0, 0]))
}

fn mapped(_: &Stage) -> Outcome {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(fresh("mapped")?).map_err(|e| e.to_string())?;
    let fd = u64::from(std::os::fd::AsRawFd::as_raw_fd(&file).cast_unsigned());
    worked(crate::probe::call6(libc::SYS_mmap, [0, 4096, 3, 1, fd, 0]))
}

fn allocate(_: &Stage) -> Outcome {
    let file = std::fs::OpenOptions::new().write(true).open(fresh("allocate")?).map_err(|e| e.to_string())?;
    let fd = u64::from(std::os::fd::AsRawFd::as_raw_fd(&file).cast_unsigned());
    worked(call(libc::SYS_fallocate, [fd, 0, 0, 1 << 16, 0]))
}

fn copy_range(_: &Stage) -> Outcome {
    let file =
        |name: &str| std::fs::OpenOptions::new().read(true).write(true).open(fresh(name)?).map_err(|e| e.to_string());
    let (from, to) = (file("from")?, file("to")?);
    let number = |file: &std::fs::File| u64::from(std::os::fd::AsRawFd::as_raw_fd(file).cast_unsigned());
    same(call(libc::SYS_copy_file_range, [number(&from), 0, number(&to), 0, 7]), 7)
}

fn long_names(_: &Stage) -> Outcome {
    let mut path = folder("deep")?;
    for _ in 0..100 {
        path.push_str("/deep");
        bindery::fs::create_dir(Path::new(&path), 0o755).map_err(|e| e.source.to_string())?;
    }
    works(bindery::fs::write(Path::new(&format!("{path}/{}", "n".repeat(255))), "x").map_err(|e| e.source))
}

fn strange_names(_: &Stage) -> Outcome {
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::OsStr::from_bytes(b"/tmp/\x1b[31m\n\xff\xfe -rf *");
    works(bindery::fs::write(Path::new(name), "x").map_err(|e| e.source))
}

fn times() -> i64 {
    let Ok(path) = fresh("times") else { return -1 };
    let times = [-1_i64, 0, 4_000_000_000, 0];
    call(libc::SYS_utimensat, [HERE, at(format!("{path}\0").as_bytes()), at(&times), 0, 0])
}

fn foreign_owner(_: &Stage) -> Outcome {
    let path = fresh("foreign")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).map_err(|e| e.to_string())?;
    std::os::unix::fs::chown(&path, Some(250), Some(250)).map_err(|e| e.to_string())?;
    works(std::fs::OpenOptions::new().write(true).open(&path))
}

fn notice(_: &Stage) -> Outcome {
    let fd = crate::needs::watcher();
    worked(fd)?;
    worked(call(libc::SYS_inotify_add_watch, [fd.cast_unsigned(), at(c"/tmp"), 2, 0, 0]))
}

fn dev_fd(_: &Stage) -> Outcome {
    let file = std::fs::OpenOptions::new().read(true).open(fresh("devfd")?).map_err(|e| e.to_string())?;
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    works(bindery::fs::read(Path::new(&path)).map_err(|e| e.source))
}

fn dev_nodes(_: &Stage) -> Outcome {
    works(std::fs::OpenOptions::new().write(true).open("/dev/null").and_then(|mut f| f.write_all(b"x")))?;
    for node in ["zero", "random", "urandom"] {
        let read = bindery::fs::open(&Path::new("/dev").join(node)).map_err(|e| e.source);
        works(read.and_then(|mut file| std::io::Read::read_exact(&mut file, &mut [0; 4])))?;
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").and_then(|mut f| f.write_all(b"x"));
    same(full.is_err(), true)
}
