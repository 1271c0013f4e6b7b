//! OCI bundles: a config.json of anybody's, written in the terms of the sandbox.
//!
//! Every field of the config.json is taken out of it as it is understood; what is left over in the end is refused, so
//! that nothing is ignored, also nothing that a later version of the OCI runtime spec adds. All refusals come at once,
//! each with what to change. What is asked for is given as it is or stricter, never weaker: docs/run.md has the table.
//!
//! 1. a config.json of our own (an overlay on `/` is its first mount) keeps everything but its writable folder
//! 2. otherwise `root` becomes the first mount: read-only, or thrown away afterwards, as the lowest layer of an overlay;
//!    written to, as the root itself
//! 3. mounts, namespaces, capabilities and the rest are read one by one (`mounts.rs`, `process.rs`, `linux.rs`)

use std::fmt;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Map, Value, json};

pub use export::{ROOTFS, export};
use take::Object;

mod export;
mod filter;
mod linux;
mod mounts;
mod process;
mod take;
#[cfg(test)]
mod tests;

/// The annotation that says what becomes of what is written in a root that is not read-only: `keep` (the default, as for
/// every OCI runtime) writes it into the bundle's root; `discard` throws it away.
const WRITES: &str = "bindery.writes";

/// What a bundle is run with.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The folder of the bundle, absolute.
    pub folder: &'a Path,
    /// The folder, relative to the sandbox's base folder, that gets what is thrown away.
    pub upper: &'a Path,
    /// The host's user id of the id range's 0.
    pub uid: u32,
    /// The host's group id of the id range's 0.
    pub gid: u32,
    /// Whether there is a terminal.
    pub terminal: bool,
}

/// Returns the sandbox's spec for a bundle's config.json.
pub fn adopt(config: &str, around: &Around<'_>) -> Result<Spec, Refused> {
    // The types first: what they do not accept is no config.json at all.
    serde_json::from_str::<Spec>(config).map_err(|e| Refused::of("config.json", e.to_string(), "mend it"))?;
    let value: Value =
        serde_json::from_str(config).map_err(|e| Refused::of("config.json", e.to_string(), "mend it"))?;
    let Value::Object(fields) = value else {
        return Err(Refused::of("config.json", "it is no object", "mend it"));
    };
    let (spec, reasons) =
        if is_own(&fields) { (own(fields, around), Vec::new()) } else { foreign(Object::new("", fields), around) };
    if !reasons.is_empty() {
        return Err(Refused { reasons });
    }
    serde_json::from_value(spec).map_err(|e| Refused::of("config.json", e.to_string(), "mend it"))
}

fn is_own(fields: &Map<String, Value>) -> bool {
    let first = fields.get("mounts").and_then(|mounts| mounts.get(0));
    first.is_some_and(|first| first["destination"] == "/" && first["type"] == "overlay")
}

/// Returns a spec of ours with another writable folder: its own went with the lease it belonged to.
fn own(fields: Map<String, Value>, around: &Around<'_>) -> Value {
    let mut spec = Value::Object(fields);
    if let Some(options) = spec.pointer_mut("/mounts/0/options").and_then(Value::as_array_mut) {
        for option in options {
            for (key, folder) in [("upperdir=", "upper"), ("workdir=", "work")] {
                if option.as_str().is_some_and(|option| option.starts_with(key)) {
                    *option = format!("{key}{}", around.upper.join(folder).display()).into();
                }
            }
        }
    }
    spec
}

fn foreign(mut config: Object, around: &Around<'_>) -> (Value, Vec<Reason>) {
    let version = config.text("ociVersion").unwrap_or_default();
    if !version.starts_with("1.") {
        config.refuse(
            "ociVersion",
            format!("`{version}` is not known here"),
            "write the config.json for a 1.x version",
        );
    }
    let mut annotations = config.object("annotations");
    let host_network = annotations.peek("bindery.network") == Some("host");
    let discard = match annotations.text(WRITES).as_deref() {
        None | Some("keep") => false,
        Some("discard") => true,
        Some(other) => {
            annotations.refuse(WRITES, format!("`{other}`"), "say `keep` or `discard`");
            false
        }
    };
    // Whoever reads annotations must pass over those of others.
    let ours: Map<_, _> = annotations.rest().into_iter().filter(|(name, _)| name.starts_with("bindery.")).collect();
    for name in ours.keys().filter(|name| name.starts_with("bindery.emulator.")) {
        annotations.refuse(
            name,
            "an emulator comes from an image",
            "use `bindery run --image` with one for that machine",
        );
    }
    let mut root = config.object("root");
    let (first, readonly) = first_mount(&mut root, around, discard);
    let mut mounted = mounts::read(config.list("mounts"), around, host_network);
    mounted.mounts.insert(0, first);
    let mut process = config.object("process");
    let processed = process::read(&mut process, around);
    let mut linux = config.object("linux");
    let linuxed = linux::read(&mut linux, around, host_network, mounted.hide);
    let hostname = config.text("hostname").unwrap_or_else(|| super::HOSTNAME.to_string());
    let mut reasons = Vec::new();
    for part in [root, annotations, process, linux] {
        reasons.extend(part.end());
    }
    reasons.extend(mounted.reasons);
    reasons.extend(config.end());
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "root", "readonly": readonly},
        "hostname": hostname,
        "mounts": mounted.mounts,
        "process": processed,
        "linux": linuxed,
        "annotations": ours,
    });
    (spec, reasons)
}

/// Returns the mount on `/`, and whether the root is read-only.
fn first_mount(root: &mut Object, around: &Around<'_>, discard: bool) -> (Value, bool) {
    let path = root.text("path").unwrap_or_default();
    let readonly = root.flag("readonly").unwrap_or(false);
    if path.is_empty() {
        root.refuse("path", "there is none", "name the folder of the root");
    }
    let folder = around.folder.join(path);
    let Some(folder) = folder.to_str() else {
        root.refuse("path", "it is no UTF-8", "rename it");
        return (Value::Null, readonly);
    };
    if !readonly && !discard {
        return (json!({"destination": "/", "type": "bind", "source": folder, "options": ["bind", "rw"]}), false);
    }
    let mut options = vec![format!("lowerdir={folder}")];
    if !readonly {
        options.push(format!("upperdir={}", around.upper.join("upper").display()));
        options.push(format!("workdir={}", around.upper.join("work").display()));
    }
    options.extend(["userxattr", "redirect_dir=nofollow", "volatile"].map(str::to_string));
    if folder.contains([':', ',', '\\']) {
        root.refuse("path", format!("layers cannot have a colon, comma or backslash: `{folder}`"), "rename the folder");
    }
    (json!({"destination": "/", "type": "overlay", "source": "overlay", "options": options}), readonly)
}

/// A field that asks for what a sandbox does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The field's path in the config.json.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
    /// What to change.
    pub instead: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}; {}", self.field, self.why, self.instead)
    }
}

/// A bundle asks for what a sandbox does not do.
#[derive(Debug, thiserror::Error)]
#[error("the config.json asks for what a sandbox does not do: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Refused {
    /// All that is wrong with it.
    pub reasons: Vec<Reason>,
}

impl Refused {
    fn of(field: &str, why: impl Into<String>, instead: &str) -> Self {
        Self { reasons: vec![Reason { field: field.to_string(), why: why.into(), instead: instead.to_string() }] }
    }
}
