//! The smallest programs, for probes that must execute a file of their own: a header and a few instructions.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::probe::{ask, at, child};
use nix::libc;

/// Ends with 7 when its effective user is 0, else with 8.
pub(crate) const AM_I_ROOT: &[u8] = &[
    0xb8, 107, 0, 0, 0, 0x0f, 0x05, // geteuid
    0x31, 0xff, 0x85, 0xc0, 0x40, 0x0f, 0x95, 0xc7, // edi = (eax != 0)
    0x83, 0xc7, 7, // edi += 7
    0xb8, 60, 0, 0, 0, 0x0f, 0x05, // exit(edi)
];
/// Ends with 7 when it may use chroot(2), else with 8.
pub(crate) const MAY_I_CHROOT: &[u8] = &[
    0x6a, 0x2f, 0x54, 0x5f, // push '/'; rdi = rsp
    0xb8, 161, 0, 0, 0, 0x0f, 0x05, // chroot
    0x31, 0xff, 0x85, 0xc0, 0x40, 0x0f, 0x95, 0xc7, 0x83, 0xc7, 7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05,
];
/// Ends with 42, through i386's entry point.
pub(crate) const I386: &[u8] = &[0xbb, 42, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xcd, 0x80];

/// Returns an executable of x86-64.
pub(crate) fn elf64(code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    let base = 0x40_0000_u64;
    let size = 0x78 + code.len() as u64;
    for word in [base + 0x78, 0x40, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 0x40, 0, 0x38, 0, 1, 0, 0x40, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, base, base, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// Returns an executable of i386.
pub(crate) fn elf32(code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    let base = 0x0804_8000_u32;
    let size = 0x54 + u32::try_from(code.len()).unwrap();
    for word in [base + 0x54, 0x34, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0x34, 0, 0x20, 0, 1, 0, 0x28, 0, 0, 0, 0, 0]);
    for word in [1, 0, base, base, size, size, 5, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// Puts a program somewhere.
pub(crate) fn install(path: &str, program: &[u8], mode: u32) -> Result<(), String> {
    let path = Path::new(path);
    bindery::fs::write(path, program).map_err(|e| format!("cannot write a program: {e}"))?;
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(|e| format!("cannot set the mode: {e}"))
}

/// Executes a program, as another user unless 0, and returns how it ended; 99 where it could not be.
pub(crate) fn execute(path: &str, uid: u64) -> i32 {
    let path = CString::new(path).unwrap();
    child(|| {
        if uid != 0 && ask(libc::SYS_setresuid, [uid, uid, uid, 0, 0]).is_err() {
            return 98;
        }
        let arguments = [at(path.to_bytes_with_nul()), 0];
        let none = [0_u64];
        let _ = ask(libc::SYS_execve, [at(path.to_bytes_with_nul()), at(&arguments), at(&none), 0, 0]);
        99
    })
}
