//! What builds and their test suites do with processes, and a sandbox that is too strict breaks.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::libc;

use crate::probe::{
    Outcome, Probe, ask, at, call, call_i386, call6, child, exit, fork, name, need, owned, poll_in, room, same,
    wait_for, worked, works,
};
use crate::program::{I386, elf32, elf64, execute, install};
use crate::stage::Stage;

pub(crate) const PROBES: &[Probe] = &[
    need("unknown-call", "new calls fail with ENOSYS, so that C libraries fall back", "unknown-calls", |_| {
        same(call(9999, [0; 5]), -38)
    }),
    need("unknown-call-i386", "the same for 32-bit programs", "unknown-calls | i386", |_| {
        same(call_i386(9999, 0, 0, 0), -38)
    }),
    need("program-i386", "32-bit programs (multilib, wine)", "i386 | writable-root | executable-tmp", program_i386),
    need("personality-i386", "`setarch i686`, as 32-bit packages are built with", "old-personality", personality_i386),
    need(
        "execute-in-tmp",
        "configure scripts run what they have compiled in /tmp",
        "writable-root | executable-tmp",
        execute_in_tmp,
    ),
    need("execute-memfd", "programs that execute themselves from memory", "memory-files", execute_memfd),
    need(
        "executable-memory",
        "just-in-time compilers: memory that is written, then executed",
        "executable-memory",
        executable_memory,
    ),
    need("set-user", "userpriv: root becomes the build's user", "setuid | setgid", set_user),
    need("set-groups", "and its groups", "setgid", set_groups),
    need("kill-other-user", "root ends processes of the build's user", "kill | setuid | term-signals", kill_other_user),
    need("chroot", "`ldconfig -r` and image phases", "sys_chroot", |_| {
        same(child(|| i32::from(call(libc::SYS_chroot, [at(c"/tmp"), 0, 0, 0, 0]) == 0)), 1)
    }),
    need("low-port", "test suites that serve on ports below 1024", "low-ports", |_| {
        works(TcpListener::bind((Ipv4Addr::LOCALHOST, 81)))
    }),
    need("ptrace-child", "sys-apps/sandbox, strace, debuggers' tests", "tracing", ptrace_child),
    need("read-child-memory", "the same, by process_vm_readv(2)", "memory-of-others", read_child),
    need("threads", "threads", "threads", threads),
    need("many-processes", "hundreds of processes at once (`make -j`)", "processes", many_processes),
    need("signals-between", "signals between processes of the build", "term-signals", signals),
    need("signal-descriptors", "signalfd, eventfd, epoll, timerfd", "event-descriptors | inotify", descriptors),
    need("pidfd", "pidfd_open and pidfd_send_signal", "pidfd-signals", pidfd),
    need("session", "sessions and process groups", "new-sessions", |_| {
        same(child(|| i32::from(call(libc::SYS_setsid, [0; 5]) > 0)), 1)
    }),
    need("nice", "nice(1)", "priorities", |_| worked(call(libc::SYS_setpriority, [0, 0, 5, 0, 0]))),
    need("affinity", "taskset(1), and nproc", "cpu-choice", affinity),
    need("scheduler", "schedtool -B, as portage's niceness settings", "scheduling", |_| {
        worked(call(libc::SYS_sched_setscheduler, [0, 3, at(&[0_i32; 1]), 0, 0]))
    }),
    need("io-priority", "ionice -c 3", "io-priorities", |_| worked(call(libc::SYS_ioprio_set, [1, 0, 3 << 13, 0, 0]))),
    need("clocks", "clocks and sleeping", "sleeping", clocks),
    need("alarm", "timers that signal", "timers", alarm),
    need("random", "random numbers", "random-numbers", |_| {
        same(call(libc::SYS_getrandom, [room(&mut [0_u8; 16]), 16, 0, 0, 0]), 16)
    }),
    need("own-proc", "/proc of the build's own processes", "cpuinfo", own_proc),
    need("pseudo-terminal", "pseudo terminals (script, expect, dejagnu)", "dev-pts | device-links", pseudo_terminal),
    need("loopback-tcp", "servers and clients on 127.0.0.1 in test suites", "loopback-up", tcp),
    need("loopback-tcp6", "and on ::1", "loopback-up | ipv6", tcp6),
    need("loopback-udp", "and datagrams", "loopback-up | udp", udp),
    need("netlink-route", "getifaddrs(3)", "netlink", |_| {
        worked(crate::probe::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0))
    }),
    need("unix-socket", "Unix sockets with a name", "unix-sockets | writable-root", unix_socket),
    need("abstract-socket", "abstract Unix sockets", "unix-sockets", abstract_socket),
    need("pass-descriptor", "descriptors passed over a socket pair", "socket-pairs", pass_descriptor),
    need("pipes", "large pipes, splice(2)", "pipe-sizes", pipes),
    need("shared-memory", "System V shared memory", "sysv-memory", shared_memory),
    need("semaphores", "System V semaphores (fakeroot)", "semaphores", |_| {
        worked(call(libc::SYS_semget, [0, 1, 0o1600, 0, 0]))
    }),
    need("message-queues", "System V message queues", "message-queues", |_| {
        worked(call(libc::SYS_msgget, [0, 0o1600, 0, 0, 0]))
    }),
    need("posix-queues", "POSIX message queues", "posix-queues", queue),
    need("posix-semaphores", "sem_open(3): Python's multiprocessing", "dev-shm", |stage| {
        let path = format!("/dev/shm/sem.{}", stage.run);
        let made = works(std::fs::OpenOptions::new().create_new(true).write(true).open(&path));
        let _ = bindery::fs::remove_file(Path::new(&path));
        made
    }),
    need("queues-folder", "/dev/mqueue, which lists them", "dev-mqueue", |_| {
        bindery::fs::read_dir(Path::new("/dev/mqueue")).map(|names| format!("{names:?}")).map_err(|e| e.to_string())
    }),
    need("bounding-set", "capsh --drop, and test suites of libcap", "setpcap", |_| {
        worked(call(libc::SYS_prctl, [24, 0, 0, 0, 0]))
    }),
    need("filter-of-its-own", "seccomp filters of test suites and browsers", "filters", own_filter),
    need("resource-limits", "ulimit: limits may be lowered", "limits-lowered", |_| {
        worked(call(libc::SYS_prlimit64, [0, 7, at(&[64_u64, 64]), 0, 0]))
    }),
    need("lock-memory", "mlock(2) of a page", "locked-memory", |_| {
        worked(call(libc::SYS_mlock, [at(&0_u8), 1, 0, 0, 0]))
    }),
];

fn program_i386(_: &Stage) -> Outcome {
    install("/tmp/i386", &elf32(I386), 0o755)?;
    same(execute("/tmp/i386", 0), 42)
}

fn personality_i386(_: &Stage) -> Outcome {
    worked(call(libc::SYS_personality, [8, 0, 0, 0, 0]))?;
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    same(machine.as_str(), "i686")
}

fn execute_in_tmp(_: &Stage) -> Outcome {
    install("/tmp/program", &elf64(crate::program::AM_I_ROOT), 0o755)?;
    same(execute("/tmp/program", 0), 7)
}

fn execute_memfd(_: &Stage) -> Outcome {
    let fd = ask(libc::SYS_memfd_create, [at(c"program"), 0, 0, 0, 0]).map_err(|e| name(i64::from(-e)))?;
    let mut file = std::fs::File::from(owned(fd));
    file.write_all(&elf64(crate::program::AM_I_ROOT)).map_err(|e| e.to_string())?;
    same(execute(&format!("/proc/self/fd/{fd}"), 0), 7)
        .or_else(|why| if why.starts_with("99") { Err(why) } else { Ok(why) })
}

fn executable_memory(_: &Stage) -> Outcome {
    let flags = u64::from((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).cast_unsigned());
    let page = call6(libc::SYS_mmap, [0, 4096, 3, flags, u64::MAX, 0]);
    worked(page)?;
    worked(call(libc::SYS_mprotect, [page.cast_unsigned(), 4096, 5, 0, 0]))
}

fn set_user(_: &Stage) -> Outcome {
    worked(call(libc::SYS_setresgid, [250, 250, 250, 0, 0]))?;
    worked(call(libc::SYS_setresuid, [250, 250, 250, 0, 0]))
}

fn set_groups(_: &Stage) -> Outcome {
    worked(call(libc::SYS_setgroups, [2, at(&[250_u32, 7]), 0, 0, 0]))
}

/// Starts a process that does nothing until it is killed; as another user unless 0, which it is when this returns.
fn idle(uid: u64) -> i32 {
    let Ok((mut reader, writer)) = std::io::pipe() else { return -1 };
    let pid = fork();
    if pid == 0 {
        if uid != 0 {
            call(libc::SYS_setresuid, [uid, uid, uid, 0, 0]);
        }
        drop(writer);
        loop {
            call(libc::SYS_pause, [0; 5]);
        }
    }
    drop(writer);
    // It ends when the other has closed its end.
    let _ = reader.read(&mut [0]);
    pid
}

fn end(pid: i32, signal: i32) -> Outcome {
    worked(call(libc::SYS_kill, [u64::from(pid.cast_unsigned()), u64::from(signal.cast_unsigned()), 0, 0, 0]))?;
    same(wait_for(pid), 256 + signal)
}

fn kill_other_user(_: &Stage) -> Outcome {
    let pid = idle(250);
    let status = bindery::fs::read_to_string(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
    let ended = end(pid, libc::SIGTERM);
    if status.contains("Uid:\t250") { ended } else { Err("did not become the user".into()) }
}

fn ptrace_child(_: &Stage) -> Outcome {
    let pid = idle(0);
    let result = worked(call(libc::SYS_ptrace, [0x4206, u64::from(pid.cast_unsigned()), 0, 0, 0]));
    end(pid, libc::SIGKILL).and(result)
}

fn read_child(_: &Stage) -> Outcome {
    let word = [0x1234_5678_u64];
    let pid = idle(0);
    let here = [0_u64; 1];
    let (local, remote) = ([at(&here), 8], [at(&word), 8]);
    let result = call6(libc::SYS_process_vm_readv, [u64::from(pid.cast_unsigned()), at(&local), 1, at(&remote), 1, 0]);
    end(pid, libc::SIGKILL)?;
    same(result, 8)
}

fn threads(_: &Stage) -> Outcome {
    let all: Vec<_> = (0..16_u64).map(|n| std::thread::Builder::new().spawn(move || n)).collect();
    let sum: u64 =
        all.into_iter().map(|t| t.map_err(|e| e.to_string()).map(|t| t.join().unwrap())).sum::<Result<_, _>>()?;
    same(sum, 120)
}

fn many_processes(_: &Stage) -> Outcome {
    let all: Vec<i32> = (0..300)
        .map(|_| {
            let pid = fork();
            if pid == 0 {
                loop {
                    call(libc::SYS_pause, [0; 5]);
                }
            }
            pid
        })
        .collect();
    let started = all.iter().filter(|pid| **pid > 0).count();
    for pid in all.into_iter().filter(|pid| *pid > 0) {
        call(libc::SYS_kill, [u64::from(pid.cast_unsigned()), 9, 0, 0, 0]);
        wait_for(pid);
    }
    same(started, 300)
}

fn signals(_: &Stage) -> Outcome {
    end(idle(0), libc::SIGTERM)
}

/// An inotify instance; other sandboxes of the battery may have all for a moment.
pub(crate) fn watcher() -> i64 {
    for _ in 0..500 {
        match call(libc::SYS_inotify_init1, [0; 5]) {
            -24 => std::thread::sleep(std::time::Duration::from_millis(10)),
            result => return result,
        }
    }
    -24
}

fn descriptors(_: &Stage) -> Outcome {
    worked(call(libc::SYS_eventfd2, [0, 0, 0, 0, 0]))?;
    worked(call(libc::SYS_epoll_create1, [0; 5]))?;
    worked(call(libc::SYS_signalfd4, [u64::MAX, at(&[0_u64; 1]), 8, 0, 0]))?;
    worked(watcher())?;
    worked(call(libc::SYS_timerfd_create, [1, 0, 0, 0, 0]))
}

fn pidfd(_: &Stage) -> Outcome {
    let pid = idle(0);
    let fd =
        ask(libc::SYS_pidfd_open, [u64::from(pid.cast_unsigned()), 0, 0, 0, 0]).map_err(|e| name(i64::from(-e)))?;
    worked(call(libc::SYS_pidfd_send_signal, [fd.cast_unsigned(), 9, 0, 0, 0]))?;
    same(wait_for(pid), 265)
}

fn affinity(_: &Stage) -> Outcome {
    let mut mask = [0_u64; 128];
    worked(call(libc::SYS_sched_getaffinity, [0, 1024, room(&mut mask), 0, 0]))?;
    worked(call(libc::SYS_sched_setaffinity, [0, 1024, at(&mask), 0, 0]))
}

fn clocks(_: &Stage) -> Outcome {
    for clock in [0, 1, 2, 3, 4, 5, 6, 7] {
        worked(call(libc::SYS_clock_gettime, [clock, room(&mut [0_u64; 2]), 0, 0, 0]))?;
    }
    worked(call(libc::SYS_nanosleep, [at(&[0_u64, 1000]), 0, 0, 0, 0]))
}

fn alarm(_: &Stage) -> Outcome {
    let code = child(|| {
        if call(libc::SYS_setitimer, [0, at(&[0_u64, 0, 0, 1000]), 0, 0, 0]) < 0 {
            return 1;
        }
        call(libc::SYS_pause, [0; 5]);
        0
    });
    same(code, 256 + libc::SIGALRM)
}

fn own_proc(_: &Stage) -> Outcome {
    for file in ["exe", "maps", "status", "environ", "fd/0", "cwd", "root"] {
        let path = format!("/proc/self/{file}");
        works(std::fs::symlink_metadata(&path)).map_err(|e| format!("{path}: {e}"))?;
    }
    for file in ["/proc/cpuinfo", "/proc/meminfo"] {
        let text = bindery::fs::read(Path::new(file)).map_err(|e| e.to_string())?;
        if text.is_empty() {
            return Err(format!("{file} is empty"));
        }
    }
    Ok(String::new())
}

fn pseudo_terminal(_: &Stage) -> Outcome {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(|e| e.to_string())?;
    grantpt(&user).and_then(|()| unlockpt(&user)).map_err(|e| e.to_string())?;
    let name = ptsname(&user, Vec::new()).map_err(|e| e.to_string())?;
    let path = name.to_string_lossy().into_owned();
    works(std::fs::OpenOptions::new().read(true).write(true).open(path))
}

fn tcp(_: &Stage) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    works(TcpStream::connect(listener.local_addr().unwrap()))
}

fn tcp6(_: &Stage) -> Outcome {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    works(TcpStream::connect(listener.local_addr().unwrap()))
}

fn udp(_: &Stage) -> Outcome {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    works(socket.send_to(b"x", socket.local_addr().unwrap()))
}

fn unix_socket(_: &Stage) -> Outcome {
    let path = "/tmp/socket";
    let _ = bindery::fs::remove_file(Path::new(path));
    let _listener = std::os::unix::net::UnixListener::bind(path).map_err(|e| e.to_string())?;
    works(std::os::unix::net::UnixStream::connect(path))
}

fn abstract_socket(stage: &Stage) -> Outcome {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(format!("own-{}", stage.run)).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).map_err(|e| e.to_string())?;
    works(std::os::unix::net::UnixStream::connect_addr(&address))
}

fn pass_descriptor(_: &Stage) -> Outcome {
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
    let (one, other) = std::os::unix::net::UnixStream::pair().map_err(|e| e.to_string())?;
    let file = bindery::fs::open(Path::new("/dev/null")).map_err(|e| e.to_string())?;
    let (bytes, files) = ([std::io::IoSlice::new(b"x")], [file.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&files)];
    sendmsg::<()>(one.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).map_err(|e| e.to_string())?;
    let (mut room, mut byte) = (nix::cmsg_space!([i32; 1]), [0_u8; 1]);
    let mut bytes = [std::io::IoSliceMut::new(&mut byte)];
    let got = recvmsg::<()>(other.as_raw_fd(), &mut bytes, Some(&mut room), MsgFlags::empty());
    let got = got.map_err(|e| e.to_string())?;
    let is_rights =
        |message: ControlMessageOwned| matches!(message, ControlMessageOwned::ScmRights(all) if all.len() == 1);
    same(got.cmsgs().map_err(|e| e.to_string())?.any(is_rights), true)
}

fn pipes(_: &Stage) -> Outcome {
    let (mut reader, mut writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let fd = u64::from(writer.as_raw_fd().cast_unsigned());
    worked(call(libc::SYS_fcntl, [fd, 1031, 1 << 18, 0, 0]))?;
    writer.write_all(&[1; 200_000]).map_err(|e| e.to_string())?;
    if !poll_in(reader.as_raw_fd(), std::time::Duration::from_secs(1)) {
        return Err("nothing to read".into());
    }
    works(reader.read_exact(&mut [0; 200_000]))
}

fn shared_memory(_: &Stage) -> Outcome {
    let id = call(libc::SYS_shmget, [0, 4096, 0o1600, 0, 0]);
    worked(id)?;
    worked(call(libc::SYS_shmat, [id.cast_unsigned(), 0, 0, 0, 0]))?;
    worked(call(libc::SYS_shmctl, [id.cast_unsigned(), 0, 0, 0, 0]))
}

fn queue(stage: &Stage) -> Outcome {
    let name = format!("own-{}\0", stage.run);
    let made = worked(call(libc::SYS_mq_open, [at(name.as_bytes()), 0o102, 0o600, 0, 0]));
    call(libc::SYS_mq_unlink, [at(name.as_bytes()), 0, 0, 0, 0]);
    made
}

fn own_filter(_: &Stage) -> Outcome {
    // One instruction: allow.
    let program = [0x7fff_0000_0000_0006_u64];
    let filter = [1_u64, at(&program)];
    let code = child(|| {
        call(libc::SYS_prctl, [38, 1, 0, 0, 0]);
        let result = call(libc::SYS_seccomp, [1, 0, at(&filter), 0, 0]);
        exit(i32::from(result == 0))
    });
    same(code, 1)
}
