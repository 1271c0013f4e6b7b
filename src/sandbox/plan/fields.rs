//! The spec's fields that have an effect here. Any other that is set is refused, also one that a later OCI version adds.

use oci_spec::runtime::Spec;
use serde_json::Value;

use crate::sandbox::plan::Unsupported;

/// Paths in the spec's JSON; members of lists have their list's path, `*` is any key.
const KNOWN: &[&str] = &[
    "annotations.*",
    "hostname",
    "linux.maskedPaths",
    "linux.namespaces.type",
    "linux.personality.domain",
    "linux.readonlyPaths",
    "linux.resources.blockIO.weight",
    "linux.resources.cpu.cpus",
    "linux.resources.cpu.period",
    "linux.resources.cpu.quota",
    "linux.resources.memory.limit",
    "linux.resources.memory.swap",
    "linux.resources.pids.limit",
    "linux.seccomp.architectures",
    "linux.seccomp.defaultAction",
    "linux.seccomp.defaultErrnoRet",
    "linux.seccomp.syscalls.action",
    "linux.seccomp.syscalls.args.index",
    "linux.seccomp.syscalls.args.op",
    "linux.seccomp.syscalls.args.value",
    "linux.seccomp.syscalls.args.valueTwo",
    "linux.seccomp.syscalls.errnoRet",
    "linux.seccomp.syscalls.names",
    "mounts.destination",
    "mounts.options",
    "mounts.source",
    "mounts.type",
    "ociVersion",
    "process.args",
    "process.capabilities.ambient",
    "process.capabilities.bounding",
    "process.capabilities.effective",
    "process.capabilities.inheritable",
    "process.capabilities.permitted",
    "process.cwd",
    "process.env",
    "process.noNewPrivileges",
    "process.oomScoreAdj",
    "process.rlimits.hard",
    "process.rlimits.soft",
    "process.rlimits.type",
    "process.terminal",
    "process.user.additionalGids",
    "process.user.gid",
    "process.user.uid",
    "process.user.umask",
    "root.path",
    "root.readonly",
];

/// Refuses a spec that sets a field which has no effect here.
pub(super) fn check(spec: &Spec) -> Result<(), Unsupported> {
    unknown(spec).into_iter().next().map_or(Ok(()), Err)
}

/// Returns all fields that are set and have no effect here.
pub(super) fn unknown(spec: &Spec) -> Vec<Unsupported> {
    let mut found = Vec::new();
    match serde_json::to_value(spec) {
        Ok(value) => visit(&value, &mut String::new(), &mut found),
        Err(e) => found.push(Unsupported::value("spec", e)),
    }
    found
}

fn visit(value: &Value, path: &mut String, found: &mut Vec<Unsupported>) {
    match value {
        Value::Null => {}
        // As long as the names of all system calls, and asked once.
        Value::Array(items) if items.iter().all(Value::is_string) && (items.is_empty() || known(path)) => {}
        Value::Array(items) => items.iter().for_each(|item| visit(item, path, found)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let above = path.len();
            path.push_str(if above == 0 { "" } else { "." });
            path.push_str(key);
            visit(value, path, found);
            path.truncate(above);
        }),
        _ if known(path) => {}
        _ => found.push(Unsupported::field(path)),
    }
}

fn known(path: &str) -> bool {
    KNOWN.iter().any(|known| known.strip_suffix('*').map_or(*known == path, |start| path.starts_with(start)))
}
