//! The copy of a tree that a build uses: written once, named by the digest of what was written.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::TreeError;
use super::walk::{Entry, Kind};
use crate::digest::Digest;
use crate::fs::{self, PathError};

/// What a revision is a digest of begins with this; another rule for it needs another word.
const HEADER: &str = "bindery tree 1\n";

/// The time of files that ebuilds may copy into packages: 2020-01-01, in the past for everyone.
const CONSTANT_TIME: u64 = 1_577_836_800;
/// Times that follow from content begin at 2000-01-01 and span 2^29 seconds, about 17 years.
const FIRST_TIME: u64 = 946_684_800;
const TIMES: u32 = 1 << 29;

/// Copies the entries from `from` into the empty folder `to` and returns the revision: the SHA-256 of one line for each
/// file and link, sorted by path: `file`, `exec` or `link`, the SHA-256 of the content or target, and the path. Folders
/// do not count: version control does not know empty ones.
pub(super) fn copy(from: &Path, to: &Path, entries: &[Entry]) -> Result<Digest, TreeError> {
    let mut revision = Sha256::new();
    revision.update(HEADER);
    for entry in entries {
        let (source, target) = (from.join(&entry.path), to.join(&entry.path));
        let (word, digest) = match &entry.kind {
            Kind::Folder => {
                fs::create_dir(&target, 0o755)?;
                continue;
            }
            Kind::File { executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                let digest = copy_file(&source, &target, mode)?;
                fs::set_mtime(&target, time(&entry.path, &digest))?;
                (if *executable { "exec" } else { "file" }, digest)
            }
            Kind::Link { target: to } => {
                fs::symlink(to, &target)?;
                ("link", Sha256::digest(to.as_os_str().as_encoded_bytes()).into())
            }
        };
        revision.update(format!("{word} {} {}\n", Digest::from(digest).hex(), entry.path));
    }
    Ok(Digest::from(<[u8; 32]>::from(revision.finalize())))
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<[u8; 32], PathError> {
    let mut source = fs::open(from)?;
    let mut target = fs::create_new(to, mode)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = source.read(&mut buffer).map_err(PathError::on("read", from))?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
        target.write_all(&buffer[..n]).map_err(PathError::on("write", to))?;
    }
    fs::set_mode(to, mode)?;
    Ok(digest.finalize().into())
}

/// Returns a file's time in the snapshot. Portage trusts its metadata cache by the times of ebuilds and eclasses, so a
/// file's time follows from its content: no two contents share one, whatever cache is kept, and every copy of a tree has
/// the same times. Below `CAT/PN/files/` all times are equal, because builds compare those with each other.
fn time(path: &str, digest: &[u8; 32]) -> SystemTime {
    let seconds = if path.split('/').nth(2) == Some("files") {
        CONSTANT_TIME
    } else {
        let number = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
        FIRST_TIME + u64::from(number % TIMES)
    };
    UNIX_EPOCH + Duration::from_secs(seconds)
}
