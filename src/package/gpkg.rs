//! The outer layer of a GPKG (GLEP 78): an uncompressed tar with one folder level.
//!
//! ```text
//! PREFIX/gpkg-1                 empty: the format's name
//! PREFIX/metadata.tar.zst
//! PREFIX/metadata.tar.zst.sig   when signed
//! PREFIX/image.tar.zst
//! PREFIX/image.tar.zst.sig      when signed
//! PREFIX/Manifest               digests of all others; cleartext-signed when signed
//! ```
//!
//! `PREFIX` is `PF` or `PF-BUILD_ID`. Nothing signs this layer: not its names, times or modes, nor what might follow
//! it. So exactly one spelling is accepted: these members in this order, headers as Portage writes them, one time for
//! all of them in what we write (`BUILD_TIME`, which the signed metadata repeat), and nothing after the end.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use crate::digest::{Hasher, Hashes};

use super::archive::{self, Archive, ArchiveError};
use super::header::{Format, Header};
use super::stream::Decompressed;

/// The member that names the format.
pub const FORMAT: &str = "gpkg-1";
/// The member that holds the metadata.
pub const METADATA: &str = "metadata.tar.zst";
/// The signature of [`METADATA`].
pub const METADATA_SIG: &str = "metadata.tar.zst.sig";
/// The member that holds what is installed.
pub const IMAGE: &str = "image.tar.zst";
/// The signature of [`IMAGE`].
pub const IMAGE_SIG: &str = "image.tar.zst.sig";
/// The member that lists the others.
pub const MANIFEST: &str = "Manifest";

/// The members of an unsigned package, in order.
pub const UNSIGNED: [&str; 4] = [FORMAT, METADATA, IMAGE, MANIFEST];
/// The members of a signed package, in order.
pub const SIGNED: [&str; 6] = [FORMAT, METADATA, METADATA_SIG, IMAGE, IMAGE_SIG, MANIFEST];

/// The longest Manifest and signature, in bytes: ours have about 2500 and 230.
const SMALL: u64 = 1 << 16;
/// The longest metadata member, in bytes; that of a big package has 100,000.
const METADATA_LIMIT: u64 = 1 << 24;
/// The longest image member: what ustar can say.
const IMAGE_LIMIT: u64 = (1 << 33) - 1;

/// Where a member lies and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name without the folder.
    pub name: String,
    /// Where its data starts in the file, in bytes.
    pub offset: u64,
    /// Length of its data in bytes.
    pub size: u64,
    /// SHA-512 of its data, hexadecimal.
    pub sha512: String,
    /// BLAKE2b of its data, hexadecimal.
    pub blake2b: String,
}

impl Member {
    /// Returns a member with these digests.
    pub fn new(name: &str, offset: u64, hashes: Hashes) -> Self {
        Self { name: name.to_string(), offset, size: hashes.size, sha512: hashes.sha512, blake2b: hashes.blake2b }
    }

    /// Returns a reader of the member's data in the file it was found in.
    pub fn open<'a, F: Read + Seek>(&self, file: &'a mut F) -> io::Result<io::Take<&'a mut F>> {
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.size))
    }

    /// Returns the member's data, of a member whose length [`read`] bounds.
    pub fn bytes<F: Read + Seek>(&self, file: &mut F) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(file)?.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == self.size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The outer layer of one package file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The folder all members are in.
    pub prefix: String,
    /// Modification time of each member, seconds since 1970.
    pub mtimes: Vec<u64>,
    /// The members, in order.
    pub members: Vec<Member>,
    /// The form of each member's header.
    pub formats: Vec<Format>,
    /// Whether device fields hold zeros, as some versions of Python write them and we do not.
    zero_devices: bool,
}

impl Container {
    /// Returns a member by its name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Returns a member that must be there.
    pub fn require(&self, name: &str) -> Result<&Member, GpkgError> {
        self.member(name).ok_or_else(|| GpkgError::missing(name))
    }

    /// Returns a reader of what a compressed member unpacks to, at most `limit` bytes.
    pub fn unpack<'a, F: Read + Seek>(
        &self,
        name: &str,
        file: &'a mut F,
        limit: u64,
    ) -> Result<Decompressed<BufReader<io::Take<&'a mut F>>>, GpkgError> {
        let data = self.require(name)?.open(file).map_err(ArchiveError::Io)?;
        Ok(Decompressed::new(BufReader::with_capacity(1 << 17, data), limit).map_err(ArchiveError::Io)?)
    }

    /// Returns all members but the Manifest: those that it lists.
    pub fn listed(&self) -> &[Member] {
        self.members.split_last().map_or(&[], |(_, listed)| listed)
    }

    /// Returns the time that all members have, where the container is in the one form that we write.
    pub fn canonical_mtime(&self) -> Result<u64, GpkgError> {
        let first = self.mtimes.first().copied().unwrap_or_default();
        let ustar = self.formats.iter().all(|format| *format == Format::Ustar);
        let canonical = ustar && !self.zero_devices && self.mtimes.iter().all(|mtime| *mtime == first);
        if canonical { Ok(first) } else { Err(GpkgError::NotCanonical) }
    }
}

/// Reads the outer layer of a file from its start: exactly the members `names` in this order. Digests are computed,
/// nothing is decompressed.
pub fn read(file: &mut (impl Read + Seek), names: &[&str]) -> Result<Container, GpkgError> {
    file.seek(SeekFrom::Start(0)).map_err(ArchiveError::Io)?;
    let mut archive = Archive::mixed(BufReader::with_capacity(1 << 17, file));
    let mut container = Container {
        prefix: String::new(),
        mtimes: Vec::new(),
        members: Vec::new(),
        formats: Vec::new(),
        zero_devices: false,
    };
    for expected in names {
        let header = archive.next_entry()?.ok_or_else(|| GpkgError::missing(expected))?;
        let (prefix, name) = split(&header)?;
        if container.members.is_empty() {
            container.prefix = prefix.to_string();
        }
        if prefix != container.prefix {
            return Err(GpkgError::Folders { first: container.prefix, other: shown(prefix) });
        }
        if name != *expected {
            return Err(GpkgError::Member { expected: (*expected).to_string(), found: shown(name) });
        }
        let plain = Header { format: header.format, zero_devices: header.zero_devices, ..Header::file("", 0, 0) };
        let odd = Header { name: Vec::new(), size: 0, mtime: 0, ..header.clone() } != plain;
        if odd {
            return Err(GpkgError::Odd(name.to_string()));
        }
        let limit = match *expected {
            FORMAT => 0,
            METADATA => METADATA_LIMIT,
            IMAGE => IMAGE_LIMIT,
            _ => SMALL,
        };
        if header.size > limit {
            return Err(GpkgError::Size { name: name.to_string(), size: header.size, limit });
        }
        let offset = archive.offset();
        let mut hasher = Hasher::default();
        io::copy(&mut archive, &mut hasher).map_err(ArchiveError::Io)?;
        container.zero_devices |= header.zero_devices;
        container.mtimes.push(header.mtime);
        container.formats.push(header.format);
        container.members.push(Member::new(expected, offset, hasher.finish()));
    }
    if let Some(header) = archive.next_entry()? {
        return Err(GpkgError::Unexpected(split(&header).map_or_else(|_| "?".to_string(), |(_, name)| shown(name))));
    }
    Ok(container)
}

/// Splits `PREFIX/NAME`.
fn split(header: &Header) -> Result<(&str, &str), GpkgError> {
    let path = std::str::from_utf8(&header.name).ok();
    let parts = path.and_then(|path| path.split_once('/'));
    match parts {
        Some((prefix, name)) if !prefix.is_empty() && !name.is_empty() && !name.contains('/') => Ok((prefix, name)),
        _ => Err(GpkgError::Level(header.name.iter().take(200).map(|b| b.escape_ascii().to_string()).collect())),
    }
}

/// Returns some hostile text as it may be shown.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// Writes the outer layer: members are given one after the other, lengths need not be known before.
#[derive(Debug)]
pub struct Build<F> {
    file: F,
    prefix: String,
    mtime: u64,
    offset: u64,
    members: Vec<Member>,
}

impl<F: Write + Seek> Build<F> {
    /// Starts a container at the beginning of an empty file; all members get the time `mtime`.
    pub fn new(file: F, prefix: &str, mtime: u64) -> Self {
        Self { file, prefix: prefix.to_string(), mtime, offset: 0, members: Vec::new() }
    }

    /// Writes one member, whose data `write` writes.
    pub fn member<E: From<GpkgError>>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<&Member, E> {
        let start = self.offset;
        // The length is not known yet: the header is written again below.
        self.header(name, 0)?;
        let mut tee = Tee { file: &mut self.file, hasher: Hasher::default() };
        write(&mut tee)?;
        let hashes = tee.hasher.finish();
        let end = self.offset + hashes.size;
        let padding = end.next_multiple_of(512) - end;
        let io = |e| E::from(GpkgError::Archive(ArchiveError::Io(e)));
        io::copy(&mut io::repeat(0).take(padding), &mut self.file).map_err(io)?;
        self.file.seek(SeekFrom::Start(start)).map_err(io)?;
        let data = self.offset;
        self.offset = start;
        self.header(name, hashes.size)?;
        self.offset = self.file.seek(SeekFrom::Start(end + padding)).map_err(io)?;
        self.members.push(Member::new(name, data, hashes));
        Ok(self.members.last().expect("one was pushed"))
    }

    /// Returns the members written so far.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Writes the container's end and returns the file.
    pub fn finish(mut self) -> Result<F, GpkgError> {
        let end = archive::padded_length(self.offset);
        io::copy(&mut io::repeat(0).take(end - self.offset), &mut self.file).map_err(ArchiveError::Io)?;
        self.file.flush().map_err(ArchiveError::Io)?;
        Ok(self.file)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), GpkgError> {
        let header = Header::file(&format!("{}/{name}", self.prefix), size, self.mtime);
        let block = header.encode().map_err(ArchiveError::Header)?;
        self.file.write_all(&block).map_err(ArchiveError::Io)?;
        self.offset += block.len() as u64;
        Ok(())
    }
}

/// Computes digests of what passes through.
struct Tee<'a, F> {
    file: &'a mut F,
    hasher: Hasher,
}

impl<F: Write> Write for Tee<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file is not a GPKG as Portage writes it, or not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum GpkgError {
    /// It is not the tar archive it must be.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A member is not exactly one folder deep.
    #[error("its member `{0}` is not in exactly one folder")]
    Level(String),
    /// Members are in different folders.
    #[error("its members are in different folders, `{first}` and `{other}`")]
    Folders {
        /// The first member's.
        first: String,
        /// Another one's.
        other: String,
    },
    /// A member is missing, too many, or not in its place.
    #[error("it holds `{found}` where `{expected}` must be")]
    Member {
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It holds more than it may.
    #[error("it holds `{0}`, which nothing lists")]
    Unexpected(String),
    /// Type, mode or owner of a member are not as they must be.
    #[error("its member `{0}` is not a plain file of root's with mode 0644")]
    Odd(String),
    /// Not in the one form that we write.
    #[error("its outer layer is not in canonical form (times or number formats were changed, or others wrote it)")]
    NotCanonical,
    /// A member is too long.
    #[error("its member `{name}` has {size} bytes, more than the {limit} allowed")]
    Size {
        /// Which.
        name: String,
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl GpkgError {
    fn missing(expected: &str) -> Self {
        Self::Member { expected: expected.to_string(), found: "nothing".to_string() }
    }
}
