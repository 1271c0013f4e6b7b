//! Limits: what stops a payload, and what is refused where it cannot be given.

use std::path::Path;
use std::time::Duration;

use bindery::sandbox::{SandboxError, Status, Stopped};

use crate::host::{Host, is_root, wait_until};

fn stopped(host: &Host, script: &str) -> Option<Stopped> {
    let exit = host.sh(script).unwrap().exit;
    assert_eq!(exit.status, Status::Signal(9));
    exit.stopped
}

#[test]
fn a_payload_that_takes_too_long_is_stopped_whatever_it_ignores() {
    let mut host = Host::new();
    host.limits.time = Some(Duration::from_secs(1));
    assert_eq!(stopped(&host, "trap '' TERM INT HUP; while :; do echo busy; done"), Some(Stopped::Time));
    assert_eq!(stopped(&host, "kill -STOP $$"), Some(Stopped::Time));
}

#[test]
fn a_payload_that_says_nothing_is_stopped() {
    let mut host = Host::new();
    host.limits.silence = Some(Duration::from_secs(2));
    assert_eq!(stopped(&host, "for i in 1 2 3; do echo $i; sleep 1; done; sleep 1000"), Some(Stopped::Silence));
    assert!(host.sh("for i in 1 2 3; do echo $i; sleep 1; done").unwrap().exit.status.success());
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
    // An ordinary user's may end before anybody looks: then it had what it wrote.
    let ran = host.sh(&format!("mkdir -p /a/b; {MUCH}")).unwrap();
    assert_eq!((ran.exit.stopped, !ran.exit.status.success()), (is_root().then_some(Stopped::Disk), is_root()));
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
