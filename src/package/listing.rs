//! The content digest: SHA-256 of a listing of everything a package says and installs, compression, signature, build
//! number and build time left out. Lines, fields separated by tabs, in this order:
//!
//! ```text
//! content 1
//! source-date SECONDS
//! metadata    KEY SIZE SHA256                                for each key but BUILD_ID and BUILD_TIME, sorted
//! folder      MODE UID GID MTIME PATH                        then each entry of the image, sorted by path components;
//! file        MODE UID GID MTIME SIZE SHA256 PATH            MODE is octal, PATH starts with `image`
//! symlink     UID GID MTIME PATH TARGET
//! link        PATH TARGET
//! ```
//!
//! Metadata values are those of the canonical form, `environment.bz2`'s unpacked; times are those written. No field can hold a tab or newline: names with
//! control characters are refused.

use std::fmt;
use std::io::Write as _;

use crate::digest::{Digest, hex};
use sha2::{Digest as _, Sha256};

use super::environment::{self, EnvironmentError};
use super::header::{Header, Kind};
use super::metadata::{self, BUILD_ID, BUILD_TIME, ENVIRONMENT, Metadata};

/// Computes a content digest.
pub struct Listing(Sha256);

impl Listing {
    /// Starts a listing with the metadata.
    pub fn new(source_date: u64, metadata: &Metadata) -> Result<Self, EnvironmentError> {
        let mut listing = Self(Sha256::new());
        listing.line(format_args!("content 1\nsource-date\t{source_date}"));
        for (key, value) in metadata {
            let value = match key.as_str() {
                BUILD_ID | BUILD_TIME => continue,
                // Another version of the compressor must not make another content.
                ENVIRONMENT => &environment::unpack(value, metadata::LIMIT)?,
                _ => value,
            };
            listing.line(format_args!("metadata\t{key}\t{}\t{}", value.len(), Digest::of(value).hex()));
        }
        Ok(listing)
    }

    /// Adds an entry of the image; `digest` is that of a file's data.
    pub fn entry(&mut self, entry: &Header, digest: &[u8]) {
        let Header { mode, uid, gid, mtime, size, .. } = entry;
        let path = &entry.name;
        match entry.kind {
            Kind::Folder => self.line(format_args!("folder\t{mode:o}\t{uid}\t{gid}\t{mtime}\t{}", Raw(path))),
            Kind::SymLink => {
                self.line(format_args!("symlink\t{uid}\t{gid}\t{mtime}\t{}\t{}", Raw(path), Raw(&entry.target)));
            }
            Kind::HardLink => self.line(format_args!("link\t{}\t{}", Raw(path), Raw(&entry.target))),
            Kind::File | Kind::LongName | Kind::LongTarget => {
                let digest = hex(digest);
                self.line(format_args!("file\t{mode:o}\t{uid}\t{gid}\t{mtime}\t{size}\t{digest}\t{}", Raw(path)));
            }
        }
    }

    /// Returns the digest.
    pub fn finish(self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.0.finalize()))
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Hashing cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing")
    }
}

/// A path that was checked to be UTF-8.
struct Raw<'a>(&'a [u8]);

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}
