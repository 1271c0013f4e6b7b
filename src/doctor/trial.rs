//! A trial: one thing tried by a process of its own (`__try NAME FOLDER`), which changes nothing but itself.
//!
//! 1. closes inherited descriptors and asks to die with its parent
//! 2. makes the calls that the name stands for, in namespaces of its own
//! 3. writes what it found, or the step that failed and the kernel's answer, as JSON to standard output

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Signal, getegid, geteuid, set_parent_process_death_signal};

use crate::doctor::{calls, mounts, namespaces};
use crate::sandbox::trial;
use crate::{fs, process};

/// The hidden sub-command.
const TRY: &str = "__try";

/// What the kernel said to a step.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Refused {
    /// What was tried, as it reads after "cannot".
    pub(super) what: String,
    /// The kernel's number, where it was the kernel.
    pub(super) errno: Option<i32>,
    /// The same in words.
    pub(super) why: String,
}

/// What came of a trial: what was found, or what was refused.
pub(super) type Tried = Result<String, Refused>;

impl Refused {
    /// Returns the sentence.
    pub(super) fn text(&self) -> String {
        format!("cannot {}: {}", self.what, self.why)
    }
}

/// Says of a failed call what it was for.
pub(super) trait Trying<T> {
    /// `what` reads after "cannot".
    fn trying(self, what: impl Into<String>) -> Result<T, Refused>;
}

impl<T, E: Into<io::Error>> Trying<T> for Result<T, E> {
    fn trying(self, what: impl Into<String>) -> Result<T, Refused> {
        self.map_err(|e| {
            let error = e.into();
            Refused { what: what.into(), errno: error.raw_os_error(), why: error.to_string() }
        })
    }
}

/// Runs a trial that needs no folder.
pub(super) fn run(name: &str) -> Tried {
    run_in(name, Path::new("/"))
}

/// Runs a trial in a folder.
pub(super) fn run_in(name: &str, folder: &Path) -> Tried {
    let mut command = process::this_program_apart();
    command.env_clear().current_dir(folder).args([TRY, name]).stderr(Stdio::null());
    let output = command.output().trying("start a process for a trial")?;
    let lost = || {
        let why = match output.status.signal() {
            Some(signal) => format!("the process was killed by signal {signal}"),
            None => format!("the process ended without a word ({})", output.status),
        };
        Refused { what: format!("try `{name}`"), errno: None, why }
    };
    serde_json::from_slice::<Tried>(&output.stdout).map_err(|_| lost()).and_then(|tried| tried)
}

/// A process in a user namespace of its own, which waits there until this is dropped.
#[derive(Debug)]
pub(super) struct Idle(Child);

impl Idle {
    /// Starts it; `mapped` is whether it maps itself as the namespace's root.
    pub(super) fn start(mapped: bool) -> Result<Self, Refused> {
        let name = if mapped { "idle" } else { "idle-unmapped" };
        let mut command = process::this_program_apart();
        command.env_clear().args([TRY, name]).stderr(Stdio::null()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut idle = Self(command.spawn().trying("start a process for a trial")?);
        let mut ready = [0];
        let from = idle.0.stdout.as_mut().expect("it is piped");
        from.read_exact(&mut ready).trying("create a user namespace")?;
        Ok(idle)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends when its input does.
        let _ = self.0.wait();
    }
}

/// Runs one trial, when the program's arguments (its name first) ask for it.
pub(super) fn entry(args: &[OsString]) -> Option<ExitCode> {
    if args.get(1)? != TRY {
        return None;
    }
    let name = args.get(2).and_then(|name| name.to_str()).unwrap_or_default();
    let tried = begin(name).and_then(|()| {
        let known = calls::attempt(name).or_else(|| namespaces::attempt(name)).or_else(|| mounts::attempt(name));
        let known = known.or_else(|| idle(name));
        known.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::Unsupported)).trying(format!("try `{name}`")))
    });
    // The parent reads it; there is nobody else to tell.
    let _ = io::stdout().write_all(&serde_json::to_vec(&tried).unwrap_or_default());
    Some(if tried.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn begin(name: &str) -> Result<(), Refused> {
    // Where the call is refused, that is what its own trial is there to tell.
    let closed = trial::close_range();
    if name == "close_range" {
        closed.trying("close inherited descriptors (close_range)")?;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).trying("ask to die with the parent")
}

fn idle(name: &str) -> Option<Tried> {
    let entered = match name {
        "idle" => enter_user_namespace(),
        "idle-unmapped" => unshare(CloneFlags::CLONE_NEWUSER).trying("create a user namespace"),
        _ => return None,
    };
    Some(entered.and_then(|()| {
        io::stdout().write_all(b"r").and_then(|()| io::stdout().flush()).trying("report")?;
        io::stdin().read_to_end(&mut Vec::new()).trying("wait")?;
        Ok(String::new())
    }))
}

/// Enters a user namespace in which this process is root, and owns what it owned before.
pub(super) fn enter_user_namespace() -> Result<(), Refused> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER).trying("create a user namespace")?;
    let write = |file: &str, text: String| {
        let written = fs::write(Path::new(&format!("/proc/self/{file}")), text).map_err(|e| e.source);
        written.trying(format!("write /proc/self/{file}"))
    };
    write("setgroups", "deny".to_string())?;
    write("uid_map", format!("0 {uid} 1\n"))?;
    write("gid_map", format!("0 {gid} 1\n"))
}

/// Enters namespaces that belong to the present user namespace.
pub(super) fn enter(flags: CloneFlags, what: &str) -> Result<(), Refused> {
    unshare(flags).trying(format!("create {what} namespace"))
}
