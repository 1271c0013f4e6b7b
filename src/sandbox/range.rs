//! Runs our own code as uid 0 of the id range: unpacking, removing and measuring what a sandbox owns.
//!
//! The parent gets an ordinary [`Command`] whose standard streams are its to use. The child (`__range PARENT RANGE JOB`)
//!
//! 1. closes inherited descriptors and asks to die with its parent,
//! 2. starts a helper (`__map RANGE`) that stays behind in the host's user namespace,
//! 3. enters a user namespace of its own, has the helper write its maps, and becomes uid 0 of it,
//! 4. leaves the host's network and gives up gaining privileges,
//!
//! and then does the job, which may touch what the range owns (and, for an ordinary user, what the user owns) and
//! nothing else.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use rustix::process::{
    DumpableBehavior, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::fs::PathError;
use crate::process;
use crate::sandbox::idmap::{IdRange, explain_refusal};
use crate::sandbox::sys;

/// The hidden sub-command that runs a job.
const RANGE: &str = "__range";
/// The hidden sub-command that gives something to the range.
const GIVE: &str = "__give";
/// The hidden sub-command of the helper that writes maps.
const MAP: &str = "__map";

/// Returns the command that runs `job` (text that only the job's code understands) as uid 0 of the range. The job's
/// working folder is `dir`, and relative paths are best: started by root, the job cannot pass folders that are root's
/// alone. Its environment is empty.
pub fn command(ids: &IdRange, dir: &Path, job: &str) -> Command {
    let mut command = hidden(RANGE, ids, dir);
    command.arg(job);
    command
}

/// Returns the command that runs a hidden sub-command of bindery inside the range; its arguments are to be added.
pub(super) fn hidden(name: &str, ids: &IdRange, dir: &Path) -> Command {
    let mut command = process::this_program_apart();
    command.env_clear().current_dir(dir).args([name, &std::process::id().to_string(), &json(ids)]);
    command
}

/// Makes the range's 0 own a file or folder (not what is below it; a link itself, not what it points to), which must be
/// the user's own or, for root, anything. An ordinary user can then only remove it through the range.
pub fn give(ids: &IdRange, path: &Path) -> Result<(), PathError> {
    const ACTION: &str = "give to the id range";
    if ids.is_roots() {
        return chown(path, ids.uid(), ids.gid()).map_err(PathError::on(ACTION, path));
    }
    let (dir, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let given = process::run(hidden(GIVE, ids, dir).arg(name));
    given.map(drop).map_err(|e| PathError::on(ACTION, path)(io::Error::other(process::chain(&e))))
}

/// Lets the range pass a folder that is the user's own and closed to everyone else, so that what is in it can be bound.
/// The machine's root binds before it becomes the range, and ordinary users are mapped into it; a container's root, which
/// lacks the power to do the first, is not.
pub fn admit(ids: &IdRange, folder: &Path) -> Result<(), PathError> {
    if ids.is_roots() { give(ids, folder) } else { Ok(()) }
}

/// Gives what [`give`] names, when the program's arguments ask for it; returns whether that worked.
pub(super) fn give_inside(args: &[OsString]) -> Option<bool> {
    let given = enter_hidden(GIVE, args)?
        .map_err(|e| process::chain(&e))
        .and_then(|[name]: [OsString; 1]| chown(Path::new(&name), 0, 0).map_err(|e| e.to_string()));
    if let Err(message) = &given {
        // The parent reads it; there is nobody else to tell.
        let _ = io::stderr().write_all(message.as_bytes());
    }
    Some(given.is_ok())
}

fn chown(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Becomes uid 0 of the range and returns the job, when the program's arguments (its name first) ask for one. Must be
/// called before anything else, while there is one thread.
pub fn enter(args: &[OsString]) -> Option<Result<String, RangeError>> {
    enter_hidden(RANGE, args).map(|entered| {
        let [job] = entered?;
        job.to_str().map(str::to_string).ok_or(RangeError::Arguments)
    })
}

/// Like [`enter`], for the hidden sub-command `name`, whose arguments it returns.
pub(super) fn enter_hidden<const N: usize>(name: &str, args: &[OsString]) -> Option<Result<[OsString; N], RangeError>> {
    (args.get(1)? == name).then(|| {
        let [_, _, parent, ids, rest @ ..] = args else { return Err(RangeError::Arguments) };
        let parent = parent.to_str().and_then(|p| p.parse().ok()).ok_or(RangeError::Arguments)?;
        let ids = ids.to_str().and_then(|text| serde_json::from_str(text).ok()).ok_or(RangeError::Arguments)?;
        let rest = rest.to_vec().try_into().map_err(|_| RangeError::Arguments)?;
        become_range(parent, &ids)?;
        Ok(rest)
    })
}

fn become_range(parent: i32, ids: &IdRange) -> Result<(), RangeError> {
    sys::close_inherited().map_err(RangeError::on("close inherited descriptors"))?;
    die_with(parent)?;
    let mut helper = process::this_program()
        .env_clear()
        .args([MAP, &json(ids)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(RangeError::on("start the helper that maps ids"))?;
    new_user_namespace()?;
    let (mut to, mut from) = helper.stdin.take().zip(helper.stdout.take()).expect("both are piped");
    let mut answer = String::new();
    to.write_all(b"x")
        .and_then(|()| from.read_to_string(&mut answer))
        .map_err(RangeError::on("have the ids mapped"))?;
    helper.wait().map_err(RangeError::on("have the ids mapped"))?;
    if answer != "ok" {
        return Err(RangeError::Map(answer));
    }
    become_root()?;
    die_with(parent)?;
    new_namespaces(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    set_no_new_privs(true).map_err(|e| RangeError::on("give up gaining privileges")(e.into()))?;
    umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Runs the helper that maps its parent, when the program's arguments ask for it.
pub(super) fn map_parent(args: &[OsString]) -> Option<()> {
    if args.get(1)? != MAP {
        return None;
    }
    let answer = || {
        let ids: IdRange = serde_json::from_str(args.get(2)?.to_str()?).ok()?;
        // The end of the pipe without a byte: the parent has died.
        io::stdin().read_exact(&mut [0]).ok()?;
        Some(ids.write_outer(getppid()?).map_or_else(|e| process::chain(&e), |()| "ok".to_string()))
    };
    if let Some(answer) = answer() {
        // Nobody is left to hear of a failure.
        let _ = io::stdout().write_all(answer.as_bytes());
    }
    Some(())
}

/// Asks for SIGKILL when the parent goes. Cleared by every change of user id, so called after each.
pub(super) fn die_with(parent: i32) -> Result<(), RangeError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| RangeError::on("ask to die with the parent")(e.into()))?;
    // It may have gone before we asked.
    let alive = getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    if alive { Ok(()) } else { Err(RangeError::Orphan) }
}

/// Enters a new user namespace, where nothing is mapped yet.
pub(super) fn new_user_namespace() -> Result<(), RangeError> {
    new_namespaces(CloneFlags::CLONE_NEWUSER)
}

/// Enters namespaces that belong to the user namespace. AppArmor may have let us into that one and then forbid this.
pub(super) fn new_namespaces(flags: CloneFlags) -> Result<(), RangeError> {
    unshare(flags).map_err(|e| {
        let source = io::Error::from(e);
        RangeError::Refused { why: explain_refusal(&source), source }
    })
}

/// Becomes uid and gid 0 of the current user namespace, whose maps are written, without other groups; stays dumpable,
/// without which the parent could not write the maps of our children.
pub(super) fn become_root() -> Result<(), RangeError> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::Dumpable))
        .map_err(|e| RangeError::on("become uid 0 of the id range")(e.into()))
}

/// Has programs that this process starts keep its capabilities whatever their ids (capabilities(7), ambient set).
pub(super) fn pass_capabilities_on() -> io::Result<()> {
    let all = capabilities(None)?.permitted;
    set_capabilities(None, CapabilitySets { effective: all, permitted: all, inheritable: all })?;
    all.iter().try_for_each(|one| configure_capability_in_ambient_set(one, true)).map_err(Into::into)
}

/// Undoes [`pass_capabilities_on`], for this process and for one that was started by it.
pub(super) fn keep_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let all = capabilities(None)?.permitted;
    let inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: all, permitted: all, inheritable })?)
}

fn json(ids: &IdRange) -> String {
    serde_json::to_string(ids).expect("a range has only plain fields")
}

/// Our own code cannot act as the id range.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The hidden sub-command was called by something else than bindery.
    #[error("`{RANGE}` and its like are for bindery's own use")]
    Arguments,
    /// The parent went before the child was ready.
    #[error("the process that started this one has ended")]
    Orphan,
    /// The kernel refuses user namespaces.
    #[error("cannot create namespaces: {why}")]
    Refused {
        /// The setting responsible, and what to do.
        why: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The maps could not be written.
    #[error("cannot map the subordinate ids: {0}")]
    Map(String),
    /// A step failed.
    #[error("cannot {action}")]
    Step {
        /// Which.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl RangeError {
    pub(super) fn on(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Step { action, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn other_arguments_are_none_of_its_business() {
        assert!(enter(&args(&["bindery"])).is_none() && enter(&args(&["bindery", "build", "__range"])).is_none());
        assert!(map_parent(&args(&["bindery", "__range"])).is_none());
    }

    #[test]
    fn a_hidden_call_with_wrong_arguments_is_refused() {
        for words in [&["bindery", RANGE][..], &["bindery", RANGE, "x", "{}", "j"], &["bindery", RANGE, "1", "[", "j"]]
        {
            assert!(matches!(enter(&args(words)), Some(Err(RangeError::Arguments))), "{words:?}");
        }
    }
}
