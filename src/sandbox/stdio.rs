//! The payload's standard streams: to a callback, through pipes to our own, or through a terminal.
//!
//! Nothing is ever read before there is room for it, so a payload that floods waits, and memory stays as it is. Nothing of
//! ours waits for a payload either, whatever it does to its ends.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;
use rustix::fs::{Mode, OFlags, fchmod, fcntl_setfl, fstat};

use crate::sandbox::terminal::{Terminal, in_foreground, never_stop_for_input, to_write};

/// How much is moved at once: what a pipe that polls as writable is sure to take (PIPE_BUF, pipe(7)).
const CHUNK: usize = 4096;
/// How much is read at once for a callback.
const CAPTURED_CHUNK: usize = 65536;

/// Which of its streams a payload wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Where the payload's standard streams go.
pub enum Stdio<'a> {
    /// What it prints goes to the function, as it comes; its standard input is empty.
    Capture(&'a mut dyn FnMut(Stream, &[u8])),
    /// All three are relayed to our own through pipes.
    Relay,
    /// It gets a terminal of its own, which is relayed to ours.
    Terminal,
}

impl fmt::Debug for Stdio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capture(_) => "Capture",
            Self::Relay => "Relay",
            Self::Terminal => "Terminal",
        })
    }
}

/// The supervisor's side of the streams.
#[derive(Debug)]
pub(super) struct Streams<'a> {
    stdio: Stdio<'a>,
    pumps: Vec<Pump>,
    terminal: Option<Terminal>,
}

/// Moves bytes from one place to another; neither is read nor written before it is ready.
#[derive(Debug)]
struct Pump {
    from: Option<OwnedFd>,
    to: To,
    buffer: Vec<u8>,
    /// Whether these bytes are the payload's.
    output: bool,
    /// Whether they come from our terminal, which is not read from the background.
    typed: bool,
    /// Whether our end of it has gone.
    left: bool,
}

#[derive(Debug)]
enum To {
    Function(Stream),
    Descriptor(Option<OwnedFd>),
}

impl<'a> Streams<'a> {
    /// Opens the streams; the payload's ends are for the process that starts it, none where it gets a terminal.
    pub(super) fn open(stdio: Stdio<'a>) -> io::Result<(Self, Vec<OwnedFd>)> {
        if matches!(stdio, Stdio::Terminal) {
            return Ok((Self { stdio, pumps: Vec::new(), terminal: None }, Vec::new()));
        }
        let (out, their_out) = pipe(Theirs::Writes)?;
        // Who has both in one file, as with `2>&1`, gets them in the order they were written in.
        let one = matches!(stdio, Stdio::Relay) && same_file(io::stdout(), io::stderr());
        let (err, their_err) = if one { (None, their_out.try_clone()?) } else { both(pipe(Theirs::Writes)?) };
        let mut pumps = Vec::new();
        let their_in = if matches!(stdio, Stdio::Relay) {
            let (input, their_in) = pipe(Theirs::Reads)?;
            if io::stdin().is_terminal() {
                never_stop_for_input();
            }
            pumps.push(Pump::of_input(input)?);
            pumps.push(Pump::new(out, To::Descriptor(Some(to_write(io::stdout())?)), true));
            if let Some(err) = err {
                pumps.push(Pump::new(err, To::Descriptor(Some(to_write(io::stderr())?)), true));
            }
            their_in
        } else {
            pumps.push(Pump::new(out, To::Function(Stream::Out), true));
            pumps.extend(err.map(|err| Pump::new(err, To::Function(Stream::Err), true)));
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?
        };
        Ok((Self { stdio, pumps, terminal: None }, vec![their_in, their_out, their_err]))
    }

    /// Connects the payload's terminal, once it exists, to ours.
    pub(super) fn connect(&mut self, terminal: OwnedFd) -> io::Result<()> {
        fcntl_setfl(&terminal, OFlags::RDWR | OFlags::NONBLOCK)?;
        let both = (terminal.try_clone()?, terminal.try_clone()?);
        never_stop_for_input();
        self.pumps.push(Pump::of_input(both.0)?);
        self.pumps.push(Pump::new(both.1, To::Descriptor(Some(to_write(io::stdout())?)), true));
        self.terminal = Some(Terminal::new(terminal)?);
        Ok(())
    }

    /// Returns what to wait for, one for each pump.
    pub(super) fn interests(&self) -> impl Iterator<Item = Option<(BorrowedFd<'_>, PollFlags)>> {
        self.pumps.iter().map(Pump::interest)
    }

    /// Moves what can be moved; `ready` says so for each of [`Self::interests`]. Returns whether the payload was heard.
    pub(super) fn pump(&mut self, ready: &[bool]) -> bool {
        let mut heard = false;
        for (pump, _) in self.pumps.iter_mut().zip(ready).filter(|(_, ready)| **ready) {
            heard |= pump.step(&mut self.stdio);
        }
        if let Some(terminal) = &mut self.terminal {
            if self.pumps.iter().any(|pump| pump.left) {
                // Ours was hung up: the same happens to the payload's.
                self.pumps.clear();
                self.terminal = None;
            } else {
                terminal.follow();
            }
        }
        heard
    }

    /// Notes that all the payload's processes have ended.
    pub(super) fn end(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.end();
        }
    }

    /// Returns whether all the payload printed has been passed on.
    pub(super) fn drained(&self) -> bool {
        !self.pumps.iter().any(|pump| pump.output && pump.interest().is_some())
    }
}

impl Pump {
    fn new(from: OwnedFd, to: To, output: bool) -> Self {
        Self { from: Some(from), to, buffer: Vec::new(), output, typed: false, left: false }
    }

    /// Moves our standard input.
    fn of_input(to: OwnedFd) -> io::Result<Self> {
        let from = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { typed: io::stdin().is_terminal(), ..Self::new(from, To::Descriptor(Some(to)), false) })
    }

    fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (&self.from, &self.to) {
            (_, To::Descriptor(Some(to))) if !self.buffer.is_empty() => Some((to.as_fd(), PollFlags::POLLOUT)),
            (_, To::Descriptor(None)) => None,
            _ if self.typed && !in_foreground() => None,
            (from, _) => from.as_ref().map(|from| (from.as_fd(), PollFlags::POLLIN)),
        }
    }

    fn step(&mut self, stdio: &mut Stdio<'_>) -> bool {
        if self.buffer.is_empty() { self.read(stdio) } else { self.write() }
    }

    fn read(&mut self, stdio: &mut Stdio<'_>) -> bool {
        let Some(from) = &self.from else { return false };
        let mut chunk = [0; CAPTURED_CHUNK];
        let room = if matches!(self.to, To::Function(_)) { CAPTURED_CHUNK } else { CHUNK };
        match rustix::io::read(from, &mut chunk[..room]) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => false,
            // Put into the background since it was asked.
            Err(rustix::io::Errno::IO) if self.typed && !in_foreground() => false,
            // A terminal whose other side is gone says EIO.
            Ok(0) | Err(_) => {
                self.close(!self.output);
                false
            }
            Ok(length) => {
                let bytes = chunk.get(..length).unwrap_or_default();
                match (&self.to, stdio) {
                    (To::Function(stream), Stdio::Capture(function)) => function(*stream, bytes),
                    _ => self.buffer.extend_from_slice(bytes),
                }
                self.output
            }
        }
    }

    fn write(&mut self) -> bool {
        let To::Descriptor(Some(to)) = &self.to else { return false };
        match rustix::io::write(to, &self.buffer) {
            Ok(written) => {
                self.buffer.drain(..written.min(self.buffer.len()));
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // Whoever read it has gone: so shall the writer's pipe.
            Err(_) => self.close(self.output),
        }
        false
    }

    fn close(&mut self, left: bool) {
        self.from = None;
        self.to = To::Descriptor(None);
        self.buffer.clear();
        self.left = left;
    }
}

/// What the payload does with its end of a pipe.
#[derive(Debug, Clone, Copy)]
enum Theirs {
    Reads,
    Writes,
}

/// Makes a pipe; returns our end, which never makes us wait, and the payload's. That may open its end anew, as programs do
/// that write to `/dev/stderr`, though in its user namespace the pipe is nobody's; but not the other one, to take from us
/// what we have seen to be there.
fn pipe(theirs: Theirs) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    let (ours, its, flags, mode) = match theirs {
        Theirs::Reads => (writer, reader, OFlags::WRONLY, Mode::from_raw_mode(0o604)),
        Theirs::Writes => (reader, writer, OFlags::RDONLY, Mode::from_raw_mode(0o602)),
    };
    fchmod(&its, mode)?;
    fcntl_setfl(&ours, flags | OFlags::NONBLOCK)?;
    Ok((ours, its))
}

fn both((ours, theirs): (OwnedFd, OwnedFd)) -> (Option<OwnedFd>, OwnedFd) {
    (Some(ours), theirs)
}

/// Returns whether two descriptors are of the same file.
fn same_file(one: impl AsFd, other: impl AsFd) -> bool {
    let (Ok(one), Ok(other)) = (fstat(one), fstat(other)) else { return false };
    (one.st_dev, one.st_ino, one.st_rdev) == (other.st_dev, other.st_ino, other.st_rdev)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_pump_waits_for_its_reader_and_closes_behind_itself() {
        let (from, mut writer) = io::pipe().unwrap();
        let (mut reader, to) = io::pipe().unwrap();
        let mut pump = Pump::new(from.into(), To::Descriptor(Some(to.into())), true);
        writer.write_all(&[7; 5000]).unwrap();
        drop(writer);
        let mut steps = 0;
        while let Some((_, flags)) = pump.interest() {
            assert_eq!(flags == PollFlags::POLLIN, pump.buffer.is_empty());
            assert!(pump.buffer.len() <= CHUNK);
            pump.step(&mut Stdio::Relay);
            steps += 1;
        }
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!((all.len(), steps), (5000, 5));
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_writer() {
        let (from, mut writer) = io::pipe().unwrap();
        let (reader, to) = io::pipe().unwrap();
        drop(reader);
        let mut pump = Pump::new(from.into(), To::Descriptor(Some(to.into())), true);
        writer.write_all(b"x").unwrap();
        pump.step(&mut Stdio::Relay);
        pump.step(&mut Stdio::Relay);
        assert!(pump.interest().is_none());
        assert_eq!(writer.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
