//! Limits: what stops a payload, and what is refused where it cannot be given.

use std::time::Duration;

use bindery::sandbox::{SandboxError, Status, Stopped};

use crate::host::{Host, is_root};

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

#[test]
fn a_payload_that_fills_the_disk_is_stopped() {
    let mut host = Host::new();
    host.limits.disk = Some(8 << 20);
    assert_eq!(
        stopped(&host, "umask 077; mkdir -p /a/b; dd if=/dev/zero of=/a/b/f bs=1M count=16 2>/dev/null; sleep 1000"),
        Some(Stopped::Disk)
    );
    assert!(host.sh("dd if=/dev/zero of=/f bs=1M count=4 2>/dev/null; sleep 3").unwrap().exit.status.success());
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
    let ran = host.sh("i=0; while [ $i -lt 400 ]; do sleep 1000 & i=$((i+1)); done; echo all").unwrap();
    assert!(!ran.out.contains("all") && ran.err.contains("fork"), "{ran:?}");
    assert!(ran.exit.achieved.limits["pids"].starts_with("20"), "{:?}", ran.exit.achieved);
    assert_eq!(ran.exit.refused_processes > 0, is_root());
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
