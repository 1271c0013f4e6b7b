//! What to change about a problem: lines for Portage's own configuration. Pure.
//!
//! Each [`Remedy`] is enough by itself for the problem it is about. Changes that nobody should make (an ebuild that is not
//! valid, a package that no tree has) are none.

use super::Word;
use super::problem::{Candidate, Chain, Demand, Flags, FlagsOf, Link, Mask, Problem};
use crate::atom::Cpv;
use crate::backend::PackageList;

/// How many are worth offering.
const MOST: usize = 4;

/// Lines that together are enough.
pub type Remedy = Vec<Edit>;

/// One line that is to be added.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edit {
    /// Where.
    pub list: EditedList,
    /// What.
    pub line: String,
    /// Whether it is about a package of the build side, in a cross build; nothing where it is about what the problem is
    /// about.
    pub build_side: Option<bool>,
}

/// One of Portage's files (portage(5)) of lines about packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EditedList {
    /// One that a hardware profile has a key for.
    Package(PackageList),
    /// One that can only be written in Portage's own form: its path in the configuration's folder.
    Native(&'static str),
}

impl Problem {
    /// Returns the ways out, the best first.
    pub fn remedies(&self) -> Vec<Remedy> {
        let mut found: Vec<Remedy> = match self {
            Self::Masked { cpv, masks, .. } => unmasked(cpv, masks).into_iter().collect(),
            Self::Use { cpv, changes, chain } => {
                std::iter::once(vec![uses(cpv, changes)]).chain(otherwise(chain)).collect()
            }
            Self::UseConflict { chains, .. } => chains.iter().flat_map(otherwise).collect(),
            Self::RequiredUse { cpv, demand, .. } => {
                demanded(cpv, &Flags::new(), demand).map(|edit| vec![edit]).collect()
            }
            Self::Slot { ways, .. } => ways.iter().map(|way| way.iter().map(set).collect()).collect(),
            Self::Blocker { by, blocked, .. } => {
                by.iter().chain(blocked).flat_map(|package| &package.chains).flat_map(otherwise).collect()
            }
            Self::Cycle { ways, .. } => ways.iter().map(|way| vec![set(way)]).collect(),
            Self::Unsatisfied { chain, candidates, .. } => {
                candidates.iter().flat_map(|candidate| taken(candidate, chain)).collect()
            }
            Self::Ambiguous { .. }
            | Self::Malformed { .. }
            | Self::Unreadable { .. }
            | Self::Profile { .. }
            | Self::Refused { .. } => Vec::new(),
        };
        found.retain(|remedy| !remedy.is_empty());
        found.truncate(MOST);
        found
    }

    /// Returns the way out where there is no line to add.
    pub fn advice(&self) -> Option<&'static str> {
        let wanted_by_package = |chain: &Chain| chain.links().first().is_some_and(|link| link.cpv.is_some());
        match self {
            Self::Unsatisfied { chain, candidates, .. } if candidates.is_empty() && wanted_by_package(chain) => {
                Some("add a tree that has it to `trees`, or leave out what wants it")
            }
            Self::Unsatisfied { candidates, .. } if !candidates.is_empty() => {
                Some("mend the ebuild, take another version of it, or leave out what wants it")
            }
            Self::UseConflict { .. } | Self::Blocker { .. } => Some("leave one of them out"),
            Self::Slot { .. } => Some("leave out one of those who want them, or mask a version that wants too much"),
            Self::Cycle { .. } => Some("leave one of them out, or name it in `package.provided` if the image has it"),
            Self::RequiredUse { .. } => Some("change its USE flags in `package.use`"),
            _ => None,
        }
    }
}

/// Returns what makes a candidate one that an atom takes.
fn taken(candidate: &Candidate, chain: &Chain) -> Vec<Remedy> {
    let Candidate { cpv, masks, lacks, masked, forced, changes, required_use, parent } = candidate;
    let mut found = Vec::new();
    let Some(first) = unmasked(cpv, masks).filter(|_| lacks.is_empty()) else { return found };
    let native = |list, flags: &[Word]| {
        let words: Vec<String> = flags.iter().map(|flag| format!("-{flag}")).collect();
        (!flags.is_empty()).then(|| line(EditedList::Native(list), cpv, &words.join(" ")))
    };
    let first: Remedy = first
        .into_iter()
        .chain(native("profile/package.use.mask", masked))
        .chain(native("profile/package.use.force", forced))
        .collect();
    match required_use {
        Some(demand) => found.extend(demanded(cpv, changes, demand).map(|edit| [&first[..], &[edit]].concat())),
        None if changes.is_empty() => found.push(first),
        None => found.push([&first[..], &[uses(cpv, changes)]].concat()),
    }
    if let (Some((link, by)), false) = (nearest(chain), parent.is_empty()) {
        found.push(vec![Edit { build_side: Some(link.build_side), ..uses(by, parent) }]);
    }
    found
}

/// Returns what has a package no longer masked; nothing where that cannot be.
fn unmasked(cpv: &Cpv, masks: &[Mask]) -> Option<Remedy> {
    masks
        .iter()
        .map(|mask| {
            let (list, words) = match mask {
                Mask::Keyword { accept, .. } => (EditedList::Package(PackageList::AcceptKeywords), accept.to_string()),
                Mask::PackageMask { .. } => (EditedList::Package(PackageList::Unmask), String::new()),
                Mask::License { licenses } => (EditedList::Package(PackageList::License), words(licenses)),
                Mask::Properties { words: unwanted } => (EditedList::Native("package.properties"), words(unwanted)),
                Mask::Restrict { words: unwanted } => (EditedList::Native("package.accept_restrict"), words(unwanted)),
                Mask::Eapi { .. } | Mask::Invalid { .. } | Mask::Corrupt { .. } => return None,
            };
            Some(line(list, cpv, &words))
        })
        .collect()
}

/// Returns the changes of flags of the nearest with each of which it would not want what it wants.
fn otherwise(chain: &Chain) -> Vec<Remedy> {
    let Some((link, cpv)) = nearest(chain) else { return Vec::new() };
    let flipped = link.use_flags.iter().map(|flag| match flag.as_str().strip_prefix('-') {
        Some(off) => off.to_string(),
        None => format!("-{flag}"),
    });
    let edit = |flag: String| line(EditedList::Package(PackageList::Use), cpv, &flag);
    flipped.map(|flag| vec![Edit { build_side: Some(link.build_side), ..edit(flag) }]).collect()
}

/// Returns the package that is the nearest of those who want something.
fn nearest(chain: &Chain) -> Option<(&Link, &Cpv)> {
    chain.links().first().and_then(|link| Some((link, link.cpv.as_ref()?)))
}

/// Returns each way to fulfil a demand, with other changes.
fn demanded(cpv: &Cpv, changes: &Flags, demand: &Demand) -> impl Iterator<Item = Edit> {
    demand.ways.iter().map(|way| {
        let all = changes.iter().chain(way).map(|(flag, on)| (flag.clone(), *on)).collect();
        uses(cpv, &all)
    })
}

fn set(flags: &FlagsOf) -> Edit {
    uses(&flags.cpv, &flags.changes)
}

fn uses(cpv: &Cpv, changes: &Flags) -> Edit {
    line(EditedList::Package(PackageList::Use), cpv, &super::problem::flags(changes))
}

fn line(list: EditedList, cpv: &Cpv, words: &str) -> Edit {
    Edit { list, line: format!("={cpv} {words}").trim_end().to_string(), build_side: None }
}

fn words(words: &[Word]) -> String {
    words.iter().map(Word::as_str).collect::<Vec<_>>().join(" ")
}
