//! Removes layers that nobody has used for long. They are made again from their packages when somebody needs them.
//!
//! ```text
//! layers.lock     shared by everyone who makes or uses layers; whoever removes some has it alone, and waits for nobody
//! ```
//!
//! 1. Who uses a layer gives its record the time of day, at most once a day.
//! 2. With the lock, which nobody else has: of what was not used for as long as that, the records are removed; without its
//!    record a layer counts for nothing, so whoever is killed from here on leaves nothing half removed.
//! 3. Still with the lock: folders without a record, and short names that lead nowhere, are removed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::fs::{self, Locked, PathError};
use crate::layer::{self, LayerError};
use crate::sandbox::IdRange;
use crate::state::State;

/// For how long a layer is kept that nobody uses.
pub const UNUSED: Duration = Duration::from_secs(30 * DAY.as_secs());

/// A layer that is used every day is not written to each time.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps every layer where it is, as long as it is held.
#[derive(Debug)]
pub struct InUse {
    _lock: Locked,
}

/// Says that layers are made or used; waits while some are being removed.
pub fn in_use(state: &State) -> Result<InUse, PathError> {
    let path = state.layers_lock();
    let lock = Locked::share(fs::open_lock(&path)?).map_err(PathError::on("lock", &path))?;
    Ok(InUse { _lock: lock })
}

/// Notes that a record is used. What cannot be noted is no reason to stop.
pub(in crate::layer) fn used(record: &Path) {
    let now = SystemTime::now();
    let noted = fs::metadata(record).ok().and_then(|found| found.modified().ok());
    if noted.is_some_and(|noted| now.duration_since(noted).is_ok_and(|since| since > DAY)) {
        let _ = fs::set_mtime(record, now);
    }
}

/// Removes layers that were not used after `before`, and what is left of others; returns how many layers, and nothing where
/// somebody is using some.
pub fn collect(state: &State, ids: &IdRange, before: SystemTime) -> Result<Option<usize>, LayerError> {
    let path = state.layers_lock();
    let _lock = match Locked::take(fs::open_lock(&path)?) {
        Ok(lock) => lock,
        Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
        Err(std::fs::TryLockError::Error(e)) => return Err(PathError::on("lock", &path)(e).into()),
    };
    let all = fs::read_dir_if_exists(&state.layers())?;
    let is_record = |path: &&std::path::PathBuf| path.extension() == Some(OsStr::new("json"));
    let mut recorded = BTreeSet::new();
    let mut removed = false;
    for record in all.iter().filter(is_record) {
        let used = fs::symlink_metadata(record)?.modified().map_err(PathError::on("look at", record))?;
        if used <= before {
            fs::remove_file(record)?;
            removed = true;
        } else if let Some(name) = record.file_stem() {
            recorded.insert(name.to_os_string());
        }
    }
    if removed {
        fs::sync_dir(&state.layers())?;
    }
    let mut count = 0;
    for folder in all.iter().filter(|path| !is_record(path)) {
        if folder.file_name().is_some_and(|name| !recorded.contains(name)) {
            layer::remove(ids, folder)?;
            count += 1;
        }
    }
    for link in fs::read_dir_if_exists(&state.short_layers())? {
        let nowhere = fs::symlink_metadata(&link)?.is_symlink() && !link.exists();
        if nowhere && fs::read_link(&link)?.starts_with("../layers") {
            fs::remove_file(&link)?;
        }
    }
    Ok(Some(count))
}
