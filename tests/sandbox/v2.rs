//! Control groups v2: run in the virtual machine, which has them with all controllers (tests/machine/tests).

use std::path::Path;

use bindery::sandbox::{SandboxError, Stopped};
use bindery::{fs, process};

use crate::host::{Host, is_root, variable};

/// Returns whether groups can be made: by root, and by a user to whom one was delegated.
fn may_limit() -> bool {
    let delegated = variable("BINDERY_TEST_DELEGATED");
    let delegated = delegated.expect("this test is for the virtual machine: `tests/machine/tests sandbox`");
    is_root() || delegated == "yes"
}

#[test]
#[ignore = "needs control groups v2: runs in the virtual machine"]
fn every_limit_is_given_by_v2_or_refused_by_name() {
    for (name, controller) in [("cpus", "cpu"), ("memory", "memory"), ("pids", "pids")] {
        let mut host = Host::new();
        match name {
            "cpus" => host.limits.cpus = Some(0.5),
            "memory" => host.limits.memory = Some(64 << 20),
            _ => host.limits.pids = Some(20),
        }
        match host.sh("true") {
            Ok(ran) if may_limit() => {
                let given = &ran.exit.achieved.limits[name];
                assert!(given.ends_with("by cgroup v2"), "{given}");
            }
            // Linux 6.14 and later.
            Ok(ran) => assert!(ran.exit.achieved.limits["pids"].ends_with("by kernel.pid_max"), "{ran:?}"),
            Err(error) => {
                assert!(!may_limit() && matches!(error, SandboxError::Limit(_)), "{error}");
                let error = error.to_string();
                assert!(error.contains(&format!("the `{controller}` controller")), "{error}");
                assert!(error.contains("systemd-run --user --scope -p Delegate=yes bindery"), "{error}");
            }
        }
    }
}

#[test]
#[ignore = "needs control groups v2: runs in the virtual machine"]
fn all_limits_hold_at_once_and_for_one_sandbox_after_the_other() {
    if !may_limit() {
        return;
    }
    let mut host = Host::new();
    host.limits.disk = Some(64 << 20);
    host.limits.cpus = Some(1.5);
    host.limits.memory = Some(64 << 20);
    host.limits.pids = Some(20);
    for _ in 0..2 {
        let exit = host.sh("tail /dev/zero").unwrap().exit;
        assert_eq!((exit.stopped, exit.oom_kills > 0), (Some(Stopped::Memory), true), "{exit:?}");
        assert!(exit.peak_memory.unwrap() > 32 << 20, "{exit:?}");
        let ran = host.sh("i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo all").unwrap();
        assert!(!ran.out.contains("all") && ran.exit.refused_processes > 0, "{ran:?}");
        assert!(host.sh("true").unwrap().exit.status.success());
    }
}

/// The kernel shows a controller as enabled before groups that are there already have its files.
#[test]
#[ignore = "needs control groups v2: runs in the virtual machine"]
fn a_controller_that_another_enables_at_the_same_moment_is_waited_for() {
    if !is_root() {
        return;
    }
    let control = Path::new("/sys/fs/cgroup/bindery/cgroup.subtree_control");
    for _ in 0..8 {
        // Nothing was limited yet where there is no such file.
        if control.exists() {
            fs::write(control, "-cpu -memory -pids").unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut host = Host::new();
                    host.limits.cpus = Some(1.5);
                    host.limits.memory = Some(64 << 20);
                    host.limits.pids = Some(20);
                    host.sh("true").unwrap();
                });
            }
        });
    }
}

/// Only root may change how a disk is scheduled, so only root tries it.
#[test]
#[ignore = "needs a disk whose scheduler may be changed: runs in the virtual machine"]
fn a_share_of_the_disk_is_given_by_the_scheduler_or_the_cost_model() {
    const SCHEDULER: &str = "/sys/block/vda/queue/scheduler";
    const COSTS: &str = "/sys/fs/cgroup/io.cost.qos";
    let mut host = Host::new();
    host.limits.io_weight = Some(50);
    process::run(process::command("modprobe").arg("bfq")).unwrap();
    let given = |scheduler: &str, costs: &str| {
        fs::write(Path::new(SCHEDULER), scheduler).unwrap();
        fs::write(Path::new(COSTS), costs).unwrap();
        let ran = host.sh("echo x > /file && sync /file").map_err(|error| error.to_string());
        ran.map(|ran| ran.exit.achieved.limits["io-weight"].clone())
    };
    let device = fs::read_to_string(Path::new("/sys/block/vda/dev")).unwrap();
    let costs = |enable: u8| format!("{} enable={enable}", device.trim());
    assert_eq!(given("bfq", &costs(0)).unwrap(), "50 by cgroup v2, io.bfq.weight");
    assert_eq!(given("none", &costs(1)).unwrap(), "50 by cgroup v2, io.weight");
    let refused = given("none", &costs(0)).unwrap_err();
    assert!(refused.contains("which knows no weights; `echo bfq >"), "{refused}");
}

#[test]
#[ignore = "needs a group of v2 with somebody else in it: runs in the virtual machine"]
fn a_group_with_others_in_it_is_not_rearranged() {
    let mut host = Host::new();
    host.limits.memory = Some(64 << 20);
    let error = host.sh("true").unwrap_err().to_string();
    assert!(error.contains("processes that are not bindery's"), "{error}");
    assert!(error.contains("systemd-run --user --scope"), "{error}");
}
