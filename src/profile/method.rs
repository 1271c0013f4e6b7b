//! How packages are built for a profile's hardware: `method`, and `[package] method` for single ones.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::Deserialize;

/// The ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Natively where this machine runs what the image has for the profile's architecture. Otherwise cross, where an image
    /// can, and each package that does not cross build emulated, with native tools and then without.
    #[default]
    Auto,
    /// By the image's own compiler, for the architecture of the image; where that is emulated, with native tools.
    Native,
    /// By a compiler that runs on this machine and writes for the profile's (`docs/cross.md`).
    Cross,
    /// In a root of the profile's architecture, all of whose programs are emulated.
    Emulated,
}

/// All of them, in the order in which they are told.
const ALL: [Method; 4] = [Method::Auto, Method::Native, Method::Cross, Method::Emulated];

impl Method {
    /// Returns the word that profiles use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Cross => "cross",
            Self::Emulated => "emulated",
        }
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line of `[package] method`: `CATEGORY/NAME METHOD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodLine {
    /// `CATEGORY/NAME`, all versions.
    pub package: String,
    /// How it is built.
    pub method: Method,
}

impl FromStr for MethodLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(100).flat_map(char::escape_debug).collect();
            format!(
                "`{shown}` is not `CATEGORY/NAME METHOD` (as `app-misc/hello native`; auto, native, cross, emulated)"
            )
        };
        let (package, method) = text.split_once(' ').ok_or_else(wrong)?;
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "+_.-".contains(c))
        };
        let (category, name) = package.split_once('/').ok_or_else(wrong)?;
        if package.len() > 256 || !part(category) || !part(name) {
            return Err(wrong());
        }
        let method = ALL.into_iter().find(|known| known.as_str() == method).ok_or_else(wrong)?;
        Ok(Self { package: package.to_string(), method })
    }
}

impl<'de> Deserialize<'de> for MethodLine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for MethodLine {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Display for MethodLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_package_without_version_and_a_method() {
        for text in ["app-misc/hello native", "dev-libs/c++x cross", "a/b emulated", "a/b auto"] {
            assert_eq!(text.parse::<MethodLine>().unwrap().to_string(), text);
        }
        for text in ["", "app-misc/hello", "hello native", "a/b fast", "=a/b-1[x] cross", "a/b  cross", "a/b cross\n"] {
            assert!(text.parse::<MethodLine>().is_err(), "{text:?}");
        }
    }
}
