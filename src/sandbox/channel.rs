//! What the processes of one sandbox say to each other: JSON with descriptors, over Unix sockets.
//!
//! Each hidden entry point finds its parent's end as standard input. A message is its length (4 bytes, native order),
//! to which descriptors are attached (unix(7), SCM_RIGHTS), and that many bytes of JSON.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sandbox::sys;

/// How many descriptors a message takes (SCM_MAX_FD of the kernel).
pub(super) const MAX_DESCRIPTORS: usize = 253;
/// No message of ours is longer; argument and environment of a command have at most a few MiB.
const MAX_LENGTH: usize = 64 << 20;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Returns two connected ends, both closed by execve(2).
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        UnixStream::pair().map(|(a, b)| (Self(a), Self(b)))
    }

    /// Takes the end that the parent passed as standard input, which becomes `/dev/null`.
    pub(super) fn from_stdin() -> io::Result<Self> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
        nix::unistd::dup2_stdin(&null)?;
        Ok(Self(socket))
    }

    /// Returns this end as the standard input of a child.
    pub(super) fn into_stdin(self) -> Stdio {
        OwnedFd::from(self.0).into()
    }

    /// Sends a message.
    pub(super) fn send(&mut self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_ne_bytes();
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let slices = [IoSlice::new(&length)];
        // Four bytes into an empty socket are never cut.
        sendmsg::<()>(self.0.as_raw_fd(), &slices, rights, MsgFlags::MSG_NOSIGNAL, None)?;
        self.0.write_all(&text)
    }

    /// Waits until the other end is closed, or says something.
    pub(super) fn wait_for_end(&self) {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        while poll(&mut ready, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
    }

    /// Receives a message; the other end's closing is `UnexpectedEof`.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut length = [0; 4];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; MAX_DESCRIPTORS]);
        let mut descriptors = Vec::new();
        let mut slices = [IoSliceMut::new(&mut length)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                other => break other?,
            }
        };
        let (bytes, truncated) = (got.bytes, got.flags.contains(MsgFlags::MSG_CTRUNC));
        for message in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                descriptors.extend(sys::adopt(raw));
            }
        }
        match bytes {
            4 if !truncated => {}
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let length = usize::try_from(u32::from_ne_bytes(length)).map_err(|_| io::ErrorKind::InvalidData)?;
        if length > MAX_LENGTH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut text = vec![0; length];
        self.0.read_exact(&mut text)?;
        Ok((serde_json::from_slice(&text)?, descriptors))
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0.into()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (mut a, mut b) = Channel::pair().unwrap();
        let (mut reader, mut writer) = io::pipe().unwrap();
        a.send(&"one", &[writer.as_fd(), writer.as_fd()]).unwrap();
        a.send(&vec![2; 1000], &[]).unwrap();
        let (text, descriptors) = b.receive::<String>().unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("one", 2));
        assert_eq!(b.receive::<Vec<u8>>().unwrap().0, vec![2; 1000]);
        writer.write_all(b"x").unwrap();
        drop((writer, descriptors));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "x");
    }

    #[test]
    fn the_end_and_nonsense_are_errors() {
        let (a, mut b) = Channel::pair().unwrap();
        drop(a);
        assert_eq!(b.receive::<String>().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (mut a, mut b) = Channel::pair().unwrap();
        a.0.write_all(&u32::MAX.to_ne_bytes()).unwrap();
        assert_eq!(b.receive::<String>().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
