//! What this host can do: each primitive that bindery stands on, tried by itself where that is possible, with what it is
//! for and how to mend it.
//!
//! Nothing is guessed from a version number that can be tried: a trial (`trial.rs`) is bindery started again with
//! `__try NAME FOLDER`, which goes into namespaces of its own, makes the one call, and tells what the kernel said. What
//! needs a folder has a new one beside the state (or where that will be), which is removed at the end. Last comes a whole
//! sandbox, with everything together.
//!
//! ```text
//! host.rs        what is looked at first: kernel, distribution, container around, settings
//! advice.rs      how to mend it, in words: packages, settings, kernel options, a container's flags
//! calls.rs       system calls, seccomp, Landlock, keyrings
//! namespaces.rs  namespaces, one by one
//! ids.rs         subordinate ids, newuidmap and newgidmap
//! mounts.rs      proc, overlay, id-mapped mounts, binfmt_misc, devices
//! cgroup.rs      control groups and their controllers, pressure
//! storage.rs     the state folder's file system
//! tools.rs       programs that make images
//! whole.rs       one sandbox
//! ```

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use crate::fs::PathError;
use crate::process;
use crate::sandbox::IdRange;
use crate::state::State;
use host::Host;
use storage::Place;

mod advice;
mod calls;
mod cgroup;
mod host;
mod ids;
mod mounts;
mod namespaces;
mod storage;
mod tools;
mod trial;
mod whole;

/// Whether something can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It can.
    Works,
    /// Something is not as good as it could be, or cannot be asked for; all else can be done.
    Limited,
    /// Nothing, or not everything, can be done without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it can be used.
    pub verdict: Verdict,
    /// What it is needed for.
    #[serde(rename = "for")]
    pub purpose: &'static str,
    /// What was found.
    pub found: String,
    /// How to mend it, one way or step a line; empty where nothing is to be mended.
    pub mend: String,
}

impl Check {
    fn works(name: &'static str, purpose: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Works, purpose, found: found.into(), mend: String::new() }
    }

    fn limited(
        name: &'static str,
        purpose: &'static str,
        found: impl Into<String>,
        mend: impl IntoIterator<Item = String>,
    ) -> Self {
        Self::of(name, Verdict::Limited, purpose, found, mend)
    }

    fn missing(
        name: &'static str,
        purpose: &'static str,
        found: impl Into<String>,
        mend: impl IntoIterator<Item = String>,
    ) -> Self {
        Self::of(name, Verdict::Missing, purpose, found, mend)
    }

    fn of(
        name: &'static str,
        verdict: Verdict,
        purpose: &'static str,
        found: impl Into<String>,
        mend: impl IntoIterator<Item = String>,
    ) -> Self {
        let mend = mend.into_iter().collect::<Vec<_>>().join("\n");
        Self { name, verdict, purpose, found: found.into(), mend }
    }
}

/// Removes what a doctor left that was killed; returns how many folders that were.
pub fn remove_abandoned(state: &State, ids: Option<&IdRange>) -> Result<usize, PathError> {
    storage::remove_abandoned(state, ids)
}

/// Looks at everything. `ids` are the configured first ids for root.
pub fn examine(state: &State, ids: Option<(u32, u32)>, cancel: &AtomicBool) -> Vec<Check> {
    let host = Host::read();
    let range = IdRange::detect(ids);
    // If it cannot be removed, it is in nobody's way.
    let _ = remove_abandoned(state, range.as_ref().ok());
    let mut checks = host.checks();
    checks.extend(calls::checks(&host));
    checks.extend(namespaces::checks(&host));
    checks.extend(ids::checks(&host, &range));
    checks.extend(mounts::checks(&host));
    match Place::make(state) {
        Ok(place) => {
            checks.extend(storage::checks(&host, &place, state));
            if let Ok(range) = &range {
                checks.push(whole::check(&place, range, cancel));
            }
        }
        Err(error) => checks.push(Check::missing(
            "state",
            "everything: images, packages and roots lie there",
            "cannot be written",
            [process::chain(&error), "`--state DIR` keeps everything below another folder".to_string()],
        )),
    }
    without_user_namespaces(&mut checks);
    checks.extend(cgroup::checks(&host));
    checks.extend(tools::checks(&host));
    checks
}

/// Where there are no user namespaces, says of all that is tried in one that it was not: its own advice would mislead.
fn without_user_namespaces(checks: &mut [Check]) {
    const DEPENDENT: [&str; 5] = ["proc", "file systems", "devices", "binfmt_misc", "overlayfs"];
    if checks.iter().any(|check| check.name == namespaces::USER && check.verdict == Verdict::Works) {
        return;
    }
    for check in checks.iter_mut().filter(|check| DEPENDENT.contains(&check.name)) {
        check.found = "not tried, for want of user namespaces".to_string();
        check.mend = "mend user namespaces first".to_string();
    }
}

/// Runs one trial, when the program's arguments (its name first) ask for it. Must be called before anything else, while
/// there is one thread.
pub fn entry(args: &[OsString]) -> Option<ExitCode> {
    trial::entry(args)
}
