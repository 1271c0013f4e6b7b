//! Hardware profiles: what packages are built for, and how.
//!
//! `profiles/NAME.toml` is a [`ProfileFile`]; with what it inherits, the defaults of `bindery.toml` and all checks done
//! it becomes a [`Profile`], which the stages after this one use. A folder `profiles/NAME/portage/` beside the file holds
//! configuration in Portage's own form, laid over what is generated from the profile.
//!
//! ```toml
//! version = 1
//! description = "…"                 # one line
//! inherits = "amd64"                # or a list: later wins over earlier, this file over all; each is applied once
//! image = "debian-portage"
//! backend = "portage"
//! trees = ["gentoo", "overlay"]     # the first is Portage's main repository, later ones override earlier ones
//! portage-profile = "default/linux/amd64"   # in the first tree, or TREE:path
//! arch = "amd64"                    # follows from chost
//! chost = "x86_64-pc-linux-gnu"
//! use = ["nls", "-X"]               # lists continue what is inherited; -x takes x back, -* everything
//! accept-keywords = ["~amd64"]
//! accept-license = ["@FREE"]
//! features = ["test"]
//! patches = "patches"               # folder as /etc/portage/patches; relative to this file, as all paths
//! mirrors = ["https://…"]
//! key = "default"
//! source-date-epoch = 1700000000    # seconds since 1970
//! method = "auto"                   # or "native", "cross", "emulated": how packages are built (docs/cross.md)
//! cross-image = "NAME"              # cross: the image with the compiler, where `image` is of the profile's own architecture
//! build-side = "amd64"              # cross: whose packages run while this profile's are built
//! share = true                      # packages without compiled code, with profiles that differ in flags (docs/keys.md)
//! [flags]                           # cxxflags, fflags, fcflags follow cflags
//! cflags = "-O2 -pipe"
//! cpu-flags = ["avx2"]              # CPU_FLAGS_X86 and its like
//! [package]                         # lines of package.use and so on
//! use = ["app-misc/hello -nls"]
//! method = ["app-misc/hello native"]   # for single packages
//! [sets]
//! world = ["app-misc/hello"]        # @world
//! [env]                             # other variables for make.conf
//! L10N = "en"
//! [rebuild]                         # what of a dependency, when it changed, has its users built again (docs/keys.md)
//! archives = "any"                  # or "never": static archives
//! tools = "any"                     # or "abi", "never": what runs while they are built
//! [isa]                             # what packages may need of processors (docs/isa.md); follows from chost and flags
//! level = "x86-64-v2"
//! features = ["aes"]
//! [limits]                          # docs/limits.md
//! memory = "4GiB"
//! time = "2h"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::atom::{Atom, Name};
use crate::config::{At, Config, Diagnostic, Kind, Mirror, PortageProfile, SearchError, Unknown};
use crate::fs::PathError;

mod file;
pub mod host;
mod isa;
mod limits;
mod merge;
mod method;
pub mod new;
mod rebuild;
mod resolve;
mod sets;
mod show;
mod text;

pub use file::ProfileFile;
pub use isa::{Excused, Isa};
pub use limits::{Limits, parse_cpus, parse_io_weight, parse_size, parse_swap, parse_time};
pub use method::{Method, MethodLine};
pub use rebuild::{Archives, Rebuild, Tools};
pub use sets::SetError;
pub use text::{
    Arch, Chost, Description, Feature, FilePattern, Keyword, License, Options, PackageLine, PackageName, Reason,
    SymbolPattern, UseWord, Variable, VariableValue,
};

/// The package manager that builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Portage.
    Portage,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Portage => f.write_str("portage"),
        }
    }
}

/// A profile, complete and checked. Its serialised form holds only what can change a package or its build, and where
/// each value comes from.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Profile {
    /// The profile's name.
    pub name: Name,
    /// What it is for.
    pub description: Option<Description>,
    /// What roots start from; there is a definition of it.
    pub image: Name,
    /// The package manager.
    pub backend: Backend,
    /// The trees, at least one, each in `bindery.toml`: Portage's main repository first; a later one's packages are
    /// preferred over an earlier one's of the same version.
    pub trees: Vec<Name>,
    /// The Portage profile; its tree, where named, is one of `trees`.
    pub portage_profile: PortageProfile,
    /// Portage's word for the processor family; goes with `chost`.
    pub arch: Arch,
    /// What programs are compiled for.
    pub chost: Chost,
    /// How packages are built.
    pub method: Method,
    /// What packages are cross built in, where that is not `image`; there is a definition of it.
    pub cross_image: Option<Name>,
    /// The profile of this machine's architecture whose packages run while this one's are cross built.
    pub build_side: Option<Name>,
    /// Options for compilers and linkers.
    pub flags: Flags,
    /// USE flags in order; of a flag and its negation only the later is left.
    #[serde(rename = "use")]
    pub use_: Vec<UseWord>,
    /// Keywords to accept besides those of the Portage profile.
    pub accept_keywords: Vec<Keyword>,
    /// Licences to accept; none means what the Portage profile accepts.
    pub accept_license: Vec<License>,
    /// Lines for Portage's `package.*` files.
    pub package: PackageLines,
    /// Folders laid over each other as `/etc/portage/patches`, later over earlier; absolute.
    pub patches: Vec<PathBuf>,
    /// Sets, those of `bindery.toml` included; [`Profile::expand`] uses them.
    pub sets: BTreeMap<Name, Vec<Atom>>,
    /// Variables for builds. Values may hold quotes and `$`: whoever writes them down quotes them.
    pub env: BTreeMap<Variable, VariableValue>,
    /// FEATURES besides those that bindery sets.
    pub features: Vec<Feature>,
    /// What a build may use.
    pub limits: Limits,
    /// Mirrors of source archives, best first; folders are absolute.
    pub mirrors: Vec<Mirror>,
    /// The key that packages are signed with; whether there is one is not known here.
    pub key: Name,
    /// Seconds since 1970 that stand for "now" in builds, where the user sets them.
    pub source_date_epoch: Option<u64>,
    /// Whether packages that are proven to hold no compiled code serve for other flags than those that they were built
    /// with, also those of other profiles.
    pub share: bool,
    /// What of a dependency, when it changed, has its users built again.
    pub rebuild: Rebuild,
    /// What packages may need of processors.
    pub isa: Isa,
    /// Folders laid over the generated `/etc/portage`, later over earlier; absolute.
    pub native: Vec<PathBuf>,
    /// The files it was read from, the profile's own last.
    pub files: Vec<PathBuf>,
    /// Where each value is written.
    #[serde(rename = "from")]
    pub places: Places,
}

/// Options for compilers and linkers; nothing means that the variable is not set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flags {
    /// For C.
    pub cflags: Option<Options>,
    /// For C++; as for C unless said.
    pub cxxflags: Option<Options>,
    /// For Fortran 77; as for C unless said.
    pub fflags: Option<Options>,
    /// For newer Fortran; as for C unless said.
    pub fcflags: Option<Options>,
    /// For the linker.
    pub ldflags: Option<Options>,
    /// For Rust.
    pub rustflags: Option<Options>,
    /// For Go.
    pub goflags: Option<Options>,
    /// Instruction sets, none of them negated: for [`Arch::cpu_flags_variable`].
    pub cpu_flags: Vec<UseWord>,
}

/// Lines for Portage's `package.*` files, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageLines {
    /// `package.use`.
    #[serde(rename = "use")]
    pub use_: Vec<PackageLine>,
    /// `package.accept_keywords`.
    pub accept_keywords: Vec<PackageLine>,
    /// `package.license`.
    pub license: Vec<PackageLine>,
    /// `package.mask`.
    pub mask: Vec<PackageLine>,
    /// `package.unmask`.
    pub unmask: Vec<PackageLine>,
    /// `package.env`.
    pub env: Vec<PackageLine>,
    /// `profile/package.provided`.
    pub provided: Vec<PackageLine>,
    /// How single packages are built; a later line wins.
    pub method: Vec<MethodLine>,
}

impl Profile {
    /// Returns how a package is built; `package` is `CATEGORY/NAME`.
    pub fn method_of(&self, package: &str) -> Method {
        self.package.method.iter().rfind(|line| line.package == package).map_or(self.method, |line| line.method)
    }
}

/// Where each value of a profile is written: the key, such as `flags.cflags`, and `FILE:LINE` for each value under it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Places(BTreeMap<String, Vec<String>>);

impl Places {
    /// Returns the places of a key's values, in the order of the values; nothing for what nobody wrote.
    pub fn of(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    fn note<T>(&mut self, key: &str, at: &At<T>) {
        self.0.entry(key.to_string()).or_default().push(at.place());
    }

    fn take<T>(&mut self, key: &str, at: Option<At<T>>) -> Option<T> {
        at.map(|at| {
            self.note(key, &at);
            at.value
        })
    }

    fn list<T>(&mut self, key: &str, list: Vec<At<T>>) -> Vec<T> {
        list.into_iter()
            .map(|at| {
                self.note(key, &at);
                at.value
            })
            .collect()
    }
}

/// A profile in a list.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Its file.
    pub path: PathBuf,
    /// Its description, or what is wrong with it.
    pub description: Result<Option<Description>, ProfileError>,
}

/// Returns all profiles there are, sorted by name; one that is wrong is listed with what is wrong.
pub fn list(config: &Config) -> Result<Vec<Listed>, PathError> {
    let found = config.search.list(Kind::Profile)?;
    let listed = found.into_iter().map(|found| {
        let description = Profile::load(config, &found.name).map(|profile| profile.description);
        Listed { name: found.name, path: found.path, description }
    });
    Ok(listed.collect())
}

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no profile of that name.
    #[error(transparent)]
    Unknown(Unknown),
    /// A file says something wrong.
    #[error(transparent)]
    Wrong(Box<Diagnostic>),
}

impl ProfileError {
    /// Returns the diagnostic to render, where a file says something wrong.
    pub fn diagnostic(&self) -> Option<&Diagnostic> {
        match self {
            Self::Wrong(diagnostic) => Some(diagnostic),
            Self::Path(_) | Self::Unknown(_) => None,
        }
    }

    /// Returns what to do about it; a diagnostic's hints are part of its rendering and not repeated here.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown(unknown) => unknown.hints(),
            Self::Path(_) | Self::Wrong(_) => Vec::new(),
        }
    }
}

impl From<Diagnostic> for ProfileError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Wrong(Box::new(diagnostic))
    }
}

impl From<SearchError> for ProfileError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Path(error) => Self::Path(error),
            SearchError::Unknown(unknown) => Self::Unknown(unknown),
        }
    }
}

#[cfg(test)]
mod tests;
