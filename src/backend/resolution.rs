//! What a package manager's resolver answered: packages, what needs what, or what stands in the way.
//!
//! It comes from inside a sandbox where ebuilds have run. It is bounded and typed here; what it says about trees (which
//! ebuild, which eclasses) is believed only as far as the paths are where such files belong.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::{Cpv, Name, RootPath, text_type};
use crate::distfiles;
use crate::tree::{Dist, FileName};

pub mod problem;
pub mod remedy;
pub use problem::Problem;

/// The longest answer that is read: some 20,000 packages' worth.
const LIMIT: usize = 64 << 20;
/// The version of the format.
const VERSION: u32 = 1;

text_type! {
    /// A USE flag, a slot, a keyword, an EAPI, a feature: one word (PMS 3.1).
    Word, "a word (letters, digits and `+_.@~*/:-`; at most 256)", |text| {
        !text.is_empty()
            && text.len() <= 256
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+_.@~*/:-".contains(c))
    }
}

text_type! {
    /// A dependency specification, a licence, a mask's reason: one line.
    Line, "one line of at most 64 KiB", |text| text.len() <= 64 << 10 && !text.chars().any(char::is_control)
}

text_type! {
    /// The name of a variable.
    Variable, "the name of a variable", |text| {
        text.len() <= 256
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    version: u32,
    /// Whether `packages` is all that is needed.
    pub ok: bool,
    /// What stands in the way; empty exactly if `ok`.
    pub problems: Vec<Problem>,
    /// Which of them, by number, are about packages of the build side, in a cross build.
    #[serde(default)]
    pub of_build_side: BTreeSet<usize>,
    /// How many more such things there are.
    #[serde(default)]
    pub more: u32,
    /// The package manager's version.
    #[serde(default)]
    pub portage: Option<Line>,
    /// Every package that is needed, in an order in which they can be built and installed.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// Which package needs which.
    #[serde(default)]
    pub edges: Vec<Edge>,
    /// In a cross build, which package needs which of the build side, to be built; those are in no list of packages here.
    #[serde(default)]
    pub tools: Vec<Edge>,
    /// The variables that configuration files set for every package.
    #[serde(default)]
    pub env: BTreeMap<Variable, String>,
    /// Shell files of Portage profiles that every build reads.
    #[serde(default)]
    pub bashrcs: Vec<RootPath>,
    /// What the package manager said in its own words.
    #[serde(default)]
    pub said: String,
}

/// One package, as it would be built.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The package.
    pub cpv: Cpv,
    /// The tree it is from.
    pub repo: Name,
    /// Its ebuild's path in that tree: `CATEGORY/NAME/NAME-VERSION.ebuild`.
    pub ebuild: String,
    /// All eclasses it inherits.
    pub eclasses: Vec<Eclass>,
    /// Its EAPI.
    pub eapi: Word,
    /// Its slot, without sub-slot.
    pub slot: Word,
    /// Its sub-slot.
    pub sub_slot: Word,
    /// The flags it knows.
    pub iuse: BTreeSet<Word>,
    /// Those that are on.
    #[serde(rename = "use")]
    pub use_flags: BTreeSet<Word>,
    /// The keywords it has.
    pub keywords: Vec<Word>,
    /// What it depends on with these USE flags, by kind.
    pub depend: Depend,
    /// Its licence with these USE flags.
    pub license: Line,
    /// PROPERTIES with these USE flags.
    pub properties: Vec<Word>,
    /// RESTRICT with these USE flags.
    pub restrict: Vec<Word>,
    /// The source archives that these USE flags need.
    pub distfiles: Vec<Distfile>,
    /// FEATURES in effect.
    pub features: BTreeSet<Word>,
    /// Variables that differ from the resolution's.
    pub env: BTreeMap<Variable, String>,
    /// Variables of the resolution's that this package does not have.
    pub env_unset: BTreeSet<Variable>,
}

impl Package {
    /// Returns the source archives as they are fetched; nothing where the Manifest lacks something of one.
    pub fn sources(&self) -> Option<Vec<distfiles::Distfile>> {
        let restricts = |word: &str| self.restrict.iter().any(|known| known.as_str() == word);
        let restrict = distfiles::Restrict { fetch: restricts("fetch"), mirror: restricts("mirror") };
        let source = |file: &Distfile| {
            let dist = Dist::new(file.name.as_str(), file.size?, file.blake2b()?, file.sha512()?).ok()?;
            let uris = file.uris.iter().map(|uri| uri.as_str().to_string()).collect();
            Some(distfiles::Distfile { dist, uris, restrict })
        };
        self.distfiles.iter().map(source).collect()
    }
}

/// Dependency specifications.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Depend {
    /// Tools to build with.
    pub bdepend: Line,
    /// What is built against.
    pub depend: Line,
    /// What it needs to run.
    pub rdepend: Line,
    /// What it needs some time after it is merged.
    pub pdepend: Line,
    /// What it needs to be merged.
    pub idepend: Line,
}

/// An eclass and where it was found.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eclass {
    /// Its name.
    pub name: Word,
    /// Its file.
    pub path: RootPath,
}

/// A source archive.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distfile {
    /// Its name in the folder of distfiles.
    pub name: FileName,
    /// Where it can be had, as the ebuild says: `mirror://` is not expanded.
    pub uris: Vec<Line>,
    /// Its length, if the Manifest has it.
    pub size: Option<u64>,
    /// The Manifest's digests by their names there, hexadecimal.
    pub hashes: BTreeMap<Word, Word>,
}

impl Distfile {
    /// Returns the Manifest's BLAKE2B digest, hexadecimal.
    pub fn blake2b(&self) -> Option<&str> {
        self.hash("BLAKE2B")
    }

    /// Returns the Manifest's SHA512 digest, hexadecimal.
    pub fn sha512(&self) -> Option<&str> {
        self.hash("SHA512")
    }

    fn hash(&self, kind: &str) -> Option<&str> {
        self.hashes.iter().find(|(known, _)| known.as_str() == kind).map(|(_, hash)| hash.as_str())
    }
}

/// One package needs another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The one that needs.
    pub from: Cpv,
    /// The one that is needed.
    pub to: Cpv,
    /// What for.
    pub kinds: BTreeSet<Kind>,
}

/// What a package is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// To build: BDEPEND, DEPEND.
    Build,
    /// With `Build`: it is in DEPEND, and built against.
    Link,
    /// With `Build`: it is in BDEPEND, and its programs run. Where neither is said, it may be for both.
    Tool,
    /// To run or to be merged: RDEPEND, IDEPEND.
    Run,
    /// Some time after it is merged: PDEPEND.
    Post,
    /// With `Run`: to be merged, IDEPEND.
    Install,
}

impl Resolution {
    /// Reads the JSON that a resolver printed.
    pub fn parse(output: &[u8]) -> Result<Self, ResolutionError> {
        if output.len() > LIMIT {
            return Err(ResolutionError::TooLong(output.len()));
        }
        if output.iter().all(u8::is_ascii_whitespace) {
            return Err(ResolutionError::Empty);
        }
        let resolution: Self = serde_json::from_slice(output).map_err(ResolutionError::Json)?;
        resolution.check()?;
        Ok(resolution)
    }

    /// Returns the package of that name and version.
    pub fn package(&self, cpv: &Cpv) -> Option<&Package> {
        self.packages.iter().find(|package| package.cpv == *cpv)
    }

    fn check(&self) -> Result<(), ResolutionError> {
        let wrong = |what: String| Err(ResolutionError::Inconsistent(what));
        if self.version != VERSION {
            return wrong(format!("it has version {}, expected {VERSION}", self.version));
        }
        if self.problems.len() > problem::MOST {
            return wrong(format!("it names {} problems, more than it may", self.problems.len()));
        }
        if self.ok != self.problems.is_empty() || (self.ok && self.env.is_empty()) {
            return wrong("it says neither what is needed nor what stands in the way".to_string());
        }
        let known: BTreeSet<&Cpv> = self.packages.iter().map(|package| &package.cpv).collect();
        if known.len() != self.packages.len() {
            return wrong("a package is named twice".to_string());
        }
        for package in &self.packages {
            let cpv = &package.cpv;
            if package.ebuild != format!("{}/{}.ebuild", cpv.cp(), cpv.pf()) {
                return wrong(format!("`{cpv}` is not from `{}`", package.ebuild.escape_debug()));
            }
            for Eclass { name, path } in &package.eclasses {
                if !path.as_path().ends_with(format!("eclass/{name}.eclass")) {
                    return wrong(format!("`{cpv}` inherits `{name}` from `{path}`"));
                }
            }
            let hexadecimal = |hash: &Word| hash.as_str().bytes().all(|b| b.is_ascii_hexdigit());
            if let Some(file) = package.distfiles.iter().find(|file| !file.hashes.values().all(hexadecimal)) {
                return wrong(format!("a digest of `{}` is none", file.name));
            }
        }
        match self.edges.iter().find(|edge| !known.contains(&edge.from) || !known.contains(&edge.to)) {
            Some(edge) => wrong(format!("`{}` needs `{}`, and one of them is unknown", edge.from, edge.to)),
            None => Ok(()),
        }?;
        match self.tools.iter().find(|edge| !known.contains(&edge.from)) {
            Some(edge) => wrong(format!("`{}` needs a tool, and is unknown", edge.from)),
            None => Ok(()),
        }
    }
}

/// A resolver's answer is not one.
#[derive(Debug, thiserror::Error)]
pub enum ResolutionError {
    /// There is none.
    #[error("the package manager's resolver printed no answer")]
    Empty,
    /// It is too long to be one.
    #[error("the package manager's resolver answered with {0} bytes, more than any plan takes")]
    TooLong(usize),
    /// It is not the JSON that is expected.
    #[error("the package manager's resolver answered something else than a plan")]
    Json(#[source] serde_json::Error),
    /// It contradicts itself.
    #[error("the package manager's resolver gave a plan that cannot be: {0}")]
    Inconsistent(String),
}

#[cfg(test)]
mod tests;
