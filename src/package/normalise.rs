//! From what a build left to the one canonical form. Runs confined, without network and keys, because every byte it
//! reads was written by a build; it works on two files and nothing else.
//!
//! 1. The outer layer ([`super::gpkg`]): exactly Portage's four members; its Manifest lists them with these digests.
//! 2. The metadata: read, checked, put in canonical form.
//! 3. The image, first time: checked entry by entry; this gives content digest and output digest.
//! 4. The build number: that of a known package with this content, or the next. A known one ends it here.
//! 5. The image, second time: written in canonical form into the new container, without ever being unpacked to disk.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::atom::{BuildId, Cpv};
use crate::digest::Digest;
use crate::fs::{self, File, PathError};
use crate::isa;

use super::archive::{ArchiveError, Writer};
use super::audited::audited;
use super::contents::{self, ContentsError};
use super::facts::{Facts, FactsError};
use super::gpkg::{self, Build, Container, GpkgError, IMAGE, MANIFEST, METADATA};
use super::header::{Format, Header};
use super::listing::Listing;
use super::manifest::{self, ManifestError};
use super::metadata::{self, BUILD_ID, BUILD_TIME, Metadata, MetadataError};
use super::offers::{Collector, Offers};
use super::stream::Compressed;

/// From how many bytes of files on Portage writes the outer layer in GNU form.
const PORTAGE_GNU: u64 = 8_000_000_000;

/// What is to be made canonical, and what decides its number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormaliseOptions {
    /// The unsigned package that Portage wrote, or one of ours.
    pub input: PathBuf,
    /// It is one of ours, canonical and signed: its signatures are not looked at, as that it is the right one is seen by
    /// its content digest.
    #[serde(default)]
    pub signed: bool,
    /// Where the canonical one goes; must not exist.
    pub output: PathBuf,
    /// The package it must be.
    pub cpv: Cpv,
    /// Seconds since 1970: later times in the package become this one.
    pub source_date: u64,
    /// Content digest and number of each package of this version that the pool has.
    pub known: Vec<(Digest, BuildId)>,
    /// The number for content that is not known.
    pub next: BuildId,
    /// What its programs may need of processors, where that is asked.
    #[serde(default)]
    pub audit: Option<isa::Wanted>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalised {
    /// What is known of the package, number and time included.
    pub facts: Facts,
    /// Whether the content is new. If not, the pool's package with `facts.build_id` has it, and no file was written.
    pub is_new: bool,
    /// What its programs need that they may not, where that was asked.
    #[serde(default)]
    pub audit: Option<isa::Report>,
}

/// Returns the `BUILD_TIME` of a package: the source date, and one second more for each earlier build of the version,
/// so that clients, which compare times and not numbers, take the latest.
pub fn build_time(source_date: u64, build_id: BuildId) -> Option<u64> {
    let time = source_date.checked_add(u64::from(build_id.0).checked_sub(1)?)?;
    // OpenPGP counts seconds in 32 bits.
    (time <= u64::from(u32::MAX)).then_some(time)
}

/// Makes one package canonical. On an error no output remains.
pub fn normalise(options: &NormaliseOptions) -> Result<Normalised, NormaliseError> {
    let mut input = Input::open(options)?;
    let mut audit = options.audit.as_ref().map(isa::Audit::new);
    let (metadata, summary, content, offers) = input.examine(audit.as_mut())?;
    let audit = audit.map(isa::Audit::finish);
    let known = options.known.iter().find(|(digest, _)| *digest == content);
    let build_id = known.map_or(options.next, |(_, build_id)| *build_id);
    let build_time = build_time(options.source_date, build_id).ok_or(NormaliseError::Time)?;
    let mut metadata = metadata;
    metadata.insert(BUILD_ID.to_string(), build_id.to_string().into_bytes());
    metadata.insert(BUILD_TIME.to_string(), format!("{build_time}\n").into_bytes());
    let facts = Facts::new(&metadata, &summary, content, Some(offers))?;
    if facts.cpv != options.cpv {
        return Err(NormaliseError::Other { expected: options.cpv.to_string(), found: facts.cpv.to_string() });
    }
    if known.is_some() {
        return Ok(Normalised { facts, is_new: false, audit });
    }
    let output = fs::create_new(&options.output, 0o644)?;
    if let Err(error) = input.write(&metadata, &summary, &facts, output) {
        // The first failure is the one to tell; a file that stays is the caller's temporary folder's business.
        let _ = fs::remove_file(&options.output);
        return Err(error);
    }
    Ok(Normalised { facts, is_new: true, audit })
}

/// The package as Portage wrote it.
struct Input<'a> {
    options: &'a NormaliseOptions,
    file: File,
    container: Container,
}

impl<'a> Input<'a> {
    fn open(options: &'a NormaliseOptions) -> Result<Self, NormaliseError> {
        let mut file = fs::open_regular(&options.input)?;
        let members: &[&str] = if options.signed { &gpkg::SIGNED } else { &gpkg::UNSIGNED };
        let container = gpkg::read(&mut file, members)?;
        if !options.signed {
            let manifest = container.require(MANIFEST)?.bytes(&mut file).map_err(ArchiveError::Io)?;
            manifest::check(&manifest, container.listed())?;
        }
        let pf = options.cpv.pf();
        let number = container.prefix.strip_prefix(&pf).and_then(|rest| rest.strip_prefix('-'));
        let digits = |text: &str| !text.is_empty() && text.len() < 10 && text.bytes().all(|b| b.is_ascii_digit());
        if container.prefix != pf && !number.is_some_and(digits) {
            return Err(NormaliseError::Prefix { expected: pf, found: container.prefix.escape_debug().collect() });
        }
        Ok(Self { options, file, container })
    }

    /// Reads everything once.
    fn examine(
        &mut self,
        mut audit: Option<&mut isa::Audit<'_>>,
    ) -> Result<(Metadata, contents::Summary, Digest, Offers), NormaliseError> {
        let source_date = self.options.source_date;
        let signed = self.options.signed;
        let canonical = signed.then_some(source_date);
        let metadata = metadata::read(self.container.unpack(METADATA, &mut self.file, metadata::LIMIT)?, canonical)?;
        let metadata = metadata::canonical(metadata)?;
        let mut listing = Listing::new(source_date, &metadata).map_err(MetadataError::from)?;
        let image = self.container.unpack(IMAGE, &mut self.file, contents::LIMIT)?;
        let mut offers = Collector::new(&metadata).map_err(MetadataError::from)?;
        let visit = &mut |entry: &Header, data: &mut dyn Read| match &mut audit {
            Some(audit) => audited(audit, entry, data, &mut |data| offers.entry(entry, data)),
            None => offers.entry(entry, data),
        };
        let summary = contents::walk(image, source_date, signed, &mut listing, visit)?;
        // Portage gives the metadata's outer header ustar form always, the image's that of the image itself.
        let outer = if summary.portage_size >= PORTAGE_GNU { Format::Gnu } else { Format::Ustar };
        if !signed && self.container.formats != [outer, Format::Ustar, summary.found, outer] {
            return Err(NormaliseError::Gnu);
        }
        Ok((metadata, summary, listing.finish(), offers.finish()))
    }

    /// Reads the image again and writes the canonical package.
    fn write(
        &mut self,
        metadata: &Metadata,
        summary: &contents::Summary,
        facts: &Facts,
        output: File,
    ) -> Result<(), NormaliseError> {
        let source_date = self.options.source_date;
        let mut build = Build::new(output, &prefix(facts), facts.build_time);
        build.member::<NormaliseError>(gpkg::FORMAT, |_| Ok(()))?;
        let tar = metadata::write(metadata, source_date, Vec::new())?;
        build.member::<NormaliseError>(METADATA, |to| {
            let mut stream = Compressed::new(to, tar.len() as u64).map_err(ArchiveError::Io)?;
            stream.write_all(&tar).and_then(|()| stream.finish().map(drop)).map_err(ArchiveError::Io)?;
            Ok(())
        })?;
        let mut listing = Listing::new(source_date, metadata).map_err(MetadataError::from)?;
        let image = self.container.unpack(IMAGE, &mut self.file, contents::LIMIT)?;
        build.member::<NormaliseError>(IMAGE, |to| {
            let stream = Compressed::new(to, summary.length).map_err(ArchiveError::Io)?;
            let mut writer = Writer::new(stream);
            contents::walk(image, source_date, self.options.signed, &mut listing, &mut |entry, data| {
                writer.entry(&Header { format: summary.format, ..entry.clone() }, data)
            })?;
            writer.finish()?.finish().map_err(ArchiveError::Io)?;
            Ok(())
        })?;
        if listing.finish() != facts.content {
            return Err(NormaliseError::Changed);
        }
        let manifest = manifest::write(build.members());
        build.member::<NormaliseError>(MANIFEST, |to| {
            to.write_all(manifest.as_bytes()).map_err(ArchiveError::Io)?;
            Ok(())
        })?;
        build.finish()?;
        Ok(())
    }
}

/// Returns the folder that a package's members are in, which is its file's name without the suffix.
pub fn prefix(facts: &Facts) -> String {
    format!("{}-{}", facts.cpv.pf(), facts.build_id)
}

/// Returns the result of a normalising process for `options`: JSON, written by a process that read hostile bytes, so it
/// is bounded and checked against what was asked for.
pub fn parse_result(json: &[u8], options: &NormaliseOptions) -> Result<Normalised, NormaliseError> {
    const LIMIT: usize = 1 << 28;
    if json.len() > LIMIT {
        return Err(NormaliseError::Result("it is too long".to_string()));
    }
    let result: Normalised = serde_json::from_slice(json).map_err(|e| NormaliseError::Result(e.to_string()))?;
    let facts = &result.facts;
    let known = options.known.iter().find(|(digest, _)| *digest == facts.content);
    let build_id = known.map_or(options.next, |(_, build_id)| *build_id);
    let consistent = facts.cpv == options.cpv
        && facts.build_id == build_id
        && result.is_new == known.is_none()
        && result.audit.is_some() == options.audit.is_some()
        && Some(facts.build_time) == build_time(options.source_date, build_id);
    if !consistent {
        return Err(NormaliseError::Result("it is not about what was asked".to_string()));
    }
    // Facts become lines of an index, where a newline could begin another field, and are shown on terminals.
    let value = serde_json::to_value(&result).map_err(|e| NormaliseError::Result(e.to_string()))?;
    if !plain(&value) {
        return Err(NormaliseError::Result("it holds control characters".to_string()));
    }
    Ok(result)
}

/// Returns whether no text in a JSON value holds control characters.
fn plain(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => !text.contains(char::is_control),
        serde_json::Value::Array(values) => values.iter().all(plain),
        serde_json::Value::Object(values) => values.values().all(plain),
        _ => true,
    }
}

/// Returns an error that names the file it is about, for people who read it outside.
pub fn refusal(file: &Path, source: NormaliseError) -> RefusedError {
    RefusedError { file: file.to_path_buf(), source }
}

/// A package was refused.
#[derive(Debug, thiserror::Error)]
#[error("the package `{}` is refused", file.display())]
pub struct RefusedError {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub source: NormaliseError,
}

/// A package cannot be made canonical.
#[derive(Debug, thiserror::Error)]
pub enum NormaliseError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The outer layer is wrong.
    #[error(transparent)]
    Gpkg(#[from] GpkgError),
    /// Reading or writing an archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The Manifest does not fit.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The metadata are wrong.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The metadata do not say what an index needs.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The image is wrong.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The folder in the container has another name than the package.
    #[error("its members are in the folder `{found}`, not in `{expected}` or `{expected}-NUMBER`")]
    Prefix {
        /// The package's name and version.
        expected: String,
        /// The folder.
        found: String,
    },
    /// The metadata are another package's.
    #[error("its metadata say that it is {found}, not {expected}")]
    Other {
        /// What it must be.
        expected: String,
        /// What it says it is.
        found: String,
    },
    /// The outer layer is in GNU form without need, or not although it must be.
    #[error(
        "its outer layer is in GNU tar's form, which Portage uses for 8 GB and more only, or is not although it is that long"
    )]
    Gnu,
    /// The file changed while it was read.
    #[error("it was changed while it was read")]
    Changed,
    /// The build time cannot be expressed.
    #[error("the source date or build number is out of range")]
    Time,
    /// A normalising process answered nonsense.
    #[error("the confined process's answer cannot be used: {0}")]
    Result(String),
}
