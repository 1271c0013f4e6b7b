//! Signing keys: OpenPGP v4, Ed25519, one primary key that certifies and signs, because GnuPG 2.2 knows nothing newer.
//!
//! ```text
//! keys/NAME.asc      the secret key, armored, without a passphrase; mode 0600, refused when others may read it
//! keys/NAME.pub.asc  the certificate to hand out
//! ```
//!
//! Only host processes open these files, and no sandbox is ever given the folder. Keys do not expire: a strict client
//! refuses every package of an expired key, also those signed before.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pgp::composed::{ArmorOptions, Deserializable, KeyType, SignedKeyDetails, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    KeyFlags, PubKeyInner, PublicKey, SecretKey as SecretPacket, SignatureConfig, SignatureType, Subpacket,
    SubpacketData, UserId,
};
use pgp::types::{KeyDetails as _, KeyVersion, Password, SecretParams, SignedUser, Tag, Timestamp};
use rand::rngs::OsRng;

use crate::atom::Name;
use crate::fs::{self, PathError};

use super::certificate::{Certificate, CertificateError};

/// A key that can sign.
pub struct SecretKey(pub(super) SignedSecretKey);

impl SecretKey {
    /// Makes a new key. `created` is when it starts to be valid, `lifetime` for how many seconds (for ever without).
    pub fn generate(user_id: &str, created: SystemTime, lifetime: Option<u32>) -> Result<Self, KeyError> {
        let plain = !user_id.is_empty() && user_id.len() <= 200 && !user_id.contains(char::is_control);
        if !plain {
            return Err(KeyError::UserId);
        }
        let created = Timestamp::try_from(created).map_err(|_| KeyError::Time)?;
        Self::make(user_id, created, lifetime).map_err(|e| KeyError::Make(Box::new(e)))
    }

    fn make(user_id: &str, created: Timestamp, lifetime: Option<u32>) -> Result<Self, pgp::errors::Error> {
        // The old algorithm number: GnuPG 2.2 does not know RFC 9580's.
        let kind = KeyType::Ed25519Legacy;
        let (public, secret) = kind.generate(OsRng)?;
        let inner = PubKeyInner::new(KeyVersion::V4, kind.to_alg(), created, None, public)?;
        let key = SecretPacket::new(PublicKey::from_inner(inner)?, secret)?;
        let id = UserId::from_str(Default::default(), user_id)?;
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(true);
        let mut said = vec![
            SubpacketData::IssuerFingerprint(key.fingerprint()),
            SubpacketData::IssuerKeyId(key.legacy_key_id()),
            SubpacketData::SignatureCreationTime(created),
            SubpacketData::KeyFlags(flags),
            SubpacketData::PreferredHashAlgorithms([HashAlgorithm::Sha512].into_iter().collect()),
            SubpacketData::IsPrimary(true),
        ];
        said.extend(lifetime.map(|seconds| SubpacketData::KeyExpirationTime(pgp::types::Duration::from_secs(seconds))));
        let mut config = SignatureConfig::v4(SignatureType::CertPositive, key.algorithm(), HashAlgorithm::Sha512);
        config.hashed_subpackets = said.into_iter().map(Subpacket::regular).collect::<Result<_, _>>()?;
        let signature = config.sign_certification(&key, key.public_key(), &Password::empty(), Tag::UserId, &id)?;
        let details = SignedKeyDetails::new(vec![], vec![], vec![SignedUser::new(id, vec![signature])], vec![]);
        Ok(Self(SignedSecretKey::new(key, details, vec![], vec![])))
    }

    /// Returns when the key was made, in seconds since 1970: nothing it signs may be older.
    pub fn created(&self) -> u64 {
        self.0.primary_key.created_at().as_secs().into()
    }

    /// Returns the public part.
    pub fn certificate(&self) -> Certificate {
        Certificate::of(self.0.to_public_key())
    }

    fn armored(&self) -> Result<String, KeyError> {
        self.0.to_armored_string(ArmorOptions::default()).map_err(|e| KeyError::Make(Box::new(e)))
    }
}

impl fmt::Debug for SecretKey {
    /// Shows the fingerprint only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({:x})", self.0.fingerprint())
    }
}

/// Makes a key and writes it to `dir`; a key of that name must not exist.
pub fn new(dir: &Path, name: &Name, user_id: &str) -> Result<Certificate, KeyError> {
    if name.as_str().ends_with(".pub") {
        return Err(KeyError::Name(name.clone()));
    }
    let file = secret_file(dir, name);
    if file.symlink_metadata().is_ok() {
        return Err(KeyError::Exists { name: name.clone(), file });
    }
    let key = SecretKey::generate(user_id, SystemTime::now(), None)?;
    match fs::write_new(&file, key.armored()?, 0o600) {
        Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists { name: name.clone(), file });
        }
        other => other?,
    }
    let certificate = key.certificate();
    fs::write_atomic(&public_file(dir, name), certificate.armored(), 0o644)?;
    Ok(certificate)
}

/// Returns the names of the keys in a folder, sorted; none where there is no such folder.
pub fn list(dir: &Path) -> Result<Vec<Name>, KeyError> {
    let files = fs::read_dir_if_exists(dir)?;
    let name = |file: &PathBuf| file.file_name()?.to_str()?.strip_suffix(".asc")?.parse::<Name>().ok();
    Ok(files.iter().filter_map(name).filter(|name| !name.as_str().ends_with(".pub")).collect())
}

/// Returns the file of a key's secret part, which need not exist: what the signing process is told.
pub fn secret_file(dir: &Path, name: &Name) -> PathBuf {
    dir.join(format!("{name}.asc"))
}

/// Returns the file of a key's certificate.
pub fn public_file(dir: &Path, name: &Name) -> PathBuf {
    dir.join(format!("{name}.pub.asc"))
}

/// Loads a key by its name; an unknown one is an error that lists those there are.
pub fn load(dir: &Path, name: &Name) -> Result<SecretKey, KeyError> {
    let file = secret_file(dir, name);
    if file.symlink_metadata().is_ok() { load_file(&file) } else { Err(unknown(dir, name)?) }
}

/// Returns the file of a key's secret part, without reading it; an unknown one is an error that lists those there are, and
/// one that others may read is refused.
pub(super) fn find(dir: &Path, name: &Name) -> Result<PathBuf, KeyError> {
    let file = secret_file(dir, name);
    if file.symlink_metadata().is_err() {
        return Err(unknown(dir, name)?);
    }
    only_its_owners(&fs::metadata(&file)?, &file)?;
    Ok(file)
}

fn only_its_owners(found: &Metadata, file: &Path) -> Result<(), KeyError> {
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyError::Readable { file: file.to_path_buf(), mode }) }
}

/// Loads a key from its file, which nobody but its owner may be able to read.
pub fn load_file(file: &Path) -> Result<SecretKey, KeyError> {
    let damaged = |why: &str| KeyError::Damaged { file: file.to_path_buf(), why: why.to_string() };
    let open = fs::open(file)?;
    // Of the opened file, not of the path: it may have been replaced in between.
    only_its_owners(&open.metadata().map_err(PathError::on("look at", file))?, file)?;
    let mut text = String::new();
    let length = io::Read::read_to_string(&mut io::Read::take(open, 1 << 16), &mut text);
    length.map_err(PathError::on("read", file))?;
    let (key, _) = SignedSecretKey::from_string(&text).map_err(|e| damaged(&e.to_string()))?;
    key.verify_bindings().map_err(|e| damaged(&e.to_string()))?;
    if key.primary_key.version() != KeyVersion::V4 || !matches!(key.primary_key.secret_params(), SecretParams::Plain(_))
    {
        return Err(damaged("it must be an OpenPGP v4 key without a passphrase"));
    }
    Ok(SecretKey(key))
}

/// Returns a key's certificate; the file that is handed out is made again where it is missing.
pub fn public(dir: &Path, name: &Name) -> Result<Certificate, KeyError> {
    let file = public_file(dir, name);
    match fs::read_if_exists(&file)? {
        Some(text) => Certificate::parse(&text).map_err(|source| KeyError::Certificate { file, source }),
        None => {
            let certificate = load(dir, name)?.certificate();
            fs::write_atomic(&file, certificate.armored(), 0o644)?;
            Ok(certificate)
        }
    }
}

fn unknown(dir: &Path, name: &Name) -> Result<KeyError, KeyError> {
    let known: Vec<String> = list(dir)?.iter().map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() { "there is none".to_string() } else { format!("known: {}", known.join(", ")) };
    Ok(KeyError::Unknown { name: name.clone(), dir: dir.to_path_buf(), known })
}

/// A key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is one already.
    #[error("there is a key `{name}` already (`{}`); keys are never overwritten, choose another name", file.display())]
    Exists {
        /// Its name.
        name: Name,
        /// Its file.
        file: PathBuf,
    },
    /// A name that would clash with another key's certificate.
    #[error("`{0}` cannot name a key: names that end in `.pub` are for certificates")]
    Name(Name),
    /// No such key.
    #[error("there is no key `{name}` in `{}` ({known}); make one with `bindery key new {name}`", dir.display())]
    Unknown {
        /// Its name.
        name: Name,
        /// Where it was looked for.
        dir: PathBuf,
        /// Those there are.
        known: String,
    },
    /// Others can read it.
    #[error("others than its owner may read the secret key `{}` (mode {mode:04o}); run `chmod 600` on it, and make a new key if anybody may have", file.display())]
    Readable {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file is not what it must be.
    #[error("`{}` is not a secret key as bindery makes them: {why}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be read.
    #[error("cannot use the certificate `{}`", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
    /// A user id that OpenPGP tools would stumble over.
    #[error(
        "a key's user id must be a line of 1 to 200 characters, as `Packages of example.org <packages@example.org>`"
    )]
    UserId,
    /// A time that OpenPGP cannot say.
    #[error("the clock is wrong: OpenPGP cannot express the time it shows")]
    Time,
    /// Making it failed.
    #[error("cannot make a key")]
    Make(#[source] Box<pgp::errors::Error>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_new_key_is_found_again_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = new(dir.path(), &name("a"), "Packages <p@example.org>").unwrap();
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&secret_file(dir.path(), &name("a"))), 0o600);
        assert_eq!(mode(&public_file(dir.path(), &name("a"))), 0o644);
        assert_eq!(load(dir.path(), &name("a")).unwrap().certificate().fingerprint(), made.fingerprint());
        assert_eq!(public(dir.path(), &name("a")).unwrap().fingerprint(), made.fingerprint());
        assert_eq!(fs::read_dir(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_lost_certificate_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = new(dir.path(), &name("a"), "x").unwrap();
        let file = public_file(dir.path(), &name("a"));
        let before = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(public(dir.path(), &name("a")).unwrap().fingerprint(), made.fingerprint());
        assert_eq!(fs::read(&file).unwrap(), before);
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        new(dir.path(), &name("a"), "x").unwrap();
        let error = new(dir.path(), &name("a"), "x").unwrap_err().to_string();
        assert!(error.starts_with("there is a key `a` already"), "{error}");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        new(dir.path(), &name("a"), "x").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_mode(&secret_file(dir.path(), &name("a")), mode).unwrap();
            let error = load(dir.path(), &name("a")).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_lists_the_known_ones() {
        let dir = tempfile::tempdir().unwrap();
        let error = |key: &str| load(dir.path(), &name(key)).unwrap_err().to_string();
        assert!(error("b").contains("(there is none); make one with `bindery key new b`"), "{}", error("b"));
        new(dir.path(), &name("a"), "x").unwrap();
        new(dir.path(), &name("c.d"), "x").unwrap();
        assert!(error("b").contains("(known: `a`, `c.d`)"), "{}", error("b"));
    }

    #[test]
    fn a_damaged_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        new(dir.path(), &name("a"), "x").unwrap();
        let file = secret_file(dir.path(), &name("a"));
        let text = fs::read_to_string(&file).unwrap();
        for text in ["", "x", &text[..200], &text.replace("PRIVATE", "PUBLIC")] {
            fs::write(&file, text).unwrap();
            let error = load(dir.path(), &name("a")).unwrap_err().to_string();
            assert!(error.contains("is not a secret key"), "{error}");
        }
    }

    #[test]
    fn names_and_user_ids_that_would_do_harm_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(new(dir.path(), &name("a.pub"), "x").unwrap_err(), KeyError::Name(_)));
        for user_id in ["", "a\nb", "a\u{1b}[2J", &"x".repeat(201)] {
            assert!(matches!(new(dir.path(), &name("a"), user_id).unwrap_err(), KeyError::UserId));
        }
        assert!(fs::read_dir(dir.path()).unwrap().is_empty());
    }
}
