//! Package managers: how they plan and build.
//!
//! A [`Backend`] knows one of them. It says what files its configuration is made of, which programs to run inside a
//! root to plan and to build, and what their output means; it runs nothing itself, and knows neither sandboxes nor
//! pools.
//!
//! Where things are inside a root is the same for every backend and every step:
//!
//! ```text
//! /etc/portage                  the configuration; in a cross build the build side's                   read-only
//! /etc/bindery/target/etc/portage   in a cross build, the configuration of what is built   read-only
//! /var/db/repos/NAME            each tree                                      read-only
//! /var/cache/distfiles          source archives                                read-only
//! /var/cache/bindery/packages   finished packages that a build root starts with, and their index   read-only
//! /var/cache/bindery/built      what a build leaves
//! ```

pub mod resolution;
pub mod settings;

mod missing;
mod portage;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::atom::{Atom, Cpv, RootPath};
use crate::fs::{self, PathError};

pub use missing::Missing;
pub use portage::index::{PackageFile, package_path};
pub use resolution::{Problem, Resolution, ResolutionError};
pub use settings::{Cross, PackageList, Settings, Tree};

/// One package manager.
pub trait Backend: fmt::Debug + Sync {
    /// Returns the name that profiles call it by.
    fn name(&self) -> &'static str;

    /// Returns the folder inside a root that the configuration is mounted on; in a cross build that of what is built: the
    /// build side's is where it always is.
    fn configuration_path(&self, cross: Option<&Cross>) -> RootPath;

    /// Returns the files of that folder.
    fn configuration(&self, settings: &Settings) -> Result<Configuration, SettingsError>;

    /// Returns the file of a configuration that says how many jobs a build runs at a time, with another number in it;
    /// nothing where that is the administrator's own to say. `dir` is the configuration's folder.
    fn with_jobs(&self, dir: &Path, jobs: u32) -> Result<Option<(PathBuf, String)>, PathError>;

    /// Returns what to run to learn what some atoms need. Sets are the caller's to expand.
    fn resolve(&self, atoms: &[Atom], cross: Option<&Cross>) -> Step;

    /// Reads what the step of [`Backend::resolve`] left on standard output, which is not to be trusted.
    fn resolution(&self, output: &[u8]) -> Result<Resolution, ResolutionError>;

    /// Returns what to run to build one package.
    fn build(&self, build: &Build<'_>) -> Step;

    /// Returns what to run to merge one package of [`PACKAGES`] into the root as it is; `source_date` is seconds since 1970
    /// that its phases may write into what they make.
    fn merge(&self, cpv: &Cpv, source_date: u64) -> Step;

    /// Returns the text of the index of [`PACKAGES`]: it names exactly these files, each at its [`package_path`].
    fn index(&self, packages: &[PackageFile]) -> String;

    /// Returns where in the root the package is that a build has left.
    fn artefact(&self, cpv: &Cpv) -> RootPath;

    /// Reads the log of a build that failed.
    fn failure(&self, log: &mut dyn Read) -> std::io::Result<Failure>;
}

/// Where finished packages are mounted.
pub const PACKAGES: &str = "/var/cache/bindery/packages";
/// Where those of the build side are, in a cross build.
pub const TOOLS: &str = "/var/cache/bindery/tools";
/// Where a build leaves its package.
pub const BUILT: &str = "/var/cache/bindery/built";
/// Where source archives are mounted.
pub const DISTFILES: &str = "/var/cache/distfiles";

/// The exit status of [`Backend::build`]'s step where a dependency could not be put into the root.
pub const DEPENDENCY_FAILED: u8 = 80;

/// Returns the backend of that name.
pub fn find(name: &str) -> Result<&'static dyn Backend, UnknownBackend> {
    const ALL: &[&dyn Backend] = &[&portage::Portage];
    ALL.iter().copied().find(|backend| backend.name() == name).ok_or_else(|| UnknownBackend {
        name: name.chars().take(100).flat_map(char::escape_debug).collect(),
        known: ALL.iter().map(|backend| format!("`{}`", backend.name())).collect::<Vec<_>>().join(", "),
    })
}

/// A program to run inside a root. Its working folder is `/`, its standard input empty, its environment just this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The command line.
    pub args: Vec<String>,
    /// The environment, to which the image's own may be added.
    pub env: Vec<(String, String)>,
}

/// What is to be built, and in what.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// The package.
    pub cpv: &'a Cpv,
    /// The packages that its root starts with, in the order in which they are put there.
    pub needs: &'a [Cpv],
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 that builds may write into what they make.
    pub source_date: u64,
    /// The other side, where it is cross built, and the packages of [`TOOLS`] that the root starts with there.
    pub cross: Option<(&'a Cross, &'a [Cpv])>,
}

/// The files of a package manager's configuration, by their path in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Text files.
    pub files: BTreeMap<PathBuf, String>,
    /// Symbolic links, whose targets are paths in the root.
    pub links: BTreeMap<PathBuf, RootPath>,
}

impl Configuration {
    /// Writes everything into a folder that is empty or does not exist yet.
    pub fn write(&self, dir: &Path) -> Result<(), PathError> {
        fs::create_dir_all(dir)?;
        for (path, text) in &self.files {
            let file = dir.join(path);
            fs::create_dir_all(file.parent().unwrap_or(dir))?;
            fs::write_atomic(&file, text, 0o644)?;
        }
        for (path, target) in &self.links {
            fs::symlink(target.as_path(), &dir.join(path))?;
        }
        Ok(())
    }

    /// Writes everything, then lays folders over it that hold user patches (as `patches/` in the configuration) and
    /// native configuration: later over earlier, native over all.
    pub fn write_with(&self, patches: &[PathBuf], native: &[PathBuf], dir: &Path) -> Result<(), PathError> {
        self.write(dir)?;
        patches.iter().try_for_each(|patches| overlay(patches, &dir.join("patches")))?;
        native.iter().try_for_each(|native| overlay(native, dir))
    }
}

/// Copies files, folders and links over what is there. Anything else has no business in a configuration and is left
/// out.
fn overlay(from: &Path, to: &Path) -> Result<(), PathError> {
    fs::create_dir_all(to)?;
    for source in fs::read_dir(from)? {
        let target = to.join(source.file_name().unwrap_or_default());
        let kind = fs::symlink_metadata(&source)?.file_type();
        let old = fs::symlink_metadata(&target).ok().map(|old| old.file_type());
        if old.is_some_and(|old| old.is_dir() != kind.is_dir()) {
            // `package.use` may be a file here and a folder there: the native one wins as a whole.
            if old.is_some_and(|old| old.is_dir()) { fs::remove_dir_all(&target)? } else { fs::remove_file(&target)? }
        }
        if kind.is_dir() {
            overlay(&source, &target)?;
        } else if kind.is_symlink() {
            fs::remove_file(&target)?;
            fs::symlink(&fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            // Whatever its mode here, the package manager must be able to read it as another user.
            fs::write_atomic(&target, fs::read(&source)?, 0o644)?;
        }
    }
    Ok(())
}

/// What a failed build's log tells.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// Which package failed, if the log says: the one that was built, or one that its root was to start with.
    pub cpv: Option<Cpv>,
    /// In which phase it failed, as the package manager calls it (`compile`); nothing where it did not come so far.
    pub phase: Option<String>,
    /// Why, in one line, as the package manager says it.
    pub reason: Option<String>,
    /// The lines that tell it, first things first; bounded, without control characters.
    pub telling: Vec<String>,
    /// Whether something said that there was no space left to write. Anybody can print that.
    pub no_space: bool,
    /// What was not found in the phase that failed, as far as anybody said so.
    pub missing: Vec<Missing>,
}

/// There is no backend of that name.
#[derive(Debug, thiserror::Error)]
#[error("unknown backend `{name}`, expected one of {known}")]
pub struct UnknownBackend {
    name: String,
    known: String,
}

/// A setting cannot be written into the package manager's configuration.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A control character would end the line that it stands in.
    #[error("{place} holds a control character in `{text}`; remove it")]
    Control {
        /// Which setting.
        place: String,
        /// What it holds, escaped.
        text: String,
    },
    /// A variable's name is none.
    #[error("`{0}` is not the name of a variable (letters, digits and `_`, not starting with a digit)")]
    Variable(String),
    /// A feature that cannot be.
    #[error("FEATURES=`{feature}` cannot be honoured: {reason}; remove it from `features`")]
    Feature {
        /// The feature.
        feature: String,
        /// Why not.
        reason: &'static str,
    },
    /// There is no tree.
    #[error("no tree is named: a profile needs at least one in `trees`")]
    NoTree,
    /// Some path is not one.
    #[error("the Portage profile `{0}` is not a path below `profiles/` of a tree")]
    PortageProfile(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_backend_is_refused_and_the_known_ones_are_named() {
        assert_eq!(find("portage").unwrap().name(), "portage");
        let error = find("rpm\u{1b}").unwrap_err().to_string();
        assert_eq!(error, "unknown backend `rpm\\u{1b}`, expected one of `portage`");
    }

    #[test]
    fn native_configuration_wins_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (native, out) = (dir.path().join("native"), dir.path().join("out"));
        fs::create_dir_all(&native.join("package.use")).unwrap();
        fs::write(&native.join("package.use/own"), "a/b c\n").unwrap();
        fs::write(&native.join("bashrc"), "x\n").unwrap();
        fs::symlink(Path::new("/elsewhere"), &native.join("make.profile")).unwrap();
        let generated = Configuration {
            files: [("package.use", "old\n"), ("make.conf", "m\n")].map(|(p, t)| (p.into(), t.to_string())).into(),
            links: [(PathBuf::from("make.profile"), "/var/db/repos/t/profiles/x".parse().unwrap())].into(),
        };
        let patches = dir.path().join("patches");
        fs::create_dir_all(&patches.join("a/b")).unwrap();
        fs::write(&patches.join("a/b/c.patch"), "p\n").unwrap();
        generated.write_with(&[patches], &[native], &out).unwrap();
        assert_eq!(fs::read_to_string(&out.join("patches/a/b/c.patch")).unwrap(), "p\n");
        assert_eq!(fs::read_to_string(&out.join("package.use/own")).unwrap(), "a/b c\n");
        assert_eq!(fs::read_to_string(&out.join("make.conf")).unwrap(), "m\n");
        assert_eq!(fs::read_to_string(&out.join("bashrc")).unwrap(), "x\n");
        assert_eq!(fs::read_link(&out.join("make.profile")).unwrap(), Path::new("/elsewhere"));
    }
}
