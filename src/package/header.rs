//! One tar header block, strictly: a block is accepted only when writing what was read gives the same 512 bytes again.
//!
//! That one rule covers checksums, padding, number formats and every field a lenient reader would overlook. What is
//! written is what Python's `tarfile` writes, which is what Portage uses: POSIX ustar (`pax(1)`, "ustar Interchange
//! Format"), and GNU tar's variant where ustar cannot hold a name or a size.

use std::ops::Range;

/// The size of a header, and what data is padded to.
pub const BLOCK: usize = 512;
/// How long a name can be in one field; ustar has 155 more bytes for the folders before it.
pub const NAME_LENGTH: usize = 100;
const PREFIX_LENGTH: usize = 155;
/// The first size that eleven octal digits cannot hold.
const OCTAL_LIMIT: u64 = 1 << 33;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const OWNER: Range<usize> = 265..297;
const GROUP: Range<usize> = 297..329;
const DEVICES: Range<usize> = 329..345;
const PREFIX: Range<usize> = 345..500;

const USTAR_MAGIC: &[u8] = b"ustar\x0000";
const GNU_MAGIC: &[u8] = b"ustar  \0";
/// How some versions of Python fill the device fields of what is no device; others leave them empty.
const ZERO_DEVICES: &[u8] = b"0000000\x000000000\0";

/// Which of the two forms an archive is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// POSIX ustar: names up to 255 bytes, link targets up to 100, sizes below 8 GiB.
    Ustar,
    /// GNU tar, for what ustar cannot hold.
    Gnu,
}

/// What a header describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A further name of an earlier file of the archive.
    HardLink,
    /// A symbolic link.
    SymLink,
    /// A folder; its name ends in `/`.
    Folder,
    /// GNU: the data is the link target of the next header.
    LongTarget,
    /// GNU: the data is the name of the next header.
    LongName,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, HeaderError> {
        Ok(match byte {
            b'0' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::SymLink,
            b'5' => Self::Folder,
            b'K' => Self::LongTarget,
            b'L' => Self::LongName,
            _ => return Err(HeaderError::Kind(byte)),
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::SymLink => b'2',
            Self::Folder => b'5',
            Self::LongTarget => b'K',
            Self::LongName => b'L',
        }
    }
}

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Path of the entry; a folder's ends in `/`.
    pub name: Vec<u8>,
    /// Target of a link, otherwise empty.
    pub target: Vec<u8>,
    /// What it describes.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of the data in bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Owner's name; empty in what we write.
    pub owner: Vec<u8>,
    /// Group's name; empty in what we write.
    pub group: Vec<u8>,
    /// Ustar or GNU.
    pub format: Format,
    /// Whether the device fields hold zeros instead of nothing.
    pub zero_devices: bool,
}

impl Header {
    /// Returns the header of a regular file of root's as containers and metadata have it: mode 0644, no names.
    pub fn file(name: &str, size: u64, mtime: u64) -> Self {
        Self { name: name.into(), mode: 0o644, size, mtime, ..Self::empty(Kind::File, Format::Ustar) }
    }

    /// Returns the header that comes before the `length` bytes (closing NUL included) of a long name or target.
    pub fn long(kind: Kind, length: u64) -> Self {
        Self { name: b"././@LongLink".into(), size: length, ..Self::empty(kind, Format::Gnu) }
    }

    /// Returns a header with nothing in it.
    fn empty(kind: Kind, format: Format) -> Self {
        Self {
            name: Vec::new(),
            target: Vec::new(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            owner: Vec::new(),
            group: Vec::new(),
            format,
            zero_devices: false,
        }
    }

    /// Reads a header block.
    pub fn decode(block: &[u8; BLOCK]) -> Result<Self, HeaderError> {
        let format = match &block[MAGIC] {
            USTAR_MAGIC => Format::Ustar,
            GNU_MAGIC => Format::Gnu,
            _ => return Err(HeaderError::Magic),
        };
        let kind = Kind::from_byte(block[TYPE])?;
        let small = |range: Range<usize>| octal(&block[range]).and_then(|n| u32::try_from(n).ok());
        let mut name = text(&block[NAME]).to_vec();
        let prefix = text(&block[PREFIX]);
        if format == Format::Ustar && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let header = Self {
            name,
            target: text(&block[LINK]).to_vec(),
            kind,
            mode: small(MODE).ok_or(HeaderError::Form)?,
            uid: small(UID).ok_or(HeaderError::Form)?,
            gid: small(GID).ok_or(HeaderError::Form)?,
            size: octal(&block[SIZE]).or_else(|| binary(&block[SIZE])).ok_or(HeaderError::Form)?,
            mtime: octal(&block[MTIME]).ok_or(HeaderError::Form)?,
            owner: text(&block[OWNER]).to_vec(),
            group: text(&block[GROUP]).to_vec(),
            format,
            zero_devices: &block[DEVICES] == ZERO_DEVICES,
        };
        if header.encode().is_ok_and(|again| again == *block) { Ok(header) } else { Err(HeaderError::Form) }
    }

    /// Returns the block, or an error where the form cannot hold a name or number.
    pub fn encode(&self) -> Result<[u8; BLOCK], HeaderError> {
        let mut block = [0; BLOCK];
        let (prefix, name) = self.split_name()?;
        put(&mut block[PREFIX], prefix)?;
        put(&mut block[NAME], name)?;
        put(&mut block[LINK], &self.target)?;
        put(&mut block[OWNER], &self.owner)?;
        put(&mut block[GROUP], &self.group)?;
        put_octal(&mut block[MODE], self.mode.into())?;
        put_octal(&mut block[UID], self.uid.into())?;
        put_octal(&mut block[GID], self.gid.into())?;
        put_octal(&mut block[MTIME], self.mtime)?;
        if self.size >= OCTAL_LIMIT && self.format == Format::Gnu {
            let field = &mut block[SIZE];
            field[0] = 0x80;
            field[4..].copy_from_slice(&self.size.to_be_bytes());
        } else {
            put_octal(&mut block[SIZE], self.size)?;
        }
        block[TYPE] = self.kind.byte();
        block[MAGIC].copy_from_slice(if self.format == Format::Gnu { GNU_MAGIC } else { USTAR_MAGIC });
        if self.zero_devices {
            block[DEVICES].copy_from_slice(ZERO_DEVICES);
        }
        block[CHECKSUM].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        // Six digits, NUL, and the space that stood there while summing.
        put_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 1], sum)?;
        Ok(block)
    }

    /// Returns whether ustar can hold the header.
    pub fn fits_ustar(&self) -> bool {
        Self { format: Format::Ustar, ..self.clone() }.encode().is_ok()
    }

    /// Splits the name over ustar's two fields as Python does: as little as possible in the first.
    fn split_name(&self) -> Result<(&[u8], &[u8]), HeaderError> {
        if self.name.len() <= NAME_LENGTH {
            return Ok((b"", &self.name));
        }
        if self.format == Format::Gnu {
            return Err(HeaderError::Long);
        }
        let slashes = self.name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for at in slashes {
            let (prefix, name) = (&self.name[..at], &self.name[at + 1..]);
            if !prefix.is_empty() && prefix.len() <= PREFIX_LENGTH && !name.is_empty() && name.len() <= NAME_LENGTH {
                return Ok((prefix, name));
            }
        }
        Err(HeaderError::Long)
    }
}

/// Returns a field's bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(field: &[u8]) -> Option<u64> {
    let (0, digits) = field.split_last()? else { return None };
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Reads GNU's form for what octal digits cannot hold.
fn binary(field: &[u8]) -> Option<u64> {
    let rest = field.strip_prefix(&[0x80, 0, 0, 0])?;
    rest.try_into().ok().map(u64::from_be_bytes)
}

fn put(field: &mut [u8], bytes: &[u8]) -> Result<(), HeaderError> {
    field.get_mut(..bytes.len()).ok_or(HeaderError::Long)?.copy_from_slice(bytes);
    Ok(())
}

/// Fills a field with octal digits and a NUL.
fn put_octal(field: &mut [u8], number: u64) -> Result<(), HeaderError> {
    let digits = format!("{number:0width$o}\0", width = field.len() - 1);
    if digits.len() == field.len() { put(field, digits.as_bytes()) } else { Err(HeaderError::Long) }
}

/// A block is not a header as Portage or we write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a tar header at all.
    #[error("a block is not a tar header")]
    Magic,
    /// Something that has no place in a package: device, fifo, pax header, sparse file.
    #[error("it holds an entry of type `{}`, which no package may (allowed: file, folder, symbolic and hard link)", .0.escape_ascii())]
    Kind(u8),
    /// Something in it is not as Portage writes it.
    #[error("a tar header is not in the form Portage writes")]
    Form,
    /// A name or number is too long for the form.
    #[error("a name or number is too long for the tar format")]
    Long,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        let mut header = Header::file("hello-2.10-1/metadata.tar.zst", 12345, 1_700_000_000);
        assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), header);
        header.name = [vec![b'a'; 90], vec![b'/'], vec![b'b'; 90]].concat();
        assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), header);
        (header.size, header.format, header.name) = (OCTAL_LIMIT, Format::Gnu, b"x".into());
        assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), header);
        assert!(!header.fits_ustar());
    }

    #[test]
    fn any_other_spelling_of_the_same_header_is_refused() {
        let block = Header::file("a/b", 5, 1).encode().unwrap();
        for at in 0..BLOCK {
            let mut other = block;
            other[at] ^= 0x20;
            assert!(Header::decode(&other).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_ustar_cannot_hold_is_an_error() {
        let name = |name: Vec<u8>| Header { name, ..Header::file("", 0, 0) }.encode();
        assert_eq!(name(vec![b'a'; 101]).unwrap_err(), HeaderError::Long);
        assert!(name([vec![b'a'; 155], vec![b'/'], vec![b'b'; 100]].concat()).is_ok());
        assert!(name([vec![b'a'; 156], vec![b'/'], vec![b'b'; 100]].concat()).is_err());
        assert!(Header::file("a", OCTAL_LIMIT, 0).encode().is_err());
    }
}
