//! Our own terminal while a command runs: raw where the command has one of its own, and read only from the foreground.
//!
//! A job in the background must neither change a terminal nor read from it: the kernel would stop it (SIGTTOU, SIGTTIN of
//! termios(3)). So bindery asks first, ten times a second, and does either once it is in the foreground.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal, raise};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize};

/// What our terminal was like, as long as it is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The command's terminal, connected to ours.
#[derive(Debug)]
pub(super) struct Terminal {
    payloads: OwnedFd,
    /// The command's side, open as long as it runs: without it, a command that closes its streams for a while would
    /// seem to be gone.
    peer: Option<OwnedFd>,
    size: Option<Winsize>,
}

impl Terminal {
    pub(super) fn new(payloads: OwnedFd) -> io::Result<Self> {
        let peer = ioctl_tiocgptpeer(&payloads, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok();
        let mut terminal = Self { payloads, peer, size: None };
        terminal.follow();
        Ok(terminal)
    }

    /// Makes ours raw once we may, and gives the command's its size.
    pub(super) fn follow(&mut self) {
        if in_foreground() {
            make_raw();
        }
        let Ok(now) = tcgetwinsize(io::stdin()) else { return };
        let same = self.size.is_some_and(|s| (s.ws_row, s.ws_col) == (now.ws_row, now.ws_col));
        if !same && tcsetwinsize(&self.payloads, now).is_ok() {
            self.size = Some(now);
        }
    }

    /// Lets the command's terminal end: nobody is left to use it.
    pub(super) fn end(&mut self) {
        self.peer = None;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore_terminal();
    }
}

fn make_raw() {
    let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    if before.is_some() || !io::stdin().is_terminal() {
        return;
    }
    let Ok(now) = tcgetattr(io::stdin()) else { return };
    let mut raw = now.clone();
    raw.make_raw();
    if tcsetattr(io::stdin(), OptionalActions::Now, &raw).is_ok() {
        *before = Some(now);
    }
}

/// Makes our terminal what it was before a command got one of its own. For whoever ends the process on the spot; at the
/// end of a command it is done anyway.
pub fn restore_terminal() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // What was typed and not read is thrown away: what a command prints can have the terminal answer something that
        // the next program would take for typed. There is nothing else to try where it fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

/// Returns whether we may use our terminal. One that is not our session's has no foreground, and is anyone's.
pub(super) fn in_foreground() -> bool {
    tcgetpgrp(io::stdin()).map_or(true, |group| group == rustix::process::getpgrp())
}

/// Stops this process as Ctrl-Z does, and returns once it is continued; at once where nobody would continue it (an
/// orphaned process group, setpgid(2)).
pub fn stop_here() {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    if stop.thread_unblock().is_ok() {
        let _ = raise(Signal::SIGTSTP);
        let _ = stop.thread_block();
    }
}

/// Has reading from the background fail instead of stop us.
pub(super) fn never_stop_for_input() {
    let mut input = SigSet::empty();
    input.add(Signal::SIGTTIN);
    // If it cannot be, we are stopped until somebody continues us.
    let _ = input.thread_block();
}

/// Returns a descriptor to write to one of our streams with. A terminal is opened anew: whoever does not read it, or has
/// stopped it with Ctrl-S, shall not make us wait, and the flag for that belongs to everyone who has the same descriptor.
pub(super) fn to_write(stream: impl AsFd) -> io::Result<OwnedFd> {
    let stream = stream.as_fd();
    if stream.is_terminal() {
        let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(own) = rustix::fs::open(path, flags, Mode::empty()) {
            return Ok(own);
        }
    }
    // Another user's, or another container's.
    stream.try_clone_to_owned()
}
