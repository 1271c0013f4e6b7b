//! The Manifest inside a GPKG (GLEP 78, GLEP 74): one line for every other member, with length and two digests.
//!
//! ```text
//! DATA metadata.tar.zst 4711 SHA512 HEX BLAKE2B HEX
//! ```

use std::fmt::Write as _;

use super::gpkg::Member;

/// Returns the lines for some members, digests in this order always.
pub fn write<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    members.into_iter().fold(String::new(), |mut text, member| {
        let Member { name, size, sha512, blake2b, .. } = member;
        let _ = writeln!(text, "DATA {name} {size} SHA512 {sha512} BLAKE2B {blake2b}");
        text
    })
}

/// Checks that a Manifest lists exactly these members in this order, each with exactly the two digests, in either
/// order: Portage's varies from process to process.
pub fn check(text: &[u8], members: &[Member]) -> Result<(), ManifestError> {
    let text = std::str::from_utf8(text).map_err(|_| ManifestError::Text)?;
    let text = text.strip_suffix('\n').ok_or(ManifestError::Text)?;
    let mut lines = text.split('\n');
    for member in members {
        let Member { name, size, sha512, blake2b, .. } = member;
        let line = lines.next().unwrap_or_default();
        let mut words = line.split(' ');
        if words.next() != Some("DATA") || words.next() != Some(name) {
            return Err(ManifestError::Unlisted(name.clone()));
        }
        if words.next() != Some(size.to_string().as_str()) {
            return Err(ManifestError::Size(name.clone()));
        }
        let digests: Vec<&str> = words.collect();
        match digests.as_slice() {
            ["SHA512", a, "BLAKE2B", b] | ["BLAKE2B", b, "SHA512", a] if a == sha512 && b == blake2b => {}
            ["SHA512", _, "BLAKE2B", _] | ["BLAKE2B", _, "SHA512", _] => {
                return Err(ManifestError::Digest(name.clone()));
            }
            _ => return Err(ManifestError::Digests(name.clone())),
        }
    }
    if lines.next().is_some() { Err(ManifestError::More) } else { Ok(()) }
}

/// A Manifest does not describe the package it is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no text, or its last line is cut.
    #[error("its Manifest is not a text of whole lines")]
    Text,
    /// A member has no line, or not in its place.
    #[error("its Manifest does not list `{0}`, or not in its place")]
    Unlisted(String),
    /// It lists something that is not there.
    #[error("its Manifest lists more than the package holds")]
    More,
    /// A length differs.
    #[error("`{0}` has another length than the Manifest says")]
    Size(String),
    /// A digest differs.
    #[error("`{0}` has another digest than the Manifest says")]
    Digest(String),
    /// Digests are missing or there are others.
    #[error("the Manifest must give exactly SHA512 and BLAKE2B for `{0}`")]
    Digests(String),
}
