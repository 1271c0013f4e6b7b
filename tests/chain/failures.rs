//! Packages that fail: what is said, what it costs, and that nothing is left.

use crate::bench::{Bench, Who};

#[test]
fn a_package_that_fails_is_told_with_its_phase_and_costs_only_itself() {
    for who in [Who::Me, Who::Other] {
        fails(&Bench::of(who, "failures-phases"));
    }
}

fn fails(bench: &Bench) {
    bench.write_broken_profile("", "");
    let packages = [
        "fails/configure",
        "fails/compile",
        "fails/install",
        "fails/pretend",
        "fails/dependency",
        "fails/undeclared-dependency",
        "odd/kinds",
        "guarded/secrets",
        "guarded/read-only",
        "guarded/network",
    ];
    let said = bench.build(&packages);
    said.fails(
        3,
        &[
            "failed fails/configure-1: configure found no reason to go on (in configure)",
            "| checking for a reason to go on... no",
            "failed fails/compile-1: greet.c does not compile (in compile)",
            "| greet.c:1:25: error: implicit declaration of function",
            "failed fails/install-1: dobin failed (in install)",
            "| !!! dobin: nothing-that-was-built does not exist",
            "failed fails/pretend-1: this root will not do (in pretend)",
            "failed fails/undeclared-dependency-1: bzip2 is not there (in compile)",
            "| use.c:1:10: fatal error: bzlib.h: No such file",
            "failed odd/kinds-1: its package was refused:",
            "which no package may (allowed: file, folder, symbolic and hard link)",
            "the whole log: bindery log fails/compile-1",
            "skipped fails/dependency-1: it needs fails/compile-1, which failed",
            "built guarded/secrets-1, build 1",
            "built guarded/read-only-1, build 1",
            "built guarded/network-1, build 1",
            "published generation 1: 3 packages",
            "bindery: 6 of 10 packages failed: fails/",
        ],
    );
    assert!(bench.profile_dir().join("current/guarded/network/network-1-1.gpkg.tar").exists());

    // The whole log, by any name of the package; and the run among the others.
    let run = said.run();
    for name in ["compile", "fails/compile", "compile-1", "fails/compile-1"] {
        let log = bench.run(&["log", name, "--run", &run]);
        let (first, last) =
            (">>> Compiling source in", "ERROR: fails/compile-1::bindery-broken failed (compile phase):");
        assert!(log.works().out.contains(first) && log.out.contains(last), "{log}");
    }
    let runs = bench.run(&["log", "--run", &run]);
    assert!(runs.works().out.contains("failed") && runs.out.contains("3 built, 6 failed, 1 skipped"), "{runs}");
    bench.run(&["log", "fails/dependency", "--run", &run]).fails(1, &["no run has a log of `fails/dependency`"]);
    bench.run(&["log", "--run", "19700101"]).fails(1, &["no run `19700101`", "`bindery log` lists the runs"]);

    // Once more: what failed is tried again, what was built is not.
    let said = bench.build(&["fails/install", "guarded/secrets"]);
    said.fails(3, &["1 packages to build, 1 unchanged", "failed fails/install-1"]).lacks("building guarded/secrets");
    assert!(!bench.profile_dir().join("generations/2").exists());
}

#[test]
fn where_everything_fails_nothing_is_published() {
    let bench = Bench::new("failures-all");
    bench.write_broken_profile("", "");
    bench.build(&["fails/pretend"]).fails(3, &["1 of 1 packages failed: fails/pretend-1"]).lacks("published");
    assert!(!bench.profile_dir().join("current").exists());
}

#[test]
fn the_last_good_package_of_one_that_fails_stays_published() {
    let bench = Bench::new("failures-again");
    bench.write_tree(&[("turns", "src_install() { newbin - turns <<< 'echo 1'; }\n")]);
    bench.write_broken_profile(", \"own\"", "");
    bench.build(&["own/turns", "guarded/secrets"]).works();
    bench.write_tree(&[("turns", "src_install() { die 'not today'; }\n")]);
    let said = bench.build(&["own/turns", "guarded/network"]);
    said.fails(3, &["failed own/turns-1: not today (in install)", "published generation 2: 3 packages"]);
    let current = bench.profile_dir().join("current");
    for package in ["own/turns/turns-1-1", "guarded/secrets/secrets-1-1", "guarded/network/network-1-1"] {
        assert!(current.join(format!("{package}.gpkg.tar")).exists(), "{package}");
    }
}

#[test]
fn a_package_that_hangs_is_stopped() {
    let bench = Bench::new("failures-silent");
    bench.write_broken_profile("", "[limits]\nsilence = \"5s\"\n");
    let said = bench.build(&["endless/silent", "guarded/network"]);
    let silent = "failed endless/silent-1: it printed nothing for longer than its limit of silence, and was stopped (in \
                  compile); if it needs more, raise `limits.silence` in the profile";
    said.fails(3, &[silent, "built guarded/network-1", "published generation 1: 1 packages"]);
}

#[test]
fn a_package_that_does_nothing_any_more_is_stopped_long_before_it_is_too_quiet() {
    let bench = Bench::new("failures-idle");
    bench.write_broken_profile("", "[limits]\nidle = \"5s\"\n");
    let said = bench.build(&["endless/silent"]);
    let idle = "failed endless/silent-1: it hung: it used no processor time and printed nothing for longer than its limit of \
                idleness, and was stopped (in compile); if it needs more, raise `limits.idle` in the profile";
    said.fails(3, &[idle]);
}

#[test]
fn a_package_that_prints_for_ever_is_stopped_and_its_log_bounded() {
    let bench = Bench::new("failures-log");
    bench.write_broken_profile("", "[limits]\ntime = \"10s\"\n");
    let said = bench.build(&["endless/log"]);
    let late = "failed endless/log-1: it took longer than its limit of time, and was stopped (in compile); if it needs \
                more, raise `limits.time` in the profile";
    said.fails(3, &[late, "| and another line of output"]);
    let run = bench.state.join("state/runs").join(said.run());
    let length = std::fs::metadata(run.join("endless/log-1/log")).unwrap().len();
    std::fs::remove_dir_all(run).unwrap();
    assert!(length <= (256 << 20) + 65536 + 100, "{length}");
}

#[test]
fn a_package_that_fills_the_disk_or_the_memory_is_stopped() {
    let bench = Bench::new("failures-disk");
    bench.write_broken_profile("", "[limits]\ndisk = \"200MiB\"\nmemory = \"300MiB\"\n");
    let said = bench.build(&["endless/disk", "endless/memory", "guarded/network"]);
    said.fails(
        3,
        &[
            "failed endless/disk-1: it wrote more than its limit of disk",
            "(in compile); if it needs more, raise `limits.disk` in the profile",
            "failed endless/memory-1: out of memory: the limit of 300 MiB was reached, python3 (process ",
            "(in compile); if it needs more, raise `limits.memory` in the profile",
            "built guarded/network-1",
        ],
    );
    // Nothing of what it wrote stays.
    let roots = std::fs::read_dir(bench.state.join("state/runs").join(said.run()).join("endless/disk-1")).unwrap();
    let mut left: Vec<_> = roots.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["config.json", "log", "status.json"]);
}

#[test]
fn a_daemon_does_not_outlive_its_build() {
    let bench = Bench::new("failures-daemon");
    // A name that no other test's process has.
    let marker = format!("bindery-left-by-{}", std::process::id());
    let start = format!("setsid bash -c 'exec -a {marker} sleep infinity' </dev/null >/dev/null 2>&1 & disown\n");
    let text = format!(
        "src_compile() {{\n{start}until grep -qs {marker} /proc/[0-9]*/cmdline; do sleep 0.1; done\necho it runs\n}}\n"
    );
    bench.write_tree(&[("daemon", &text)]);
    bench.write_broken_profile(", \"own\"", "");
    let said = bench.build(&["own/daemon"]);
    said.works();
    let log = bench.run(&["log", "own/daemon", "--run", &said.run()]);
    assert!(log.works().out.contains("it runs"), "{log}");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    let left: Vec<String> = processes.filter(|line| line.contains(&marker)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn two_dependencies_with_one_file_fail_only_what_needs_both() {
    let bench = Bench::new("failures-collision");
    bench.write_tree(&[("both", "DEPEND=\"odd/collide-a odd/collide-b\"\n")]);
    bench.write_broken_profile(", \"own\"", "");
    bench.build(&["own/both"]).fails(
        3,
        &[
            "built odd/collide-a-1",
            "built odd/collide-b-1",
            "failed own/both-1: ",
            "(in dependencies)",
            "/usr/bin/odd-collide",
            "published generation 1: 2 packages",
        ],
    );
}
