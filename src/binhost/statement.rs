//! The statement of a generation: what is in it, since when and until when it is to be believed. Its signature is what
//! Portage's index lacks: a package's own signature says neither under which name nor in which index it belongs.
//!
//! `statement.json` is signed as it is, byte for byte, in `statement.json.asc` (detached, armored). Times are seconds
//! since 1970, digests `sha256:` and 64 hexadecimal digits.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Name;
use crate::binhost::path::PackagePath;
use crate::digest::Digest;

/// The version of the format that this program reads and writes.
pub const VERSION: u32 = 1;
/// The file's name in a generation.
pub const FILE: &str = "statement.json";
/// The name of its signature.
pub const SIGNATURE: &str = "statement.json.asc";
/// No statement comes near: 200 bytes a package.
pub const LIMIT: u64 = 64 << 20;

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Statement {
    /// Format version.
    pub version: u32,
    /// The profile.
    pub profile: Name,
    /// The generation's number. It only ever grows: a client that saw a higher one is being fed an old set.
    pub serial: u64,
    /// When it was published; also the index' TIMESTAMP.
    pub created: u64,
    /// After this a client should believe that it is kept from newer generations.
    pub valid_until: u64,
    /// Name and version of the program that published it.
    pub generator: String,
    /// The ebuild repositories the packages were built from.
    pub trees: Vec<Tree>,
    /// The image they were built in.
    pub image: Option<Digest>,
    /// The files that are not packages: index and key.
    pub files: BTreeMap<String, File>,
    /// The packages, sorted by path.
    pub packages: Vec<Package>,
}

/// An ebuild repository at one revision.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The repository's name.
    pub name: String,
    /// Its revision.
    pub revision: String,
}

/// Length and digest of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// In bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Digest,
}

impl File {
    /// Returns length and digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, sha256: Digest::of(bytes) }
    }
}

/// One package of a generation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Where it lies below the generation, and what it is.
    pub path: PackagePath,
    /// In bytes.
    pub size: u64,
    /// Of the signed file.
    pub sha256: Digest,
    /// Of its content, without signature and build number: what must be equal when rebuilt.
    pub content: Digest,
}

impl Statement {
    /// Returns the text that is signed.
    pub fn render(&self) -> String {
        serde_json::to_string_pretty(self).expect("a statement has only plain fields") + "\n"
    }

    /// Reads a statement. Whether its signature is good is the caller's question, to be asked first.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let Header { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(StatementError::Version(version));
        }
        let statement: Self = serde_json::from_slice(bytes)?;
        let mut seen = BTreeSet::new();
        for package in &statement.packages {
            if !seen.insert(&package.path) {
                return Err(StatementError::Twice(package.path.clone()));
            }
        }
        Ok(statement)
    }
}

#[derive(serde::Deserialize)]
struct Header {
    version: u32,
}

/// Some text is not a statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// It is not the JSON that it should be.
    #[error("not a statement: {0}")]
    Json(#[from] serde_json::Error),
    /// Another bindery wrote it.
    #[error("the statement says format {0}, this bindery reads {VERSION}")]
    Version(u32),
    /// A build is listed twice.
    #[error("the statement lists `{0}` twice")]
    Twice(PackagePath),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        let package = Package {
            path: "app-misc/hello/hello-2.10-1.gpkg.tar".parse().unwrap(),
            size: 5,
            sha256: Digest::of("x"),
            content: Digest::of("y"),
        };
        Statement {
            version: VERSION,
            profile: "amd64".parse().unwrap(),
            serial: 3,
            created: 1_795_230_797,
            valid_until: 1_797_822_797,
            generator: "bindery 0.1.0".into(),
            trees: vec![Tree { name: "demo".into(), revision: "1".into() }],
            image: None,
            files: [("Packages".to_string(), File::of(b"text"))].into(),
            packages: vec![package],
        }
    }

    #[test]
    fn a_statement_reads_back() {
        let text = statement().render();
        assert!(text.contains("\"valid-until\": 1797822797"), "{text}");
        assert_eq!(Statement::parse(text.as_bytes()).unwrap(), statement());
    }

    #[test]
    fn what_is_not_a_statement_is_refused() {
        let text = statement().render();
        for (from, to, error) in [
            ("\"version\": 1", "\"version\": 2", "says format 2, this bindery reads 1"),
            ("app-misc/hello/hello-2.10-1.gpkg.tar", "../../etc/x-1-1.gpkg.tar", "is not the path of a package"),
            ("\"serial\": 3", "\"serial\": -3", "invalid value"),
            ("\"serial\": 3", "\"serial\": 3, \"x\": 1", "unknown field `x`"),
            ("\"profile\": \"amd64\"", "\"profile\": \"..\"", "is not a name"),
            ("sha256:", "md5:", "is not a SHA-256 digest"),
        ] {
            let message = Statement::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
            assert!(message.contains(error), "{message}");
        }
        let mut twice = statement();
        twice.packages.push(twice.packages[0].clone());
        let message = Statement::parse(twice.render().as_bytes()).unwrap_err().to_string();
        assert_eq!(message, "the statement lists `app-misc/hello/hello-2.10-1.gpkg.tar` twice");
        assert!(Statement::parse(b"\xff").is_err());
    }
}
