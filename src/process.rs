//! Runs external programs; a failure names the whole command line and the end of what it said. Errors become text here,
//! since that is how they leave a process.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How much of a failed program's standard error goes into the message.
const TAIL: usize = 2000;
/// How soon it is noticed that a program has ended or is to be ended.
const PAUSE: Duration = Duration::from_millis(20);

/// Returns a command that inherits nothing by accident: standard input is empty.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Returns the path to start this same program again by, whatever has become of its file.
pub fn program() -> &'static Path {
    PROGRAM.get().map_or(Path::new("/proc/self/exe"), PathBuf::as_path)
}

/// Returns a command that starts this same program again.
pub fn this_program() -> Command {
    command(program())
}

/// Returns [`this_program`] in a process group of its own: what a terminal sends to its foreground group (Ctrl-C) reaches
/// bindery alone, which then ends its children in its own order.
pub fn this_program_apart() -> Command {
    let mut command = this_program();
    command.process_group(0);
    command
}

/// Says which program is bindery, for a process that uses the library and is not: a test.
pub fn set_this_program(path: &Path) {
    // Tests of one process all say the same.
    let _ = PROGRAM.set(path.to_path_buf());
}

/// Runs a command to its end and returns what it printed; failing, or printing its standard error, is an error's text.
pub fn run(command: &mut Command) -> Result<Output, ProcessError> {
    let output = command.output().map_err(|source| ProcessError::Start { line: line(command), source })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(ProcessError::Failed { line: line(command), status: output.status, stderr: tail(&output.stderr) })
}

/// Like [`run`], for a program that may take long: once `cancel` is set it and what it started is killed, and that is its
/// failure. It also ends when this process is killed, which setpriv(1) sees to.
pub fn run_until(command: &mut Command, cancel: &AtomicBool) -> Result<Output, ProcessError> {
    let line = line(command);
    let failed = |source| ProcessError::Start { line: line.clone(), source };
    let mut contained = self::command("setpriv");
    contained.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => contained.env(name, value),
            None => contained.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        contained.current_dir(dir);
    }
    // A group of its own, to be killed as a whole, which Ctrl-C at the terminal does not reach.
    let child = contained.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let group = i32::try_from(child.id()).map(Pid::from_raw).expect("Linux process ids are below 2^22");
    let waiting = std::thread::spawn(move || child.wait_with_output());
    while !waiting.is_finished() {
        if cancel.load(Ordering::Relaxed) {
            // It may have ended meanwhile; its number is nobody else's until it is waited for.
            let _ = killpg(group, Signal::SIGKILL);
        }
        std::thread::sleep(PAUSE);
    }
    let output = waiting.join().expect("waiting does not panic").map_err(failed)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(ProcessError::Failed { line, status: output.status, stderr: tail(&output.stderr) })
}

/// Returns where a program is found in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "PATH is where programs are found")]
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/sbin:/usr/bin:/sbin:/bin"));
    // Debian's ordinary users lack the sbin folders in PATH, where some of the tools we need live.
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Returns the end of some output as text, cut at a line, without control characters.
pub fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]);
    let text = if bytes.len() > TAIL { text.split_once('\n').map_or(&*text, |(_, rest)| rest) } else { &text };
    text.trim_end().chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

/// Returns an error and its causes, colons between them, as it is shown to people and passed between processes. A cause
/// that its error has said already is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// An external program failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start `{line}`")]
    Start {
        /// The command line.
        line: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{line}` failed ({status}){}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Failed {
        /// The command line.
        line: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        stderr: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_command_line_and_stderr() {
        let error = run(command("sh").args(["-c", "echo oops >&2; exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "`sh -c echo oops >&2; exit 3` failed (exit status: 3): oops");
    }

    #[test]
    fn an_error_and_its_causes_are_one_line() {
        let error = crate::fs::read(Path::new("/no/such")).unwrap_err();
        assert_eq!(chain(&error), "cannot read `/no/such`: No such file or directory (os error 2)");
    }

    #[test]
    fn a_cause_that_was_said_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] io::Error);
        assert_eq!(chain(&Outer(io::Error::other("inner"))), "outer: inner");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut command("no-such-program-here")).unwrap_err().to_string();
        assert_eq!(error, "cannot start `no-such-program-here`");
    }

    #[test]
    fn long_output_is_cut_at_a_line() {
        let text = "0123456789\n".repeat(1000);
        assert!(tail(text.as_bytes()).starts_with("0123456789\n"));
        assert!(tail(text.as_bytes()).len() <= TAIL);
    }
}
