//! Signals and kill -9, at chosen moments: nothing is left running, mounted or leased after the next command, what was
//! finished is kept, and the next build completes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use bindery::binhost::generation::{self, Generation};
use bindery::package::Certificate;
use bindery::state::State;
use nix::sys::signal::Signal::{SIGINT, SIGKILL, SIGTERM};

use crate::bench::{Bench, Said, Who};
use crate::started::{Own, Started, Traces};

/// Where a build is when it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Planning,
    Dependencies,
    Compiling,
    Normalising,
}

/// Starts a build and waits for the moment.
fn build_until(own: &Own, moment: Moment) -> Started {
    own.hold(match moment {
        Moment::Planning | Moment::Normalising => "",
        Moment::Dependencies => "first hold-setup",
        Moment::Compiling => "second hold-compile",
    });
    let mut build = own.start_build();
    let what = format!("{moment:?}");
    match moment {
        // The step is said before, the lease taken while it is done.
        Moment::Planning => build.until(&what, |_| own.leases().contains("planning for")),
        // What holds the build; nothing else in it sleeps.
        Moment::Dependencies | Moment::Compiling => build.until(&what, |build| build.runs("sleep")),
        Moment::Normalising => build.until(&what, |_| own.leases().contains("reading the package")),
    }
    build
}

fn interrupted(own: &Own, said: &Said, traces: &Traces) {
    said.fails(130, &["bindery: stopped"]);
    // Nothing is left to the next command.
    own.is_clean(traces);
    assert_eq!(own.outcome(), "interrupted");
}

#[test]
fn a_signal_stops_a_build_in_order() {
    let own = Own::new(Who::Me, "kills-signal");
    for (moment, group, signal) in [
        (Moment::Planning, false, SIGTERM),
        (Moment::Planning, true, SIGINT),
        (Moment::Dependencies, true, SIGINT),
        (Moment::Normalising, true, SIGINT),
        (Moment::Compiling, false, SIGINT),
        (Moment::Compiling, true, SIGTERM),
    ] {
        let build = build_until(&own, moment);
        let traces = build.traces();
        if group {
            build.signal_group(signal);
        } else {
            build.signal(signal);
        }
        interrupted(&own, &build.end(), &traces);
    }
    // What was finished before the last one was stopped is kept: nothing but the second package is left to do.
    assert!(own.bench.profile_dir().join("pool/app-test/first").exists());
    own.hold("");
    let said = own.bench.build(&["app-test/second", "--pretend"]);
    said.works();
    assert!(said.out.contains("1 to build"), "{said}");
    own.completes();
}

#[test]
fn a_signal_stops_run_and_what_it_runs() {
    let own = Own::new(Who::Me, "kills-run");
    for (group, signal, code) in [(true, SIGINT, 130), (false, SIGTERM, 143), (true, SIGTERM, 143)] {
        let script = "trap 'echo heard' INT; trap '' TERM; echo ready; while :; do sleep 1; done";
        let mut run = own.start(&["run", "--image", "debian-portage", "--", "sh", "-c", script]);
        run.until("the command runs", |run| run.said().contains("ready"));
        let traces = run.traces();
        if signal == SIGINT {
            // The first is the command's.
            run.signal_group(signal);
            run.until("the command is interrupted", |run| run.said().contains("heard"));
        }
        if group {
            run.signal_group(signal);
        } else {
            run.signal(signal);
        }
        run.end().fails(code, &[]);
        own.is_clean(&traces);
    }
    own.bench.run(&["run", "--image", "debian-portage", "--", "true"]).works();
}

#[test]
fn a_signal_stops_the_making_of_an_image_in_order() {
    let mut bench = Bench::bare(Who::Me, "kills-image");
    // Packages that were downloaded once need not be again.
    let folder = tempfile::Builder::new().prefix("own-").tempdir_in(bench.state.parent().unwrap()).unwrap();
    let downloads = bench.state.join("cache/downloads");
    std::fs::create_dir_all(&downloads).unwrap();
    std::fs::create_dir_all(folder.path().join("cache")).unwrap();
    std::os::unix::fs::symlink(&downloads, folder.path().join("cache/downloads")).unwrap();
    bench.state = folder.path().to_path_buf();
    let own = Own::over(bench, folder);
    // What other tests have there at the same time is none of this one's.
    let mut ours = Vec::new();
    for (program, signal, group) in
        [("apt-get", SIGTERM, false), ("apt-get", SIGINT, true), ("mmdebstrap", SIGINT, true)]
    {
        let mut make = own.start(&["image", "make", "debian-portage"]);
        ours.push(format!("-{:x}-", make.pid()));
        make.until(program, |make| make.runs(program));
        let traces = make.traces();
        if group {
            make.signal_group(signal);
        } else {
            make.signal(signal);
        }
        make.end().fails(130, &["making the image was cancelled"]);
        own.is_clean(&traces);
    }
    // Killed, with apt at work.
    let mut make = own.start(&["image", "make", "debian-portage"]);
    ours.push(format!("-{:x}-", make.pid()));
    make.until("apt-get", |make| make.runs("apt-get"));
    let traces = make.traces();
    make.signal(SIGKILL);
    make.end().fails(137, &[]);
    own.bench.run(&["reap"]).works();
    own.is_clean(&traces);
    let hidden = |folder: &Path| -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with('.')).collect()
    };
    assert_eq!(hidden(&own.bench.state.join("state/images/blobs/sha256")), [""; 0]);
    let downloads = hidden(&downloads);
    assert!(!downloads.iter().any(|name| ours.iter().any(|ours| name.contains(ours))), "{downloads:?} {ours:?}");
}

/// Whom to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Bindery,
    Enter,
    Init,
    /// The sandbox's process 1, and at once bindery.
    Both,
}

fn kill_in(own: &Own, moment: Moment, victim: Victim) {
    let build = build_until(own, moment);
    let traces = build.traces();
    let kill = |pid: u32| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into().unwrap()), SIGKILL).unwrap();
    match victim {
        Victim::Bindery => build.signal(SIGKILL),
        Victim::Enter => kill(build.sandbox("__enter")),
        Victim::Init => kill(build.sandbox("__init")),
        Victim::Both => {
            kill(build.sandbox("__init"));
            build.signal(SIGKILL);
        }
    }
    let said = build.end();
    if matches!(victim, Victim::Bindery | Victim::Both) {
        said.fails(137, &[]);
        assert_eq!(own.outcome(), "killed");
        let reaped = own.bench.run(&["reap"]);
        reaped.works();
        assert!(reaped.err.contains("removed what a dead process left"), "{reaped}");
    } else {
        said.fails(4, &["the sandbox was lost"]);
        assert_eq!(own.outcome(), "failed");
    }
    own.is_clean(&traces);
}

#[test]
fn kill_9_of_bindery_leaves_nothing_after_the_next_command() {
    let own = Own::new(Who::Me, "kills-bindery");
    for moment in [Moment::Planning, Moment::Dependencies, Moment::Normalising, Moment::Compiling] {
        kill_in(&own, moment, Victim::Bindery);
    }
    own.completes();
}

#[test]
fn kill_9_of_the_sandboxs_own_processes_is_the_hosts_failure_and_leaves_nothing() {
    let own = Own::new(Who::Me, "kills-inside");
    kill_in(&own, Moment::Dependencies, Victim::Both);
    for victim in [Victim::Init, Victim::Enter, Victim::Both] {
        kill_in(&own, Moment::Compiling, victim);
    }
    own.completes();
}

#[test]
fn kill_9_of_an_ordinary_users_bindery_leaves_nothing_after_the_next_command() {
    let own = Own::new(Who::Other, "kills-user");
    kill_in(&own, Moment::Dependencies, Victim::Bindery);
    kill_in(&own, Moment::Compiling, Victim::Both);
    own.completes();
}

/// The calls that change what is on disk.
const CALLS: &str =
    "mkdir,rename,fsync,link,linkat,symlink,unlink,rmdir,openat,write,pwrite64,fchmod,fchmodat,ftruncate";
/// At how many of them bindery is killed.
const POINTS: usize = 24;

/// Returns the command that builds under strace, which must be bindery's own parent: it counts each process's calls.
fn strace(own: &Own, arguments: &[&str]) -> Command {
    let strace = bindery::process::find("strace").expect("strace is missing: `apt install strace`");
    let build = own.bench.command(&["build", "--profile", &own.bench.profile, "app-test/first"]);
    let mut command = Command::new(strace);
    command.args(["-qq", "-y"]).args(arguments).arg(build.get_program()).args(build.get_args());
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir("/").stdin(std::process::Stdio::null());
    command
}

/// Asserts that every generation that has its number is whole, and `current` names one, if it is there.
#[track_caller]
pub(crate) fn is_consistent(own: &Own) {
    let state = State::below(&own.bench.state);
    let profile = state.profile(&own.bench.profile.parse().unwrap());
    let key = std::fs::read_to_string(state.keys().join("default.pub.asc")).unwrap();
    let keys = [Certificate::parse(&key).unwrap()];
    let Ok(folders) = std::fs::read_dir(profile.generations()) else { return };
    let numbers = folders.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    for number in numbers {
        let generation = Generation::load(&profile, number).unwrap();
        generation::verify(&generation, &keys, SystemTime::now()).unwrap();
    }
    Generation::current(&profile).unwrap();
}

#[test]
fn kill_9_at_system_calls_leaves_the_old_or_the_new_and_the_next_build_completes() {
    let own = Own::new(Who::Me, "kills-calls");
    // A first build makes what later ones find, with calls that they do not make.
    own.bench.build(&["app-test/first"]).works();
    std::fs::remove_dir_all(own.bench.profile_dir()).unwrap();
    let log = own.bench.config.path().join("calls");
    let said: Said =
        strace(&own, &["-e", &format!("trace={CALLS}"), "-o", log.to_str().unwrap()]).output().unwrap().into();
    said.works();
    let points = points(&std::fs::read_to_string(&log).unwrap(), &own.bench.state);
    assert!(points.len() > POINTS / 2, "{points:?}");
    let (mut killed, all) = (0, points.len());
    for (call, number) in points {
        let _ = std::fs::remove_dir_all(own.bench.profile_dir());
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let build =
            own.start_command(strace(&own, &["-e", &format!("trace={call}"), "-e", &inject, "-o", "/dev/null"]));
        let said = build.end();
        // The calls of a run are not quite the same each time: one that is not reached is no failure.
        assert!(said.code == 137 || said.code == 0, "{call} {number}: {said}");
        killed += usize::from(said.code == 137);
        is_consistent(&own);
        let left = own.lease_ids();
        own.bench.run(&["reap"]).works();
        own.is_clean(&left);
        // The next one takes what there is, and cleans what no lease names.
        own.bench.build(&["app-test/first"]).works();
        is_consistent(&own);
        assert!(own.bench.profile_dir().join("current/app-test/first").exists());
        for file in files(&own.bench.profile_dir()) {
            assert!(
                !file.file_name().unwrap().to_string_lossy().starts_with(".new"),
                "{call} {number}: {}",
                file.display()
            );
        }
    }
    assert!(killed > all / 2, "only {killed} of {all} calls were reached");
}

/// Returns calls to kill at, each by its name and its number among those of its name: evenly spread over those that touch
/// what must be consistent.
fn points(log: &str, state: &Path) -> Vec<(String, u32)> {
    let mut counts = std::collections::BTreeMap::new();
    let mut all = Vec::new();
    for line in log.lines() {
        let Some((name, rest)) = line.split_once('(') else { continue };
        let count: &mut u32 = counts.entry(name.to_string()).or_default();
        *count += 1;
        let watched = ["state/profiles/", "run/leases", "state/runs"].map(|folder| state.join(folder));
        if watched.iter().any(|folder| rest.contains(folder.to_str().unwrap())) && !rest.contains("O_RDONLY") {
            all.push((name.to_string(), *count));
        }
    }
    let step = all.len().div_ceil(POINTS).max(1);
    // From behind: publishing comes last.
    all.into_iter().rev().step_by(step).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found
}
