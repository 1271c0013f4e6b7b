//! The file that init and the payload's process are started from: this program, as nobody inside can write to it.
//!
//! Who finds a way to `/proc/1/exe` finds the host's own program, and would be run by the next build (CVE-2019-5736). So
//! it is started from a read-only mount of that one file that is attached nowhere, or, where its path does not lead to it
//! (a newer one was installed meanwhile, or a folder above is barred), from a sealed copy in memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use nix::libc;
use rustix::fs::{AtFlags, CWD, MemfdFlags, SealFlags, fcntl_add_seals, memfd_create, statat};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::sandbox::sys;
use crate::sandbox::without::{Mechanism, Without};
use crate::{fs, process};

/// The program of this process, whatever has become of its path.
const SELF: &str = "/proc/self/exe";

/// This program's file; the command it gives works as long as it is open.
#[derive(Debug)]
pub(super) struct Program(Option<OwnedFd>);

impl Program {
    /// Opens it, in the sandbox's mount namespace and before its root is entered.
    pub(super) fn seal(without: &Without) -> io::Result<Self> {
        if !without.keeps(Mechanism::SealedProgram) {
            return Ok(Self(None));
        }
        mounted().or_else(|_| copied()).map(|fd| Self(Some(fd)))
    }

    /// Returns a command that starts it.
    pub(super) fn command(&self) -> Command {
        match &self.0 {
            // The child closes it by becoming the program.
            Some(fd) => process::command(format!("/proc/self/fd/{}", fd.as_raw_fd())),
            None => process::this_program(),
        }
    }
}

fn mounted() -> io::Result<OwnedFd> {
    // Not the link itself: it leads to a mount of the host's namespace, which this one may not clone.
    let path = fs::read_link(Path::new(SELF)).map_err(|e| e.source)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = open_tree(CWD, &path, flags)?;
    let (found, running) = (statat(&tree, "", AtFlags::EMPTY_PATH)?, statat(CWD, SELF, AtFlags::empty())?);
    if (found.st_dev, found.st_ino) != (running.st_dev, running.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::set_mount_attributes(&tree, attributes, false)?;
    Ok(tree)
}

fn copied() -> io::Result<OwnedFd> {
    let mut copy = File::from(memfd_create("bindery", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    let mut program = fs::open(Path::new(SELF)).map_err(|e| e.source)?;
    io::copy(&mut program, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_whole_program_and_cannot_be_changed() {
        let copy = copied().unwrap();
        let length = fs::metadata(Path::new(SELF)).unwrap().len();
        assert_eq!(statat(&copy, "", AtFlags::EMPTY_PATH).unwrap().st_size.cast_unsigned(), length);
        assert_eq!(rustix::io::write(&copy, b"x").unwrap_err(), rustix::io::Errno::PERM);
    }
}
