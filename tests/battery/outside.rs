//! Probes from outside: hostile roots and specs, what is left when something is killed, two sandboxes at once.
//!
//! Like those from inside, each names what is in the attack's way and must fail without it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bindery::fs;
use bindery::sandbox::{self, Request, SandboxError, Status, Stdio};
use bindery::state::Lease;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::ablation::{Set, alternatives, take_away};
use crate::host::{Host, own_program, processes_with, variable, wait_until};
use crate::probe::Outcome;

/// One thing to find out from outside.
pub(crate) struct Outside {
    pub(crate) name: &'static str,
    pub(crate) stands_for: &'static str,
    /// As for probes from inside.
    pub(crate) guards: &'static str,
    run: fn(&Set) -> Outcome,
}

const fn outside(
    name: &'static str,
    stands_for: &'static str,
    guards: &'static str,
    run: fn(&Set) -> Outcome,
) -> Outside {
    Outside { name, stands_for, guards, run }
}

const ENDS: &str = "parent-death-signal lifeline";

pub(crate) const PROBES: &[Outside] = &[
    outside("link-bind", "a link in the root leads a bind to the host, CVE-2021-30465", "target-resolution", link_bind),
    outside("link-proc", "the root's /proc is a link to the host, CVE-2019-19921", "target-resolution", |off| {
        link("proc", off)
    }),
    outside(
        "working-folder",
        "a working folder behind a descriptor of the host's, CVE-2024-21626",
        "descriptors-closed",
        folder,
    ),
    outside("daemons", "daemons of the payload live on after it", "user: pid-namespace", daemons),
    outside("two-sandboxes", "one sandbox sees the processes of another", "pid-namespace", two),
    outside("supervisor-killed", "the payload lives on after kill -9 of the supervisor", ENDS, |off| killed(0, off)),
    outside("enter-killed", "the payload lives on after kill -9 of the process between", ENDS, |off| killed(2, off)),
];

/// Runs all, with everything and without each of what guards them.
pub(crate) fn run() {
    bindery::process::set_this_program(Path::new(
        &variable("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").into()),
    ));
    let mut wrong = Vec::new();
    for probe in PROBES {
        let full = alternatives(probe.guards);
        let mut sets: BTreeSet<Set> = [Set::new()].into();
        for set in &full {
            sets.insert(set.clone());
            sets.extend(set.iter().map(|member| set.iter().copied().filter(|m| m != member).collect::<Set>()));
        }
        for off in sets {
            let outcome = (probe.run)(&off);
            if outcome.is_ok() == full.contains(&off) {
                wrong.push(format!("without {off:?}: `{}`: {outcome:?}", probe.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn start(
    host: &Host,
    off: &Set,
    args: &[&str],
    edit: impl FnOnce(&mut Value),
    heard: &mut dyn FnMut(&str) -> bool,
) -> Result<(Status, String), SandboxError> {
    let mut lease = Lease::take(&host.state, "battery").unwrap();
    let mut spec = serde_json::to_value(host.spec(&lease, args, false)).unwrap();
    edit(&mut spec);
    take_away(&mut spec, off);
    let spec = serde_json::from_value(spec).unwrap();
    let (ids, base, cancel) = (&host.ids, host.state.state(), &AtomicBool::new(false));
    let mut text = String::new();
    let stdio = Stdio::Capture(&mut |_, bytes| {
        text.push_str(&String::from_utf8_lossy(bytes));
        if heard(&text) {
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let exit = sandbox::run(Request { spec: &spec, ids, base, lease: &mut lease, stdio, cancel })?;
    Ok((exit.status, text))
}

/// It holds when the sandbox refuses to start, naming the link.
fn refuses(host: &Host, off: &Set) -> Outcome {
    match start(host, off, &["true"], |_| {}, &mut |_| false) {
        Err(SandboxError::Setup(message)) if message.contains("a symbolic link") => Ok(message),
        Err(e) => Err(e.to_string()),
        Ok(_) => Err("it starts".into()),
    }
}

fn link_bind(off: &Set) -> Outcome {
    let mut host = Host::new();
    let there = host.folder("host/below");
    fs::symlink(there.parent().unwrap(), &host.base().join("dist")).unwrap();
    let source = host.folder("source");
    host.bind(&source, "/dist/below", true);
    refuses(&host, off)
}

fn link(name: &str, off: &Set) -> Outcome {
    let host = Host::new();
    let there = host.folder("host");
    // What is mounted below /dev needs its places there.
    for below in ["pts", "shm", "mqueue"] {
        host.folder(&format!("host/{below}"));
    }
    fs::symlink(&there, &host.base().join(name)).unwrap();
    match refuses(&host, off) {
        // Once a mount has gone astray, later steps may miss it.
        Err(message) if message.contains("cannot mount on") => Ok(message),
        outcome => outcome,
    }
}

fn folder(off: &Set) -> Outcome {
    let host = Host::new();
    let there = host.folder("secrets");
    fs::write(&there.join("secret"), "").unwrap();
    let open = fs::open(&there).unwrap();
    nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&open);
    let cwd = |spec: &mut Value| spec["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
    match start(&host, off, &["/bin/ls"], cwd, &mut |_| false) {
        Err(e) => Ok(e.to_string()),
        Ok((_, text)) if text.contains("secret") => Err("it is in the host's folder".into()),
        Ok((status, _)) => Ok(format!("{status:?}")),
    }
}

/// Returns the argument of a `sleep` that no other process has.
fn marker() -> String {
    use std::sync::atomic::AtomicU32;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("87{}.{}", NEXT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// It holds when all processes with the marker are gone; ends them otherwise. What must end is waited for.
fn gone(marker: &str, off: &Set) -> Outcome {
    let steps = if off.is_empty() { 600 } else { 20 };
    for _ in 0..steps {
        if processes_with(marker).is_empty() {
            return Ok(String::new());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = processes_with(marker);
    for pid in &left {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    Err(format!("{left:?} live"))
}

fn daemons(off: &Set) -> Outcome {
    let (host, marker) = (Host::new(), marker());
    let script = format!("setsid sleep {marker} >/dev/null 2>&1 </dev/null & exit 3");
    let (status, _) = start(&host, off, &["sh", "-c", &script], |_| {}, &mut |_| false).map_err(|e| e.to_string())?;
    assert_eq!(status, Status::Code(3));
    gone(&marker, off)
}

fn two(off: &Set) -> Outcome {
    let (one, other, marker) = (Host::new(), Host::new(), marker());
    let mut seen = None;
    let mut look = |_: &str| {
        let first = seen.is_none();
        if first {
            let script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
            seen = Some(start(&other, off, &["sh", "-c", script], |_| {}, &mut |_| false).map(|(_, text)| text));
        }
        first
    };
    let script = format!("echo ready; sleep {marker}");
    start(&one, &Set::new(), &["sh", "-c", &script], |_| {}, &mut look).map_err(|e| e.to_string())?;
    match seen {
        // The shell of the one has it in its command line, too.
        Some(Ok(text)) if text.contains(&marker) => Err("it does".into()),
        Some(Ok(text)) => Ok(text),
        other => Err(format!("{other:?}")),
    }
}

fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(Path::new(&format!("/proc/{pid}/status"))).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Kills a supervisor, or what is so many generations above its payload.
fn killed(generations: u32, off: &Set) -> Outcome {
    let (host, marker) = (Host::new(), marker());
    let mut command = bindery::process::command(own_program());
    command.args(["--ignored", "--exact", "--test-threads=1", "onstage::a_sandbox_that_sleeps"]);
    command.env("BINDERY_TEST_PLACE", host.dir.path()).env("BATTERY_MARKER", &marker);
    command.env("BATTERY_OFF", off.iter().copied().collect::<Vec<_>>().join(" "));
    let mut supervisor =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the payload runs", || processes_with(&format!("sleep\0{marker}")).len() == 1);
    let sleep = processes_with(&format!("sleep\0{marker}"))[0];
    if generations > 0 {
        // The shell is between.
        let victim = (0..=generations).fold(sleep, |pid, _| parent_of(pid));
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        // The supervisor may wait for a sandbox that nothing ends.
        let outcome = gone(&marker, off);
        let _ = supervisor.kill();
        supervisor.wait().unwrap();
        outcome
    } else {
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        gone(&marker, off)
    }
}

/// What [`killed`] starts.
pub(crate) fn sleep() {
    let marker = variable("BATTERY_MARKER").unwrap();
    let text = variable("BATTERY_OFF").unwrap();
    let names = PROBES.iter().flat_map(|probe| alternatives(probe.guards)).flatten();
    let off: Set = names.filter(|name| text.split_whitespace().any(|word| word == *name)).collect();
    let script = format!("trap '' TERM; sleep {marker} & while :; do wait; done");
    start(&Host::new(), &off, &["sh", "-c", &script], |_| {}, &mut |_| false).unwrap();
}
