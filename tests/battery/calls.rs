//! System calls whose code in the kernel a build must not reach, by the 64-bit entry point.

use nix::libc;

use crate::probe::{How, Outcome, Probe, attack, call, not_reached, refused};
use crate::stage::Stage;

const BAD: u64 = u64::MAX;
const WORD: u64 = 0xffff_ffff;
/// Numbers of the x32 ABI, which few kernels have, begin here.
const X32: i64 = 0x4000_0000;

const fn reach(name: &'static str, stands_for: &'static str, number: i64, args: [u64; 5]) -> Probe {
    Probe { name, stands_for, guards: "filter", is_need: false, how: How::Call(number, args) }
}

/// As [`reach`], for calls that ask for a capability in the namespace's owner before they look at anything.
const fn powerful(name: &'static str, stands_for: &'static str, number: i64, args: [u64; 5]) -> Probe {
    Probe {
        name,
        stands_for,
        guards: "filter second-user-namespace capabilities",
        is_need: false,
        how: How::Call(number, args),
    }
}

pub(crate) const PROBES: &[Probe] = &[
    reach("call-umount2", "uncovers masked paths", libc::SYS_umount2, [0, 0xffff, 0, 0, 0]),
    reach("call-open-tree", "copies mounts (new mount API)", libc::SYS_open_tree, [BAD, 0, WORD, 0, 0]),
    reach("call-mount-setattr", "makes read-only mounts writable", libc::SYS_mount_setattr, [BAD, 0, WORD, 0, 0]),
    reach(
        "call-fsconfig",
        "heap overflow in legacy_parse_param, CVE-2022-0185",
        libc::SYS_fsconfig,
        [BAD, 99, 0, 0, 0],
    ),
    powerful("call-fsopen", "file systems from hostile data, CVE-2022-0185", libc::SYS_fsopen, [0, WORD, 0, 0, 0]),
    powerful("call-fspick", "reconfigures a mounted file system", libc::SYS_fspick, [BAD, 0, WORD, 0, 0]),
    powerful("call-fsmount", "mounts what fsopen made", libc::SYS_fsmount, [BAD, WORD, 0, 0, 0]),
    powerful("call-move-mount", "moves a mount over another", libc::SYS_move_mount, [BAD, 0, BAD, 0, WORD]),
    powerful("call-pivot-root", "leaves the root by another", libc::SYS_pivot_root, [0, 0, 0, 0, 0]),
    powerful("call-reboot", "ends process 1, or the machine", libc::SYS_reboot, [0, 0, 0, 0, 0]),
    powerful("call-sethostname", "builds that depend on the host's name", libc::SYS_sethostname, [0, BAD, 0, 0, 0]),
    powerful(
        "call-setdomainname",
        "builds that depend on the host's domain",
        libc::SYS_setdomainname,
        [0, BAD, 0, 0, 0],
    ),
    reach("call-setns", "enters another namespace", libc::SYS_setns, [BAD, 0, 0, 0, 0]),
    reach(
        "call-name-to-handle-at",
        "handles that reach around folders",
        libc::SYS_name_to_handle_at,
        [BAD, 0, 0, 0, WORD],
    ),
    reach(
        "call-open-by-handle-at",
        "opens any file of the host's disk (shocker, 2014)",
        libc::SYS_open_by_handle_at,
        [BAD, 0, 0, 0, 0],
    ),
    reach("call-keyctl", "reads and changes the host's keyrings; CVE-2016-0728", libc::SYS_keyctl, [9999, 0, 0, 0, 0]),
    reach("call-add-key", "fills the host's key quota; CVE-2017-15299", libc::SYS_add_key, [0, 0, 0, 0, 0]),
    reach("call-request-key", "has the host run /sbin/request-key", libc::SYS_request_key, [0, 0, 0, 0, 0]),
    reach("call-bpf", "verifier holes, CVE-2021-3490, CVE-2022-23222", libc::SYS_bpf, [0, 0, 1 << 20, 0, 0]),
    reach(
        "call-perf-event-open",
        "CVE-2013-2094, and watching other processes",
        libc::SYS_perf_event_open,
        [0, 0, 0, 0, 0],
    ),
    reach(
        "call-userfaultfd",
        "stops the kernel in the middle of a copy, the helper of most races",
        libc::SYS_userfaultfd,
        [0x101, 0, 0, 0, 0],
    ),
    reach(
        "call-io-uring",
        "CVE-2022-29582, CVE-2023-2598; goes around filters",
        libc::SYS_io_uring_setup,
        [0, 0, 0, 0, 0],
    ),
    reach(
        "call-io-uring-enter",
        "as io_uring_setup, with a ring from elsewhere",
        libc::SYS_io_uring_enter,
        [BAD, 0, 0, WORD, 0],
    ),
    reach("call-io-uring-register", "as io_uring_setup", libc::SYS_io_uring_register, [BAD, 99, 0, 0, 0]),
    reach("call-swapon", "swaps to a file of the build's", libc::SYS_swapon, [0, WORD, 0, 0, 0]),
    reach("call-fanotify", "watches the whole file system", libc::SYS_fanotify_init, [0x200, 0, 0, 0, 0]),
    reach("call-fanotify-mark", "watches the whole file system", libc::SYS_fanotify_mark, [BAD, WORD, 0, 0, 0]),
    reach("call-pidfd-getfd", "takes descriptors from other processes", libc::SYS_pidfd_getfd, [BAD, 0, 0, 0, 0]),
    reach("call-process-madvise", "pages other processes out", libc::SYS_process_madvise, [BAD, 0, 0, 0, 0]),
    reach("call-kcmp", "tells kernel addresses apart", libc::SYS_kcmp, [WORD, WORD, 0, 0, 0]),
    reach("call-clock-settime", "changes the machine's clock", libc::SYS_clock_settime, [9999, 0, 0, 0, 0]),
    attack("call-settimeofday", "changes the machine's clock", "filter", settimeofday),
    reach("call-iopl", "hardware ports", libc::SYS_iopl, [4, 0, 0, 0, 0]),
    reach("call-ioperm", "hardware ports", libc::SYS_ioperm, [BAD, 2, 1, 0, 0]),
    reach("call-move-pages", "moves pages of other processes", libc::SYS_move_pages, [WORD, 0, 0, 0, 0xff]),
    reach("call-mbind", "memory policies, CVE-2016-6213 and kin", libc::SYS_mbind, [1, 0, 99, 0, 0]),
    reach("call-migrate-pages", "moves pages of other processes", libc::SYS_migrate_pages, [WORD, 0, 0, 0, 0]),
    reach("call-sysfs", "a relic: lists file systems", libc::SYS_sysfs, [99, 0, 0, 0, 0]),
    reach("call-ustat", "a relic", libc::SYS_ustat, [BAD, 0, 0, 0, 0]),
    reach("call-quotactl", "quotas of the host's disks", libc::SYS_quotactl, [0xff, 0, 0, 0, 0]),
    reach("call-quotactl-fd", "quotas of the host's disks", 443, [BAD, 0xff, 0, 0, 0]),
    reach("call-set-mempolicy", "memory policies", libc::SYS_set_mempolicy, [99, 0, 0, 0, 0]),
    reach(
        "x32-umount2",
        "the same through the x32 entry points, past a filter of x86-64 alone",
        X32 | 166,
        [0, 0xffff, 0, 0, 0],
    ),
    reach("x32-keyctl", "the host's keyrings, likewise", X32 | 250, [9999, 0, 0, 0, 0]),
    reach("x32-bpf", "verifier holes, likewise", X32 | 321, [0, 0, 1 << 20, 0, 0]),
    reach("call-clone3", "namespaces, with flags that no filter can see", libc::SYS_clone3, [0, 0, 0, 0, 0]),
    reach(
        "ioctl-tiocsti",
        "types into the terminal of whoever started the build, CVE-2017-5226",
        libc::SYS_ioctl,
        [BAD, 0x5412, 0, 0, 0],
    ),
    reach(
        "ioctl-tiocsti-high-bits",
        "the same past a filter of 64 bits, CVE-2019-10063",
        libc::SYS_ioctl,
        [BAD, 0xffff_ffff_0000_5412, 0, 0, 0],
    ),
    reach("ioctl-tioclinux", "pastes into a console, CVE-2023-1523", libc::SYS_ioctl, [BAD, 0x541c, 0, 0, 0]),
    reach(
        "ioctl-tioclinux-high-bits",
        "the same past a filter of 64 bits",
        libc::SYS_ioctl,
        [BAD, 0x1_0000_541c, 0, 0, 0],
    ),
    attack("personality-exec", "makes all memory executable", "filter", |_| personality(0x0040_0000)),
    attack("personality-zero", "maps page 0, which the kernel's null pointers lead to", "filter", |_| {
        personality(0x0010_0000)
    }),
];

fn settimeofday(_: &Stage) -> Outcome {
    let bad = [0_i64, 10_000_000];
    not_reached(call(libc::SYS_settimeofday, [crate::probe::at(&bad), 0, 0, 0, 0]))
}

fn personality(value: u64) -> Outcome {
    refused(call(libc::SYS_personality, [value, 0, 0, 0, 0]))
}
