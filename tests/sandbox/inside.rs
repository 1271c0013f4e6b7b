//! What runs inside a sandbox: system calls that no shell makes.

#![expect(unsafe_code, reason = "the calls under test are what no library makes")]

use std::arch::asm;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use nix::libc;

const NEW_USER: u64 = 0x1000_0000;

/// Makes a system call of x86-64 and returns its result or the negative error number.
fn call(number: i64, args: [u64; 5]) -> i64 {
    let [a, b, c, d, e] = args;
    let result: i64;
    // SAFETY: all pointers that the tests pass are null or point to what outlives the call.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, out("rcx") _, out("r11") _);
    }
    result
}

/// Makes a system call of i386.
fn call_i386(number: u32, a: u32, b: u32, c: u32) -> i32 {
    let result: u32;
    // SAFETY: as above; rbx is the compiler's, so it is put back.
    unsafe {
        asm!("xchg {a}, rbx", "int 0x80", "xchg {a}, rbx", a = inout(reg) u64::from(a) => _,
            inlateout("eax") number => result, in("ecx") b, in("edx") c);
    }
    result.cast_signed()
}

#[test]
#[ignore = "runs inside a sandbox"]
fn system_calls() {
    let one = |name: &str, number: i64, args: [u64; 5]| println!("{name} {}", call(number, args));
    let refused = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
        ("setns", libc::SYS_setns),
        ("open_tree", libc::SYS_open_tree),
        ("move_mount", libc::SYS_move_mount),
        ("fsopen", libc::SYS_fsopen),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("name_to_handle_at", libc::SYS_name_to_handle_at),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("swapon", libc::SYS_swapon),
        ("acct", libc::SYS_acct),
        ("quotactl", libc::SYS_quotactl),
        ("fanotify_init", libc::SYS_fanotify_init),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("process_madvise", libc::SYS_process_madvise),
        ("kcmp", libc::SYS_kcmp),
        ("syslog", libc::SYS_syslog),
        ("clock_settime", libc::SYS_clock_settime),
        ("settimeofday", libc::SYS_settimeofday),
        ("sethostname", libc::SYS_sethostname),
        ("reboot", libc::SYS_reboot),
        ("iopl", libc::SYS_iopl),
    ];
    for (name, number) in refused {
        one(name, number, [0; 5]);
    }
    one("unshare-user", libc::SYS_unshare, [NEW_USER, 0, 0, 0, 0]);
    one("unshare-time", libc::SYS_unshare, [0x80, 0, 0, 0, 0]);
    one("unshare-files", libc::SYS_unshare, [0x400, 0, 0, 0, 0]);
    one("clone-user", libc::SYS_clone, [NEW_USER, 0, 0, 0, 0]);
    one("clone3", libc::SYS_clone3, [0; 5]);
    one("unknown", 9999, [0; 5]);
    one("x32", 0x4000_0000 | libc::SYS_getpid, [0; 5]);
    one("ioctl-sti", libc::SYS_ioctl, [0, 0x5412, 0, 0, 0]);
    one("ioctl-sti-high", libc::SYS_ioctl, [0, 0xffff_ffff_0000_5412, 0, 0, 0]);
    one("ioctl-linux", libc::SYS_ioctl, [0, 0x541c, 0, 0, 0]);
    one("personality-exec", libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0]);
    one("personality-ask", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0]);
    one("personality-32", libc::SYS_personality, [8, 0, 0, 0, 0]);
    for (name, family, protocol) in
        [("vsock", 40, 0), ("alg", 38, 0), ("packet", 17, 0), ("audit", 16, 9), ("uevent", 16, 15)]
    {
        one(name, libc::SYS_socket, [family, 2, protocol, 0, 0]);
    }
    // Pairs are made of two sockets, whatever the family then says of pairs.
    for (name, family) in [("pair-vsock", 40), ("pair-tipc", 30), ("pair-packet", 17), ("pair-inet", 2)] {
        one(name, libc::SYS_socketpair, [family, 1, 0, 0, 0]);
    }
    for (name, kind, protocol) in [("sctp", 1, 132), ("sctp-packets", 5, 0), ("dccp", 6, 0), ("mptcp", 1, 262)] {
        one(name, libc::SYS_socket, [2, kind, protocol, 0, 0]);
    }
    let mut pair = [0_i32; 2];
    one("pair", libc::SYS_socketpair, [1, 0x8_0801, 0, pair.as_mut_ptr() as u64, 0]);
    for (name, family, kind) in
        [("unix", 1, 1), ("udp", 2, 0x8_0802), ("inet", 2, 1), ("inet6", 10, 1), ("route", 16, 3)]
    {
        println!("{name} {}", call(libc::SYS_socket, [family, kind, 0, 0, 0]).min(0));
    }
    println!("end");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn system_calls_of_i386() {
    println!("i386 getpid {}", i32::from(call_i386(20, 0, 0, 0) <= 0));
    println!("i386 mount {}", call_i386(21, 0, 0, 0));
    println!("i386 unshare {}", call_i386(310, 0x1000_0000, 0, 0));
    println!("i386 clone {}", call_i386(120, 0x1000_0000, 0, 0));
    println!("i386 clone3 {}", call_i386(435, 0, 0, 0));
    println!("i386 keyctl {}", call_i386(288, 0, 0, 0));
    println!("i386 socketcall {}", call_i386(102, 1, 0, 0));
    println!("i386 socketcall-pair {}", call_i386(102, 8, 0, 0));
    println!("i386 vsock {}", call_i386(359, 40, 1, 0));
    println!("i386 vsock-pair {}", call_i386(360, 40, 1, 0));
    println!("i386 sctp {}", call_i386(359, 2, 1, 132));
    println!("i386 ioctl-sti {}", call_i386(54, 0, 0x5412, 0));
    println!("i386 unknown {}", call_i386(9999, 0, 0, 0));
    println!("end");
}

/// Where the filter allows everything, the namespaces alone must hold.
#[test]
#[ignore = "runs inside a sandbox"]
fn without_a_filter() {
    let namespace = |path: &str| bindery::fs::open(std::path::Path::new(path)).map_or(-1, |_| 0);
    let cloned = call(libc::SYS_clone, [NEW_USER | libc::SIGCHLD as u64, 0, 0, 0, 0]);
    if cloned == 0 {
        std::process::exit(0);
    }
    println!("clone-user {cloned}");
    println!("prlimit-init {}", call(libc::SYS_prlimit64, [1, 0, 0, [0_u64; 2].as_mut_ptr() as u64, 0]));
    println!("unshare-mount {}", call(libc::SYS_unshare, [0x2_0000, 0, 0, 0, 0]));
    let (none, tmp, tmpfs) = (c"none".as_ptr() as u64, c"/tmp".as_ptr() as u64, c"tmpfs".as_ptr() as u64);
    println!("mount {}", call(libc::SYS_mount, [none, tmp, tmpfs, 0, 0]));
    println!("umount {}", call(libc::SYS_umount2, [c"/proc/sys".as_ptr() as u64, 2, 0, 0, 0]));
    let name = c"x".as_ptr() as u64;
    println!("sethostname {}", call(libc::SYS_sethostname, [name, 1, 0, 0, 0]));
    println!("init-namespace {}", namespace("/proc/1/ns/mnt"));
    println!("init-memory {}", namespace("/proc/1/mem"));
    println!("init-program {}", namespace("/proc/1/exe"));
    println!("end");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn connect_to_the_hosts_abstract_socket() {
    let name = bindery::fs::read_to_string(std::path::Path::new("/socket-name")).unwrap();
    let address = SocketAddr::from_abstract_name(name).unwrap();
    println!("{}", UnixStream::connect_addr(&address).map_err(|e| e.kind().to_string()).unwrap_err());
    println!("end");
}
