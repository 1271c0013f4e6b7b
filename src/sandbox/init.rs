//! `__init`: process 1 of the sandbox. Sets the root up, starts the payload, keeps house until it ends.
//!
//! 1. asks to die with enter; once the ids are mapped becomes uid 0 and enters the namespaces that enter has made meanwhile
//! 2. joins a new session keyring, starts the payload's process, which waits, and waits for the plan; names the host
//! 3. mounts the root (`mount`), switches `lo` on, allows no user namespaces beyond the payload's, limits process ids;
//!    registers emulators (`emulate`)
//! 4. enters the root, watches what is to be watched (`watch`), has the payload's process enter it, and writes the maps of its
//!    user namespace
//! 5. drops all capabilities, becomes unreadable to every other process, and a user that the payload cannot become; only
//!    then lets the payload go on
//! 6. reaps whatever dies, until the payload does (its status is reported) or the channel to the supervisor or enter
//!    closes; with process 1 the kernel kills all that is left

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, WaitOptions, pidfd_open, set_dumpable_behavior, set_parent_process_death_signal,
    setsid, wait, waitpid,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::thread::{
    CapabilitySet, CapabilitySets, ThreadNameSpaceType, move_into_thread_name_spaces, set_capabilities,
    set_thread_res_gid, set_thread_res_uid,
};
use serde_json::value::RawValue;

use crate::process;
use crate::sandbox::channel::Channel;
use crate::sandbox::plan::Plan;
use crate::sandbox::report::{
    Connected, Failure, Join, Mapped, PayloadReport, Report, StartInit, StartPayload, Status,
};
use crate::sandbox::step::{Doing, StepError};
use crate::sandbox::watch::Watching;
use crate::sandbox::without::{Mechanism, Without};
use crate::sandbox::{PAYLOAD, emulate, idmap, mount, range, sys};

/// The one id of the outer user namespace that the inner one does not have.
const NOBODYS_ID: u32 = idmap::COUNT - 1;

/// Runs the process; whatever goes wrong is told to the supervisor.
pub(super) fn main(args: &[OsString]) {
    let Ok(mut from_enter) = Channel::from_stdin() else { return };
    if set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).is_err() {
        return;
    }
    let without = &Without::among(args);
    if !without.keeps(Mechanism::ParentDeathSignal) && set_parent_process_death_signal(None).is_err() {
        return;
    }
    let Ok((join, enter)) = from_enter.receive::<Join>() else { return };
    let begun = begin(&join, enter, without);
    let Ok((start, descriptors)) = from_enter.receive::<StartInit>() else { return };
    let mut descriptors = descriptors.into_iter();
    let Some(channel) = descriptors.next() else { return };
    let mut channel = Channel::from(channel);
    let run = |begun| run(&mut channel, &from_enter, begun, start, descriptors.collect(), without);
    let report = match begun.and_then(run) {
        Ok(Some(status)) => Report::Exited(status),
        // The supervisor or enter is gone.
        Ok(None) => return,
        Err(failure) => Report::Failed(failure),
    };
    let _ = channel.send(&report, &[]);
}

/// What is there before init knows what to do.
struct Begun {
    signals: SignalFd,
    to_payload: Channel,
    payload: Starting,
}

/// The payload's process, or who starts it.
enum Starting {
    Started(Pid),
    By(JoinHandle<Result<Pid, Failure>>),
}

impl Starting {
    /// Waits until it is started.
    fn started(self) -> Result<Pid, Failure> {
        match self {
            Self::Started(pid) => Ok(pid),
            Self::By(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        }
    }
}

/// Does what needs no plan, and starts the payload's process.
fn begin(join: &Join, enter: Vec<OwnedFd>, without: &Without) -> Result<Begun, Failure> {
    range::become_root()?;
    range::keep_capabilities().doing("keep capabilities")?;
    if without.keeps(Mechanism::ParentDeathSignal) {
        // The change of ids has undone it; when enter is gone already, its channel tells.
        set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).doing("ask to die with enter")?;
    }
    let both =
        [(join.network, ThreadNameSpaceType::NETWORK), (join.ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)];
    let both = both.into_iter().filter(|(join, _)| *join).fold(ThreadNameSpaceType::empty(), |all, (_, one)| all | one);
    if !both.is_empty() {
        let what = "enter the network and IPC namespaces";
        let enter = enter.first().ok_or_else(|| StepError::refused(what, "they were not passed"))?;
        move_into_thread_name_spaces(enter.as_fd(), both).doing(what)?;
    }
    if without.keeps(Mechanism::NewSession) {
        setsid().doing("leave the session")?;
    }
    if without.keeps(Mechanism::SessionKeyring) {
        sys::new_session_keyring().doing("join a new session keyring")?;
    }
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().doing("wait for signals")?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let signals = signals.doing("wait for signals")?;
    let (to_payload, payload) = start_payload(join.counted, without)?;
    Ok(Begun { signals, to_payload, payload })
}

fn run(
    channel: &mut Channel,
    from_enter: &Channel,
    Begun { signals, to_payload, payload }: Begun,
    StartInit { folder, plan }: StartInit,
    mut streams: Vec<OwnedFd>,
    without: &Without,
) -> Result<Option<Status>, Failure> {
    if let Some(name) = &plan.hostname {
        set_host_name(name).doing(format!("set the host name to `{name}`"))?;
    }
    let binds = streams.split_off(if plan.terminal { 0 } else { 3.min(streams.len()) });
    let root = mount::build(&plan, &folder, binds)?;
    if !plan.host_network && without.keeps(Mechanism::LoopbackUp) {
        sys::loopback_up().doing("switch the loopback interface on")?;
    }
    if !plan.host_network && without.keeps(Mechanism::LowPorts) {
        // The network is the outer user namespace's, where the payload's CAP_NET_BIND_SERVICE is nothing.
        mount::write_setting(&root, "net/ipv4/ip_unprivileged_port_start", 0)?;
    }
    // The payload's own is the one.
    if without.keeps(Mechanism::UserNamespaceLimit) {
        mount::write_setting(&root, "user/max_user_namespaces", 1)?;
    }
    // The kernel counts the sandbox's among the caller's, and a daemon of the host's fails when there are no more.
    if without.keeps(Mechanism::CallersShares) {
        mount::write_share(&root, "fs/inotify/max_user_instances", "user/max_inotify_instances")?;
        mount::write_share(&root, "fs/inotify/max_user_watches", "user/max_inotify_watches")?;
    }
    if let Some(highest) = plan.pid_max {
        mount::write_setting(&root, "kernel/pid_max", highest)?;
    }
    mount::restrict(&plan, &root)?;
    // Kept until the payload is gone: what is registered goes with it.
    let _registry = emulate::register(&plan.emulators, plan.own_emulators)?;
    // Before the root is another: the program that it becomes has a path.
    let payload = payload.started()?;
    mount::enter(&root, without)?;
    if plan.terminal {
        streams = terminal(channel)?;
    }
    let watching = Watching::start(&plan.watch);
    let watched = !plan.watch.is_empty();
    release_payload(channel, to_payload, payload, plan, root, streams)?;
    let status = watch([channel, from_enter], &signals, payload, without)?;
    if watched && status.is_some() {
        channel.send(&Report::Watched(watching.end()), &[]).doing("report what was opened")?;
    }
    Ok(status)
}

/// Sets the name, unless it is that already: a container around bindery may forbid the call, and be given the name itself.
fn set_host_name(name: &str) -> io::Result<()> {
    if rustix::system::uname().nodename().to_bytes() == name.as_bytes() {
        return Ok(());
    }
    nix::unistd::sethostname(name).map_err(|errno| match errno {
        nix::errno::Errno::EPERM => {
            io::Error::other(format!("{}; a container must be started with `--hostname {name}`", errno.desc()))
        }
        other => other.into(),
    })
}

/// Starts the payload's process, which does nothing before [`release_payload`]. A thread does, because whoever starts a
/// program waits until the kernel has loaded it, and there is a root to be mounted meanwhile. The process does not end with
/// that thread: it has not asked to die with anyone. Where threads are counted there is none.
fn start_payload(counted: bool, without: &Without) -> Result<(Channel, Starting), Failure> {
    let (to_payload, theirs) = Channel::pair().doing("make a channel")?;
    let mut command = without.clear(process::this_program());
    command.arg(PAYLOAD).stdin(theirs.into_stdin()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut start = move || {
        let payload = command.spawn().doing("start the payload's process")?;
        let pid = i32::try_from(payload.id()).ok().and_then(Pid::from_raw);
        Ok(pid.ok_or_else(|| StepError::refused("start the payload's process", "it has no process id"))?)
    };
    let payload = match counted {
        true => Starting::Started(start()?),
        false => Starting::By(std::thread::Builder::new().spawn(start).doing("start a thread")?),
    };
    Ok((to_payload, payload))
}

/// Lets the payload's process go on, into the root, and returns once it has become the command.
fn release_payload(
    channel: &mut Channel,
    mut to_payload: Channel,
    pid: Pid,
    plan: Plan<Box<RawValue>>,
    root: OwnedFd,
    streams: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let without = plan.without.clone();
    let all: Vec<_> = std::iter::once(root.as_fd()).chain(streams.iter().map(AsFd::as_fd)).collect();
    let Plan { process, terminal, host_network, without: theirs, .. } = plan;
    let message = StartPayload { process, terminal, host_network, without: theirs };
    to_payload.send(&message, &all).doing("tell the payload's process what to do")?;
    drop((root, streams));
    let (report, _) = to_payload.receive().doing("wait for the payload's process")?;
    match report {
        PayloadReport::Unshared => {}
        PayloadReport::Failed(failure) => return Err(failure),
    }
    if without.keeps(Mechanism::SecondUserNamespace) {
        idmap::write_inner(pid).map_err(|e| e.source).doing("write the maps of the payload's user namespace")?;
    }
    // Before the payload goes on, or the command could find init as its equal.
    hide(&without).doing("drop init's privileges")?;
    // Before the command can print anything that makes somebody press Ctrl-C.
    let command = pidfd_open(pid, PidfdFlags::empty()).doing("report")?;
    channel.send(&Report::Running, &[command.as_fd()]).doing("report")?;
    drop(command);
    to_payload.send(&Mapped, &[]).doing("tell the payload's process of its maps")?;
    match to_payload.receive() {
        // Its end closed: it has become the command.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(e) => Err(StepError::refused("wait for the payload's process", &e.to_string()).into()),
        Ok((PayloadReport::Failed(failure), _)) => Err(failure),
        Ok((PayloadReport::Unshared, _)) => Err(StepError::refused("start the payload", "it reports twice").into()),
    }
}

/// Gives up everything that a payload could steal from init, or use to get at it: even without any capability, equals
/// may limit, stop and list each other (prlimit(2), kill(2), proc(5)).
fn hide(without: &Without) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODYS_ID), Gid::from_raw(NOBODYS_ID));
    if without.keeps(Mechanism::InitUser) {
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    if without.keeps(Mechanism::ParentDeathSignal) {
        set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    let none = CapabilitySet::empty();
    if without.keeps(Mechanism::InitCapabilities) {
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    }
    let hidden = without.keeps(Mechanism::InitHidden);
    set_dumpable_behavior(if hidden { DumpableBehavior::NotDumpable } else { DumpableBehavior::Dumpable })?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

fn watch(
    lifelines: [&Channel; 2],
    signals: &SignalFd,
    payload: Pid,
    without: &Without,
) -> Result<Option<Status>, Failure> {
    loop {
        let [supervisor, enter] = lifelines;
        let mut ready =
            [supervisor.as_fd(), enter.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(StepError::refused("wait", e.desc()).into()),
        }
        // They say nothing more: they can only have gone.
        let gone = ready[..2].iter().any(|lifeline| lifeline.any().unwrap_or(true));
        if gone && without.keeps(Mechanism::Lifeline) {
            return Ok(None);
        }
        while signals.read_signal().doing("read a signal")?.is_some() {}
        let of = (!without.keeps(Mechanism::Reaping)).then_some(payload);
        while let Some((pid, status)) = reap(of).doing("reap")? {
            if pid == payload {
                return Ok(Some(status));
            }
        }
    }
}

/// Returns a child that has ended, if there is one; any, unless only one is asked for.
fn reap(of: Option<Pid>) -> io::Result<Option<(Pid, Status)>> {
    match of.map_or_else(|| wait(WaitOptions::NOHANG), |of| waitpid(Some(of), WaitOptions::NOHANG)) {
        Ok(Some((pid, status))) => {
            let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
            let signal = status.terminating_signal();
            Ok(Some((pid, code.map_or_else(|| Status::Signal(signal.unwrap_or(0)), Status::Code))))
        }
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Makes a terminal in the root's own devpts; its user's end goes to the supervisor.
fn terminal(channel: &mut Channel) -> Result<Vec<OwnedFd>, Failure> {
    let what = "make a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let user = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).doing(what)?;
    unlockpt(&user).doing(what)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let streams = (0..3).map(|_| ioctl_tiocgptpeer(&user, flags)).collect::<Result<_, _>>().doing(what)?;
    channel.send(&Report::Terminal, &[user.as_fd()]).doing(what)?;
    // Or the command could see it before it has a size.
    channel.receive::<Connected>().doing(what)?;
    Ok(streams)
}
