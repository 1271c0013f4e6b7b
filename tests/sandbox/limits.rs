//! Limits: what stops a payload, and what is refused where it cannot be given. Limits of time are in the battery
//! (`endings.rs`).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bindery::sandbox::{self, Change, ChangeError, Request, SandboxError, Status, Stdio, Stopped};
use bindery::state::Lease;

use crate::host::{Host, is_root, wait_until};

fn stopped(host: &Host, script: &str) -> Option<Stopped> {
    let exit = host.sh(script).unwrap().exit;
    assert_eq!(exit.status, Status::Signal(9));
    exit.stopped
}

#[test]
fn a_payload_that_waits_for_ever_is_stopped() {
    let mut host = Host::new();
    host.limits.idle = Some(Duration::from_secs(1));
    // Two that wait for each other, as an emulator's threads may: for a pipe that nobody writes to.
    assert_eq!(stopped(&host, "mkfifo /a /b; (cat </a >/b) & cat </b >/a"), Some(Stopped::Idle));
    let exit = host.sh("echo begins; sleep 1000").unwrap().exit;
    assert_eq!(exit.stopped, Some(Stopped::Idle));
    assert_eq!(exit.achieved.limits["idle"], "1 s, by the supervisor");
    assert!(exit.reached().unwrap().starts_with("it hung: "), "{exit:?}");
}

#[test]
fn a_payload_that_works_in_silence_or_was_stopped_is_not_idle() {
    let mut host = Host::new();
    host.limits.idle = Some(Duration::from_secs(1));
    let silent = "timeout 3 sh -c 'while :; do :; done'; true";
    assert_eq!(host.sh(silent).unwrap().exit.stopped, None);
    // Whoever has stopped it may want to look at it.
    let halted = "sleep 1000 & kill -STOP $!; sleep 3; kill -CONT $!; kill $!; true";
    assert_eq!(host.sh(halted).unwrap().exit.stopped, None);
    // It is kept from running in 99 of 100 parts of its time.
    host.limits.cpus = Some(0.01);
    match host.sh(silent) {
        Ok(ran) => assert_eq!(ran.exit.stopped, None),
        Err(error) => assert!(!is_root() && matches!(error, SandboxError::Limit(_)), "{error}"),
    }
}

/// Eight times as much as is allowed, without a pause to look in.
const MUCH: &str = "dd if=/dev/zero of=/a/b/f bs=1M count=64 2>/dev/null";

#[test]
fn a_payload_that_fills_the_disk_is_stopped() {
    let mut host = Host::new();
    host.limits.disk = Some(8 << 20);
    assert_eq!(stopped(&host, &format!("umask 077; mkdir -p /a/b; {MUCH}; sleep 1000")), Some(Stopped::Disk));
    let ran = host.sh("dd if=/dev/zero of=/f bs=1M count=4 2>/dev/null; sleep 3").unwrap();
    assert!(ran.exit.status.success(), "{ran:?}");
    let (how, missing) = (&ran.exit.achieved.limits["disk"], ran.exit.achieved.not_given.join("; "));
    let by = if is_root() { "by a file system of its own" } else { "by the supervisor" };
    assert!(how.starts_with("8388608 bytes and 2048 files") && how.ends_with(by), "{how}; {missing}");
    assert_eq!(missing.contains("file system of its own for what is written: only root may mount one"), !is_root());
}

#[test]
fn a_payload_that_fails_because_it_filled_the_disk_is_told_so_however_fast_it_is() {
    let mut host = Host::new();
    host.limits.disk = Some(8 << 20);
    let exit = host.sh(&format!("mkdir -p /a/b; {MUCH}")).unwrap().exit;
    // An ordinary user's may end before anybody looks: then it had what it wrote.
    assert_eq!(exit.stopped, (is_root() || !exit.status.success()).then_some(Stopped::Disk));
    assert_eq!(exit.stopped.is_some(), !exit.status.success());
}

#[test]
fn a_payload_that_makes_too_many_files_is_stopped() {
    let mut host = Host::new();
    host.limits.disk = Some(8 << 20);
    let make = |count| format!("mkdir /many; seq {count} | sed s,^,/many/, | xargs touch && sleep 3; sleep 1000");
    assert_eq!(stopped(&host, &make(3000)), Some(Stopped::Disk));
    let some = &make(1500).replace("; sleep 1000", "");
    assert!(host.sh(some).unwrap().exit.status.success());
}

#[test]
fn deleted_files_that_are_held_open_count() {
    let mut host = Host::new();
    host.limits.disk = Some(8 << 20);
    let held = "exec 3>/f; rm /f; dd if=/dev/zero bs=1M count=64 >&3 2>/dev/null; sleep 1000";
    assert_eq!(stopped(&host, held), Some(Stopped::Disk));
    // Memory is no disk.
    let memory = "exec 3>/dev/shm/f; rm /dev/shm/f; dd if=/dev/zero bs=1M count=64 >&3 2>/dev/null; sleep 5";
    assert!(host.sh(memory).unwrap().exit.status.success());
}

#[test]
fn nothing_of_a_file_system_of_its_own_is_seen_or_left_outside() {
    let mut host = Host::new();
    host.limits.disk = Some(8 << 20);
    let mut lease = bindery::state::Lease::take(&host.state, "test").unwrap();
    host.run(&mut lease, &["sh", "-c", "echo made >/f"], bindery::sandbox::Stdio::Capture(&mut |_, _| {})).unwrap();
    // What was written is where it always is, for whoever ran it.
    let upper = lease.root().join("upper/f");
    if is_root() {
        assert_eq!(bindery::fs::read(&upper).unwrap(), b"made\n");
        let others = bindery::fs::read_to_string(Path::new("/proc/1/mountinfo")).unwrap();
        assert!(!others.contains(lease.id()), "{others}");
    }
    bindery::layer::remove(&host.ids, lease.root()).unwrap();
    assert!(!lease.root().exists());
    let id = lease.id().to_string();
    lease.release().unwrap();
    wait_until("its loop device is free", || {
        let devices = bindery::fs::read_dir(Path::new("/sys/block")).unwrap();
        !devices.iter().any(|dev| bindery::fs::read(&dev.join("loop/backing_file")).is_ok_and(|f| contains(&f, &id)))
    });
}

fn contains(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

#[test]
fn a_flood_of_output_is_passed_on_piece_by_piece() {
    let host = Host::new();
    let mut lease = bindery::state::Lease::take(&host.state, "test").unwrap();
    let (mut bytes, mut longest) = (0, 0);
    let mut count = |_, chunk: &[u8]| {
        bytes += chunk.len();
        longest = longest.max(chunk.len());
    };
    let stdio = bindery::sandbox::Stdio::Capture(&mut count);
    host.run(&mut lease, &["sh", "-c", "yes | head -c 200000000"], stdio).unwrap();
    assert!(bytes == 200_000_000 && longest <= 65536, "{bytes} {longest}");
}

#[test]
fn a_payload_that_takes_too_much_memory_is_stopped_or_the_limit_is_refused() {
    let mut host = Host::new();
    host.limits.memory = Some(64 << 20);
    let result = host.sh("tail /dev/zero");
    if is_root() {
        let exit = result.unwrap().exit;
        assert_eq!((exit.stopped, exit.oom_kills > 0), (Some(Stopped::Memory), true));
        assert!(exit.achieved.limits["memory"].starts_with("67108864 bytes"), "{:?}", exit.achieved);
        assert!(exit.peak_memory.unwrap() > 32 << 20);
        assert_eq!(exit.oom_killed.iter().map(|killed| killed.name.as_str()).collect::<Vec<_>>(), ["tail"]);
        let pid = exit.oom_killed[0].pid;
        let told = format!("out of memory: the limit of 64 MiB was reached, tail (process {pid}) was killed");
        assert_eq!(exit.reached(), Some(told));
        assert!(host.sh("true").unwrap().exit.status.success());
    } else if let Err(error) = result {
        assert!(matches!(error, SandboxError::Limit(_)), "{error}");
        assert!(error.to_string().contains("Delegate=yes"), "{error}");
    }
}

#[test]
fn processes_are_limited() {
    let mut host = Host::new();
    host.limits.pids = Some(20);
    // Six of the ids below 300 are used up before.
    match host.sh("i=0; while [ $i -lt 400 ]; do sleep 1000 & i=$((i+1)); done; echo all") {
        Ok(ran) => {
            assert!(!ran.out.contains("all") && ran.err.contains("fork"), "{ran:?}");
            assert!(ran.exit.achieved.limits["pids"].starts_with("20"), "{:?}", ran.exit.achieved);
            assert_eq!(ran.exit.refused_processes > 0, ran.exit.achieved.limits["pids"].contains("cgroup"));
            assert!(!is_root() || ran.exit.refused_processes > 0);
            let told = ran.exit.reached().unwrap_or_default();
            let limited = ran.exit.refused_processes > 0;
            assert_eq!(told == "could not start a process: the limit of 20 was reached", limited, "{told}");
        }
        // Before Linux 6.14 there is no other way.
        Err(error) => {
            assert!(!is_root() && matches!(error, SandboxError::Limit(_)), "{error}");
            assert!(error.to_string().contains("Delegate=yes"), "{error}");
        }
    }
}

#[test]
fn processors_are_limited_or_the_limit_is_refused() {
    let mut host = Host::new();
    host.limits.cpus = Some(0.5);
    match host.sh("true") {
        Ok(ran) => assert!(ran.exit.achieved.limits["cpus"].starts_with("50000/100000"), "{:?}", ran.exit),
        Err(error) => assert!(!is_root() && matches!(error, SandboxError::Limit(_)), "{error}"),
    }
}

#[test]
fn who_counts_processors_sees_the_quota() {
    let mut host = Host::new();
    host.limits.cpus = Some(0.5);
    // Where it cannot be given it is refused, which another test is about.
    if let Ok(ran) = host.sh("nproc; grep Cpus_allowed_list /proc/self/status") {
        assert_eq!(ran.out.lines().next(), Some("1"), "{ran:?}");
        let all = sandbox::processors(None, None);
        let restricted = ran.exit.achieved.cpus.as_ref().map(|cpus| format!("Cpus_allowed_list:\t{cpus}"));
        assert_eq!(ran.out.lines().nth(1).filter(|_| all > 1), restricted.as_deref());
    }
    host.limits.cpus = Some(8192.0);
    if let Ok(ran) = host.sh("nproc") {
        assert_eq!(ran.out.trim(), sandbox::processors(None, None).to_string());
    }
}

#[test]
fn one_process_is_enough_for_a_command_that_starts_none() {
    let mut host = Host::new();
    host.limits.pids = Some(1);
    if is_root() {
        assert!(host.command(&["true"]).unwrap().exit.status.success());
        assert!(host.sh("true & wait; exit 3").unwrap().exit.refused_processes > 0);
    }
}

#[test]
fn memory_in_which_nothing_starts_is_refused() {
    let mut host = Host::new();
    host.limits.memory = Some(4 << 20);
    let error = host.sh("true").unwrap_err();
    assert!(error.to_string().contains("4 MiB of memory is too little for any command to start"), "{error}");
    host.limits.memory = Some(8 << 20);
    match host.sh("true") {
        Ok(ran) => assert!(ran.exit.status.success(), "{ran:?}"),
        Err(error) => assert!(!is_root(), "{error}"),
    }
}

#[test]
fn processors_that_are_not_there_are_refused_by_number() {
    let mut host = Host::new();
    host.limits.cpuset = Some("0,8191".parse().unwrap());
    let error = host.sh("true").unwrap_err();
    assert!(error.to_string().starts_with("cannot run on processors 0,8191: bindery itself may run on "), "{error}");
    host.limits.cpuset = Some("0".parse().unwrap());
    match host.sh("nproc") {
        Ok(ran) => {
            assert_eq!(ran.out, "1\n");
            assert!(ran.exit.achieved.limits["cpuset"].starts_with("0 by cgroup"), "{:?}", ran.exit.achieved);
        }
        Err(error) => assert!(!is_root() && error.to_string().contains("`cpuset` controller"), "{error}"),
    }
}

#[test]
fn swap_is_counted_or_refused() {
    let mut host = Host::new();
    (host.limits.memory, host.limits.swap) = (Some(64 << 20), Some(1 << 20));
    match host.sh("true") {
        Ok(ran) => assert!(ran.exit.achieved.limits["memory"].contains("swap"), "{:?}", ran.exit.achieved),
        Err(error) => assert!(!is_root() || error.to_string().contains("does not count it"), "{error}"),
    }
    host.limits.memory = None;
    let error = host.sh("true").unwrap_err();
    assert!(error.to_string().contains("without a limit of memory"), "{error}");
}

#[test]
fn a_share_of_the_disk_is_given_or_refused_with_the_reason() {
    let mut host = Host::new();
    host.limits.io_weight = Some(50);
    match host.sh("true") {
        Ok(ran) => assert!(ran.exit.achieved.limits["io-weight"].starts_with("50 by"), "{:?}", ran.exit.achieved),
        Err(error) => {
            let error = error.to_string();
            assert!(
                ["knows no weights", "no block device", "Delegate=yes", "have no `"].iter().any(|w| error.contains(w)),
                "{error}"
            );
        }
    }
}

#[test]
fn a_command_makes_way_or_that_is_refused() {
    let mut host = Host::new();
    host.limits.gives_way = true;
    match host.sh("echo done") {
        Ok(ran) => {
            assert!(ran.exit.achieved.limits["yield"].contains("cgroup.freeze"), "{:?}", ran.exit.achieved);
            assert!(ran.exit.yielded.is_some() && ran.out == "done\n", "{ran:?}");
        }
        Err(error) => {
            let error = error.to_string();
            assert!(["Delegate=yes", "psi=1", "cgroup2"].iter().any(|way| error.contains(way)), "{error}");
        }
    }
}

type Answer = Result<Vec<(String, String)>, ChangeError>;

/// Runs a script until its first output, asks for a change, and returns the answer and how the script ended, which it
/// does not do by itself.
fn changed(host: &Host, script: &str, change: Change) -> (Answer, sandbox::Exit, String) {
    let mut lease = Lease::take(&host.state, "test").unwrap();
    let spec = host.spec(&lease, &["sh", "-c", script], false);
    let cancel = AtomicBool::new(false);
    let folder = lease.root().to_path_buf();
    let (started, wait) = mpsc::channel();
    let mut out = Vec::new();
    let (answer, exit) = std::thread::scope(|scope| {
        let (cancel, change) = (&cancel, &change);
        let asks = scope.spawn(move || {
            wait.recv().unwrap();
            let answer = sandbox::change(&folder, change);
            std::thread::sleep(Duration::from_millis(300));
            cancel.store(true, Ordering::Relaxed);
            answer
        });
        let mut take = |_, bytes: &[u8]| {
            out.extend_from_slice(bytes);
            let _ = started.send(());
        };
        let exit = sandbox::run(Request {
            spec: &spec,
            ids: &host.ids,
            base: host.state.state(),
            lease: &mut lease,
            stdio: Stdio::Capture(&mut take),
            cancel,
        });
        // It may have failed before its first output.
        let _ = started.send(());
        (asks.join().unwrap(), exit.unwrap())
    });
    (answer, exit, String::from_utf8(out).unwrap())
}

#[test]
fn limits_are_changed_while_it_runs_even_those_it_did_not_have() {
    let host = Host::new();
    let change = Change { cpu: Some((100_000, 100_000)), pids: Some(5), ..Change::default() };
    let script = "nproc; while :; do sleep 0.1; nproc; done";
    let (answer, exit, out) = changed(&host, script, change.clone());
    assert_eq!(exit.stopped, Some(Stopped::Cancelled));
    if !is_root() {
        // Refused where no group was delegated to the user.
        let Err(error) = answer else { return };
        assert!(error.to_string().contains("Delegate=yes"), "{error}");
        return;
    }
    let answer = answer.unwrap();
    assert!(answer[0].0 == "cpus" && answer[0].1.starts_with("100000/100000 µs by cgroup"), "{answer:?}");
    assert!(answer[1].0 == "pids" && answer[1].1.starts_with("5 by cgroup"), "{answer:?}");
    assert_eq!(exit.changed, change);
    assert!(exit.achieved.limits["cpus"].starts_with("100000/100000"), "{:?}", exit.achieved);
    assert_eq!(out.lines().last(), Some("1"));
    assert_eq!(out.lines().next().unwrap(), sandbox::processors(None, None).to_string());
}

#[test]
fn memory_is_changed_only_where_it_was_limited_from_the_start() {
    let mut host = Host::new();
    let change = Change { memory: Some(128 << 20), ..Change::default() };
    let script = "echo started; sleep 1000";
    let (answer, _, _) = changed(&host, script, change.clone());
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("its memory was not limited from the start"), "{error}");
    if is_root() {
        host.limits.memory = Some(64 << 20);
        let (answer, exit, _) = changed(&host, script, change);
        assert!(answer.unwrap()[0].1.starts_with("134217728 bytes"));
        assert_eq!(exit.memory_limit, Some(128 << 20));
    }
}
