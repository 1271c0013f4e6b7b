//! The supervisor: starts enter, hears its reports, relays the streams, and stops the payload when it must.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::fs;
use crate::sandbox::channel::Channel;
use crate::sandbox::child::Enter;
use crate::sandbox::disk::Disk;
use crate::sandbox::keeper::Keeper;
use crate::sandbox::keys::Hands;
use crate::sandbox::report::{Begin, Connected, Failure, Mapped, Report, Start, Status};
use crate::sandbox::stdio::Streams;
use crate::sandbox::step::{Doing, StepError};
use crate::sandbox::watch::Seen;
use crate::sandbox::watchdog::{Stopped, Watchdog};
use crate::sandbox::without::Without;
use crate::sandbox::{IdRange, SandboxError, idle, layers, mount};

/// How soon a cancellation or another size of our terminal is noticed.
const TICK: Duration = Duration::from_millis(100);

/// The processes of one sandbox, from the outside. Dropping it kills them all and waits for them.
#[derive(Debug)]
pub(super) struct Sandbox {
    enter: Enter,
    init: Option<OwnedFd>,
    channel: Channel,
    /// The lease's folder, if it is to be empty afterwards.
    discarded: Option<PathBuf>,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) status: Option<Status>,
    pub(super) stopped: Option<Stopped>,
    /// What became of init, if it ended without the payload's status.
    pub(super) lost: Option<String>,
    /// What was seen of the files that were to be watched, if the command has ended by itself.
    pub(super) watched: Vec<Seen>,
}

/// What the loop looks after.
#[derive(Debug)]
pub(super) struct Watch<'a, 's> {
    pub(super) streams: Streams<'s>,
    pub(super) watchdog: Watchdog,
    pub(super) keeper: Keeper<'a>,
    pub(super) disk: &'a mut Disk,
    pub(super) cancel: &'a AtomicBool,
    pub(super) hands: Hands<'a>,
}

impl Sandbox {
    /// Starts enter, which does nothing before [`Self::begin`], in a control group of the unified hierarchy where that
    /// can be.
    pub(super) fn new(without: &Without, group: Option<&Path>) -> Result<Self, SandboxError> {
        let what = "start the sandbox's first process";
        let (channel, theirs) = Channel::pair().doing(what)?;
        let enter = Enter::start(theirs.into(), without, group).doing(what)?;
        Ok(Self { enter, init: None, channel, discarded: None })
    }

    pub(super) fn pid(&self) -> u32 {
        self.enter.pid()
    }

    /// Returns whether enter was started in the group.
    pub(super) fn born_in_group(&self) -> bool {
        self.enter.in_group
    }

    /// Has enter go into the outer user namespace.
    pub(super) fn begin(&mut self, begin: &Begin) -> Result<(), SandboxError> {
        Ok(self.channel.send(begin, &[]).doing("tell the sandbox where to begin")?)
    }

    /// Maps the ids of the outer user namespace; enter goes on, into all others.
    pub(super) fn map(&mut self, ids: &IdRange) -> Result<(), SandboxError> {
        match self.channel.receive::<Report>() {
            Ok((Report::Unshared, _)) => {}
            Ok((Report::Failed(failure), _)) => return Err(failure.into()),
            Ok(_) => return Err(StepError::refused("map the ids", "something else was reported").into()),
            Err(e) if is_end(&e) => return Err(SandboxError::Lost(None)),
            Err(e) => return Err(StepError::refused("hear of the sandbox", &e.to_string()).into()),
        }
        let mapped = ids.write_outer(self.enter.pid).map_err(SandboxError::from);
        let told = mapped.and_then(|()| Ok(self.channel.send(&Mapped, &[]).doing("tell the sandbox of its maps")?));
        told.map_err(|noticed| self.reason(noticed))
    }

    /// Returns what the sandbox said went wrong, if it did, instead of how that was noticed; it ends.
    fn reason(&mut self, noticed: SandboxError) -> SandboxError {
        self.enter.kill();
        loop {
            match self.channel.receive::<Report>() {
                Ok((Report::Failed(failure), _)) => return failure.into(),
                Ok(_) => {}
                Err(_) => return noticed,
            }
        }
    }

    /// Says what to run, below the base folder, once the ids are mapped. As root, opens what is to be bound, which nobody
    /// inside might reach.
    pub(super) fn start(
        &mut self,
        mut start: Start,
        base: &Path,
        ids: &IdRange,
        streams: Vec<OwnedFd>,
    ) -> Result<(), SandboxError> {
        self.discarded = start.discard.then(|| base.join(&start.folder));
        let mut all = streams;
        start.opened = layers::maps(ids);
        // Root can empty it, too, and does while the kernel takes enter's mounts down.
        start.discard &= !start.opened;
        if start.opened {
            all.extend(layers::open(&start.plan.overlay, ids, self.enter.pid)?);
            all.extend(mount::open_binds(&start.plan)?);
        }
        let all: Vec<_> = all.iter().map(AsFd::as_fd).collect();
        let told = self.channel.send(&start, &all).doing("tell the sandbox what to do");
        told.map_err(|noticed| self.reason(noticed.into()))
    }

    /// Looks after the sandbox until all its processes are gone.
    pub(super) fn supervise(&mut self, watch: &mut Watch<'_, '_>) -> Result<End, SandboxError> {
        let mut end = End { status: None, stopped: None, lost: None, watched: Vec::new() };
        let mut open = true;
        while open || !watch.streams.drained() {
            let ready = self.wait(watch, open)?;
            watch.watchdog.skip(watch.hands.look());
            let now = Instant::now();
            watch.watchdog.skip(watch.keeper.look(now));
            // First: what is heard of the command comes before what it prints.
            let connected = if ready.channel { self.hear(watch, &mut end)? } else { open };
            if watch.streams.pump(&ready.streams) {
                watch.watchdog.hear(now);
            }
            if open && !connected {
                open = false;
                watch.streams.end();
            }
            let cancelled = watch.cancel.load(Ordering::Relaxed).then_some(Stopped::Cancelled);
            let disk = watch.disk.check(now, ready.disk);
            let idle = match watch.keeper.stands_still() {
                true => None,
                false => watch.watchdog.check_idle(now, || idle::look(self.enter.pid())),
            };
            let stop = cancelled.or(disk).or_else(|| watch.watchdog.check_time(now)).or(idle);
            if let Some(stop) = stop.filter(|_| end.status.is_none() && end.stopped.is_none()) {
                end.stopped = Some(stop);
                watch.keeper.let_go();
                self.kill();
            }
            // The payload is gone; whoever reads our output need not be waited for any longer.
            if !open && cancelled.is_some() {
                break;
            }
        }
        watch.keeper.let_go();
        self.finish();
        Ok(end)
    }

    /// Reads a report. Returns whether more may come.
    fn hear(&mut self, watch: &mut Watch<'_, '_>, end: &mut End) -> Result<bool, SandboxError> {
        let (report, descriptors) = match self.channel.receive::<Report>() {
            Ok(message) => message,
            Err(e) if is_end(&e) => return Ok(false),
            Err(e) => return Err(StepError::refused("hear of the sandbox", &e.to_string()).into()),
        };
        match report {
            Report::Unshared => return Err(StepError::refused("map the ids", "they are mapped").into()),
            Report::Started(pid) => {
                // Enter has not waited for it yet, so the number is still its.
                let pid = Pid::from_raw(pid).ok_or_else(|| StepError::refused("watch init", "it has no id"))?;
                self.init = pidfd_open(pid, PidfdFlags::empty()).ok();
            }
            Report::Terminal => {
                let terminal = descriptors.into_iter().next();
                let terminal = terminal.ok_or_else(|| StepError::refused("connect the terminal", "none came"))?;
                watch.streams.connect(terminal).doing("connect the terminal")?;
                self.channel.send(&Connected, &[]).doing("connect the terminal")?;
            }
            Report::Running => {
                watch.hands.start(descriptors.into_iter().next());
                watch.keeper.start(Instant::now());
            }
            Report::Watched(watched) => end.watched = watched,
            Report::Exited(status) => end.status = Some(status),
            Report::Lost(how) => end.lost = Some(how),
            // Killed on our word: what enter or init then say of it is of no use.
            Report::Failed(_) if end.stopped.is_some() => {}
            Report::Failed(failure) => return Err(failure.into()),
        }
        Ok(true)
    }

    fn wait(&self, watch: &Watch<'_, '_>, open: bool) -> Result<Ready, SandboxError> {
        let interests: Vec<_> = watch.streams.interests().collect();
        let disk = watch.disk.interest().filter(|_| open);
        let channel = open.then(|| (self.channel.as_fd(), PollFlags::POLLIN));
        let all: Vec<Option<(BorrowedFd<'_>, PollFlags)>> =
            interests.into_iter().chain([channel, disk.map(|fd| (fd, PollFlags::POLLIN))]).collect();
        let mut polled: Vec<_> = all.iter().flatten().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
        let sleep = watch.watchdog.sleep(Instant::now(), TICK);
        let sleep = PollTimeout::try_from(sleep).unwrap_or(PollTimeout::ZERO);
        match poll(&mut polled, sleep) {
            Err(nix::errno::Errno::EINTR) => 0,
            count => count.doing("wait for the sandbox")?,
        };
        let mut answers = polled.iter().map(|fd| fd.any().unwrap_or(true));
        let mut streams: Vec<_> = all.iter().map(|i| i.is_some() && answers.next().unwrap_or(false)).collect();
        let disk = streams.pop().unwrap_or(false);
        let channel = streams.pop().unwrap_or(false);
        Ok(Ready { streams, channel, disk })
    }

    /// Kills everything: with init, the kernel kills its whole process namespace, and enter ends when that is done.
    fn kill(&mut self) {
        let killed = self.init.as_ref().is_some_and(|init| pidfd_send_signal(init, Signal::KILL).is_ok());
        if !killed {
            // Not started yet, or already gone. Init dies with enter.
            self.enter.kill();
        }
    }
}

impl Sandbox {
    /// Ends it, and returns the processor time that all its processes have used.
    pub(super) fn end(mut self) -> Duration {
        self.kill();
        self.finish();
        self.enter.used
    }

    /// Kills what is left and waits until it is gone.
    fn finish(&mut self) {
        if !self.enter.has_ended() && self.init.is_none() {
            self.kill();
        }
        if let Some(folder) = self.discarded.take() {
            // All that could write there has ended. What cannot be removed from here is the caller's.
            let _ = fs::remove_dir_all(&folder);
        }
        // It ends when init has, and init when its whole process namespace has.
        self.enter.wait();
        // Unless it was killed by somebody else.
        if let Some(init) = self.init.take() {
            let _ = pidfd_send_signal(&init, Signal::KILL);
            let mut gone = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
            while poll(&mut gone, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        self.finish();
    }
}

/// Returns whether the other end has gone: a process that was killed resets the connection if it had not read all.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Setup(message) => Self::Setup(message),
            Failure::Refused(message) => Self::Refused(message),
            Failure::Command { message, missing } => Self::Command { message, missing },
        }
    }
}

#[derive(Debug)]
struct Ready {
    streams: Vec<bool>,
    channel: bool,
    disk: bool,
}
