//! Where functions are, by what unwinds their frames: `.eh_frame`, which strip(1) leaves. Little-endian, as it is for x86 only.
//!
//! Sources: LSB Core, "Exception Frames"; DWARF 4, section 6.4. What is not as these say ends the list.

/// The most ranges.
const MOST: usize = 1 << 22;

/// Returns start and length of each function that has an entry in a linked file's `.eh_frame`, which lies at `address`.
pub(super) fn ranges(bytes: &[u8], address: u64, is_64: bool) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    // The encoding of each CIE, by its place.
    let mut encodings = std::collections::HashMap::new();
    let mut at = 0;
    while let Some((body, next)) = entry(bytes, at) {
        let mut cursor = Cursor { bytes, at: body, end: next };
        let Some(id) = cursor.number(4) else { break };
        if id == 0 {
            if let Some(encoding) = encoding(&mut cursor) {
                encodings.insert(at as u64, encoding);
            }
        } else if let Some(encoding) = (body as u64).checked_sub(id).and_then(|cie| encodings.get(&cie))
            && let Some(range) = range(&mut cursor, *encoding, address, is_64)
            && range.1 > 0
        {
            ranges.push(range);
        }
        if ranges.len() > MOST {
            break;
        }
        at = next;
    }
    ranges
}

/// Returns where an entry's body begins and ends; nothing at the end.
fn entry(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let word = |at: usize, size: usize| Cursor { bytes, at, end: bytes.len() }.number(size);
    let (length, body) = match word(at, 4)? {
        0 => return None,
        0xffff_ffff => (word(at + 4, 8)?, at + 12),
        length => (length, at + 4),
    };
    let end = body.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len() && end > body).then_some((body, end))
}

/// Returns how the FDEs of a CIE say addresses.
fn encoding(cursor: &mut Cursor<'_>) -> Option<u8> {
    let version = cursor.number(1)?;
    let start = cursor.at;
    while cursor.number(1)? != 0 {}
    let text = cursor.bytes.get(start..cursor.at - 1)?;
    cursor.leb()?;
    cursor.leb()?;
    if version == 1 {
        cursor.number(1)?
    } else {
        cursor.leb()?
    };
    let Some((b'z', rest)) = text.split_first() else { return text.is_empty().then_some(0) };
    cursor.leb()?;
    for letter in rest {
        match letter {
            b'R' => return u8::try_from(cursor.number(1)?).ok(),
            b'L' => drop(cursor.number(1)?),
            b'P' => {
                let encoding = u8::try_from(cursor.number(1)?).ok()?;
                cursor.number(size(encoding, true)?)?;
            }
            b'S' | b'B' => {}
            _ => return None,
        }
    }
    Some(0)
}

/// Returns how many bytes a value of an encoding has.
fn size(encoding: u8, is_64: bool) -> Option<usize> {
    match encoding & 0x0f {
        0x00 => Some(if is_64 { 8 } else { 4 }),
        0x02 | 0x0a => Some(2),
        0x03 | 0x0b => Some(4),
        0x04 | 0x0c => Some(8),
        _ => None,
    }
}

fn range(cursor: &mut Cursor<'_>, encoding: u8, address: u64, is_64: bool) -> Option<(u64, u64)> {
    let size = size(encoding, is_64)?;
    let place = address.wrapping_add(cursor.at as u64);
    let (start, length) = (cursor.number(size)?, cursor.number(size)?);
    let shift = 64 - 8 * u32::try_from(size).ok()?;
    let start = if encoding & 0x08 != 0 { (start.wrapping_shl(shift) as i64 >> shift) as u64 } else { start };
    match encoding & 0x70 {
        0x00 => Some((start, length)),
        0x10 => Some((start.wrapping_add(place) & if is_64 { u64::MAX } else { 0xffff_ffff }, length)),
        _ => None,
    }
}

/// Reads numbers, never beyond an end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn number(&mut self, size: usize) -> Option<u64> {
        let end = self.at.checked_add(size).filter(|end| *end <= self.end)?;
        let value = self.bytes.get(self.at..end)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        self.at = end;
        Some(value)
    }

    /// Skips a LEB128 number.
    fn leb(&mut self) -> Option<u64> {
        loop {
            let byte = self.number(1)?;
            if byte & 0x80 == 0 {
                return Some(byte);
            }
        }
    }
}
