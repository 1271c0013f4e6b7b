//! Verifies one of our signed packages, strictly; anything else is refused, also much that Portage accepts.
//!
//! 1. The outer layer: exactly the six members in their one form.
//! 2. The Manifest's signature; then that it lists the others with the digests they have.
//! 3. The signatures of metadata and image, by the same key and with the one time that follows from `BUILD_TIME`.
//! 4. Only then anything is decompressed: metadata and image must be in canonical form, and name, number and time in
//!    the signed metadata those of the unsigned outer layer.

use std::io::{Read, Seek};
use std::path::Path;
use std::time::SystemTime;

use crate::atom::BuildId;
use crate::fs::{self, PathError};

use super::archive::ArchiveError;
use super::certificate::Certificate;
use super::contents::{self, ContentsError};
use super::facts::{Facts, FactsError};
use super::gpkg::{self, Container, GpkgError, IMAGE, IMAGE_SIG, MANIFEST, METADATA, METADATA_SIG};
use super::listing::Listing;
use super::manifest::{self, ManifestError};
use super::metadata::{self, MetadataError};
use super::normalise;
use super::offers::Collector;
use super::signature::{self, SignatureError, Signed};

/// A package whose signatures are good and whose form is ours.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verified {
    /// What the package says of itself. That it is the package that was wanted is for the caller to compare.
    pub facts: Facts,
    /// By which key, and when.
    pub signed: Signed,
}

/// Verifies a package file: signed by one of `certificates`, which must be valid at `now`.
pub fn verify(file: &Path, certificates: &[Certificate], now: SystemTime) -> Result<Verified, VerifyError> {
    verify_from(&mut fs::open(file)?, certificates, now)
}

/// Verifies a package in an open file.
pub(super) fn verify_from(
    file: &mut (impl Read + Seek),
    certificates: &[Certificate],
    now: SystemTime,
) -> Result<Verified, VerifyError> {
    let container = gpkg::read(file, &gpkg::SIGNED).map_err(|error| match error {
        GpkgError::Member { expected, .. } if expected.ends_with(".sig") => VerifyError::Unsigned(expected),
        other => other.into(),
    })?;
    let signed = signatures(file, &container, certificates, now)?;
    let build_time = container.canonical_mtime()?;
    let facts = content(file, &container, build_time)?;
    let certificate = certificates.iter().find(|certificate| certificate.fingerprint() == signed.fingerprint);
    if certificate.is_none_or(|certificate| signed.time != build_time.max(certificate.created())) {
        return Err(VerifyError::Time);
    }
    Ok(Verified { facts, signed })
}

/// Checks all three signatures and that the Manifest describes the rest.
fn signatures(
    file: &mut (impl Read + Seek),
    container: &Container,
    certificates: &[Certificate],
    now: SystemTime,
) -> Result<Signed, VerifyError> {
    let at = |name: &'static str| {
        move |source| match source {
            SignatureError::Missing => VerifyError::Unsigned(name.to_string()),
            source => VerifyError::Signature { name, source },
        }
    };
    let manifest = container.require(MANIFEST)?.bytes(file).map_err(ArchiveError::Io)?;
    let (text, signed) = signature::verify_cleartext(certificates, &manifest, now).map_err(at(MANIFEST))?;
    manifest::check(text.as_bytes(), container.listed())?;
    if text != manifest::write(container.listed()) {
        return Err(GpkgError::NotCanonical.into());
    }
    for (name, sig) in [(METADATA, METADATA_SIG), (IMAGE, IMAGE_SIG)] {
        let armored = container.require(sig)?.bytes(file).map_err(ArchiveError::Io)?;
        let data = container.require(name)?.open(file).map_err(ArchiveError::Io)?;
        let found = signature::verify_detached(certificates, &armored, data, now).map_err(at(name))?;
        if found != signed {
            return Err(VerifyError::Signers);
        }
    }
    Ok(signed)
}

/// Reads what was signed.
fn content(file: &mut (impl Read + Seek), container: &Container, build_time: u64) -> Result<Facts, VerifyError> {
    let number = container.prefix.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    let build_id = BuildId(number.ok_or(VerifyError::Name)?);
    let source_date = u64::from(build_id.0).checked_sub(1).and_then(|more| build_time.checked_sub(more));
    let source_date = source_date.ok_or(VerifyError::Name)?;
    let metadata = metadata::read(container.unpack(METADATA, file, metadata::LIMIT)?, Some(source_date))?;
    let mut listing = Listing::new(source_date, &metadata).map_err(MetadataError::from)?;
    let mut offers = Collector::new(&metadata).map_err(MetadataError::from)?;
    let image = container.unpack(IMAGE, file, contents::LIMIT)?;
    let summary = contents::walk(image, source_date, true, &mut listing, &mut |entry, data| offers.entry(entry, data))?;
    let facts = Facts::new(&metadata, &summary, listing.finish(), Some(offers.finish()))?;
    let same =
        facts.build_id == build_id && facts.build_time == build_time && normalise::prefix(&facts) == container.prefix;
    if same { Ok(facts) } else { Err(VerifyError::Name) }
}

/// A package file is not one of ours, or not as it was signed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It, or a part of it, is not signed.
    #[error("it is not signed: `{0}` is missing or has no signature")]
    Unsigned(String),
    /// A signature is not good.
    #[error("the signature of its `{name}` is refused: {source}")]
    Signature {
        /// Of which member.
        name: &'static str,
        /// Why.
        source: SignatureError,
    },
    /// Different keys or times.
    #[error("its members were not signed together: keys or times differ")]
    Signers,
    /// The signature's time is not the one that follows from the build time.
    #[error("its signatures' time is not the one that follows from its build time")]
    Time,
    /// The outer layer is wrong.
    #[error(transparent)]
    Gpkg(#[from] GpkgError),
    /// The Manifest does not fit.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Reading failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The metadata are not ours.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The metadata do not say what an index needs.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The image is not ours.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The outer layer names another package, number or time than the signed metadata.
    #[error("name, build number or build time outside differ from those in the signed metadata: it was renamed")]
    Name,
}
