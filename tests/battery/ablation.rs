//! Runs the probes in bindery's sandbox, with all its mechanisms or without some.
//!
//! What the spec can leave out is left out of the spec; the rest is named in the annotation that debug builds know
//! (`src/sandbox/without.rs`). Not mapping host root away (`id-range`) is a range that starts at 0.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bindery::sandbox::{self, IdRange, Request, Stdio};
use bindery::state::Lease;
use serde_json::{Value, json};

use crate::host::{Host, is_root, own_program};
use crate::probe::{self, Probe};
use crate::stage::{Canaries, Stage};

pub(crate) type Set = BTreeSet<&'static str>;

/// What the spec alone can leave out.
const OF_THE_SPEC: [&str; 11] = [
    "filter",
    "capabilities",
    "network-namespace",
    "masked-paths",
    "read-only-paths",
    "read-only-binds",
    "umask",
    "oom-score",
    "core-limit",
    "shm-size",
    "id-range",
];

/// What is no matter without a mechanism: the host's network has ports of root's, and without a process namespace it is
/// the host who reaps.
const EXCEPTIONS: [(&str, &str); 2] = [("low-port", "network-namespace"), ("zombies", "pid-namespace")];
/// What cannot be switched off alone: the kernel lets nobody create a user namespace who is not at the root of its mounts.
const IMPOSSIBLE: [&str; 1] = ["old-root-detached"];

/// A host whose root has the probes, for one id range.
pub(crate) struct Room {
    host: Host,
}

impl Room {
    pub(crate) fn new(stage: &Stage, as_host_root: bool) -> Self {
        let mut host = Host::new();
        if as_host_root {
            host.ids = serde_json::from_value::<IdRange>(json!({"uids": 0, "gids": 0, "user": null})).unwrap();
        }
        let base = host.base();
        for folder in ["battery", "etc/folder"] {
            bindery::fs::create_dir_all(&base.join(folder)).unwrap();
        }
        crate::executable::copy(&own_program(), &base.join("battery/probe"));
        bindery::fs::write(&base.join("battery/stage.json"), serde_json::to_string(stage).unwrap()).unwrap();
        bindery::fs::write(&base.join("etc/lower"), "lower").unwrap();
        let (read_only, writable) = (host.folder("ro"), host.folder("rw"));
        bindery::fs::write(&read_only.join("file"), "file").unwrap();
        bindery::fs::write(&read_only.join("secret"), "secret").unwrap();
        bindery::fs::set_mode(&read_only.join("secret"), 0o600).unwrap();
        let names =
            ["base", "base/bin", "base/bin/busybox", "base/tmp", "base/etc", "base/etc/lower", "base/etc/folder"];
        let given = names.map(|name| host.state.state().join(name));
        for path in given.into_iter().chain([read_only.join("file"), read_only.clone(), writable.clone()]) {
            sandbox::range::give(&host.ids, &path).unwrap();
        }
        host.bind(&read_only, "/mnt/ro", false);
        host.bind(&writable, "/mnt/rw", true);
        host.bind(Path::new("/dev"), "/mnt/host-dev", false);
        Self { host }
    }

    /// Runs the probes without these mechanisms; by name, what came of each.
    pub(crate) fn run(&self, off: &Set) -> Result<BTreeMap<String, (String, String)>, String> {
        let host = &self.host;
        let mut lease = Lease::take(&host.state, "battery").map_err(|e| e.to_string())?;
        let args = ["/battery/probe", "--ignored", "--exact", "--nocapture", "--test-threads=1", "probes"];
        let mut spec = serde_json::to_value(host.spec(&lease, &args, false)).unwrap();
        take_away(&mut spec, off);
        let spec = serde_json::from_value(spec).unwrap();
        let (ids, base, cancel) = (&host.ids, host.state.state(), &AtomicBool::new(false));
        let mut text = Vec::new();
        let stdio = Stdio::Capture(&mut |_, bytes| text.extend_from_slice(bytes));
        let exit = sandbox::run(Request { spec: &spec, ids, base, lease: &mut lease, stdio, cancel });
        let text = String::from_utf8_lossy(&text).into_owned();
        exit.map_err(|e| format!("{e}: {text}"))?;
        read(&text)
    }
}

/// Reads what the probe program printed.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, (String, String)>, String> {
    if !text.contains("\nend of probes\n") {
        return Err(format!("the probes did not come to their end: {text}"));
    }
    let lines = text.lines().filter_map(|line| line.strip_prefix("probe "));
    let parts = lines.filter_map(|line| {
        let mut words = line.splitn(3, ' ');
        Some((words.next()?.to_string(), (words.next()?.to_string(), words.next().unwrap_or_default().to_string())))
    });
    Ok(parts.collect())
}

/// Takes mechanisms from a spec.
pub(crate) fn take_away(spec: &mut Value, off: &Set) {
    let is_off = |name: &str| off.contains(name);
    if is_off("filter") {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": []
        });
    }
    if is_off("capabilities") {
        let all: Vec<_> = caps::all().into_iter().map(|capability| capability.to_string()).collect();
        for set in ["bounding", "permitted", "effective"] {
            spec["process"]["capabilities"][set] = json!(all);
        }
    }
    if is_off("network-namespace") {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
        spec["annotations"]["bindery.network"] = "host".into();
    }
    if is_off("masked-paths") {
        spec["linux"]["maskedPaths"] = json!([]);
    }
    if is_off("read-only-paths") {
        spec["linux"]["readonlyPaths"] = json!([]);
    }
    if is_off("umask") {
        spec["process"]["user"]["umask"] = 0.into();
    }
    if is_off("oom-score") {
        spec["process"].as_object_mut().unwrap().remove("oomScoreAdj");
    }
    if is_off("core-limit") {
        spec["process"]["rlimits"] = json!([]);
    }
    if is_off("uts-namespace") {
        spec.as_object_mut().unwrap().remove("hostname");
    }
    let mounts = spec["mounts"].as_array_mut().unwrap();
    // A queue's file system belongs to its namespace; the host's /dev has mounts of its own.
    mounts.retain(|mount| match mount["destination"].as_str().unwrap() {
        "/dev/mqueue" => !is_off("ipc-namespace") && !is_off("private-dev"),
        "/dev/shm" => !is_off("private-dev"),
        _ => true,
    });
    for mount in mounts {
        let shm = mount["destination"] == "/dev/shm";
        let options = mount["options"].as_array_mut().unwrap();
        options.retain(|option| match option.as_str().unwrap() {
            "nosuid" => !is_off("nosuid"),
            "nodev" => !is_off("nodev"),
            "ro" => !is_off("read-only-binds"),
            option => !(shm && is_off("shm-size") && option.starts_with("size")),
        });
    }
    let others: Vec<_> = off.iter().copied().filter(|name| !OF_THE_SPEC.contains(name)).collect();
    if !others.is_empty() {
        spec["annotations"]["bindery.without"] = others.join(",").into();
    }
}

/// Returns the alternatives of a probe's guards that hold for whoever runs the tests.
fn guards(probe: &Probe) -> Vec<Set> {
    alternatives(probe.guards)
}

/// Reads the text of guards.
pub(crate) fn alternatives(text: &'static str) -> Vec<Set> {
    let mut all = Vec::new();
    for alternative in text.split('|').map(str::trim).filter(|text| !text.is_empty()) {
        let (whose, words) = alternative.split_once(':').unwrap_or(("", alternative));
        if whose.is_empty() || (whose == "root") == is_root() {
            all.push(words.split_whitespace().collect());
        }
    }
    all
}

/// Without no_new_privs the kernel takes no filter, and the filter has both parts.
fn with_what_follows(off: &Set) -> Set {
    let mut all = off.clone();
    if all.contains("no-new-privileges") {
        all.insert("filter");
    }
    if all.contains("filter") {
        all.insert("i386-filter");
    }
    all
}

/// Switches off each set of mechanisms that guards a probe, and each such set without one of its members.
pub(crate) fn run() {
    let (_dir, dir) = crate::stage::folder();
    let canaries = Canaries::set(&dir);
    // The worst case: the program of init is a file of the payload's user.
    let program = dir.join("bindery");
    let ours = crate::host::variable("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").into());
    crate::executable::copy(Path::new(&ours), &program);
    sandbox::range::give(&IdRange::detect(None).unwrap(), &program).unwrap();
    bindery::process::set_this_program(&program);
    let room = Room::new(&canaries.stage, false);
    let as_host_root = is_root().then(|| Room::new(&canaries.stage, true));
    let mut sets: BTreeSet<Set> = [Set::new()].into();
    for set in probe::all().flat_map(guards) {
        for member in &set {
            let mut rest = set.clone();
            rest.remove(member);
            sets.insert(rest);
        }
        sets.insert(set);
    }
    sets.retain(|set| !IMPOSSIBLE.iter().any(|alone| set.len() == 1 && set.contains(alone)));
    let only = crate::host::variable("BATTERY_ONLY");
    let sets: Vec<Set> = sets
        .into_iter()
        .filter(|set| only.as_ref().is_none_or(|only| only.split_whitespace().collect::<BTreeSet<_>>() == *set))
        .collect();
    let next = Mutex::new(sets.into_iter());
    let wrong = Mutex::new(Vec::new());
    let seen = Mutex::new(Set::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(off) = next.lock().unwrap().next() else { break };
                    let room = if off.contains("id-range") { as_host_root.as_ref().unwrap() } else { &room };
                    let found = compare(room, &off, &seen);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    let mut wrong = wrong.into_inner().unwrap();
    if only.is_none() {
        let never =
            probe::all().filter(|p| !p.is_need() && p.exists() && !guards(p).is_empty() && !seen.contains(p.name));
        wrong.extend(never.map(|probe| format!("nothing makes `{}` fail", probe.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn compare(room: &Room, off: &Set, seen: &Mutex<Set>) -> Vec<String> {
    let label = if off.is_empty() { "nothing".to_string() } else { off.iter().copied().collect::<Vec<_>>().join(" ") };
    let results = match room.run(off) {
        Ok(results) => results,
        Err(e) => return vec![format!("without {label}: {e}")],
    };
    let off = with_what_follows(off);
    let mut wrong = Vec::new();
    for probe in probe::all() {
        if EXCEPTIONS.iter().any(|(name, without)| *name == probe.name && off.contains(without)) {
            continue;
        }
        let shall_fail = guards(probe).iter().any(|set| set.is_subset(&off)) && probe.exists();
        match results.get(probe.name) {
            None => wrong.push(format!("without {label}: `{}` did not run", probe.name)),
            Some((word, detail)) if (word != "holds") != shall_fail => {
                wrong.push(format!("without {label}: `{}` {word}: {detail}", probe.name));
            }
            Some(_) if shall_fail => {
                seen.lock().unwrap().insert(probe.name);
            }
            Some(_) => {}
        }
    }
    wrong
}
