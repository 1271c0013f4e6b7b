//! `bindery reap`, and what every command that enters a namespace does first: remove what dead processes left behind.

use crate::cli::context::Context;
use crate::cli::events::shower;
use crate::cli::report::{Failure, Kind, Outcome, say};
use crate::event::{Event, Sink};
use crate::sandbox::{self, IdRange};
use crate::state::{self, StaleLease, State};
use crate::{fs, layer};

/// Removes what killed processes left behind and says what it was.
pub(super) fn reap(cx: &Context) -> Outcome {
    cx.prepare_state()?;
    let ids = IdRange::detect(cx.config.ids).map_err(|e| Failure::new(Kind::System, e))?;
    if sweep(&cx.state, &ids, &mut shower(cx.json))? == 0 {
        say("nothing was left behind");
    }
    Ok(())
}

/// Removes what stale leases name; returns how many there were.
pub(super) fn sweep(state: &State, ids: &IdRange, on: Sink<'_>) -> Result<usize, Failure> {
    let stale = state::stale_leases(state).map_err(|e| Failure::new(Kind::System, e))?;
    let count = stale.len();
    for lease in stale {
        let id = lease.id.clone();
        let purpose = if lease.record.purpose.is_empty() { "no record".into() } else { lease.record.purpose.clone() };
        remove(state, ids, lease)
            .map_err(|e| Failure::new(Kind::System, e.context(format!("cannot remove what lease {id} left"))))?;
        on(Event::Reaped { what: format!("{purpose} ({id})") });
    }
    Ok(count)
}

fn remove(state: &State, ids: &IdRange, lease: StaleLease) -> anyhow::Result<()> {
    // Processes first: they could go on writing.
    sandbox::reap(&lease.record)?;
    let root = state.roots().join(&lease.id);
    if fs::symlink_metadata(&root).is_ok() {
        layer::remove(ids, &root)?;
    }
    for path in &lease.record.paths {
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    lease.forget()?;
    Ok(())
}
