//! Problems in words. The first line says what is wrong; those below it, indented, who wants it and what else is known.

use std::fmt;

use super::{Candidate, Chain, Demand, Flags, Mask, Problem, Step, Version, Wanted};
use crate::atom::{Cpv, RootPath};
use crate::backend::resolution::{Kind, Line, Word};

/// How much of a list is shown; the data has all of it.
const SHOWN: usize = 6;
/// Likewise of what is short: flags, licences, keywords, lines of a comment.
const MANY: usize = 12;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsatisfied { chain, candidates, others } => unsatisfied(f, chain, candidates, others),
            Self::Masked { cpv, masks, chain } => {
                write!(f, "`{cpv}` is masked: {}", joined(masks, "; "))?;
                below(f, chain)
            }
            Self::Use { cpv, changes, chain } => {
                write!(f, "`{cpv}` is needed with USE=`{}`", flags(changes))?;
                below(f, chain)
            }
            Self::UseConflict { cpv, flags, chains } => {
                write!(f, "`{cpv}` is needed with and without USE=`{}`", joined(flags, " "))?;
                chains.iter().take(SHOWN).try_for_each(|chain| below(f, chain))
            }
            Self::RequiredUse { cpv, demand, chain } => {
                write!(f, "the USE flags of `{cpv}` do not fulfil its REQUIRED_USE: {demand}")?;
                below(f, chain)
            }
            Self::Slot { slot, packages, .. } => {
                let cpvs = packages.iter().map(|package| &package.cpv);
                write!(f, "only one version of `{slot}` can be installed, and {} are needed", list(cpvs, " and "))?;
                packages.iter().take(SHOWN).try_for_each(|package| wanted(f, package))
            }
            Self::Blocker { atom, by, blocked } => {
                let name = atom.as_str().trim_start_matches('!');
                let by_names = list(by.iter().map(|package| &package.cpv), ", ");
                write!(f, "{by_names} cannot be installed together with `{name}` (`{atom}`)")?;
                by.iter().chain(blocked).take(SHOWN).try_for_each(|package| wanted(f, package))
            }
            Self::Cycle { steps, chain, .. } => {
                let first = steps.first().map(|step| step.cpv.to_string()).unwrap_or_default();
                f.write_str("packages need each other before they can be built")?;
                let next = steps.iter().skip(1).map(|step| step.cpv.to_string()).chain([first]);
                for (step, next) in steps.iter().zip(next).take(2 * SHOWN) {
                    write!(f, "\n    {}", Needs(step, &next))?;
                }
                below(f, chain)
            }
            Self::Ambiguous { atom, names } => {
                write!(f, "`{atom}` is the name of several packages: {}; say which", quoted(names))
            }
            Self::Malformed { atom } => write!(
                f,
                "`{}` is not a package atom (as `app-misc/hello` or `=app-misc/hello-2.10`; with a version it starts with \
                 `=`, `>=`, `<=`, `~`, `>` or `<`)",
                atom.as_str().escape_debug()
            ),
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

fn unsatisfied(f: &mut fmt::Formatter<'_>, chain: &Chain, candidates: &[Candidate], others: &[Version]) -> fmt::Result {
    let atom = chain.atom().map(Line::as_str).unwrap_or_default();
    match (candidates, others) {
        ([], []) => write!(f, "no tree has `{atom}`")?,
        ([], others) => {
            let known = others.iter().take(SHOWN).map(|v| format!("`{}` (slot {})", v.cpv, v.slot));
            let known = known.collect::<Vec<_>>().join(", ");
            let more = if others.len() > SHOWN { " and more" } else { "" };
            write!(f, "no tree has a version that satisfies `{atom}`; there is {known}{more}")?;
        }
        ([candidate], _) => write!(f, "{candidate}{}", asked_for_by(candidate, atom))?,
        (several, _) => {
            write!(f, "nothing satisfies `{atom}`")?;
            for candidate in several.iter().take(SHOWN) {
                write!(f, "\n    {candidate}")?;
            }
        }
    }
    below(f, chain)
}

/// Returns that an atom wants a candidate's flags otherwise, where it does.
fn asked_for_by(candidate: &Candidate, atom: &str) -> String {
    let flags = [&candidate.lacks, &candidate.masked, &candidate.forced].iter().any(|flags| !flags.is_empty());
    if flags { format!(", and `{atom}` asks for it") } else { String::new() }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wrong = Vec::new();
        if !self.masks.is_empty() {
            wrong.push(format!("is masked: {}", joined(&self.masks, "; ")));
        }
        if !self.lacks.is_empty() {
            wrong.push(format!("has no USE flag {}", quoted(&self.lacks)));
        }
        for (words, says) in [(&self.masked, "masked (`use.mask`)"), (&self.forced, "forced (`use.force`)")] {
            if !words.is_empty() {
                wrong.push(format!("has USE flag {} {says} by the Portage profile", quoted(words)));
            }
        }
        if let Some(demand) = &self.required_use {
            let flags = flags(&self.changes);
            let with = if flags.is_empty() { String::new() } else { format!(" with USE=`{flags}`") };
            wrong.push(format!("does not fulfil its REQUIRED_USE{with}: {demand}"));
        } else if wrong.is_empty() && !self.changes.is_empty() {
            wrong.push(format!("would have to have USE=`{}`", flags(&self.changes)));
        } else if wrong.is_empty() {
            wrong.push("cannot be had together with the rest".to_string());
        }
        write!(f, "`{}` {}", self.cpv, wrong.join(" and "))
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.constraint)?;
        if self.all == self.constraint { Ok(()) } else { write!(f, " of `{}`", self.all) }
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword { keywords, .. } if keywords.is_empty() => {
                f.write_str("it has no keywords, so nobody says that it works anywhere")
            }
            Self::Keyword { accept, .. } if accept.as_str().starts_with('~') => {
                write!(f, "it is not stable here yet (`{accept}` keyword)")
            }
            Self::Keyword { keywords, .. } => {
                write!(f, "it has no keyword for this architecture (KEYWORDS=`{}`)", joined(keywords, " "))
            }
            Self::PackageMask { file, comment } => {
                f.write_str("by `package.mask`")?;
                if let Some(file) = file {
                    write!(f, " ({})", place(file))?;
                }
                if comment.is_empty() { Ok(()) } else { write!(f, ", which says: {}", joined(comment, " ")) }
            }
            Self::License { licenses } => write!(f, "its licence {} is not accepted", quoted(licenses)),
            Self::Eapi { eapi } => {
                write!(f, "it needs EAPI {eapi}, which the image's package manager does not know; that has to be newer")
            }
            Self::Properties { words } => write!(f, "PROPERTIES={} is not accepted", quoted(words)),
            Self::Restrict { words } => write!(f, "RESTRICT={} is not accepted", quoted(words)),
            Self::Invalid { message } => write!(f, "its ebuild is not valid: {message}"),
            Self::Corrupt { said } if said.is_empty() => f.write_str("its ebuild cannot be read"),
            Self::Corrupt { said } => write!(f, "its ebuild cannot be read: {}", joined(said, " ")),
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, link) in self.links().iter().enumerate() {
            if at == SHOWN {
                return f.write_str(", needed by others");
            }
            let (atom, with) = (&link.atom, because(&link.use_flags));
            match (at, &link.cpv, &link.set) {
                (0, Some(cpv), _) => write!(f, "`{cpv}` wants `{atom}`{with}")?,
                (0, None, Some(set)) => write!(f, "`{atom}` is part of the set `@{set}`")?,
                (0, None, None) => write!(f, "asked for as `{atom}`")?,
                (_, Some(cpv), _) => write!(f, ", needed by `{cpv}`{with}")?,
                (_, None, Some(set)) => write!(f, ", part of the set `@{set}`")?,
                (_, None, None) => f.write_str(", asked for")?,
            }
        }
        Ok(())
    }
}

struct Needs<'a>(&'a Step, &'a str);

impl fmt::Display for Needs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(step, next) = self;
        let word = |kind: &Kind| match kind {
            Kind::Build | Kind::Link | Kind::Tool => "build",
            Kind::Run => "run",
            Kind::Post => "be of use",
            Kind::Install => "be merged",
        };
        let mut kinds: Vec<&str> = step.kinds.iter().map(word).collect();
        kinds.dedup();
        let what_for = if kinds.is_empty() { String::new() } else { format!(" to {}", kinds.join(" and to ")) };
        write!(f, "`{}` needs `{next}`{what_for} (`{}`{})", step.cpv, step.atom, because(&step.use_flags))
    }
}

fn below(f: &mut fmt::Formatter<'_>, chain: &Chain) -> fmt::Result {
    if chain.links().is_empty() { Ok(()) } else { write!(f, "\n    {chain}") }
}

fn wanted(f: &mut fmt::Formatter<'_>, package: &Wanted) -> fmt::Result {
    let chains: Vec<String> = package.chains.iter().take(SHOWN).map(Chain::to_string).collect();
    if chains.is_empty() { Ok(()) } else { write!(f, "\n    `{}`: {}", package.cpv, chains.join("; ")) }
}

/// Returns flags as `USE` has them.
pub(in crate::backend::resolution) fn flags(changes: &Flags) -> String {
    let words = changes.iter().map(|(flag, on)| if *on { flag.to_string() } else { format!("-{flag}") });
    words.collect::<Vec<_>>().join(" ")
}

fn because(flags: &[Word]) -> String {
    if flags.is_empty() { String::new() } else { format!(" because of USE=`{}`", joined(flags, " ")) }
}

/// Returns a file of a tree, or of the configuration, as the user knows it.
fn place(file: &RootPath) -> String {
    let text = file.to_string();
    let tree = text.strip_prefix("/var/db/repos/").and_then(|rest| rest.split_once('/'));
    match (tree, text.strip_prefix("/etc/portage/")) {
        (Some((tree, path)), _) => format!("`{path}` of tree `{tree}`"),
        (None, Some(_)) => "the hardware profile's own".to_string(),
        (None, None) => format!("`{text}`"),
    }
}

/// Returns words, no more than are worth reading.
fn joined<T: fmt::Display>(words: &[T], between: &str) -> String {
    let shown = words.iter().take(MANY).map(T::to_string).collect::<Vec<_>>().join(between);
    if words.len() > MANY { format!("{shown} …") } else { shown }
}

fn quoted<T: fmt::Display>(words: &[T]) -> String {
    joined(&words.iter().take(MANY + 1).map(|word| format!("`{word}`")).collect::<Vec<_>>(), ", ")
}

fn list<'a>(cpvs: impl Iterator<Item = &'a Cpv>, between: &str) -> String {
    cpvs.take(MANY).map(|cpv| format!("`{cpv}`")).collect::<Vec<_>>().join(between)
}
