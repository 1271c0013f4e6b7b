//! The same through the 32-bit entry point, which every 64-bit process has, too (int 0x80): a filter of 64-bit numbers
//! alone lets all of it pass. The numbers are arch/x86/entry/syscalls/syscall_32.tbl's.

use crate::namespaces::patiently;
use crate::probe::{How, Outcome, Probe, attack, call_i386, child, name};
use crate::stage::Stage;

const BAD: u32 = u32::MAX;

const fn reach(name: &'static str, stands_for: &'static str, number: u32, args: [u32; 3]) -> Probe {
    Probe { name, stands_for, guards: "i386-filter", is_need: false, how: How::I386(number, args) }
}

pub(crate) const PROBES: &[Probe] = &[
    reach("i386-umount2", "uncovers masked paths", 52, [0, 0xffff, 0]),
    reach("i386-setns", "enters another namespace", 346, [BAD, 0, 0]),
    reach("i386-open-tree", "copies mounts", 428, [BAD, 0, BAD]),
    reach("i386-open-by-handle-at", "opens any file of the host's disk", 342, [BAD, 0, 0]),
    reach("i386-keyctl", "the host's keyrings", 288, [9999, 0, 0]),
    reach("i386-add-key", "fills the host's key quota", 286, [0, 0, 0]),
    reach("i386-bpf", "verifier holes", 357, [0, 0, 1 << 20]),
    reach("i386-perf-event-open", "watches other processes", 336, [0, 0, 0]),
    reach("i386-userfaultfd", "the helper of most races", 374, [0x101, 0, 0]),
    reach("i386-io-uring", "goes around filters", 425, [0, 0, 0]),
    reach("i386-pidfd-getfd", "takes descriptors from other processes", 438, [BAD, 0, 0]),
    reach("i386-kcmp", "tells kernel addresses apart", 349, [BAD, BAD, 0]),
    reach("i386-swapon", "swaps to a file of the build's", 87, [0, BAD, 0]),
    reach("i386-iopl", "hardware ports", 110, [4, 0, 0]),
    reach("i386-clone3", "namespaces, with flags that no filter can see", 435, [0, 0, 0]),
    reach("i386-ioctl-tiocsti", "types into somebody's terminal", 54, [BAD, 0x5412, 0]),
    attack("i386-personality-exec", "makes all memory executable", "i386-filter", |_| {
        crate::probe::refused(call_i386(136, 0x0040_0000, 0, 0).into())
    }),
    attack("i386-socketcall", "any family, hidden behind a pointer", "i386-filter", socketcall),
    attack("i386-socket-vsock", "the hypervisor, past all network namespaces", "i386-filter", vsock),
    attack(
        "i386-unshare-user",
        "a user namespace of its own, with all capabilities in it",
        "i386-filter user-namespace-limit | i386-filter second-user-namespace",
        unshare_user,
    ),
];

fn socketcall(_: &Stage) -> Outcome {
    // SYS_SOCKET with arguments that cannot be read.
    match call_i386(102, 1, 1, 0) {
        -14 => Err("the kernel reads the arguments".into()),
        result => Ok(name(result.into())),
    }
}

fn vsock(_: &Stage) -> Outcome {
    match call_i386(359, 40, 1, 0) {
        result @ (-97 | -93 | -38) => Ok(name(result.into())),
        result => Err(name(result.into())),
    }
}

fn unshare_user(_: &Stage) -> Outcome {
    match child(|| i32::from(patiently(|| call_i386(310, 0x1000_0000, 0, 0).into()) == 0)) {
        1 => Err("done".into()),
        code => Ok(format!("status {code}")),
    }
}
