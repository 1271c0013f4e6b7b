//! `__enter`: from the host into the sandbox's namespaces; stays outside its process namespace as init's parent.
//!
//! 1. closes inherited descriptors, asks to die with the supervisor, leaves its session
//! 2. enters the outer user namespace, waits for its maps, becomes uid 0 there, gives up gaining privileges
//! 3. enters the mount, process, IPC, UTS, control group and network namespaces, starts init, which waits, and detaches the
//!    mounts from the host's
//! 4. waits until it is told what to run: up to here it may be started while that is still being found out
//! 5. as an ordinary user: opens what is to be bound, and the layers that are folders of the host's (as root, the
//!    supervisor has done so, which may look into root's folders and map owners)
//! 6. tells init what to do, and waits for it
//! 7. where nobody wants to look at what was written: empties the lease's folder

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Resource, Rlimit, chdir, getrlimit, setrlimit, umask};
use rustix::thread::set_no_new_privs;

use crate::fs::{self, FOLDER};
use crate::process;
use crate::sandbox::channel::{Channel, MAX_DESCRIPTORS};
use crate::sandbox::program::Program;
use crate::sandbox::range::{RangeError, become_root, die_with, new_namespaces, new_user_namespace};
use crate::sandbox::report::{Begin, Failure, Mapped, Report, Start, StartInit};
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
    new_user_namespace()?;
    channel.send(&Report::Unshared, &[]).doing("ask for the maps")?;
    channel.receive::<Mapped>().doing("wait for the maps")?;
    become_root()?;
    die_with(begin.parent)?;
    if without.keeps(Mechanism::NoNewPrivileges) {
        set_no_new_privs(true).doing("give up gaining privileges")?;
    }
    umask(Mode::empty());
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if !begin.host_network {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    for (mechanism, flag) in [
        (Mechanism::PidNamespace, CloneFlags::CLONE_NEWPID),
        (Mechanism::IpcNamespace, CloneFlags::CLONE_NEWIPC),
        (Mechanism::UtsNamespace, CloneFlags::CLONE_NEWUTS),
        (Mechanism::CgroupNamespace, CloneFlags::CLONE_NEWCGROUP),
    ] {
        namespaces.set(flag, without.keeps(mechanism));
    }
    new_namespaces(namespaces)?;
    let program = Program::seal(without).doing("open bindery's own program")?;
    let (to_init, theirs) = Channel::pair().doing("make a channel")?;
    let init = without
        .clear(program.command())
        .arg(INIT)
        .args(without.args())
        .stdin(theirs.into_stdin())
        .stdout(Stdio::null())
        .spawn()
        .doing("start init")?;
    let pid = i32::try_from(init.id()).map_err(|_| StepError::refused("start init", "its id is no process id"))?;
    channel.send(&Report::Started(pid), &[]).doing("report")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).doing("detach from the host's mounts")?;
    match channel.receive::<Start>() {
        Ok((start, descriptors)) => release(channel, to_init, init, start, descriptors),
        // It has changed its mind, or is gone; init sees its channel close.
        Err(_) => Ok(None),
    }
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
    start: Start,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Option<String>, Failure> {
    if !start.opened {
        descriptors.extend(layers::open_own(&start.plan.overlay)?);
        descriptors.extend(mount::open_binds(&start.plan)?);
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
    let status = init.wait().doing("wait for init")?;
    if let Some(folder) = discard {
        // What cannot be removed from here (a mount point, if init failed half-way), the caller removes.
        let _ = fs::empty_folder(&folder);
    }
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
