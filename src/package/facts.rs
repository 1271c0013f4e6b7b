//! What is known of a package: everything an index needs, and what a reviewer may ask.

use std::str::FromStr;

use crate::atom::{BuildId, Cpv};
use crate::digest::Digest;

use super::contents::Summary;
use super::metadata::{BUILD_ID, BUILD_TIME, Metadata};
use super::offers::Offers;

/// What a package says of itself, in the words of Portage's metadata. Texts are one line, words separated by one space.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Category, name and version.
    pub cpv: Cpv,
    /// Which build of this version.
    pub build_id: BuildId,
    /// Seconds since 1970, see [`super`] for how it is chosen.
    pub build_time: u64,
    /// Content digest, see [`super::listing`].
    pub content: Digest,
    /// Slot and sub-slot.
    pub slot: String,
    /// EAPI.
    pub eapi: String,
    /// Name of the ebuild repository.
    pub repo: String,
    /// Flags that were on.
    #[serde(rename = "use")]
    pub use_: Vec<String>,
    /// Flags the ebuild knows, with their `+` and `-` defaults.
    pub iuse: Vec<String>,
    /// Keywords.
    pub keywords: Vec<String>,
    /// Licences, reduced by USE as all of the following.
    pub license: String,
    /// Build dependencies.
    pub depend: String,
    /// Build dependencies for the build host.
    pub bdepend: String,
    /// Dependencies to run.
    pub rdepend: String,
    /// Dependencies to install afterwards.
    pub pdepend: String,
    /// Dependencies to install with.
    pub idepend: String,
    /// `PROPERTIES`.
    pub properties: String,
    /// `RESTRICT`.
    pub restrict: String,
    /// Sonames of the libraries it installs, as Portage writes them: `x86_64: libfoo.so.1`.
    pub provides: String,
    /// Sonames that its programs need and it does not install itself.
    pub requires: String,
    /// Phases that its ebuild defines.
    pub defined_phases: Vec<String>,
    /// The machine it runs on.
    pub chost: String,
    /// One line of description.
    pub description: String,
    /// Bytes of all files, hard links counted once.
    pub size_installed: u64,
    /// Number of files, folders and links.
    pub entries: u64,
    /// Each ELF file.
    pub elf: Vec<Elf>,
    /// Each file that runs with other rights than its caller's.
    pub privileged: Vec<Privileged>,
    /// The output digest; records of earlier binderies have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offers: Option<Offers>,
}

/// A set-user-id or set-group-id file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privileged {
    /// Its path in the root.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What an ELF file needs and offers: one line of `NEEDED.ELF.2`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elf {
    /// Its path in the root.
    pub path: String,
    /// Machine, such as `X86_64`.
    pub machine: String,
    /// Its own soname, or empty.
    pub soname: String,
    /// Its RUNPATH or RPATH, or empty.
    pub runpath: String,
    /// The sonames it needs.
    pub needed: Vec<String>,
    /// Portage's multilib category, such as `x86_64`, or empty.
    pub multilib: String,
}

impl Facts {
    /// Returns the facts that metadata and image tell; build number and time are those of the metadata. Who does not ask
    /// what it offers has no `offers`.
    pub fn new(
        metadata: &Metadata,
        summary: &Summary,
        content: Digest,
        offers: Option<Offers>,
    ) -> Result<Self, FactsError> {
        let m = Values(metadata);
        let number = |key: &'static str| m.required(key)?.parse().map_err(|_| FactsError::Value(key));
        let cpv =
            Cpv::from_str(&format!("{}/{}", m.required("CATEGORY")?, m.required("PF")?)).map_err(FactsError::Name)?;
        let build_id = u32::try_from(number(BUILD_ID)?).map_err(|_| FactsError::Value(BUILD_ID))?;
        Ok(Self {
            cpv,
            build_id: BuildId(build_id),
            build_time: number(BUILD_TIME)?,
            content,
            slot: m.required("SLOT")?,
            eapi: m.required("EAPI")?,
            repo: m.required("repository")?,
            use_: m.words("USE")?,
            iuse: m.words("IUSE")?,
            keywords: m.words("KEYWORDS")?,
            license: m.line("LICENSE")?,
            depend: m.line("DEPEND")?,
            bdepend: m.line("BDEPEND")?,
            rdepend: m.line("RDEPEND")?,
            pdepend: m.line("PDEPEND")?,
            idepend: m.line("IDEPEND")?,
            properties: m.line("PROPERTIES")?,
            restrict: m.line("RESTRICT")?,
            provides: m.line("PROVIDES")?,
            requires: m.line("REQUIRES")?,
            defined_phases: m.words("DEFINED_PHASES")?,
            chost: m.line("CHOST")?,
            description: m.line("DESCRIPTION")?,
            size_installed: summary.size,
            entries: summary.entries,
            elf: m.elf()?,
            privileged: summary.privileged.clone(),
            offers,
        })
    }
}

struct Values<'a>(&'a Metadata);

impl Values<'_> {
    fn text(&self, key: &'static str) -> Result<&str, FactsError> {
        let text = std::str::from_utf8(self.0.get(key).map_or(&[], Vec::as_slice));
        let text = text.map_err(|_| FactsError::Value(key))?;
        let odd = text.contains(|c: char| c.is_control() && c != '\n' && c != '\t');
        if odd { Err(FactsError::Value(key)) } else { Ok(text) }
    }

    /// Returns a value as one line: it becomes a line of an index, where another one could pretend to be another key.
    fn line(&self, key: &'static str) -> Result<String, FactsError> {
        Ok(self.words(key)?.join(" "))
    }

    fn words(&self, key: &'static str) -> Result<Vec<String>, FactsError> {
        Ok(self.text(key)?.split_whitespace().map(str::to_string).collect())
    }

    fn required(&self, key: &'static str) -> Result<String, FactsError> {
        let line = self.line(key)?;
        if line.is_empty() || line.contains(' ') { Err(FactsError::Value(key)) } else { Ok(line) }
    }

    fn elf(&self) -> Result<Vec<Elf>, FactsError> {
        const KEY: &str = "NEEDED.ELF.2";
        let lines = self.text(KEY)?.lines().filter(|line| !line.is_empty());
        let parse = |line: &str| {
            let fields: Vec<&str> = line.split(';').collect();
            let [machine, path, soname, runpath, needed, rest @ ..] = fields.as_slice() else { return None };
            if rest.len() > 1 {
                return None;
            }
            Some(Elf {
                path: (*path).to_string(),
                machine: (*machine).to_string(),
                soname: (*soname).to_string(),
                runpath: (*runpath).to_string(),
                needed: needed.split(',').filter(|n| !n.is_empty()).map(str::to_string).collect(),
                multilib: rest.first().map_or_else(String::new, |m| (*m).to_string()),
            })
        };
        lines.map(|line| parse(line).ok_or(FactsError::Value(KEY))).collect()
    }
}

/// Metadata are not what an index can be made of.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Category, name or version are no names.
    #[error("the metadata name no package")]
    Name(#[source] crate::atom::NameError),
    /// A value is missing or malformed.
    #[error("the metadata's `{0}` is missing, or is not what it must be")]
    Value(&'static str),
}
