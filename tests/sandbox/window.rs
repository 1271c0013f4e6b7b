//! A terminal for tests, with what is typed and seen on it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// Far longer than anything here takes, also where the clock of a busy virtual machine runs several times too fast: only a
/// test that fails waits for so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// A terminal, and what is seen on it.
pub(crate) struct Window {
    pub(crate) user: File,
    /// Kept open, so that the terminal is there before and after whoever uses it.
    other: OwnedFd,
    pub(crate) seen: String,
    before: Termios,
}

impl Window {
    pub(crate) fn open() -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&user).unwrap();
        let window = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&user, window).unwrap();
        let other = Self::side(&user);
        let before = tcgetattr(&other).unwrap();
        Self { user: user.into(), other, seen: String::new(), before }
    }

    fn side(user: impl std::os::fd::AsFd) -> OwnedFd {
        ioctl_tiocgptpeer(user.as_fd(), OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap()
    }

    pub(crate) fn stream(&self) -> Stdio {
        Self::side(&self.user).into()
    }

    /// Starts a command as the leader of a session whose terminal this is.
    pub(crate) fn start(&self, words: &[String], edit: impl FnOnce(&mut Command)) -> Child {
        let mut command = bindery::process::command("setsid");
        command.args(["--ctty", "--"]).args(words);
        command.stdin(self.stream()).stdout(self.stream()).stderr(self.stream());
        edit(&mut command);
        command.spawn().unwrap()
    }

    pub(crate) fn type_in(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    /// Takes what is to be seen, a tenth of a second at most.
    fn look(&mut self) {
        let mut ready = [PollFd::new(self.user.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, 100_u8).unwrap() > 0 {
            let mut bytes = [0; 4096];
            let length = self.user.read(&mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }

    /// Waits until a text is seen.
    pub(crate) fn until(&mut self, text: &str) {
        let started = Instant::now();
        while !self.seen.contains(text) {
            assert!(started.elapsed() < PATIENCE, "no {text:?} in {:?}", self.seen);
            self.look();
        }
    }

    /// Waits for the end of whoever uses it.
    pub(crate) fn end(&mut self, child: &mut Child) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if started.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("it does not end; seen: {:?}", self.seen);
            }
            self.look();
        }
    }

    /// Fails unless the terminal is as it was.
    pub(crate) fn is_as_before(&self) {
        let now = tcgetattr(&self.other).unwrap();
        let modes = |t: &Termios| (t.input_modes, t.output_modes, t.control_modes, t.local_modes);
        assert_eq!(modes(&now), modes(&self.before), "{:?}", self.seen);
    }

    pub(crate) fn is_raw(&self) -> bool {
        tcgetattr(&self.other).unwrap().local_modes != self.before.local_modes
    }
}
