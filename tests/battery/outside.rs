//! Probes from outside: hostile roots and folders, bombs, what is left when something is killed, two sandboxes at once.
//!
//! Like those from inside, each names what is in the attack's way and must fail without it. What other tests hold already,
//! with cases of their own, is listed in [`ELSEWHERE`] and not done twice.

#![expect(clippy::print_stdout, reason = "for whoever looks why a test hangs")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bindery::sandbox::{self, Exit, Request, SandboxError, Status, Stdio};
use bindery::state::Lease;
use oci_spec::runtime::Spec;
use serde_json::Value;

use crate::ablation::{Set, alternatives, take_away};
use crate::host::{Host, variable};
use crate::probe::Outcome;

/// One thing to find out from outside.
pub(crate) struct Outside {
    pub(crate) name: &'static str,
    pub(crate) stands_for: &'static str,
    /// As for probes from inside.
    pub(crate) guards: &'static str,
    pub(crate) run: fn(&Try) -> Outcome,
}

pub(crate) const fn outside(
    name: &'static str,
    stands_for: &'static str,
    guards: &'static str,
    run: fn(&Try) -> Outcome,
) -> Outside {
    Outside { name, stands_for, guards, run }
}

/// How a probe is run.
pub(crate) struct Try {
    /// What is switched off.
    pub(crate) off: Set,
    /// Whether the attack gets through then. What must not come is not waited for as long as what must.
    pub(crate) fails: bool,
}

/// Returns every probe.
pub(crate) fn all() -> impl Iterator<Item = &'static Outside> {
    [crate::places::PROBES, crate::endings::PROBES, crate::bombs::PROBES].into_iter().flatten()
}

/// How many probes are run side by side: most of them wait for something.
const AT_ONCE: usize = 4;

/// Runs all, with everything and without each of what guards them.
pub(crate) fn run() {
    run_some(all(), AT_ONCE, true);
}

/// Runs all with everything on.
pub(crate) fn run_with_everything() {
    run_some(all(), AT_ONCE, false);
}

/// Runs the bombs with everything on, one after the other: in a group of one's own only one process can begin.
pub(crate) fn run_bombs() {
    run_some(crate::bombs::PROBES.iter(), 1, false);
}

fn run_some(probes: impl Iterator<Item = &'static Outside> + Send, at_once: usize, ablate: bool) {
    bindery::process::set_this_program(Path::new(
        &variable("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").into()),
    ));
    let only = variable("BATTERY_ONLY");
    let next = Mutex::new(probes.filter(|probe| only.as_ref().is_none_or(|only| only == probe.name)));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some(probe) = next.lock().unwrap().next() else { break };
                    let found = one(probe, ablate);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Says what it does, so that one that hangs is known.
fn one(probe: &Outside, ablate: bool) -> Vec<String> {
    let full = if ablate { alternatives(probe.guards) } else { Vec::new() };
    let mut sets: BTreeSet<Set> = [Set::new()].into();
    for set in &full {
        sets.insert(set.clone());
        sets.extend(set.iter().map(|member| set.iter().copied().filter(|m| m != member).collect::<Set>()));
    }
    let wrong = sets.into_iter().filter_map(|off| {
        let tried = Try { fails: full.contains(&off), off };
        println!("{} without {:?}", probe.name, tried.off);
        let outcome = (probe.run)(&tried);
        println!("{} without {:?}: {outcome:?}", probe.name, tried.off);
        (outcome.is_ok() == tried.fails).then(|| format!("without {:?}: `{}`: {outcome:?}", tried.off, probe.name))
    });
    wrong.collect()
}

/// Tests elsewhere that stand for an attack: its name, what it stands for, the text of the file, the test.
pub(crate) const ELSEWHERE: &[(&str, &str, &str, &str)] = &[
    (
        "log-bomb",
        "output that never ends fills memory or disk",
        include_str!("../sandbox/limits.rs"),
        "a_flood_of_output_is_passed_on_piece_by_piece",
    ),
    (
        "log-of-a-build",
        "the same in a build, whose log is kept",
        include_str!("../chain/failures.rs"),
        "a_package_that_prints_for_ever_is_stopped_and_its_log_bounded",
    ),
    (
        "deleted-files",
        "deleted files that are held open fill the disk",
        include_str!("../sandbox/limits.rs"),
        "deleted_files_that_are_held_open_count",
    ),
    (
        "forged-status",
        "a sandbox whose process 1 is killed passes for one that succeeded",
        include_str!("../sandbox/lifetime.rs"),
        "killing_init_is_an_error_and_ends_everything",
    ),
    (
        "groups-left",
        "control groups and leases stay after kill -9",
        include_str!("../sandbox/lifetime.rs"),
        "killing_the_supervisor_ends_everything_and_the_rest_is_reaped",
    ),
    (
        "killed-at-any-call",
        "the same after any system call of any of the sandbox's processes",
        include_str!("../chain/everywhere.rs"),
        "kill_9_at_any_system_call_of_a_run_leaves_nothing_after_the_next_command",
    ),
    (
        "layer-written",
        "changes a layer that others have, too",
        include_str!("../sandbox/isolation.rs"),
        "what_is_written_in_the_root_is_in_its_writable_folder_alone",
    ),
    (
        "node-in-a-layer",
        "a device node that came with the image",
        include_str!("../sandbox/folders.rs"),
        "device_nodes_of_a_folder_cannot_be_opened",
    ),
    (
        "removal-follows",
        "links and barred folders that make the removal of a root remove something else, or nothing",
        include_str!("../sandbox/lifetime.rs"),
        "what_is_bound_stays_when_the_root_is_thrown_away",
    ),
    (
        "archive-names",
        "source archives whose names are paths, options or escapes",
        include_str!("../../src/tree/manifest.rs"),
        "names_of_archives_are_one_plain_component",
    ),
    (
        "archive-places",
        "the same where they are fetched to",
        include_str!("../../src/distfiles/tests.rs"),
        "a_name_cannot_leave_the_folder",
    ),
    (
        "archive-changed",
        "another archive under the name of one that was checked",
        include_str!("../../src/distfiles/tests.rs"),
        "what_is_not_the_archive_is_refused_and_named",
    ),
];

/// What came of a payload.
pub(crate) struct Played {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Played {
    pub(crate) fn status(&self) -> Status {
        self.exit.status
    }
}

/// Returns the host's spec for a command, without what is off.
pub(crate) fn spec(host: &Host, lease: &Lease, off: &Set, args: &[&str], edit: impl FnOnce(&mut Value)) -> Spec {
    let mut spec = serde_json::to_value(host.spec(lease, args, false)).unwrap();
    edit(&mut spec);
    take_away(&mut spec, off);
    serde_json::from_value(spec).unwrap()
}

/// Runs a command without what is off; calls it off when `heard` says so of what was printed until then.
pub(crate) fn play(
    host: &Host,
    off: &Set,
    args: &[&str],
    edit: impl FnOnce(&mut Value),
    heard: &mut dyn FnMut(&str) -> bool,
) -> Result<Played, SandboxError> {
    play_for(host, off, args, edit, heard, None)
}

/// Runs a script that is left alone.
pub(crate) fn script(host: &Host, off: &Set, script: &str) -> Result<Played, SandboxError> {
    play(host, off, &["sh", "-c", script], |_| {}, &mut |_| false)
}

/// As [`play`]; calls it off when it has taken so long, too.
pub(crate) fn play_for(
    host: &Host,
    off: &Set,
    args: &[&str],
    edit: impl FnOnce(&mut Value),
    heard: &mut dyn FnMut(&str) -> bool,
    longest: Option<Duration>,
) -> Result<Played, SandboxError> {
    let mut lease = Lease::take(&host.state, "battery").unwrap();
    let spec = spec(host, &lease, off, args, edit);
    let (ids, base, cancel) = (&host.ids, host.state.state(), &AtomicBool::new(false));
    let done = &AtomicBool::new(false);
    let mut text = String::new();
    let stdio = Stdio::Capture(&mut |_, bytes| {
        text.push_str(&String::from_utf8_lossy(bytes));
        if heard(&text) {
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let exit = std::thread::scope(|scope| {
        if let Some(longest) = longest {
            scope.spawn(move || {
                let started = std::time::Instant::now();
                while started.elapsed() < longest && !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                cancel.store(true, Ordering::Relaxed);
            });
        }
        let exit = sandbox::run(Request { spec: &spec, ids, base, lease: &mut lease, stdio, cancel });
        done.store(true, Ordering::Relaxed);
        exit
    });
    Ok(Played { exit: exit?, text })
}
