//! Temporary files that killed processes left in folders that stay.
//!
//! ```text
//! */.new-…                  a file or link on its way into its place; a file is locked by whoever writes it
//! cache/trees/NAME/.new/    a snapshot being made by whoever has cache/trees/NAME/lock
//! ```
//!
//! Looked at are the folders that any command may write in. A run's own folders are many and deep: those of one that was
//! killed are in its lease ([`tidy_below`]).

use std::path::{Path, PathBuf};

use crate::fs::{self, PathError};
use crate::state::State;

/// How deep a run's folders are at most: `runs/ID/CATEGORY/PF/`.
const DEPTH: usize = 4;

/// What was found.
#[derive(Debug, Default)]
pub struct Tidied {
    /// How many files were removed.
    pub removed: usize,
    /// What could not be looked at or removed.
    pub failed: Vec<PathError>,
}

impl Tidied {
    fn note(&mut self, result: Result<usize, PathError>) {
        match result {
            Ok(removed) => self.removed += removed,
            Err(e) => self.failed.push(e),
        }
    }
}

/// Removes temporary files that nobody is writing any more from the folders that any command may write in.
pub fn tidy(state: &State) -> Tidied {
    let mut tidied = Tidied::default();
    let dirs = [
        state.state().to_path_buf(),
        state.images(),
        state.blobs(),
        state.unpacked(),
        state.resolutions(),
        state.short_layers(),
        state.keys(),
    ];
    for dir in dirs {
        tidied.note(fs::remove_abandoned(&dir));
    }
    match fs::read_dir_if_exists(&state.trees()) {
        Ok(trees) => trees.iter().for_each(|tree| tidied.note(tree_of(tree))),
        Err(e) => tidied.failed.push(e),
    }
    tidied
}

/// Removes temporary files that nobody is writing any more from a folder and those below it.
pub fn tidy_below(dir: &Path) -> Tidied {
    let mut tidied = Tidied::default();
    let mut dirs: Vec<(PathBuf, usize)> = vec![(dir.to_path_buf(), 1)];
    while let Some((dir, depth)) = dirs.pop() {
        tidied.note(fs::remove_abandoned(&dir));
        match fs::read_dir_if_exists(&dir) {
            Ok(paths) if depth < DEPTH => {
                let real = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
                dirs.extend(paths.into_iter().filter(real).map(|path| (path, depth + 1)));
            }
            Ok(_) => {}
            Err(e) => tidied.failed.push(e),
        }
    }
    tidied
}

/// Removes what is left of a snapshot that was being made, unless it still is.
fn tree_of(home: &Path) -> Result<usize, PathError> {
    let removed = fs::remove_abandoned(home)?;
    let new = home.join(".new");
    if fs::symlink_metadata(&new).is_err() {
        return Ok(removed);
    }
    let Ok(_lock) = fs::Locked::take(fs::open_lock(&home.join("lock"))?) else { return Ok(removed) };
    fs::remove_dir_all(&new)?;
    Ok(removed + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_processes_left_is_removed_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let (left, busy) = (state.trees().join("left"), state.trees().join("busy"));
        for tree in [&left, &busy] {
            fs::create_dir_all(&tree.join(".new/profiles")).unwrap();
        }
        let lock = fs::open_lock(&busy.join("lock")).unwrap();
        lock.lock().unwrap();
        let run = state.runs().join("1/app-misc/hello-1");
        fs::create_dir_all(&run).unwrap();
        for dir in [state.images(), state.blobs(), state.keys(), left.clone(), run.clone()] {
            fs::write(&dir.join(".new-abc"), "half").unwrap();
        }
        let tidied = tidy(&state);
        assert_eq!((tidied.removed, tidied.failed.len()), (5, 0), "{tidied:?}");
        assert!(!left.join(".new").exists() && busy.join(".new").exists() && run.join(".new-abc").exists());
        assert_eq!(tidy_below(&state.runs().join("1")).removed, 1);
    }
}
