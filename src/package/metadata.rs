//! The metadata member: a tar of `metadata/KEY` files, what Portage knows of the package beside its files.
//!
//! Canonical form, so that two builds of the same inputs agree (each of these was seen to differ between two builds):
//!
//! * keys sorted; Portage's order is that of the folder they were in
//! * `environment.bz2`: variables that tell how the build ran, not what was built, are dropped ([`super::environment`])
//! * `FEATURES`: words sorted
//! * `NEEDED`, `NEEDED.ELF.2`: lines sorted; Portage's order is that of the image folder
//! * `REPO_REVISIONS`: dropped, it changes with every commit to the tree; the generation's statement says it
//! * `BUILD_ID`, `BUILD_TIME`: ours, see [`super`]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::archive::{Archive, ArchiveError, Writer};
use super::environment::{self, EnvironmentError};
use super::header::{Format, Header};

/// The most bytes that the metadata tar, and the unpacked environment, may have.
pub const LIMIT: u64 = 1 << 26;
/// The most keys: Portage knows about 60.
const KEYS: usize = 512;
const PREFIX: &str = "metadata/";

/// Which build of the version this is.
pub const BUILD_ID: &str = "BUILD_ID";
/// When it was built, for clients that compare.
pub const BUILD_TIME: &str = "BUILD_TIME";
/// The saved shell environment; without it clients refuse a package.
pub const ENVIRONMENT: &str = "environment.bz2";

/// Metadata by key.
pub type Metadata = BTreeMap<String, Vec<u8>>;

/// Reads a metadata tar. With `canonical`, the time all files must have; then they must also be sorted.
pub fn read(tar: impl Read, canonical: Option<u64>) -> Result<Metadata, MetadataError> {
    let mut archive = Archive::new(tar);
    let mut metadata = Metadata::new();
    while let Some(header) = archive.next()? {
        let key = std::str::from_utf8(&header.name).ok().and_then(|name| name.strip_prefix(PREFIX));
        let key = key.filter(|key| is_key(key)).ok_or_else(|| MetadataError::Key(escaped(&header.name)))?.to_string();
        let plain = Header { zero_devices: header.zero_devices, ..Header::file("", header.size, header.mtime) };
        if (Header { name: Vec::new(), ..header.clone() }) != plain {
            return Err(MetadataError::Odd(key));
        }
        if let Some(mtime) = canonical {
            let sorted = metadata.last_key_value().is_none_or(|(last, _)| *last < key);
            if header.mtime != mtime || header.zero_devices || !sorted {
                return Err(MetadataError::NotCanonical(key));
            }
        }
        if header.size > LIMIT || metadata.len() == KEYS {
            return Err(MetadataError::TooMuch);
        }
        let mut value = Vec::new();
        archive.read_to_end(&mut value).map_err(ArchiveError::Io)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(MetadataError::Twice(key));
        }
    }
    if archive.format() == Some(Format::Gnu) { Err(MetadataError::Gnu) } else { Ok(metadata) }
}

/// Returns the metadata in canonical form, without `BUILD_ID` and `BUILD_TIME`.
pub fn canonical(mut metadata: Metadata) -> Result<Metadata, MetadataError> {
    for key in [BUILD_ID, BUILD_TIME, "REPO_REVISIONS"] {
        metadata.remove(key);
    }
    for key in ["NEEDED", "NEEDED.ELF.2"] {
        if let Some(value) = metadata.get_mut(key) {
            let mut lines: Vec<&[u8]> = value.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
            lines.sort_unstable();
            *value = lines.into_iter().flat_map(|line| [line, b"\n"].concat()).collect();
        }
    }
    if let Some(value) = metadata.get_mut("FEATURES") {
        *value = [environment::sorted_words(value), b"\n".to_vec()].concat();
    }
    let packed = metadata.get(ENVIRONMENT).ok_or(MetadataError::Missing(ENVIRONMENT))?;
    let packed = environment::repack(packed, LIMIT)?;
    metadata.insert(ENVIRONMENT.to_string(), packed);
    Ok(metadata)
}

/// Writes a metadata tar whose files all have the time `mtime`.
pub fn write<W: Write>(metadata: &Metadata, mtime: u64, to: W) -> Result<W, ArchiveError> {
    let mut writer = Writer::new(to);
    for (key, value) in metadata {
        let header = Header::file(&format!("{PREFIX}{key}"), value.len() as u64, mtime);
        writer.entry(&header, &mut io::Cursor::new(value))?;
    }
    writer.finish()
}

/// Returns whether a text is a key: a plain file name that nothing could mistake for a path or an option.
fn is_key(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_+.-".contains(c))
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().take(200).map(|b| b.escape_ascii().to_string()).collect()
}

/// The metadata member is not as Portage or we write it.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It is not the tar archive it must be.
    #[error("the metadata are not a tar archive as it must be")]
    Archive(#[from] ArchiveError),
    /// A file's name is not `metadata/KEY`.
    #[error("the metadata hold `{0}`, which is no `metadata/KEY`")]
    Key(String),
    /// A file is no plain file of root's with mode 0644.
    #[error("the metadata's `{0}` is not a plain file of root's with mode 0644")]
    Odd(String),
    /// Two files have one name.
    #[error("the metadata hold `{0}` twice")]
    Twice(String),
    /// Too many files, or too long.
    #[error("the metadata hold more than is allowed ({KEYS} keys, {LIMIT} bytes)")]
    TooMuch,
    /// They are in GNU form, which Portage never uses for them.
    #[error("the metadata are in GNU tar's form, which Portage does not use for them")]
    Gnu,
    /// Not in the one form that we write.
    #[error("the metadata's `{0}` is not in canonical form")]
    NotCanonical(String),
    /// What every package has is missing.
    #[error("the metadata lack `{0}`")]
    Missing(&'static str),
    /// The environment cannot be read.
    #[error("the metadata's `environment.bz2` cannot be used")]
    Environment(#[from] EnvironmentError),
}

#[cfg(test)]
mod tests {
    use super::super::header::Kind;
    use super::*;

    fn tar(headers: &[Header]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for header in headers {
            writer.entry(header, &mut io::repeat(b'x').take(header.size)).unwrap();
        }
        writer.finish().unwrap()
    }

    fn file(name: &str) -> Header {
        Header::file(name, 3, 5)
    }

    fn refused(headers: &[Header]) -> String {
        read(&*tar(headers), None).unwrap_err().to_string()
    }

    #[test]
    fn metadata_come_back() {
        let metadata = Metadata::from([("SLOT".into(), b"0\n".to_vec()), ("a-1.ebuild".into(), b"x".to_vec())]);
        let tar = write(&metadata, 5, Vec::new()).unwrap();
        assert_eq!(read(&*tar, Some(5)).unwrap(), metadata);
        assert!(matches!(read(&*tar, Some(6)).unwrap_err(), MetadataError::NotCanonical(_)));
    }

    #[test]
    fn canonical_metadata_are_sorted() {
        let tar = tar(&[file("metadata/SLOT"), file("metadata/EAPI")]);
        assert!(read(&*tar, None).is_ok());
        assert!(matches!(read(&*tar, Some(5)).unwrap_err(), MetadataError::NotCanonical(_)));
    }

    #[test]
    fn names_other_than_metadata_key_are_refused() {
        for name in [
            "SLOT",
            "metadata/",
            "metadata/a/b",
            "metadata/..",
            "metadata/.x",
            "/metadata/x",
            "image/x",
            "metadata/-x",
            "metadata/a b",
            "./metadata/x",
            "metadata/ä",
        ] {
            assert!(refused(&[file(name)]).contains("no `metadata/KEY`"), "{name}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        assert_eq!(refused(&[file("metadata/USE"), file("metadata/USE")]), "the metadata hold `USE` twice");
    }

    #[test]
    fn anything_but_plain_files_of_roots_is_refused() {
        let plain = file("metadata/USE");
        for odd in [
            Header { kind: Kind::Folder, size: 0, ..plain.clone() },
            Header { kind: Kind::SymLink, size: 0, target: b"/etc/passwd".into(), ..plain.clone() },
            Header { kind: Kind::HardLink, size: 0, target: b"metadata/SLOT".into(), ..plain.clone() },
            Header { mode: 0o4755, ..plain.clone() },
            Header { uid: 1, ..plain.clone() },
            Header { owner: b"root".into(), ..plain.clone() },
        ] {
            assert!(refused(&[odd.clone()]).contains("not a plain file"), "{odd:?}");
        }
        assert!(refused(&[Header { format: Format::Gnu, ..plain }]).contains("not a plain file"));
    }

    #[test]
    fn too_many_keys_are_refused() {
        let many: Vec<Header> = (0..=KEYS).map(|n| file(&format!("metadata/K{n}"))).collect();
        assert!(refused(&many).contains("more than is allowed"));
    }

    #[test]
    fn what_differs_between_two_builds_is_put_in_order_or_dropped() {
        let metadata = |needed: &str, features: &str| {
            let environment = environment::pack(b"declare -x P=\"a-1\"\n").unwrap();
            Metadata::from([
                ("NEEDED".into(), needed.into()),
                ("FEATURES".into(), features.into()),
                (ENVIRONMENT.into(), environment),
                (BUILD_ID.into(), features.into()),
                (BUILD_TIME.into(), features.into()),
                ("REPO_REVISIONS".into(), features.into()),
            ])
        };
        let one = canonical(metadata("/b c\n/a d\n", "x  y\n")).unwrap();
        assert_eq!(one, canonical(metadata("/a d\n/b c\n", "y x x\n")).unwrap());
        assert_eq!(one.keys().collect::<Vec<_>>(), ["FEATURES", "NEEDED", ENVIRONMENT]);
        assert_eq!(one["FEATURES"], b"x y\n");
    }

    #[test]
    fn a_package_without_environment_is_refused() {
        assert!(matches!(canonical(Metadata::new()).unwrap_err(), MetadataError::Missing(ENVIRONMENT)));
    }
}
