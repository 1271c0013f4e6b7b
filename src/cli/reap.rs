//! `bindery reap`, and what every command that enters a namespace does first: remove what dead processes left behind.
//!
//! 1. What stale leases name: processes, control groups, roots, files; temporary files of a run; what a profile's pool and
//!    generations have unfinished, unless another build for it is at work.
//! 2. Control groups whose lease went with its state folder, whoever's it was.
//! 3. Temporary files that nobody is writing any more.
//! 4. Where `reap` is told so: the layers of packages, unless a build is running.
//!
//! What cannot be removed is told, and everything else goes on.

use std::time::SystemTime;

use crate::binhost::generation;
use crate::binhost::pool::Pool;
use crate::cli::context::Context;
use crate::cli::events::shower;
use crate::cli::report::{Failure, Kind, Outcome, say};
use crate::event::{Event, Sink};
use crate::layer::collect;
use crate::process::chain;
use crate::sandbox::{self, IdRange};
use crate::state::{self, LockError, StaleLease, State};
use crate::{distfiles, doctor, fs, layer};

/// What a sweep came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// How many leases, control groups and temporary files were removed.
    pub(super) removed: usize,
    /// What could not be removed, each with the reason.
    pub(super) failed: Vec<String>,
}

/// Removes what killed processes left behind and says what it was.
pub(super) fn reap(cx: &Context, layers: bool) -> Outcome {
    cx.prepare_state()?;
    let ids = IdRange::detect(cx.config.ids).map_err(|e| Failure::new(Kind::System, e))?;
    let mut swept = sweep(&cx.state, &ids, &mut shower(cx.json))?;
    // Nobody else looks for these: they are in nobody's way.
    let trials = doctor::remove_abandoned(&cx.state, Some(&ids)).map_err(Into::into);
    swept.note("trials of `bindery doctor`", trials, &mut shower(cx.json));
    if layers {
        match collect::collect(&cx.state, &ids, SystemTime::now()).map_err(|e| Failure::new(Kind::System, e))? {
            Some(count) => say(&format!("removed {count} layers of packages")),
            None => {
                let what = anyhow::anyhow!("cannot remove layers of packages: a build that is running uses them");
                return Err(Failure::new(Kind::System, what).hint("wait for it, or stop it"));
            }
        }
    }
    let Swept { removed, failed } = swept;
    match (removed, failed.len()) {
        (0, 0) if !layers => say("nothing was left behind"),
        (0, 0) => {}
        (_, 0) => {}
        (_, count) => {
            let what = anyhow::anyhow!("{count} of the things left behind could not be removed, for the reasons above");
            return Err(Failure::new(Kind::System, what).hint("`bindery reap` tries again once the reason is gone"));
        }
    }
    Ok(())
}

/// Removes what dead processes left. One thing that cannot be removed is no reason to leave the others.
pub(super) fn sweep(state: &State, ids: &IdRange, on: Sink<'_>) -> Result<Swept, Failure> {
    let mut swept = Swept::default();
    for lease in state::stale_leases(state).map_err(|e| Failure::new(Kind::System, e))? {
        let purpose = if lease.record.purpose.is_empty() { "no record" } else { &lease.record.purpose };
        let what = format!("{purpose} ({})", lease.id);
        swept.note(&what, remove(state, ids, lease).map(|()| 1), on);
    }
    let groups = sandbox::reap_groups().map(|groups| groups.len()).map_err(Into::into);
    swept.note("control groups whose lease is gone", groups, on);
    let tidied = state::tidy(state);
    swept.note("temporary files", Ok(tidied.removed), on);
    for e in tidied.failed {
        swept.note("temporary files", Err(e.into()), on);
    }
    let parts = distfiles::sweep(&state.distfiles()).map(|()| 0).map_err(Into::into);
    swept.note("archives that were being fetched", parts, on);
    Ok(swept)
}

impl Swept {
    fn note(&mut self, what: &str, result: anyhow::Result<usize>, on: Sink<'_>) {
        match result {
            Ok(0) => {}
            Ok(removed) => {
                self.removed += removed;
                on(Event::Reaped { what: what.to_string() });
            }
            Err(e) => {
                let failed = format!("cannot remove what a dead process left: {what}: {}", chain(e.as_ref()));
                on(Event::Warning { what: format!("{failed}; the next command tries again") });
                self.failed.push(failed);
            }
        }
    }
}

fn remove(state: &State, ids: &IdRange, lease: StaleLease) -> anyhow::Result<()> {
    // Processes first: they could go on writing.
    sandbox::reap(&lease.record)?;
    let root = state.roots().join(&lease.id);
    if fs::symlink_metadata(&root).is_ok() {
        layer::remove(ids, &root)?;
    }
    for path in &lease.record.paths {
        layer::clear(ids, path)?;
    }
    for folder in &lease.record.folders {
        if let Some(e) = state::tidy_below(folder).failed.into_iter().next() {
            return Err(e.into());
        }
    }
    if let Some(profile) = lease.record.profile.as_ref().map(|name| state.profile(name)).filter(|p| p.path().exists()) {
        match profile.lock() {
            Ok(held) => {
                Pool::open(&profile).clean(&held)?;
                generation::clean(&held, &profile)?;
            }
            // Another build for it has seen to that before it began.
            Err(LockError::Held { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    lease.forget()?;
    Ok(())
}
