//! Digests: SHA-256 names things in our stores; files of the package managers carry the sets their formats ask for.

use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use blake2::Blake2b512;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use crate::fs::{self, PathError};

/// A SHA-256 digest, shown as `sha256:` and 64 hexadecimal digits, as in OCI descriptors.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of some bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest of a file's content.
    pub fn of_file(path: &Path) -> Result<Self, PathError> {
        let failed = || PathError::on("read", path);
        let (mut file, mut hasher, mut buffer) = (fs::open(path)?, Sha256::new(), vec![0; 1 << 17]);
        loop {
            match file.read(&mut buffer).map_err(failed())? {
                0 => return Ok(Self(hasher.finalize().into())),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// Returns the 64 hexadecimal digits: the name of the file or folder in a store.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Returns the first twelve digits: enough to show, never to decide on.
    pub fn short(&self) -> String {
        self.hex()[..12].to_string()
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let bytes = unhex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| DigestError(text.chars().take(80).collect()))
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::from_hex(text.strip_prefix("sha256:").unwrap_or(text))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// All digests that some format of ours or of the package managers needs, from one pass over the bytes. Hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hashes {
    /// Length in bytes.
    pub size: u64,
    /// For our own stores and statements.
    pub sha256: Digest,
    /// For Manifests.
    pub sha512: String,
    /// For Manifests.
    pub blake2b: String,
    /// Only because Portage's `Packages` index knows no better; never decided on.
    pub md5: String,
    /// Likewise.
    pub sha1: String,
}

impl Hashes {
    /// Returns the digests of everything a reader yields.
    pub fn of(mut reader: impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::default();
        io::copy(&mut reader, &mut hasher)?;
        Ok(hasher.finish())
    }

    /// Returns the digests of a file.
    pub fn of_file(path: &Path) -> Result<Self, PathError> {
        let mut file = fs::open(path)?;
        let mut buffer = vec![0; 1 << 17];
        let mut hasher = Hasher::default();
        loop {
            match file.read(&mut buffer).map_err(PathError::on("read", path))? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }
}

/// Computes [`Hashes`] while bytes pass by.
#[derive(Debug, Default, Clone)]
pub struct Hasher {
    size: u64,
    sha256: Sha256,
    sha512: Sha512,
    blake2b: Blake2b512,
    md5: Md5,
    sha1: Sha1,
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.blake2b.update(bytes);
        self.md5.update(bytes);
        self.sha1.update(bytes);
    }

    /// Returns the digests of what was taken.
    pub fn finish(self) -> Hashes {
        Hashes {
            size: self.size,
            sha256: Digest(self.sha256.finalize().into()),
            sha512: hex(&self.sha512.finalize()),
            blake2b: hex(&self.blake2b.finalize()),
            md5: hex(&self.md5.finalize()),
            sha1: hex(&self.sha1.finalize()),
        }
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the bytes that hexadecimal digits stand for; nothing where the text is not such.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// Some text is not a SHA-256 digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest (64 hexadecimal digits)")]
pub struct DigestError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_of_abc() {
        let h = Hashes::of(&b"abc"[..]).unwrap();
        assert_eq!(h.size, 3);
        assert_eq!(h.sha256.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(h.sha512.starts_with("ddaf35a193617aba"));
        assert!(h.blake2b.starts_with("ba80a53f981c4d0d"));
        assert_eq!(h.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(h.sha1, "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn a_digest_reads_with_and_without_its_prefix() {
        let digest = Digest::of("x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.hex().parse::<Digest>().unwrap(), digest);
        assert!("sha256:../../etc".parse::<Digest>().is_err());
    }
}
