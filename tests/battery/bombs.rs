//! Probes from outside: bombs, each a little larger than what it may use, and far smaller than what would hurt a host
//! that has no limit.

use bindery::sandbox::{SandboxError, Stopped};
use serde_json::{Value, json};

use crate::host::{Host, is_root};
use crate::outside::{Outside, Played, Try, outside, play};
use crate::probe::Outcome;

pub(crate) const PROBES: &[Outside] = &[
    outside("disk-bomb", "fills the host's disk", "disk-limit", |tried| {
        disk(tried, "dd if=/dev/zero of=/file bs=1M count=64 2>/dev/null")
    }),
    outside("file-bomb", "uses up the files that the host's disk can have", "disk-limit", |tried| {
        disk(tried, "mkdir /many; seq 3000 | sed s,^,/many/, | xargs touch 2>/dev/null")
    }),
    outside("memory-bomb", "uses up the host's memory", "memory-limit", memory),
    outside("fork-bomb", "uses up the host's processes", "pids-limit", processes),
    outside("descriptor-bomb", "opens more files than it may, by raising its limit first", "open-files", descriptors),
    outside("shm-bomb", "fills the host's memory through /dev/shm", "shm-size", |tried| {
        let size = |spec: &mut Value| set_size(spec, "/dev/shm", "size=1m");
        fills(tried, "/dev/shm/file", size)
    }),
    outside("dev-bomb", "fills the host's memory through /dev", "dev-size", |tried| fills(tried, "/dev/file", |_| {})),
];

/// What a script says that did all it wanted.
const DONE: &str = "it is done";

/// Runs a script until it says that it did all it wanted.
fn explode(
    host: &Host,
    tried: &Try,
    script: &str,
    edit: impl FnOnce(&mut Value),
    wait: bool,
) -> Result<Played, SandboxError> {
    // Whoever looks now and then is to have the time for it.
    let script = format!("{script} && echo {DONE}; {}", if wait { "sleep 1000" } else { "true" });
    play(host, &tried.off, &["sh", "-c", &script], edit, &mut |text| tried.fails && text.contains(DONE))
}

fn got_through(played: &Played) -> Outcome {
    if played.text.contains(DONE) { Err(format!("{:?}", played.exit)) } else { Ok(format!("{:?}", played.status())) }
}

fn disk(tried: &Try, script: &str) -> Outcome {
    let mut host = Host::new();
    host.limits.disk = Some(8 << 20);
    let played = explode(&host, tried, script, |_| {}, true).map_err(|e| e.to_string())?;
    // An ordinary user's may write more before anybody looks.
    if played.exit.stopped == Some(Stopped::Disk) { Ok(String::new()) } else { got_through(&played) }
}

/// A limit that cannot be given is refused, which keeps the bomb from going off, too.
fn or_refused(result: Result<Played, SandboxError>) -> Outcome {
    match result {
        Ok(played) => got_through(&played),
        Err(SandboxError::Limit(e)) if !is_root() => Ok(format!("refused: {e}")),
        Err(e) => Err(e.to_string()),
    }
}

fn memory(tried: &Try) -> Outcome {
    let mut host = Host::new();
    host.limits.memory = Some(64 << 20);
    // `tail` keeps as much as it shall print.
    let script = "test $(head -c 100000000 /dev/zero | tail -c 100000000 | wc -c) = 100000000";
    or_refused(explode(&host, tried, script, |_| {}, false))
}

fn processes(tried: &Try) -> Outcome {
    let mut host = Host::new();
    host.limits.pids = Some(20);
    // Ids below 300 are not counted where the kernel limits ids.
    let script = "i=0; while [ $i -lt 400 ]; do sleep 1000 & i=$((i+1)); done";
    or_refused(explode(&host, tried, script, |_| {}, false))
}

fn descriptors(tried: &Try) -> Outcome {
    let host = Host::new();
    let edit = |spec: &mut Value| {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64});
        spec["process"]["rlimits"].as_array_mut().unwrap().push(limit);
    };
    // All at once.
    let script = ": >/tmp/f; ulimit -n 300 2>/dev/null; paste $(yes /tmp/f | head -n 200) >/dev/null 2>&1";
    or_refused(explode(&host, tried, script, edit, false))
}

fn set_size(spec: &mut Value, to: &str, size: &str) {
    for mount in spec["mounts"].as_array_mut().unwrap().iter_mut().filter(|mount| mount["destination"] == to) {
        let options = mount["options"].as_array_mut().unwrap();
        options.retain(|option| !option.as_str().unwrap().starts_with("size="));
        options.push(size.into());
    }
}

fn fills(tried: &Try, file: &str, edit: impl FnOnce(&mut Value)) -> Outcome {
    let script = format!("dd if=/dev/zero of={file} bs=64k count=32 2>/dev/null");
    or_refused(explode(&Host::new(), tried, &script, edit, false))
}
