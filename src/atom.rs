//! Names, parsed once at the border: what comes in as text is one of these types before anything happens with it.
//!
//! Grammar: Package Manager Specification, chapters 3 (names, versions) and 8 (dependencies), and for our own names the
//! subset that is safe as one component of a path and of a URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use cpus::CpuList;

mod cpus;

/// Declares a newtype over `String` that is checked when parsed, shows as its text and serialises through it.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::atom::NameError;
            fn from_str(text: &str) -> Result<Self, $crate::atom::NameError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_string())) } else { Err($crate::atom::NameError::new(text, $what)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::atom::NameError;
            fn try_from(text: String) -> Result<Self, $crate::atom::NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use text_type;

text_type! {
    /// The name of a profile, image, tree or key: letters, digits, `.`, `_`, `-`; it starts with a letter or digit and
    /// has at most 64 characters.
    Name, "a name (letters, digits, `.`, `_`, `-`; at most 64; starting with a letter or digit)", |text| {
        text.len() <= 64 && word(text, "._-", |c| c.is_ascii_alphanumeric())
    }
}

text_type! {
    /// A version with its revision, such as `1.2.3_rc1-r2` (PMS 3.2).
    Version, "a version (as `1.2.3_rc1-r2`, see PMS 3.2)", is_version
}

text_type! {
    /// A package category, such as `app-misc` (PMS 3.1.1).
    Category, "a category (as `app-misc`, see PMS 3.1.1)", |text| {
        text.len() <= 128 && word(text, "+_.-", |c| c.is_ascii_alphanumeric() || c == '_')
    }
}

text_type! {
    /// A package name without category and version, such as `hello` (PMS 3.1.2).
    PackageName, "a package name (as `hello`, see PMS 3.1.2)", |text| {
        // PMS: a name must not end in a hyphen followed by something that looks like a version.
        text.len() <= 128
            && word(text, "+_-", |c| c.is_ascii_alphanumeric() || c == '_')
            && !(1..text.len()).any(|i| text.is_char_boundary(i) && text[i..].strip_prefix('-').is_some_and(is_version))
    }
}

/// Returns whether all characters are ASCII letters, digits or of `more`, and the first one satisfies `first`.
fn word(text: &str, more: &str, first: fn(char) -> bool) -> bool {
    text.starts_with(first) && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn is_version(text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if text.len() > 128 {
        return false;
    }
    let text = match text.rsplit_once("-r") {
        Some((rest, revision)) if digits(revision) => rest,
        _ => text,
    };
    let mut parts = text.split('_');
    let numbers = parts.next().unwrap_or_default();
    let numbers = numbers.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(numbers);
    numbers.split('.').all(digits)
        && parts.all(|part| {
            ["alpha", "beta", "pre", "rc", "p"]
                .iter()
                .any(|word| part.strip_prefix(word).is_some_and(|n| n.is_empty() || digits(n)))
        })
}

/// One version of one package: category, name and version, such as `app-misc/hello-2.10-r1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cpv {
    /// The category.
    pub category: Category,
    /// The name.
    pub package: PackageName,
    /// The version with its revision.
    pub version: Version,
}

impl Cpv {
    /// Returns name and version, as in file names: Portage's `PF`.
    pub fn pf(&self) -> String {
        format!("{}-{}", self.package, self.version)
    }

    /// Returns category and name: Portage's `CP`.
    pub fn cp(&self) -> String {
        format!("{}/{}", self.category, self.package)
    }
}

impl fmt::Display for Cpv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.category, self.package, self.version)
    }
}

impl FromStr for Cpv {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError::new(text, "category/package-version (as `app-misc/hello-2.10`)");
        let (category, pf) = text.split_once('/').ok_or_else(error)?;
        let category = category.parse().map_err(|_| error())?;
        // Names may hold hyphens and revisions start with one: the first split that gives both is the only one.
        for (at, _) in pf.match_indices('-') {
            if let (Ok(package), Ok(version)) = (pf[..at].parse(), pf[at + 1..].parse()) {
                return Ok(Self { category, package, version });
            }
        }
        Err(error())
    }
}

impl TryFrom<String> for Cpv {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Cpv> for String {
    fn from(cpv: Cpv) -> Self {
        cpv.to_string()
    }
}

text_type! {
    /// What a user asks for: an atom such as `hello`, `app-misc/hello`, `>=app-misc/hello-2:0`, or a set such as `@world`.
    /// Only its alphabet is checked here, so that it is safe as an argument; the package manager judges the rest.
    Atom, "an atom or set (as `app-misc/hello`, `=app-misc/hello-2.10` or `@world`)", |text| {
        text.len() <= 256
            && text.starts_with(|c: char| c.is_ascii_alphanumeric() || "_@=<>~!".contains(c))
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "/+_.-=<>~!*:@[],()?".contains(c))
    }
}

impl Atom {
    /// Returns the set's name where this is a set.
    pub fn set(&self) -> Option<&str> {
        self.0.strip_prefix('@')
    }
}

/// The number that tells several builds of one [`Cpv`] in one pool apart: Portage's `BUILD_ID`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct BuildId(pub u32);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An absolute path as seen inside a root; never to be opened on the host without [`RootPath::on`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "PathBuf", try_from = "PathBuf")]
pub struct RootPath(PathBuf);

impl RootPath {
    /// Returns the path as the root's own programs name it.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Returns where the path lies on the host if `root` is the folder that holds the root's files.
    pub fn on(&self, root: &Path) -> PathBuf {
        root.join(self.0.strip_prefix("/").unwrap_or(&self.0))
    }
}

impl FromStr for RootPath {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        PathBuf::from(text).try_into()
    }
}

impl TryFrom<PathBuf> for RootPath {
    type Error = NameError;
    fn try_from(path: PathBuf) -> Result<Self, NameError> {
        use std::path::Component::{Normal, RootDir};
        let plain = path.is_absolute() && path.components().all(|c| matches!(c, RootDir | Normal(_)));
        if plain {
            Ok(Self(path))
        } else {
            Err(NameError::new(&path.to_string_lossy(), "an absolute path without `..`"))
        }
    }
}

impl From<RootPath> for PathBuf {
    fn from(path: RootPath) -> Self {
        path.0
    }
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Some text is not the name it should be.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct NameError {
    text: String,
    expected: &'static str,
}

impl NameError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        // The text may be hostile and is shown on a terminal.
        Self { text: text.chars().take(100).flat_map(char::escape_debug).collect(), expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpv_splits_where_the_version_starts() {
        for (text, package, version) in [
            ("app-misc/hello-2.10", "hello", "2.10"),
            ("dev-libs/libxml2-2.9.14-r1", "libxml2", "2.9.14-r1"),
            ("x11-libs/gtk+-3.24.1_p20", "gtk+", "3.24.1_p20"),
            ("media-fonts/font-adobe-100dpi-1.0.3b_rc2", "font-adobe-100dpi", "1.0.3b_rc2"),
            ("virtual/9999-foo-1", "9999-foo", "1"),
        ] {
            let cpv: Cpv = text.parse().unwrap();
            assert_eq!((cpv.package.as_str(), cpv.version.as_str()), (package, version));
            assert_eq!(cpv.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_cpv_is_refused() {
        for text in
            ["hello", "hello-1", "app-misc/hello", "../x-1", "app-misc/../x-1", "a/b-1/c", "a/b-", "a/b-1-2\n", ""]
        {
            assert!(text.parse::<Cpv>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for text in ["..", ".hidden", "a/b", "", "-x", "a b", "ä", &"x".repeat(65)] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        assert!("x86-64-v3".parse::<Name>().is_ok());
    }

    #[test]
    fn atoms_are_checked_for_their_alphabet_only() {
        for text in
            ["hello", "app-misc/hello", ">=app-misc/hello-2.10-r1:0/2=[nls,-x]", "@world", "=a/b-1*", "a/b::tree"]
        {
            assert!(text.parse::<Atom>().is_ok(), "{text}");
        }
        for text in ["--help", "a b", "$(x)", "a;b", "a'b", "", "a\nb"] {
            assert!(text.parse::<Atom>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_in_a_root_stays_in_it() {
        let path: RootPath = "/var/tmp".parse().unwrap();
        assert_eq!(path.on(Path::new("/srv/root")), Path::new("/srv/root/var/tmp"));
        assert!("/a/../b".parse::<RootPath>().is_err());
        assert!("a".parse::<RootPath>().is_err());
    }

    #[test]
    fn an_error_shows_control_characters_escaped() {
        let error = "a\u{1b}[2J".parse::<Name>().unwrap_err().to_string();
        assert!(error.starts_with("`a\\u{1b}[2J` is not a name"), "{error}");
    }
}
