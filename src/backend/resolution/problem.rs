//! What stands in the way of a plan, and what to change about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Line, Word};
use crate::atom::{Cpv, RootPath};

/// One thing that stands in the way. Shown, it says what to change.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Problem {
    /// Nothing satisfies an atom.
    Unsatisfied {
        /// The atom.
        atom: Line,
        /// The package that depends on it; nothing where it was asked for.
        wanted_by: Option<Cpv>,
        /// The versions that would, if something were different.
        candidates: Vec<Candidate>,
    },
    /// A package is needed with other USE flags.
    Use {
        /// The package.
        cpv: Cpv,
        /// The flags, and whether they have to be on.
        changes: BTreeMap<Word, bool>,
    },
    /// Two versions want the same slot.
    Slot {
        /// The slot.
        slot: Line,
        /// The versions.
        cpvs: Vec<Cpv>,
    },
    /// A package cannot be installed together with another.
    Blocker {
        /// What it blocks.
        atom: Line,
        /// The packages that block it.
        cpvs: Vec<Cpv>,
    },
    /// Packages need each other before they can be built.
    Cycle {
        /// The packages, each needing the next.
        cpvs: Vec<Cpv>,
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

/// A version that satisfies an atom but for some reason.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The version.
    pub cpv: Cpv,
    /// Why it is masked, in the package manager's words.
    pub masks: Vec<Line>,
    /// The flags it knows.
    pub iuse: BTreeSet<Word>,
    /// What its flags have to fulfil.
    pub required_use: Line,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsatisfied { atom, wanted_by, candidates } => unsatisfied(f, atom, wanted_by.as_ref(), candidates),
            Self::Use { cpv, changes } => {
                let flags: Vec<String> =
                    changes.iter().map(|(flag, on)| if *on { flag.to_string() } else { format!("-{flag}") }).collect();
                write!(f, "`{cpv}` is needed with USE=`{0}`: add `={cpv} {0}` to `package.use`", flags.join(" "))
            }
            Self::Slot { slot, cpvs } => {
                write!(f, "only one version of `{slot}` can be installed, and {} are needed", list(cpvs, " and "))
            }
            Self::Blocker { atom, cpvs } => {
                let atom = atom.as_str().trim_start_matches('!');
                write!(f, "{} cannot be installed together with `{atom}`: leave one of them out", list(cpvs, ", "))
            }
            Self::Cycle { cpvs } => {
                let cycle = list(cpvs, " needs ");
                let first = cpvs.first().map(|cpv| format!(" needs `{cpv}`")).unwrap_or_default();
                write!(
                    f,
                    "packages need each other before they can be built: {cycle}{first}; switch off a USE flag of one"
                )
            }
            Self::Unreadable { cpv } => write!(f, "the ebuild of `{cpv}` cannot be read by the package manager"),
            Self::Profile { path } => write!(
                f,
                "there is no Portage profile at `{path}`; `portage-profile` has to name a folder below `profiles/` of \
                 a tree"
            ),
            Self::Refused { message } => {
                let line: Vec<&str> = message.split_whitespace().collect();
                let text: String = line.join(" ").chars().filter(|c| !c.is_control()).take(500).collect();
                write!(f, "the package manager refused: {}", text.trim_start_matches("!!! "))
            }
        }
    }
}

/// Says why none of the candidates will do, by the first of them, which is the newest.
fn unsatisfied(
    f: &mut fmt::Formatter<'_>,
    atom: &Line,
    wanted_by: Option<&Cpv>,
    candidates: &[Candidate],
) -> fmt::Result {
    let needed = wanted_by.map(|cpv| format!(", needed by `{cpv}`,")).unwrap_or_default();
    let Some(Candidate { cpv, masks, iuse, required_use }) = candidates.first() else {
        write!(f, "no tree has `{atom}`{}", needed.trim_end_matches(','))?;
        // What was asked for is probably misspelt; what a package needs is probably in another tree.
        return if wanted_by.is_some() { f.write_str("; add a tree that has it to `trees`") } else { Ok(()) };
    };
    let Some(mask) = masks.first().map(Line::as_str) else {
        let unknown = flags(atom).find(|flag| !iuse.iter().any(|known| known.as_str() == *flag));
        return match (unknown, required_use.as_str()) {
            (Some(flag), _) => write!(f, "`{cpv}`{needed} has no USE flag `{flag}`, and `{atom}` asks for it"),
            (None, "") => write!(f, "`{cpv}`{needed} cannot be had with the USE flags of `{atom}`"),
            (None, all) => {
                write!(f, "the USE flags of `{cpv}`{needed} do not fulfil `{all}`: change them in `package.use`")
            }
        };
    };
    write!(f, "`{cpv}`{needed} is masked by: {mask}; ")?;
    if mask == "missing keyword" {
        write!(f, "add `={cpv} **` to `package.accept-keywords`")
    } else if let Some(keyword) = mask.strip_suffix(" keyword") {
        write!(f, "add `={cpv} {keyword}` to `package.accept-keywords`")
    } else if let Some(license) = mask.strip_suffix(" license(s)") {
        write!(f, "add `={cpv} {license}` to `package.license`")
    } else if mask == "package.mask" {
        write!(f, "add `={cpv}` to `package.unmask`")
    } else {
        f.write_str("another version is needed")
    }
}

/// Returns the flags of an atom's USE dependency: `a/b[x,-y?,z(+)]` asks about `x`, `y` and `z` (PMS 8.2.6.4).
fn flags(atom: &Line) -> impl Iterator<Item = &str> {
    let inner = atom.as_str().split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or_default();
    let flag = |word: &str| !word.is_empty() && !word.contains('(');
    inner
        .split(',')
        .map(|word| word.trim_start_matches(['-', '!']).trim_end_matches(['?', '=']))
        .filter(move |word| flag(word))
}

fn list(cpvs: &[Cpv], between: &str) -> String {
    cpvs.iter().map(|cpv| format!("`{cpv}`")).collect::<Vec<_>>().join(between)
}
