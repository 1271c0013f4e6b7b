//! The image member: a tar of what the package installs, below `image/`.
//!
//! Portage writes it by walking the folder with sorted names, so each entry's path is greater than the last one's,
//! compared component by component, and comes after its folder. That order is required, and with it go duplicates and
//! files below symbolic links; memory is needed only for the files that hard links may name.
//!
//! Refused: anything but files, folders, symbolic links and hard links (a client refuses devices and fifos, too), paths
//! outside `image/`, with `.`, `..`, empty or overlong components, not UTF-8 or with control characters (Portage's
//! database is lines of text), hard links to anything but an earlier file, and more than the limits below. Set-user-id
//! and set-group-id files are allowed and reported.
//!
//! Canonical form: owners' names empty (clients then take the ids), no time after the source date, links' modes 0777,
//! ustar if it can hold every entry, else GNU.

use std::collections::HashMap;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::archive::{Archive, ArchiveError};
use super::facts::Privileged;
use super::header::{Format, Header, Kind};
use super::listing::Listing;

/// The most bytes an image may unpack to.
pub const LIMIT: u64 = 1 << 36;
/// The most entries.
const ENTRIES: u64 = 1 << 20;
/// The most bytes all paths and targets together may have: it bounds our memory.
const NAMES: usize = 1 << 28;
/// The longest path, in bytes: what PATH_MAX leaves below a root of a reasonable path.
const PATH: usize = 3072;
/// The longest component: Linux's NAME_MAX.
const COMPONENT: usize = 255;
/// The greatest user and group id: what a root's id range holds.
const ID: u32 = 65_535;

/// What walking an image told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The form that the canonical image is written in.
    pub format: Format,
    /// Length of the canonical tar in bytes.
    pub length: u64,
    /// Number of entries but the image folder itself.
    pub entries: u64,
    /// Bytes of all files, hard links counted once.
    pub size: u64,
    /// Bytes as Portage counts them to choose the outer form: each hard link again.
    pub portage_size: u64,
    /// Files that run with other rights than their caller's.
    pub privileged: Vec<Privileged>,
}

/// What is done with each entry, in canonical form: its data must be read to the end or not at all.
pub type Visit<'a> = &'a mut dyn FnMut(&Header, &mut dyn Read) -> Result<(), ArchiveError>;

/// Reads an image tar to its end, checks it, adds its entries to `listing` and shows each to `visit`. With `canonical`,
/// it must be in canonical form already.
pub fn walk(
    tar: impl Read,
    source_date: u64,
    canonical: bool,
    listing: &mut Listing,
    visit: Visit<'_>,
) -> Result<Summary, ContentsError> {
    let mut archive = Archive::new(tar);
    let mut walk = Walk::default();
    let mut summary =
        Summary { format: Format::Ustar, length: 0, entries: 0, size: 0, portage_size: 0, privileged: Vec::new() };
    while let Some(raw) = archive.next()? {
        let mut entry = canonical_header(raw.clone(), source_date);
        walk.check(&entry)?;
        if canonical && raw != entry {
            return Err(walk.at(Wrong::NotCanonical));
        }
        if !entry.fits_ustar() {
            summary.format = Format::Gnu;
        }
        // Which form it will be is known only at the end; the visitor of a second reading sets it.
        entry.format = raw.format;
        let mut data = Hashing { inner: &mut archive, hasher: Sha256::new() };
        visit(&entry, &mut data)?;
        io::copy(&mut data, &mut io::sink()).map_err(ArchiveError::Io)?;
        listing.entry(&entry, &data.hasher.finalize());
        summary.add(&entry, &walk);
    }
    if walk.names == 0 {
        return Err(ContentsError::Empty);
    }
    if canonical && archive.format() != Some(summary.format) {
        return Err(walk.at(Wrong::NotCanonical));
    }
    summary.entries = walk.entries - 1;
    summary.length = super::archive::padded_length(walk.length(summary.format));
    Ok(summary)
}

/// Returns a header in canonical form.
fn canonical_header(mut header: Header, source_date: u64) -> Header {
    header.owner.clear();
    header.group.clear();
    header.zero_devices = false;
    header.mtime = header.mtime.min(source_date);
    if header.kind == Kind::SymLink {
        header.mode = 0o777;
    }
    header
}

/// What must be remembered from entry to entry.
#[derive(Default)]
struct Walk {
    entries: u64,
    /// Bytes of names so far; 0 before the first entry.
    names: usize,
    /// The last path, without a closing `/`.
    last: Vec<u8>,
    /// The folders above the last entry, itself included where it is one; without a closing `/`.
    folders: Vec<Vec<u8>>,
    /// What hard links may name, with what must be the same of a link to it.
    files: HashMap<Vec<u8>, Header>,
    /// Bytes of headers and data in ustar, and how many more in GNU form.
    ustar: u64,
    gnu: u64,
}

impl Walk {
    fn check(&mut self, entry: &Header) -> Result<(), ContentsError> {
        let folder = entry.kind == Kind::Folder;
        let path = entry.name.strip_suffix(b"/").filter(|_| folder).unwrap_or(&entry.name);
        let first = self.names == 0;
        let last = std::mem::replace(&mut self.last, path.to_vec());
        self.entries += 1;
        self.names = self.names.saturating_add(path.len() + entry.target.len());
        if self.entries > ENTRIES || self.names > NAMES {
            return Err(ContentsError::TooMuch);
        }
        let is = |wrong: bool, what: Wrong| if wrong { Err(what) } else { Ok(()) };
        let check = || {
            is(path.len() > PATH || entry.target.len() > PATH, Wrong::Long)?;
            let plain = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|t| !t.contains(char::is_control));
            is(!plain(path) || !plain(&entry.target), Wrong::Characters)?;
            is(path.starts_with(b"/"), Wrong::Outside)?;
            is(parts(path).any(|part| matches!(part, b"" | b"." | b"..")), Wrong::Outside)?;
            is(parts(path).any(|part| part.len() > COMPONENT), Wrong::Long)?;
            is(parts(path).next() != Some(b"image"), Wrong::Outside)?;
            is(first && (path != b"image" || !folder), Wrong::Outside)?;
            let order = parts(&last).cmp(parts(path));
            is(!first && order != std::cmp::Ordering::Less, Wrong::Order)?;
            is(folder != entry.name.ends_with(b"/"), Wrong::Form)?;
            is(entry.kind != Kind::File && entry.size > 0, Wrong::Form)?;
            let link = matches!(entry.kind, Kind::SymLink | Kind::HardLink);
            is(link == entry.target.is_empty(), Wrong::Form)?;
            is(entry.uid > ID || entry.gid > ID, Wrong::Owner)
        };
        check().map_err(|wrong| self.at(wrong))?;
        self.place(path, folder, first)?;
        match entry.kind {
            Kind::File => drop(self.files.insert(path.to_vec(), entry.clone())),
            Kind::HardLink => {
                let file = self.files.get(&entry.target).ok_or_else(|| self.at(Wrong::Link))?;
                let same = |a: &Header, b: &Header| (a.mode, a.uid, a.gid, a.mtime) == (b.mode, b.uid, b.gid, b.mtime);
                if !same(entry, file) {
                    return Err(self.at(Wrong::Link));
                }
            }
            _ => {}
        }
        let blocks = |bytes: usize| (bytes as u64).next_multiple_of(512);
        self.ustar = self.ustar.saturating_add(512).saturating_add(entry.size.next_multiple_of(512));
        for name in [&entry.name, &entry.target] {
            self.gnu += if name.len() > 100 { 512 + blocks(name.len() + 1) } else { 0 };
        }
        Ok(())
    }

    /// Checks that an entry is in a folder of the package, and remembers it where it is one itself.
    fn place(&mut self, path: &[u8], folder: bool, first: bool) -> Result<(), ContentsError> {
        let parent = path.iter().rposition(|b| *b == b'/').and_then(|at| path.get(..at)).unwrap_or_default();
        while self.folders.last().is_some_and(|last| last != parent) {
            self.folders.pop();
        }
        if self.folders.is_empty() && !first {
            return Err(self.at(Wrong::Folder));
        }
        if folder {
            self.folders.push(path.to_vec());
        }
        Ok(())
    }

    fn length(&self, format: Format) -> u64 {
        if format == Format::Gnu { self.ustar + self.gnu } else { self.ustar }
    }

    fn at(&self, wrong: Wrong) -> ContentsError {
        let path = self.last.iter().take(300).map(|b| b.escape_ascii().to_string()).collect();
        ContentsError::Entry { path, wrong }
    }
}

impl Summary {
    fn add(&mut self, entry: &Header, walk: &Walk) {
        let file = if entry.kind == Kind::HardLink { walk.files.get(&entry.target) } else { Some(entry) };
        let Some(file) = file.filter(|file| file.kind == Kind::File) else { return };
        self.portage_size = self.portage_size.saturating_add(file.size);
        self.size = self.size.saturating_add(entry.size);
        if entry.mode & 0o6000 != 0 {
            let path = entry.name.strip_prefix(b"image").unwrap_or_default();
            let path = String::from_utf8_lossy(path).into_owned();
            self.privileged.push(Privileged { path, mode: entry.mode, uid: entry.uid, gid: entry.gid });
        }
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// Hashes a file's data on its way to the visitor.
struct Hashing<'a, R> {
    inner: &'a mut R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// What is wrong with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A path that is not below `image/`.
    #[error("its path leaves the image folder")]
    Outside,
    /// An overlong path.
    #[error("its path, or a part of it, is too long")]
    Long,
    /// A path that is not text.
    #[error("its path is not UTF-8 or has control characters")]
    Characters,
    /// Not in order, or twice.
    #[error("it is there twice, or not in sorted order")]
    Order,
    /// Not in a folder of the package.
    #[error("it is not in a folder of the package")]
    Folder,
    /// A hard link to something else than an earlier file with the same owner, mode and time.
    #[error("it is a hard link to what is no earlier file of the package, or differs from it")]
    Link,
    /// An id that no root has.
    #[error("its owner is not an id that roots have (0 to {ID})")]
    Owner,
    /// A header that contradicts itself.
    #[error("its type, size and target do not fit together")]
    Form,
    /// Not in the one form that we write.
    #[error("it is not in canonical form")]
    NotCanonical,
}

/// The image member is not as Portage or we write it, or is something no package may be.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// It is not the tar archive it must be.
    #[error("the image is not a tar archive as it must be")]
    Archive(#[from] ArchiveError),
    /// It has no entry.
    #[error("the image is empty: not even its folder is there")]
    Empty,
    /// Too many entries, or too long names.
    #[error("the image has more entries than are allowed ({ENTRIES}, {NAMES} bytes of names)")]
    TooMuch,
    /// One entry is wrong.
    #[error("the image's `{path}` is refused: {wrong}")]
    Entry {
        /// Its path as far as it can be shown.
        path: String,
        /// Why.
        wrong: Wrong,
    },
}

#[cfg(test)]
mod tests;
