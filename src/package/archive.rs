//! Tar archives, strictly: headers in their one form ([`super::header`]), zero padding, an end as Portage writes it,
//! and nothing after that.
//!
//! ```text
//! ([K long target] [L long name] header, data, zeros to 512 bytes)*  1024 zero bytes, zeros to a multiple of 10240
//! ```

use std::io::{self, Read, Write};

use super::header::{BLOCK, Format, Header, HeaderError, Kind, NAME_LENGTH};

/// What a whole archive is padded to: Python's `tarfile.RECORDSIZE`.
const RECORD: u64 = 20 * BLOCK as u64;
/// The longest path and link target: Linux's PATH_MAX, closing NUL included.
const PATH_MAX: u64 = 4096;

/// Reads an archive from its beginning; between [`Archive::next_entry`] and the next call, reading yields the entry's
/// data.
#[derive(Debug)]
pub struct Archive<R> {
    inner: R,
    /// The form of the last header; all must have the same, unless `mixed`.
    format: Option<Format>,
    mixed: bool,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of data that the current entry still has.
    left: u64,
}

impl<R: Read> Archive<R> {
    /// Returns a reader of the archive that `inner` yields.
    pub fn new(inner: R) -> Self {
        Self { inner, format: None, mixed: false, offset: 0, left: 0 }
    }

    /// Returns a reader of an archive whose headers may have different forms: Portage gives a package's image member
    /// the form that its inner tar has.
    pub fn mixed(inner: R) -> Self {
        Self { mixed: true, ..Self::new(inner) }
    }

    /// Returns how many bytes were read: after [`Archive::next_entry`], where the entry's data starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the form of the last header.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Returns what the archive is read from.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Returns the next entry's header, with long names in their place, or nothing after the last one: then the end was
    /// checked, and that nothing follows.
    pub fn next_entry(&mut self) -> Result<Option<Header>, ArchiveError> {
        let Some(mut header) = self.block()? else { return Ok(None) };
        let (mut target, mut name) = (None, None);
        if header.kind == Kind::LongTarget {
            target = Some(self.long(&header)?);
            header = self.block()?.ok_or(ArchiveError::End)?;
        }
        if header.kind == Kind::LongName {
            name = Some(self.long(&header)?);
            header = self.block()?.ok_or(ArchiveError::End)?;
        }
        if matches!(header.kind, Kind::LongName | Kind::LongTarget) {
            return Err(HeaderError::Form.into());
        }
        for (long, short) in [(target, &mut header.target), (name, &mut header.name)] {
            let Some(long) = long else { continue };
            if long.get(..NAME_LENGTH) != Some(short) || long.len() == NAME_LENGTH {
                return Err(HeaderError::Form.into());
            }
            *short = long;
        }
        Ok(Some(header))
    }

    /// Passes over what is left of the last entry and reads the next block; nothing at the archive's end.
    fn block(&mut self) -> Result<Option<Header>, ArchiveError> {
        io::copy(self, &mut io::sink())?;
        self.padding(BLOCK as u64)?;
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        if block == [0; BLOCK] {
            self.exact(&mut block)?;
            if block != [0; BLOCK] {
                return Err(ArchiveError::End);
            }
            self.padding(RECORD)?;
            // Nothing may follow: Portage would not see it, and neither is it covered by any digest.
            return if self.inner.read(&mut block)? == 0 { Ok(None) } else { Err(ArchiveError::End) };
        }
        let header = Header::decode(&block)?;
        let last = self.format.replace(header.format);
        if !self.mixed && last.is_some_and(|last| last != header.format) {
            return Err(HeaderError::Form.into());
        }
        self.left = header.size;
        Ok(Some(header))
    }

    /// Returns the name that a long-name record holds.
    fn long(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        if *header != Header::long(header.kind, header.size) || header.size > PATH_MAX {
            return Err(HeaderError::Form.into());
        }
        let mut name = Vec::new();
        self.read_to_end(&mut name)?;
        match name.pop() {
            Some(0) if !name.contains(&0) => Ok(name),
            _ => Err(HeaderError::Form.into()),
        }
    }

    /// Reads zeros up to the next multiple of `unit`.
    fn padding(&mut self, unit: u64) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK];
        let mut left = self.offset.next_multiple_of(unit) - self.offset;
        while left > 0 {
            let length = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
            let part = &mut block[..length];
            self.exact(part)?;
            if part.iter().any(|byte| *byte != 0) {
                return Err(ArchiveError::Padding);
            }
            left -= length as u64;
        }
        Ok(())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.inner.read_exact(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
            _ => e.into(),
        })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }
}

/// Yields the data of the current entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if length == 0 {
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..length])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, ArchiveError::Truncated));
        }
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Writes an archive in the one form that [`Archive`] reads.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    offset: u64,
}

impl<W: Write> Writer<W> {
    /// Returns a writer at an archive's beginning.
    pub fn new(inner: W) -> Self {
        Self { inner, offset: 0 }
    }

    /// Writes one entry; `data` must yield exactly as many bytes as the header says.
    pub fn entry(&mut self, header: &Header, data: &mut dyn Read) -> Result<(), ArchiveError> {
        let mut short = header.clone();
        if header.format == Format::Gnu {
            for (kind, field) in [(Kind::LongTarget, &mut short.target), (Kind::LongName, &mut short.name)] {
                if field.len() <= NAME_LENGTH {
                    continue;
                }
                let long = [field.as_slice(), &[0]].concat();
                field.truncate(NAME_LENGTH);
                self.write(&Header::long(kind, long.len() as u64).encode()?)?;
                self.write(&long)?;
                self.pad(BLOCK as u64)?;
            }
        }
        self.write(&short.encode()?)?;
        let copied = io::copy(data, &mut self.inner)?;
        self.offset += copied;
        if copied != header.size {
            return Err(ArchiveError::Truncated);
        }
        self.pad(BLOCK as u64)
    }

    /// Writes the archive's end and returns what it was written to.
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.write(&[0; 2 * BLOCK])?;
        self.pad(RECORD)?;
        Ok(self.inner)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.offset += bytes.len() as u64;
        Ok(self.inner.write_all(bytes)?)
    }

    fn pad(&mut self, unit: u64) -> Result<(), ArchiveError> {
        let end = self.offset.next_multiple_of(unit);
        io::copy(&mut io::repeat(0).take(end - self.offset), &mut self.inner)?;
        self.offset = end;
        Ok(())
    }
}

/// Returns how many bytes a finished archive has whose entries take `entries` bytes.
pub fn padded_length(entries: u64) -> u64 {
    (entries + 2 * BLOCK as u64).next_multiple_of(RECORD)
}

/// Some bytes are not a tar archive as Portage or we write it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// They could not be read.
    #[error("cannot read it through")]
    Io(#[from] io::Error),
    /// A header is wrong.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It ends too early.
    #[error("it ends in the middle")]
    Truncated,
    /// There is something where zeros must be.
    #[error("its padding is not zero")]
    Padding,
    /// Its end is not as it must be.
    #[error("something follows its end, or the end is not marked")]
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(headers: &[Header]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for header in headers {
            writer.entry(header, &mut io::repeat(b'x').take(header.size)).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Header>, ArchiveError> {
        let mut archive = Archive::new(bytes);
        let mut headers = Vec::new();
        while let Some(header) = archive.next_entry()? {
            headers.push(header);
        }
        Ok(headers)
    }

    fn long() -> Header {
        let (name, target) = (vec![b'n'; 300], vec![b't'; 200]);
        Header { name, target, kind: Kind::SymLink, format: Format::Gnu, ..Header::file("", 0, 7) }
    }

    #[test]
    fn what_is_written_is_read() {
        let headers = [Header::file("a", 0, 1), Header::file("b", 513, 2), Header::file("c", 512, 3)];
        assert_eq!(read(&archive(&headers)).unwrap(), headers);
        assert_eq!(read(&archive(&[long()])).unwrap(), [long()]);
        assert_eq!(archive(&headers).len() as u64, padded_length(3 * 512 + 1024 + 512));
    }

    #[test]
    fn a_cut_or_continued_archive_is_refused() {
        let bytes = archive(&[Header::file("a", 600, 1)]);
        for length in [0, 1, 511, 512, 1000, 1536, 2048, 2560, 2561, bytes.len() - 1] {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        for more in [&[0][..], &[0; 512], &[0; 10240], &bytes] {
            assert!(matches!(read(&[&bytes, more].concat()).unwrap_err(), ArchiveError::End));
        }
    }

    #[test]
    fn padding_must_be_zero() {
        let mut bytes = archive(&[Header::file("a", 600, 1)]);
        bytes[512 + 600] = 1;
        assert!(matches!(read(&bytes).unwrap_err(), ArchiveError::Padding));
    }

    #[test]
    fn the_two_forms_do_not_mix() {
        let mixed = archive(&[Header::file("a", 0, 1), Header { format: Format::Gnu, ..Header::file("b", 0, 1) }]);
        assert!(read(&mixed).is_err());
    }

    #[test]
    fn a_long_name_must_be_long_and_agree_with_the_short_one() {
        let mut bytes = archive(&[long()]);
        // Records: K header, 1 block, L header, 1 block, header. Its short name starts at block 4.
        bytes[4 * 512] = b'm';
        assert!(read(&bytes).is_err());
        let mut writer = Writer::new(Vec::new());
        let mut short = long();
        short.name.truncate(50);
        writer
            .entry(&Header::long(Kind::LongName, 51), &mut [short.name.as_slice(), &[0]].concat().as_slice())
            .unwrap();
        writer.entry(&Header { target: b"t".into(), ..short }, &mut io::empty()).unwrap();
        assert!(read(&writer.finish().unwrap()).is_err());
    }
}
