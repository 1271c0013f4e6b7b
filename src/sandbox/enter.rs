//! `__enter`: from the host into the sandbox's namespaces; stays outside its process namespace as init's parent.
//!
//! 1. closes inherited descriptors, asks to die with the supervisor, leaves its session and most of the signals that may wait
//! 2. enters the outer user namespace and in it the mount, process, UTS and control group namespaces; asks for the maps
//! 3. gives up gaining privileges, starts init, which waits, detaches the mounts from the host's, and enters the network
//!    namespace, which takes as long to make as init's program to start
//! 4. once the maps are written becomes uid 0, enters the IPC namespace, whose files belong to who makes it, and has init
//!    do likewise
//! 5. waits until it is told what to run: up to here it may be started while that is still being found out
//! 6. as an ordinary user: opens what is to be bound, and the layers that are folders of the host's (as root, the
//!    supervisor has done so, which may look into root's folders and map owners)
//! 7. tells init what to do, and waits for it
//! 8. where nobody wants to look at what was written: empties the lease's folder

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{PidfdFlags, Resource, Rlimit, chdir, getpid, getrlimit, pidfd_open, setrlimit, umask};
use rustix::thread::set_no_new_privs;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::fs::{self, FOLDER};
use crate::process;
use crate::sandbox::channel::{Channel, MAX_DESCRIPTORS};
use crate::sandbox::plan::Plan;
use crate::sandbox::program::Program;
use crate::sandbox::range::{self, RangeError, become_root, die_with, new_namespaces};
use crate::sandbox::report::{Begin, Failure, Join, Mapped, Report, Start, StartInit};
use crate::sandbox::step::{Doing, StepError};
use crate::sandbox::without::{Mechanism, Without};
use crate::sandbox::{INIT, layers, mount, sys};

/// How many binds a plan may have: their descriptors go in one message with four others.
pub(super) const MAX_BINDS: usize = MAX_DESCRIPTORS - 4;

/// Runs the process; whatever goes wrong is told to the supervisor, if it still lives.
pub(super) fn main(args: &[OsString]) {
    if Without::among(args).keeps(Mechanism::DescriptorsClosed) && sys::close_inherited().is_err() {
        return;
    }
    let Ok(mut channel) = Channel::from_stdin() else { return };
    let Ok((begin, _)) = channel.receive::<Begin>() else { return };
    let report = match enter(&mut channel, &begin) {
        Ok(None) => return,
        Ok(Some(lost)) => Report::Lost(lost),
        Err(failure) => Report::Failed(failure),
    };
    // The supervisor may be gone.
    let _ = channel.send(&report, &[]);
}

fn enter(channel: &mut Channel, begin: &Begin) -> Result<Option<String>, Failure> {
    let without = &begin.without;
    let die_with = |parent| if without.keeps(Mechanism::ParentDeathSignal) { die_with(parent) } else { Ok(()) };
    die_with(begin.parent)?;
    chdir(&begin.base).doing(format!("enter `{}`", begin.base.display()))?;
    if without.keeps(Mechanism::CallersShares) {
        share_signals().doing("bound the signals that wait")?;
    }
    let mut namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    for (mechanism, flag) in [
        (Mechanism::PidNamespace, CloneFlags::CLONE_NEWPID),
        (Mechanism::UtsNamespace, CloneFlags::CLONE_NEWUTS),
        (Mechanism::CgroupNamespace, CloneFlags::CLONE_NEWCGROUP),
    ] {
        namespaces.set(flag, without.keeps(mechanism));
    }
    new_namespaces(namespaces)?;
    channel.send(&Report::Unshared, &[]).doing("ask for the maps")?;
    if without.keeps(Mechanism::NoNewPrivileges) {
        set_no_new_privs(true).doing("give up gaining privileges")?;
    }
    umask(Mode::empty());
    let (program, mut to_init, init) = start_init(without)?;
    let pid = i32::try_from(init.id()).map_err(|_| StepError::refused("start init", "its id is no process id"))?;
    channel.send(&Report::Started(pid), &[]).doing("report")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).doing("detach from the host's mounts")?;
    let (network, ipc) = (!begin.host_network, without.keeps(Mechanism::IpcNamespace));
    let join = Join { network, ipc, counted: begin.counted };
    if join.network {
        new_namespaces(CloneFlags::CLONE_NEWNET)?;
    }
    channel.receive::<Mapped>().doing("wait for the maps")?;
    become_root()?;
    die_with(begin.parent)?;
    if join.ipc {
        new_namespaces(CloneFlags::CLONE_NEWIPC)?;
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty()).doing("open enter's own process")?;
    to_init.send(&join, &[own.as_fd()]).doing("tell init of the maps")?;
    // Its mount goes with it, and the kernel waits for all processors: beside init's start of the payload's process.
    drop((program, own));
    match channel.receive::<Start<Box<RawValue>>>() {
        Ok((start, descriptors)) => release(channel, to_init, init, start, descriptors),
        // It has changed its mind, or is gone; init sees its channel close.
        Err(_) => Ok(None),
    }
}

/// Starts init, which does nothing before the maps are written; also returns what it is started from, which may go then.
/// Before the maps none of its ids is one of the user namespace, and a program that such a process becomes has only those
/// capabilities that are ambient: all.
fn start_init(without: &Without) -> Result<(Program, Channel, Child), Failure> {
    let program = Program::seal(without).doing("open bindery's own program")?;
    let (to_init, theirs) = Channel::pair().doing("make a channel")?;
    range::pass_capabilities_on().doing("pass capabilities on to init")?;
    let init = without
        .clear(program.command())
        .arg(INIT)
        .args(without.args())
        .stdin(theirs.into_stdin())
        .stdout(Stdio::null())
        .spawn()
        .doing("start init")?;
    range::keep_capabilities().doing("keep capabilities")?;
    Ok((program, to_init, init))
}

/// Leaves three quarters of the signals that may wait for the caller's processes to those: what a user namespace may take
/// of them is what its maker may at that time (setrlimit(2), RLIMIT_SIGPENDING).
fn share_signals() -> std::io::Result<()> {
    let quarter = |limit: Option<u64>| limit.map(|limit| (limit / 4).max(1));
    let Rlimit { current, maximum } = getrlimit(Resource::Sigpending);
    Ok(setrlimit(Resource::Sigpending, Rlimit { current: quarter(current), maximum: quarter(maximum) })?)
}

/// Tells init what to do, waits for it and clears up. Returns what became of init, if that was not by itself.
fn release(
    channel: &Channel,
    mut to_init: Channel,
    mut init: Child,
    start: Start<Box<RawValue>>,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Option<String>, Failure> {
    if !start.opened {
        let plan: Plan<IgnoredAny> =
            serde_json::from_str(start.plan.get()).map_err(std::io::Error::from).doing("read the plan")?;
        descriptors.extend(layers::open_own(&plan.overlay)?);
        descriptors.extend(mount::open_binds(&plan)?);
    }
    let discard = start.discard.then(|| rustix::fs::open(&start.folder, FOLDER | OFlags::RDONLY, Mode::empty()));
    let discard = discard.transpose().doing("open the lease's folder")?;
    {
        let all: Vec<_> = std::iter::once(channel.as_fd()).chain(descriptors.iter().map(AsFd::as_fd)).collect();
        let message = StartInit { folder: start.folder, plan: start.plan };
        to_init.send(&message, &all).doing("tell init what to do")?;
    }
    // Only init and the payload may hold the streams' ends, or the supervisor would never see them close.
    drop(descriptors);
    // What cannot be removed from here (a mount point, if init failed half-way), the caller removes.
    let empty = || discard.as_ref().map(fs::empty_folder);
    if discard.is_some() {
        // The payload is gone then, and init is about to be.
        to_init.wait_for_end();
        let _ = empty();
    }
    let status = init.wait().doing("wait for init")?;
    // Others of the process namespace could write until now.
    let _ = empty();
    Ok((!status.success()).then(|| status.to_string()))
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::Setup(process::chain(&error))
    }
}

impl From<RangeError> for Failure {
    fn from(error: RangeError) -> Self {
        match error {
            RangeError::Refused { .. } => Self::Refused(process::chain(&error)),
            other => Self::Setup(process::chain(&other)),
        }
    }
}
