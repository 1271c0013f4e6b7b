//! Which system calls a payload may make, as the spec's `linux.seccomp`.
//!
//! Allowed is what programs and their test suites use; ptrace (sys-apps/sandbox, strace), personality(2) for 32-bit
//! builds, memfd, chroot, extended attributes and nodes for fifos among it. Left out, so refused with EPERM: namespaces
//! and mounts by the old and the new calls, handles that reach around folders, keyrings, BPF, perf, userfaultfd, io_uring,
//! kexec, modules, swap, accounting, quotas, fanotify, other processes' descriptors and advice, the kernel log, clocks and
//! names of the machine. What matters beyond names:
//!
//! * clone3 hides its flags behind a pointer, so it fails with ENOSYS and C libraries use clone;
//! * socket families that are not UNIX, INET, INET6 or NETLINK's protocol 0 fail with EAFNOSUPPORT: VSOCK reaches the
//!   hypervisor past every network namespace, ALG is kernel code nobody needs; i386's socketcall hides the family behind
//!   a pointer, so it may do all but create sockets (socket and socketpair exist as calls of their own);
//! * socketpair creates two sockets of any family before it finds that the family has no pairs (or, as TIPC's, has): it is
//!   for UNIX alone;
//! * INET and INET6 are for TCP, UDP and ping: a protocol's number has the kernel load SCTP, DCCP and others like them
//!   for whoever asks, and they have had more holes than users;
//! * the kernel looks at 32 bits of an ioctl's number, so 32 bits are compared (CVE-2019-10063).

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// Allowed whatever the arguments.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chown32
    chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod
    fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
    getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioprio_get ioprio_set ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen
    listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
    process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2
    read readahead readlink readlinkat readv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
    removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
    sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaction sigaltstack signal signalfd
    signalfd4 sigpending sigprocmask sigreturn sigsuspend splice stat stat64 statfs statfs64 statmount
    statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname
    unlink unlinkat uprobe uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
";

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EPROTONOSUPPORT: u32 = 93;
const EAFNOSUPPORT: u32 = 97;

/// The low 32 bits, which are all of an int.
const INT: u64 = 0xffff_ffff;

/// All CLONE_NEW* flags that clone(2) takes (linux/sched.h); unshare(2) takes CLONE_NEWTIME as well.
const CLONE_NEW: u64 = 0x7e02_0000;
const CLONE_NEWTIME: u64 = 0x80;

/// Terminal requests that type into or draw on a terminal of somebody else's (asm-generic/ioctls.h).
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// Personality bits that change nothing for the worse: PER_LINUX32, UNAME26, ADDR_NO_RANDOMIZE (linux/personality.h).
const PERSONALITY: u64 = 0x8 | 0x2_0000 | 0x4_0000;
/// Asks personality(2) for the present value.
const PERSONALITY_ASK: u64 = 0xffff_ffff;

/// Socket families (linux/socket.h).
const AF_UNIX: u64 = 1;
const AF_INET: [u64; 2] = [2, 10];
const AF_NETLINK: u64 = 16;
/// Protocols that both INET and INET6 may have: the type's own, TCP, UDP, and ICMP of each (linux/in.h).
const PROTOCOLS: [u64; 5] = [0, 1, 6, 17, 58];
/// Types that INET and INET6 may have: STREAM and DGRAM, and RAW to be refused by the kernel itself, with the error that
/// programs know. The others are SCTP's and DCCP's; above these bits are flags (linux/net.h).
const TYPES: [u64; 3] = [1, 2, 3];
const TYPE: u64 = 0xf;
/// The sub-calls of socketcall(2) that create sockets (linux/net.h).
const SYS_SOCKET: u64 = 1;
const SYS_SOCKETPAIR: u64 = 8;

/// Returns the filter's description.
pub(super) fn profile() -> LinuxSeccomp {
    let mut rules = vec![allow(&ALLOWED.split_whitespace().collect::<Vec<_>>(), vec![])];
    rules.push(refuse("clone3", ENOSYS, vec![]));
    rules.push(allow(&["clone"], vec![masked(0, CLONE_NEW, 0)]));
    rules.push(allow(&["unshare"], vec![masked(0, CLONE_NEW | CLONE_NEWTIME, 0)]));
    rules.push(refuse("ioctl", EPERM, vec![masked(1, INT, TIOCSTI)]));
    rules.push(refuse("ioctl", EPERM, vec![masked(1, INT, TIOCLINUX)]));
    rules.push(allow(&["ioctl"], vec![]));
    rules.push(allow(&["personality"], vec![masked(0, INT & !PERSONALITY, 0)]));
    rules.push(allow(&["personality"], vec![masked(0, INT, PERSONALITY_ASK)]));
    rules.push(allow(&["socket", "socketpair"], vec![masked(0, INT, AF_UNIX)]));
    for family in AF_INET.map(|family| masked(0, INT, family)) {
        for (typ, protocol) in TYPES.into_iter().flat_map(|typ| PROTOCOLS.map(|protocol| (typ, protocol))) {
            let args = vec![family, masked(1, TYPE, typ), masked(2, INT, protocol)];
            rules.push(allow(&["socket"], args));
        }
        rules.push(refuse("socket", EPROTONOSUPPORT, vec![family]));
    }
    rules.push(allow(&["socket"], vec![masked(0, INT, AF_NETLINK), masked(2, INT, 0)]));
    rules.push(refuse("socket", EAFNOSUPPORT, vec![]));
    rules.push(refuse("socketpair", EAFNOSUPPORT, vec![]));
    for call in [SYS_SOCKET, SYS_SOCKETPAIR] {
        rules.push(refuse("socketcall", EAFNOSUPPORT, vec![masked(0, INT, call)]));
    }
    rules.push(allow(&["socketcall"], vec![]));
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .architectures([Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32])
        .syscalls(rules)
        .build()
        .expect("all required fields are set")
}

fn allow(names: &[&str], args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rule = LinuxSyscallBuilder::default().names(names).action(LinuxSeccompAction::ScmpActAllow);
    let rule = if args.is_empty() { rule } else { rule.args(args) };
    rule.build().expect("all required fields are set")
}

fn refuse(name: &str, errno: u32, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let rule = LinuxSyscallBuilder::default().names([name.to_string()]).action(LinuxSeccompAction::ScmpActErrno);
    let rule = if args.is_empty() { rule } else { rule.args(args) };
    rule.errno_ret(errno).build().expect("all required fields are set")
}

/// Returns the condition `argument & mask == value`.
fn masked(argument: usize, mask: u64, value: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(argument)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .value(mask)
        .value_two(value)
        .build()
        .expect("all required fields are set")
}
