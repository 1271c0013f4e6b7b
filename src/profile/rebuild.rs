//! What of a dependency, when it changed, has its users built again, as far as that is for the user to say: `[rebuild]`.
//!
//! Headers, the ABI of libraries and sub-slots always count. Who cannot tell whether static archives were linked in, or
//! whether another compiler of documentation makes another documentation, may know (`docs/keys.md`).

use std::fmt::{self, Display};

/// The choices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rebuild {
    /// Of what is linked with: its static archives and objects.
    pub archives: Archives,
    /// Of what runs while others are built.
    pub tools: Tools,
}

/// Which change of static archives counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Archives {
    /// Any: what was linked statically is never older than its archives.
    #[default]
    Any,
    /// None.
    Never,
}

/// Which change of a build tool counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tools {
    /// Any of what it installs, but for documentation.
    #[default]
    Any,
    /// That of scripts, data and the ABI of libraries and programs, but not of their code.
    Abi,
    /// None but another sub-slot.
    Never,
}

impl Display for Archives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Never => "never",
        })
    }
}

impl Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Abi => "abi",
            Self::Never => "never",
        })
    }
}
