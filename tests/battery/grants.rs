//! What a sandbox grants, so that builds get what they need, and how each grant is taken away from a spec.
//!
//! A need must fail when what it names is not granted, and no other need may. With one grant less in each run that would
//! be some sixty runs; so they are taken away in groups: each grant has a number, and for each of its bits there is a run
//! without those that have it and a run without those that have it not. Any two grants are then apart in some run, and a
//! need that failed for another reason than it names fails where it must not, or does not where it must.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ablation::Set;
use crate::probe;

const INT: u64 = 0xffff_ffff;
/// AF_UNIX, AF_INET6 and AF_NETLINK; SOCK_DGRAM.
const FAMILIES: [u64; 3] = [1, 10, 16];
const DATAGRAMS: u64 = 2;

/// A system call refused, or, where there is a condition (argument, mask, value), some of its uses.
type Refusal = (&'static str, &'static str, Option<(u32, u64, u64)>);

const REFUSALS: &[Refusal] = &[
    ("allocation", "fallocate", None),
    ("copying", "copy_file_range", None),
    ("cpu-choice", "sched_setaffinity", None),
    ("event-descriptors", "epoll_create1", None),
    ("event-descriptors", "eventfd2", None),
    ("event-descriptors", "signalfd4", None),
    ("event-descriptors", "timerfd_create", None),
    ("exchanging", "renameat2", Some((4, 2, 2))),
    ("executable-memory", "mprotect", Some((2, 4, 4))),
    ("filters", "seccomp", None),
    ("flock", "flock", None),
    ("folders", "mkdir", None),
    ("folders", "mkdirat", None),
    ("hard-links", "link", None),
    ("hard-links", "linkat", None),
    ("inotify", "inotify_init1", None),
    ("io-priorities", "ioprio_set", None),
    ("ipv6", "socket", Some((0, INT, FAMILIES[1]))),
    ("limits-lowered", "prlimit64", Some((1, INT, 7))),
    ("memory-files", "memfd_create", None),
    ("memory-of-others", "process_vm_readv", None),
    ("message-queues", "msgget", None),
    ("modes-setuid", "chmod", Some((1, 0o4000, 0o4000))),
    ("modes-setuid", "fchmodat", Some((2, 0o4000, 0o4000))),
    ("modes-sticky", "chmod", Some((1, 0o1000, 0o1000))),
    ("modes-sticky", "fchmodat", Some((2, 0o1000, 0o1000))),
    ("netlink", "socket", Some((0, INT, FAMILIES[2]))),
    ("new-sessions", "setsid", None),
    ("nodes", "mknod", None),
    ("nodes", "mknodat", None),
    ("no-replace", "renameat2", Some((4, 1, 1))),
    ("old-personality", "personality", Some((0, INT, 8))),
    ("pidfd-signals", "pidfd_send_signal", None),
    ("pipe-sizes", "fcntl", Some((1, INT, 1031))),
    ("posix-queues", "mq_open", None),
    ("priorities", "setpriority", None),
    ("random-numbers", "getrandom", Some((2, INT, 0))),
    ("record-locks", "fcntl", Some((1, INT, 6))),
    ("renaming", "rename", None),
    ("scheduling", "sched_setscheduler", None),
    ("semaphores", "semget", None),
    ("shared-mappings", "mmap", Some((3, 0xf, 1))),
    ("sleeping", "nanosleep", None),
    ("socket-pairs", "socketpair", None),
    ("symbolic-links", "symlink", None),
    ("symbolic-links", "symlinkat", None),
    ("sysv-memory", "shmat", None),
    ("term-signals", "kill", Some((1, INT, 15))),
    ("threads", "clone", Some((0, 0x1_0000, 0x1_0000))),
    ("timers", "setitimer", None),
    ("times", "utimensat", None),
    ("tracing", "ptrace", None),
    ("udp", "socket", Some((1, 0xf, DATAGRAMS))),
    ("unnamed-files", "open", Some((1, 0x40_0000, 0x40_0000))),
    ("unnamed-files", "openat", Some((2, 0x40_0000, 0x40_0000))),
    ("unix-sockets", "socket", Some((0, INT, FAMILIES[0]))),
    ("writable-attributes", "setxattr", None),
];

/// Capabilities, which the spec has in capital letters.
const CAPABILITIES: [&str; 10] =
    ["chown", "dac_override", "fowner", "fsetid", "kill", "setfcap", "setgid", "setpcap", "setuid", "sys_chroot"];
const RLIMITS: [(&str, &str, u64); 3] = [
    ("file-sizes", "RLIMIT_FSIZE", 1 << 30),
    ("locked-memory", "RLIMIT_MEMLOCK", 0),
    ("processes", "RLIMIT_NPROC", 150),
];
/// Files of the root's that can be hidden.
const SHOWN: [(&str, &str); 2] = [("cpuinfo", "/proc/cpuinfo"), ("dev-zero", "/dev/zero")];
/// Mounts that can be left out.
const MOUNTS: [(&str, &str); 3] = [("dev-mqueue", "/dev/mqueue"), ("dev-shm", "/dev/shm"), ("bound-files", "/mnt/ro")];
/// What only the annotation of debug builds takes away.
const SWITCHES: [&str; 5] = ["device-links", "loopback-up", "low-ports", "unknown-calls", "userxattr"];
/// What [`take_away`] has a line of its own for.
const OTHERS: [&str; 5] = ["i386", "dev-pts", "writable-binds", "writable-root", "executable-tmp"];

/// Returns all grants, in the order of their numbers.
pub(crate) fn all() -> Vec<&'static str> {
    let names = REFUSALS.iter().map(|(name, ..)| *name).chain(RLIMITS.map(|(name, ..)| name));
    let names = names.chain(SHOWN.map(|(name, _)| name)).chain(MOUNTS.map(|(name, _)| name));
    let names = names.chain(SWITCHES).chain(OTHERS).chain(CAPABILITIES);
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns whether the spec alone can leave it out.
pub(crate) fn is_of_the_spec(name: &str) -> bool {
    all().contains(&name) && !SWITCHES.contains(&name)
}

/// Returns the groups that are taken away together.
pub(crate) fn groups() -> Vec<Set> {
    let all = all();
    let bits = usize::BITS - (all.len() - 1).leading_zeros();
    let group = |bit: u32, set: bool| {
        all.iter().enumerate().filter(|(number, _)| (number >> bit & 1 == 1) == set).map(|(_, name)| *name).collect()
    };
    (0..bits).flat_map(|bit| [group(bit, false), group(bit, true)]).collect()
}

/// Returns what no need names, and what needs name that is no grant.
pub(crate) fn mistakes() -> Vec<&'static str> {
    let named: BTreeSet<_> = probe::all()
        .filter(|probe| probe.is_need)
        .flat_map(|probe| probe.guards.split_whitespace())
        .filter(|word| *word != "|")
        .collect();
    let all: BTreeSet<_> = all().into_iter().collect();
    named.symmetric_difference(&all).copied().collect()
}

/// Takes grants from a spec; for what is executable in /tmp, `folder` is bound there.
pub(crate) fn take_away(spec: &mut Value, off: &Set, folder: &std::path::Path) {
    let is_off = |name: &str| off.contains(name);
    let refused = REFUSALS.iter().filter(|(name, ..)| is_off(name)).map(|(_, call, condition)| {
        // Without threads a test is run by the one there is, if it is told that there are too many.
        let error = match *call {
            "clone" => nix::libc::EAGAIN,
            "socket" | "socketpair" => nix::libc::EAFNOSUPPORT,
            _ => nix::libc::EPERM,
        };
        let mut rule = json!({"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": error});
        if let Some((index, mask, value)) = condition {
            let op = "SCMP_CMP_MASKED_EQ";
            rule["args"] = json!([{"index": index, "value": mask, "valueTwo": value, "op": op}]);
        }
        rule
    });
    // The first that matches wins.
    let rules = spec["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
    rules.splice(0..0, refused);
    if is_off("i386") {
        let all = spec["linux"]["seccomp"]["architectures"].as_array_mut().unwrap();
        all.retain(|name| name != "SCMP_ARCH_X86");
    }
    for name in CAPABILITIES.into_iter().filter(|name| is_off(name)) {
        for set in ["bounding", "permitted", "effective"] {
            let all = spec["process"]["capabilities"][set].as_array_mut().unwrap();
            all.retain(|capability| *capability != format!("CAP_{}", name.to_uppercase()));
        }
    }
    for (_, typ, limit) in RLIMITS.into_iter().filter(|(name, ..)| is_off(name)) {
        let limit = json!({"type": typ, "soft": limit, "hard": limit});
        spec["process"]["rlimits"].as_array_mut().unwrap().push(limit);
    }
    for (_, path) in SHOWN.into_iter().filter(|(name, _)| is_off(name)) {
        spec["linux"]["maskedPaths"].as_array_mut().unwrap().push(path.into());
    }
    spec["root"]["readonly"] = is_off("writable-root").into();
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !MOUNTS.iter().any(|(name, path)| is_off(name) && mount["destination"] == *path));
    if is_off("dev-pts") {
        let cover = json!({"destination": "/dev/pts", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]});
        mounts.push(cover);
    }
    if is_off("writable-root") {
        let options = mounts[0]["options"].as_array_mut().unwrap();
        options.retain(|option| !["upperdir", "workdir"].iter().any(|o| option.as_str().unwrap().starts_with(o)));
    }
    if is_off("writable-binds") {
        for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/mnt/rw") {
            mount["options"].as_array_mut().unwrap().push("ro".into());
        }
    }
    if is_off("executable-tmp") {
        let access = if is_off("writable-root") { "ro" } else { "rw" };
        let options = ["rbind", access, "noexec", "nosuid", "nodev"];
        mounts.push(json!({"destination": "/tmp", "type": "bind", "source": folder, "options": options}));
    }
}
