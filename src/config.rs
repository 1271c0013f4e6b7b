//! `bindery.toml`: where trees are, what holds where a profile says nothing, and the sets of packages one asks for.
//!
//! ```toml
//! version = 1
//! [defaults]                       # what a profile does not say itself
//! image = "debian-portage"
//! trees = ["gentoo"]
//! portage-profile = "default/linux/amd64/23.0"
//! key = "default"
//! source-date-epoch = 1700000000   # seconds since 1970
//! mirrors = ["https://mirror.example/gentoo"]
//! jobs = 4                         # how many jobs one package is built with at most, however many processors there are
//! yield = true                     # builds make way for others (docs/limits.md)
//! [trees.gentoo]
//! path = "../gentoo"               # from the folder of this file
//! [sets]
//! world = ["app-misc/hello"]       # asked for as @world
//! [archives]                       # where images' packages come from, if not from where the host's own apt has them
//! Debian = "https://mirror.example/debian"    # by the label in the archive's Release files
//! [ids]                            # subordinate ids for root; everyone else has theirs in /etc/subuid
//! start = 2000000000
//! [serve]
//! listen = "127.0.0.1:8411"
//! ```
//!
//! Every `bindery.toml` on the way ([`Search`]) is read; a value in an earlier one hides the same in a later one. Last comes
//! the one that is built in, `config/defaults.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;

use crate::atom::{Atom, Name};
use crate::fs::PathError;

mod diagnostic;
mod search;
pub mod shipped;
mod suggest;
mod value;

pub use diagnostic::{At, Diagnostic, Source};
pub use search::{Found, Kind, Search, SearchError, Unknown};
pub use suggest::{closest, listed};
pub(crate) use value::tidy;
pub use value::{Mirror, PortageProfile, Uri};

/// The newest version of `bindery.toml` and of profiles that this program reads.
pub(crate) const VERSION: u32 = 1;

/// How many ids a root needs: what the package managers of a whole distribution use.
const ID_COUNT: u32 = 65536;

/// Everything the `bindery.toml` files say together.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where definitions are found.
    pub search: Search,
    /// What holds where a profile says nothing.
    pub defaults: Defaults,
    /// Where each tree's files are: absolute, not necessarily there.
    pub trees: BTreeMap<Name, At<PathBuf>>,
    /// Sets of packages, for all profiles.
    pub sets: BTreeMap<Name, At<Vec<Atom>>>,
    /// Where archives of distribution packages are served, by the label in their Release files.
    pub archives: BTreeMap<String, Uri>,
    /// The first of root's subordinate user ids, and of its group ids.
    pub ids: Option<(u32, u32)>,
    /// Where `serve` listens.
    pub listen: Option<SocketAddr>,
    /// The files that were read, best first.
    pub files: Vec<PathBuf>,
}

/// What holds where a profile says nothing.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// The image.
    pub image: Option<At<Name>>,
    /// The trees, Portage's main repository first.
    pub trees: Option<At<Vec<Spanned<Name>>>>,
    /// The Portage profile.
    pub portage_profile: Option<At<PortageProfile>>,
    /// The signing key.
    pub key: Option<At<Name>>,
    /// Seconds since 1970 that stand for "now" inside builds.
    pub source_date_epoch: Option<At<u64>>,
    /// Mirrors of source archives; folders are absolute.
    pub mirrors: Option<At<Vec<Mirror>>>,
    /// How many jobs one package is built with at most.
    pub jobs: Option<u32>,
    /// Whether builds make way for others.
    pub gives_way: Option<bool>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    #[expect(dead_code, reason = "checked before the rest, named here so that it is a known field")]
    version: u32,
    #[serde(default)]
    defaults: DefaultsTable,
    #[serde(default)]
    trees: BTreeMap<Name, TreeTable>,
    #[serde(default)]
    sets: BTreeMap<Name, Spanned<Vec<Spanned<Atom>>>>,
    #[serde(default)]
    archives: BTreeMap<String, Uri>,
    ids: Option<IdsTable>,
    serve: Option<ServeTable>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DefaultsTable {
    image: Option<Spanned<Name>>,
    trees: Option<Spanned<Vec<Spanned<Name>>>>,
    portage_profile: Option<Spanned<PortageProfile>>,
    key: Option<Spanned<Name>>,
    source_date_epoch: Option<Spanned<u64>>,
    mirrors: Option<Spanned<Vec<Spanned<Mirror>>>>,
    jobs: Option<std::num::NonZeroU32>,
    #[serde(rename = "yield")]
    gives_way: Option<bool>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TreeTable {
    path: Spanned<PathBuf>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct IdsTable {
    start: Spanned<u32>,
    count: Option<u32>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeTable {
    listen: SocketAddr,
}

impl Config {
    /// Reads every `bindery.toml` of the search, and last the one that is built in. None at all is fine: then only that
    /// and what profiles say themselves counts.
    pub fn load(search: Search) -> Result<Self, ConfigError> {
        let mut config = Self {
            defaults: Defaults::default(),
            trees: BTreeMap::new(),
            sets: BTreeMap::new(),
            archives: BTreeMap::new(),
            ids: None,
            listen: None,
            files: Vec::new(),
            search,
        };
        for dir in config.search.folders().to_vec() {
            let path = dir.join(search::CONFIG_FILE);
            if path.exists() {
                config.take(&Source::read(&path)?)?;
                config.files.push(path);
            }
        }
        config.take(&Search::defaults())?;
        Ok(config)
    }

    /// Adds what a file says where the earlier ones said nothing.
    fn take(&mut self, source: &Arc<Source>) -> Result<(), ConfigError> {
        let file: ConfigFile = parse(source)?;
        let folder = source.folder().map(PathBuf::from).unwrap_or_default();
        let absolute = |mirrors: At<Vec<Mirror>>| {
            let value = mirrors.value.iter().map(|mirror| mirror.clone().below(&folder)).collect::<Result<_, _>>();
            let value = value.map_err(|e| mirrors.complain(e.to_string(), "as a path from this file's folder"))?;
            Ok::<_, ConfigError>(At { value, ..mirrors })
        };
        let defaults = file.defaults;
        or(&mut self.defaults.image, defaults.image, source);
        or(&mut self.defaults.trees, defaults.trees, source);
        or(&mut self.defaults.portage_profile, defaults.portage_profile, source);
        or(&mut self.defaults.key, defaults.key, source);
        or(&mut self.defaults.source_date_epoch, defaults.source_date_epoch, source);
        if let (None, Some(mirrors)) = (&self.defaults.mirrors, defaults.mirrors) {
            self.defaults.mirrors = Some(absolute(At::new(plain(mirrors), source))?);
        }
        self.defaults.jobs = self.defaults.jobs.or(defaults.jobs.map(std::num::NonZeroU32::get));
        self.defaults.gives_way = self.defaults.gives_way.or(defaults.gives_way);
        for (name, tree) in file.trees {
            let at = At::new(tree.path, source);
            let path = tidy(&folder.join(&at.value));
            self.trees.entry(name).or_insert(At { value: path, span: at.span, source: at.source });
        }
        for (name, atoms) in file.sets {
            self.sets.entry(name).or_insert(At::new(plain(atoms), source));
        }
        for (label, uri) in file.archives {
            self.archives.entry(label).or_insert(uri);
        }
        if let (None, Some(ids)) = (self.ids, file.ids) {
            let (start, count) = (At::new(ids.start, source), ids.count.unwrap_or(ID_COUNT));
            // Id 0 is the host's root, and the last id (-1) means "none" to the kernel.
            if start.value == 0 || count < ID_COUNT || start.value.checked_add(count).is_none() {
                let label = format!("expected a start above 0 and at least {ID_COUNT} ids, all below 2^32 - 1");
                return Err(start.complain("these subordinate ids cannot be used", label).into());
            }
            self.ids = Some((start.value, start.value));
        }
        self.listen = self.listen.or(file.serve.map(|serve| serve.listen));
        Ok(())
    }
}

/// Forgets the places of a list's values, which are read with them so that a mistake is shown at the value itself.
pub(crate) fn plain<T>(list: Spanned<Vec<Spanned<T>>>) -> Spanned<Vec<T>> {
    Spanned::new(list.span(), list.into_inner().into_iter().map(Spanned::into_inner).collect())
}

fn or<T>(slot: &mut Option<At<T>>, new: Option<Spanned<T>>, source: &Arc<Source>) {
    if slot.is_none() {
        *slot = new.map(|new| At::new(new, source));
    }
}

#[derive(serde::Deserialize)]
struct Header {
    version: Option<Spanned<u32>>,
}

/// Parses a file of ours: the version first, so that a newer file is refused for being newer, not for its news.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(source: &Arc<Source>) -> Result<T, Diagnostic> {
    let toml = |error| Diagnostic::of_toml(&error, source);
    match toml::from_str::<Header>(&source.text).map_err(toml)?.version {
        None => {
            Err(Diagnostic::of_file(source, "the file does not say its version").hint("begin it with `version = 1`"))
        }
        Some(version) if (1..=VERSION).contains(version.get_ref()) => toml::from_str(&source.text).map_err(toml),
        Some(version) => Err(At::new(version, source)
            .complain("this bindery does not read that version", format!("expected {VERSION}"))
            .hint("it was written for another bindery: use that one")),
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file says something wrong.
    #[error(transparent)]
    Wrong(Box<Diagnostic>),
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Wrong(Box::new(diagnostic))
    }
}

impl ConfigError {
    /// Returns the diagnostic to render, where there is one.
    pub fn diagnostic(&self) -> Option<&Diagnostic> {
        match self {
            Self::Path(_) => None,
            Self::Wrong(diagnostic) => Some(diagnostic),
        }
    }
}

#[cfg(test)]
mod tests;
