//! What is typed at bindery's terminal and meant for a command that has no terminal of its own: Ctrl-C and Ctrl-Z.
//!
//! The kernel sends their signals to bindery's process group, which nothing of the sandbox is in. Whoever catches them sets
//! a flag; the supervisor looks at it ten times a second and sends the signal to the command's process group. Init tells
//! it, by descriptor, which process that is; one that the command has started in a group of its own is not reached, as
//! in a shell.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal};

use crate::fs;
use crate::sandbox::terminal::{in_foreground, restore_terminal, stop_here};

/// Signals that are to be passed on.
#[derive(Debug, Default)]
pub struct Keys {
    listens: AtomicBool,
    interrupt: AtomicBool,
    suspend: AtomicBool,
}

impl Keys {
    /// Asks for the command to be interrupted (SIGINT). Returns whether there is one.
    pub fn interrupt(&self) -> bool {
        self.ask(&self.interrupt)
    }

    /// Asks for the command, and bindery, to be stopped until bindery is continued. Returns whether there is one.
    pub fn suspend(&self) -> bool {
        self.ask(&self.suspend)
    }

    fn ask(&self, what: &AtomicBool) -> bool {
        let listens = self.listens.load(Ordering::SeqCst);
        what.store(listens, Ordering::SeqCst);
        listens
    }
}

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Hands<'a> {
    keys: Option<&'a Keys>,
    command: Option<OwnedFd>,
}

impl<'a> Hands<'a> {
    pub(super) fn new(keys: Option<&'a Keys>) -> Self {
        Self { keys, command: None }
    }

    /// Notes that the command runs, and which process it is.
    pub(super) fn start(&mut self, command: Option<OwnedFd>) {
        self.command = command;
        if let (Some(keys), Some(_)) = (self.keys, &self.command) {
            keys.listens.store(true, Ordering::SeqCst);
        }
    }

    /// Passes on what was asked for; returns for how long everything was stopped.
    pub(super) fn look(&self) -> Duration {
        let Some(keys) = self.keys else { return Duration::ZERO };
        if keys.interrupt.swap(false, Ordering::SeqCst) {
            self.send(Signal::INT);
        }
        if !keys.suspend.swap(false, Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let since = Instant::now();
        // SIGTSTP would do nothing: nobody in the command's session could continue it, so the kernel stops nobody.
        self.send(Signal::STOP);
        if in_foreground() {
            restore_terminal();
        }
        stop_here();
        self.send(Signal::CONT);
        since.elapsed()
    }

    fn send(&self, signal: Signal) {
        let Some(command) = &self.command else { return };
        // It leads a session, and so a group, which is its own as long as it lives. Linux 6.9 would take the descriptor.
        let sent = number(command).is_some_and(|pid| kill_process_group(pid, signal).is_ok());
        if !sent {
            // It may have ended.
            let _ = pidfd_send_signal(command, signal);
        }
    }
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        if let Some(keys) = self.keys {
            keys.listens.store(false, Ordering::SeqCst);
        }
    }
}

/// Returns the process id here of a descriptor's process (`Pid:` of pidfd_open(2)); none once that has been waited for.
fn number(process: &OwnedFd) -> Option<Pid> {
    let info = format!("/proc/self/fdinfo/{}", process.as_fd().as_raw_fd());
    let info = fs::read_to_string(Path::new(&info)).ok()?;
    Pid::from_raw(info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::*;

    #[test]
    fn nobody_is_interrupted_before_there_is_a_command_or_after_it() {
        let keys = Keys::default();
        assert!(!keys.interrupt() && !keys.suspend());
        let mut hands = Hands::new(Some(&keys));
        hands.start(None);
        assert!(!keys.interrupt());
        hands.start(Some(pidfd_open(getpid(), PidfdFlags::empty()).unwrap()));
        assert!(keys.interrupt() && keys.interrupt.load(Ordering::SeqCst));
        drop(hands);
        assert!(!keys.interrupt() && !keys.interrupt.load(Ordering::SeqCst));
    }

    #[test]
    fn a_descriptor_tells_its_process() {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        assert_eq!(number(&own), Some(getpid()));
    }
}
