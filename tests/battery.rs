//! The battery: what attackers try, from inside a sandbox and from outside, and what builds need in one, each as a probe
//! with a name; and the proof that every probe can fail.
//!
//! The probes (`battery/*.rs`, tables) run inside as this same static program. `ablation` switches off, in turn, each set
//! of mechanisms that a probe names as what is in its way, and takes away each grant (`grants`) that a need names; exactly
//! the probes that name it must fail. `outside` does the same from outside. All of it runs for whoever runs the tests and,
//! when that is root, a second time for the user that `BINDERY_TEST_USER` names (see `sandbox.rs`); in the virtual machine
//! with everything on alone. The same probes under other sandboxes: `docs/battery.md`.

#![expect(clippy::unwrap_used, reason = "what fails is the test")]

#[path = "battery/ablation.rs"]
mod ablation;
#[path = "battery/bombs.rs"]
mod bombs;
#[path = "battery/calls.rs"]
mod calls;
#[path = "battery/calls_of_i386.rs"]
mod calls_of_i386;
#[path = "battery/endings.rs"]
mod endings;
#[path = "common/executable.rs"]
mod executable;
#[path = "battery/grants.rs"]
mod grants;
#[path = "sandbox/host.rs"]
#[expect(dead_code, reason = "what the sandbox tests need besides")]
mod host;
#[path = "battery/inheritance.rs"]
mod inheritance;
#[path = "battery/init.rs"]
mod init;
#[path = "battery/kernel.rs"]
mod kernel;
#[path = "battery/mounts.rs"]
mod mounts;
#[path = "battery/namespaces.rs"]
mod namespaces;
#[path = "battery/needs.rs"]
mod needs;
#[path = "battery/needs_of_files.rs"]
mod needs_of_files;
#[path = "battery/onstage.rs"]
mod onstage;
#[path = "battery/outside.rs"]
mod outside;
#[path = "battery/peers.rs"]
mod peers;
#[path = "battery/places.rs"]
mod places;
#[path = "battery/probe.rs"]
mod probe;
#[path = "battery/program.rs"]
mod program;
#[path = "battery/sockets.rs"]
mod sockets;
#[path = "battery/stage.rs"]
mod stage;

use std::path::Path;

use host::own_program;

/// What a sandbox is given to run.
#[test]
#[ignore = "runs inside a sandbox"]
fn probes() {
    probe::run_all();
}

#[test]
fn there_are_probes_enough_and_each_has_a_name_of_its_own() {
    let all = || probe::all().map(|probe| probe.name).chain(outside::all().map(|probe| probe.name));
    let names: std::collections::BTreeSet<_> = all().chain(outside::ELSEWHERE.iter().map(|(name, ..)| *name)).collect();
    assert_eq!(names.len(), all().count() + outside::ELSEWHERE.len());
    assert!(all().count() >= 120, "{}", names.len());
}

/// One after the other: together they could use up the host's inotify instances, as one probe tries.
#[test]
fn exactly_what_a_mechanism_guards_or_a_grant_is_for_fails_without_it() {
    for part in ["each_mechanism_in_turn", "each_grant_missing"] {
        println!("{}", stage::perform(part, &[]));
    }
}

#[test]
fn what_is_tried_from_outside_fails_unless_what_guards_it_is_off() {
    outside::run();
}

#[test]
fn tests_that_stand_for_attacks_are_there() {
    for (name, _, file, test) in outside::ELSEWHERE {
        assert!(file.contains(&format!("fn {test}()")), "{name}: there is no test `{test}`");
    }
}

#[test]
#[ignore = "is part of what another does"]
fn everything_that_is_tried_from_outside_fails() {
    outside::run_with_everything();
}

#[test]
#[ignore = "is part of what another does"]
fn every_bomb_is_contained() {
    outside::run_bombs();
}

/// For whoever has no time for more: the virtual machine.
#[test]
#[ignore = "is part of what the others do"]
fn every_probe_holds() {
    println!("{}", stage::perform("everything_on", &[]));
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    if host::is_root() {
        println!("{}", as_user(&["--test-threads=2"], false));
    }
}

#[test]
fn the_page_has_every_probe_as_it_is() {
    let page = include_str!("../docs/battery.md");
    let inside = probe::all().map(|probe| (probe.name, probe.stands_for, probe.guards));
    let outside = outside::all().map(|probe| (probe.name, probe.stands_for, probe.guards));
    let missing: Vec<_> = inside
        .chain(outside)
        .filter(|(name, stands_for, guards)| !page.contains(&peers::row(name, stands_for, guards)))
        .map(|(name, ..)| name)
        .collect();
    assert!(missing.is_empty(), "not in docs/battery.md: {missing:?}; `./just battery-table` writes it");
}

/// Runs the probes under other sandboxes and writes the table: `just battery-table`.
#[test]
#[ignore = "runs other sandboxes, as root"]
fn the_table_of_peers() {
    let mut table = peers::parse(&stage::perform("every_peer", &[]));
    table.extend(peers::parse(&as_user(&["--ignored", "--exact", "--nocapture", "the_peers_of_a_user"], true)));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/battery.md");
    bindery::fs::write(&page, peers::page(&table)).unwrap();
}

#[test]
#[ignore = "is run by another test"]
fn the_peers_of_a_user() {
    println!("\n{}", stage::perform("every_peer", &[]));
}

/// Runs this program as an ordinary user, who must succeed, and returns what it prints.
fn as_user(args: &[&str], without_v2: bool) -> String {
    let user = host::variable("BINDERY_TEST_USER").expect(
        "set BINDERY_TEST_USER to an ordinary user with subordinate ids, for whom everything is tested a second time \
         (`useradd --create-home bindery-test` makes one)",
    );
    // Neither cargo's folder nor root's temporary files need be the user's to see.
    let (_dir, dir) = stage::folder();
    let (tests, program) = (dir.join("tests"), dir.join("bindery"));
    executable::copy(&own_program(), &tests);
    executable::copy(Path::new(env!("CARGO_BIN_EXE_bindery")), &program);
    let mut command = bindery::process::command("runuser");
    command.args(["-u", &user, "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    // Podman has its own files there.
    command.arg(format!("HOME=/home/{user}"));
    command.arg(format!("BINDERY_TEST_PROGRAM={}", program.display())).arg(tests).args(args);
    let mut command = if without_v2 { peers::without_v2(&command) } else { command };
    let output = command.current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "as {user}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}
