//! One sandbox, with everything together: this program's `--version` in an empty root, in a state folder of its own.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::atom::RootPath;
use crate::doctor::Check;
use crate::doctor::storage::Place;
use crate::fs::{self, PathError};
use crate::layer::{self, LayerError};
use crate::process;
use crate::root::{self, Bind, Command, Limits, Network, Root};
use crate::sandbox::{self, IdRange, SandboxError, Status, Stdio};
use crate::state::{Lease, State, StateError};

pub(super) fn check(place: &Place, ids: &IdRange, cancel: &AtomicBool) -> Check {
    const NAME: &str = "sandbox";
    const PURPOSE: &str = "everything: all of the above at once";
    match trial(&place.folder, ids, cancel) {
        Ok(Status::Code(0)) => Check::works(NAME, PURPOSE, "two user namespaces, overlay root, seccomp"),
        Ok(status) => {
            let found = format!("a trial ended with {status:?}");
            Check::missing(NAME, PURPOSE, found, ["where nothing else is missing, this is a bug".to_string()])
        }
        Err(error) => Check::missing(NAME, PURPOSE, "cannot be set up", [process::chain(&error)]),
    }
}

fn trial(place: &Path, ids: &IdRange, cancel: &AtomicBool) -> Result<Status, TrialError> {
    let state = State::below(&place.join("state"));
    state.prepare()?;
    let mut lease = Lease::take(&state, "bindery doctor")?;
    let folder = lease.root().to_path_buf();
    let empty = state.runs().join("empty");
    fs::create_dir_new(&empty, 0o755)?;
    let relative = |path: &Path| path.strip_prefix(state.state()).unwrap_or(path).to_path_buf();
    let root = Root { lower: vec![relative(&empty)], upper: Some(relative(&folder)) };
    let path = |text: &str| text.parse::<RootPath>().expect("an absolute path");
    let program = fs::canonicalize(Path::new("/proc/self/exe"))?;
    let binds = [Bind { from: program, to: path("/bindery"), writable: false }];
    let args = vec!["/bindery".to_string(), "--version".to_string()];
    let command = Command { args, env: Vec::new(), cwd: path("/"), terminal: false };
    let limits = Limits { time: Some(Duration::from_secs(20)), ..Limits::default() };
    let spec = root::spec(&root, &binds, &[], &command, &limits, Network::None);
    let base = state.state();
    let stdio = Stdio::Capture(&mut |_, _| {});
    let result = sandbox::run(sandbox::Request { spec: &spec, ids, base, lease: &mut lease, stdio, cancel });
    // What was wrong with the sandbox is what to tell, also where that keeps its folder from being removed.
    let removed = layer::remove(ids, &folder);
    let released = lease.release();
    let status = result?.status;
    removed?;
    released?;
    Ok(status)
}

/// The trial failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum TrialError {
    State(#[from] StateError),
    Path(#[from] PathError),
    Sandbox(#[from] SandboxError),
    Layer(#[from] LayerError),
}
