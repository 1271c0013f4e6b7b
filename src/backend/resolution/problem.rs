//! What stands in the way of a plan, as data: what it is about, who wants it, what would have to be different.
//!
//! `text` says it in words, [`remedy`](super::remedy) what to change.

use std::collections::BTreeMap;

use super::{Line, Word};
use crate::atom::{Cpv, RootPath};

mod text;
pub(super) use text::flags;

/// How many problems an answer may name.
pub(super) const MOST: usize = 100;

/// USE flags, and whether they have to be on.
pub type Flags = BTreeMap<Word, bool>;

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Problem {
    /// Nothing satisfies an atom, and no single change of keywords, licences, masks or USE flags would help.
    Unsatisfied {
        /// Who wants it; the atom is the first link's.
        chain: Chain,
        /// The versions that the atom allows, newest first, and what is wrong with each.
        candidates: Vec<Candidate>,
        /// Versions of the same package that it does not allow.
        others: Vec<Version>,
    },
    /// A package is needed that the configuration masks.
    Masked {
        /// The package.
        cpv: Cpv,
        /// Everything that masks it.
        masks: Vec<Mask>,
        /// Who wants it.
        chain: Chain,
    },
    /// A package is needed with other USE flags.
    Use {
        /// The package.
        cpv: Cpv,
        /// The flags.
        changes: Flags,
        /// Who wants them so.
        chain: Chain,
    },
    /// A package is needed with a flag by some, and without it by others.
    UseConflict {
        /// The package.
        cpv: Cpv,
        /// The flags.
        flags: Vec<Word>,
        /// Who wants them how.
        chains: Vec<Chain>,
    },
    /// The flags of a package contradict its REQUIRED_USE.
    RequiredUse {
        /// The package.
        cpv: Cpv,
        /// What they have to fulfil.
        demand: Demand,
        /// Who wants it.
        chain: Chain,
    },
    /// Several versions want the same slot.
    Slot {
        /// The slot.
        slot: Line,
        /// The versions.
        packages: Vec<Wanted>,
        /// USE changes that would let all agree on one version, each a set of them.
        ways: Vec<Vec<FlagsOf>>,
    },
    /// Packages cannot be installed together.
    Blocker {
        /// What is blocked, with `!` (weak) or `!!` (strong) before it.
        atom: Line,
        /// The packages that block it.
        by: Vec<Wanted>,
        /// The packages that it means here.
        blocked: Vec<Wanted>,
    },
    /// Packages need each other before they can be built.
    Cycle {
        /// The packages, each needing the next, and the last the first.
        steps: Vec<Step>,
        /// USE changes, each of which would break it.
        ways: Vec<FlagsOf>,
        /// Who wants the first.
        chain: Chain,
    },
    /// Several packages have the name that was asked for.
    Ambiguous {
        /// What was asked for.
        atom: Line,
        /// The packages.
        names: Vec<Line>,
    },
    /// What was asked for is not an atom.
    Malformed {
        /// What was asked for.
        atom: Line,
    },
    /// An ebuild cannot even be read.
    Unreadable {
        /// The package.
        cpv: Cpv,
    },
    /// The Portage profile is not there.
    Profile {
        /// Where it was looked for.
        path: RootPath,
    },
    /// The package manager refused for another reason.
    Refused {
        /// What it said.
        message: String,
    },
}

/// Who wants something, and who wants that in turn, up to what was asked for.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Chain(Vec<Link>);

impl Chain {
    /// Returns the links, the nearest first.
    pub fn links(&self) -> &[Link] {
        &self.0
    }

    /// Returns the atom that the nearest wants.
    pub fn atom(&self) -> Option<&Line> {
        self.0.first().map(|link| &link.atom)
    }
}

/// One who wants something.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What is wanted, as the ebuild, the set or the user says it.
    pub atom: Line,
    /// The package that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpv: Option<Cpv>,
    /// The set that it is part of. Neither this nor a package: it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Word>,
    /// Flags of the package as they are, `-flag` for those that are off; were any one of them otherwise, it would not want
    /// it. None where others want the same.
    #[serde(default, rename = "use", skip_serializing_if = "Vec::is_empty")]
    pub use_flags: Vec<Word>,
    /// Whether the package is of the build side, in a cross build.
    #[serde(default, rename = "build-side", skip_serializing_if = "std::ops::Not::not")]
    pub build_side: bool,
}

/// A version that an atom allows.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Candidate {
    /// The version.
    pub cpv: Cpv,
    /// What masks it.
    pub masks: Vec<Mask>,
    /// Flags that the atom names and it does not have.
    #[serde(default)]
    pub lacks: Vec<Word>,
    /// Flags that have to be on and that a Portage profile masks.
    #[serde(default)]
    pub masked: Vec<Word>,
    /// Flags that have to be off and that a Portage profile forces.
    #[serde(default)]
    pub forced: Vec<Word>,
    /// Flags that have to be different.
    #[serde(default)]
    pub changes: Flags,
    /// What its flags would have to fulfil then.
    #[serde(default)]
    pub required_use: Option<Demand>,
    /// Flags of the one who wants it, with which that would take it as it is.
    #[serde(default)]
    pub parent: Flags,
}

/// A version and its slot.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The version.
    pub cpv: Cpv,
    /// Its slot, with `/` and its sub-slot where that has another name.
    pub slot: Word,
}

/// What a package's flags do not fulfil.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// The part of REQUIRED_USE.
    pub constraint: Line,
    /// All of REQUIRED_USE.
    pub all: Line,
    /// The smallest changes with which they would; none where there is none, or none was found in time.
    pub ways: Vec<Flags>,
}

/// A package with some of those who want it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The package.
    pub cpv: Cpv,
    /// Who wants it.
    pub chains: Vec<Chain>,
}

/// A package with flags.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagsOf {
    /// The package.
    pub cpv: Cpv,
    /// Its flags.
    pub changes: Flags,
}

/// One package of a cycle.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The package.
    pub cpv: Cpv,
    /// What it needs, which is the next.
    pub atom: Line,
    /// What for.
    pub kinds: Vec<super::Kind>,
    /// Its flags, as they are, without which it might not.
    #[serde(rename = "use")]
    pub use_flags: Vec<Word>,
}

/// Why a package is masked.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mask {
    /// Its keywords.
    Keyword {
        /// What would have to be accepted: `~amd64`, or `**` for any keyword or none.
        accept: Word,
        /// Those it has.
        keywords: Vec<Word>,
    },
    /// A `package.mask`.
    PackageMask {
        /// The file, where it was found.
        file: Option<RootPath>,
        /// The comment above it there.
        comment: Vec<Line>,
    },
    /// Its licence.
    License {
        /// Those that are not accepted.
        licenses: Vec<Word>,
    },
    /// Its EAPI, which the package manager does not know.
    Eapi {
        /// The EAPI.
        eapi: Line,
    },
    /// Its PROPERTIES.
    Properties {
        /// Those that are not accepted.
        words: Vec<Word>,
    },
    /// Its RESTRICT.
    Restrict {
        /// Those that are not accepted.
        words: Vec<Word>,
    },
    /// Its ebuild says something that cannot be.
    Invalid {
        /// What.
        message: Line,
    },
    /// Its ebuild cannot be read.
    Corrupt {
        /// What was said while it was tried.
        said: Vec<Line>,
    },
}
