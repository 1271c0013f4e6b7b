//! kill -9 anywhere: at the system calls of bindery, of enter and of init, and at random moments. The next command leaves a
//! clean host, and what was finished is kept.
//!
//! CI kills at some of the calls and a few times at random; `just test-kills` at every call of `bindery run`, at many of a
//! build, and a hundred times at random. `BINDERY_TEST_SEED` repeats a random run: its seed is printed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{Rng as _, SeedableRng as _};

use crate::bench::{Bench, Who};
use crate::started::Own;
use crate::tracer::{Target, trace};

/// Whose calls: bindery's own, and those of the sandbox's processes.
const ROLES: [&str; 3] = ["", "__enter", "__init"];

/// Whether all of it is asked for.
fn all() -> bool {
    std::env::var("BINDERY_TEST_KILLS").is_ok_and(|kills| kills == "all")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A run with everything that leaves something to clean up: groups, a file system of its own, binds.
fn run(bench: &Bench, command: &[&str]) -> Command {
    let limits = ["--memory", "1GiB", "--pids", "200", "--cpus", "2", "--disk", "64MiB"];
    let limits = if is_root() { &limits[..] } else { &limits[6..] };
    bench.command(&[&["run", "--image", "debian-portage"], limits, &["--ro-bind", "/etc:/mnt", "--"], command].concat())
}

/// Asserts that nothing is left anywhere, and no temporary file below the state folder.
#[track_caller]
fn is_clean(own: &Own, left: &crate::started::Traces, what: &str) {
    own.is_clean(left);
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    for device in devices {
        let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        assert!(!file.contains(own.bench.state.to_str().unwrap()), "{what}: {file}");
    }
    for file in files(&own.bench.state) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with(".new"), "{what}: {}", file.display());
    }
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

/// Returns the calls to kill at: `points` of them, evenly spread, or all; the last one is among them.
fn points(calls: u64, points: u64) -> impl Iterator<Item = u64> {
    let step = if points == 0 { 1 } else { calls.div_ceil(points).max(1) };
    (1..=calls).rev().step_by(usize::try_from(step).unwrap())
}

#[test]
fn kill_9_at_any_system_call_of_a_run_leaves_nothing_after_the_next_command() {
    let own = Own::new(Who::Me, "everywhere-run");
    let dir = own.bench.config.path();
    let (mut kills, mut reached) = (0, 0);
    for role in ROLES {
        let target = |when| Target { role: role.to_string(), when };
        let counted = trace(&run(&own.bench, &["true"]), target(0), dir);
        assert!(counted.code == 0 && counted.calls > 20, "{role}: {counted:?}");
        let mut killed = 0;
        for when in points(counted.calls, if all() { 0 } else { 24 }) {
            let what = format!("{role} at call {when} of {}", counted.calls);
            let traced = trace(&run(&own.bench, &["true"]), target(when), dir);
            // The calls are not quite the same each time: one that is not reached is no failure.
            let expected = if role.is_empty() && traced.killed { vec![137] } else { vec![0, 125] };
            assert!(expected.contains(&traced.code), "{what}: {traced:?}");
            let left = own.lease_ids();
            if role.is_empty() {
                // Every command restores it, not only the one that is for that.
                if when % 2 == 0 {
                    own.bench.run(&["reap"]).works();
                } else {
                    own.bench.run(&["run", "--image", "debian-portage", "--", "true"]).works();
                }
            }
            is_clean(&own, &left, &what);
            killed += u64::from(traced.killed);
            kills += 1;
        }
        reached += killed;
        println!("`{role}`: {} calls, killed {killed} times", counted.calls);
    }
    // How many there are depends on what runs beside each other.
    assert!(reached * 3 > kills * 2, "only {reached} of {kills} calls were reached");
}

#[test]
fn kill_9_at_any_system_call_of_a_build_keeps_what_was_finished() {
    let own = Own::new(Who::Me, "everywhere-build");
    let dir = own.bench.config.path();
    let ebuild = dir.join("kills/app-test/second/second-1.ebuild");
    let text = std::fs::read_to_string(&ebuild).unwrap();
    let mut revision = 0;
    let mut change = || {
        revision += 1;
        std::fs::write(&ebuild, format!("{text}# {revision}\n")).unwrap();
    };
    own.bench.build(&["app-test/first"]).works();
    let first = own.bench.profile_dir().join("pool/app-test/first");
    let finished = |dir: &Path| {
        let meta = |path: &PathBuf| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).unwrap();
        let mut files = files(dir);
        files.sort();
        files.into_iter().map(|file| (meta(&file), file)).collect::<Vec<_>>()
    };
    let before = finished(&first);
    let build = || own.bench.command(&["build", "--profile", &own.bench.profile, "app-test/second"]);
    for role in ROLES {
        let target = |when| Target { role: role.to_string(), when };
        change();
        let counted = trace(&build(), target(0), dir);
        assert!(counted.code == 0 && counted.calls > 20, "{role}: {counted:?}");
        let mut killed = 0;
        let wanted = match (all(), role) {
            (true, "") => 80,
            (true, _) => 30,
            (false, _) => 3,
        };
        for when in points(counted.calls, wanted) {
            change();
            let what = format!("{role} at call {when} of {}", counted.calls);
            let traced = trace(&build(), target(when), dir);
            let expected = if role.is_empty() && traced.killed { vec![137] } else { vec![0, 4] };
            assert!(expected.contains(&traced.code), "{what}: {traced:?}");
            let left = own.lease_ids();
            if role.is_empty() {
                own.bench.run(&["reap"]).works();
            }
            is_clean(&own, &left, &what);
            crate::kills::is_consistent(&own);
            assert_eq!(finished(&first), before, "{what}");
            let said = own.bench.build(&["app-test/second"]);
            said.works().lacks("building app-test/first");
            crate::kills::is_consistent(&own);
            killed += u64::from(traced.killed);
        }
        println!("`{role}`: {} calls, killed {killed} times", counted.calls);
        assert!(killed > 0, "{role}");
    }
}

#[test]
fn kill_9_at_random_moments_leaves_nothing_after_the_next_command() {
    let own = Own::new(Who::Me, "everywhere-random");
    let seed = std::env::var("BINDERY_TEST_SEED").ok().map(|seed| seed.parse().expect("BINDERY_TEST_SEED is a number"));
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("BINDERY_TEST_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let args = |command: &Command| command.get_args().map(|arg| arg.to_str().unwrap().to_string()).collect::<Vec<_>>();
    let command = args(&run(&own.bench, &["sh", "-c", "head -c 1000000 /dev/zero >/f; (sleep 1000 &); exec true"]));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let started = Instant::now();
    own.bench.run(&command).works();
    let usual = started.elapsed();
    for number in 0..if all() { 100 } else { 20 } {
        let moment = usual.mul_f64(random.gen_range(0.0..1.1));
        let whom = random.gen_range(0..3);
        let what = format!("seed {seed}, kill {number}, {whom} after {moment:?} of {usual:?}");
        let running = own.start(&command);
        std::thread::sleep(moment);
        let traces = running.traces();
        // There may be no process 1 yet, or no more.
        let init = running.find("__init").filter(|_| whom > 0);
        let victims = init.into_iter().chain((whom != 1).then(|| running.pid()));
        for victim in victims {
            let _ = kill(Pid::from_raw(i32::try_from(victim).unwrap()), Signal::SIGKILL);
        }
        let said = running.end();
        assert!([0, 125, 137].contains(&said.code), "{what}: {said}");
        let left = own.lease_ids();
        own.bench.run(&["reap"]).works();
        is_clean(&own, &traces, &what);
        is_clean(&own, &left, &what);
    }
    own.completes();
}
