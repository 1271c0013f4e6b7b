//! The supervisor's child, `__enter`, by descriptor; started in its control group where that can be.
//!
//! Moving a process into a control group makes the kernel wait until every processor has been through its scheduler: 5 to
//! 20 ms, more than all the rest of a sandbox's start. A child that is born in the group (clone3(2), CLONE_INTO_CGROUP)
//! waits for nothing. Where that call is refused (a container's filter, a group that will not have us), the child is
//! started in the usual way, and the caller moves it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::process;
use crate::sandbox::without::Without;
use crate::sandbox::{ENTER, sys};

/// The child, until it has been waited for.
#[derive(Debug)]
pub(super) struct Enter {
    pub(super) pid: Pid,
    /// Whether it was born in the group.
    pub(super) in_group: bool,
    pidfd: OwnedFd,
    waited: bool,
    /// The processor time of it and all below, once it has been waited for.
    pub(super) used: Duration,
}

impl Enter {
    /// Starts it, with its end of the channel as standard input, in a process group of its own.
    pub(super) fn start(channel: OwnedFd, without: &Without, group: Option<&Path>) -> io::Result<Self> {
        let args = without.args();
        if let (Some(group), None) = (group, &args)
            && let Ok(child) = Self::start_in(&channel, group)
        {
            return Ok(child);
        }
        let mut command = without.clear(process::this_program_apart());
        let child = command.arg(ENTER).args(args).stdin(channel).stdout(Stdio::null()).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        // Nobody has waited for it, so the number is its.
        Ok(Self {
            pid,
            in_group: false,
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
            waited: false,
            used: Duration::ZERO,
        })
    }

    fn start_in(channel: &OwnedFd, group: &Path) -> io::Result<Self> {
        let program = CString::new(process::program().as_os_str().as_bytes())?;
        let name = CString::new(ENTER)?;
        let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let group = rustix::fs::open(group, flags, Mode::empty())?;
        let (pid, pidfd) =
            sys::spawn_in_group(&program, &[&program, &name], channel.as_fd(), null.as_fd(), group.as_fd())?;
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, in_group: true, pidfd, waited: false, used: Duration::ZERO })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills it, if it still is.
    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Returns whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.wait_with(libc::WEXITED | libc::WNOHANG);
        self.waited
    }

    /// Waits until it has ended.
    pub(super) fn wait(&mut self) {
        self.wait_with(libc::WEXITED);
    }

    fn wait_with(&mut self, options: libc::c_int) {
        while !self.waited {
            match sys::wait_and_measure(self.pidfd.as_fd(), options) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) => return,
                // Or there is nothing to wait for.
                ended => {
                    self.waited = true;
                    self.used = ended.ok().flatten().unwrap_or_default();
                }
            }
        }
    }
}
