//! What `bindery run` leaves on record, and `bindery limit` while it runs: the program itself.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bindery::fs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::folders::{bindery, ranged, text};
use crate::host::{Host, is_root, processes_with, variable, wait_until};

/// A command that runs until it is killed, and has said so.
struct Running {
    child: Child,
    lease: String,
}

impl Running {
    fn start(host: &Host, options: &[&str], script: &str) -> Self {
        let program = variable("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").to_string());
        let root = ranged(host).display().to_string();
        let script = format!("{script}; echo started; while :; do sleep 1; done");
        let mut command: Command = bindery::process::command(program);
        command.arg("--state").arg(host.dir.path()).args(["run", "--root", &root, "--env", "PATH=/bin"]).args(options);
        command.args(["--", "sh", "-c", &script]).stdout(Stdio::piped());
        let before = leases(host);
        let mut child = command.spawn().unwrap();
        let mut said = [0; 8];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"started\n");
        let new: Vec<_> = leases(host).into_iter().filter(|lease| !before.contains(lease)).collect();
        assert_eq!(new.len(), 1, "{new:?}");
        Self { child, lease: new[0].clone() }
    }

    fn end(mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        self.child.wait().unwrap();
    }

    /// Returns its control groups that are there.
    fn groups(&self, host: &Host) -> Vec<PathBuf> {
        let record = host.state.leases().join(format!("{}.json", self.lease));
        let record: Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
        let groups = record["cgroups"].as_array().unwrap().iter().map(|group| PathBuf::from(group.as_str().unwrap()));
        groups.filter(|group| group.exists()).collect()
    }

    /// Returns its quota in microseconds, as the kernel has it.
    fn quota(&self, host: &Host) -> u64 {
        let files = self.groups(host).into_iter().flat_map(|dir| ["cpu.max", "cpu.cfs_quota_us"].map(|f| dir.join(f)));
        let text = files.filter_map(|file| fs::read_to_string(&file).ok()).next().unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// Returns what `bindery limit` lists.
fn leases(host: &Host) -> Vec<String> {
    let ran = bindery(host, &["limit", "--json"]);
    let running: Value = serde_json::from_slice(&ran.stdout).unwrap();
    running.as_array().unwrap().iter().map(|one| one["lease"].as_str().unwrap().to_string()).collect()
}

fn commands(host: &Host) -> Vec<Value> {
    let ran = bindery(host, &["log", "--commands", "--json"]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn what_was_run_is_on_record_with_what_was_achieved() {
    let host = Host::new();
    assert_eq!(commands(&host), [] as [Value; 0]);
    let root = ranged(&host).display().to_string();
    let run = |options: &[&str], script: &str| {
        let words =
            [&["run", "--root", &root, "--env", "SECRET=42", "--env", "PATH=/bin"], options, &["--", "sh", "-c"]];
        bindery(&host, &[words.concat().as_slice(), &[script]].concat())
    };
    assert!(run(&[], "true").status.success());
    let ran = run(&["--network"], "exit 7");
    assert!(ran.status.code() == Some(7) && text(&ran.stderr).contains("uses the host's network"), "{ran:?}");
    run(&["--timeout", "1s"], "sleep 1000");
    assert_eq!(bindery(&host, &["run", "--root", &root, "--", "no-such-program"]).status.code(), Some(127));
    let found = commands(&host);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!((&found[0]["tool"], &found[0]["from"]), (&"run".into(), &format!("root {root}").into()));
    assert_eq!(found[0]["command"], serde_json::json!(["sh", "-c", "true"]));
    assert_eq!((&found[0]["network"], &found[0]["exit"]["status"]["Code"]), (&"none".into(), &0.into()));
    assert!(found[0]["exit"]["achieved"]["seccomp_instructions"].as_u64().unwrap() > 100, "{}", found[0]);
    assert_eq!((&found[1]["network"], &found[1]["exit"]["status"]["Code"]), (&"host".into(), &7.into()));
    assert_eq!(found[1]["exit"]["achieved"]["network"], "host");
    assert_eq!(found[2]["exit"]["stopped"], "time");
    assert!(found[3]["error"].as_str().unwrap().contains("cannot start `no-such-program`"), "{}", found[3]);
    let kept = fs::read_to_string(&host.state.state().join("commands.jsonl")).unwrap();
    assert!(!kept.contains("SECRET"), "{kept}");
    // As people read it: below the runs, and alone.
    for args in [&["log"][..], &["log", "--commands"]] {
        let said = text(&bindery(&host, args).stdout);
        let lines: Vec<_> = said.lines().skip_while(|line| !line.starts_with("started")).collect();
        assert_eq!(lines.len(), 5, "{said}");
        for (line, outcome) in lines[1..].iter().zip([" done ", " exit 7 ", " limit: time ", " error "]) {
            assert!(line.contains(outcome) && line.contains("root "), "{said}");
        }
    }
    assert_eq!(bindery(&host, &["log", "--commands", "hello"]).status.code(), Some(2));
}

#[test]
fn a_command_that_runs_or_was_killed_is_on_record_as_such() {
    let host = Host::new();
    let running = Running::start(&host, &[], "true");
    let found = commands(&host);
    assert_eq!((&found[0]["running"], &found[0]["lease"]), (&true.into(), &running.lease.as_str().into()));
    let lease = running.lease.clone();
    running.end(Signal::SIGKILL);
    let found = commands(&host);
    assert_eq!((&found[0]["running"], &found[0]["ended"]), (&false.into(), &Value::Null));
    let said = text(&bindery(&host, &["log"]).stdout);
    assert!(said.lines().any(|line| line.contains(&lease) && line.contains(" killed ")), "{said}");
}

#[test]
fn what_cannot_be_recorded_is_not_run() {
    let host = Host::new();
    fs::create_dir_all(&host.state.state().join("commands.jsonl")).unwrap();
    let root = ranged(&host).display().to_string();
    let ran = bindery(&host, &["run", "--root", &root, "--env", "PATH=/bin", "--", "sh", "-c", "echo ran"]);
    assert!(ran.status.code() == Some(125) && ran.stdout.is_empty(), "{ran:?}");
    assert!(text(&ran.stderr).contains("commands.jsonl"), "{}", text(&ran.stderr));
}

#[test]
fn limits_of_a_command_that_runs_are_changed_all_or_none() {
    let host = Host::new();
    let limit = |args: &[&str]| {
        let ran = bindery(&host, &[&["limit"], args].concat());
        (ran.status.code().unwrap(), text(&ran.stderr))
    };
    if !is_root() {
        let running = Running::start(&host, &[], "true");
        let (code, said) = limit(&[&running.lease, "--pids", "50"]);
        // Refused where no group was delegated to the user.
        assert!(code == 0 || code == 1 && said.contains("stay as they are") && said.contains("Delegate=yes"), "{said}");
        running.end(Signal::SIGTERM);
        return;
    }
    // Memory that cannot be given back.
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=30 2>/dev/null";
    let running = Running::start(&host, &["--cpus", "1.5", "--memory", "64MiB"], fill);
    let lease = running.lease.as_str();
    let groups = running.groups(&host);
    assert_eq!(running.quota(&host), 150_000);
    let (code, said) = limit(&[lease, "--cpus", "0.5"]);
    assert!(code == 0 && said.contains("bindery run: cpus 50000/100000 µs by cgroup"), "{said}");
    assert_eq!(running.quota(&host), 50_000);
    // The processor's limit is changed first, and set back when the memory's is refused.
    let (code, said) = limit(&[lease, "--cpus", "0.25", "--memory", "16MiB"]);
    assert!(code == 1 && said.contains("the limits stay as they are"), "{said}");
    assert_eq!(running.quota(&host), 50_000);
    // What can be known before is not even tried.
    let (code, said) = limit(&[lease, "--cpus", "0.25", "--memory", "1KiB"]);
    assert!(code == 1 && said.contains("too little for any command"), "{said}");
    let (code, said) = limit(&[lease, "--cpus", "0.25", "--cpuset", "4000"]);
    assert!(code == 1 && said.contains("cannot run on processors 4000"), "{said}");
    assert_eq!(running.quota(&host), 50_000);
    assert_eq!(running.groups(&host), groups);
    let (code, said) = limit(&[lease, "--cpus", "1", "--memory", "128MiB", "--pids", "40"]);
    assert!(code == 0 && said.contains("memory 134217728 bytes") && said.contains("pids 40"), "{said}");
    assert_eq!(running.quota(&host), 100_000);
    let marker = running.child.id();
    running.end(Signal::SIGTERM);
    wait_until("its groups are gone", || groups.iter().all(|group| !group.exists()));
    let found = commands(&host);
    assert_eq!(found[0]["exit"]["changed"]["pids"], 40, "{} {marker}", found[0]);
}

#[test]
fn a_new_group_is_removed_when_another_limit_is_refused() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=30 2>/dev/null";
    let running = Running::start(&host, &["--memory", "64MiB"], fill);
    let groups = running.groups(&host);
    let ran = bindery(&host, &["limit", &running.lease, "--cpus", "0.5", "--memory", "16MiB"]);
    assert!(ran.status.code() == Some(1), "{}", text(&ran.stderr));
    assert_eq!(running.groups(&host), groups);
    // It still runs, and can have that limit.
    let ran = bindery(&host, &["limit", &running.lease, "--cpus", "0.5"]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert_eq!(running.quota(&host), 50_000);
    running.end(Signal::SIGTERM);
}

#[test]
fn what_limit_does_not_understand_it_says() {
    let host = Host::new();
    let (mut one, mut other) = (Running::start(&host, &[], "true"), Running::start(&host, &[], "true"));
    let shared = |one: &Running, other: &Running| {
        one.lease.chars().zip(other.lease.chars()).take_while(|(one, other)| one == other).count()
    };
    if shared(&one, &other) == 0 {
        // Ids begin with the time, and another number had begun; it lasts for longer than this.
        one.end(Signal::SIGTERM);
        one = std::mem::replace(&mut other, Running::start(&host, &[], "true"));
    }
    let said = text(&bindery(&host, &["limit"]).stdout);
    assert!(said.contains(&one.lease) && said.contains(&other.lease) && said.contains("bindery run"), "{said}");
    let same = shared(&one, &other);
    let cases: [(&[&str], i32, &str); 12] = [
        (&["nobody", "--cpus", "1"], 1, "nothing runs that is called `nobody`"),
        (&[&one.lease[..same], "--cpus", "1"], 1, "is the beginning of several ids"),
        (&[&one.lease], 1, "say what to change"),
        (&["--cpus", "1"], 1, "say which run is to be changed"),
        (&[&one.lease, "--cpus", "0"], 2, "--cpus"),
        (&[&one.lease, "--cpus", "many"], 2, "--cpus"),
        (&[&one.lease, "--pids", "0"], 2, "--pids"),
        (&[&one.lease, "--memory", "lots"], 2, "--memory"),
        (&[&one.lease, "--io-weight", "5"], 2, "--io-weight"),
        (&[&one.lease, "--cpuset", "3-1"], 2, "--cpuset"),
        (&[&one.lease, "--timeout", "3s"], 2, "--timeout"),
        (&[&one.lease, "--memory", "64MiB"], 1, "its memory was not limited from the start"),
    ];
    for (args, code, message) in cases {
        let ran = bindery(&host, &[&["limit"], args].concat());
        assert_eq!(ran.status.code(), Some(code), "{args:?}: {}", text(&ran.stderr));
        assert!(text(&ran.stderr).contains(message), "{args:?}: {}", text(&ran.stderr));
    }
    let lease = one.lease.clone();
    one.end(Signal::SIGTERM);
    let ran = bindery(&host, &["limit", &lease, "--cpus", "1"]);
    assert!(text(&ran.stderr).contains("nothing runs that is called"), "{}", text(&ran.stderr));
    other.end(Signal::SIGTERM);
    let there = |folder: &Path| fs::read_dir(folder).unwrap().len();
    assert_eq!((there(&host.state.roots()), leases(&host).len()), (0, 0));
    assert_eq!(processes_with(&host.dir.path().display().to_string()), [] as [i32; 0]);
}
