//! The saved shell environment, `environment.bz2`: what bash's `declare -p` and `declare -f` printed after the build.
//!
//! Variables that tell how the build was run and not what was built are dropped: job counts, compressor command lines,
//! and Portage's own signing and verification settings, which no client takes from a package. Word lists whose order
//! means nothing are sorted. Everything else stays, byte for byte.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use bzip2::Compression;
use bzip2::bufread::BzDecoder;
use bzip2::write::BzEncoder;

/// Variables to drop.
const DROPPED: [&[u8]; 6] = [
    b"GNUMAKEFLAGS",
    b"MAKEFLAGS",
    b"MAKEOPTS",
    b"NINJAOPTS",
    b"PORTAGE_COMPRESSION_COMMAND",
    b"PORTAGE_REPO_REVISIONS",
];
/// Beginnings of names of variables to drop.
const DROPPED_PREFIXES: [&[u8]; 2] = [b"BINPKG_GPG_", b"GPG_VERIFY_"];
/// Variables that are sets of words.
const SETS: [&[u8]; 2] = [b"FEATURES", b"PORTAGE_FEATURES"];

/// Unpacks an environment of at most `limit` bytes, puts it in canonical form and packs it again.
pub fn repack(packed: &[u8], limit: u64) -> Result<Vec<u8>, EnvironmentError> {
    pack(&canonical(&unpack(packed, limit)?))
}

/// Unpacks an environment of at most `limit` bytes.
pub fn unpack(packed: &[u8], limit: u64) -> Result<Vec<u8>, EnvironmentError> {
    let mut decoder = BzDecoder::new(packed);
    let mut text = Vec::new();
    (&mut decoder).take(limit + 1).read_to_end(&mut text).map_err(EnvironmentError::Unpack)?;
    if text.len() as u64 > limit {
        return Err(EnvironmentError::TooLong(limit));
    }
    if !decoder.into_inner().is_empty() {
        return Err(EnvironmentError::More);
    }
    Ok(text)
}

/// Packs a text.
pub fn pack(text: &[u8]) -> Result<Vec<u8>, EnvironmentError> {
    let mut encoder = BzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).and_then(|()| encoder.finish()).map_err(EnvironmentError::Pack)
}

/// Returns the words of a text, each once, sorted and with one space between.
pub fn sorted_words(text: &[u8]) -> Vec<u8> {
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(&b' ')
}

/// Returns an environment in canonical form.
fn canonical(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let line = &rest[..line_length(rest)];
        let length = if line.ends_with(b" () \n") { function_length(rest) } else { line.len() };
        let Some((name, value)) = assignment(line).filter(|_| length == line.len()) else {
            out.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
            continue;
        };
        let length = value + value_length(&rest[value..]);
        let (statement, after) = rest.split_at(length);
        rest = after;
        if DROPPED.contains(&name) || DROPPED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        match quoted_words(&statement[value..]).filter(|_| SETS.contains(&name)) {
            Some(words) => {
                out.extend_from_slice(&statement[..value]);
                out.extend_from_slice(&[b"\"", sorted_words(words).as_slice(), b"\"\n"].concat());
            }
            None => out.extend_from_slice(statement),
        }
    }
    out
}

/// Returns the length of the first line, its newline included.
fn line_length(text: &[u8]) -> usize {
    text.iter().position(|b| *b == b'\n').map_or(text.len(), |at| at + 1)
}

/// Returns the length of the function definition that the text starts with: up to a line that is `}`.
fn function_length(text: &[u8]) -> usize {
    let mut length = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        length += line.len();
        if line == b"}\n" {
            break;
        }
    }
    length
}

/// Returns name and place of the value where a line is `declare [-x] NAME=VALUE` or `NAME=VALUE`.
fn assignment(line: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = 0;
    if line.starts_with(b"declare ") {
        at = b"declare ".len();
        if line.get(at) == Some(&b'-') {
            at += line[at..].iter().position(|b| *b == b' ')? + 1;
        }
    }
    let name_length = line[at..].iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_'))?;
    let name = &line[at..at + name_length];
    let value = at + name_length;
    match line.get(value)? {
        b'=' if name_length > 0 => Some((name, value + 1)),
        // Declared, but without a value.
        b'\n' if name_length > 0 && at > 0 => Some((name, value)),
        _ => None,
    }
}

/// Returns the length of a value in bash's syntax: up to and with the first newline outside quotes.
fn value_length(text: &[u8]) -> usize {
    let mut quote = None;
    let mut dollar = false;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (None, b'\n') => return at + 1,
            (None, b'\'') => quote = Some(if dollar { b'$' } else { b'\'' }),
            (None, b'"') => quote = Some(b'"'),
            (Some(b'\'' | b'$'), b'\'') | (Some(b'"'), b'"') => quote = None,
            (None | Some(b'"' | b'$'), b'\\') => drop(bytes.next()),
            _ => {}
        }
        dollar = *byte == b'$';
    }
    text.len()
}

/// Returns what is between the quotes where a value is nothing but words in double quotes.
fn quoted_words(value: &[u8]) -> Option<&[u8]> {
    let words = value.strip_prefix(b"\"")?.strip_suffix(b"\"\n")?;
    words.iter().all(|b| b.is_ascii_alphanumeric() || b" -_.+".contains(b)).then_some(words)
}

/// An environment cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// It is not bzip2.
    #[error("cannot unpack it")]
    Unpack(#[source] io::Error),
    /// It cannot be packed again.
    #[error("cannot pack it")]
    Pack(#[source] io::Error),
    /// It unpacks to too much.
    #[error("it unpacks to more than {0} bytes")]
    TooLong(u64),
    /// Something follows the bzip2 stream.
    #[error("something follows it")]
    More,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(String::from_utf8(canonical(text.as_bytes())).unwrap(), expected);
    }

    #[test]
    fn how_the_build_ran_is_dropped() {
        check(
            "declare -x A=\"\"\ndeclare -x MAKEOPTS=\"-j2\"\ndeclare -- GNUMAKEFLAGS=\"--load-average 2\"\n\
             declare -x BINPKG_GPG_SIGNING_KEY=\"0xABC\"\nGPG_VERIFY_USER_DROP=nobody\ndeclare MAKEFLAGS\n\
             declare -x PORTAGE_COMPRESSION_COMMAND=\"zstd -T2\"\ndeclare -x Z=\"1\"\n",
            "declare -x A=\"\"\ndeclare -x Z=\"1\"\n",
        );
    }

    #[test]
    fn sets_of_words_are_sorted() {
        check("declare -x FEATURES=\"b a  b\"\n", "declare -x FEATURES=\"a b\"\n");
        check("declare -x FEATURES=\"b $(a)\"\n", "declare -x FEATURES=\"b $(a)\"\n");
    }

    #[test]
    fn values_of_several_lines_are_one_value() {
        check("declare -- MAKEFLAGS=\"a\nMAKEOPTS=b \\\" c\nd\"\ndeclare -- B=\"1\"\n", "declare -- B=\"1\"\n");
        check("declare -- MAKEFLAGS=$'a\\'\nb'\ndeclare -- B=\"1\"\n", "declare -- B=\"1\"\n");
        let kept = "declare -- B=\"x\ndeclare -x MAKEOPTS=1\n\"\ndeclare -a C=([0]=\"a\" [1]='b\nMAKEOPTS=2\n')\n";
        check(kept, kept);
    }

    #[test]
    fn functions_stay_as_they_are() {
        let text = "declare -x A=\"\"\nsrc_compile () \n{ \n    MAKEOPTS=\"-j1\" emake;\nMAKEOPTS=2\n}\ndeclare -f x\n";
        check(text, text);
    }

    #[test]
    fn odd_ends_do_not_matter() {
        for text in ["", "\n", "x", "declare", "declare -", "declare -x", "A=\"", "f () \n", "=1\n", "A='\\"] {
            check(text, text);
        }
    }

    #[test]
    fn packing_is_undone_and_bounded() {
        let packed = pack(&[b'x'; 5000]).unwrap();
        assert_eq!(repack(&packed, 5000).unwrap(), packed);
        assert!(matches!(repack(&packed, 4999).unwrap_err(), EnvironmentError::TooLong(4999)));
        assert!(matches!(repack(b"BZh9 no", 10).unwrap_err(), EnvironmentError::Unpack(_)));
        let twice = [packed.as_slice(), b"x"].concat();
        assert!(matches!(repack(&twice, 5000).unwrap_err(), EnvironmentError::More));
        assert!(repack(&packed[..packed.len() - 5], 5000).is_err());
    }
}
