//! Runs one command in a root, as an OCI runtime spec says.
//!
//! The spec is the whole input; what it asks for and a sandbox cannot do is refused ([`Unsupported`]). Four processes,
//! each bindery itself started again with a hidden sub-command, because a fresh process with one thread may do what a
//! forked one may not:
//!
//! ```text
//! supervisor       the caller of run(): prepares folders and control groups, relays streams, watches, kills
//! └ __enter        into the outer user namespace and all others; waits for init           (enter.rs)
//!   └ __init       process 1: mounts the root, enters it, reaps                           (init.rs, mount.rs)
//!     └ __payload  into the inner user namespace, drops privileges, becomes the command   (payload.rs)
//! ```
//!
//! Mounts and all other namespaces belong to the outer user namespace, whose ids are the [`IdRange`]; the payload lives
//! in the inner one, where its capabilities own nothing. kill -9 of any of these processes ends all below it: each asks
//! to die with its parent, init watches the supervisor's channel as well, and the kernel empties a process namespace
//! whose process 1 ends. What could still be left (control groups) is in the lease.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use oci_spec::runtime::Spec;

use crate::fs::{self, PathError};
use crate::process;
use crate::state::{Lease, StateError};
use cgroup::Cgroups;
use plan::{Kind, Plan};
use report::Start;
use stdio::Streams;
use step::{Doing, StepError};
use supervise::{Sandbox, Watch, start_time};
use usage::Meter;
use watchdog::{RESERVE, Watchdog};

mod achieved;
mod cgroup;
mod channel;
mod enter;
pub mod idmap;
mod init;
mod mount;
mod payload;
mod plan;
mod program;
pub mod range;
mod reap;
mod report;
mod seccomp;
mod stdio;
mod step;
mod supervise;
mod sys;
mod usage;
mod watchdog;
mod without;

pub use achieved::Achieved;
pub use cgroup::CgroupError;
pub use idmap::{IdRange, IdRangeError};
pub use plan::Unsupported;
pub use reap::reap;
pub use report::Status;
pub use stdio::{Stdio, Stream};
pub use watchdog::Stopped;

/// The hidden sub-commands.
const ENTER: &str = "__enter";
const INIT: &str = "__init";
const PAYLOAD: &str = "__payload";

/// The number of SIGKILL.
const KILLED: i32 = 9;

/// What to run, and with what.
#[derive(Debug)]
pub struct Request<'a, 's> {
    /// The root, the command, the limits.
    pub spec: &'a Spec,
    /// Who owns the files in the root.
    pub ids: &'a IdRange,
    /// The folder that the names in the spec's overlay are relative to; the lease's folder is below it.
    pub base: &'a Path,
    /// Everything that could be left behind is recorded in it first.
    pub lease: &'a mut Lease,
    /// Where the command's standard streams go; a terminal if and only if the spec says so.
    pub stdio: Stdio<'s>,
    /// Set to call it off: everything is killed.
    pub cancel: &'a AtomicBool,
}

/// How a command ended.
#[derive(Debug, serde::Serialize)]
pub struct Exit {
    /// Its exit code or the signal that ended it; SIGKILL where it was stopped.
    pub status: Status,
    /// Why it was stopped, if it did not end by itself.
    pub stopped: Option<Stopped>,
    /// How many of its processes the kernel killed for want of memory, where memory is limited.
    pub oom_kills: u64,
    /// How often it could not start a process because of their limit, where a control group gives it.
    pub refused_processes: u64,
    /// The most bytes of memory it used, where memory is limited.
    pub peak_memory: Option<u64>,
    /// What isolation and limits it really had.
    pub achieved: Achieved,
}

/// Runs a hidden entry point, when the program's arguments (its name first) ask for one. Must be called before anything
/// else, while there is one thread.
pub fn entry(args: &[OsString]) -> Option<ExitCode> {
    match args.get(1)?.to_str()? {
        ENTER => enter::main(args),
        INIT => init::main(),
        PAYLOAD => payload::main(),
        _ => {
            let done = range::map_parent(args).or_else(|| usage::main(args)).map(|()| true);
            let done = done.or_else(|| range::give_inside(args))?;
            return Some(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Some(ExitCode::SUCCESS)
}

/// Runs a command to its end, and leaves no process behind.
pub fn run(request: Request<'_, '_>) -> Result<Exit, SandboxError> {
    let Request { spec, ids, base, lease, stdio, cancel } = request;
    let mut plan = Plan::read(spec)?;
    if plan.process.terminal != matches!(stdio, Stdio::Terminal) {
        return Err(Unsupported::value("process.terminal", format!("with the caller's {stdio:?}")).into());
    }
    let binds = plan.mounts.iter().filter(|mount| matches!(mount.kind, Kind::Bind(_))).count();
    if binds > enter::MAX_BINDS {
        return Err(Unsupported::value("mounts", format!("{binds} binds, at most {}", enter::MAX_BINDS)).into());
    }
    let folder = prepare_folders(&plan, ids, base, lease)?;
    let upper = plan.overlay.upper.as_ref().map_or_else(|| folder.join("upper"), |(upper, _)| upper.into());
    let meter = match plan.limits.disk {
        Some(_) if usage::free(base) < RESERVE => return Err(SandboxError::DiskFull { folder: base.to_path_buf() }),
        Some(_) => Some(Meter::start(ids, base, &upper)?),
        None => None,
    };
    let (streams, theirs) = Streams::open(stdio).doing("open the standard streams")?;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut cgroups = Cgroups::create(&plan.limits, lease, &cgroup::Host::read()?, achieved::version(&kernel))?;
    plan.pid_max = cgroups.pid_max;
    let achieved = Achieved::new(spec, &plan, ids, &cgroups, kernel);
    // Declared after the groups, so that it is empty before they are removed, however this function ends.
    let mut sandbox = Sandbox::new(&plan.without)?;
    let pid = sandbox.pid();
    lease.owns_process(pid, start_time(pid).unwrap_or_default())?;
    cgroups.add(pid)?;
    let watchdog = Watchdog::new(plan.limits.clone(), Instant::now());
    let parent = i32::try_from(std::process::id()).expect("Linux process ids are below 2^22");
    let start = Start { parent, as_root: ids.is_roots(), base: base.to_path_buf(), folder, plan };
    sandbox.start(&start, theirs)?;
    let end = sandbox.supervise(Watch { streams, watchdog, meter, cancel, ids })?;
    drop(sandbox);
    let (oom_kills, peak_memory) = (cgroups.oom_kills(), cgroups.peak_memory());
    let refused_processes = cgroups.refused_processes();
    cgroups.remove();
    let failed = !end.status.is_some_and(Status::success);
    let stopped = end.stopped.or((oom_kills > 0 && failed).then_some(Stopped::Memory));
    let status = match end.status {
        Some(status) => status,
        None if stopped.is_some() => Status::Signal(KILLED),
        None => return Err(SandboxError::Lost(end.lost)),
    };
    Ok(Exit { status, stopped, oom_kills, refused_processes, peak_memory, achieved })
}

/// Makes the folders that the range writes to, and returns the lease's, relative to the base folder.
fn prepare_folders(plan: &Plan, ids: &IdRange, base: &Path, lease: &Lease) -> Result<PathBuf, SandboxError> {
    let folder = lease
        .root()
        .strip_prefix(base)
        .map_err(|_| SandboxError::Outside { folder: lease.root().to_path_buf(), base: base.to_path_buf() })?;
    let names = plan.overlay.upper.iter().flat_map(|(upper, work)| [upper, work]);
    let parents = names.filter_map(|name| Path::new(name).parent()).filter(|dir| !dir.as_os_str().is_empty());
    for dir in parents.chain([folder]) {
        let dir = base.join(dir);
        fs::create_dir_all(&dir)?;
        // An ordinary user's own can be written to from inside the range.
        if ids.is_roots() {
            range::give(ids, &dir)?;
        }
        // What a payload makes may be setuid, and the range's ids own other roots, too.
        fs::set_mode(&dir, 0o700)?;
    }
    Ok(folder.to_path_buf())
}

/// A command could not be run, or its sandbox was lost.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The spec asks for something else than a sandbox.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The ids could not be mapped.
    #[error(transparent)]
    Ids(#[from] IdRangeError),
    /// A limit cannot be given.
    #[error(transparent)]
    Limit(#[from] CgroupError),
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The lease could not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel refuses user namespaces.
    #[error("{0}")]
    Refused(String),
    /// A step of the set-up failed.
    #[error("cannot set the sandbox up: {0}")]
    Setup(String),
    /// The command could not be started.
    #[error("{message}")]
    Command {
        /// Its name and what the kernel said.
        message: String,
        /// Whether there is no such program.
        missing: bool,
    },
    /// The sandbox's own processes were killed by somebody else.
    #[error(
        "the sandbox was lost: its first process ended{}; was it killed, or the machine short of memory?",
        .0.as_ref().map(|how| format!(" ({how})")).unwrap_or_default()
    )]
    Lost(Option<String>),
    /// The disk is nearly full.
    #[error("fewer than {} MiB are free for `{}`; make room first", RESERVE >> 20, folder.display())]
    DiskFull {
        /// Where.
        folder: PathBuf,
    },
    /// The lease belongs to another state.
    #[error("the lease's folder `{}` is not below `{}`", folder.display(), base.display())]
    Outside {
        /// The lease's folder.
        folder: PathBuf,
        /// The base folder.
        base: PathBuf,
    },
}

impl From<StepError> for SandboxError {
    fn from(error: StepError) -> Self {
        Self::Setup(process::chain(&error))
    }
}
