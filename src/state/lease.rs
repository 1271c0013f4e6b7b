//! Leases: who owns what must not outlive its owner.
//!
//! A lease is a file in `leases/`, locked by the process that holds it. Whatever could be left behind by a process that
//! is killed (a process, a cgroup, a folder under `roots/`) is written into the lease *before* it is made; the kernel
//! frees the lock when the holder ends, however it ends, and whoever then gets the lock may remove what it names.
//!
//! A lease's id is its holder's start time (in clock ticks since boot, hexadecimal), process id and a number: where only
//! the id is left of a lease, as the name of a control group, it still tells whether the holder lives ([`holder_is_dead`]).

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::atom::Name;
use crate::fs::{self, Locked, PathError};
use crate::state::{State, StateError};

/// How often, and how long after each other, the lock of a dead holder is tried.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// What the name of a lease that is not locked yet begins with.
const UNNAMED: &str = ".";

/// What a lease says on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LeaseRecord {
    /// Format version.
    pub version: u32,
    /// What the lease is for, for people.
    pub purpose: String,
    /// The process that holds it.
    pub holder: u32,
    /// Control groups, to be killed and removed.
    pub cgroups: Vec<PathBuf>,
    /// Processes in the host's numbering with their start time (`/proc/PID/stat`, field 22), to be killed.
    pub processes: Vec<(u32, u64)>,
    /// Folders and files of the holder's own user, and what the range put into them, to be removed. The lease's folder
    /// under `roots/` goes anyway.
    pub paths: Vec<PathBuf>,
    /// Folders that stay, in and below which temporary files of [`fs::write_atomic`] may lie.
    pub folders: Vec<PathBuf>,
    /// The profile whose pool and generations the holder was adding to.
    pub profile: Option<Name>,
}

/// A lease that this process holds.
#[derive(Debug)]
pub struct Lease {
    id: String,
    path: PathBuf,
    root: PathBuf,
    record: LeaseRecord,
    lock: Locked,
}

impl Lease {
    /// Takes a new lease.
    pub fn take(state: &State, purpose: &str) -> Result<Self, StateError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static START: OnceLock<u64> = OnceLock::new();
        let pid = std::process::id();
        let start = START.get_or_init(|| start_time(pid).unwrap_or_default());
        // Short, because it is part of mount options; unique, because no two processes share a pid at one time.
        let id = format!("{start:x}-{pid:x}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed));
        let path = state.leases().join(format!("{id}.json"));
        let record =
            LeaseRecord { version: 1, purpose: purpose.to_string(), holder: std::process::id(), ..Default::default() };
        // Locked before it has its name, so that no reaper ever finds it free.
        let new = state.leases().join(format!("{UNNAMED}{id}"));
        let lock = loop {
            let lock = Locked::wait(fs::create_new(&new, 0o600)?).map_err(PathError::on("lock", &new))?;
            match fs::rename(&new, &path) {
                Ok(()) => break lock,
                // A reaper came between the first two steps and took the file for a dead process's.
                Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        };
        let lease = Self { root: state.roots().join(&id), id, path, record, lock };
        lease.save()?;
        Ok(lease)
    }

    /// Returns the id: also the name of the cgroups and of the folder below `roots/`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the folder below `roots/` that goes with the lease. Nobody has made it yet.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what is on record.
    pub fn record(&self) -> &LeaseRecord {
        &self.record
    }

    /// Puts a control group on record, to be called before it is made.
    pub fn owns_cgroup(&mut self, path: PathBuf) -> Result<(), StateError> {
        self.record.cgroups.push(path);
        self.save()
    }

    /// Puts a process on record.
    pub fn owns_process(&mut self, pid: u32, start_time: u64) -> Result<(), StateError> {
        self.record.processes.push((pid, start_time));
        self.save()
    }

    /// Puts a file or folder of this user's on record, to be called before it is made.
    pub fn owns_path(&mut self, path: PathBuf) -> Result<(), StateError> {
        self.record.paths.push(path);
        self.save()
    }

    /// Puts a folder that stays on record, and the profile it is about; to be called before anything is made in either.
    pub fn writes(&mut self, folder: PathBuf, profile: &Name) -> Result<(), StateError> {
        self.record.folders.push(folder);
        self.record.profile = Some(profile.clone());
        self.save()
    }

    /// Ends the lease; the caller has removed everything it names.
    pub fn release(self) -> Result<(), StateError> {
        Ok(fs::remove_file(&self.path)?)
    }

    // Rewritten in place, not renamed: the lock is on this very file. In one step and without emptying it first, so that
    // a process that is killed here leaves the old record or the new one: a record only ever grows.
    fn save(&self) -> Result<(), StateError> {
        let text = serde_json::to_string(&self.record).expect("a record has only plain fields") + "\n";
        Ok(self.lock.write_all_at(text.as_bytes(), 0).map_err(PathError::on("write", &self.path))?)
    }
}

/// A lease whose holder is gone; this process now has its lock.
#[derive(Debug)]
pub struct StaleLease {
    /// The lease's id.
    pub id: String,
    /// What it named; empty where the file was damaged.
    pub record: LeaseRecord,
    path: PathBuf,
    _lock: Option<Locked>,
}

impl StaleLease {
    /// Forgets the lease, once everything it names is removed.
    pub fn forget(self) -> Result<(), StateError> {
        Ok(fs::remove_file(&self.path)?)
    }
}

/// Returns the leases whose holders are gone, and one without a record for each folder below `roots/` that has no lease
/// at all (the machine was restarted, and `leases/` was in memory).
pub fn stale_leases(state: &State) -> Result<Vec<StaleLease>, StateError> {
    let mut stale = Vec::new();
    for path in fs::read_dir_if_exists(&state.leases())? {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNNAMED)) {
            // What cannot be removed holds nothing, and is nobody's hindrance.
            let _ = remove_unnamed(&path);
            continue;
        }
        let Some(id) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json")) else {
            continue;
        };
        let Some(lock) = take(&path, id) else { continue };
        // Damaged, or not to be read: what else names the lease is found without it.
        let record = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        stale.push(StaleLease { id: id.to_string(), record, path: path.clone(), _lock: Some(lock) });
    }
    // Roots first, leases second: a lease exists before its root does.
    for root in fs::read_dir_if_exists(&state.roots())? {
        let Some(id) = root.file_name().and_then(|n| n.to_str()) else { continue };
        let path = state.leases().join(format!("{id}.json"));
        if !path.exists() && !stale.iter().any(|lease| lease.id == id) {
            stale.push(StaleLease { id: id.to_string(), record: LeaseRecord::default(), path, _lock: None });
        }
    }
    Ok(stale)
}

/// Takes a lease's lock, unless somebody has it who lives. Where the holder is dead and the lock is not free, a child that
/// it had just started has it still, as long as it takes to become its program: it is waited for, but not for ever, because
/// from within another process namespace every holder outside of it seems dead.
fn take(path: &Path, id: &str) -> Option<Locked> {
    for _ in 0..TRIES {
        let lock = Locked::take(fs::open(path).ok()?);
        if lock.is_ok() || !holder_is_dead(id) {
            return lock.ok();
        }
        std::thread::sleep(PAUSE);
    }
    None
}

/// Returns when a process started, in clock ticks since boot (`/proc/PID/stat`, field 22): with the id it names the
/// process for good.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    // The second field is the program's name and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Returns whether an id is a lease's whose holder is no process of this machine; a text that is no such id is not. From
/// within another process namespace every holder outside of it seems dead: what has processes in it is not to be
/// touched on this word alone.
pub fn holder_is_dead(id: &str) -> bool {
    let mut parts = id.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    let (Some(Some(start)), Some(Some(pid)), Some(Some(_)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    u32::try_from(pid).is_ok_and(|pid| start_time(pid) != Some(start))
}

/// Removes a lease whose holder was killed before it had its name, and so before there was anything to lease.
fn remove_unnamed(path: &Path) -> Result<(), StateError> {
    // Gone meanwhile, or named: then it is somebody's.
    let Ok(lock) = fs::open(path) else { return Ok(()) };
    if let Ok(_lock) = Locked::take(lock) {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        (dir, state)
    }

    #[test]
    fn a_held_lease_is_not_stale_and_a_dropped_one_is() {
        let (_dir, state) = state();
        let mut lease = Lease::take(&state, "test").unwrap();
        lease.owns_cgroup("/sys/fs/cgroup/x".into()).unwrap();
        assert!(stale_leases(&state).unwrap().is_empty());
        let record = lease.record().clone();
        drop(lease);
        let stale = stale_leases(&state).unwrap();
        assert_eq!(stale.len(), 1);
        assert_eq!(stale[0].record, record);
    }

    #[test]
    fn the_lock_of_a_dead_holder_is_waited_for_but_not_for_ever() {
        let (_dir, state) = state();
        let path = state.leases().join("1-400001-0.json");
        fs::write(&path, "{}").unwrap();
        let child = fs::open_lock(&path).unwrap();
        child.lock().unwrap();
        assert!(stale_leases(&state).unwrap().is_empty());
        let child = std::thread::spawn(move || {
            std::thread::sleep(PAUSE * 3);
            drop(child);
        });
        assert_eq!(stale_leases(&state).unwrap()[0].id, "1-400001-0");
        child.join().unwrap();
    }

    #[test]
    fn an_id_tells_whether_its_holder_lives() {
        let (_dir, state) = state();
        let lease = Lease::take(&state, "test").unwrap();
        assert!(!holder_is_dead(lease.id()));
        // The same number, given to a process that started earlier; a number that nobody has; what is no id.
        assert!(holder_is_dead(&format!("1-{:x}-0", std::process::id())) && holder_is_dead("1-400001-0"));
        assert!(!holder_is_dead("machine.slice") && !holder_is_dead("1-2") && !holder_is_dead("1-2-3-4"));
    }

    #[test]
    fn a_record_of_an_earlier_bindery_is_read() {
        let (_dir, state) = state();
        let text = r#"{"version":1,"purpose":"x","holder":1,"cgroups":[],"processes":[[1,2]],"paths":["/p"]}"#;
        fs::write(&state.leases().join("1-2-3.json"), text).unwrap();
        let stale = stale_leases(&state).unwrap();
        assert_eq!((stale[0].record.paths.as_slice(), stale[0].record.folders.len()), (&[PathBuf::from("/p")][..], 0));
    }

    #[test]
    fn a_released_lease_is_gone() {
        let (_dir, state) = state();
        Lease::take(&state, "test").unwrap().release().unwrap();
        assert!(stale_leases(&state).unwrap().is_empty());
    }

    #[test]
    fn a_root_without_a_lease_is_stale() {
        let (_dir, state) = state();
        let lease = Lease::take(&state, "test").unwrap();
        fs::create_dir_all(lease.root()).unwrap();
        fs::create_dir_all(&state.roots().join("left-behind")).unwrap();
        let stale = stale_leases(&state).unwrap();
        assert_eq!(stale.iter().map(|lease| lease.id.as_str()).collect::<Vec<_>>(), ["left-behind"]);
    }

    #[test]
    fn a_lease_whose_holder_died_before_it_had_its_name_is_removed() {
        let (_dir, state) = state();
        let path = state.leases().join(".1-2-3");
        let held = fs::create_new(&path, 0o600).unwrap();
        held.lock().unwrap();
        assert!(stale_leases(&state).unwrap().is_empty() && path.exists());
        drop(held);
        assert!(stale_leases(&state).unwrap().is_empty() && !path.exists());
    }

    #[test]
    fn a_damaged_record_does_not_stop_the_reaping() {
        let (_dir, state) = state();
        fs::write(&state.leases().join("1-2-3.json"), "{\"ver").unwrap();
        assert_eq!(stale_leases(&state).unwrap()[0].record, LeaseRecord::default());
    }
}
