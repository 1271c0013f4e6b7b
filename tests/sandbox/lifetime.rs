//! How sandboxes end, and what is left of them. What must not outlive them is in the battery (`endings.rs`).

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bindery::sandbox::{self, Request, SandboxError, Status, Stdio, With};
use bindery::state::{Lease, State, stale_leases};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{Host, is_root, own_program, processes_with, variable, wait_until};

/// Returns the argument of a `sleep` that no other process has.
fn marker(test: u32) -> String {
    format!("86{test}.{}", std::process::id())
}

fn parent_of(pid: i32) -> i32 {
    let status = bindery::fs::read_to_string(Path::new(&format!("/proc/{pid}/status"))).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

#[test]
fn a_signal_that_ends_it_is_told() {
    let host = Host::new();
    assert_eq!(host.sh("kill -TERM $$").unwrap().exit.status, Status::Signal(15));
    assert_eq!(host.sh("kill -KILL $$").unwrap().exit.status, Status::Signal(9));
    assert_eq!(host.sh("exit 255").unwrap().exit.status, Status::Code(255));
}

#[test]
fn init_reaps_what_its_parents_left() {
    let script =
        "for i in 1 2 3 4 5; do (sleep 0 &); done; sleep 1; grep -l 'State:.Z' /proc/[0-9]*/status || echo none";
    assert_eq!(Host::new().sh(script).unwrap().out, "none\n");
}

#[test]
fn a_command_that_does_not_exist_is_told_from_one_that_fails() {
    let error = Host::new().command(&["no-such-program"]).unwrap_err();
    assert!(matches!(error, SandboxError::Command { missing: true, .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot start `no-such-program` in the root: No such file"), "{error}");
    let error = Host::new().command(&["/etc"]).unwrap_err();
    assert!(matches!(error, SandboxError::Command { missing: false, .. }), "{error:?}");
}

/// Runs a sleeping payload and kills the ancestor of it that is so many generations above.
fn kill_above(generations: u32, marker: &str) -> SandboxError {
    let host = Host::new();
    let script = format!("sleep {marker} & echo ready; wait");
    let mut lease = Lease::take(&host.state, "test").unwrap();
    let mut kill_it = |_, _: &[u8]| {
        let mut running = Vec::new();
        // The shell's own command line has it, too.
        wait_until("the sleep runs", || {
            running = processes_with(marker);
            running.len() == 2
        });
        let shell = *running.iter().min().unwrap();
        let victim = (0..generations).fold(shell, |pid, _| parent_of(pid));
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
    };
    let error = host.run(&mut lease, &["sh", "-c", &script], Stdio::Capture(&mut kill_it)).unwrap_err();
    assert_eq!(processes_with(marker), [] as [i32; 0]);
    error
}

#[test]
fn killing_init_is_an_error_and_ends_everything() {
    let error = kill_above(1, &marker(3));
    assert!(matches!(error, SandboxError::Lost(_)), "{error}");
    assert!(error.to_string().contains("signal: 9"), "{error}");
}

#[test]
fn killing_enter_is_an_error_and_ends_everything() {
    let error = kill_above(2, &marker(5));
    assert!(matches!(error, SandboxError::Lost(None)), "{error}");
}

#[test]
fn killing_the_supervisor_ends_everything_and_the_rest_is_reaped() {
    let marker = marker(4);
    let host = Host::new();
    let mut command = bindery::process::command(own_program());
    command.args(["--ignored", "--exact", "lifetime::supervisor_to_be_killed"]);
    command.env("BINDERY_TEST_PLACE", host.dir.path()).env("BINDERY_TEST_MARKER", &marker);
    let mut supervisor = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the payload runs", || processes_with(&format!("sleep\0{marker}")).len() == 1);
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    wait_until("nothing runs", || processes_with(&marker).is_empty());
    let stale = stale_leases(&host.state).unwrap();
    assert_eq!(stale.len(), 1);
    for lease in stale {
        assert_eq!(lease.record.processes.len(), 1);
        sandbox::reap(&lease.record).unwrap();
        assert!(lease.record.cgroups.iter().all(|group| !group.exists()), "{:?}", lease.record);
        lease.forget().unwrap();
    }
}

#[test]
#[ignore = "is killed by another test"]
fn supervisor_to_be_killed() {
    let mut host = Host::new();
    let (dir, marker) = (variable("BINDERY_TEST_PLACE").unwrap(), variable("BINDERY_TEST_MARKER").unwrap());
    host.state = State::below(Path::new(&dir));
    host.sh(&format!("trap '' TERM; sleep {marker} & while :; do wait; done")).unwrap();
}

/// Runs a command whose root is thrown away; returns how it ended and whether nothing is in the lease's folder then.
fn discarded(host: &Host, script: &str) -> (Result<sandbox::Exit, SandboxError>, bool) {
    let mut lease = Lease::take(&host.state, "test").unwrap();
    let spec = host.spec(&lease, &["sh", "-c", script], false);
    let exit = sandbox::run_with(
        Request {
            spec: &spec,
            ids: &host.ids,
            base: host.state.state(),
            lease: &mut lease,
            stdio: Stdio::Capture(&mut |_, _| ()),
            cancel: &AtomicBool::new(false),
        },
        With { discard: true, ..With::default() },
        &mut || (),
    );
    let exit = exit.map(|(exit, _)| exit);
    let gone = !lease.root().exists() || bindery::fs::remove_if_empty(lease.root());
    (exit, gone)
}

#[test]
fn a_root_that_is_thrown_away_is_empty_afterwards() {
    let script = "mkdir -p a/b; echo x > a/b/c; ln -s / a/link; mkdir closed; chmod 0 closed; chown 5:6 a";
    let (exit, gone) = discarded(&Host::new(), script);
    assert!(exit.unwrap().status.success() && gone);
}

#[test]
fn what_is_bound_stays_when_the_root_is_thrown_away() {
    let mut host = Host::new();
    let kept = host.folder("kept");
    bindery::fs::write(&kept.join("file"), "x").unwrap();
    host.bind(&kept, "/kept", true);
    assert!(discarded(&host, "true").0.unwrap().status.success());
    assert!(kept.join("file").exists());
    // Now init fails while everything is still mounted where enter sees it.
    let file = kept.join("file");
    host.bind(&file, "/tmp", false);
    // Enter may be killed before it has removed what was written, or not.
    let (exit, _) = discarded(&host, "true");
    assert!(matches!(exit, Err(SandboxError::Setup(_))), "{exit:?}");
    assert!(kept.join("file").exists());
}

#[test]
fn a_finished_sandbox_leaves_no_control_group() {
    let host = Host::new();
    let mut lease = Lease::take(&host.state, "test").unwrap();
    host.run(&mut lease, &["true"], Stdio::Capture(&mut |_, _| {})).unwrap();
    assert!(lease.record().cgroups.iter().all(|group| !group.exists()), "{:?}", lease.record());
}

#[test]
fn what_the_range_left_in_a_users_folder_is_removed_with_it() {
    let host = Host::new();
    let scratch = host.folder("scratch");
    let inner = scratch.join("out/inner");
    bindery::fs::create_dir_all(&inner).unwrap();
    bindery::fs::write(&inner.join("file"), "x").unwrap();
    sandbox::range::give(&host.ids, &inner).unwrap();
    bindery::layer::clear(&host.ids, &scratch).unwrap();
    assert!(!scratch.exists());
    // A file, and nothing.
    bindery::fs::write(&scratch, "x").unwrap();
    bindery::layer::clear(&host.ids, &scratch).unwrap();
    bindery::layer::clear(&host.ids, &scratch).unwrap();
    assert!(!scratch.exists());
}

#[test]
fn a_group_is_removed_when_its_holder_is_dead_and_nothing_is_in_it() {
    if !is_root() {
        return;
    }
    let mounts = bindery::fs::read_to_string(Path::new("/proc/self/mounts")).unwrap();
    let v2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let v2 = Path::new(v2.expect("no cgroup v2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`"));
    let place = Path::new(v2.to_str().unwrap().split(' ').nth(1).unwrap()).join("bindery");
    bindery::fs::create_dir_all(&place).unwrap();
    let host = Host::new();
    let lease = Lease::take(&host.state, "test").unwrap();
    // Nobody has these numbers of processes, which are above the highest.
    let [empty, busy, alive, other] = ["1-400001-0", "1-400002-0", lease.id(), "other"].map(|name| place.join(name));
    for group in [&empty, &busy, &alive, &other] {
        bindery::fs::create_dir_new(group, 0o755).unwrap();
    }
    let mut sleeper = bindery::process::command("sleep").arg("1000").spawn().unwrap();
    bindery::fs::write(&busy.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    sandbox::reap_groups().unwrap();
    let left = [&empty, &busy, &alive, &other].map(|group| group.exists());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    wait_until("the group is empty", || sandbox::reap_groups().is_ok() && !busy.exists());
    for group in [&alive, &other] {
        rustix::fs::unlinkat(rustix::fs::CWD, group, rustix::fs::AtFlags::REMOVEDIR).unwrap();
    }
    assert_eq!(left, [false, true, true, true]);
}

/// Also of what its parent did not wait for.
#[test]
fn processor_time_is_that_of_all_processes() {
    const WORK: &str = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
    let host = Host::new();
    let used = |script: &str| host.sh(script).unwrap().exit.cpu_milliseconds;
    let (little, waited_for) = (used("true"), used(&format!("({WORK}) & wait")));
    let orphan = format!("sh -c '({WORK}) & echo $! >/pid'; while kill -0 $(cat /pid) 2>/dev/null; do sleep 1; done");
    let left = used(&orphan);
    assert!(waited_for > 2 * little && left > 2 * little, "{little} {waited_for} {left}");
}
