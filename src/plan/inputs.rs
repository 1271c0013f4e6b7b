//! The parts of a [`Request`] that lie in files on the host: ebuild, eclasses, patches, shell files.
//!
//! The resolver says which files; it ran among ebuilds and is believed only as far as they lie in what is mounted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::atom::RootPath;
use crate::backend::Resolution;
use crate::backend::resolution::Package;
use crate::digest::Digest;
use crate::fs::{self, Found, PathError};

use super::Request;
use super::request::ASKS;

/// The largest file that a tree or a configuration may have a package depend on.
const LIMIT: u64 = 64 << 20;

/// What shell code calls or reads to learn of installed packages more than their files: versions and flags.
const QUESTIONS: [&str; 4] = ["has_version", "best_version", "portageq", "db/pkg"];

/// What all packages of a plan have in common.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// What the resolver said.
    pub resolution: &'a Resolution,
    /// The image's packages that count, by role, see [`super::toolchain()`].
    pub toolchain: &'a BTreeMap<String, String>,
    /// A digest of what the image's definition sets up beside packages.
    pub image: &'a Digest,
    /// What is mounted in the root, and the folders on the host: each tree, and the configuration.
    pub mounts: &'a [(RootPath, PathBuf)],
    /// The folder on the host that holds the whole configuration.
    pub configuration: &'a Path,
    /// What was read already: many packages inherit the same eclasses.
    pub shells: Shells,
}

/// Shell files that were read.
#[derive(Debug, Clone, Default)]
pub struct Shells(RefCell<BTreeMap<PathBuf, Shell>>);

/// What is known of a shell file.
#[derive(Debug, Clone)]
struct Shell {
    digest: String,
    /// Whether it may ask for more of installed packages than their files.
    asks: bool,
}

impl Shells {
    fn read(&self, path: &Path) -> Result<Shell, InputsError> {
        if let Some(known) = self.0.borrow().get(path) {
            return Ok(known.clone());
        }
        check(path)?;
        let bytes = fs::read_at_most(path, LIMIT)?;
        let text = String::from_utf8_lossy(&bytes);
        let asks = QUESTIONS.iter().any(|question| text.contains(question));
        let shell = Shell { digest: Digest::of(&bytes).to_string(), asks };
        self.0.borrow_mut().insert(path.to_path_buf(), shell.clone());
        Ok(shell)
    }
}

impl Inputs<'_> {
    /// Returns a package's request, but for its dependencies.
    pub fn request(&self, package: &Package) -> Result<Request, InputsError> {
        let mut request = Request::default();
        let words = |words: &mut dyn Iterator<Item = &str>| words.collect::<Vec<_>>().join(" ");
        request.set("use", words(&mut package.use_flags.iter().map(|flag| flag.as_str())));
        request.set("features", words(&mut package.features.iter().map(|feature| feature.as_str())));
        for (name, value) in self.resolution.env.iter().filter(|(name, _)| !package.env_unset.contains(name)) {
            request.set(format!("env {name}"), value);
        }
        for (name, value) in &package.env {
            request.set(format!("env {name}"), value);
        }
        request.set_image(self.toolchain, self.image);
        self.tree(package, &mut request)?;
        self.configuration(package, &mut request)?;
        for file in &package.distfiles {
            request.set(format!("distfile {}", file.name), file.blake2b().unwrap_or_default());
        }
        Ok(request)
    }

    fn tree(&self, package: &Package, request: &mut Request) -> Result<(), InputsError> {
        let (_, tree) = self
            .mounts
            .iter()
            .find(|(path, _)| path.as_path().ends_with(package.repo.as_str()))
            .ok_or_else(|| InputsError::Tree { cpv: package.cpv.to_string(), tree: package.repo.to_string() })?;
        let ebuild = inside(tree, &tree.join(&package.ebuild))?;
        let Shell { digest, mut asks } = self.shells.read(&ebuild)?;
        request.set("ebuild", digest);
        let mut files = Vec::new();
        list(&ebuild.with_file_name("files"), Path::new(""), &mut files)?;
        if !files.is_empty() {
            request.set("files", Digest::of(files.concat()).to_string());
        }
        for eclass in &package.eclasses {
            let shell = self.shells.read(&self.on_host(&eclass.path)?)?;
            request.set(format!("eclass {}", eclass.name), shell.digest);
            asks = asks || shell.asks;
        }
        if asks {
            request.set(ASKS, "yes");
        }
        Ok(())
    }

    /// Adds the files of the configuration that builds of this package read: shell files, and user patches
    /// (portage(5)).
    fn configuration(&self, package: &Package, request: &mut Request) -> Result<(), InputsError> {
        let mut shell = Vec::new();
        for path in &self.resolution.bashrcs {
            let profile = self.shells.read(&self.on_host(path)?)?;
            shell.push(format!("{path} {}\n", profile.digest));
            if profile.asks {
                request.set(ASKS, "yes");
            }
        }
        let (category, name, slot) =
            (package.cpv.category.as_str(), package.cpv.package.as_str(), package.slot.as_str());
        let (version, revision) =
            package.cpv.version.as_str().rsplit_once("-r").unwrap_or((package.cpv.version.as_str(), "0"));
        let names =
            [name.to_string(), format!("{name}-{version}"), package.cpv.pf(), format!("{name}-{version}-r{revision}")];
        let mut names: Vec<String> = names.iter().flat_map(|name| [name.clone(), format!("{name}:{slot}")]).collect();
        names.sort();
        names.dedup();
        let mut patches = Vec::new();
        list(self.configuration, Path::new("bashrc"), &mut shell)?;
        for name in &names {
            list(self.configuration, &Path::new("env").join(category).join(name), &mut shell)?;
            list(self.configuration, &Path::new("patches").join(category).join(name), &mut patches)?;
        }
        if shell.len() > self.resolution.bashrcs.len() {
            // The administrator's own shell code may ask anything.
            request.set(ASKS, "yes");
        }
        for (part, entries) in [("bashrc", shell), ("patches", patches)] {
            if !entries.is_empty() {
                request.set(part, Digest::of(entries.concat()).to_string());
            }
        }
        Ok(())
    }

    /// Returns where a file of the root lies on the host.
    fn on_host(&self, path: &RootPath) -> Result<PathBuf, InputsError> {
        let mount =
            self.mounts.iter().find_map(|(at, host)| Some((host, path.as_path().strip_prefix(at.as_path()).ok()?)));
        let (host, rest) = mount.ok_or_else(|| InputsError::Elsewhere(path.clone()))?;
        inside(host, &host.join(rest))
    }
}

/// Returns a file's path without links; it must not lead out of `dir`.
fn inside(dir: &Path, path: &Path) -> Result<PathBuf, InputsError> {
    let (dir, real) = (fs::canonicalize(dir)?, fs::canonicalize(path)?);
    if real.starts_with(&dir) { Ok(real) } else { Err(InputsError::Outside(path.to_path_buf())) }
}

fn digest(path: &Path) -> Result<String, InputsError> {
    check(path)?;
    Ok(Digest::of_file(path)?.to_string())
}

/// Refuses what is no file, or an absurd one.
fn check(path: &Path) -> Result<(), InputsError> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_file() && metadata.len() <= LIMIT { Ok(()) } else { Err(InputsError::NoFile(path.to_path_buf())) }
}

/// Appends a line for every file and link below `dir/path`, which may be missing: links by their target, not followed.
fn list(dir: &Path, path: &Path, lines: &mut Vec<String>) -> Result<(), InputsError> {
    fs::walk(dir, path, &mut |path, full, found| {
        match found {
            // Without a file in it, a folder is nothing to a build.
            Found::Folder => {}
            Found::Link(target) => lines.push(format!("{} -> {}\n", path.display(), target.display())),
            Found::File => lines.push(format!("{} {}\n", path.display(), digest(full)?)),
        }
        Ok(())
    })
}

/// What a package is built from cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// A file cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The tree is not one of the profile's.
    #[error("`{cpv}` is from tree `{tree}`, which the profile does not name")]
    Tree {
        /// The package.
        cpv: String,
        /// The tree.
        tree: String,
    },
    /// The resolver named a file that is no part of a tree.
    #[error("the resolver named `{0}`, which is in no tree and not in the configuration")]
    Elsewhere(RootPath),
    /// A link leads out of a tree.
    #[error("`{path}` leads out of its tree", path = .0.display())]
    Outside(PathBuf),
    /// Something else than a file, or an absurd one.
    #[error("`{path}` is not a regular file of at most 64 MiB", path = .0.display())]
    NoFile(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Policy;
    use crate::plan::fixture::resolution;

    struct Host {
        dir: tempfile::TempDir,
        resolution: Resolution,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let host = Self { dir, resolution: resolution("app", &[]) };
            host.put("tree/c/app/app-1.ebuild", "EAPI=8");
            host.put("tree/eclass/x.eclass", "x");
            host.put("etc/make.conf", "");
            host
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }

        fn request(&self) -> Result<Request, InputsError> {
            let (tree, etc) = (self.dir.path().join("tree"), self.dir.path().join("etc"));
            let mounts =
                [("/var/db/repos/tree".parse().unwrap(), tree), ("/etc/portage".parse().unwrap(), etc.clone())];
            let (toolchain, image) = (BTreeMap::new(), Digest::of("image"));
            let (toolchain, image, configuration) = (&toolchain, &image, etc.as_path());
            let (resolution, mounts, shells) = (&self.resolution, &mounts, Shells::default());
            let inputs = Inputs { resolution, toolchain, image, mounts, configuration, shells };
            inputs.request(&self.resolution.packages[0])
        }

        /// Returns what changes when a file does.
        fn change(&self, path: &str) -> Vec<String> {
            let before = self.request().unwrap();
            self.put(path, "changed");
            self.request().unwrap().changes_since(&before, Policy::default()).iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn what_changes_in_a_tree_or_configuration_changes_the_request() {
        let mut host = Host::new();
        host.resolution.packages[0].eclasses =
            serde_json::from_str(r#"[{"name":"x","path":"/var/db/repos/tree/eclass/x.eclass"}]"#).unwrap();
        for (path, change) in [
            ("tree/c/app/app-1.ebuild", "the ebuild changed"),
            ("tree/c/app/files/fix.patch", "a file beside the ebuild is new"),
            ("tree/eclass/x.eclass", "eclass `x` changed"),
            ("etc/patches/c/app/a.patch", "a user patch is new"),
            ("etc/patches/c/app-1-r0/b.patch", "a user patch changed"),
            ("etc/patches/c/app-1:0/c.patch", "a user patch changed"),
        ] {
            assert_eq!(host.change(path), [change], "{path}");
        }
        let asks = "whether the ebuild may ask what is installed changed";
        assert_eq!(host.change("etc/bashrc"), ["the bashrc is new", asks]);
        assert_eq!(host.change("etc/env/c/app"), ["the bashrc changed"]);
    }

    #[test]
    fn an_ebuild_that_asks_what_is_installed_is_found_out() {
        let mut host = Host::new();
        let asks = |host: &Host| host.request().unwrap().to_parts().contains_key(ASKS);
        assert!(!asks(&host));
        host.put("tree/c/app/app-1.ebuild", "has_version a/b && x");
        assert!(asks(&host));
        host.put("tree/c/app/app-1.ebuild", "EAPI=8");
        host.resolution.packages[0].eclasses =
            serde_json::from_str(r#"[{"name":"x","path":"/var/db/repos/tree/eclass/x.eclass"}]"#).unwrap();
        host.put("tree/eclass/x.eclass", "best_version a/b");
        assert!(asks(&host));
        host.put("tree/eclass/x.eclass", "");
        assert!(!asks(&host));
        host.put("tree/profiles/profile.bashrc", "ls /var/db/pkg");
        host.resolution.bashrcs = vec!["/var/db/repos/tree/profiles/profile.bashrc".parse().unwrap()];
        assert!(asks(&host));
        host.put("tree/profiles/profile.bashrc", "true");
        assert!(!asks(&host));
    }

    #[test]
    fn what_concerns_other_packages_changes_nothing() {
        let host = Host::new();
        for path in [
            "tree/c/app/app-2.ebuild",
            "tree/c/lib/lib-1.ebuild",
            "etc/patches/c/lib/a.patch",
            "etc/patches/c/app-2/a.patch",
            // What it says is in what the resolver answers, as far as it matters.
            "etc/make.conf",
            "etc/package.use/own",
        ] {
            assert_eq!(host.change(path), [""; 0], "{path}");
        }
    }

    #[test]
    fn files_out_of_the_trees_are_not_read() {
        let mut host = Host::new();
        host.resolution.bashrcs = vec!["/etc/shadow".parse().unwrap()];
        assert!(matches!(host.request(), Err(InputsError::Elsewhere(_))));
        host.resolution.bashrcs.clear();
        let ebuild = host.dir.path().join("tree/c/app/app-1.ebuild");
        fs::remove_file(&ebuild).unwrap();
        fs::symlink(Path::new("/etc/hostname"), &ebuild).unwrap();
        assert!(matches!(host.request(), Err(InputsError::Outside(_) | InputsError::Path(_))));
    }

    #[test]
    fn a_package_of_an_unknown_tree_is_refused() {
        let mut host = Host::new();
        host.resolution.packages[0].repo = "other".parse().unwrap();
        assert_eq!(
            host.request().unwrap_err().to_string(),
            "`c/app-1` is from tree `other`, which the profile does not name"
        );
    }
}
