//! What a backend has to know to configure its package manager: a profile, resolved, in the package manager's own terms.

use std::collections::BTreeMap;

use crate::atom::{Name, RootPath};

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
