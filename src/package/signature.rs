//! OpenPGP signatures: detached and cleartext, armored, SHA-512, always the same bytes for the same input.
//!
//! Ed25519 needs no randomness, v4 signatures have no salt, and the time is given, so nothing differs between two runs.
//! Everything a signature says is in its signed area: RFC 9580 allows an unsigned area beside it, which anybody could
//! change. When verifying, exactly that one form is accepted, which leaves no second spelling of a good signature.

use std::io::Read;
use std::time::SystemTime;

use pgp::composed::{ArmorOptions, CleartextSignedMessage, Deserializable, DetachedSignature};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{Fingerprint, KeyDetails, Password, Timestamp};

use super::certificate::{Certificate, CertificateError};
use super::key::SecretKey;

/// The first line of a cleartext-signed text.
pub const CLEARTEXT: &str = "-----BEGIN PGP SIGNED MESSAGE-----\n";
/// How far a signer's clock may be ahead of ours, in seconds.
const CLOCKS: u64 = 86_400;
/// The longest text that is verified, in bytes.
const LIMIT: usize = 1 << 28;

impl SecretKey {
    /// Returns the time that a signature wanted for `time` gets: not before the key was made, because GnuPG refuses
    /// what a key signed before it existed.
    pub fn signature_time(&self, time: u64) -> u64 {
        time.max(self.created())
    }

    /// Returns a detached signature of what `data` yields, armored, made at `time` (seconds since 1970) or when the key
    /// was made, if that is later.
    pub fn detached(&self, mut data: impl Read, time: u64) -> Result<String, SignError> {
        let config = self.config(SignatureType::Binary, time)?;
        let mut hasher = config.into_hasher().map_err(SignError::from)?;
        std::io::copy(&mut data, &mut hasher).map_err(SignError::Read)?;
        let signature = hasher.sign(&self.0.primary_key, &Password::empty())?;
        Ok(DetachedSignature::new(signature).to_armored_string(ArmorOptions::default())?)
    }

    /// Returns a text with its cleartext signature, as `gpg --clear-sign` makes them. The text must end with a newline
    /// and have no line with a space or tab at its end: such are not covered by cleartext signatures.
    pub fn cleartext(&self, text: &str, time: u64) -> Result<String, SignError> {
        let text = plain(text).ok_or(SignError::Text)?;
        let config = self.config(SignatureType::Text, time)?;
        let message = CleartextSignedMessage::new(text, config, &self.0.primary_key, &Password::empty())?;
        Ok(message.to_armored_string(ArmorOptions::default())?)
    }

    fn config(&self, kind: SignatureType, time: u64) -> Result<SignatureConfig, SignError> {
        let time = u32::try_from(self.signature_time(time)).map_err(|_| SignError::Time(time))?;
        Ok(config(&self.0.primary_key, kind, Timestamp::from_secs(time))?)
    }
}

/// Returns all that a signature of ours says.
fn config(key: &impl KeyDetails, kind: SignatureType, time: Timestamp) -> Result<SignatureConfig, pgp::errors::Error> {
    let mut config = SignatureConfig::v4(kind, key.algorithm(), HashAlgorithm::Sha512);
    let said = [
        SubpacketData::IssuerFingerprint(key.fingerprint()),
        SubpacketData::SignatureCreationTime(time),
        SubpacketData::IssuerKeyId(key.legacy_key_id()),
    ];
    config.hashed_subpackets = said.into_iter().map(Subpacket::regular).collect::<Result<_, _>>()?;
    Ok(config)
}

/// Returns a text without its last newline where a cleartext signature covers all of it.
fn plain(text: &str) -> Option<&str> {
    let text = text.strip_suffix('\n')?;
    let covered = |line: &str| !line.ends_with([' ', '\t', '\r']);
    (text.len() < LIMIT && !text.contains('\r') && text.split('\n').all(covered)).then_some(text)
}

/// A signature that was found good.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Signed {
    /// Fingerprint of the key, 40 upper-case hexadecimal digits.
    pub fingerprint: String,
    /// When it was made, in seconds since 1970, as it says itself.
    pub time: u64,
}

/// Checks a detached signature of what `data` yields, made by one of `certificates`, at `now`.
pub fn verify_detached(
    certificates: &[Certificate],
    armored: &[u8],
    data: impl Read,
    now: SystemTime,
) -> Result<Signed, SignatureError> {
    let text = std::str::from_utf8(armored).map_err(|_| SignatureError::Form)?;
    let (found, _) = DetachedSignature::from_string_many(text).map_err(|_| SignatureError::Form)?;
    let found: Vec<DetachedSignature> = found.take(2).collect::<Result<_, _>>().map_err(|_| SignatureError::Form)?;
    let [found] = found.as_slice() else { return Err(SignatureError::number(found.len())) };
    let signer = signer(certificates, &found.signature, SignatureType::Binary, now)?;
    if found.to_armored_string(ArmorOptions::default()).ok().as_deref() != Some(text) {
        return Err(SignatureError::Form);
    }
    let (certificate, signed) = signer;
    found.signature.verify(&certificate.0, data).map_err(|_| SignatureError::Bad(signed.fingerprint.clone()))?;
    Ok(signed)
}

/// Checks a cleartext-signed text by one of `certificates`, at `now`, and returns the text.
pub fn verify_cleartext(
    certificates: &[Certificate],
    armored: &[u8],
    now: SystemTime,
) -> Result<(String, Signed), SignatureError> {
    let text = std::str::from_utf8(armored).ok().filter(|text| text.len() < LIMIT).ok_or(SignatureError::Form)?;
    if !text.starts_with(CLEARTEXT) {
        return Err(SignatureError::Missing);
    }
    let (message, _) = CleartextSignedMessage::from_string(text).map_err(|_| SignatureError::Form)?;
    let [signature] = message.signatures() else { return Err(SignatureError::number(message.signatures().len())) };
    let (certificate, signed) = signer(certificates, signature, SignatureType::Text, now)?;
    let content = message.signed_text().replace("\r\n", "\n") + "\n";
    let same = message.to_armored_string(ArmorOptions::default()).ok().as_deref() == Some(text);
    if !same || plain(&content).is_none() {
        return Err(SignatureError::Form);
    }
    message.verify(&certificate.0).map_err(|_| SignatureError::Bad(signed.fingerprint.clone()))?;
    Ok((content, signed))
}

/// Returns whose signature it claims to be, after checking that it is in our form and that the key may be believed.
fn signer<'a>(
    certificates: &'a [Certificate],
    signature: &Signature,
    kind: SignatureType,
    now: SystemTime,
) -> Result<(&'a Certificate, Signed), SignatureError> {
    let found = signature.config().ok_or(SignatureError::Form)?;
    let issuer: &Fingerprint = match signature.issuer_fingerprint().as_slice() {
        [issuer] => issuer,
        _ => return Err(SignatureError::Form),
    };
    let certificate = certificates.iter().find(|certificate| certificate.0.fingerprint() == *issuer);
    let certificate = certificate.ok_or_else(|| SignatureError::UnknownKey(format!("{issuer:X}")))?;
    certificate.check(now)?;
    if found.hash_alg != HashAlgorithm::Sha512 {
        return Err(SignatureError::Digest(found.hash_alg.to_string()));
    }
    let time = signature.created().ok_or(SignatureError::Form)?;
    // RSA and ECDSA signatures are not the same each time and can be respelled: not ours.
    let ours = matches!(certificate.0.algorithm(), PublicKeyAlgorithm::EdDSALegacy | PublicKeyAlgorithm::Ed25519);
    let expected = config(&certificate.0.primary_key, kind, time).map_err(|_| SignatureError::Form)?;
    if !ours || *found != expected {
        return Err(SignatureError::Form);
    }
    let seconds = u64::from(time.as_secs());
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds < certificate.created() || seconds > now.saturating_add(CLOCKS) {
        return Err(SignatureError::Time(seconds));
    }
    Ok((certificate, Signed { fingerprint: certificate.fingerprint(), time: seconds }))
}

/// A signature cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// What is to be signed cannot be read.
    #[error("cannot read what is to be signed")]
    Read(#[source] std::io::Error),
    /// A cleartext signature would not cover all of a text.
    #[error("the text to sign must end with a newline and have no space at a line's end")]
    Text,
    /// A time that OpenPGP cannot say.
    #[error("OpenPGP cannot express the time {0}")]
    Time(u64),
    /// The library failed.
    #[error("cannot sign")]
    OpenPgp(#[source] Box<pgp::errors::Error>),
}

impl From<pgp::errors::Error> for SignError {
    fn from(error: pgp::errors::Error) -> Self {
        Self::OpenPgp(Box::new(error))
    }
}

/// A signature is not good.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("it is not signed")]
    Missing,
    /// More than one: GnuPG accepts that only if it knows all the keys.
    #[error("it has several signatures, and clients accept just one")]
    Several,
    /// By a key that was not given.
    #[error("it is signed by the key {0}, which is not known")]
    UnknownKey(String),
    /// The content is not what was signed.
    #[error("its signature by the key {0} is BAD: it was changed after it was signed")]
    Bad(String),
    /// Another digest than SHA-512.
    #[error("it is signed with {0}, not with SHA512")]
    Digest(String),
    /// Made before the key or in the future.
    #[error("it was signed at a time ({0} seconds since 1970) before its key was made, or in the future")]
    Time(u64),
    /// Not in the one form that we write.
    #[error("its signature is not in the form that bindery writes")]
    Form,
    /// The key may not be believed.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl SignatureError {
    fn number(found: usize) -> Self {
        if found == 0 { Self::Missing } else { Self::Several }
    }
}

#[cfg(test)]
mod tests;
