//! The records of a pax extended header: `LENGTH KEY=VALUE\n`, one after the other (POSIX `pax`).

use super::archive::{ArchiveError, show};

/// What an extended header says of the next member.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<u64>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Says nothing that is acted on here.
const IGNORED: [&[u8]; 6] = [b"atime", b"ctime", b"comment", b"uname", b"gname", b"LIBARCHIVE.creationtime"];

/// Reads all records, or says which is wrong.
pub(super) fn parse_pax(mut bytes: &[u8]) -> Result<Pax, ArchiveError> {
    let mut pax = Pax::default();
    let mut seen: Vec<&[u8]> = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = split_record(bytes).ok_or_else(|| ArchiveError::Pax("does not parse".to_string()))?;
        bytes = rest;
        let (key, value) = record;
        if seen.contains(&key) {
            return Err(ArchiveError::Pax(format!("says `{}` twice", show(key))));
        }
        seen.push(key);
        let number = || number(value).ok_or_else(|| ArchiveError::Pax(format!("has no number as `{}`", show(key))));
        match key {
            b"path" => pax.path = Some(value.to_vec()),
            b"linkpath" => pax.linkpath = Some(value.to_vec()),
            b"size" => pax.size = Some(number()?),
            b"uid" => pax.uid = Some(number()?),
            b"gid" => pax.gid = Some(number()?),
            b"mtime" => pax.mtime = Some(seconds(value).ok_or_else(|| ArchiveError::Pax("has no time".to_string()))?),
            _ if IGNORED.contains(&key) => {}
            _ => match key.strip_prefix(b"SCHILY.xattr.") {
                Some(name) if name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") => {
                    pax.xattrs.push((name.to_vec(), value.to_vec()));
                }
                Some(name) => return Err(ArchiveError::Attribute(show(name))),
                None => return Err(ArchiveError::Pax(format!("says `{}`, which is not accepted", show(key)))),
            },
        }
    }
    Ok(pax)
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(8).position(|b| *b == b' ')?;
    let length = usize::try_from(number(bytes.get(..space)?)?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some(((record.get(..equals)?, record.get(equals + 1..)?), bytes.get(length..)?))
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    // `parse` alone would accept a plus sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Returns the whole seconds of a time that is not before 1970.
fn seconds(text: &[u8]) -> Option<u64> {
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let (whole, fraction) = text.split_at_checked(dot)?;
    fraction.iter().skip(1).all(u8::is_ascii_digit).then(|| number(whole))?
}
