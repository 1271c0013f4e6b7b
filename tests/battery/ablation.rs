//! Runs the probes in bindery's sandbox, with all its mechanisms or without some.
//!
//! What the spec can leave out is left out of the spec; the rest is named in the annotation that debug builds know
//! (`src/sandbox/without.rs`). Not mapping host root away (`id-range`) is a range that starts at 0. What is granted to
//! builds is taken away likewise (`grants`).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bindery::sandbox::{self, IdRange, Request, Stdio};
use bindery::state::Lease;
use serde_json::{Value, json};

use crate::grants;
use crate::host::{Host, is_root, own_program};
use crate::probe::{self, Probe};
use crate::stage::{Canaries, IMPATIENT, RUN, Stage};

pub(crate) type Set = BTreeSet<&'static str>;

/// What the spec alone can leave out.
const OF_THE_SPEC: [&str; 19] = [
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
    "dev-size",
    "id-range",
    "disk-limit",
    "memory-limit",
    "pids-limit",
    "time-limit",
    "silence-limit",
    "idle-limit",
    "open-files",
];

/// What is no matter without a mechanism: the host's network has ports of root's, without a process namespace it is the
/// host who reaps, and a queue's file system is its namespace's and mounted in the sandbox's own /dev.
const EXCEPTIONS: [(&str, &str); 4] = [
    ("low-port", "network-namespace"),
    ("zombies", "pid-namespace"),
    ("queues-folder", "ipc-namespace"),
    ("queues-folder", "private-dev"),
];
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
        for folder in ["battery", "etc/folder", "etc/again"] {
            bindery::fs::create_dir_all(&base.join(folder)).unwrap();
        }
        crate::executable::copy(&own_program(), &base.join("battery/probe"));
        bindery::fs::write(&base.join("battery/stage.json"), serde_json::to_string(stage).unwrap()).unwrap();
        for file in ["etc/lower", "etc/again/file"] {
            bindery::fs::write(&base.join(file), "lower").unwrap();
        }
        let read_only = host.folder("ro");
        let names = ["", "bin", "bin/busybox", "tmp", "etc", "etc/lower", "etc/folder", "etc/again", "etc/again/file"];
        let given = names.map(|name| base.join(name));
        fill(&read_only);
        let files = bindery::fs::read_dir(&read_only).unwrap();
        let files = files.into_iter().filter(|path| !path.ends_with("secret"));
        for path in given.into_iter().chain(files).chain([read_only.clone()]) {
            sandbox::range::give(&host.ids, &path).unwrap();
        }
        Self { host }
    }

    /// Makes what one run is given for itself: several use one room at a time.
    fn folder(&self, name: &str, lease: &Lease) -> PathBuf {
        let folder = self.host.folder(&format!("{name}-{}", lease.id()));
        bindery::fs::set_mode(&folder, 0o1777).unwrap();
        sandbox::range::give(&self.host.ids, &folder).unwrap();
        folder
    }

    /// Runs the probes without these mechanisms; by name, what came of each.
    pub(crate) fn run(&self, off: &Set) -> Result<BTreeMap<String, (String, String)>, String> {
        let host = &self.host;
        let mut lease = Lease::take(&host.state, "battery").map_err(|e| e.to_string())?;
        let args = ["/battery/probe", "--ignored", "--exact", "--nocapture", "--test-threads=1", "probes"];
        let mut spec = serde_json::to_value(host.spec(&lease, &args, false)).unwrap();
        let read_only = host.dir.path().join("ro");
        let binds = [
            (read_only, "/mnt/ro", "ro"),
            (self.folder("rw", &lease), "/mnt/rw", "rw"),
            ("/dev".into(), "/mnt/host-dev", "ro"),
        ];
        for (from, to, access) in binds {
            let bind = json!({"destination": to, "source": from, "type": "bind", "options": ["rbind", access, "nosuid", "nodev"]});
            spec["mounts"].as_array_mut().unwrap().push(bind);
        }
        let environment = spec["process"]["env"].as_array_mut().unwrap();
        environment.push(format!("{RUN}={}", lease.id()).into());
        if off.contains("reaping") {
            environment.push(format!("{IMPATIENT}=1").into());
        }
        grants::take_away(&mut spec, off, &self.folder("tmp", &lease));
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

/// Puts in place what the read-only bind shows, also under a name that a hostile archive might have.
pub(crate) fn fill(read_only: &Path) {
    let strange = std::ffi::OsStr::from_bytes(STRANGE);
    for name in [Path::new("file"), Path::new("secret"), Path::new(strange)] {
        bindery::fs::write(&read_only.join(name), "file").unwrap();
    }
    bindery::fs::set_mode(&read_only.join("secret"), 0o600).unwrap();
}

/// The name of a file with all that is dangerous in one.
pub(crate) const STRANGE: &[u8] = b"-rf \x1b[31m\n\xff$(id)`id`%s,:\\..*";

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
    for (limit, name) in
        [("disk-limit", "disk"), ("time-limit", "time"), ("silence-limit", "silence"), ("idle-limit", "idle")]
    {
        if is_off(limit) {
            spec["annotations"].as_object_mut().unwrap().remove(&format!("bindery.{name}"));
        }
    }
    for (limit, name) in [("memory-limit", "memory"), ("pids-limit", "pids")] {
        if is_off(limit) {
            spec["linux"]["resources"].as_object_mut().unwrap().remove(name);
        }
    }
    if is_off("open-files") {
        let limits = spec["process"]["rlimits"].as_array_mut().unwrap();
        limits.retain(|limit| limit["type"] != "RLIMIT_NOFILE");
    }
    let mounts = spec["mounts"].as_array_mut().unwrap();
    // A queue's file system belongs to its namespace; the host's /dev has mounts of its own.
    mounts.retain(|mount| match mount["destination"].as_str().unwrap() {
        "/dev/mqueue" => !is_off("ipc-namespace") && !is_off("private-dev"),
        "/dev/shm" => !is_off("private-dev"),
        _ => true,
    });
    for mount in mounts {
        let (shm, dev) = (mount["destination"] == "/dev/shm", mount["destination"] == "/dev");
        let options = mount["options"].as_array_mut().unwrap();
        options.retain(|option| match option.as_str().unwrap() {
            "nosuid" => !is_off("nosuid"),
            "nodev" => !is_off("nodev"),
            "ro" => !is_off("read-only-binds"),
            option => !((shm && is_off("shm-size") || dev && is_off("dev-size")) && option.starts_with("size")),
        });
    }
    let others = off.iter().copied();
    let others: Vec<_> = others.filter(|name| !OF_THE_SPEC.contains(name) && !grants::is_of_the_spec(name)).collect();
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

/// Rooms with canaries around them.
struct Place {
    room: Room,
    as_host_root: Option<Room>,
    _canaries: Canaries,
    /// The program that empties the rooms is in it.
    _dir: tempfile::TempDir,
}

impl Place {
    /// With a room for each id range that `sets` need.
    fn new(sets: &[Set]) -> Self {
        let (dir, path) = crate::stage::folder();
        let canaries = Canaries::set(&path);
        // The worst case: the program of init is a file of the payload's user.
        let program = path.join("bindery");
        let ours = crate::host::variable("BINDERY_TEST_PROGRAM");
        crate::executable::copy(Path::new(&ours.unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").into())), &program);
        sandbox::range::give(&IdRange::detect(None).unwrap(), &program).unwrap();
        bindery::process::set_this_program(&program);
        let room = Room::new(&canaries.stage, false);
        let host_root = is_root() && sets.iter().any(|set| set.contains("id-range"));
        let as_host_root = host_root.then(|| Room::new(&canaries.stage, true));
        Self { room, as_host_root, _canaries: canaries, _dir: dir }
    }

    /// Runs the probes without each of these sets, and returns what was not as it shall be and which probes failed.
    fn run(&self, sets: Vec<Set>) -> (Vec<String>, Set) {
        let next = Mutex::new(sets.into_iter());
        let (wrong, seen) = (Mutex::new(Vec::new()), Mutex::new(Set::new()));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let Some(off) = next.lock().unwrap().next() else { break };
                        let host_root = self.as_host_root.as_ref().filter(|_| off.contains("id-range"));
                        let found = compare(host_root.unwrap_or(&self.room), &off, &seen);
                        wrong.lock().unwrap().extend(found);
                    }
                });
            }
        });
        (wrong.into_inner().unwrap(), seen.into_inner().unwrap())
    }
}

/// Runs the probes with everything on.
pub(crate) fn everything_on() {
    let sets = vec![Set::new()];
    let (wrong, _) = Place::new(&sets).run(sets);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Switches off each set of mechanisms that guards a probe, and each such set without one of its members.
pub(crate) fn run() {
    let mut sets: BTreeSet<Set> = [Set::new()].into();
    for set in probe::all().filter(|probe| !probe.is_need).flat_map(guards) {
        for member in &set {
            let mut rest = set.clone();
            rest.remove(member);
            sets.insert(rest);
        }
        sets.insert(set);
    }
    sets.retain(|set| !IMPOSSIBLE.iter().any(|alone| set.len() == 1 && set.contains(alone)));
    finish(sets.into_iter().collect(), false);
}

/// Takes grants away in groups that tell each from every other.
pub(crate) fn each_grant_missing() {
    assert_eq!(grants::mistakes(), [] as [&str; 0], "grants that no need names, or the reverse");
    finish(grants::groups(), true);
}

fn finish(sets: Vec<Set>, needs: bool) {
    let only = crate::host::variable("BATTERY_ONLY");
    let is_asked_for = |set: &Set| only.as_ref().is_none_or(|o| o.split_whitespace().collect::<BTreeSet<_>>() == *set);
    let mut chosen: Vec<Set> = sets.into_iter().filter(is_asked_for).collect();
    if let (Some(only), true, true) = (&only, needs, chosen.is_empty()) {
        chosen
            .push(grants::all().into_iter().filter(|name| only.split_whitespace().any(|word| word == *name)).collect());
    }
    let (mut wrong, seen) = Place::new(&chosen).run(chosen);
    if only.is_none() {
        let all = probe::all().filter(|probe| probe.is_need == needs);
        let never = all.filter(|probe| probe.exists() && !guards(probe).is_empty() && !seen.contains(probe.name));
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
            None => wrong.push(format!("`{}` did not run, without {label}", probe.name)),
            Some((word, detail)) if (word != "holds") != shall_fail => {
                wrong.push(format!("`{}` {word}: {detail}, without {label}", probe.name));
            }
            Some(_) if shall_fail => {
                seen.lock().unwrap().insert(probe.name);
            }
            Some(_) => {}
        }
    }
    wrong
}
