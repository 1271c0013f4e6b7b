//! /proc: what tells of the host is covered, what changes the kernel is read-only. Nothing is written: a file that opens
//! for writing is enough to know.

use crate::probe::{How, Probe};

const ROOTS: &str = "root: id-range read-only-paths";

const fn shows(name: &'static str, stands_for: &'static str, guards: &'static str, path: &'static str) -> Probe {
    Probe { name, stands_for, guards, is_need: false, how: How::Shows(path) }
}

const fn opens(name: &'static str, stands_for: &'static str, guards: &'static str, path: &'static str) -> Probe {
    Probe { name, stands_for, guards, is_need: false, how: How::Writable(path) }
}

pub(crate) const PROBES: &[Probe] = &[
    shows("proc-interrupts", "times the host's devices and keys", "masked-paths", "/proc/interrupts"),
    shows("proc-keys", "lists keys", "masked-paths", "/proc/keys"),
    shows("proc-timer-list", "timers and addresses of the host", "root: id-range masked-paths", "/proc/timer_list"),
    shows("proc-acpi", "hardware of the host, CVE-2018-10892", "masked-paths", "/proc/acpi"),
    shows("proc-scsi", "removes disks of the host, CVE-2017-16539", "masked-paths", "/proc/scsi"),
    opens(
        "sysctl-network",
        "changes the network's settings",
        "read-only-paths second-user-namespace capabilities | root: id-range read-only-paths",
        "/proc/sys/net/ipv4/ip_forward",
    ),
    opens("sysctl-ipc", "lifts the limits of shared memory", "read-only-paths", "/proc/sys/kernel/shmmax"),
    opens("sysctl-queue", "lifts the limits of message queues", "read-only-paths", "/proc/sys/fs/mqueue/msg_max"),
    opens(
        "sysctl-user-namespaces",
        "lifts the limit of user namespaces",
        "read-only-paths capabilities",
        "/proc/sys/user/max_user_namespaces",
    ),
    opens("pressure-trigger", "has the kernel watch for it, CVE-2022-2938", "read-only-paths", "/proc/pressure/cpu"),
    opens(
        "core-pattern",
        "a program of its choice, run by the host's root when something crashes",
        ROOTS,
        "/proc/sys/kernel/core_pattern",
    ),
    opens("modprobe-path", "a program of its choice as the host's modprobe", ROOTS, "/proc/sys/kernel/modprobe"),
    opens("sysctl-panic", "has the machine stop on a warning", ROOTS, "/proc/sys/kernel/panic"),
    opens("drop-caches", "slows the host down", ROOTS, "/proc/sys/vm/drop_caches"),
    opens(
        "protected-links",
        "takes the host's protection against link races away",
        ROOTS,
        "/proc/sys/fs/protected_symlinks",
    ),
    opens("sysrq", "restarts the machine", ROOTS, "/proc/sysrq-trigger"),
    opens("interrupt-affinity", "moves the host's interrupts", ROOTS, "/proc/irq/default_smp_affinity"),
];
