//! What definitions of images are made of.

use std::time::UNIX_EPOCH;

use crate::atom::{Name, RootPath};
use crate::config::Uri;
use crate::digest::Digest;

/// One archive: a server's folder with several suites.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The label its Release files carry, by which the host's own apt source for it is found.
    pub label: String,
    /// Suites taken from it.
    pub suites: Vec<Word>,
    /// Used where neither `bindery.toml` nor the host's apt knows where an archive with that label is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Uri>,
    /// The keys that sign it, where the host has that file; else apt's trusted ones.
    pub keyring: RootPath,
}

/// A wheel on PyPI.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// The project.
    pub name: Word,
    /// The version.
    pub version: Word,
    /// Of the wheel's file.
    pub sha256: Digest,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: u16,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: u16,
    /// Its group's id.
    pub group: u16,
    /// Its home folder.
    pub home: RootPath,
    /// Its shell.
    #[serde(default = "no_shell")]
    pub shell: RootPath,
    /// The full name.
    #[serde(default)]
    pub comment: String,
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where.
    pub path: RootPath,
    /// Whose.
    #[serde(default)]
    pub owner: u16,
    /// Whose group's.
    #[serde(default)]
    pub group: u16,
    /// Permission bits.
    #[serde(default = "folder_mode")]
    pub mode: u16,
}

/// A file with its content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Where.
    pub path: RootPath,
    /// What is in it.
    pub text: String,
    /// Permission bits.
    #[serde(default = "file_mode")]
    pub mode: u16,
}

/// A change in a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// In which file.
    pub path: RootPath,
    /// What is there exactly once.
    pub text: String,
    /// What is to stand there.
    pub with: String,
}

fn no_shell() -> RootPath {
    "/usr/sbin/nologin".parse().expect("it is absolute")
}
const fn folder_mode() -> u16 {
    0o755
}
const fn file_mode() -> u16 {
    0o644
}

/// Declares a text that is checked when it is read.
macro_rules! checked_text {
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
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> bool = $check;
                if check(&text) {
                    return Ok(Self(text));
                }
                let shown: String = text.chars().take(100).flat_map(char::escape_debug).collect();
                Err(format!(concat!("`{}` is not ", $what), shown))
            }
        }
        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text! {
    /// A name or version as Debian and PyPI have them: never an option of a program, never several words.
    Word, "a name or version (letters, digits, `.`, `+`, `-`, `_`, `~`, `:`; starting with a letter or digit)", |text| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-_~:".contains(&b))
    }
}

/// A time that the text of a definition gives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SourceDate {
    text: String,
    seconds: u64,
}

impl SourceDate {
    /// Returns the seconds since 1970.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }
    /// Returns the time as the definition has it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for SourceDate {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let time = humantime::parse_rfc3339(&text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let seconds = time.map(|t| t.as_secs()).filter(|seconds| *seconds < 1 << 33);
        seconds.map(|seconds| Self { text, seconds }).ok_or("not a time such as `2025-08-09T00:00:00Z`".to_string())
    }
}

impl From<SourceDate> for String {
    fn from(date: SourceDate) -> Self {
        date.text
    }
}
