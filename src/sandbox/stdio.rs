//! The payload's standard streams: to a callback, through pipes to our own, or through a terminal.
//!
//! Nothing is ever read before there is room for it, so a payload that floods waits, and memory stays as it is.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

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
        let (out, their_out) = io::pipe()?;
        let (err, their_err) = io::pipe()?;
        let mut pumps = Vec::new();
        let their_in = if matches!(stdio, Stdio::Relay) {
            let (their_in, input) = io::pipe()?;
            pumps.push(Pump::new(own(io::stdin())?, To::Descriptor(Some(input.into())), false));
            pumps.push(Pump::new(out.into(), To::Descriptor(Some(own(io::stdout())?)), true));
            pumps.push(Pump::new(err.into(), To::Descriptor(Some(own(io::stderr())?)), true));
            their_in.into()
        } else {
            pumps.push(Pump::new(out.into(), To::Function(Stream::Out), true));
            pumps.push(Pump::new(err.into(), To::Function(Stream::Err), true));
            rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, 0.into())?
        };
        Ok((Self { stdio, pumps, terminal: None }, vec![their_in, their_out.into(), their_err.into()]))
    }

    /// Connects the payload's terminal, once it exists, to ours.
    pub(super) fn connect(&mut self, terminal: OwnedFd) -> io::Result<()> {
        let both = (terminal.try_clone()?, terminal.try_clone()?);
        self.pumps.push(Pump::new(own(io::stdin())?, To::Descriptor(Some(both.0)), false));
        self.pumps.push(Pump::new(both.1, To::Descriptor(Some(own(io::stdout())?)), true));
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
            terminal.follow_size();
        }
        heard
    }

    /// Returns whether all the payload printed has been passed on.
    pub(super) fn drained(&self) -> bool {
        !self.pumps.iter().any(|pump| pump.output && pump.interest().is_some())
    }
}

impl Pump {
    fn new(from: OwnedFd, to: To, output: bool) -> Self {
        Self { from: Some(from), to, buffer: Vec::new(), output }
    }

    fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (&self.from, &self.to) {
            (_, To::Descriptor(Some(to))) if !self.buffer.is_empty() => Some((to.as_fd(), PollFlags::POLLOUT)),
            (_, To::Descriptor(None)) => None,
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
            // A terminal whose other side is gone says EIO.
            Ok(0) | Err(_) => {
                self.from = None;
                self.to = To::Descriptor(None);
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
            Err(_) => {
                self.from = None;
                self.to = To::Descriptor(None);
                self.buffer.clear();
            }
        }
        false
    }
}

/// Our terminal, raw while the payload's is connected to it, as it was afterwards.
#[derive(Debug)]
struct Terminal {
    payloads: OwnedFd,
    before: Option<Termios>,
    size: Option<Winsize>,
}

impl Terminal {
    fn new(payloads: OwnedFd) -> io::Result<Self> {
        let mut terminal = Self { payloads, before: None, size: None };
        if io::stdin().is_terminal() {
            let before = tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
            terminal.before = Some(before);
        }
        terminal.follow_size();
        Ok(terminal)
    }

    fn follow_size(&mut self) {
        let Ok(now) = tcgetwinsize(io::stdin()) else { return };
        let same = self.size.is_some_and(|s| (s.ws_row, s.ws_col) == (now.ws_row, now.ws_col));
        if !same && tcsetwinsize(&self.payloads, now).is_ok() {
            self.size = Some(now);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // There is nothing else to try.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

fn own(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
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
