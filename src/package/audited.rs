//! Hands programs and libraries to the audit ([`crate::isa`]) while something else reads a package's files.

use std::io::{self, Read};

use crate::isa::{self, Audit};

use super::archive::ArchiveError;
use super::header::{Header, Kind};

/// How much of a file tells whether it is a program, in bytes.
const BEGINNING: usize = 8;

/// Reads a file by `read`, and has the audit look at it.
pub(super) fn audited(
    audit: &mut Audit<'_>,
    entry: &Header,
    data: &mut dyn Read,
    read: &mut dyn FnMut(&mut dyn Read) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    // A hard link is a file that was looked at.
    if entry.kind != Kind::File {
        return read(data);
    }
    let mut keeping = Keeping { inner: data, kept: Vec::new(), keeps: true };
    read(&mut keeping)?;
    let kept = keeping.kept;
    if !Audit::concerns(&kept) {
        return Ok(());
    }
    let path = String::from_utf8_lossy(entry.name.strip_prefix(b"image").unwrap_or(&entry.name)).into_owned();
    if kept.len() as u64 == entry.size {
        audit.file(&path, &kept);
    } else {
        audit.too_long(&path);
    }
    Ok(())
}

/// Keeps what is read of a file, where it begins like a program and is not too long.
struct Keeping<'a> {
    inner: &'a mut dyn Read,
    kept: Vec<u8>,
    keeps: bool,
}

impl Read for Keeping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if self.keeps {
            self.kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
            let is_long = self.kept.len() >= BEGINNING;
            self.keeps = !is_long || (Audit::concerns(&self.kept) && self.kept.len() as u64 <= isa::LONGEST);
            if !self.keeps {
                self.kept.truncate(BEGINNING);
            }
        }
        Ok(read)
    }
}
