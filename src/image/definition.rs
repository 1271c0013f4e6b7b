//! Definitions of images: `images/NAME.toml`, what an image is made of.
//!
//! A definition says *what*, never how: packages, wheels, users, links, files. So its digest, taken over what it means
//! and not over its text, names what is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cross::{self, Cross};
use crate::atom::{Name, RootPath};
use crate::config::shipped::{IMAGES, SHARED};
use crate::digest::Digest;
use crate::fs::{self, PathError};

mod keys;
mod parts;

pub use parts::{Archive, Folder, Group, Replacement, SourceDate, Text, User, Wheel, Word};

/// Part of every definition's digest, raised when this program makes something else of the same definition.
const MAKER: u32 = 1;

/// The versions of the format that are read.
const VERSION: u32 = 1;

/// One image's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The image's name: the file's, without `.toml`.
    pub name: Name,
    /// The file; nothing for one that comes with the program.
    pub file: Option<PathBuf>,
    /// The nearest definition that it stands on and that is an image by itself, if any; what those say is in `recipe`.
    pub inherits: Option<Name>,
    /// What it says.
    pub recipe: Recipe,
}

/// What a definition says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The format's version.
    pub version: u32,
    /// How it is made.
    pub kind: Kind,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Debian's name of the architecture, such as `amd64`.
    pub architecture: Word,
    /// Debian's name of the release, such as `trixie`.
    pub suite: Word,
    /// Parts of the archive, such as `main`.
    pub components: Vec<Word>,
    /// The latest time that any file of the image carries (RFC 3339).
    pub source_date: SourceDate,
    /// Packages on top of the essential ones.
    pub packages: Vec<Word>,
    /// Paths that are not kept; `*` stands for anything within one component.
    #[serde(default)]
    pub drop: Vec<RootPath>,
    /// Of an image of files, the only paths that are kept, with what is below them; `*` as in `drop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<RootPath>,
    /// Of an image of files, what is somewhere else in it than in the packages, and where.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moves: BTreeMap<RootPath, RootPath>,
    /// Of an image of files, texts to change in programs.
    #[serde(default, rename = "string", skip_serializing_if = "Vec::is_empty")]
    pub strings: Vec<Replacement>,
    /// The image that has programs of this machine's that do the same as some of this one's, where those would be emulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_tools: Option<Name>,
    /// The image that has, as `/usr/bin/qemu-MACHINE`, what runs this one's programs on other machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator: Option<Name>,
    /// Where packages come from.
    #[serde(rename = "archive")]
    pub archives: Vec<Archive>,
    /// Python packages from PyPI.
    #[serde(default, rename = "wheel")]
    pub wheels: Vec<Wheel>,
    /// Groups to add.
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
    /// Users to add.
    #[serde(default, rename = "user")]
    pub users: Vec<User>,
    /// Folders to make.
    #[serde(default, rename = "folder")]
    pub folders: Vec<Folder>,
    /// Symbolic links to make, and where they point.
    #[serde(default)]
    pub links: BTreeMap<RootPath, PathBuf>,
    /// Files to write.
    #[serde(default, rename = "file")]
    pub files: Vec<Text>,
    /// Texts to change in files.
    #[serde(default, rename = "replace")]
    pub replacements: Vec<Replacement>,
    /// Environment of every command in the image.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What every build may take for granted; without it, all that the image holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What it cross builds for, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross: Option<Cross>,
}

/// What of an image builds see: these packages and what they depend on (`docs/rooms.md`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Packages.
    pub packages: Vec<Word>,
    /// What is hidden although those depend on it: for the installation of Debian's packages only.
    #[serde(default)]
    pub without: Vec<Word>,
    /// What is seen as well where something is installed into a build's root: the package manager calls it for that.
    #[serde(default)]
    pub install: Vec<Word>,
}

impl Definition {
    /// Returns a digest of what is set up in the image beside packages, which have versions of their own: users, folders,
    /// links, files and their changes, what is dropped, and the environment.
    pub fn setup(&self) -> Digest {
        let Recipe { drop, groups, users, folders, links, files, replacements, environment, .. } = &self.recipe;
        let all = (drop, groups, users, folders, links, files, replacements, environment);
        let json = match &self.recipe.cross {
            None => serde_json::to_vec(&all),
            Some(cross) => serde_json::to_vec(&(all, cross)),
        };
        Digest::of(json.expect("a definition is plain data"))
    }
}

/// How an image is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// From a Debian archive, by mmdebstrap(1).
    Debian,
    /// Files of Debian packages and of what these depend on: nothing is installed, and nothing of theirs is run.
    DebianFiles,
}

impl Recipe {
    /// Reads a definition's text.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        Self::checked(toml::from_str(text)?, text)
    }

    /// Checks a recipe, of which this text is the definition's own part.
    fn checked(recipe: Self, own: &str) -> Result<Self, toml::de::Error> {
        keys::check(own, recipe.kind)?;
        recipe.check().map_err(serde::de::Error::custom)?;
        Ok(recipe)
    }

    fn hides(&self, name: &Word) -> bool {
        self.base.as_ref().is_some_and(|base| base.without.contains(name))
    }

    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("version {} is not known here, only {VERSION}", self.version));
        }
        if self.archives.is_empty() || self.components.is_empty() {
            return Err("an image needs an `[[archive]]` and at least one of `components`".to_string());
        }
        // One line each of a file with colons between the fields.
        let field = |text: &str| !text.contains(':') && !text.contains(char::is_control);
        for user in &self.users {
            if ![user.home.as_path(), user.shell.as_path()].iter().all(|p| p.to_str().is_some_and(field)) {
                return Err(format!("the paths of user `{}` cannot stand in /etc/passwd", user.name));
            }
            if !field(&user.comment) {
                return Err(format!("the comment of user `{}` cannot stand in /etc/passwd", user.name));
            }
        }
        for mode in self.folders.iter().map(|f| f.mode).chain(self.files.iter().map(|f| f.mode)) {
            if mode > 0o7777 {
                return Err(format!("{mode:#o} is no mode of a file"));
            }
        }
        keys::check_all(self)?;
        if self.kind == Kind::DebianFiles && self.keep.is_empty() {
            return Err("`keep` says what an image of kind `debian-files` has, and it is not there".to_string());
        }
        if self.cross.as_ref().is_some_and(|cross| cross.sysroot.to_string() == "/") {
            return Err("the sysroot of `[cross]` is the root itself, which is the build side's".to_string());
        }
        if let Some(name) = self.base.iter().flat_map(|base| &base.packages).find(|name| self.hides(name)) {
            return Err(format!("`{name}` is both in the base and hidden"));
        }
        match self.environment.iter().find(|(name, value)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') || name.contains(char::is_control)
        }) {
            Some((name, _)) => Err(format!("`{}` cannot be an environment variable", name.escape_debug())),
            None => Ok(()),
        }
    }
}

impl Definition {
    /// Returns the digest of what the definition means.
    pub fn digest(&self) -> Digest {
        // Description and base make no difference to what is made, nor do what it is called to build for and what runs it.
        let mut recipe = self.recipe.clone();
        (recipe.description, recipe.base, recipe.cross) = (String::new(), None, None);
        (recipe.emulator, recipe.native_tools) = (None, None);
        Digest::of(serde_json::to_vec(&(MAKER, recipe)).expect("a recipe has only plain fields"))
    }

    /// Reads a definition's file, whose name is the image's.
    pub fn load(file: &Path) -> Result<Self, DefinitionError> {
        let name = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let name = name.ok_or_else(|| DefinitionError::FileName(file.to_path_buf()))?;
        let beside: Vec<PathBuf> = file.parent().map(Path::to_path_buf).into_iter().collect();
        Self::read(name, &fs::read_to_string(file)?, Some(file.to_path_buf()), &beside)
    }

    /// Finds the definition of a name in the first of `folders` that has one, else among those that come with the
    /// program.
    pub fn find(name: &Name, folders: &[PathBuf]) -> Result<Self, DefinitionError> {
        match Self::text(name, folders)? {
            Some((text, file)) => Self::read(name.clone(), &text, file, folders),
            None => Err(DefinitionError::Unknown {
                name: name.clone(),
                known: Self::names(folders)?,
                folders: folders.to_vec(),
            }),
        }
    }

    /// Returns the names of all images that are defined, sorted: without what is only shared by others.
    pub fn names(folders: &[PathBuf]) -> Result<Vec<Name>, DefinitionError> {
        let mut names: Vec<Name> = IMAGES.iter().filter_map(|(name, _)| name.parse().ok()).collect();
        for dir in folders {
            let stem = |file: PathBuf| {
                let name = file.file_name()?.to_str()?.strip_suffix(".toml")?.parse().ok()?;
                // One that cannot be read is told to whoever names it.
                let text = fs::read_to_string(&file).unwrap_or_default();
                (!cross::is_shared(&text)).then_some(name)
            };
            names.extend(fs::read_dir_if_exists(dir)?.into_iter().filter_map(stem));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn read(name: Name, text: &str, file: Option<PathBuf>, folders: &[PathBuf]) -> Result<Self, DefinitionError> {
        let shown = file.as_ref().map_or_else(|| format!("{name}.toml (shipped)"), |file| file.display().to_string());
        let parse = |source| DefinitionError::Parse { file: shown.clone(), source: Box::new(source) };
        // Whole, so that what is wrong is told with its place, unless it stands on another, or others on it.
        let is_part =
            |table: toml::Table| ["inherits", "parameters", "with"].iter().any(|key| table.contains_key(*key));
        if !toml::from_str(text).is_ok_and(is_part) {
            let recipe = Recipe::parse(text).map_err(parse)?;
            return Ok(Self { name, file, inherits: None, recipe });
        }
        let (table, inherits) =
            cross::inherited(text, &|parent: &Name| Self::parent(parent, folders)).map_err(|e| match e {
                Unread::Wrong(source) => parse(source),
                Unread::Other(error) => *error,
            })?;
        let recipe = table.try_into().and_then(|recipe| Recipe::checked(recipe, text)).map_err(parse)?;
        Ok(Self { name, file, inherits, recipe })
    }

    /// Returns a definition's text and, unless it comes with the program, its file.
    fn text(name: &Name, folders: &[PathBuf]) -> Result<Option<(String, Option<PathBuf>)>, PathError> {
        let file = format!("{name}.toml");
        if let Some(file) = folders.iter().map(|dir| dir.join(&file)).find(|file| file.is_file()) {
            return Ok(Some((fs::read_to_string(&file)?, Some(file))));
        }
        let shipped = IMAGES.iter().chain(SHARED).find(|(shipped, _)| *shipped == name.as_str());
        Ok(shipped.map(|(_, text)| ((*text).to_string(), None)))
    }

    fn parent(name: &Name, folders: &[PathBuf]) -> Result<String, Unread> {
        let found = Self::text(name, folders).map_err(|e| Unread::Other(Box::new(e.into())))?;
        found.map(|(text, _)| text).ok_or_else(|| {
            Unread::Wrong(serde::de::Error::custom(format!("it inherits `{name}`, and there is no such definition")))
        })
    }
}

/// Why a definition that another stands on cannot be read.
enum Unread {
    Wrong(toml::de::Error),
    Other(Box<DefinitionError>),
}

impl From<toml::de::Error> for Unread {
    fn from(error: toml::de::Error) -> Self {
        Self::Wrong(error)
    }
}

/// A definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is none.
    #[error(
        "there is no image `{name}`; known are {}; definitions are looked for in {}",
        list(known.iter().map(|name| name.to_string())),
        list(folders.iter().map(|dir| dir.display().to_string()))
    )]
    Unknown {
        /// What was asked for.
        name: Name,
        /// What there is.
        known: Vec<Name>,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// It does not parse.
    #[error("the image definition `{file}` is wrong: {source}")]
    Parse {
        /// Which.
        file: String,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// Its name is none.
    #[error("`{}` is not the name of an image definition: letters, digits, `.`, `_`, `-`, then `.toml`", .0.display())]
    FileName(PathBuf),
}

fn list(items: impl Iterator<Item = String>) -> String {
    let text = items.map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".to_string() } else { text }
}

#[cfg(test)]
mod tests;
