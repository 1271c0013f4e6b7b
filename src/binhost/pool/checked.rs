//! Which packages of a pool still are what was put there.
//!
//! ```text
//! profiles/NAME/checked.json     version, and of every package that was found good: what its file looked like then
//! ```
//!
//! Reading them all for every plan would take longer than the plan. So a file is read once, and again when its inode,
//! length, or time of modification or change is another: any write changes these. What changed so recently that a later
//! write could leave the same times is read again the next time.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::binhost::pool::{Entry, Pool, PoolError};
use crate::fs::{self, PathError};
use crate::state::Lock;

const VERSION: u32 = 1;
/// File systems keep times in ticks, some in whole seconds.
const TICK: Duration = Duration::from_secs(2);

/// What a file looked like: inode, length, and times of modification and change in nanoseconds since 1970.
type Look = [i128; 4];

/// The packages of a pool.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Those that are what was put there, sorted as [`Pool::entries`].
    pub good: Vec<Entry>,
    /// Those that are not.
    pub altered: Vec<Entry>,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Seen {
    version: u32,
    packages: BTreeMap<String, Look>,
}

impl Pool {
    /// Returns all packages, told apart by whether they are what was put there. Damaged records are errors, as in
    /// [`Pool::entries`].
    pub fn check(&self) -> Result<Checked, PoolError> {
        let file = self.dir.with_file_name("checked.json");
        // Damaged or of another version, it is only slower.
        let text = fs::read_if_exists(&file).ok().flatten().unwrap_or_default();
        let before =
            serde_json::from_str::<Seen>(&text).ok().filter(|seen| seen.version == VERSION).unwrap_or_default();
        let mut now = Seen { version: VERSION, packages: BTreeMap::new() };
        let mut checked = Checked::default();
        for (entry, length) in self.all()? {
            let path = entry.path.to_string();
            let started = SystemTime::now();
            let look = look(&entry)?;
            let good = length == entry.hashes.size
                && (before.packages.get(&path) == Some(&look)
                    || match self.verify(&entry) {
                        Ok(()) => true,
                        Err(PoolError::Altered { .. }) => false,
                        // What cannot be read is not thereby another.
                        Err(error) => return Err(error),
                    });
            if good && settled(&look, started) {
                now.packages.insert(path, look);
            }
            if good { &mut checked.good } else { &mut checked.altered }.push(entry);
        }
        if now.packages != before.packages {
            // Who may not write here may plan nevertheless.
            let _ = fs::write_atomic(&file, serde_json::to_string(&now).expect("it is plain data"), 0o644);
        }
        Ok(checked)
    }

    /// Takes a package that was altered out of the pool, so that it is built again; its number stays given. Returns where
    /// the file is now. `_held` is the profile's lock.
    pub fn set_aside(&self, _held: &Lock, entry: &Entry) -> Result<PathBuf, PoolError> {
        let name = entry.file.file_name().unwrap_or_default().to_string_lossy();
        let aside = entry.file.with_file_name(format!(".altered-{name}"));
        fs::rename(&entry.file, &aside)?;
        Ok(aside)
    }
}

fn look(entry: &Entry) -> Result<Look, PathError> {
    let found = fs::symlink_metadata(&entry.file)?;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Ok([
        found.ino().into(),
        found.size().into(),
        nanoseconds(found.mtime(), found.mtime_nsec()),
        nanoseconds(found.ctime(), found.ctime_nsec()),
    ])
}

fn settled(look: &Look, time: SystemTime) -> bool {
    let latest = time.checked_sub(TICK).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    // The time of modification is BUILD_TIME, which nothing says lies in the past.
    latest.is_some_and(|latest| look[3] < i128::try_from(latest.as_nanos()).unwrap_or(0))
}
