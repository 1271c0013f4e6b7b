//! What a probe is, and the program that runs them all inside a sandbox.
//!
//! The program is this static test binary, so it needs nothing of the root. It prints a line for each probe (`probe NAME
//! holds|fails|hangs|dies DETAIL`), each run by a process of its own with a time limit, and never hangs.

#![expect(clippy::print_stdout, reason = "what it is for")]
#![expect(unsafe_code, reason = "the calls under test are what no library makes")]

use std::arch::asm;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::libc;

use crate::stage::Stage;

/// How long one probe may take: none waits for anything, but an emulated machine is slow, and its clock may be fast.
const LIMIT: Duration = Duration::from_secs(600);

/// `Ok` when the sandbox holds (an attack is refused, a need is met), with what was seen.
pub(crate) type Outcome = Result<String, String>;

/// One thing to find out.
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    /// The attack or the need.
    pub(crate) stands_for: &'static str,
    /// For an attack the mechanisms in its way: the words of one of the alternatives (between `|`) must all be off before
    /// it gets through. An alternative with `root:` before it is root's alone, one with `user:` an ordinary user's. For a
    /// need the grants (`grants`) without which it is not met, likewise.
    pub(crate) guards: &'static str,
    pub(crate) is_need: bool,
    pub(crate) how: How,
}

/// What it does.
pub(crate) enum How {
    /// A system call with arguments that the kernel refuses by another error than EPERM and ENOSYS, before it looks at
    /// capabilities: so those two mean that the kernel's code was not reached, and nothing can happen where it is.
    Call(i64, [u64; 5]),
    /// The same through the 32-bit entry point.
    I386(u32, [u32; 3]),
    /// A socket of a family, type and protocol that has the kernel run (or even load) code that builds do not need.
    Socket(i32, i32, i32),
    /// A file of /proc that must not open for writing; nothing is written.
    Writable(&'static str),
    /// A file or folder of /proc that must show nothing.
    Shows(&'static str),
    Function(fn(&Stage) -> Outcome),
}

pub(crate) const fn attack(
    name: &'static str,
    stands_for: &'static str,
    guards: &'static str,
    run: fn(&Stage) -> Outcome,
) -> Probe {
    Probe { name, stands_for, guards, is_need: false, how: How::Function(run) }
}

pub(crate) const fn need(
    name: &'static str,
    stands_for: &'static str,
    granted_by: &'static str,
    run: fn(&Stage) -> Outcome,
) -> Probe {
    Probe { name, stands_for, guards: granted_by, is_need: true, how: How::Function(run) }
}

impl Probe {
    fn run(&self, stage: &Stage) -> Outcome {
        if stage.is_init && self.name.starts_with("init-") {
            return Ok("process 1 is the payload itself".into());
        }
        match self.how {
            How::Function(run) => run(stage),
            How::Call(number, args) => not_reached(call(number, args)),
            How::I386(number, [a, b, c]) => not_reached(call_i386(number, a, b, c).into()),
            How::Socket(family, kind, protocol) => no_family(socket(family, kind, protocol)),
            How::Writable(path) => denied(std::fs::OpenOptions::new().write(true).open(path)),
            How::Shows(path) => shows(path),
        }
    }

    /// Whether this kernel has what the probe looks for at all, asked for outside of a sandbox.
    pub(crate) fn exists(&self) -> bool {
        match self.how {
            How::Function(_) => true,
            How::Call(number, args) => call(number, args) != i64::from(-libc::ENOSYS),
            How::I386(number, [a, b, c]) => call_i386(number, a, b, c) != -libc::ENOSYS,
            How::Socket(family, kind, protocol) => no_family(socket(family, kind, protocol)).is_err(),
            How::Writable(path) => Path::new(path).exists(),
            // Whoever may not see it cannot know.
            How::Shows(path) => {
                shows(path).is_err()
                    || bindery::fs::read(Path::new(path))
                        .is_err_and(|e| e.source.kind() == std::io::ErrorKind::PermissionDenied)
            }
        }
    }
}

/// Returns every probe.
pub(crate) fn all() -> impl Iterator<Item = &'static Probe> {
    let areas = [
        crate::namespaces::PROBES,
        crate::init::PROBES,
        crate::mounts::PROBES,
        crate::kernel::PROBES,
        crate::calls::PROBES,
        crate::calls_of_i386::PROBES,
        crate::sockets::PROBES,
        crate::inheritance::PROBES,
        crate::needs::PROBES,
        crate::needs_of_files::PROBES,
    ];
    areas.into_iter().flatten()
}

/// Runs all probes; `inside` is the ignored test that a sandbox is given to run.
pub(crate) fn run_all() {
    let stage = Stage::read();
    // The test harness has begun a line of its own.
    println!();
    for probe in all() {
        let outcome = apart(LIMIT, || probe.run(&stage));
        let (word, detail) = match outcome {
            Apart::Said(Ok(detail)) => ("holds", detail),
            Apart::Said(Err(detail)) => ("fails", detail),
            Apart::Hung => ("hangs", String::new()),
            // The filter's way to refuse a whole kind of calls.
            Apart::Died(libc::SIGSYS) if !probe.is_need => ("holds", "killed".into()),
            Apart::Died(signal) => ("dies", format!("signal {signal}")),
        };
        println!("probe {} {word} {}", probe.name, detail.replace('\n', " "));
    }
    println!("end of probes");
}

/// How a process of a probe's own ended.
pub(crate) enum Apart {
    Said(Outcome),
    Hung,
    Died(i32),
}

/// Runs a function in a process of its own, and kills what it leaves.
pub(crate) fn apart(limit: Duration, run: impl FnOnce() -> Outcome) -> Apart {
    let (mut reader, writer) = std::io::pipe().unwrap();
    // SAFETY: the program has one thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        drop(reader);
        // SAFETY: no memory is touched.
        unsafe { libc::setpgid(0, 0) };
        let mut writer = writer;
        let text = match run() {
            Ok(text) => format!("+{text}"),
            Err(text) => format!("-{text}"),
        };
        let _ = std::io::Write::write_all(&mut writer, text.as_bytes());
        exit(0);
    }
    drop(writer);
    let done = poll_in(reader.as_raw_fd(), limit);
    let mut text = Vec::new();
    if done {
        let mut chunk = [0; 4096];
        // A grandchild may hold the other end: what is there is all.
        if let Ok(length) = reader.read(&mut chunk) {
            text.extend_from_slice(&chunk[..length]);
        }
    }
    if !done {
        // SAFETY: the process is a child of ours and not waited for yet.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    let mut status = 0;
    // SAFETY: the status outlives the call.
    unsafe {
        libc::waitpid(pid, &raw mut status, 0);
        libc::kill(-pid, libc::SIGKILL);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    match text.split_at_checked(1) {
        _ if !done => Apart::Hung,
        Some(("+", text)) => Apart::Said(Ok(text.to_string())),
        Some(("-", text)) => Apart::Said(Err(text.to_string())),
        _ => Apart::Died(libc::WTERMSIG(status)),
    }
}

pub(crate) fn poll_in(fd: i32, limit: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let limit = i32::try_from(limit.as_millis()).unwrap();
    // SAFETY: the struct outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, limit) > 0 }
}

/// Ends this process at once, without the test harness.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: nothing runs after it.
    unsafe { libc::_exit(code) }
}

/// Makes a system call of x86-64 and returns its result or the negative error number.
pub(crate) fn call(number: i64, args: [u64; 5]) -> i64 {
    let [a, b, c, d, e] = args;
    let result: i64;
    // SAFETY: all pointers that the probes pass are null or point to what outlives the call.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") 0_u64, out("rcx") _, out("r11") _);
    }
    result
}

/// Makes a system call of i386.
pub(crate) fn call_i386(number: u32, a: u32, b: u32, c: u32) -> i32 {
    let result: u32;
    // SAFETY: as above; rbx is the compiler's, so it is put back.
    unsafe {
        asm!("xchg {a}, rbx", "int 0x80", "xchg {a}, rbx", a = inout(reg) u64::from(a) => _,
            inlateout("eax") number => result, in("ecx") b, in("edx") c, in("esi") 0, in("edi") 0);
    }
    result.cast_signed()
}

/// Makes a system call and returns its result as libraries do.
pub(crate) fn ask(number: i64, args: [u64; 5]) -> Result<i64, i32> {
    let result = call(number, args);
    if result < 0 { Err(i32::try_from(-result).unwrap()) } else { Ok(result) }
}

/// The address of a C string or other constant.
pub(crate) fn at<T: ?Sized>(what: &T) -> u64 {
    (std::ptr::from_ref(what).cast::<u8>()) as u64
}

/// The address of what a call fills.
pub(crate) fn room<T: ?Sized>(what: &mut T) -> u64 {
    (std::ptr::from_mut(what).cast::<u8>()) as u64
}

pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> i64 {
    // The kernel reads 32 bits of each.
    let word = |value: i32| u64::from(value.cast_unsigned());
    call(libc::SYS_socket, [word(family), word(kind | libc::SOCK_CLOEXEC), word(protocol), 0, 0])
}

pub(crate) fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just made it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

pub(crate) fn name(result: i64) -> String {
    match i32::try_from(-result) {
        Ok(number) if number > 0 => format!("{:?}", nix::errno::Errno::from_raw(number)),
        _ => format!("result {result}"),
    }
}

pub(crate) fn not_reached(result: i64) -> Outcome {
    let refused = [libc::EPERM, libc::ENOSYS].map(i64::from).contains(&-result);
    if refused { Ok(name(result)) } else { Err(format!("the kernel's code answers: {}", name(result))) }
}

/// Only content counts: a covered file opens and is empty.
fn shows(path: &str) -> Outcome {
    let path = Path::new(path);
    let length = if path.is_dir() {
        bindery::fs::read_dir(path).map(|names| names.len())
    } else {
        bindery::fs::read(path).map(|text| text.len())
    };
    match length {
        Ok(0) => Ok("empty".into()),
        Ok(length) => Err(format!("{length} bytes or names")),
        Err(e) => Ok(e.source.to_string()),
    }
}

fn no_family(result: i64) -> Outcome {
    let refused = [libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT].map(i64::from);
    if refused.contains(&-result) { Ok(name(result)) } else { Err(format!("the family answers: {}", name(result))) }
}

/// An attack that a call stands for succeeds when the call does.
pub(crate) fn refused(result: i64) -> Outcome {
    if result < 0 { Ok(name(result)) } else { Err(format!("done: {result}")) }
}

/// Like [`refused`], for what the standard library does.
pub(crate) fn denied<T>(result: std::io::Result<T>) -> Outcome {
    match result {
        Ok(_) => Err("done".into()),
        Err(e) => Ok(e.to_string()),
    }
}

/// A need is met when what it stands for works.
pub(crate) fn works<T>(result: std::io::Result<T>) -> Outcome {
    result.map(|_| String::new()).map_err(|e| e.to_string())
}

/// Like [`works`], for a call.
pub(crate) fn worked(result: i64) -> Outcome {
    if result < 0 { Err(name(result)) } else { Ok(String::new()) }
}

/// What is as it shall be.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(is: T, shall: T) -> Outcome {
    if is == shall { Ok(format!("{is:?}")) } else { Err(format!("{is:?}, not {shall:?}")) }
}

/// Starts a process that runs the function and ends with its result; returns that, or 256 and the signal's number.
pub(crate) fn child(run: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the program has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        exit(run());
    }
    wait_for(pid)
}

pub(crate) fn wait_for(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 256 + libc::WTERMSIG(status) }
}

/// Like [`call_i386`], with a fourth argument.
pub(crate) fn call_i386_4(number: u32, a: u32, b: u32, c: u32, d: u32) -> i32 {
    let result: u32;
    // SAFETY: as above.
    unsafe {
        asm!("xchg {a}, rbx", "int 0x80", "xchg {a}, rbx", a = inout(reg) u64::from(a) => _,
            inlateout("eax") number => result, in("ecx") b, in("edx") c, in("esi") d, in("edi") 0);
    }
    result.cast_signed()
}

/// Like [`call`], with a sixth argument.
pub(crate) fn call6(number: i64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    let result: i64;
    // SAFETY: as above.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") f, out("rcx") _, out("r11") _);
    }
    result
}

pub(crate) fn fork() -> i32 {
    // SAFETY: the program has one thread.
    unsafe { libc::fork() }
}
