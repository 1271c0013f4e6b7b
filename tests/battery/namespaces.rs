//! Namespaces of its own making, ids and capabilities regained, and what is seen of the host's namespaces.

use nix::libc;
use std::path::Path;

use crate::probe::{Outcome, Probe, ask, at, attack, call, name, refused, same};
use crate::program::{AM_I_ROOT, MAY_I_CHROOT, elf64, execute, install};
use crate::stage::Stage;

const OWN_USER: &str = "filter user-namespace-limit | filter second-user-namespace";
const OTHERS: &str = "filter capabilities";

pub(crate) const PROBES: &[Probe] = &[
    attack(
        "unshare-user",
        "a user namespace of its own, with all capabilities in it: CVE-2022-0185, CVE-2023-32233, CVE-2024-1086",
        OWN_USER,
        unshare_user,
    ),
    attack("clone-user", "the same by clone(2)", OWN_USER, clone_user),
    attack("mount-in-own-namespace", "mounts in namespaces of its own: CVE-2023-0386", OWN_USER, mount_in_own),
    attack(
        "netfilter-in-own-namespace",
        "a network to administer, with nf_tables: CVE-2024-1086",
        OWN_USER,
        network_in_own,
    ),
    attack("unshare-mount", "mounts of its own", OTHERS, |_| unshare(libc::CLONE_NEWNS)),
    attack("unshare-network", "a network of its own to administer", OTHERS, |_| unshare(libc::CLONE_NEWNET)),
    attack("unshare-pid", "processes that nobody sees", OTHERS, |_| unshare(libc::CLONE_NEWPID)),
    attack("unshare-ipc", "queues without the limits of the sandbox's", OTHERS, |_| unshare(libc::CLONE_NEWIPC)),
    attack("unshare-uts", "another host name", OTHERS, |_| unshare(libc::CLONE_NEWUTS)),
    attack("unshare-cgroup", "hides in a control group namespace, CVE-2022-0492", OTHERS, |_| {
        unshare(libc::CLONE_NEWCGROUP)
    }),
    attack("unshare-time", "clocks of its own", OTHERS, |_| unshare(libc::CLONE_NEWTIME)),
    attack("capabilities", "more capabilities than a build needs", "capabilities", capabilities),
    attack(
        "capabilities-of-the-host",
        "capabilities that own the namespaces' resources",
        "second-user-namespace",
        owner,
    ),
    attack("no-new-privileges", "gains privileges by execve(2)", "no-new-privileges", no_new_privileges),
    attack(
        "setuid-program",
        "root again by a setuid file, after it was given up",
        "no-new-privileges nosuid",
        setuid_program,
    ),
    attack(
        "setuid-program-in-a-bind",
        "the same in a folder shared with the host",
        "no-new-privileges nosuid",
        setuid_in_bind,
    ),
    attack(
        "file-capabilities",
        "capabilities by a file's attribute, CVE-2021-3493",
        "no-new-privileges nosuid",
        file_capabilities,
    ),
    attack(
        "become-the-caller",
        "becomes the host's user who started the build",
        "second-user-namespace",
        become_caller,
    ),
    attack("host-name", "builds that depend on where they run", "uts-namespace", host_name),
    attack("host-processes", "sees, signals and traces the host's processes", "pid-namespace", host_processes),
    attack("host-shared-memory", "System V shared memory of the host's", "ipc-namespace", shared_memory),
    attack("host-message-queue", "POSIX message queues of the host's", "ipc-namespace", message_queue),
    attack("host-control-group", "learns of the host by its control group's name", "cgroup-namespace", control_group),
];

fn unshare(flags: i32) -> Outcome {
    refused(call(libc::SYS_unshare, [u64::from(flags.cast_unsigned()), 0, 0, 0, 0]))
}

/// The namespace of the probe before may not be quite gone, which only matters where there may be one.
pub(crate) fn patiently(mut attempt: impl FnMut() -> i64) -> i64 {
    let limited = owner(&Stage::default()).is_ok();
    for _ in 0..2000 {
        match attempt() {
            -28 if !limited => std::thread::sleep(std::time::Duration::from_millis(10)),
            result => return result,
        }
    }
    -28
}

fn unshare_user(_: &Stage) -> Outcome {
    refused(patiently(|| call(libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0])))
}

fn clone_user(_: &Stage) -> Outcome {
    let flags = u64::from((libc::CLONE_NEWUSER | libc::SIGCHLD).cast_unsigned());
    refused(patiently(|| match call(libc::SYS_clone, [flags, 0, 0, 0, 0]) {
        0 => crate::probe::exit(0),
        result => result,
    }))
}

fn mount_in_own(_: &Stage) -> Outcome {
    let made = patiently(|| call(libc::SYS_unshare, [0x1002_0000, 0, 0, 0, 0]));
    if made < 0 {
        return Ok(name(made));
    }
    let tmpfs = at(c"tmpfs");
    refused(call(libc::SYS_mount, [tmpfs, at(c"/tmp"), tmpfs, 0, 0]))
}

fn network_in_own(_: &Stage) -> Outcome {
    match patiently(|| call(libc::SYS_unshare, [0x5000_0000, 0, 0, 0, 0])) {
        0 => set_mtu(),
        result => Ok(name(result)),
    }
}

/// Sets what it is already.
pub(crate) fn set_mtu() -> Outcome {
    let socket = crate::probe::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    let (get, set) = (libc::SIOCGIFMTU, libc::SIOCSIFMTU);
    let fd = u64::try_from(socket).map_err(|_| String::new());
    let Ok(fd) = fd else { return Ok(name(socket)) };
    call(libc::SYS_ioctl, [fd, get, at(&request), 0, 0]);
    refused(call(libc::SYS_ioctl, [fd, set, at(&request), 0, 0]))
}

/// CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
const NEEDED: u64 = 0x8004_05fb;

fn capabilities(_: &Stage) -> Outcome {
    let status = bindery::fs::read_to_string(Path::new("/proc/self/status")).map_err(|e| e.to_string())?;
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("-").trim();
        u64::from_str_radix(line, 16).unwrap_or(u64::MAX)
    });
    let all = sets.into_iter().fold(0, |all, set| all | set);
    if all & !NEEDED == 0 { Ok(format!("{all:x}")) } else { Err(format!("{:x} besides", all & !NEEDED)) }
}

/// Whether the mounts' (and so all namespaces') owner is this process's own user namespace: the parent of the one that
/// its capabilities are in must not be ours.
fn owner(_: &Stage) -> Outcome {
    /// NS_GET_USERNS (linux/nsfs.h).
    const NS_GET_USERNS: u64 = 0xb701;
    let file = bindery::fs::open(Path::new("/proc/self/ns/uts")).map_err(|e| e.to_string())?;
    let fd = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
    match ask(libc::SYS_ioctl, [fd, NS_GET_USERNS, 0, 0, 0]) {
        Err(e) => Ok(name(i64::from(-e))),
        Ok(_) => Err("its user namespace owns the others".into()),
    }
}

fn no_new_privileges(_: &Stage) -> Outcome {
    same(call(libc::SYS_prctl, [39, 0, 0, 0, 0]), 1)
}

fn setuid_at(path: &str) -> Outcome {
    install(path, &elf64(AM_I_ROOT), 0o4755).map_or_else(Ok, |()| match execute(path, 1000) {
        7 => Err("root again".into()),
        code => Ok(format!("status {code}")),
    })
}

fn setuid_program(_: &Stage) -> Outcome {
    setuid_at("/tmp/setuid")
}

fn setuid_in_bind(_: &Stage) -> Outcome {
    setuid_at("/mnt/rw/setuid")
}

/// struct vfs_cap_data of version 2, effective, with CAP_SYS_CHROOT permitted (linux/capability.h).
pub(crate) fn file_capability() -> [u32; 5] {
    [0x0200_0001, 1 << 18, 0, 0, 0]
}

fn file_capabilities(_: &Stage) -> Outcome {
    let path = "/tmp/capable";
    if let Err(why) = install(path, &elf64(MAY_I_CHROOT), 0o755) {
        return Ok(why);
    }
    let value = file_capability();
    let set = call(libc::SYS_setxattr, [at(c"/tmp/capable"), at(c"security.capability"), at(&value), 20, 0]);
    if set < 0 {
        return Ok(name(set));
    }
    match execute(path, 1000) {
        7 => Err("may use chroot".into()),
        code => Ok(format!("status {code}")),
    }
}

fn become_caller(stage: &Stage) -> Outcome {
    // The last id of bindery's outer namespace is an ordinary user's own; elsewhere the map tells.
    let mut uid = 65535;
    if !stage.ours {
        let map = bindery::fs::read_to_string(Path::new("/proc/self/uid_map")).map_err(|e| e.to_string())?;
        let caller = u64::from(stage.caller);
        let found = map.lines().find_map(|line| {
            let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
            let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            (outside..outside + count).contains(&caller).then(|| inside + caller - outside)
        });
        match found {
            Some(found) => uid = found,
            None => return Ok("not mapped".into()),
        }
    }
    refused(call(libc::SYS_setresuid, [uid, uid, uid, 0, 0]))
}

fn host_name(stage: &Stage) -> Outcome {
    let name = bindery::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).map_err(|e| e.to_string())?;
    let name = name.trim();
    if name == stage.host_name { Err(name.to_string()) } else { Ok(name.to_string()) }
}

fn host_processes(_: &Stage) -> Outcome {
    let own = std::process::id();
    for dir in bindery::fs::read_dir(Path::new("/proc")).map_err(|e| e.to_string())? {
        let line = bindery::fs::read(&dir.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains(crate::stage::MARK) {
            return Err(format!("sees {} from {own}", dir.display()));
        }
    }
    Ok(format!("is process {own}"))
}

fn shared_memory(stage: &Stage) -> Outcome {
    refused(call(libc::SYS_shmget, [stage.ipc_key, 0, 0, 0, 0]))
}

fn message_queue(stage: &Stage) -> Outcome {
    let name = std::ffi::CString::new(stage.queue.as_str()).unwrap();
    refused(call(libc::SYS_mq_open, [at(name.to_bytes_with_nul()), 0, 0, 0, 0]))
}

fn control_group(_: &Stage) -> Outcome {
    let groups = bindery::fs::read_to_string(Path::new("/proc/self/cgroup")).map_err(|e| e.to_string())?;
    let names: std::collections::BTreeSet<_> = groups.lines().filter_map(|l| l.splitn(3, ':').nth(2)).collect();
    match names.iter().find(|name| **name != "/") {
        Some(name) => Err((*name).to_string()),
        None => Ok(format!("{names:?}")),
    }
}
