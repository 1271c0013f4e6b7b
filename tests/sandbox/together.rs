//! Sandboxes that run side by side: what they use up is limited together.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};

use bindery::sandbox::{self, Change, Exit, Request, SandboxError, Stdio, Stopped, Together};
use bindery::state::{Lease, held_leases};

use crate::host::{Host, is_root, variable};

/// Returns whether groups can be made.
fn may_limit() -> bool {
    is_root() || variable("BINDERY_TEST_DELEGATED").is_some_and(|delegated| delegated == "yes")
}

fn shared(host: &Host) -> Together {
    Together::new(Lease::take(&host.state, "what is shared").unwrap())
}

/// Runs a script in a sandbox beside others; `heard` is called with its lease's folder at its first output.
fn beside(
    host: &Host,
    shared: &Together,
    cancel: &AtomicBool,
    script: &str,
    mut heard: impl FnMut(&Path),
) -> Result<Exit, SandboxError> {
    let mut lease = Lease::take(&host.state, "test").unwrap();
    let spec = host.spec(&lease, &["sh", "-c", script], false);
    let (ids, base, folder) = (&host.ids, host.state.state(), lease.root().to_path_buf());
    let mut first = true;
    let mut sink = |_, _: &[u8]| {
        if std::mem::take(&mut first) {
            heard(&folder);
        }
    };
    let request = Request { spec: &spec, ids, base, lease: &mut lease, stdio: Stdio::Capture(&mut sink), cancel };
    let exit = sandbox::run_together(request, shared);
    lease.release().unwrap();
    exit
}

/// Has `script` run, and then `then`, which gets its lease's folder; and ends it. Returns what came of both.
fn while_runs<T>(
    host: &Host,
    shared: &Together,
    script: &str,
    then: impl FnOnce(&Path) -> T,
) -> (Result<Exit, SandboxError>, T) {
    let (runs, wait) = mpsc::channel();
    let cancel = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let first =
            scope.spawn(|| beside(host, shared, &cancel, script, |folder| runs.send(folder.to_path_buf()).unwrap()));
        let done = then(&wait.recv().unwrap());
        cancel.store(true, Ordering::Relaxed);
        (first.join().unwrap(), done)
    })
}

/// Where no group was delegated to the user.
#[track_caller]
fn is_refused(host: &Host, shared: &Together) {
    if let Err(error) = beside(host, shared, &NEVER, "true", |_| ()) {
        assert!(matches!(error, SandboxError::Limit(_)), "{error}");
    }
}

/// The quotas of the groups that leases name, in microseconds for each 100 ms.
fn quotas(host: &Host) -> Vec<String> {
    let groups: Vec<PathBuf> = held_leases(&host.state).unwrap().into_iter().flat_map(|l| l.record.cgroups).collect();
    let files = groups.iter().flat_map(|dir| ["cpu.max", "cpu.cfs_quota_us"].map(|file| dir.join(file)));
    let texts = files.filter_map(|file| bindery::fs::read_to_string(&file).ok());
    texts.map(|text| text.split_whitespace().next().unwrap().to_string()).filter(|q| q != "max" && q != "-1").collect()
}

static NEVER: AtomicBool = AtomicBool::new(false);

#[test]
fn a_quota_of_processors_holds_for_all_of_them_and_is_changed_for_all_of_them() {
    let mut host = Host::new();
    host.limits.cpus = Some(0.5);
    let shared = shared(&host);
    if !may_limit() {
        is_refused(&host, &shared);
        return;
    }
    let (first, second) = while_runs(&host, &shared, "echo; sleep 1000", |folder| {
        let second = beside(&host, &shared, &NEVER, "echo; sleep 0.1", |_| assert_eq!(quotas(&host), ["50000"]));
        let change = Change { cpu: Some((40_000, 100_000)), ..Change::default() };
        let changed = sandbox::change(folder, &change).unwrap();
        let (_, how) = &changed[0];
        assert!(how.starts_with("40000/100000 µs by cgroup") && how.ends_with("with all that runs beside it"), "{how}");
        assert_eq!(quotas(&host), ["40000"]);
        // One limit that cannot be given, and the other is what it was, here and above.
        let change = Change { cpu: Some((30_000, 100_000)), memory: Some(64 << 20), ..Change::default() };
        assert!(sandbox::change(folder, &change).is_err());
        assert_eq!(quotas(&host), ["40000"]);
        second
    });
    assert_eq!(first.unwrap().stopped, Some(Stopped::Cancelled));
    assert!(second.unwrap().status.success());
    // Who comes later has what holds now.
    beside(&host, &shared, &NEVER, "echo", |_| assert_eq!(quotas(&host), ["40000"])).unwrap();
    shared.close().unwrap();
    assert_eq!(held_leases(&host.state).unwrap(), []);
}

#[test]
fn limits_that_nothing_had_are_given_to_all_that_run() {
    let host = Host::new();
    let shared = shared(&host);
    while_runs(&host, &shared, "echo; sleep 1000", |one| {
        while_runs(&host, &shared, "echo; sleep 1000", |other| {
            let change = Change { cpu: Some((60_000, 100_000)), ..Change::default() };
            let changed = [one, other].map(|folder| sandbox::change(folder, &change));
            if may_limit() {
                assert!(changed.iter().all(Result::is_ok), "{changed:?}");
                assert_eq!(quotas(&host), ["60000"]);
            }
        })
        .0
        .unwrap();
    })
    .0
    .unwrap();
    shared.close().unwrap();
}

#[test]
fn memory_is_what_all_of_them_have_and_who_ran_out_of_it_is_told_so() {
    let mut host = Host::new();
    host.limits.memory = Some(64 << 20);
    let shared = shared(&host);
    if !may_limit() {
        is_refused(&host, &shared);
        return;
    }
    // No process has it, so that the kernel ends the other's, which grows.
    let holds = "head -c 40000000 /dev/zero >/dev/shm/held && echo held; sleep 1000";
    let (first, second) =
        while_runs(&host, &shared, holds, |_| beside(&host, &shared, &NEVER, "tail /dev/zero", |_| ()));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.stopped, first.oom_kills), (Some(Stopped::Cancelled), 0));
    assert_eq!((second.stopped, second.memory_limit), (Some(Stopped::Memory), Some(64 << 20)), "{second:?}");
    assert!(second.peak_memory.unwrap() < 32 << 20, "{second:?}");
    shared.close().unwrap();
}

#[test]
fn many_of_one_process_are_limited_at_the_same_moment() {
    const MANY: usize = 6;
    let mut host = Host::new();
    host.limits.pids = may_limit().then_some(50);
    host.limits.cpus = may_limit().then_some(1.0);
    host.limits.memory = may_limit().then_some(256 << 20);
    let (apart, shared, barrier) = (Host::new(), shared(&host), Barrier::new(2 * MANY));
    std::thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                barrier.wait();
                assert!(beside(&host, &shared, &NEVER, "echo", |_| ()).unwrap().status.success());
            });
            // Without limits, and so without groups: they are in bindery's own meanwhile.
            scope.spawn(|| {
                barrier.wait();
                assert!(apart.sh("for i in 1 2 3 4 5; do true | cat; done").unwrap().exit.status.success());
            });
        }
    });
    shared.close().unwrap();
}
