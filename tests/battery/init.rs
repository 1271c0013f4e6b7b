//! What can be had of process 1, which is the sandbox's own and comes from the host.

use nix::libc;
use std::path::Path;

use crate::probe::{Outcome, Probe, ask, at, attack, call, denied, name, refused, room};
use crate::stage::Stage;

const TRACE: &str = "second-user-namespace init-user init-hidden | second-user-namespace capabilities";
const OWNER: &str = "init-user | second-user-namespace capabilities";

pub(crate) const PROBES: &[Probe] = &[
    attack("init-ptrace", "traces process 1 and runs code as it", TRACE, ptrace),
    attack("init-memory", "reads and writes the memory of process 1", TRACE, |_| open("/proc/1/mem")),
    attack("init-read-memory", "the same by a call", TRACE, read_memory),
    attack("init-maps", "learns the addresses in process 1", TRACE, |_| read("/proc/1/maps")),
    attack("init-auxv", "the addresses that process 1 was started with", TRACE, |_| read("/proc/1/auxv")),
    attack("init-descriptors", "the descriptors of process 1", TRACE, |_| {
        denied(bindery::fs::read_link(Path::new("/proc/1/fd/0")).map_err(|e| e.source))
    }),
    attack("init-root", "the root that process 1 sees", TRACE, |_| open("/proc/1/root/tmp")),
    attack("init-folder", "the working folder of process 1, CVE-2024-21626", TRACE, |_| open("/proc/1/cwd")),
    attack("init-namespace", "the mount namespace of process 1", TRACE, |_| open("/proc/1/ns/mnt")),
    attack("init-program", "the program of process 1, a file of the host's: CVE-2019-5736", TRACE, |_| {
        open("/proc/1/exe")
    }),
    attack(
        "init-program-writable",
        "overwrites that program: CVE-2019-5736",
        "second-user-namespace init-user init-hidden sealed-program | second-user-namespace capabilities sealed-program",
        write_program,
    ),
    attack(
        "init-descriptor-taken",
        "takes a descriptor of process 1",
        "filter second-user-namespace init-user init-hidden | filter second-user-namespace capabilities",
        take_descriptor,
    ),
    attack("init-limits", "limits what process 1 may use, so that it fails", OWNER, limits),
    attack("init-affinity", "moves process 1 to another processor", OWNER, affinity),
    attack("init-priority", "makes process 1 starve", OWNER, priority),
    attack("init-signal", "signals to process 1", "init-user | second-user-namespace", signal),
];

fn open(path: &str) -> Outcome {
    denied(bindery::fs::open(Path::new(path)).map_err(|e| e.source))
}

/// Opening says nothing for some files: their content is empty to whoever may not see it.
fn read(path: &str) -> Outcome {
    match bindery::fs::read(Path::new(path)) {
        Ok(text) if text.is_empty() => Ok("empty".into()),
        Ok(text) => Err(format!("{} bytes", text.len())),
        Err(e) => Ok(e.source.to_string()),
    }
}

fn ptrace(_: &Stage) -> Outcome {
    refused(call(libc::SYS_ptrace, [0x4206, 1, 0, 0, 0]))
}

fn read_memory(_: &Stage) -> Outcome {
    // Address 8 is nobody's: EFAULT is an answer of whoever may look.
    let (there, here) = ([0_u8; 8], [8_u64, 8]);
    let local = [at(&there), 8];
    let result = call(libc::SYS_process_vm_readv, [1, at(&local), 1, at(&here), 1]);
    match result {
        -14 => Err("may read".into()),
        result => Ok(name(result)),
    }
}

fn write_program(_: &Stage) -> Outcome {
    // While it runs it is busy, so opening it would not tell; but it does not run for ever.
    refused(call(libc::SYS_access, [at(c"/proc/1/exe"), 2, 0, 0, 0]))
}

fn take_descriptor(_: &Stage) -> Outcome {
    let init = ask(libc::SYS_pidfd_open, [1, 0, 0, 0, 0]).map_err(|e| name(i64::from(-e)))?;
    refused(call(libc::SYS_pidfd_getfd, [init.cast_unsigned(), 0, 0, 0, 0]))
}

fn limits(_: &Stage) -> Outcome {
    let mut limits = [0_u64; 2];
    refused(call(libc::SYS_prlimit64, [1, 0, 0, room(&mut limits), 0]))
}

fn affinity(_: &Stage) -> Outcome {
    let mut mask = [0_u64; 128];
    call(libc::SYS_sched_getaffinity, [1, 1024, room(&mut mask), 0, 0]);
    refused(call(libc::SYS_sched_setaffinity, [1, 1024, at(&mask), 0, 0]))
}

fn priority(_: &Stage) -> Outcome {
    // The one that it has, as this process has it: to take a better one is another permission.
    let own = (20 - call(libc::SYS_getpriority, [0; 5])).cast_unsigned();
    refused(call(libc::SYS_setpriority, [0, 1, own, 0, 0]))
}

fn signal(_: &Stage) -> Outcome {
    refused(call(libc::SYS_kill, [1, 0, 0, 0, 0]))
}
