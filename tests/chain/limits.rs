//! `bindery limit` on a build that runs.

use nix::sys::signal::Signal::SIGINT;

use crate::bench::Who;
use crate::started::Own;

#[test]
fn the_limits_of_a_build_are_changed_while_it_runs() {
    let own = Own::new(Who::Me, "limits-build");
    own.hold("first hold-compile");
    let mut build = own.start_build();
    build.until("it compiles", |build| build.runs("sleep"));
    let said = build.said();
    let run = said.lines().find_map(|line| line.strip_prefix("run ")?.split(' ').next()).unwrap();
    own.bench.run(&["limit"]).works().prints(&[run, "building app-test/first-1"]);
    let changed = own.bench.run(&["limit", run, "--pids", "700"]);
    let events = own.bench.state.join("state/runs").join(run).join("events.jsonl");
    let events = || std::fs::read_to_string(&events).unwrap();
    if nix::unistd::geteuid().is_root() {
        changed.fails(0, &["building app-test/first-1 for limits-build: pids 700 by cgroup"]);
        let events = events();
        let event = events.lines().find(|line| line.contains("limits-changed"));
        assert!(event.is_some_and(|line| line.contains("700 by cgroup")), "{events}");
        // One limit that cannot be given, and the other is not changed either.
        own.bench.run(&["limit", run, "--pids", "800", "--memory", "1KiB"]).fails(1, &["stay as they are"]);
    } else if changed.code != 0 {
        // Where no group was delegated to the user.
        changed.fails(1, &["the limits stay as they are", "Delegate=yes"]);
    }
    assert!(!events().contains("800 by"), "{}", events());
    build.signal(SIGINT);
    build.end().fails(130, &[]);
    own.bench.run(&["limit", run, "--pids", "700"]).fails(1, &["nothing runs that is called", "nothing runs"]);
}
