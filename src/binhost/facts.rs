//! What is known of a package from its own metadata.

use crate::atom::{BuildId, Cpv};
use crate::digest::Digest;

/// The facts of one package, as its metadata states them; dependencies are reduced to the USE flags it was built with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The package.
    pub cpv: Cpv,
    /// Which build of it.
    pub build_id: BuildId,
    /// Seconds since 1970.
    pub build_time: u64,
    /// `SLOT`, with the sub-slot where there is one.
    pub slot: String,
    /// `EAPI`.
    pub eapi: String,
    /// The ebuild repository.
    pub repo: String,
    /// `USE`: the flags it was built with.
    #[serde(rename = "use")]
    pub use_: String,
    /// `IUSE`.
    pub iuse: String,
    /// `KEYWORDS`.
    pub keywords: String,
    /// `LICENSE`.
    pub license: String,
    /// `DEPEND`.
    pub depend: String,
    /// `BDEPEND`.
    pub bdepend: String,
    /// `RDEPEND`.
    pub rdepend: String,
    /// `PDEPEND`.
    pub pdepend: String,
    /// `IDEPEND`.
    pub idepend: String,
    /// `PROPERTIES`.
    pub properties: String,
    /// `RESTRICT`.
    pub restrict: String,
    /// `PROVIDES`: shared libraries, by architecture.
    pub provides: String,
    /// `REQUIRES`: shared libraries, by architecture.
    pub requires: String,
    /// `DEFINED_PHASES`.
    pub defined_phases: String,
    /// `CHOST`.
    pub chost: String,
    /// `DESCRIPTION`.
    pub description: String,
    /// The digest of the content without signature and build number.
    pub content: Digest,
}

#[cfg(test)]
impl Facts {
    /// Returns facts for tests.
    pub(crate) fn example(cpv: &str, build_id: BuildId) -> Self {
        let text = String::new;
        Self {
            cpv: cpv.parse().unwrap(),
            build_id,
            build_time: 1_700_000_000,
            slot: "0".into(),
            eapi: "8".into(),
            repo: "demo".into(),
            use_: "amd64".into(),
            iuse: text(),
            keywords: "amd64".into(),
            license: "GPL-2".into(),
            depend: text(),
            bdepend: text(),
            rdepend: text(),
            pdepend: text(),
            idepend: text(),
            properties: text(),
            restrict: text(),
            provides: text(),
            requires: text(),
            defined_phases: "install".into(),
            chost: "x86_64-pc-linux-gnu".into(),
            description: "An example".into(),
            content: Digest::of(cpv),
        }
    }
}
