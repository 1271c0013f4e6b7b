//! Probes from outside: what lives on, whatever is killed and whatever it ignores, and what two sandboxes see of each
//! other.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bindery::fs;
use bindery::sandbox::{Status, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ablation::Set;
use crate::host::{Host, own_program, processes_with, variable, wait_until};
use crate::outside::{Outside, Try, outside, play, play_for, script};
use crate::probe::Outcome;

const ENDS: &str = "parent-death-signal lifeline";
const PIDS: &str = "pid-namespace";

pub(crate) const PROBES: &[Outside] = &[
    outside("daemons", "daemons of the payload live on after it", PIDS, |tried| {
        ends(tried, |marker| format!("setsid sleep {marker} >/dev/null 2>&1 </dev/null & exit 3"))
    }),
    outside("orphans", "processes whose parents are gone live on", PIDS, |tried| {
        ends(tried, |marker| format!("(trap '' HUP TERM; sleep {marker} >/dev/null 2>&1 </dev/null &); exit 3"))
    }),
    outside(
        "called-off",
        "a payload that ignores SIGTERM, and has stopped itself, outlives being called off",
        PIDS,
        called_off,
    ),
    outside("too-long", "a payload that ignores every signal takes for ever", "time-limit", |tried| {
        times_out(tried, "trap '' TERM INT HUP QUIT; while :; do echo busy; sleep 0.1; done", Stopped::Time)
    }),
    outside(
        "stops-everything",
        "a payload that stops all its processes by SIGSTOP is waited for, for ever",
        "time-limit",
        |tried| times_out(tried, "sleep 1000 & kill -STOP $!; kill -STOP -1; kill -STOP $$", Stopped::Time),
    ),
    outside("too-quiet", "a payload that hangs is waited for, for ever", "silence-limit", |tried| {
        times_out(tried, "echo begins; exec sleep 1000", Stopped::Silence)
    }),
    outside("too-idle", "a payload all of which sleeps is waited for, for ever", "idle-limit", |tried| {
        times_out(tried, "echo begins; exec sleep 1000", Stopped::Idle)
    }),
    outside("supervisor-killed", "the payload lives on after kill -9 of the supervisor", ENDS, |tried| {
        killed(None, tried)
    }),
    outside("enter-killed", "the payload lives on after kill -9 of the process between", ENDS, |tried| {
        killed(Some(2), tried)
    }),
    outside("init-killed", "the payload lives on after kill -9 of its process 1", PIDS, |tried| killed(Some(1), tried)),
    outside("two-sandboxes", "one sandbox sees the processes of another", PIDS, |tried| {
        // The shell of the one has it in its command line. With a process namespace, so that it can be ended.
        two(tried, &Set::new(), "sleep 1000; :", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    }),
    outside("two-sandboxes-memory", "and its shared memory", "private-dev", |tried| {
        two(tried, &tried.off, ": >/dev/shm/$MARKER; sleep 1000", "ls /dev/shm")
    }),
    outside("two-sandboxes-network", "and what it serves on 127.0.0.1", "network-namespace", network),
];

/// Returns the argument of a `sleep` that no other process has.
fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("87{}.{}", NEXT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// It holds when all processes with the marker are gone; ends them otherwise. What must end is waited for.
fn gone(marker: &str, tried: &Try) -> Outcome {
    let steps = if tried.fails { 10 } else { 600 };
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
    if left.is_empty() { Ok(String::new()) } else { Err(format!("{left:?} live")) }
}

fn ends(tried: &Try, command: impl FnOnce(&str) -> String) -> Outcome {
    let (host, marker) = (Host::new(), marker());
    let played = script(&host, &tried.off, &command(&marker)).map_err(|e| e.to_string())?;
    assert_eq!(played.status(), Status::Code(3));
    gone(&marker, tried)
}

fn called_off(tried: &Try) -> Outcome {
    let (host, marker) = (Host::new(), marker());
    let command = format!("trap '' TERM INT HUP; sleep {marker} & echo ready; kill -STOP $$");
    let played = play(&host, &tried.off, &["sh", "-c", &command], |_| {}, &mut |text| text.contains("ready"));
    let stopped = played.map_err(|e| e.to_string())?.exit.stopped;
    assert_eq!(stopped, Some(Stopped::Cancelled));
    gone(&marker, tried)
}

/// It holds when the payload is stopped for this reason; where it must not be, we lose patience.
fn times_out(tried: &Try, command: &str, reason: Stopped) -> Outcome {
    let mut host = Host::new();
    match reason {
        Stopped::Time => host.limits.time = Some(Duration::from_secs(1)),
        Stopped::Idle => host.limits.idle = Some(Duration::from_secs(1)),
        _ => host.limits.silence = Some(Duration::from_secs(1)),
    }
    let longest = tried.fails.then_some(Duration::from_secs(3));
    let played = play_for(&host, &tried.off, &["sh", "-c", command], |_| {}, &mut |_| false, longest);
    let played = played.map_err(|e| e.to_string())?;
    match played.exit.stopped {
        Some(why) if why == reason => Ok(why.to_string()),
        other => Err(format!("{other:?}: {}", played.text)),
    }
}

fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(Path::new(&format!("/proc/{pid}/status"))).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Kills a supervisor, or what is so many generations above its payload.
fn killed(generations: Option<u32>, tried: &Try) -> Outcome {
    let (host, marker) = (Host::new(), marker());
    let mut command = bindery::process::command(own_program());
    command.args(["--ignored", "--exact", "--test-threads=1", "onstage::a_sandbox_that_sleeps"]);
    command.env("BINDERY_TEST_PLACE", host.dir.path()).env("BATTERY_MARKER", &marker);
    command.env("BATTERY_OFF", tried.off.iter().copied().collect::<Vec<_>>().join(" "));
    let mut supervisor =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the payload runs", || processes_with(&format!("sleep\0{marker}")).len() == 1);
    let sleep = processes_with(&format!("sleep\0{marker}"))[0];
    let Some(generations) = generations else {
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        return gone(&marker, tried);
    };
    // The shell is between.
    let victim = (0..=generations).fold(sleep, |pid, _| parent_of(pid));
    kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
    // The supervisor may wait for a sandbox that nothing ends.
    let outcome = gone(&marker, tried);
    let _ = supervisor.kill();
    supervisor.wait().unwrap();
    outcome
}

/// What [`killed`] starts.
pub(crate) fn sleep() {
    let (off, marker): (Set, _) = (crate::places::chosen(PROBES), variable("BATTERY_MARKER").unwrap());
    let _ = script(&Host::new(), &off, &format!("trap '' TERM; sleep {marker} & while :; do wait; done"));
}

/// While one sandbox runs, another looks for it: it holds when the other does not find the marker.
fn two(tried: &Try, off: &Set, one: &str, other: &str) -> Outcome {
    let (host, looker, marker) = (Host::new(), Host::new(), marker());
    let mut seen = None;
    let mut look = |_: &str| {
        let first = seen.is_none();
        if first {
            // What must be found may come a little later; and it must not find itself.
            let (times, pattern) = (if tried.fails { 300 } else { 1 }, marker.replace('.', "\".\""));
            let other = format!(
                "for i in $(seq {times}); do found=$({other}); echo $found; \
                 case $found in *{pattern}*) exit;; esac; sleep 0.1; done"
            );
            seen = Some(script(&looker, &tried.off, &other).map(|played| played.text));
        }
        first
    };
    let command = format!("MARKER={marker}; echo ready; {one}");
    play(&host, off, &["sh", "-c", &command], |_| {}, &mut look).map_err(|e| e.to_string())?;
    let _ = fs::remove_file(&Path::new("/dev/shm").join(&marker));
    match seen {
        Some(Ok(text)) if text.contains(&marker) => Err(format!("it does: {text}")),
        Some(Ok(text)) => Ok(text),
        other => Err(format!("{other:?}")),
    }
}

fn network(tried: &Try) -> Outcome {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    // Hardly given to anybody else so soon; who it is given to does not answer by this name.
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let serve = format!("while :; do echo $MARKER | nc -l -p {port} 127.0.0.1; done");
    two(tried, &tried.off, &serve, &format!("nc 127.0.0.1 {port} </dev/null"))
}
