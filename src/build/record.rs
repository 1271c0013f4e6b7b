//! The record of a run: what was asked, planned, done, and the logs.
//!
//! ```text
//! runs/ID/request.json     what was asked for, and the profile in full
//!         plan.json        what was decided, with reasons
//!         events.jsonl     what happened, one JSON object a line
//!         status.json      how it stands; `running` with a dead process means it was killed
//!         portage/         the configuration that every package of the run saw as /etc/portage
//!         CATEGORY/PF/     config.json (the OCI runtime spec), log, status.json of one package
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::atom::{Cpv, Name};
use crate::event::{Event, Sink};
use crate::fs::{self, File, PathError};
use crate::state::{Lease, State, StateError};

/// How a run ended, or stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is at work.
    Running,
    /// Its process is gone and has not said how it ended. Never written: what is read as running may be this.
    Killed,
    /// Everything asked for is built and published.
    Done,
    /// At least one package failed.
    Failed,
    /// A signal stopped it.
    Interrupted,
}

/// `status.json` of a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Format version.
    pub version: u32,
    /// The run's id: its starting time in UTC and the process's number.
    pub id: String,
    /// The run that started this one, to build what runs meanwhile; nothing where the user did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// For which profile.
    pub profile: Name,
    /// What was asked for.
    pub atoms: Vec<String>,
    /// How it stands.
    pub outcome: Outcome,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// When it ended.
    pub ended: Option<u64>,
    /// The process that runs it.
    pub process: u32,
    /// Packages built.
    pub built: Vec<Cpv>,
    /// Packages taken over from other profiles.
    #[serde(default)]
    pub shared: Vec<Cpv>,
    /// Packages that failed.
    pub failed: Vec<Cpv>,
    /// Packages not tried, because one they need failed.
    pub skipped: Vec<Cpv>,
    /// The generation that was published.
    pub generation: Option<u64>,
    /// What went wrong, where no package is to blame.
    pub error: Option<String>,
}

/// A run being recorded.
#[derive(Debug)]
pub struct Record {
    lease: Lease,
    dir: PathBuf,
    events: File,
    /// What will be in `status.json` at the next [`Record::save`].
    pub status: Status,
}

impl Record {
    /// Starts a run's record, whose lease says where temporary files of the run may be left. `inside` is the run that has
    /// started it, if one has.
    pub fn start(state: &State, profile: &Name, atoms: &[String], inside: Option<&str>) -> Result<Self, StateError> {
        let started = now();
        let process = std::process::id();
        let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + std::time::Duration::from_secs(started)).to_string();
        let id = format!("{}-{process}", time.replace([':', '-'], "").replace('T', "-").trim_end_matches('Z'));
        // One process has two runs at the same moment where it builds what runs while others are cross built.
        let numbered = (2..).map(|number| format!("{id}-{number}"));
        let mut ids = std::iter::once(id.clone()).chain(numbered);
        let id = ids.find(|id| !state.runs().join(id).exists()).unwrap_or_default();
        let dir = state.runs().join(&id);
        let mut lease = Lease::take(state, &format!("a run for {profile}"))?;
        lease.writes(dir.clone(), profile)?;
        fs::create_dir_new(&dir, 0o755)?;
        let events = fs::append(&dir.join("events.jsonl"), 0o644)?;
        let status = Status {
            version: 1,
            id,
            inside: inside.map(str::to_string),
            profile: profile.clone(),
            atoms: atoms.to_vec(),
            outcome: Outcome::Running,
            started,
            ended: None,
            process,
            built: Vec::new(),
            shared: Vec::new(),
            failed: Vec::new(),
            skipped: Vec::new(),
            generation: None,
            error: None,
        };
        let record = Self { lease, dir, events, status };
        record.save()?;
        Ok(record)
    }

    /// Returns the run's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the folder of one package's build, which the build makes.
    pub fn dir_of(&self, cpv: &Cpv) -> PathBuf {
        dir_of(&self.dir, cpv)
    }

    /// Keeps an event and passes it on. A log that cannot be written is no reason to lose the build it is about.
    pub fn tell(&mut self, event: Event, on: Sink<'_>) {
        if let Ok(mut line) = serde_json::to_string(&event) {
            line.push('\n');
            let _ = self.events.write_all(line.as_bytes());
        }
        on(event);
    }

    /// Writes `status.json`.
    pub fn save(&self) -> Result<(), PathError> {
        self.write_json("status.json", &self.status)
    }

    /// Writes a value beside the status.
    pub fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), PathError> {
        let text = serde_json::to_string_pretty(value).expect("plain data with text keys");
        fs::write_atomic(&self.dir.join(name), text + "\n", 0o644)
    }

    /// Ends the record.
    pub fn end(mut self, outcome: Outcome) -> Result<Status, StateError> {
        self.status.outcome = outcome;
        self.status.ended = Some(now());
        self.save()?;
        self.lease.release()?;
        Ok(self.status)
    }
}

/// Returns the folder of one package's build below a run's.
pub(super) fn dir_of(run: &Path, cpv: &Cpv) -> PathBuf {
    run.join(cpv.category.as_str()).join(cpv.pf())
}

/// Returns what happened in a run, as far as this bindery knows such events.
pub fn events(state: &State, run: &str) -> Result<Vec<Event>, PathError> {
    let text = fs::read_if_exists(&state.runs().join(run).join("events.jsonl"))?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Adds an event to the record of a run that another process is at work on.
pub fn note(state: &State, run: &str, event: &Event) -> Result<(), PathError> {
    let path = state.runs().join(run).join("events.jsonl");
    let line = serde_json::to_string(event).expect("an event is plain data") + "\n";
    // In one write, which appends it as a whole.
    fs::append(&path, 0o644)?.write_all(line.as_bytes()).map_err(PathError::on("write", &path))
}

/// Returns the recorded runs, oldest first; a folder without a readable status is left out.
pub fn runs(state: &State) -> Result<Vec<Status>, PathError> {
    let mut runs: Vec<Status> = Vec::new();
    for dir in fs::read_dir_if_exists(&state.runs())? {
        let text = fs::read_if_exists(&dir.join("status.json"))?;
        let Some(mut status) = text.and_then(|text| serde_json::from_str::<Status>(&text).ok()) else { continue };
        if status.outcome == Outcome::Running && !alive(&status) {
            status.outcome = Outcome::Killed;
        }
        runs.push(status);
    }
    runs.sort_by(|a, b| (a.started, &a.id).cmp(&(b.started, &b.id)));
    Ok(runs)
}

/// Returns whether the process of a run that is not ended is still there. A number that was given to another process
/// since is taken for it; nothing but the list of runs asks.
fn alive(status: &Status) -> bool {
    Path::new("/proc").join(status.process.to_string()).exists()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_again_as_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let mut record = Record::start(&state, &"amd64".parse().unwrap(), &["hello".into()], None).unwrap();
        let within = Record::start(&state, &"amd64".parse().unwrap(), &[], Some(&record.status.id)).unwrap();
        assert_eq!(within.status.inside.as_ref(), Some(&record.status.id));
        let within = within.end(Outcome::Done).unwrap();
        let mut told = Vec::new();
        record.tell(Event::Step { what: "x".into() }, &mut |event| told.push(event));
        assert_eq!(told, [Event::Step { what: "x".into() }]);
        let ended = record.end(Outcome::Done).unwrap();
        assert_eq!(runs(&state).unwrap(), [ended, within]);
    }
}
