//! Limits that are changed while a command runs.
//!
//! Whoever wants a change writes it beside the root, where nobody but the same user and nothing inside the sandbox can;
//! the supervisor, which alone writes to its control groups, looks there a few times a second, does it, and answers.
//!
//! ```text
//! roots/LEASE/limit.json      what is asked for: written whole, removed by the supervisor
//!             limited.json    its answer: removed by who asked
//! ```

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::atom::CpuList;
use crate::fs::{self, PathError};

const ASKED: &str = "limit.json";
const ANSWER: &str = "limited.json";
/// No request or answer is longer.
const LONGEST: u64 = 64 << 10;
/// How long the supervisor's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// Limits to change; what is not set stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Microseconds of processor time in each period of so many microseconds.
    pub cpu: Option<(u64, u64)>,
    /// The processors it may run on.
    pub cpuset: Option<CpuList>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disk beside others', from 10 to 1000.
    pub io_weight: Option<u16>,
}

impl Change {
    /// Takes what a later change sets.
    pub fn merge(&mut self, later: &Self) {
        self.cpu = later.cpu.or(self.cpu);
        self.cpuset = later.cpuset.clone().or(self.cpuset.take());
        self.memory = later.memory.or(self.memory);
        self.swap = later.swap.or(self.swap);
        self.pids = later.pids.or(self.pids);
        self.io_weight = later.io_weight.or(self.io_weight);
    }
}

/// What the supervisor says: each limit with what gives it now, or why nothing was changed.
type Answer = Result<Vec<(String, String)>, String>;

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Inbox {
    asked: PathBuf,
    answer: PathBuf,
}

impl Inbox {
    pub(super) fn new(folder: &Path) -> Self {
        Self { asked: folder.join(ASKED), answer: folder.join(ANSWER) }
    }

    /// Returns a change that somebody asks for.
    pub(super) fn take(&self) -> Option<Change> {
        let mut bytes = Vec::new();
        fs::open_regular(&self.asked).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
        // If it cannot be removed, it is done again and again, to the same effect.
        let _ = fs::remove_file(&self.asked);
        serde_json::from_slice(&bytes).ok()
    }

    /// Tells what came of it. Whoever asked may be gone.
    pub(super) fn answer(&self, answer: &Answer) {
        if let Ok(text) = serde_json::to_vec(answer) {
            let _ = fs::write_atomic(&self.answer, text, 0o600);
        }
    }
}

/// Changes the limits of the command whose lease has this folder; returns each with what gives it now.
pub fn change(folder: &Path, change: &Change) -> Result<Vec<(String, String)>, ChangeError> {
    let (asked, answer) = (folder.join(ASKED), folder.join(ANSWER));
    fs::remove_file(&answer)?;
    fs::write_atomic(&asked, serde_json::to_vec(change).expect("plain data"), 0o600)?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        std::thread::sleep(PAUSE);
        if !answer.exists() {
            continue;
        }
        let bytes = fs::read_at_most(&answer, LONGEST)?;
        fs::remove_file(&answer)?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| ChangeError::Nonsense)?;
        return answer.map_err(ChangeError::Refused);
    }
    fs::remove_file(&asked)?;
    Err(ChangeError::Silent)
}

/// The limits of a running command could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Its supervisor refuses, with the reason.
    #[error("the limits stay as they are: {0}")]
    Refused(String),
    /// Its supervisor does not answer.
    #[error("whoever runs it did not answer within {} s; has it ended, or is it stopped?", PATIENCE.as_secs())]
    Silent,
    /// Its supervisor answers something else.
    #[error("whoever runs it answered something else; is it another version of bindery?")]
    Nonsense,
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_once_and_answered() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_path_buf();
        let wanted = Change { cpu: Some((50_000, 100_000)), ..Change::default() };
        let asks = std::thread::spawn({
            let wanted = wanted.clone();
            move || change(&folder, &wanted)
        });
        let inbox = Inbox::new(dir.path());
        let taken = loop {
            if let Some(taken) = inbox.take() {
                break taken;
            }
            std::thread::sleep(PAUSE);
        };
        assert_eq!((taken, inbox.take()), (wanted, None));
        inbox.answer(&Err("no".into()));
        assert!(matches!(asks.join().unwrap(), Err(ChangeError::Refused(why)) if why == "no"));
        assert_eq!(fs::read_dir(dir.path()).unwrap(), [] as [&Path; 0]);
    }

    #[test]
    fn nonsense_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new(dir.path());
        for text in ["", "{", "{\"cpu\": 1}", "{\"other\": 1}"] {
            fs::write(&dir.path().join(ASKED), text).unwrap();
            assert_eq!(inbox.take(), None, "{text}");
        }
        fs::symlink(Path::new("/etc/passwd"), &dir.path().join(ASKED)).unwrap();
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn a_later_change_wins_where_it_says_something() {
        let mut change = Change { pids: Some(5), memory: Some(7), ..Change::default() };
        change.merge(&Change { pids: Some(6), ..Change::default() });
        assert_eq!(change, Change { pids: Some(6), memory: Some(7), ..Change::default() });
    }
}
