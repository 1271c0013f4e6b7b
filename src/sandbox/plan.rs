//! Reads an OCI runtime spec into a plan: exactly what the processes of the sandbox will do, and nothing left open.
//!
//! What the spec asks for and a sandbox cannot do is refused by name, never ignored: first every field is looked up in
//! the list of those that have an effect here ([`fields`]), then their values are read.
//!
//! What the OCI has no field for is said by annotations:
//!
//! ```text
//! bindery.network   none (default; a network namespace of its own) or host
//! bindery.time      seconds until the payload is stopped
//! bindery.silence   seconds without output until it is stopped
//! bindery.idle      seconds without output and without processor time until it is stopped
//! bindery.disk      bytes that the root's writable folder may hold
//! bindery.yield     true: make way for others when they wait (default: false)
//! bindery.foreign   none: what the host has registered for programs of other machines does not count (Linux 6.7)
//! bindery.emulator.MACHINE   the program, below the base folder, that runs another machine's programs ([`emulate`])
//! ```
//!
//! Everything else that matters has no switch: two user namespaces, a pid 1 of ours, seccomp, no new privileges. (Debug
//! builds know one more annotation, with which a test takes such things away: [`without`].)

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxNamespaceType, LinuxPersonalityDomain, PosixRlimitType, Spec,
};

use crate::sandbox::emulate::{self, Emulator};
use crate::sandbox::seccomp::{self, Program};
use crate::sandbox::without::{self, Without};
pub(super) use limits::Limits;
pub(super) use mounts::{Kind, Mount, Overlay};

mod fields;
mod limits;
mod mounts;
#[cfg(test)]
mod tests;

/// What to set up and run. Who only passes it on need not know what the payload becomes, `P`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Plan<P = Process> {
    pub(super) readonly: bool,
    pub(super) overlay: Overlay,
    pub(super) mounts: Vec<Mount>,
    pub(super) masked: Vec<PathBuf>,
    pub(super) readonly_paths: Vec<PathBuf>,
    pub(super) hostname: Option<String>,
    /// The host's network instead of one with nothing but `lo`.
    pub(super) host_network: bool,
    /// The highest process id, where that is how processes are limited.
    pub(super) pid_max: Option<u64>,
    pub(super) limits: Limits,
    /// Whether the payload gets a terminal of its own.
    pub(super) terminal: bool,
    pub(super) process: P,
    /// What a test has switched off.
    pub(super) without: Without,
    /// What runs programs of other machines.
    pub(super) emulators: Vec<Emulator>,
    /// Whether nothing else does, of what the host has registered.
    pub(super) own_emulators: bool,
    /// Groups of files in the root of which it is to be seen whether they are opened; no spec says so.
    pub(super) watch: Vec<Vec<PathBuf>>,
}

/// What the payload becomes.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Process {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) umask: u32,
    /// Numbers of capabilities (linux/capability.h).
    pub(super) capabilities: Vec<u8>,
    /// Resource, soft and hard limit.
    pub(super) rlimits: Vec<(PosixRlimitType, u64, u64)>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) linux32: bool,
    #[serde(with = "seccomp::text")]
    pub(super) seccomp: Program,
}

/// Returns all that a sandbox cannot do of what a spec asks for, or the first of the values where the fields are right.
pub fn unsupported(spec: &Spec) -> Vec<Unsupported> {
    let fields = fields::unknown(spec);
    if fields.is_empty() { Plan::read(spec).err().into_iter().collect() } else { fields }
}

impl Plan {
    /// Returns the plan for a spec.
    pub(super) fn read(spec: &Spec) -> Result<Self, Unsupported> {
        fields::check(spec)?;
        let process = spec.process().as_ref().ok_or(Unsupported::missing("process"))?;
        let linux = spec.linux().as_ref().ok_or(Unsupported::missing("linux"))?;
        let root = spec.root().as_ref().ok_or(Unsupported::missing("root"))?;
        // Where it is mounted nobody but init ever sees; a name that means some place of the host's is not to be ignored.
        let is_name = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        if !root.path().to_str().is_some_and(is_name) {
            return Err(Unsupported::value("root.path", root.path().display()));
        }
        let (host_network, mut limits) = annotations(spec)?;
        let without = Without::read(spec)?;
        if let Some(resources) = linux.resources() {
            limits::read(resources, &mut limits)?;
        }
        namespaces(linux.namespaces().iter().flatten().map(|ns| ns.typ()), host_network)?;
        if process.no_new_privileges() != Some(true) {
            return Err(Unsupported::missing("process.noNewPrivileges: true"));
        }
        let seccomp = linux.seccomp().as_ref().ok_or(Unsupported::missing("linux.seccomp"))?;
        let capabilities = process.capabilities().as_ref().ok_or(Unsupported::missing("process.capabilities"))?;
        let (overlay, mounts) = mounts::read(spec.mounts().as_deref().unwrap_or_default())?;
        let readonly = root.readonly().unwrap_or(false);
        if overlay.upper.is_none() && !readonly && !overlay.direct {
            return Err(Unsupported::missing("mounts.options: upperdir (or root.readonly)"));
        }
        if overlay.direct && limits.disk.is_some() {
            return Err(Unsupported::value("annotations.bindery.disk", "with a root that has no layer of its own"));
        }
        let user = process.user();
        let args = process.args().clone().unwrap_or_default();
        let texts = args.iter().chain(process.env().iter().flatten());
        if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
            return Err(Unsupported::value("process.args or process.env", format!("a NUL character in {text:?}")));
        }
        if args.first().is_none_or(String::is_empty) {
            return Err(Unsupported::missing("process.args"));
        }
        let env = process.env().iter().flatten().map(|variable| {
            let split = variable.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, value) = split.ok_or_else(|| Unsupported::value("process.env", variable))?;
            Ok((name.to_string(), value.to_string()))
        });
        let linux32 = match linux.personality().as_ref().map(|p| p.domain()) {
            Some(LinuxPersonalityDomain::PerLinux32) => true,
            None | Some(LinuxPersonalityDomain::PerLinux) => false,
        };
        Ok(Self {
            readonly,
            overlay,
            mounts,
            masked: paths(linux.masked_paths().as_deref(), "linux.maskedPaths")?,
            readonly_paths: paths(linux.readonly_paths().as_deref(), "linux.readonlyPaths")?,
            hostname: spec.hostname().clone(),
            host_network,
            pid_max: None,
            limits,
            terminal: process.terminal().unwrap_or(false),
            process: Process {
                env: env.collect::<Result<_, Unsupported>>()?,
                cwd: absolute(process.cwd().clone(), "process.cwd")?,
                uid: user.uid(),
                gid: user.gid(),
                groups: user.additional_gids().clone().unwrap_or_default(),
                umask: user.umask().unwrap_or(0o022) & 0o777,
                capabilities: numbers(capabilities)?,
                rlimits: process.rlimits().iter().flatten().map(|r| (r.typ(), r.soft(), r.hard())).collect(),
                oom_score_adj: process.oom_score_adj(),
                linux32,
                seccomp: seccomp::compile(seccomp, &without)?,
                args,
            },
            without,
            emulators: emulators(spec)?,
            own_emulators: own_emulators(spec)?,
            watch: Vec::new(),
        })
    }
}

fn annotations(spec: &Spec) -> Result<(bool, Limits), Unsupported> {
    let (mut host_network, mut limits) = (false, Limits::default());
    for (name, value) in spec.annotations().iter().flatten() {
        let field = || format!("annotations.{name}");
        let number = || value.parse::<u64>().map_err(|_| Unsupported::value(&field(), value));
        match name.as_str() {
            "bindery.network" => {
                host_network = match value.as_str() {
                    "none" => false,
                    "host" => true,
                    _ => return Err(Unsupported::value(&field(), value)),
                }
            }
            "bindery.time" => limits.time = Some(Duration::from_secs(number()?)),
            "bindery.silence" => limits.silence = Some(Duration::from_secs(number()?)),
            "bindery.idle" => limits.idle = Some(Duration::from_secs(number()?)),
            "bindery.disk" => limits.disk = Some(number()?),
            // Read, or refused, by itself.
            without::ANNOTATION => {}
            name if name.starts_with(emulate::ANNOTATION) || name == emulate::FOREIGN => {}
            "bindery.yield" => {
                limits.gives_way = value.parse().map_err(|_| Unsupported::value(&field(), value))?;
            }
            _ => return Err(Unsupported::field(&field())),
        }
    }
    Ok((host_network, limits))
}

fn own_emulators(spec: &Spec) -> Result<bool, Unsupported> {
    match spec.annotations().as_ref().and_then(|annotations| annotations.get(emulate::FOREIGN)).map(String::as_str) {
        None => Ok(false),
        Some("none") => Ok(true),
        Some(value) => Err(Unsupported::value(&format!("annotations.{}", emulate::FOREIGN), value)),
    }
}

/// Returns the emulators that are asked for, in the order of their machines' names.
fn emulators(spec: &Spec) -> Result<Vec<Emulator>, Unsupported> {
    let asked = spec.annotations().iter().flatten();
    let asked = asked.filter_map(|(name, value)| Some((name.strip_prefix(emulate::ANNOTATION)?, value)));
    let asked: std::collections::BTreeMap<_, _> = asked.collect();
    let read = |(machine, program): (&str, &String)| {
        let field = || format!("annotations.{}{machine}", emulate::ANNOTATION);
        Emulator::read(machine, program).map_err(|why| Unsupported::value(&field(), why))
    };
    asked.into_iter().map(read).collect()
}

/// Checks that all namespaces are asked for: a sandbox is never less.
fn namespaces(listed: impl Iterator<Item = LinuxNamespaceType>, host_network: bool) -> Result<(), Unsupported> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
    let listed: BTreeSet<String> = listed.map(|typ| typ.to_string()).collect();
    if listed.contains(&Time.to_string()) {
        return Err(Unsupported::value("linux.namespaces", Time));
    }
    if host_network && listed.contains(&Network.to_string()) {
        return Err(Unsupported::value("linux.namespaces", "network, together with `bindery.network=host`"));
    }
    let needed = [Mount, Pid, Ipc, Uts, User, Cgroup].into_iter().chain((!host_network).then_some(Network));
    match needed.map(|typ| typ.to_string()).find(|typ| !listed.contains(typ)) {
        Some(missing) => Err(Unsupported::missing(&format!("linux.namespaces: {missing}"))),
        None => Ok(()),
    }
}

fn numbers(capabilities: &LinuxCapabilities) -> Result<Vec<u8>, Unsupported> {
    let set = |set: &Option<std::collections::HashSet<Capability>>| {
        set.iter().flatten().map(|capability| format!("CAP_{capability}")).collect::<BTreeSet<_>>()
    };
    let bounding = set(capabilities.bounding());
    for (field, same) in [("permitted", capabilities.permitted()), ("effective", capabilities.effective())] {
        if set(same) != bounding {
            return Err(Unsupported::value(&format!("process.capabilities.{field}"), "other than the bounding set"));
        }
    }
    for (field, empty) in [("inheritable", capabilities.inheritable()), ("ambient", capabilities.ambient())] {
        if !set(empty).is_empty() {
            return Err(Unsupported::field(&format!("process.capabilities.{field}")));
        }
    }
    let number = |name: &String| {
        let known = name.parse::<caps::Capability>().ok();
        known.map(|c| c.index()).ok_or_else(|| Unsupported::value("process.capabilities.bounding", name))
    };
    bounding.iter().map(number).collect()
}

fn paths(list: Option<&[String]>, field: &str) -> Result<Vec<PathBuf>, Unsupported> {
    list.unwrap_or_default().iter().map(|path| absolute(PathBuf::from(path), field)).collect()
}

/// Lets only absolute paths without `..` pass.
fn absolute(path: PathBuf, field: &str) -> Result<PathBuf, Unsupported> {
    match crate::atom::RootPath::try_from(path) {
        Ok(path) => Ok(path.into()),
        Err(e) => Err(Unsupported::value(field, e)),
    }
}

/// The spec asks for something that a sandbox does not do, or lacks what it insists on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unsupported {
    /// A field.
    #[error("the sandbox cannot do what the spec's `{0}` asks for")]
    Field(String),
    /// A field's value.
    #[error("the sandbox cannot do what the spec's `{field}` asks for: {value}")]
    Value {
        /// The field.
        field: String,
        /// Its value.
        value: String,
    },
    /// A field that must be there.
    #[error("the spec lacks `{0}`, which the sandbox insists on")]
    Missing(String),
}

impl Unsupported {
    pub(super) fn field(field: &str) -> Self {
        Self::Field(field.to_string())
    }

    pub(super) fn value(field: &str, value: impl fmt::Display) -> Self {
        Self::Value { field: field.to_string(), value: value.to_string() }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::Missing(field.to_string())
    }
}
