//! Packages that are built side by side. Each holds in `src_compile` until the test lets it go on, so that what runs at the
//! same time, and what ends first, is the test's to say.

use nix::sys::signal::Signal::{SIGINT, SIGKILL};

use crate::bench::Who;
use crate::started::{Own, Started};

/// For how many seconds each package would hold: by that the test knows them.
const LEFT: &str = "86401";
const RIGHT: &str = "86402";
const LAST: &str = "86403";

/// Returns a bench with three packages that need nothing, and `top`, which needs `left` and `right`.
fn own(who: Who, test: &str) -> Own {
    let own = Own::new(who, test);
    let compile = |hold: &str, then: &str| {
        format!("src_compile() {{\n\techo \"jobs: ${{MAKEOPTS}}\"\n\tsleep {hold} || true\n\t{then}\n}}\n")
    };
    let install = "src_install() {\n\tnewbin - ${PN}-tool <<< \"echo ${PN}\"\n}\n";
    for (name, hold, then) in
        [("left", LEFT, "true"), ("right", RIGHT, "true"), ("last", LAST, "true"), ("bad", LEFT, "die \"it is bad\"")]
    {
        own.add(name, &format!("{}{install}", compile(hold, then)));
    }
    own.add("top", &format!("DEPEND=\"app-test/left app-test/right\"\n{install}"));
    own.add("above", &format!("DEPEND=\"app-test/bad app-test/right\"\n{install}"));
    own.hold("");
    own.bench.give_state();
    own
}

fn start(own: &Own, jobs: &str, atoms: &[&str]) -> Started {
    own.start(&[&["build", "--profile", &own.bench.profile, "--jobs", jobs], atoms].concat())
}

const ALL: [&str; 3] = ["app-test/top", "app-test/last", "app-test/left"];

/// The index, but for when it was published.
fn index(own: &Own) -> String {
    let text = std::fs::read_to_string(own.bench.profile_dir().join("current/Packages")).unwrap();
    text.lines().filter(|line| !line.starts_with("TIMESTAMP: ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn packages_that_do_not_need_each_other_are_built_at_once_and_the_index_does_not_tell() {
    let own = own(Who::Me, "side-by-side");
    let mut build = start(&own, "3", &ALL);
    build.until("all three run", |build| [LEFT, RIGHT, LAST].iter().all(|hold| build.holds(hold)));
    assert!(!build.said().contains("building app-test/top"), "{}", build.said());
    // In another order than they were started in.
    for (hold, name) in [(LAST, "last"), (RIGHT, "right")] {
        build.release(hold);
        build.until(name, |build| build.said().contains(&format!("built app-test/{name}-1")));
        assert!(!build.said().contains("building app-test/top"), "{}", build.said());
    }
    build.release(LEFT);
    let said = build.end();
    said.works().fails(0, &["[4/4] building app-test/top-1", "built app-test/left-1", "published generation 1: 4"]);
    let together = index(&own);
    // The processors are shared, and that is nothing that a package is made from.
    let run = own.bench.state.join("state/runs").join(said.run());
    let conf = std::fs::read_to_string(run.join("portage/make.conf")).unwrap();
    let all: u32 =
        conf.lines().find_map(|line| line.strip_prefix("MAKEOPTS=\"-j")?.strip_suffix('"')).unwrap().parse().unwrap();
    for name in ["left", "right", "last"] {
        let log = own.bench.run(&["log", &format!("app-test/{name}"), "--run", &said.run()]);
        log.works().prints(&[&format!("jobs: -j{}\n", all.div_ceil(3))]);
    }

    std::fs::remove_dir_all(own.bench.profile_dir()).unwrap();
    let mut build = start(&own, "1", &ALL);
    for _ in 0..3 {
        let holding =
            |build: &Started| [LEFT, RIGHT, LAST].into_iter().filter(|hold| build.holds(hold)).collect::<Vec<_>>();
        build.until("one runs", |build| !holding(build).is_empty());
        let now = holding(&build);
        assert_eq!(now.len(), 1, "{now:?}");
        build.release(now[0]);
        build.until("it goes on", |build| !build.holds(now[0]));
    }
    build.end().works();
    assert_eq!(index(&own), together);
}

#[test]
fn limits_are_changed_for_all_that_run() {
    let own = own(Who::Me, "side-by-side-limits");
    let mut build = start(&own, "2", &["app-test/left", "app-test/right"]);
    build.until("both run", |build| build.holds(LEFT) && build.holds(RIGHT));
    let said = build.said();
    let run = said.lines().find_map(|line| line.strip_prefix("run ")?.split(' ').next()).unwrap();
    own.bench.run(&["limit"]).works().prints(&["building app-test/left-1", "building app-test/right-1"]);
    let changed = own.bench.run(&["limit", run, "--cpus", "0.5"]);
    if nix::unistd::geteuid().is_root() {
        let how = "cpus 50000/100000 µs by cgroup";
        let both = ["left", "right"].map(|name| format!("building app-test/{name}-1 for side-by-side-limits: {how}"));
        changed.works().fails(0, &[&both[0], &both[1], "with all that runs beside it"]);
    } else if changed.code != 0 {
        // Where no group was delegated to the user.
        changed.fails(1, &["the limits stay as they are", "Delegate=yes"]);
    }
    let traces = build.traces();
    build.signal(SIGINT);
    build.end().fails(130, &[]);
    own.is_clean(&traces);
}

#[test]
fn a_package_that_fails_beside_another_costs_only_what_needs_it() {
    let own = own(Who::Me, "side-by-side-fails");
    let mut build = start(&own, "2", &["app-test/above", "app-test/bad", "app-test/right"]);
    build.until("both run", |build| build.holds(LEFT) && build.holds(RIGHT));
    build.release(LEFT);
    build.until("it has failed", |build| build.said().contains("failed app-test/bad-1: it is bad"));
    assert!(build.holds(RIGHT), "{}", build.said());
    build.release(RIGHT);
    let skipped = "skipped app-test/above-1: it needs app-test/bad-1, which failed";
    build.end().fails(3, &["built app-test/right-1", skipped, "published generation 1: 1 packages"]);
}

#[test]
fn a_signal_stops_all_that_run_and_kill_9_leaves_nothing_after_the_next_command() {
    for (who, test) in [(Who::Me, "side-by-side-kills"), (Who::Other, "side-by-side-kills-user")] {
        let own = own(who, test);
        for signal in [SIGINT, SIGKILL] {
            let mut build = start(&own, "2", &["app-test/left", "app-test/right"]);
            build.until("both run", |build| build.holds(LEFT) && build.holds(RIGHT));
            let traces = build.traces();
            build.signal(signal);
            let said = build.end();
            if signal == SIGINT {
                said.fails(130, &["bindery: stopped"]);
            } else {
                said.fails(137, &[]);
                own.bench.run(&["reap"]).works();
            }
            own.is_clean(&traces);
        }
    }
}
