//! What the profile's processors can do, and what is let pass all the same: `[isa]` (`docs/isa.md`).

use serde::Deserialize;
use toml::Spanned;

use super::Flags;
use super::text::{Chost, FilePattern, PackageName, Reason, SymbolPattern, UseWord};
use crate::config::{At, Diagnostic, closest, listed};
use crate::isa::{Exception, LevelError, Target, Wanted};

/// What packages may need of processors.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Isa {
    /// The level, where the profile says it itself.
    pub level: Option<UseWord>,
    /// What processors can do beside that.
    pub features: Vec<UseWord>,
    /// What follows.
    pub target: Target,
    /// What is let pass.
    pub exceptions: Vec<Excused>,
}

/// What is let pass of a package, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Excused {
    /// The package, in whatever version.
    pub package: PackageName,
    /// The file in the root.
    pub file: FilePattern,
    /// The function; nothing for all of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<SymbolPattern>,
    /// Why that is right.
    pub reason: Reason,
}

impl std::fmt::Display for Excused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`, `{}`", self.package, self.file)?;
        self.symbol.as_ref().map_or(Ok(()), |symbol| write!(f, ", `{symbol}`"))
    }
}

impl Isa {
    /// Returns what a package is checked for, by category and name.
    pub fn wanted(&self, package: &str) -> Wanted {
        let exception = |excused: &Excused| Exception {
            file: excused.file.to_string(),
            symbol: excused.symbol.as_ref().map(ToString::to_string),
            reason: excused.reason.to_string(),
        };
        Wanted { target: self.target.clone(), exceptions: self.of(package).map(exception).collect() }
    }

    /// Returns the exceptions for a package, in the order of [`Isa::wanted`].
    pub fn of(&self, package: &str) -> impl Iterator<Item = &Excused> {
        self.exceptions.iter().filter(move |excused| excused.package.as_str() == package)
    }
}

/// Returns what packages may need: what is said, or what follows from the rest of the profile.
pub(super) fn target(
    level: Option<&At<UseWord>>,
    features: &[At<UseWord>],
    chost: &Chost,
    flags: &Flags,
) -> Result<Target, Diagnostic> {
    let words: Vec<&str> = features.iter().map(|at| at.value.as_str()).collect();
    if let Some(wrong) = features.iter().find(|at| !Target::is_feature(at.value.as_str())) {
        let label = "expected a feature of x86 processors, as GCC names it (as `aes`, `avx2`, `sse4.2`)";
        return Err(wrong.complain(format!("no x86 processor has a feature `{}`", wrong.value), label));
    }
    let Some(level) = level else {
        let options = flags.cflags.as_ref().map_or("", super::Options::as_str);
        let cpu_flags: Vec<&str> = flags.cpu_flags.iter().map(UseWord::as_str).chain(words).collect();
        return Ok(Target::derive(chost.as_str(), options, &cpu_flags));
    };
    Target::new(chost.as_str(), level.value.as_str(), &words).map_err(|error| {
        let complaint =
            level.complain(error.to_string(), "expected a level, or a processor as GCC's `-march=` names it");
        let complaint = match closest(level.value.as_str(), LevelError::known()) {
            Some(name) => complaint.hint(format!("did you mean `{name}`?")),
            None => complaint,
        };
        complaint.hint(format!("levels are {}", listed(LevelError::known().filter(|name| name.starts_with("x86-64")))))
    })
}

/// `[isa]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct IsaTable {
    pub(super) level: Option<Spanned<UseWord>>,
    pub(super) features: Vec<Spanned<UseWord>>,
    pub(super) exceptions: Vec<Spanned<Excused>>,
}
