//! The record of what `bindery run` and `bindery shell` ran: with which root, network and binds, and what came of it.
//!
//! ```text
//! state/commands.jsonl        two lines for each command, when it begins and when it ends; 0600
//!       commands.jsonl.old    what was there before the file had its full length
//! ```
//!
//! A line costs some ten microseconds: it is appended in one write and not waited for until it is on the disk. So a machine
//! that stops may forget the last ones, and no more. A command that began, has not ended, and whose process is gone was
//! killed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::runtime::Spec;
use serde_json::{Map, Value};

use crate::fs::{self, PathError};
use crate::sandbox::{Exit, Status, Stopped};
use crate::state::{State, holder_is_dead};

const VERSION: u32 = 1;
/// How long the file may be; some 700 commands.
const FULL: u64 = 1 << 20;
/// How much of an argument is kept.
const LONGEST_ARGUMENT: usize = 200;
/// How many arguments are kept, and how many binds.
const MOST: usize = 50;

/// What is known when a command begins.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Begun {
    /// Its lease's id.
    pub(super) lease: String,
    /// In seconds since 1970.
    pub(super) at: u64,
    /// `run` or `shell`.
    pub(super) tool: String,
    /// What its root was made of, as `image debian-portage`.
    pub(super) from: String,
    /// Program and arguments, cut where they are long.
    pub(super) command: Vec<String>,
    /// `none` or `host`.
    pub(super) network: String,
    /// What of the host's files it was shown: SRC:DST, and `:rw` where it may write.
    pub(super) binds: Vec<String>,
}

/// What is known when it has ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Ended {
    lease: String,
    at: u64,
    #[serde(flatten)]
    how: How,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum How {
    /// It ran.
    Exit(Told),
    /// It did not, or was lost.
    Error(String),
}

/// What the sandbox told: as [`Exit`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Told {
    pub(super) status: Status,
    pub(super) stopped: Option<Stopped>,
    /// What it used, and what isolation and limits it really had.
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Line {
    version: u32,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Begun(Begun),
    Ended(Ended),
}

/// A recorded command.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Command {
    #[serde(flatten)]
    pub(super) begun: Begun,
    /// When it ended.
    pub(super) ended: Option<u64>,
    /// How; nothing where it runs, or was killed.
    #[serde(flatten)]
    pub(super) how: Option<How>,
    /// Whether it runs.
    pub(super) running: bool,
}

/// Notes that a command begins.
pub(super) fn begin(state: &State, lease: &str, tool: &str, from: &str, spec: &Spec) -> Result<(), PathError> {
    let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
    let host = spec.annotations().as_ref().and_then(|all| all.get("bindery.network")).is_some_and(|n| n == "host");
    let mounts = spec.mounts().iter().flatten();
    let binds = mounts.filter(|m| m.typ().as_deref() == Some("bind") && m.destination() != Path::new("/"));
    let binds = binds.map(|mount| {
        let source = mount.source().as_deref().unwrap_or(Path::new("")).display().to_string();
        let rw = if mount.options().iter().flatten().any(|option| option == "ro") { "" } else { ":rw" };
        format!("{}:{}{rw}", cut(&source), cut(&mount.destination().display().to_string()))
    });
    let begun = Begun {
        lease: lease.to_string(),
        at: now(),
        tool: tool.to_string(),
        from: cut(from),
        command: args.into_iter().flatten().map(|arg| cut(arg)).take(MOST).collect(),
        network: if host { "host" } else { "none" }.to_string(),
        binds: binds.take(MOST).collect(),
    };
    append(state, What::Begun(begun))
}

/// Notes how it ended, or why it did not run.
pub(super) fn end(state: &State, lease: &str, exit: Result<&Exit, String>) -> Result<(), PathError> {
    let told = |exit| serde_json::to_value(exit).and_then(serde_json::from_value).expect("plain data with text keys");
    let how = exit.map_or_else(|error| How::Error(cut(&error)), |exit| How::Exit(told(exit)));
    append(state, What::Ended(Ended { lease: lease.to_string(), at: now(), how }))
}

/// Returns the recorded commands, oldest first. What cannot be read, as of a later bindery, is passed over.
pub(super) fn all(state: &State) -> Result<Vec<Command>, PathError> {
    let mut commands: Vec<Command> = Vec::new();
    let file = file(state);
    for file in [old(&file), file] {
        if !file.exists() {
            continue;
        }
        let text = fs::read_at_most(&file, 2 * FULL)?;
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        for line in lines.filter(|line| line.version == VERSION) {
            match line.what {
                What::Begun(begun) => commands.push(Command { begun, ended: None, how: None, running: false }),
                What::Ended(ended) => {
                    let same = |command: &&mut Command| command.ended.is_none() && command.begun.lease == ended.lease;
                    if let Some(command) = commands.iter_mut().rev().find(same) {
                        (command.ended, command.how) = (Some(ended.at), Some(ended.how));
                    }
                }
            }
        }
    }
    for command in &mut commands {
        command.running = command.ended.is_none() && !holder_is_dead(&command.begun.lease);
    }
    Ok(commands)
}

fn append(state: &State, what: What) -> Result<(), PathError> {
    let path = file(state);
    let line = serde_json::to_string(&Line { version: VERSION, what }).expect("plain data with text keys") + "\n";
    let mut file = fs::append(&path, 0o600)?;
    let length = |file: &fs::File| file.metadata().map_or(0, |found| found.len());
    // Whoever has the lock puts it aside, once: the next one finds another file in its place. Who has opened it before
    // goes on writing to the old one.
    if length(&file) >= FULL && file.try_lock().is_ok() {
        if fs::open(&path).is_ok_and(|present| length(&present) >= FULL) {
            fs::rename(&path, &old(&path))?;
        }
        file = fs::append(&path, 0o600)?;
    }
    file.write_all(line.as_bytes()).map_err(PathError::on("write", &path))
}

fn file(state: &State) -> PathBuf {
    state.state().join("commands.jsonl")
}

fn old(file: &Path) -> PathBuf {
    file.with_extension("jsonl.old")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_ARGUMENT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use crate::root::{self, Bind, Limits, Network, Root};

    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        (dir, state)
    }

    fn spec(args: &[&str], network: Network) -> Spec {
        let args = args.iter().map(ToString::to_string).collect();
        let command = root::Command { args, env: Vec::new(), cwd: "/".parse().unwrap(), terminal: false };
        let bind = |to: &str, writable| Bind { from: "/srv".into(), to: to.parse().unwrap(), writable };
        let binds = [bind("/one", false), bind("/two", true)];
        root::spec(&Root { lower: vec!["l".into()], upper: None }, &binds, &[], &command, &Limits::default(), network)
    }

    #[test]
    fn a_command_is_recorded_when_it_begins_and_when_it_ends() {
        let (_dir, state) = state();
        assert_eq!(all(&state).unwrap(), []);
        let long = "x".repeat(1000);
        begin(&state, "1-400001-0", "run", "image one", &spec(&["true", &long], Network::Host)).unwrap();
        let found = all(&state).unwrap();
        let begun = &found[0].begun;
        assert_eq!((begun.from.as_str(), begun.network.as_str()), ("image one", "host"));
        assert_eq!((begun.command[0].as_str(), begun.command[1].chars().count()), ("true", LONGEST_ARGUMENT + 1));
        assert_eq!(begun.binds, ["/srv:/one", "/srv:/two:rw"]);
        // Nobody holds such a lease: it was killed.
        assert!(!found[0].running && found[0].ended.is_none());
        end(&state, "1-400001-0", Err("it was lost".to_string())).unwrap();
        let found = all(&state).unwrap();
        assert_eq!((found.len(), found[0].how.clone()), (1, Some(How::Error("it was lost".to_string()))));
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file(&state)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_id_that_comes_again_is_another_command_and_nonsense_is_passed_over() {
        let (_dir, state) = state();
        for status in ["one", "two"] {
            begin(&state, "1-400001-0", "run", status, &spec(&["true"], Network::None)).unwrap();
            end(&state, "1-400001-0", Err(status.to_string())).unwrap();
            fs::append(&file(&state), 0o600)
                .unwrap()
                .write_all(b"{\"version\":1,\"beg\n\xff\n{\"version\":9}\n")
                .unwrap();
        }
        let found = all(&state).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|command| command.how == Some(How::Error(command.begun.from.clone()))));
    }

    #[test]
    fn the_record_does_not_grow_without_bounds_and_loses_nothing_recent() {
        let (_dir, state) = state();
        let long = "y".repeat(LONGEST_ARGUMENT);
        let spec = spec(&[long.as_str(); MOST], Network::None);
        // 10 KiB each: past the bound three times.
        for number in 0..350 {
            begin(&state, &format!("1-400001-{number:x}"), "run", "x", &spec).unwrap();
        }
        let file = file(&state);
        let length = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(length(&file) < FULL + 20_000 && length(&old(&file)) < FULL + 20_000);
        let found = all(&state).unwrap();
        assert_eq!(found.last().unwrap().begun.lease, "1-400001-15d");
        assert!(found.len() > 100 && found.len() < 220, "{}", found.len());
    }
}
