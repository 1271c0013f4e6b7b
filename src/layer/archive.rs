//! Reads a tar archive strictly: every member is checked in full before anything is done with it.
//!
//! Understood are the POSIX ustar and pax formats and GNU's long names (tar(5) of libarchive; POSIX `pax`, "pax
//! Interchange Format"). What else there may be in an archive is refused by name rather than skipped: a reader that skips
//! what it does not know lets two readers see two different archives.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::pax::{Pax, parse_pax};

pub(super) const BLOCK: u64 = 512;

/// How much an archive may hold. The defaults are far above any image and far below what fills a disk unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Members.
    pub members: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes of one extended header.
    pub header: u64,
    /// Components of a path.
    pub depth: usize,
    /// User and group ids must be below this: what both a user's and root's id range have.
    pub ids: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { members: 1_000_000, bytes: 64 << 30, header: 1 << 20, depth: 256, ids: 65535 }
    }
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file, with its length in bytes.
    File(u64),
    /// A symbolic link and where it points, which is never followed here.
    Symlink(PathBuf),
    /// A further name of an earlier member, which is a path in the archive.
    HardLink(PathBuf),
}

/// One member, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Relative, without `.` and `..`; empty for the archive's root folder.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner, below [`Limits::ids`].
    pub uid: u32,
    /// Group, below [`Limits::ids`].
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// `user.*` attributes with their values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads members one after the other; the content of a file must be taken before the next.
#[derive(Debug)]
pub struct Archive<R> {
    reader: R,
    limits: Limits,
    members: u64,
    bytes: u64,
    /// Of the current file: content not yet taken, then padding.
    left: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    /// Reads an archive from its first byte.
    pub fn new(reader: R, limits: Limits) -> Self {
        Self { reader, limits, members: 0, bytes: 0, left: 0, padding: 0 }
    }

    /// Returns how many members and how many bytes of files there were so far.
    pub fn totals(&self) -> (u64, u64) {
        (self.members, self.bytes)
    }

    /// Returns the next member, and nothing at a proper end: two empty blocks with nothing but zeros behind.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        self.skip_rest()?;
        let mut pax = None;
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                let dangling = pax.is_some() || long_name.is_some() || long_link.is_some();
                return if dangling { Err(ArchiveError::Truncated) } else { Ok(None) };
            };
            let shown = show(&header.path_bytes());
            let size = header.entry_size().map_err(|_| ArchiveError::Header { what: "size", name: shown.clone() })?;
            let slot = match header.entry_type() {
                EntryType::XHeader => {
                    let bytes = self.extension(size)?;
                    if pax.replace(parse_pax(&bytes)?).is_some() {
                        return Err(ArchiveError::Repeated("a pax header"));
                    }
                    continue;
                }
                EntryType::GNULongName => &mut long_name,
                EntryType::GNULongLink => &mut long_link,
                _ => return self.member(&header, size, pax.unwrap_or_default(), long_name, long_link).map(Some),
            };
            if slot.is_some() {
                return Err(ArchiveError::Repeated("a long name"));
            }
            let mut bytes = self.extension(size)?;
            // GNU tar ends the name with a NUL; one in the middle is refused with the name.
            if bytes.last() == Some(&0) {
                bytes.pop();
            }
            *slot = Some(bytes);
        }
    }

    fn member(
        &mut self,
        header: &Header,
        size: u64,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member, ArchiveError> {
        self.members += 1;
        if self.members > self.limits.members {
            return Err(ArchiveError::TooMuch(format!("more than {} members", self.limits.members)));
        }
        let name = pax.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let path = checked_path(&name, self.limits.depth)?;
        let shown = show(&name);
        let number = |what| {
            let name = shown.clone();
            move |_| ArchiveError::Header { what, name }
        };
        let size = match pax.size {
            // Two sizes would let two readers see two archives.
            Some(other) if other != size => return Err(ArchiveError::Header { what: "size", name: shown }),
            _ => size,
        };
        let link = || -> Result<Vec<u8>, ArchiveError> {
            let name = pax.linkpath.clone().or_else(|| long_link.clone());
            Ok(name.unwrap_or_else(|| header.link_name_bytes().map(|b| b.into_owned()).unwrap_or_default()))
        };
        let kind = match header.entry_type() {
            EntryType::Regular => Kind::File(size),
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink(checked_target(&link()?, &shown)?),
            EntryType::Link => Kind::HardLink(checked_path(&link()?, self.limits.depth)?),
            EntryType::Char | EntryType::Block => return Err(ArchiveError::Device(shown)),
            EntryType::Fifo => return Err(ArchiveError::Fifo(shown)),
            other => return Err(ArchiveError::Type { kind: other.as_byte(), name: shown }),
        };
        if path.as_os_str().is_empty() && kind != Kind::Folder {
            return Err(ArchiveError::Name { name: shown, why: "names the root itself" });
        }
        if let Kind::File(size) = kind {
            if name.ends_with(b"/") {
                return Err(ArchiveError::Name { name: shown, why: "is a file and ends with a slash" });
            }
            self.bytes = self.bytes.saturating_add(size);
            if self.bytes > self.limits.bytes {
                return Err(ArchiveError::TooMuch(format!("more than {} bytes of files", self.limits.bytes)));
            }
            self.left = size;
            self.padding = size.next_multiple_of(BLOCK) - size;
        } else if size != 0 {
            return Err(ArchiveError::Header { what: "size", name: shown });
        }
        let id = |own: Option<u64>, from: io::Result<u64>, what| {
            let id = match own {
                Some(id) => id,
                None => from.map_err(number(what))?,
            };
            u32::try_from(id)
                .ok()
                .filter(|id| u64::from(*id) < self.limits.ids)
                .ok_or_else(|| ArchiveError::Owner { id, name: shown.clone() })
        };
        let mode = header.mode().map_err(number("mode"))?;
        if mode > 0o7777 {
            return Err(ArchiveError::Header { what: "mode", name: shown });
        }
        let mtime = match pax.mtime {
            Some(seconds) => seconds,
            None => header.mtime().map_err(number("time"))?,
        };
        // The largest time that every tar can write; negative ones wrap round to more than that.
        if mtime >= 1 << 33 {
            return Err(ArchiveError::Header { what: "time", name: shown });
        }
        Ok(Member {
            path,
            kind,
            mode,
            uid: id(pax.uid, header.uid(), "owner")?,
            gid: id(pax.gid, header.gid(), "group")?,
            mtime,
            xattrs: pax.xattrs,
        })
    }

    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        self.exact(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|b| *b == 0) {
            let mut rest = vec![0; 1 << 16];
            let mut zeros = 0;
            loop {
                match self.reader.read(&mut rest).map_err(ArchiveError::Read)? {
                    0 if zeros >= BLOCK => return Ok(None),
                    0 => return Err(ArchiveError::Truncated),
                    n if rest.iter().take(n).all(|b| *b == 0) => zeros += n as u64,
                    _ => return Err(ArchiveError::Trailing),
                }
            }
        }
        let sum: u32 = header.as_bytes().iter().map(|b| u32::from(*b)).sum();
        let own: u32 = header.as_old().cksum.iter().map(|b| u32::from(*b)).sum();
        // The checksum is taken with its own eight bytes as spaces.
        let computed = sum - own + 8 * 32;
        if header.cksum().ok() != Some(computed) || (header.as_ustar().is_none() && header.as_gnu().is_none()) {
            return Err(ArchiveError::Header { what: "checksum", name: show(&header.path_bytes()) });
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > self.limits.header {
            return Err(ArchiveError::TooMuch(format!("an extended header of {size} bytes")));
        }
        let length = usize::try_from(size.next_multiple_of(BLOCK)).map_err(|_| ArchiveError::Truncated)?;
        let mut bytes = vec![0; length];
        self.exact(&mut bytes)?;
        bytes.truncate(usize::try_from(size).map_err(|_| ArchiveError::Truncated)?);
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.reader).take(rest), &mut io::sink()).map_err(ArchiveError::Read)?;
        if skipped == rest { Ok(()) } else { Err(ArchiveError::Truncated) }
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.reader.read_exact(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
            _ => ArchiveError::Read(e),
        })
    }
}

/// Yields the content of the current file.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&mut self.reader).take(self.left).read(buffer)?;
        if n == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Returns the path that a name stands for: `./` in front and one slash behind are tar's habits, all else is refused.
fn checked_path(name: &[u8], depth: usize) -> Result<PathBuf, ArchiveError> {
    let refuse = |why| Err(ArchiveError::Name { name: show(name), why });
    let inner = match name {
        b"." | b"./" => return Ok(PathBuf::new()),
        [b'.', b'/', inner @ ..] => inner,
        _ => name,
    };
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    if inner.is_empty() || name.starts_with(b"/") {
        return refuse(if name.is_empty() { "is empty" } else { "is absolute" });
    }
    if inner.iter().any(|b| b.is_ascii_control()) {
        return refuse("has a control character in it");
    }
    // Linux: PATH_MAX 4096 with the NUL, NAME_MAX 255.
    if inner.len() > 4095 {
        return refuse("is longer than 4095 bytes");
    }
    let mut count = 0;
    for component in inner.split(|b| *b == b'/') {
        count += 1;
        match component {
            b".." => return refuse("has `..` in it"),
            b"" | b"." => return refuse("has an empty component in it"),
            c if c.len() > 255 => return refuse("has a component of more than 255 bytes"),
            c if c.starts_with(b".wh.") => {
                return refuse("is a whiteout of an OCI layer, which this bindery does not stack");
            }
            _ => {}
        }
    }
    if count > depth {
        return refuse("is too deep");
    }
    Ok(PathBuf::from(OsStr::from_bytes(inner)))
}

fn checked_target(target: &[u8], name: &str) -> Result<PathBuf, ArchiveError> {
    if target.is_empty() || target.len() > 4095 || target.iter().any(|b| b.is_ascii_control()) {
        return Err(ArchiveError::Target(name.to_string()));
    }
    Ok(Path::new(OsStr::from_bytes(target)).to_path_buf())
}

/// Returns a name as it may be shown: cut, and with what could steer a terminal escaped.
pub(super) fn show(name: &[u8]) -> String {
    let cut = name.get(..200).unwrap_or(name);
    String::from_utf8_lossy(cut).escape_debug().to_string()
}

/// An archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes could not be had.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the archive ends in the middle")]
    Truncated,
    /// It goes on after its end.
    #[error("the archive goes on after its end")]
    Trailing,
    /// A header's field is not what the format says.
    #[error("the archive's member `{name}` has an impossible {what}")]
    Header {
        /// Which field.
        what: &'static str,
        /// Which member.
        name: String,
    },
    /// An extended header is wrong.
    #[error("the archive has a pax header that {0}")]
    Pax(String),
    /// An extended header is there twice.
    #[error("the archive has {0} twice for one member")]
    Repeated(&'static str),
    /// A name that leads out, or that no file can have.
    #[error("the archive's member `{name}` is refused: its name {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it, as it reads after "its name".
        why: &'static str,
    },
    /// A symbolic link that points nowhere.
    #[error("the archive's symbolic link `{0}` has an impossible target")]
    Target(String),
    /// An owner outside the range.
    #[error("the archive's member `{name}` belongs to id {id}, which the id range does not have")]
    Owner {
        /// The id.
        id: u64,
        /// Which member.
        name: String,
    },
    /// A device.
    #[error("the archive's member `{0}` is a device node")]
    Device(String),
    /// A pipe.
    #[error("the archive's member `{0}` is a named pipe")]
    Fifo(String),
    /// Something else.
    #[error("the archive's member `{name}` is of a kind (`{}`) that is not accepted", char::from(*kind).escape_debug())]
    Type {
        /// The type flag.
        kind: u8,
        /// Which member.
        name: String,
    },
    /// An attribute that would change what the kernel makes of a file.
    #[error("the archive carries the extended attribute `{0}`; only `user.*` without `user.overlay.*` is accepted")]
    Attribute(String),
    /// More than allowed.
    #[error("the archive has {0}; that is refused")]
    TooMuch(String),
}

#[cfg(test)]
pub(in crate::layer) mod tests;
