//! `__payload`: the process that becomes the command.
//!
//! 1. enters the root, sets what needs the outer user namespace: its readiness to be killed when memory is short
//! 2. enters the inner user namespace and waits for its maps
//! 3. gets its own session, streams or terminal, keyring, limits, umask, personality and working folder
//! 4. drops capabilities from the bounding set, becomes the user, keeps exactly the capabilities of the spec
//! 5. with the host's network, shuts its abstract sockets out
//! 6. installs the seccomp filter and becomes the command, with the spec's environment and nothing else

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::personality::{Persona, set as set_personality};
use oci_spec::runtime::PosixRlimitType;
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Resource, Rlimit, chdir, chroot, fchdir, ioctl_tiocsctty, setrlimit, setsid, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::sandbox::channel::Channel;
use crate::sandbox::plan::Process;
use crate::sandbox::report::{Failure, Mapped, PayloadReport, StartPayload};
use crate::sandbox::step::{Doing, StepError};
use crate::sandbox::without::{Mechanism, Without};
use crate::sandbox::{seccomp, sys};
use crate::{fs, process};

/// Of linux/personality.h: uname(2) says i686.
const PER_LINUX32: Persona = Persona::from_bits_retain(8);

/// Runs the process, which only returns to say what went wrong.
pub(super) fn main() {
    let Ok(mut channel) = Channel::from_stdin() else { return };
    let Ok((start, mut streams)) = channel.receive::<StartPayload>() else { return };
    if streams.is_empty() {
        return;
    }
    let root = streams.remove(0);
    let failure = match prepare(&mut channel, &start, root, &streams) {
        Ok(()) => become_command(&start.process, &start.without),
        Err(failure) => failure,
    };
    // Without init there is nobody to tell.
    let _ = channel.send(&PayloadReport::Failed(failure), &[]);
}

fn prepare(channel: &mut Channel, start: &StartPayload, root: OwnedFd, streams: &[OwnedFd]) -> Result<(), Failure> {
    let process = &start.process;
    // Init's change of the root holds for this process, too (pivot_root(2)), which was started before; so that all does
    // not depend on that one sentence of a manual, it is entered once more.
    fchdir(&root).and_then(|()| chroot(".")).doing("enter the root")?;
    drop(root);
    if let Some(adjustment) = process.oom_score_adj {
        set_oom_score(adjustment).doing(format!("set the OOM score adjustment to {adjustment}"))?;
    }
    if start.without.keeps(Mechanism::SecondUserNamespace) {
        unshare(CloneFlags::CLONE_NEWUSER).doing("create the payload's user namespace")?;
    }
    channel.send(&PayloadReport::Unshared, &[]).doing("ask for the maps")?;
    channel.receive::<Mapped>().doing("wait for the maps")?;

    if start.without.keeps(Mechanism::NewSession) {
        setsid().doing("start a session")?;
    }
    if start.without.keeps(Mechanism::SessionKeyring) {
        sys::new_session_keyring().doing("join a new session keyring")?;
    }
    let [stdin, stdout, stderr] = streams else {
        return Err(StepError::refused("set up the standard streams", "they were not passed").into());
    };
    if start.terminal {
        ioctl_tiocsctty(stdin).doing("take the terminal")?;
    }
    nix::unistd::dup2_stdin(stdin)
        .and_then(|()| nix::unistd::dup2_stdout(stdout))
        .and_then(|()| nix::unistd::dup2_stderr(stderr))
        .doing("set up the standard streams")?;
    for &(resource, soft, hard) in &process.rlimits {
        let limit = Rlimit { current: limit(soft), maximum: limit(hard) };
        let what = format!("set the limit {resource} to {soft}, at most {hard}");
        setrlimit(kernel_resource(resource), limit).doing(what)?;
    }
    // Also to the usual one: whoever started us may have switched off what makes addresses hard to guess.
    if process.linux32 || start.without.keeps(Mechanism::Personality) {
        let personality = if process.linux32 { PER_LINUX32 } else { Persona::empty() };
        set_personality(personality).doing("set the personality")?;
    }
    umask(Mode::from_raw_mode(process.umask));
    drop_privileges(process, &start.without).doing("drop privileges")?;
    // As the user it becomes, who may be barred from the folder.
    chdir(&process.cwd).doing(format!("enter `{}` in the root", process.cwd.display()))?;
    if start.without.keeps(Mechanism::SignalReset) {
        sys::reset_signals().doing("reset signals")?;
    }
    if start.host_network && start.without.keeps(Mechanism::LandlockScope) {
        // Where the kernel cannot do it, the supervisor has noted so.
        sys::scope_sockets_and_signals().doing("shut the host's abstract sockets out")?;
    }
    if start.without.keeps(Mechanism::NoNewPrivileges) {
        seccomp::install(&process.seccomp).doing("install the seccomp filter")?;
    }
    Ok(())
}

fn set_oom_score(adjustment: i32) -> io::Result<()> {
    let file = Path::new("/proc/self/oom_score_adj");
    let Err(refused) = fs::write(file, adjustment.to_string()) else { return Ok(()) };
    // A container may have given us a higher one that we may not lower: then we are killed before others all the more.
    let present = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if adjustment >= 0 && present.is_some_and(|present| present >= adjustment) { Ok(()) } else { Err(refused.source) }
}

fn drop_privileges(process: &Process, without: &Without) -> io::Result<()> {
    let keep = process.capabilities.iter().fold(0_u64, |set, number| set | 1 << (number & 63));
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep & (1 << number) == 0 {
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // Above the last one that this kernel knows.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    let groups: Vec<_> = process.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    clear_ambient_capability_set()?;
    let keep = if process.uid == 0 { CapabilitySet::from_bits_retain(keep) } else { CapabilitySet::empty() };
    set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() })?;
    if without.keeps(Mechanism::NoNewPrivileges) {
        set_no_new_privs(true)?;
    }
    Ok(())
}

/// Becomes the command; returns only when that fails.
fn become_command(process: &Process, without: &Without) -> Failure {
    let program = process.args.first().map_or("", String::as_str);
    let mut command = without.clear(process::command(program));
    command.stdin(std::process::Stdio::inherit()).args(&process.args[1..]);
    command.envs(process.env.iter().map(|(name, value)| (name, value)));
    let source = command.exec();
    let missing = source.kind() == io::ErrorKind::NotFound;
    Failure::Command { message: format!("cannot start `{program}` in the root: {source}"), missing }
}

/// The OCI has no word for "no limit": the highest number is it, as for prlimit(2).
fn limit(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

fn kernel_resource(resource: PosixRlimitType) -> Resource {
    match resource {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}
