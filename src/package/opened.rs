//! Reads one of our packages again, for what is made from it: its metadata, then each entry of its image.
//!
//! Whoever reads knows from the pool which package it must be. At the end everything that was read is compared with
//! the content digest, number and time it must have; so a flipped byte is noticed wherever it is, and what was made
//! meanwhile must be thrown away. Signatures are not looked at: they say who made a package, the digest which one it is.

use std::io::{Read, Seek};

use crate::atom::{BuildId, Cpv};
use crate::digest::Digest;

use super::archive::ArchiveError;
use super::contents::{self, ContentsError, Visit};
use super::facts::{Facts, FactsError};
use super::gpkg::{self, Container, GpkgError, IMAGE, METADATA};
use super::listing::Listing;
use super::metadata::{self, Metadata, MetadataError};
use super::normalise;

/// Which package it must be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Category, name and version.
    pub cpv: Cpv,
    /// Which build of this version.
    pub build_id: BuildId,
    /// When it was built, in seconds since 1970.
    pub build_time: u64,
    /// Its content digest.
    pub content: Digest,
}

impl From<&Facts> for Identity {
    fn from(facts: &Facts) -> Self {
        let Facts { cpv, build_id, build_time, content, .. } = facts;
        Self { cpv: cpv.clone(), build_id: *build_id, build_time: *build_time, content: content.clone() }
    }
}

/// A signed package whose metadata are read.
#[derive(Debug)]
pub struct Opened<F> {
    file: F,
    container: Container,
    identity: Identity,
    source_date: u64,
    metadata: Metadata,
}

impl<F: Read + Seek> Opened<F> {
    /// Opens a package and reads its metadata, which are to be trusted only once [`Opened::walk`] has returned.
    pub fn open(mut file: F, identity: Identity) -> Result<Self, OpenError> {
        let container = gpkg::read(&mut file, &gpkg::SIGNED)?;
        let build = u64::from(identity.build_id.0);
        let source_date = build.checked_sub(1).and_then(|more| identity.build_time.checked_sub(more));
        let source_date = source_date.ok_or(OpenError::Other)?;
        let metadata = container.unpack(METADATA, &mut file, metadata::LIMIT)?;
        let metadata = metadata::read(metadata, Some(source_date))?;
        Ok(Self { file, container, identity, source_date, metadata })
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Shows each entry of the image, then checks that all that was read is the package it must be.
    pub fn walk(&mut self, visit: Visit<'_>) -> Result<Facts, OpenError> {
        let mut listing = Listing::new(self.source_date, &self.metadata).map_err(MetadataError::from)?;
        let image = self.container.unpack(IMAGE, &mut self.file, contents::LIMIT)?;
        let summary = contents::walk(image, self.source_date, true, &mut listing, visit)?;
        let facts = Facts::new(&self.metadata, &summary, listing.finish(), None)?;
        let same = Identity::from(&facts) == self.identity && normalise::prefix(&facts) == self.container.prefix;
        if same { Ok(facts) } else { Err(OpenError::Other) }
    }
}

/// A package cannot be read, or is not the one it must be.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The outer layer is wrong.
    #[error(transparent)]
    Gpkg(#[from] GpkgError),
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
    /// It is another package.
    #[error("it is not the package that its record names: content, number or time differ")]
    Other,
}
