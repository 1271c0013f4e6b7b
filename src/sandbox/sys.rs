//! The system calls that no crate offers safely: the only unsafe code there is.

#![expect(unsafe_code, reason = "each has its SAFETY reason, and nothing else in bindery needs any")]

use std::ffi::{CStr, c_char, c_int, c_long};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;

/// Turns what a system call returned into a result.
fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Closes all descriptors but the first three. Only for the first statement of a hidden entry point: a process that
/// bindery has just started owns no others on purpose.
pub(super) fn close_inherited() -> io::Result<()> {
    // SAFETY: close_range(2) touches no memory; nothing in this process holds a descriptor above 2 yet.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) }).map(drop)
}

/// Takes ownership of descriptors that recvmsg(2) has just made.
pub(super) fn adopt(received: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the kernel made them for this process in this very call and nobody else knows their numbers.
    received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Joins a new session keyring, so that the caller's keys are out of reach (keyctl(2)).
pub(super) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
    // SAFETY: a null name asks for an anonymous keyring; no other memory is read.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) }) {
        // A kernel without keys has none to protect.
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        joined => joined.map(drop),
    }
}

/// Sets attributes of a mount that is open as `tree`, and of the mounts below it where `recursive` (mount_setattr(2),
/// Linux 5.12).
pub(super) fn set_mount_attributes(tree: impl AsFd, set: u64, recursive: bool) -> io::Result<()> {
    change_mount_attributes(tree, set, recursive, true)
}

/// As [`set_mount_attributes`]; where not `private`, what is mounted there is mounted on the original, too.
pub(super) fn change_mount_attributes(tree: impl AsFd, set: u64, recursive: bool, private: bool) -> io::Result<()> {
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    let propagation = if private { libc::MS_PRIVATE } else { 0 };
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    change_mount(tree, below, &attributes)
}

/// Has the mount that is open as `tree` show its files' owners through the map of a user namespace: what belongs to N on
/// disk belongs to the namespace's N (mount_setattr(2), MOUNT_ATTR_IDMAP, Linux 5.12).
pub(super) fn map_mount_ids(tree: impl AsFd, namespace: impl AsFd) -> io::Result<()> {
    let userns_fd = u64::try_from(namespace.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    change_mount(tree, 0, &attributes)
}

fn change_mount(tree: impl AsFd, flags: libc::c_int, attributes: &libc::mount_attr) -> io::Result<()> {
    // SAFETY: the path is empty and ends in NUL, the struct lives until the call returns and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            std::ptr::from_ref(attributes),
            size_of_val(attributes),
        )
    };
    check(result).map(drop)
}

/// Waits for a child by its descriptor (waitid(2), with the kernel's last argument, which the C library leaves out). Returns
/// the processor time of it and of all that it has waited for; nothing where it has not ended and `options` say not to wait.
pub(super) fn wait_and_measure(pidfd: BorrowedFd<'_>, options: libc::c_int) -> io::Result<Option<Duration>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both structs live until the call returns, and are plain data for which zeros are good.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            options,
            usage.as_mut_ptr(),
        )
    };
    check(result)?;
    // SAFETY: zeroed above, and written by the kernel where the child has ended.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: the field is there in what waitid(2) writes, and in zeros.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    let time = |time: libc::timeval| {
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
        seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    Ok(Some(time(usage.ru_utime) + time(usage.ru_stime)))
}

/// Keeps the calling process, and all it starts, from connecting to abstract Unix sockets of processes outside and from
/// signalling them (landlock(7), ABI 6, Linux 6.12). Returns whether the kernel can do that.
pub(super) fn scope_sockets_and_signals() -> io::Result<bool> {
    /// struct landlock_ruleset_attr: nothing of files or ports handled; LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL.
    const ATTRIBUTES: [u64; 3] = [0, 0, 1 | 2];
    // SAFETY: the attributes live until the call returns and their size is given.
    let made = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, ATTRIBUTES.as_ptr(), size_of_val(&ATTRIBUTES), 0_u32)
    });
    let ruleset = match made {
        // SAFETY: the descriptor is new and owned from here on.
        Ok(fd) => unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?) },
        // No Landlock, switched off, or too old to know scopes.
        Err(e) if [libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL, libc::E2BIG].map(Some).contains(&e.raw_os_error()) => {
            return Ok(false);
        }
        Err(e) => return Err(e),
    };
    // SAFETY: the call reads no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) }).map(|_| true)
}

/// Returns whether [`scope_sockets_and_signals`] would do anything.
pub(super) fn can_scope() -> bool {
    const SCOPES_SINCE: c_long = 6;
    landlock_version().is_ok_and(|version| version >= SCOPES_SINCE)
}

/// Returns the version of Landlock's interface (landlock_create_ruleset(2)).
pub(super) fn landlock_version() -> io::Result<c_long> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: asked for the version, the kernel reads no memory.
    check(unsafe {
        let none = std::ptr::null::<u8>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, LANDLOCK_CREATE_RULESET_VERSION)
    })
}

/// Switches the loopback interface of the current network namespace on (netdevice(7)).
pub(super) fn loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) touches no memory; the descriptor is new and owned from here on.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(fd.into())?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero bytes are a valid ifreq: numbers, character arrays and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    #[expect(clippy::cast_possible_truncation, reason = "both flags are below 2^7")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    }
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into()).map(drop)
}

/// Returns the number of a loop device that nobody uses, which the kernel makes if need be (loop(4)).
pub(super) fn free_loop_device(control: impl AsFd) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: u64 = 0x4c82;
    // SAFETY: the request takes no argument.
    let number = check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE as _) }.into())?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Has a loop device be backed by a file until its last user closes it or its mount goes (LOOP_CONFIGURE, Linux 5.8).
pub(super) fn attach_loop_device(device: impl AsFd, file: impl AsFd) -> io::Result<()> {
    const LOOP_CONFIGURE: u64 = 0x4c0a;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    /// struct loop_config, with what is not used of struct loop_info64 as one (linux/loop.h).
    #[repr(C)]
    struct LoopConfig {
        fd: u32,
        block_size: u32,
        before_flags: [u32; 13],
        flags: u32,
        after_flags: [u64; 22],
        reserved: [u64; 8],
    }
    const { assert!(size_of::<LoopConfig>() == 304) };
    let fd = u32::try_from(file.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let config = LoopConfig {
        fd,
        block_size: 4096,
        before_flags: [0; 13],
        flags: LO_FLAGS_AUTOCLEAR,
        after_flags: [0; 22],
        reserved: [0; 8],
    };
    // SAFETY: the struct has the layout of the kernel's and lives until the call returns.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) }.into()).map(drop)
}

/// Gives every signal its default action and unblocks all: ignored signals would survive execve(2).
pub(super) fn reset_signals() -> io::Result<()> {
    /// The kernel's sigset_t: C libraries keep signals 32 and 33 to themselves and refuse to reset them.
    const SET: [u64; 1] = [0];
    const LAST: i32 = 64;
    // The kernel's struct sigaction: handler (SIG_DFL is 0), flags, restorer, mask. All zero is the default action.
    let default = [0_u64; 4];
    for signal in 1..=LAST {
        // SAFETY: SIG_DFL installs no handler; the struct lives until the call returns, the old action is not asked for.
        // SIGKILL and SIGSTOP give EINVAL, which is no matter.
        unsafe {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of_val(&SET));
        }
    }
    // SAFETY: the set lives until the call returns, the old one is not asked for.
    check(unsafe {
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, SET.as_ptr(), none, size_of_val(&SET))
    })
    .map(drop)
}

/// What the child of [`spawn_in_group`] needs, in one place, because it has no stack of its own.
#[repr(C)]
struct Birth {
    stdin: usize,
    stdout: usize,
    mask: *const u64,
    program: *const c_char,
    args: *const *const c_char,
    env: *const *const c_char,
    error: i64,
}

/// Starts a program in a control group of the unified hierarchy (clone3(2), CLONE_INTO_CGROUP: Linux 5.7), with an empty
/// environment, two given standard streams and our standard error, in a process group of its own. Returns its id and a
/// descriptor for it. Like posix_spawn(3), which cannot do this: no memory is copied, and this thread waits until the
/// program has started or could not be.
#[cfg(target_arch = "x86_64")]
pub(super) fn spawn_in_group(
    program: &CStr,
    args: &[&CStr],
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    group: BorrowedFd<'_>,
) -> io::Result<(i32, OwnedFd)> {
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    /// The kernel's struct clone_args, as of CLONE_INTO_CGROUP.
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs([u64; 11]);
    let number = |fd: BorrowedFd<'_>| usize::try_from(fd.as_raw_fd()).expect("a descriptor is not negative");
    let args: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    let env = [std::ptr::null()];
    let (all, mut before) = ([u64::MAX], [0_u64]);
    let mut pidfd: c_int = -1;
    let flags: u64 = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD).cast_unsigned().into();
    let mut clone = CloneArgs::default();
    clone.0[0] = flags | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
    clone.0[1] = (&raw mut pidfd) as u64;
    clone.0[4] = libc::SIGCHLD.cast_unsigned().into();
    clone.0[10] = number(group) as u64;
    // SAFETY: both sets live until the call returns. With every signal blocked, no handler runs on the stack that this
    // thread and the child share.
    check(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr(), 8_usize)
    })?;
    let mut birth = Birth {
        stdin: number(stdin),
        stdout: number(stdout),
        mask: before.as_ptr(),
        program: program.as_ptr(),
        args: args.as_ptr(),
        env: env.as_ptr(),
        error: 0,
    };
    let result: i64;
    // SAFETY: the kernel reads `clone` and writes `pidfd` in this call. The child shares our memory and stack while this
    // thread waits (CLONE_VFORK), so it only makes system calls, with what `birth` holds and points to, all of which
    // outlives the block; it touches no stack, and the only memory it writes is `birth.error`. It has handlers for no
    // signal (CLONE_CLEAR_SIGHAND) when it unblocks them, and leaves by execve or exit, never past the block.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 4f",
            // setpgid(0, 0)
            "xor edi, edi",
            "xor esi, esi",
            "mov eax, 109",
            "syscall",
            "test rax, rax",
            "js 3f",
            // dup2(stdin, 0), dup2(stdout, 1)
            "mov rdi, [r12]",
            "xor esi, esi",
            "mov eax, 33",
            "syscall",
            "test rax, rax",
            "js 3f",
            "mov rdi, [r12 + 8]",
            "mov esi, 1",
            "mov eax, 33",
            "syscall",
            "test rax, rax",
            "js 3f",
            // rt_sigprocmask(SIG_SETMASK, mask, NULL, 8)
            "mov edi, 2",
            "mov rsi, [r12 + 16]",
            "xor edx, edx",
            "mov r10d, 8",
            "mov eax, 14",
            "syscall",
            // execve(program, args, env)
            "mov rdi, [r12 + 24]",
            "mov rsi, [r12 + 32]",
            "mov rdx, [r12 + 40]",
            "mov eax, 59",
            "syscall",
            // exit(127)
            "3:",
            "mov [r12 + 48], rax",
            "mov edi, 127",
            "mov eax, 60",
            "syscall",
            "ud2",
            "4:",
            inlateout("rax") libc::SYS_clone3 => result,
            inlateout("rdi") &raw mut clone => _,
            inlateout("rsi") size_of::<CloneArgs>() => _,
            in("r12") &raw mut birth,
            out("rcx") _,
            out("rdx") _,
            out("r10") _,
            out("r11") _,
        );
    }
    // SAFETY: the set lives until the call returns, the old one is not asked for.
    unsafe {
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, before.as_ptr(), none, 8_usize);
    }
    let failed = |code: i64| io::Error::from_raw_os_error(i32::try_from(-code).unwrap_or(libc::EIO));
    if result < 0 {
        return Err(failed(result));
    }
    let pid = i32::try_from(result).expect("Linux process ids are below 2^22");
    // SAFETY: the kernel has just made it for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: the child, which has ended or become the program, does not write any more; volatile, because the compiler
    // does not know that it did.
    let error = unsafe { std::ptr::read_volatile(&raw const birth.error) };
    if error != 0 {
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        return Err(failed(error));
    }
    Ok((pid, pidfd))
}

/// The call is not written down for this architecture: the caller has another way.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn spawn_in_group(
    _: &CStr,
    _: &[&CStr],
    _: BorrowedFd<'_>,
    _: BorrowedFd<'_>,
    _: BorrowedFd<'_>,
) -> io::Result<(i32, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}
