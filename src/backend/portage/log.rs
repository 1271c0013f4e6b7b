//! What the log of a failed build tells: the phase, why, and the lines that say it.
//!
//! The log is `emerge`'s whole output and may be long, hostile, and full of what only looks like an error. It is read
//! once, line by line, with bounded memory. The phase that failed and the reason come from Portage's own report:
//!
//! ```text
//!  * ERROR: app-misc/hello-2.10::tree failed (compile phase):
//!  *   emake failed
//!  *
//!  * Call stack: …
//! ```
//!
//! The telling lines are the first ones since the phase began that compilers and build systems mark as errors; where
//! there are none, the last ones before the report.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

use crate::atom::Cpv;
use crate::backend::{Failure, Missing};

/// Bytes of one line that are looked at.
const LINE: usize = 4096;
/// Characters of one line that are shown.
const SHOWN: usize = 300;
/// Telling lines.
const TELLING: usize = 12;
/// Last lines, where no line is marked as an error.
const LAST: usize = 8;
/// Lines of the reason.
const REASON: usize = 4;
/// Things that were not found.
const MISSING: usize = 8;

/// What programs say of ENOSPC (strerror(3)).
const NO_SPACE: &str = "No space left on device";

/// Reads a log.
pub(super) fn read(log: &mut dyn Read) -> io::Result<Failure> {
    let mut log = BufReader::new(log);
    let mut reader = Reader::default();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if (&mut log).take(LINE as u64).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(reader.finish());
        }
        if bytes.last() != Some(&b'\n') {
            log.skip_until(b'\n')?;
        }
        reader.line(&clean(&bytes));
    }
}

#[derive(Default)]
struct Reader {
    /// The phase that is running, by the last line that announced one.
    running: Option<&'static str>,
    /// Lines since it began that look like errors.
    errors: Vec<String>,
    /// The last lines.
    last: VecDeque<String>,
    report: Report,
    cpv: Option<Cpv>,
    phase: Option<String>,
    reason: Vec<String>,
    no_space: bool,
    /// What was not found since the phase began.
    missing: Vec<Missing>,
    /// What `configure` did not find last.
    checked: Option<Missing>,
}

/// Where in Portage's report the reader is.
#[derive(Default, PartialEq)]
enum Report {
    #[default]
    Before,
    Reason,
    After,
}

impl Reader {
    fn line(&mut self, line: &str) {
        self.no_space |= line.contains(NO_SPACE);
        match self.report {
            Report::Before => {}
            Report::Reason => {
                let text = line.strip_prefix(" *").map(str::trim);
                match text {
                    Some(text) if !text.is_empty() && self.reason.len() < REASON => {
                        self.reason.push(text.to_string());
                    }
                    _ => self.report = Report::After,
                }
                return;
            }
            Report::After => return,
        }
        self.look_for_missing(line);
        if let Some((cpv, phase)) = failed_phase(line) {
            self.cpv = cpv.parse().ok();
            self.phase = Some(phase.to_string());
            self.report = Report::Reason;
        } else if let Some(phase) = announced_phase(line) {
            self.running = Some(phase);
            self.errors.clear();
            self.last.clear();
            self.missing.clear();
            self.checked = None;
        } else if let Some(cpv) = failed_package(line) {
            self.cpv = cpv.parse().ok();
        } else if !matches!(line.trim(), "" | "*") && !line.starts_with(">>> ") {
            if is_error(line) && self.errors.len() < TELLING && !self.errors.iter().any(|known| known == line) {
                self.errors.push(line.to_string());
            }
            if self.last.len() == LAST {
                self.last.pop_front();
            }
            self.last.push_back(line.to_string());
        }
    }

    fn look_for_missing(&mut self, line: &str) {
        if let Some(checked) = Missing::in_check(line) {
            self.checked = Some(checked);
            return;
        }
        let asked = line.trim_start().starts_with("configure: error:").then(|| self.checked.take()).flatten();
        for missing in Missing::in_line(line).into_iter().chain(asked) {
            if self.missing.len() < MISSING && !self.missing.contains(&missing) {
                self.missing.push(missing);
            }
        }
    }

    fn finish(self) -> Failure {
        let telling = if self.errors.is_empty() { self.last.into() } else { self.errors };
        // `die` without words is reported as no message; a hint at the log's place helps nobody, it is not there any
        // more.
        let reason = self.reason.join(" ");
        Failure {
            cpv: self.cpv,
            phase: self.phase.or_else(|| self.running.map(str::to_string)),
            reason: (!reason.is_empty() && reason != "(no error message)").then_some(reason),
            telling,
            no_space: self.no_space,
            missing: self.missing,
        }
    }
}

/// Returns package and phase of ` * ERROR: CPV::REPO failed (PHASE phase):`.
fn failed_phase(line: &str) -> Option<(&str, &str)> {
    let (package, rest) = line.strip_prefix(" * ERROR: ")?.split_once(" failed")?;
    let (cpv, _) = package.split_once("::").unwrap_or((package, ""));
    let phase = rest.trim_start().strip_prefix('(')?.strip_suffix(" phase):")?;
    (!phase.is_empty() && phase.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some((cpv, phase))
}

/// Returns the package of `>>> Failed to install CPV, Log file:`, which stands there where no phase failed, too.
fn failed_package(line: &str) -> Option<&str> {
    let rest = line.strip_prefix(">>> Failed to ")?;
    let rest = rest.strip_prefix("install ").or_else(|| rest.strip_prefix("emerge "))?;
    rest.split([',', ' ']).next()
}

/// Returns the phase that begins with a line of Portage's.
fn announced_phase(line: &str) -> Option<&'static str> {
    const ANNOUNCED: &[(&str, &str)] = &[
        ("Preparing the root of ", "dependencies"),
        ("Running pre-merge checks for ", "pretend"),
        ("Verifying ebuild manifests", "fetch"),
        ("Emerging (", "fetch"),
        ("Unpacking source", "unpack"),
        ("Preparing source in ", "prepare"),
        ("Configuring source in ", "configure"),
        ("Compiling source in ", "compile"),
        ("Test phase: ", "test"),
        ("Install ", "install"),
        ("Completed installing ", "package"),
        ("Creating binpkg", "package"),
    ];
    let rest = line.strip_prefix(">>> ")?;
    ANNOUNCED.iter().find(|(words, _)| rest.starts_with(words)).map(|(_, phase)| *phase)
}

/// Returns whether compilers, linkers, build systems or interpreters mark errors like this.
fn is_error(line: &str) -> bool {
    const ANYWHERE: &[&str] = &[
        ": error:",
        ": fatal error:",
        ": ERROR:",
        "internal compiler error",
        ": undefined reference to ",
        "undefined symbol:",
        "multiple definition of ",
        "cannot find -l",
        ": cannot open shared object file",
        "No rule to make target",
        "No space left on device",
        "Permission denied",
        ": command not found",
        ": not found",
        "Killed signal",
        "virtual memory exhausted",
        "access violation",
    ];
    const AT_START: &[&str] = &[
        "configure: error:",
        "CMake Error",
        "ERROR:",
        "ERROR ",
        "Error:",
        "error:",
        "error[",
        "FAILED:",
        "FAIL:",
        "Traceback (most recent call last)",
        "collect2: error",
        "ninja: error",
        "patch: ****",
    ];
    let text = line.trim_start();
    ANYWHERE.iter().any(|mark| text.contains(mark))
        || AT_START.iter().any(|mark| text.starts_with(mark))
        || (text.contains("*** ") && (text.starts_with("make") || text.starts_with("gmake")))
        || is_exception(text)
}

/// Returns whether this is the last line of a Python traceback: `ModuleNotFoundError: No module named 'x'`.
fn is_exception(text: &str) -> bool {
    text.split_once(": ").is_some_and(|(name, _)| {
        (name.ends_with("Error") || name.ends_with("Exception"))
            && name.len() > 5
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
    })
}

/// Returns a line as text that is safe to show: without control sequences and what else moves a terminal, bounded.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut chars = text.trim_end_matches(['\n', '\r']).chars().peekable();
    let mut length = 0;
    while let Some(c) = chars.next() {
        if length == SHOWN {
            out.push('…');
            break;
        }
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            // A progress bar returns to the line's start: what counts is what it shows at last.
            '\r' => {
                out.clear();
                length = 0;
            }
            '\t' => {
                out.push_str("    ");
                length += 1;
            }
            // What turns text around makes a line look like another one.
            c if c.is_control() || is_invisible(c) => {}
            c => {
                out.push(c);
                length += 1;
            }
        }
    }
    out
}

/// Returns whether a character shows nothing, or turns the direction of what follows.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Skips what follows an escape character: `[…letter` (colours), `]…BEL` (titles), or one character (ECMA-48).
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            chars.find(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some('(' | ')' | '#' | '%') => {
            chars.next();
        }
        Some(']' | 'P' | '_' | '^') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
