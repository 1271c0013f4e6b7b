//! What `doctor` tries, each by itself, of the system calls that sandboxes make: the same code, so that a trial that
//! works says that the sandbox's call works. All of it acts on the calling process alone, which is started for it.

use std::io;
use std::os::fd::AsFd;

use crate::sandbox::{seccomp, sys};

/// Closes inherited descriptors (close_range(2)). Only for the first statement of a process: it owns no others yet.
pub fn close_range() -> io::Result<()> {
    sys::close_inherited()
}

/// Joins a new session keyring (keyctl(2)); a kernel without keys has none to protect.
pub fn session_keyring() -> io::Result<()> {
    sys::new_session_keyring()
}

/// Returns the version of Landlock's interface (landlock(7)).
pub fn landlock() -> io::Result<i64> {
    sys::landlock_version()
}

/// Sets attributes (`MOUNT_ATTR_…`) of a mount that is attached nowhere (mount_setattr(2)).
pub fn mount_attributes(tree: impl AsFd, set: u64) -> io::Result<()> {
    sys::set_mount_attributes(tree, set, true)
}

/// Shows a mount's files with the owners that a user namespace gives them (mount_setattr(2)).
pub fn map_mount_ids(tree: impl AsFd, namespace: impl AsFd) -> io::Result<()> {
    sys::map_mount_ids(tree, namespace)
}

/// Switches the loopback interface of the present network namespace on (netdevice(7)).
pub fn loopback() -> io::Result<()> {
    sys::loopback_up()
}

/// Installs a seccomp filter of classic BPF: code, jumps where true and where false, operand (seccomp(2)).
pub fn filter(program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    seccomp::install(program)
}
