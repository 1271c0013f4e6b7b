//! `linux` of a bundle: namespaces, resources, what of /proc and /sys is covered.

use serde_json::{Map, Value, json};

use crate::root::bundle::Around;
use crate::root::bundle::take::Object;
use crate::root::{MASKED, READONLY, seccomp};

/// How many ids a range has, and how many of them a payload can be.
const RANGE: [u64; 2] = [65536, 65535];
/// Namespaces that have to be asked for, because a program that is to share the host's would not work in its own.
const ASKED_FOR: [&str; 4] = ["mount", "pid", "ipc", "uts"];

pub(super) fn read(linux: &mut Object, around: &Around<'_>, host_network: bool, hide: Vec<String>) -> Value {
    let mut out = Map::new();
    out.insert("namespaces".into(), namespaces(linux, host_network));
    for (name, start) in [("uidMappings", around.uid), ("gidMappings", around.gid)] {
        let mappings = linux.list(name);
        let same = |mapping: &Value| {
            mapping["containerID"] == 0
                && mapping["hostID"] == start
                && RANGE.contains(&mapping["size"].as_u64().unwrap_or(0))
        };
        if !matches!(&mappings[..], [] | [_]) || !mappings.iter().all(same) {
            let why = format!("ids are mapped to the id range of this host, from {start} on");
            linux.refuse(name, why, "remove it");
        }
    }
    let mut covered = |name: &str, ours: &[&str], more: Vec<String>| {
        let mut paths: Vec<String> = ours.iter().map(ToString::to_string).collect();
        paths.extend(more);
        paths.extend(linux.texts(name));
        let mut seen = std::collections::HashSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        out.insert(name.to_string(), paths.into());
    };
    covered("maskedPaths", &MASKED, hide);
    covered("readonlyPaths", &READONLY, Vec::new());
    let ours = serde_json::to_value(seccomp::profile()).expect("a filter is plain data");
    if linux.take("seccomp").is_some_and(|theirs| theirs != ours) {
        linux.refuse("seccomp", "the sandbox has a filter of its own (docs/sandbox.md)", "remove it");
    }
    out.insert("seccomp".into(), ours);
    if let Some(resources) = resources(linux) {
        out.insert("resources".into(), resources);
    }
    if let Some(personality) = linux.take("personality") {
        out.insert("personality".into(), personality);
    }
    match linux.text("rootfsPropagation").as_deref() {
        // Always private, which lets even less through than the others.
        None | Some("private" | "rprivate" | "slave" | "rslave") => {}
        Some(other) => {
            let why = format!("mounts are always private here, not `{other}`");
            linux.refuse("rootfsPropagation", why, "remove it");
        }
    }
    out.into()
}

fn namespaces(linux: &mut Object, host_network: bool) -> Value {
    let mut listed = Vec::new();
    for namespace in linux.list("namespaces") {
        let typ = namespace["type"].as_str().unwrap_or_default().to_string();
        if let Some(path) = namespace["path"].as_str().filter(|path| !path.is_empty()) {
            linux.refuse("namespaces", format!("the {typ} namespace at `{path}` is not joined"), "remove its `path`");
        }
        if !["mount", "pid", "ipc", "uts", "user", "cgroup", "network"].contains(&typ.as_str()) {
            linux.refuse("namespaces", format!("there is no {typ} namespace here"), "remove it");
        }
        listed.push(typ);
    }
    let has = |typ: &str| listed.iter().any(|listed| listed == typ);
    let missing: Vec<_> = ASKED_FOR.into_iter().filter(|typ| !has(typ)).collect();
    let network = has("network");
    for typ in missing {
        let why = format!("without the {typ} namespace it would share the host's, which is never done");
        linux.refuse("namespaces", why, format!("add `{{\"type\": \"{typ}\"}}`"));
    }
    match (network, host_network) {
        (true, false) | (false, true) => {}
        (false, false) => linux.refuse(
            "namespaces",
            "without a network namespace it would use the host's network",
            "add `{\"type\": \"network\"}`, or, if that is meant, the annotation `bindery.network` = `host`",
        ),
        (true, true) => linux.refuse(
            "namespaces",
            "it lists a network namespace, and the annotation `bindery.network` asks for the host's",
            "remove one of them",
        ),
    }
    let all = ["user", "mount", "pid", "ipc", "uts", "cgroup"].into_iter().chain((!host_network).then_some("network"));
    all.map(|typ| json!({"type": typ})).collect()
}

/// Passes limits on, which the sandbox looks at itself, without the rules on devices that hold here anyhow.
fn resources(linux: &mut Object) -> Option<Value> {
    let mut resources = linux.object("resources");
    let devices = resources.list("devices");
    if devices.iter().any(|rule| rule["allow"] != false) {
        linux.refuse("resources.devices", "no device but the usual ones is ever there", "allow none");
    }
    let rest = resources.rest();
    (!rest.is_empty()).then(|| rest.into())
}
