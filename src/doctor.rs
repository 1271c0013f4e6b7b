//! What this host can do: each primitive that bindery stands on, tried where trying is possible, with how to mend it.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::atom::RootPath;
use crate::fs::{self, PathError};
use crate::layer::{self, LayerError};
use crate::process;
use crate::root::{self, Bind, Command, Limits, Network, Root};
use crate::sandbox::{self, IdRange, SandboxError, Status, Stdio};
use crate::state::{Lease, State, StateError};

/// The oldest kernel with everything that sandboxes need: Debian 12's.
const KERNEL: (u32, u32) = (6, 1);
/// Below this an image and a build of any size do not fit, in bytes.
const DISK: u64 = 5 << 30;

/// Whether something can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It can.
    Works,
    /// Something is not as good as it could be; everything can be done without.
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
    /// What was found.
    pub found: String,
    /// How to mend it; empty where nothing is to be mended.
    pub mend: String,
}

impl Check {
    fn works(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Works, found: found.into(), mend: String::new() }
    }

    fn not(name: &'static str, verdict: Verdict, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict, found: found.into(), mend: mend.into() }
    }
}

/// Looks at everything. `ids` is the configured range for root.
pub fn examine(state: &State, ids: Option<(u32, u32)>, cancel: &AtomicBool) -> Vec<Check> {
    let mut checks = vec![kernel()];
    let ids = match IdRange::detect(ids) {
        Ok(ids) => {
            checks.push(Check::works("subordinate ids", ids.to_string()));
            Some(ids)
        }
        // The error says how to mend it.
        Err(error) => {
            checks.push(Check::not("subordinate ids", Verdict::Missing, "none", process::chain(&error)));
            None
        }
    };
    let prepared = state.prepare();
    match (&ids, &prepared) {
        (Some(ids), Ok(())) => checks.push(sandbox(state, ids, cancel)),
        (_, Err(error)) => {
            checks.push(Check::not("state", Verdict::Missing, "cannot be written", process::chain(error)));
        }
        (None, Ok(())) => {}
    }
    checks.push(disk(state));
    checks.push(tool("mmdebstrap", "mmdebstrap", "makes images", "apt-get install mmdebstrap"));
    let apt = "Debian and what descends from it have it, other distributions package it as `apt`";
    checks.push(tool("apt", "apt-get", "finds and downloads what images are made of", apt));
    checks.push(pip());
    checks
}

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL {
        return Check::works("kernel", release);
    }
    let mend = format!("bindery needs Linux {}.{} or later", KERNEL.0, KERNEL.1);
    Check::not("kernel", Verdict::Missing, release, mend)
}

/// Runs this program in a sandbox: namespaces, maps, overlay, seccomp, all at once; the error says which is missing.
fn sandbox(state: &State, ids: &IdRange, cancel: &AtomicBool) -> Check {
    const NAME: &str = "sandbox";
    let what = "two user namespaces, overlay root, seccomp";
    match trial(state, ids, cancel) {
        Ok(Status::Code(0)) => Check::works(NAME, what),
        Ok(status) => Check::not(NAME, Verdict::Missing, format!("a trial ended with {status:?}"), "this is a bug"),
        Err(error) => Check::not(NAME, Verdict::Missing, "cannot be set up", process::chain(&error)),
    }
}

fn trial(state: &State, ids: &IdRange, cancel: &AtomicBool) -> Result<Status, TrialError> {
    let mut lease = Lease::take(state, "bindery doctor")?;
    let folder = lease.root().to_path_buf();
    let empty = state.runs().join(format!("doctor-{}", lease.id()));
    lease.owns_path(empty.clone())?;
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
    layer::remove(ids, &folder)?;
    fs::remove_dir_all(&empty)?;
    lease.release()?;
    Ok(result?.status)
}

fn disk(state: &State) -> Check {
    let free = rustix::fs::statvfs(state.state()).map(|s| s.f_bavail.saturating_mul(s.f_frsize)).unwrap_or(0);
    let found = format!("{} GiB free for {}", free >> 30, state.state().display());
    if free >= DISK {
        return Check::works("disk", found);
    }
    Check::not(
        "disk",
        Verdict::Limited,
        found,
        "an image takes about 1 GiB, a large build 20: `--state DIR` uses another disk",
    )
}

fn tool(name: &'static str, program: &str, why: &str, install: &str) -> Check {
    match process::find(program) {
        Some(path) => Check::works(name, path.display().to_string()),
        None => Check::not(name, Verdict::Missing, "not installed", format!("{why}; {install}")),
    }
}

fn pip() -> Check {
    match process::run(process::command("python3").args(["-m", "pip", "--version"])) {
        Ok(output) => Check::works("pip", String::from_utf8_lossy(&output.stdout).trim().to_string()),
        Err(_) => Check::not(
            "pip",
            Verdict::Missing,
            "not installed",
            "downloads Portage for images; apt-get install python3-pip",
        ),
    }
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
