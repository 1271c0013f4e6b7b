//! Shows results on stdout and everything else on stderr, and decides exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the user's mistake: an unknown profile, an atom nobody provides, an ebuild this cannot honour |
//! | 2 | the command line does not parse |
//! | 3 | a package could not be built, or a file is not what its signature says |
//! | 4 | the host cannot do it: no user namespaces, a tool missing, a full disk |
//! | 70 | a bug in bindery |
//! | 130 | stopped by a signal |
//!
//! `bindery run` and `bindery shell` pass the command's own status on (128 + signal when a signal ended it, or bindery) and
//! use 125 for bindery's failures, 126 for a command that cannot be executed and 127 for one that is not there.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::process::chain;
use crate::profile::ProfileError;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for is wrong.
    User,
    /// A package failed, or a file was refused.
    Build,
    /// The host cannot do it.
    System,
    /// A bug.
    Internal,
    /// A signal stopped it.
    Interrupted,
    /// A command that was run on the user's behalf ended with this status.
    Command(u8),
}

impl Kind {
    /// Returns the exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Build => 3,
            Self::System => 4,
            Self::Internal => 70,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

/// Why a command did not do what it was asked, with what to do next.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What happened; nothing where everything has been said already.
    pub error: Option<anyhow::Error>,
    /// A message that is complete in itself, such as one with a source excerpt.
    pub rendered: Option<String>,
    /// What the user can do.
    pub hints: Vec<String>,
}

impl Failure {
    /// Returns the failure for an error of a kind.
    pub fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        Self { kind, error: Some(error.into()), rendered: None, hints: Vec::new() }
    }

    /// Returns the failure for a user's mistake described by one sentence.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, anyhow::Error::msg(message.into()))
    }

    /// Returns a failure about which nothing is left to say.
    pub fn silent(kind: Kind) -> Self {
        Self { kind, error: None, rendered: None, hints: Vec::new() }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds where to look for what the host lacks.
    #[must_use]
    pub fn hint_at_doctor(self) -> Self {
        self.hint("`bindery doctor` tries each thing that a sandbox needs, and says how to mend what is missing")
    }

    /// Prints the failure to stderr and returns its exit code.
    pub fn show(&self) -> ExitCode {
        let mut text = String::new();
        if let Some(rendered) = &self.rendered {
            // Its colours are ours; what it quotes has none.
            say_as_it_is(rendered.trim_end());
        } else if let Some(error) = &self.error {
            let _ = writeln!(text, "bindery: {}", chain(error.as_ref()));
        }
        if self.error.as_ref().is_some_and(is_full) {
            let _ = writeln!(
                text,
                "  hint: the disk is full: make room and start again, or use another with `--state DIR`"
            );
        }
        for hint in &self.hints {
            let _ = writeln!(text, "  hint: {hint}");
        }
        say(text.trim_end());
        ExitCode::from(self.kind.code())
    }
}

/// How those say that a disk is full who run in another process, of which the text is all that there is: strerror(3), and apt.
const FULL: [&str; 2] = ["No space left on device", "You don't have enough free space in "];

/// Returns whether a full disk, or a user's full share of it, is at the bottom of an error.
fn is_full(error: &anyhow::Error) -> bool {
    let mut kinds = error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind);
    // What happened in another process comes as its text.
    kinds.any(|kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
        || error.chain().any(|e| FULL.iter().any(|text| e.to_string().contains(text)))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let rendered = error.diagnostic().map(|d| d.render(colour()));
        Self { rendered, ..Self::new(Kind::User, error) }
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        let rendered = error.diagnostic().map(|d| d.render(colour()));
        Self { rendered, hints: error.hints(), ..Self::new(Kind::User, error) }
    }
}

/// Returns whether stderr shows colours.
fn colour() -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is part of cli")]
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    io::stderr().is_terminal() && !unwanted
}

/// What a command returns.
pub type Outcome = Result<(), Failure>;

/// Returns text as a terminal may see it: what a build, a package or a mirror wrote must neither move the cursor nor hide
/// something. Line ends and tabs stay.
fn plain(text: &str) -> String {
    let invisible =
        |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || invisible(*c))).collect()
}

/// Prints a line to stderr, without control characters. A closed stderr is no reason to stop a build.
pub fn say(line: &str) {
    say_as_it_is(&plain(line));
}

fn say_as_it_is(line: &str) {
    if !line.is_empty() {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// Prints a result to stdout, without control characters where that is a terminal.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let text = if out.is_terminal() { &plain(text) } else { text };
    match out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
    {
        // The reader has seen enough, as in `bindery log | head`.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::silent(Kind::Command(0))),
        Err(e) => Err(Failure::new(Kind::System, anyhow::Error::new(e).context("cannot write to standard output"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a value as JSON to stdout.
pub fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::new(Kind::Internal, anyhow::Error::new(e).context("cannot write JSON")))?;
    print(&text)
}

/// Returns milliseconds as a person says them: `2m 5s`.
pub fn time(milliseconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(milliseconds.div_ceil(1000))).to_string()
}

/// Returns rows as aligned columns, two spaces apart.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).chain([head[i].len()]).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in std::iter::once(&head.map(String::from)).chain(rows) {
        let line: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    text
}

/// Returns a length in bytes as people read it.
pub fn bytes(n: u64) -> String {
    let mut value = n;
    let mut rest = 0;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024 {
            return if unit == "B" { format!("{value} B") } else { format!("{value}.{} {unit}", rest * 10 / 1024) };
        }
        rest = value % 1024;
        value /= 1024;
    }
    format!("{value}.{} TiB", rest * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_sees_no_control_characters() {
        let hostile = "a\x1b]0;title\x07b\x1b[2Jc\rd\u{9b}31me\u{202e}f\x7f\n\tg";
        assert_eq!(plain(hostile), "a]0;titleb[2Jcd31mef\n\tg");
    }

    #[test]
    fn a_full_disk_is_found_at_the_bottom_of_an_error() {
        let full = |kind| {
            let error = crate::fs::PathError::on("write", std::path::Path::new("f"))(io::Error::from(kind));
            is_full(&anyhow::Error::new(error).context("more"))
        };
        assert!(full(io::ErrorKind::StorageFull) && !full(io::ErrorKind::NotFound));
        assert!(is_full(&anyhow::anyhow!("cp: cannot write: No space left on device").context("more")));
        assert!(is_full(
            &anyhow::anyhow!("E: You don't have enough free space in /var/cache/apt/archives/.").context("more")
        ));
        assert!(!is_full(&anyhow::anyhow!("E: Unable to locate package free-space")));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a".to_string(), "1".to_string()], ["long".to_string(), "2".to_string()]];
        assert_eq!(table(["name", "n"], &rows), "name  n\na     1\nlong  2\n");
    }

    #[test]
    fn lengths_are_rounded_down() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(1 << 40)], ["0 B", "1023 B", "1.5 KiB", "1.0 TiB"]);
    }
}
