//! What a backend has to know to configure its package manager: a profile, resolved, in the package manager's own
//! terms.

use std::collections::BTreeMap;

use crate::atom::{Name, RootPath};
use crate::profile::Profile;

/// Everything that the package manager's configuration says. Values are plain text; whoever writes them quotes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `ARCH`, as `amd64`.
    pub arch: String,
    /// `CHOST`, as `x86_64-pc-linux-gnu`.
    pub chost: String,
    /// `CFLAGS` and its like, by name.
    pub flags: BTreeMap<String, String>,
    /// USE flags, `-flag` to switch one off.
    pub use_flags: Vec<String>,
    /// `ACCEPT_KEYWORDS`, beside those of the Portage profile.
    pub keywords: Vec<String>,
    /// `ACCEPT_LICENSE`; none means what the Portage profile accepts.
    pub licenses: Vec<String>,
    /// Lines of the `package.*` files.
    pub package: BTreeMap<PackageList, Vec<String>>,
    /// Variables for everything that is built.
    pub env: BTreeMap<String, String>,
    /// FEATURES beside those that bindery needs; `-name` to switch one off.
    pub features: Vec<String>,
    /// The trees; the first is the main one.
    pub trees: Vec<Tree>,
    /// The Portage profile: a path below `profiles/` of the main tree, or `TREE:PATH`.
    pub portage_profile: String,
    /// How many jobs one build may run at a time.
    pub jobs: u32,
    /// What is built on the build side, where packages are cross built.
    pub cross: Option<Cross>,
}

/// A cross build's other side (PMS 8.1, 11.1): what runs, and where what is built for the profile is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cross {
    /// `CBUILD`, as `x86_64-pc-linux-gnu`.
    pub cbuild: String,
    /// `SYSROOT`, and `ROOT`: a folder of the root.
    pub sysroot: RootPath,
    /// Whether programs for the other side run while packages are built.
    pub emulated: bool,
}

impl Settings {
    /// Returns what a profile says. `jobs` is how many jobs one build may run at a time.
    pub fn of(profile: &Profile, jobs: u32) -> Self {
        fn texts<T: ToString>(words: &[T]) -> Vec<String> {
            words.iter().map(ToString::to_string).collect()
        }
        let flags = &profile.flags;
        let flags = [
            ("CFLAGS", &flags.cflags),
            ("CXXFLAGS", &flags.cxxflags),
            ("FFLAGS", &flags.fflags),
            ("FCFLAGS", &flags.fcflags),
            ("LDFLAGS", &flags.ldflags),
            ("RUSTFLAGS", &flags.rustflags),
            ("GOFLAGS", &flags.goflags),
        ];
        let mut env: BTreeMap<String, String> =
            profile.env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        if let (Some(variable), false) = (profile.arch.cpu_flags_variable(), profile.flags.cpu_flags.is_empty()) {
            env.insert(variable.to_string(), texts(&profile.flags.cpu_flags).join(" "));
        }
        let lines = &profile.package;
        let package = [
            (PackageList::AcceptKeywords, &lines.accept_keywords),
            (PackageList::Env, &lines.env),
            (PackageList::License, &lines.license),
            (PackageList::Mask, &lines.mask),
            (PackageList::Provided, &lines.provided),
            (PackageList::Unmask, &lines.unmask),
            (PackageList::Use, &lines.use_),
        ];
        Self {
            arch: profile.arch.to_string(),
            chost: profile.chost.to_string(),
            flags: flags
                .iter()
                .filter_map(|(name, value)| Some(((*name).to_string(), value.as_ref()?.to_string())))
                .collect(),
            use_flags: texts(&profile.use_),
            keywords: texts(&profile.accept_keywords),
            licenses: texts(&profile.accept_license),
            package: package
                .map(|(list, lines)| (list, texts(lines)))
                .into_iter()
                .filter(|(_, l)| !l.is_empty())
                .collect(),
            env,
            features: texts(&profile.features),
            trees: (0..).zip(&profile.trees).map(|(priority, name)| Tree { name: name.clone(), priority }).collect(),
            portage_profile: profile.portage_profile.to_string(),
            jobs,
            cross: None,
        }
    }
}

/// A tree, where builds see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Its name, as in its `profiles/repo_name`.
    pub name: Name,
    /// Which of several that hold the same package wins: the highest.
    pub priority: i32,
}

impl Tree {
    /// Returns where the tree is mounted.
    pub fn path(&self) -> RootPath {
        format!("/var/db/repos/{}", self.name).parse().expect("a name is one component of a path")
    }
}

/// One of Portage's `package.*` files (portage(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageList {
    /// `package.accept_keywords`.
    AcceptKeywords,
    /// `package.env`.
    Env,
    /// `package.license`.
    License,
    /// `package.mask`.
    Mask,
    /// `profile/package.provided`: what the root has without any package of ours.
    Provided,
    /// `package.unmask`.
    Unmask,
    /// `package.use`.
    Use,
}

impl PackageList {
    /// Returns the file's path in the configuration's folder.
    pub fn file(self) -> &'static str {
        match self {
            Self::AcceptKeywords => "package.accept_keywords",
            Self::Env => "package.env",
            Self::License => "package.license",
            Self::Mask => "package.mask",
            Self::Provided => "profile/package.provided",
            Self::Unmask => "package.unmask",
            Self::Use => "package.use",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Search};
    use crate::fs;

    #[test]
    fn a_profile_says_it_all() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path();
        for (path, text) in [
            (
                "bindery.toml",
                "version = 1\n[defaults]\nimage = \"img\"\n[trees.one]\npath = \"one\"\n[trees.two]\npath = \"two\"\n",
            ),
            ("images/img.toml", ""),
            (
                "profiles/p.toml",
                r#"
                version = 1
                backend = "portage"
                chost = "x86_64-pc-linux-gnu"
                portage-profile = "two:default"
                trees = ["one", "two"]
                use = ["nls", "-X"]
                accept-keywords = ["~amd64"]
                accept-license = ["@FREE"]
                features = ["test"]
                [flags]
                cflags = "-O2"
                cpu-flags = ["avx2", "sse"]
                [package]
                use = ["app-misc/hello -nls"]
                [env]
                L10N = "en"
                "#,
            ),
        ] {
            let path = project.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        let config = Config::load(Search::of(vec![project.to_path_buf()])).unwrap();
        let profile = Profile::load(&config, &"p".parse().unwrap()).unwrap_or_else(|e| panic!("{e:?}"));
        let settings = Settings::of(&profile, 3);
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
        };
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect::<Vec<_>>();
        let expected = Settings {
            arch: "amd64".to_string(),
            chost: "x86_64-pc-linux-gnu".to_string(),
            flags: map(&[("CFLAGS", "-O2"), ("CXXFLAGS", "-O2"), ("FCFLAGS", "-O2"), ("FFLAGS", "-O2")]),
            use_flags: list(&["nls", "-X"]),
            keywords: list(&["~amd64"]),
            licenses: list(&["@FREE"]),
            package: [(PackageList::Use, list(&["app-misc/hello -nls"]))].into(),
            env: map(&[("CPU_FLAGS_X86", "avx2 sse"), ("L10N", "en")]),
            features: list(&["test"]),
            trees: vec![
                Tree { name: "one".parse().unwrap(), priority: 0 },
                Tree { name: "two".parse().unwrap(), priority: 1 },
            ],
            portage_profile: "two:default".to_string(),
            jobs: 3,
            cross: None,
        };
        assert_eq!(settings, expected);
    }
}
