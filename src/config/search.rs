//! Where definitions are found.
//!
//! In this order; the first file of a name is the one:
//!
//! 1. the nearest folder at or above the current one that has a `bindery.toml` (a project, such as this one's clone);
//! 2. the user's or root's own configuration folder, `State::etc()`;
//! 3. `/etc/bindery`;
//! 4. `/usr/share/bindery`, what a distribution's package of bindery installs;
//! 5. what is built into the program.
//!
//! Each folder holds `bindery.toml`, `profiles/NAME.toml` and `images/NAME.toml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atom::Name;
use crate::config::diagnostic::Source;
use crate::config::shipped;
use crate::config::suggest::{closest, listed};
use crate::fs::{self, PathError};
use crate::state::State;

/// The name of the file that makes a folder a project.
pub(super) const CONFIG_FILE: &str = "bindery.toml";

/// The `bindery.toml` that is built in.
const DEFAULTS: &str = include_str!("defaults.toml");

/// What a definition defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A profile, in `profiles/`.
    Profile,
    /// An image, in `images/`.
    Image,
}

impl Kind {
    /// Returns the names and texts of those that come with the program.
    fn shipped(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Profile => shipped::PROFILES,
            Self::Image => shipped::IMAGES,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Profile => "profiles",
            Self::Image => "images",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Image => "image",
        }
    }
}

/// The folders that are searched, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    folders: Vec<PathBuf>,
}

/// A definition that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: Name,
    /// Its file; in angle brackets where it is built in.
    pub path: PathBuf,
    embedded: Option<&'static str>,
}

impl Search {
    /// Returns the folders to search for a process in the folder `cwd`.
    pub fn new(cwd: &Path, state: &State) -> Self {
        let project = cwd.ancestors().find(|dir| dir.join(CONFIG_FILE).is_file());
        let rest = [state.etc(), Path::new("/etc/bindery"), Path::new("/usr/share/bindery")];
        let mut folders: Vec<PathBuf> = Vec::new();
        for dir in project.into_iter().chain(rest) {
            if !folders.iter().any(|known| known == dir) {
                folders.push(dir.to_path_buf());
            }
        }
        Self { folders }
    }

    /// Returns a search of just these folders, and what is built in.
    pub fn of(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Returns the folders, best first.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the `bindery.toml` that is built in, which every other one hides.
    pub(super) fn defaults() -> Arc<Source> {
        Arc::new(Source { path: Path::new("<bindery>").join(CONFIG_FILE), text: DEFAULTS.to_string() })
    }

    /// Returns the folders that definitions of a kind lie in, best first.
    pub fn folders_of(&self, kind: Kind) -> Vec<PathBuf> {
        self.folders.iter().map(|dir| dir.join(kind.folder())).collect()
    }

    /// Returns the definition of that name; the error lists the names there are.
    pub fn find(&self, kind: Kind, name: &Name) -> Result<Found, SearchError> {
        for dir in &self.folders {
            let path = dir.join(kind.folder()).join(format!("{name}.toml"));
            // An entry that cannot be read is found all the same: falling through to another definition of that name
            // would build something else than what was asked for.
            if fs::symlink_metadata(&path).is_ok() {
                return Ok(Found { name: name.clone(), path, embedded: None });
            }
        }
        let embedded = kind.shipped().iter().find(|(known, _)| *known == name.as_str());
        if let Some((_, text)) = embedded {
            return Ok(Found::embedded(kind, name.clone(), text));
        }
        let known = self.list(kind)?.into_iter().map(|found| found.name).collect();
        Err(SearchError::Unknown(Unknown { kind, name: name.clone(), known, folders: self.folders.clone() }))
    }

    /// Returns all definitions of a kind, sorted by name. Files whose names could not be asked for are left out.
    pub fn list(&self, kind: Kind) -> Result<Vec<Found>, PathError> {
        let mut all: Vec<Found> = Vec::new();
        let mut add = |found: Found| {
            if !all.iter().any(|other| other.name == found.name) {
                all.push(found);
            }
        };
        for dir in &self.folders {
            for path in fs::read_dir_if_exists(&dir.join(kind.folder()))? {
                let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".toml"));
                if let Some(Ok(name)) = name.map(str::parse) {
                    add(Found { name, path, embedded: None });
                }
            }
        }
        for (name, text) in kind.shipped() {
            add(Found::embedded(kind, name.parse().expect("built-in names are names"), text));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

impl Found {
    fn embedded(kind: Kind, name: Name, text: &'static str) -> Self {
        let path = Path::new("<bindery>").join(kind.folder()).join(format!("{name}.toml"));
        Self { name, path, embedded: Some(text) }
    }

    /// Reads the definition.
    pub fn read(&self) -> Result<Arc<Source>, PathError> {
        match self.embedded {
            Some(text) => Ok(Arc::new(Source { path: self.path.clone(), text: text.to_string() })),
            None => Source::read(&self.path),
        }
    }

    /// Returns the folder of the definition's own files, `profiles/NAME/` beside `profiles/NAME.toml`, if there is one.
    pub fn folder(&self) -> Option<PathBuf> {
        let dir = self.path.with_file_name(self.name.as_str());
        (self.embedded.is_none() && dir.is_dir()).then_some(dir)
    }
}

/// A definition could not be found.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is none of that name.
    #[error(transparent)]
    Unknown(Unknown),
}

/// There is no definition of that name.
#[derive(Debug, Clone, thiserror::Error)]
#[error("there is no {} `{name}`", kind.noun())]
pub struct Unknown {
    /// What was looked for.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The names there are.
    pub known: Vec<Name>,
    /// The folders that were searched.
    pub folders: Vec<PathBuf>,
}

impl Unknown {
    /// Returns what to do about it, one sentence each.
    pub fn hints(&self) -> Vec<String> {
        let names = || self.known.iter().map(Name::as_str);
        let nearest = closest(self.name.as_str(), names()).map(|name| format!("did you mean `{name}`?"));
        let folders: Vec<String> =
            self.folders.iter().map(|dir| dir.join(self.kind.folder()).display().to_string()).collect();
        nearest
            .into_iter()
            .chain([
                format!("known {}s: {}", self.kind.noun(), listed(names())),
                format!("searched for `{}.toml` in {}", self.name, listed(folders.iter().map(String::as_str))),
            ])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn the_nearest_project_comes_before_what_is_installed_and_built_in() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(&dir.path().join("state"));
        let project = dir.path().join("project");
        fs::create_dir_all(&project.join("profiles")).unwrap();
        fs::create_dir_all(&project.join("deep/er")).unwrap();
        fs::write(&project.join("bindery.toml"), "version = 1").unwrap();
        fs::write(&project.join("profiles/amd64.toml"), "mine").unwrap();
        let search = Search::new(&project.join("deep/er"), &state);
        assert_eq!(search.folders()[..2], [project.clone(), state.etc().to_path_buf()]);
        assert_eq!(search.find(Kind::Profile, &name("amd64")).unwrap().read().unwrap().text, "mine");
        let elsewhere = Search::new(dir.path(), &state);
        let found = elsewhere.find(Kind::Profile, &name("amd64")).unwrap();
        assert_eq!(found.path, Path::new("<bindery>/profiles/amd64.toml"));
        assert_eq!(found.read().unwrap().folder(), None);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones_and_the_folders() {
        let search = Search::of(vec!["/nowhere".into()]);
        let SearchError::Unknown(error) = search.find(Kind::Profile, &name("amd46")).unwrap_err() else { panic!() };
        assert_eq!(error.to_string(), "there is no profile `amd46`");
        assert_eq!(
            error.hints(),
            [
                "did you mean `amd64`?",
                "known profiles: `amd64`, `arm64`, `armv7`, `i686`, `ppc64le`, `riscv64`, `s390x`, `sparc64`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`",
                "searched for `amd46.toml` in `/nowhere/profiles`"
            ]
        );
    }

    #[test]
    fn a_definition_that_cannot_be_read_hides_the_ones_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(&dir.path().join("profiles")).unwrap();
        fs::symlink(Path::new("gone"), &dir.path().join("profiles/amd64.toml")).unwrap();
        let found = Search::of(vec![dir.path().to_path_buf()]).find(Kind::Profile, &name("amd64")).unwrap();
        assert!(found.read().is_err());
    }

    #[test]
    fn files_with_odd_names_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(&dir.path().join("images")).unwrap();
        for file in ["a.toml", ".b.toml", "c.toml~", "d e.toml", "notes.md"] {
            fs::write(&dir.path().join("images").join(file), "").unwrap();
        }
        let list = Search::of(vec![dir.path().to_path_buf()]).list(Kind::Image).unwrap();
        assert!(list.iter().any(|found| found.name.as_str() == "a"));
        assert!(!list.iter().any(|found| found.name.as_str().contains(['b', 'c']) && found.embedded.is_none()));
    }
}
