//! What stands in the way of a plan, with where to change what: the profile's own file, or configuration in the package
//! manager's own form where that is what counts. Pure, but for looking whether such a file is there.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::atom::{Atom, Cpv, Name};
use crate::backend::PackageList;
use crate::backend::resolution::Problem;
use crate::backend::resolution::remedy::{Edit, EditedList};
use crate::profile::Profile;
use crate::tree;

/// How many explanations are shown; as JSON there are all.
const SHOWN: usize = 20;

/// A problem and the ways out of it. Shown, it has several lines, all but the first indented.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Explanation {
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
    /// The profile that it is about, where that is the build side's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_side: Option<Name>,
    /// A tree that has the package, and that the profile does not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Name>,
    /// The package, as `category/name`, that was probably meant where there is none of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meant: Option<String>,
    /// The ways out, the best first; each is a set of lines that together are enough.
    pub remedies: Vec<Vec<Addition>>,
}

/// A line that is to be added somewhere.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Addition {
    /// The file; nothing where the profile is built in, and one that inherits it has to be made.
    pub file: Option<PathBuf>,
    /// The key of the list that it is to be part of, where the file is a hardware profile.
    pub key: Option<&'static str>,
    /// The line.
    pub line: String,
    /// The profile that it is for, where that is the build side's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_side: Option<Name>,
}

/// The profiles that a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides<'a> {
    /// The one that is asked for.
    pub(super) own: &'a Profile,
    /// That of the build side, in a cross build.
    pub(super) build: Option<&'a Profile>,
}

impl<'a> Sides<'a> {
    /// Returns the profile that something is about, and its name where it is the build side's.
    fn of(&self, build_side: bool) -> (&'a Profile, Option<Name>) {
        match self.build.filter(|_| build_side) {
            Some(profile) => (profile, Some(profile.name.clone())),
            None => (self.own, None),
        }
    }
}

impl Explanation {
    /// Returns the explanation of a problem, of the build side's or not. `known` is what the profiles' trees have, `trees`
    /// where each tree is.
    pub(super) fn of(
        problem: &Problem,
        of_build_side: bool,
        sides: Sides<'_>,
        known: &[Cpv],
        trees: &[(&Name, &Path)],
    ) -> Self {
        let (profile, build_side) = sides.of(of_build_side);
        let nothing = match problem {
            Problem::Unsatisfied { chain, candidates, others } if candidates.is_empty() && others.is_empty() => {
                chain.atom().and_then(|atom| atom.as_str().parse::<Atom>().ok())
            }
            _ => None,
        };
        let remedies = problem.remedies();
        let place = |edit: &Edit| {
            let (profile, build_side) = sides.of(edit.build_side.unwrap_or(of_build_side));
            Addition { build_side, ..Addition::of(edit, profile) }
        };
        // What is a name is safe as a path.
        let package = nothing.as_ref().map(tree::named).filter(|cp| format!("{cp}-0").parse::<Cpv>().is_ok());
        let has = |(name, path): &&(&Name, &Path)| {
            !profile.trees.contains(name) && package.as_ref().is_some_and(|package| path.join(package).is_dir())
        };
        Self {
            problem: problem.clone(),
            build_side,
            elsewhere: trees.iter().find(has).map(|(name, _)| (*name).clone()),
            meant: nothing.and_then(|atom| tree::meant(known, &atom)),
            remedies: remedies.iter().map(|remedy| remedy.iter().map(place).collect()).collect(),
        }
    }
}

impl Addition {
    fn of(edit: &Edit, profile: &Profile) -> Self {
        let own = profile.files.last().filter(|file| !file.starts_with("<bindery>"));
        let (line, build_side) = (edit.line.clone(), None);
        let (path, key) = match edit.list {
            EditedList::Package(list) => (list.file(), Some(key(list))),
            EditedList::Native(path) => (path, None),
        };
        // A native list hides what the profile says, and what earlier ones do.
        let native = profile.native.iter().rev().map(|dir| dir.join(path)).find(|file| file.exists());
        match (native, key) {
            (Some(dir), _) if dir.is_dir() => Self { file: Some(dir.join("bindery")), key: None, line, build_side },
            (Some(file), _) => Self { file: Some(file), key: None, line, build_side },
            (None, Some(key)) => Self { file: own.cloned(), key: Some(key), line, build_side },
            (None, None) => {
                let folder = own.map(|file| file.with_extension("").join("portage"));
                Self { file: folder.map(|folder| folder.join(path)), key: None, line, build_side }
            }
        }
    }
}

/// Returns a list's key in a hardware profile.
fn key(list: PackageList) -> &'static str {
    match list {
        PackageList::AcceptKeywords => "package.accept-keywords",
        PackageList::Env => "package.env",
        PackageList::License => "package.license",
        PackageList::Mask => "package.mask",
        PackageList::Provided => "package.provided",
        PackageList::Unmask => "package.unmask",
        PackageList::Use => "package.use",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(side) = &self.build_side {
            write!(f, "of the build side, profile `{side}`: ")?;
        }
        write!(f, "{}", self.problem)?;
        if let Some(tree) = &self.elsewhere {
            let whose = self.build_side.as_ref().map_or("the profile's".to_string(), |side| format!("`{side}`'s"));
            return write!(f, "\n    tree `{tree}` has it: add `{tree}` to {whose} `trees`");
        }
        if let Some(meant) = &self.meant {
            return write!(f, "\n    did you mean `{meant}`?");
        }
        for (number, remedy) in self.remedies.iter().enumerate() {
            write!(f, "\n    {}", if number == 0 { "" } else { "or " })?;
            for (at, addition) in remedy.iter().enumerate() {
                let last = remedy.get(at + 1).is_none_or(|next| next.file != addition.file);
                write!(f, "{}", if at == 0 { "add " } else { " and " })?;
                addition.show(f, last)?;
            }
        }
        match self.problem.advice() {
            Some(advice) if self.remedies.is_empty() => write!(f, "\n    {advice}"),
            _ => Ok(()),
        }
    }
}

impl Addition {
    fn show(&self, f: &mut fmt::Formatter<'_>, with_file: bool) -> fmt::Result {
        write!(f, "`{}`", self.line)?;
        if let Some(key) = self.key {
            write!(f, " to `{key}`")?;
        }
        let preposition = if self.key.is_some() { "in" } else { "to" };
        match (self.file.as_deref().map(Path::display), &self.build_side) {
            (Some(file), _) if with_file || self.key.is_none() => write!(f, " {preposition} `{file}`"),
            (Some(_), _) => Ok(()),
            (None, None) => write!(f, " {preposition} a profile of your own that inherits this one"),
            (None, Some(side)) => {
                write!(f, " {preposition} a profile of your own that inherits `{side}`, and make that the `build-side`")
            }
        }
    }
}

/// Returns explanations as they are shown, each on lines of its own.
pub(super) fn show(explanations: &[Explanation], more: u32) -> String {
    let shown = explanations.iter().take(SHOWN).map(|explanation| format!("\n  {explanation}")).collect::<String>();
    let rest = explanations.len().saturating_sub(SHOWN) + more as usize;
    if rest == 0 { shown } else { format!("{shown}\n  and {rest} more; `--json` tells more of them") }
}

#[cfg(test)]
mod tests;
