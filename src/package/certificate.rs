//! Certificates: the public part of a key, and whether it may be believed today.

use std::time::SystemTime;

use pgp::composed::{ArmorOptions, Deserializable, SignedPublicKey};
use pgp::types::{KeyDetails as _, KeyVersion};

/// The longest certificate that is read, in bytes: ours have 500.
const LIMIT: usize = 1 << 20;

/// A public key with its user ids, whose self-signatures were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate(pub(super) SignedPublicKey);

impl Certificate {
    /// Reads an armored certificate.
    pub fn parse(text: &str) -> Result<Self, CertificateError> {
        if text.len() > LIMIT {
            return Err(CertificateError::Long);
        }
        let malformed = |e| CertificateError::Malformed(Box::new(e));
        let (mut keys, _) = SignedPublicKey::from_string_many(text).map_err(malformed)?;
        let key = keys.next().ok_or(CertificateError::Number)?.map_err(malformed)?;
        if keys.next().is_some() {
            return Err(CertificateError::Number);
        }
        key.verify_bindings().map_err(malformed)?;
        if key.version() == KeyVersion::V4 { Ok(Self(key)) } else { Err(CertificateError::Version) }
    }

    /// Returns the public part of a key that was made or checked here.
    pub(super) fn of(key: SignedPublicKey) -> Self {
        Self(key)
    }

    /// Returns the certificate as text to hand out.
    pub fn armored(&self) -> String {
        self.0.to_armored_string(ArmorOptions::default()).expect("what was parsed or made can be written to memory")
    }

    /// Returns the fingerprint: 40 upper-case hexadecimal digits, as GnuPG shows it.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.0.fingerprint())
    }

    /// Returns the user ids.
    pub fn user_ids(&self) -> Vec<String> {
        let ids = self.0.details.users.iter();
        ids.map(|user| String::from_utf8_lossy(user.id.id()).into_owned()).collect()
    }

    /// Returns when the key was made, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.0.created_at().as_secs().into()
    }

    /// Returns when the key stops to be valid, in seconds since 1970; nothing when never.
    pub fn expires(&self) -> Option<u64> {
        let details = &self.0.details;
        let signatures = details.users.iter().flat_map(|user| &user.signatures).chain(&details.direct_signatures);
        // The newest self-signature has the say (RFC 9580, 5.2.3.10).
        let newest = signatures.max_by_key(|signature| signature.created())?;
        let lifetime = u64::from(newest.key_expiration_time()?.as_secs());
        (lifetime > 0).then(|| self.created() + lifetime)
    }

    /// Checks that the key may be believed at `now`: not revoked, not expired.
    pub fn check(&self, now: SystemTime) -> Result<(), CertificateError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !self.0.details.revocation_signatures.is_empty() {
            return Err(CertificateError::Revoked(self.fingerprint()));
        }
        match self.expires() {
            Some(end) if end <= now => Err(CertificateError::Expired(self.fingerprint())),
            _ => Ok(()),
        }
    }
}

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It does not parse, or its own signatures are wrong.
    #[error("it is not an armored OpenPGP certificate with good self-signatures")]
    Malformed(#[source] Box<pgp::errors::Error>),
    /// Not exactly one.
    #[error("it must hold exactly one certificate")]
    Number,
    /// Too long.
    #[error("it has more than {LIMIT} bytes")]
    Long,
    /// Not version 4.
    #[error("it is not an OpenPGP v4 certificate, the version all clients know")]
    Version,
    /// The key was revoked.
    #[error("the key {0} was revoked")]
    Revoked(String),
    /// The key expired.
    #[error("the key {0} has expired")]
    Expired(String),
}
