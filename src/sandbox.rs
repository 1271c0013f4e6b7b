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
use crate::state::{Lease, StateError, start_time};
use cgroup::{Cgroups, Making};
use disk::Disk;
use keeper::Keeper;
use keys::Hands;
use plan::{Kind, Plan};
use report::Start;
use stdio::Streams;
use step::{Doing, StepError};
use supervise::{Sandbox, Watch};
use watchdog::Watchdog;
use without::Mechanism;

mod achieved;
mod cgroup;
mod change;
mod channel;
mod child;
mod courtesy;
mod disk;
mod early;
mod emulate;
mod enter;
mod filesystem;
mod held;
mod idle;
pub mod idmap;
mod init;
mod keeper;
mod keys;
mod layers;
mod mount;
mod payload;
mod plan;
mod pressure;
mod program;
pub mod range;
mod reached;
mod reap;
mod report;
mod seccomp;
mod stdio;
mod step;
mod supervise;
mod sys;
mod terminal;
pub mod trial;
mod usage;
mod watch;
mod watchdog;
mod without;

pub use achieved::Achieved;
pub use cgroup::{CgroupError, Killed, Together, memory, processors};
pub use change::{Change, ChangeError, change};
pub use disk::{free_space, is_nearly_full};
pub use early::{Early, First, first};
pub use emulate::{EmulationError, Emulator, architectures, can_emulate, foreign, register_one};
pub(crate) use filesystem::unmount;
pub use idmap::{IdRange, IdRangeError};
pub use keys::Keys;
pub use layers::LayerError;
pub use plan::{Unsupported, unsupported};
pub use reap::{reap, reap_groups};
pub use report::Status;
pub use stdio::{Stdio, Stream};
pub use terminal::{restore_terminal, stop_here};
pub use watch::Seen;
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
    /// Who they were, as far as the host lets us know.
    pub oom_killed: Vec<Killed>,
    /// The limit of memory at the end, in bytes.
    pub memory_limit: Option<u64>,
    /// How often it could not start a process because of their limit, where a control group gives it.
    pub refused_processes: u64,
    /// The limit of processes at the end.
    pub pids_limit: Option<u64>,
    /// The most bytes of memory it used, where memory is limited.
    pub peak_memory: Option<u64>,
    /// The processor time of all its processes, user's and system's, in milliseconds; the sandbox's own are among them, and
    /// those are not that were still running when the command ended.
    pub cpu_milliseconds: u64,
    /// For how many milliseconds it stood still to make way for others, where it was to.
    pub yielded: Option<u64>,
    /// Limits that were changed while it ran.
    pub changed: Change,
    /// What isolation and limits it really had.
    pub achieved: Achieved,
}

/// Runs a hidden entry point, when the program's arguments (its name first) ask for one. Must be called before anything
/// else, while there is one thread.
pub fn entry(args: &[OsString]) -> Option<ExitCode> {
    match args.get(1)?.to_str()? {
        ENTER => enter::main(args),
        INIT => init::main(args),
        PAYLOAD => payload::main(),
        _ => {
            let done =
                range::map_parent(args).or_else(|| usage::main(args)).or_else(|| held::main(args)).map(|()| true);
            let done = done.or_else(|| range::give_inside(args))?;
            return Some(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Some(ExitCode::SUCCESS)
}

/// What else there may be to a run.
#[derive(Debug, Default)]
pub struct With<'a> {
    /// A sandbox that was started before, in the hope that the request would be like this.
    pub early: Option<Early>,
    /// Tells of signals that are the command's.
    pub keys: Option<&'a Keys>,
    /// Whether nobody wants to look at the root: the lease's folder is gone or empty afterwards. Root empties it from here;
    /// for anyone else enter does, which still has a handle on the id range: much quicker than another process that has to
    /// get one. Should that be killed, the folder is as full as otherwise: the caller removes it in either case.
    pub discard: bool,
    /// Groups of files, by their paths in the root, of which is to be seen whether the command opens any: a folder stands
    /// for itself and what is directly in it. It costs the command little, and takes of the caller's share of inotify(7).
    pub watch: Vec<Vec<PathBuf>>,
    /// What limits those that may run side by side.
    pub together: Option<&'a Together>,
}

/// Runs a command to its end, and leaves no process behind.
pub fn run(request: Request<'_, '_>) -> Result<Exit, SandboxError> {
    run_with(request, With::default(), &mut || ()).map(|(exit, _)| exit)
}

/// Like [`run`], with more. Also returns what was seen of each group of files: nothing where the command did not end by
/// itself. `told` is called once the sandbox knows what to do, when there is nothing to do here but wait.
pub fn run_with(
    request: Request<'_, '_>,
    with: With<'_>,
    told: &mut dyn FnMut(),
) -> Result<(Exit, Vec<Seen>), SandboxError> {
    let Request { spec, ids, base, lease, stdio, cancel } = request;
    let With { early, keys, discard, watch, together } = with;
    let mut plan = Plan::read(spec)?;
    plan.watch = watch;
    if plan.terminal != matches!(stdio, Stdio::Terminal) {
        return Err(Unsupported::value("process.terminal", format!("with the caller's {stdio:?}")).into());
    }
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let emulators = emulate::choose(&mut plan.emulators, achieved::version(&kernel))?;
    let kept_out = if plan.own_emulators { emulate::keeps_out(achieved::version(&kernel)) } else { Ok(false) };
    plan.own_emulators = kept_out == Ok(true);
    let binds = plan.mounts.iter().filter(|mount| matches!(mount.kind, Kind::Bind(_))).count();
    let binds = binds + plan.overlay.host_folders().count();
    if binds > enter::MAX_BINDS {
        return Err(Unsupported::value(
            "mounts",
            format!("{binds} binds and folders of the host's, at most {}", enter::MAX_BINDS),
        )
        .into());
    }
    layers::check(&plan, ids)?;
    let folder = prepare_folders(&plan, ids, base, lease)?;
    let upper = plan.overlay.upper.as_ref().map_or_else(|| folder.join("upper"), |(upper, _)| upper.into());
    let mut disk = Disk::prepare(plan.limits.disk, ids, base, &folder, &upper)?;
    let (streams, theirs) = Streams::open(stdio).doing("open the standard streams")?;
    let host = cgroup::Host::read()?;
    let mut making = Making { lease, host: &host, kernel: achieved::version(&kernel), together, runs: false };
    let mut cgroups = Cgroups::create(&plan.limits, &mut making)?;
    plan.pid_max = cgroups.pid_max;
    let mut achieved = Achieved { emulators, ..Achieved::new(spec, &plan, ids, &cgroups, &disk, kernel) };
    achieved.not_given.extend(kept_out.err());
    // Declared after the groups, so that it is empty before they are removed, however this function ends.
    let early = early.filter(|early| cgroups.asks_nothing() && early.serves(&plan, base));
    let begun = early.is_some();
    let mut sandbox = match early {
        Some(early) => early.ready()?,
        None => Sandbox::new(&plan.without, cgroups.unified().as_deref())?,
    };
    let pid = sandbox.pid();
    making.lease.owns_process(pid, start_time(pid).unwrap_or_default())?;
    cgroups.add(pid, sandbox.born_in_group())?;
    disk.watch(pid)?;
    let watchdog = Watchdog::new(plan.limits.clone(), Instant::now());
    if !begun {
        let counted = plan.limits.pids.is_some();
        sandbox.begin(&early::begin(base, plan.host_network, counted, plan.without.clone()))?;
        sandbox.map(ids)?;
    }
    sandbox.start(Start { folder, discard, opened: false, plan }, base, ids, theirs)?;
    told();
    let keeper = Keeper::new(&mut cgroups, making, pid, Instant::now());
    let mut watch = Watch { streams, watchdog, keeper, disk: &mut disk, cancel, hands: Hands::new(keys) };
    let end = sandbox.supervise(&mut watch)?;
    let used = sandbox.end();
    let (changed, frozen) = (watch.keeper.changed.clone(), watch.keeper.frozen);
    drop(watch);
    // The last may have been killed since the last look.
    cgroups.suspect();
    let (oom_kills, oom_killed, peak_memory) = (cgroups.oom_kills(), cgroups.oom_killed(), cgroups.peak_memory());
    let refused_processes = cgroups.refused_processes();
    let limits = std::mem::take(&mut cgroups.limits);
    achieved.limits_now(&cgroups);
    cgroups.remove();
    let failed = !end.status.is_some_and(Status::success);
    let by_memory = (oom_kills > 0 && failed).then_some(Stopped::Memory);
    let by_processes = (refused_processes > 0 && failed).then_some(Stopped::Processes);
    // It may have failed for want of room before that was seen.
    let by_disk = disk.exhausted().filter(|_| failed);
    let stopped = end.stopped.or(by_memory).or(by_disk).or(by_processes);
    let status = match end.status {
        Some(status) => status,
        None if stopped.is_some() => Status::Signal(KILLED),
        None => return Err(SandboxError::Lost(end.lost)),
    };
    let exit = Exit {
        status,
        stopped,
        oom_kills,
        oom_killed,
        memory_limit: limits.memory,
        refused_processes,
        pids_limit: limits.pids,
        peak_memory,
        cpu_milliseconds: u64::try_from(used.as_millis()).unwrap_or(u64::MAX),
        yielded: limits.gives_way.then(|| u64::try_from(frozen.as_millis()).unwrap_or(u64::MAX)),
        changed,
        achieved,
    };
    Ok((exit, end.watched))
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
        fs::set_mode(&dir, if plan.without.keeps(Mechanism::PrivateFolder) { 0o700 } else { 0o755 })?;
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
    /// Programs of another machine cannot be run.
    #[error(transparent)]
    Emulation(#[from] EmulationError),
    /// A folder of the host's cannot be a layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
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
    #[error("{} MiB or too few files are free for `{}`; make room first", free >> 20, folder.display())]
    DiskFull {
        /// Where.
        folder: PathBuf,
        /// Bytes.
        free: u64,
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
