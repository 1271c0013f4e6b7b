//! Locks: exactly what an image was made of, and what came out.
//!
//! A lock is TOML, one line for each file, sorted, without any time or path, so that two locks compare with diff(1).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::definition::{Wheel, Word};
use crate::atom::Name;
use crate::digest::Digest;
use crate::fs::{self, PathError};

/// The versions of the format that are read.
const VERSION: u32 = 1;

/// What an image was made of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    version: u32,
    /// The image.
    pub image: Name,
    /// The digest of its definition.
    pub definition: Digest,
    /// What came out: the OCI manifest.
    pub manifest: Digest,
    /// What came out: each layer, uncompressed.
    pub layers: Vec<Digest>,
    /// Every Debian package.
    #[serde(default, rename = "deb")]
    pub debs: Vec<Deb>,
    /// Every Python package.
    #[serde(default, rename = "wheel")]
    pub wheels: Vec<Wheel>,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deb {
    /// Its name.
    pub name: Word,
    /// Its version.
    pub version: Word,
    /// Its architecture, which may be `all`.
    pub architecture: Word,
    /// Of its file.
    pub sha256: Digest,
}

impl Lock {
    /// Returns the lock of an image; packages get sorted.
    pub fn new(
        image: Name,
        definition: Digest,
        manifest: Digest,
        layers: Vec<Digest>,
        debs: &[Deb],
        wheels: &[Wheel],
    ) -> Self {
        let debs = debs.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let wheels = wheels.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        Self { version: VERSION, image, definition, manifest, layers, debs, wheels }
    }

    /// Reads a lock's file; nothing where there is none.
    pub fn load(file: &Path) -> Result<Option<Self>, LockError> {
        let Some(text) = fs::read_if_exists(file)? else { return Ok(None) };
        let damaged = |source| LockError::Parse { file: file.to_path_buf(), source };
        let lock: Self = toml::from_str(&text).map_err(|e| damaged(Box::new(e)))?;
        if lock.version != VERSION {
            return Err(LockError::Version { file: file.to_path_buf(), found: lock.version });
        }
        Ok(Some(lock))
    }

    /// Writes the lock's file.
    pub fn save(&self, file: &Path) -> Result<(), PathError> {
        fs::write_atomic(file, self.to_toml(), 0o644)
    }

    /// Returns the lock's text.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("# What an image was made of; `bindery image make --locked` makes it again.\n\n");
        let layers = self.layers.iter().map(|digest| format!("\"{digest}\"")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            text,
            "version = {VERSION}\nimage = \"{}\"\ndefinition = \"{}\"\nmanifest = \"{}\"\nlayers = [{layers}]\n\ndeb = [",
            self.image, self.definition, self.manifest
        );
        for Deb { name, version, architecture, sha256 } in &self.debs {
            let _ = writeln!(
                text,
                "    {{ name = \"{name}\", version = \"{version}\", architecture = \"{architecture}\", sha256 = \"{}\" }},",
                sha256.hex()
            );
        }
        text.push_str("]\n\nwheel = [\n");
        for Wheel { name, version, sha256 } in &self.wheels {
            let hex = sha256.hex();
            let _ = writeln!(text, "    {{ name = \"{name}\", version = \"{version}\", sha256 = \"{hex}\" }},");
        }
        text.push_str("]\n");
        text
    }
}

/// A lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It does not parse.
    #[error("the lock `{}` is wrong: {source}", file.display())]
    Parse {
        /// Which.
        file: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// Another bindery wrote it.
    #[error("the lock `{}` says version {found}, this bindery reads {VERSION}; make the image without --locked", file.display())]
    Version {
        /// Which.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deb(name: &str, version: &str) -> Deb {
        let word = |text: &str| Word::try_from(text.to_string()).unwrap();
        Deb { name: word(name), version: word(version), architecture: word("amd64"), sha256: Digest::of(name) }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written_and_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.lock");
        assert_eq!(Lock::load(&file).unwrap(), None);
        let debs = [deb("zlib1g", "1:1.3.dfsg+really1.3.1-1+b1"), deb("base-files", "13.8~x")];
        let wheel = Wheel {
            name: Word::try_from("portage".to_string()).unwrap(),
            version: Word::try_from("3.0.83".to_string()).unwrap(),
            sha256: Digest::of("w"),
        };
        let name: Name = "x".parse().unwrap();
        let lock = Lock::new(name, Digest::of("d"), Digest::of("m"), vec![Digest::of("l")], &debs, &[wheel]);
        lock.save(&file).unwrap();
        assert_eq!(Lock::load(&file).unwrap(), Some(lock.clone()));
        assert_eq!(lock.debs[0].name.as_str(), "base-files");
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("zlib1g")).count(), 1);
    }

    #[test]
    fn a_damaged_lock_and_a_newer_one_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.lock");
        fs::write(&file, "version = 1\nimage = 3\n").unwrap();
        assert!(Lock::load(&file).unwrap_err().to_string().contains("x.lock` is wrong"));
        let lock = Lock::new("x".parse().unwrap(), Digest::of("d"), Digest::of("m"), vec![], &[], &[]);
        fs::write(&file, lock.to_toml().replace("version = 1", "version = 9")).unwrap();
        assert!(Lock::load(&file).unwrap_err().to_string().contains("says version 9, this bindery reads 1"));
    }
}
