//! Leases whose holders are at work.

use crate::fs::{self, Locked, PathError};
use crate::state::{LeaseRecord, State, StateError};

/// How often a record that is being written is read again.
const ATTEMPTS: usize = 5;

/// A lease that another process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// The lease's id.
    pub id: String,
    /// What it names.
    pub record: LeaseRecord,
}

/// Returns the leases that are held, oldest first.
pub fn held_leases(state: &State) -> Result<Vec<HeldLease>, StateError> {
    let mut held = Vec::new();
    for path in fs::read_dir_if_exists(&state.leases())? {
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        let Some(id) = id.filter(|id| !id.starts_with('.')) else { continue };
        // Released meanwhile.
        let Ok(lock) = fs::open(&path) else { continue };
        match Locked::take(lock) {
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(e)) => return Err(PathError::on("lock", &path)(e).into()),
            // Nobody's any more.
            Ok(_) => continue,
        }
        let record = (0..ATTEMPTS).find_map(|_| serde_json::from_str(&fs::read_to_string(&path).ok()?).ok());
        held.extend(record.map(|record| HeldLease { id: id.to_string(), record }));
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Lease;

    #[test]
    fn only_what_is_held_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        assert_eq!(held_leases(&state).unwrap(), []);
        let held = Lease::take(&state, "one").unwrap();
        drop(Lease::take(&state, "two").unwrap());
        let found = held_leases(&state).unwrap();
        assert_eq!(found, [HeldLease { id: held.id().to_string(), record: held.record().clone() }]);
    }
}
