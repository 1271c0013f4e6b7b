//! Values that configuration and profiles share, checked as they are read.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::atom::{Name, NameError, text_type};

text_type! {
    /// A mirror of source archives: a URL below which `distfiles/` lies, as in Portage's `GENTOO_MIRRORS`, or a folder
    /// (a path, or `file://` and an absolute path) that holds the archives themselves.
    Mirror, "a mirror (an http, https or file URL, or a folder's path)", |text| {
        let plain = text.len() <= 1000 && !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"\"'`$\\".contains(c));
        plain && match text.split_once("://") {
            Some(("http" | "https", rest)) => rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['),
            Some(("file", rest)) => rest.starts_with('/'),
            Some(_) => false,
            None => true,
        }
    }
}

text_type! {
    /// Where an archive of distribution packages is served, as in sources.list(5).
    Uri, "a URI that apt understands (a scheme, and no spaces or brackets)", |text| {
        text.contains(":/") && text.len() <= 1000 && text.bytes().all(|b| b.is_ascii_graphic() && !b"[]\"'".contains(&b))
    }
}

impl Mirror {
    /// Returns the folder, where the mirror is one.
    pub fn folder(&self) -> Option<&Path> {
        match self.as_str().split_once("://") {
            Some(("file", path)) => Some(Path::new(path)),
            Some(_) => None,
            None => Some(Path::new(self.as_str())),
        }
    }

    /// Returns the mirror with a relative path made absolute.
    pub(crate) fn below(self, folder: &Path) -> Result<Self, NameError> {
        match self.folder() {
            Some(path) if path.is_relative() => tidy(&folder.join(path)).to_string_lossy().parse(),
            _ => Ok(self),
        }
    }
}

/// Returns a path without `.` components; `..` stays, because what is before it may be a link.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, Component::CurDir)).collect()
}

/// A Portage profile: a folder below a tree's `profiles/`. Written as `default/linux/amd64`, which is in the first of
/// the profile's trees, or as `TREE:default/linux/amd64`, as in a `parent` file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PortageProfile {
    /// The tree; nothing means the first of the profile's trees.
    pub tree: Option<Name>,
    /// The path below the tree's `profiles/`, without `.` and `..`.
    pub path: String,
}

impl FromStr for PortageProfile {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error =
            || NameError::new(text, "a Portage profile (as `default/linux/amd64` or `TREE:default/linux/amd64`)");
        let (tree, path) = match text.split_once(':') {
            Some((tree, path)) => (Some(tree.parse().map_err(|_| error())?), path),
            None => (None, text),
        };
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
        };
        if path.len() > 500 || !path.split('/').all(part) {
            return Err(error());
        }
        Ok(Self { tree, path: path.to_string() })
    }
}

impl TryFrom<String> for PortageProfile {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PortageProfile> for String {
    fn from(profile: PortageProfile) -> Self {
        profile.to_string()
    }
}

impl std::fmt::Display for PortageProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tree {
            Some(tree) => write!(f, "{tree}:{}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_url_or_a_folder() {
        for text in
            ["https://mirror.example/gentoo", "http://127.0.0.1:8080", "file:///srv/dist", "tests/distfiles", "/srv"]
        {
            assert!(text.parse::<Mirror>().is_ok(), "{text}");
        }
        for text in ["", "ftp://x", "https:// x", "http://", "file://x", "https://x/$(id)", "a\nb", "-x\u{7f}"] {
            assert!(text.parse::<Mirror>().is_err(), "{text:?}");
        }
        let folder = "./dist".parse::<Mirror>().unwrap().below(Path::new("/p")).unwrap();
        assert_eq!(folder.folder(), Some(Path::new("/p/dist")));
    }

    #[test]
    fn a_portage_profile_stays_below_profiles() {
        let profile: PortageProfile = "gentoo:default/linux/amd64/23.0".parse().unwrap();
        assert_eq!(profile.tree.as_ref().map(Name::as_str), Some("gentoo"));
        assert_eq!(profile.to_string(), "gentoo:default/linux/amd64/23.0");
        for text in ["", "/etc", "a//b", "../x", "a/../b", "a/", "a:b:c", ":x", "a b", "a\n"] {
            assert!(text.parse::<PortageProfile>().is_err(), "{text:?}");
        }
    }
}
