//! Roots: layers stacked under one writable directory, and the OCI runtime spec that describes a command in one.
//!
//! Everything here is pure: the spec is data, and only `sandbox` touches the kernel. The spec is a valid `config.json`
//! (OCI runtime 1.0.2) with an overlay on `/` as its first mount; what the OCI has no field for is in annotations, which
//! `sandbox` documents.
//!
//! Names of layers and of the writable folder are relative to the folder that the sandbox is given as its base, so that
//! many of them fit into the page that mount(2) takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{
    Capability, LinuxBlockIoBuilder, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxMemoryBuilder,
    LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, Mount,
    MountBuilder, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::atom::{CpuList, RootPath};

pub mod bundle;
mod seccomp;

/// The host name in every sandbox: builds must not know where they run.
const HOSTNAME: &str = "bindery";
/// Builds are killed before anything else of the host's when memory runs out.
const OOM_SCORE_ADJ: i32 = 500;
/// In microseconds: the kernel's default for cpu.max.
const CPU_PERIOD: u64 = 100_000;

/// What a payload may do with its own files and processes; nothing of the host, whose user namespace is another one.
const CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Parts of /proc and /sys that tell of the host: the OCI's list, with interrupts' and power's kin of later kernels.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Parts of /proc that change the host: the OCI's list, and pressure, where anyone may have the kernel watch for them.
const READONLY: [&str; 6] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/pressure", "/proc/sys", "/proc/sysrq-trigger"];

/// A stack of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Immutable layers, top first, relative to the base folder.
    pub lower: Vec<PathBuf>,
    /// The folder, relative to the base folder, that gets `upper/` (what is written in the root) and `work/` (the
    /// kernel's). Without one the root is read-only.
    pub upper: Option<PathBuf>,
}

/// A file or folder of the host's in the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// An absolute path whose last component is no symbolic link.
    pub from: PathBuf,
    /// Where; missing folders, or the file, are made.
    pub to: RootPath,
    /// Whether it can be written to (by whom is a matter of the files' owners: see `sandbox::range::give`).
    pub writable: bool,
}

/// A folder in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where.
    pub to: RootPath,
    /// The most bytes it holds.
    pub size: u64,
    /// Permission bits, such as 0o1777.
    pub mode: u32,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program (looked up in the environment's `PATH` if it has no slash) and arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working folder, which must exist.
    pub cwd: RootPath,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

/// What a command may use at most; nothing means no limit.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Processors: 1.5 is one and a half.
    pub cpus: Option<f64>,
    /// The processors it may run on.
    pub cpuset: Option<CpuList>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory; none unless set.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disk beside others', from 10 to 1000 (100 is usual).
    pub io_weight: Option<u16>,
    /// Bytes in the root's writable folder.
    pub disk: Option<u64>,
    /// From start to end.
    pub time: Option<Duration>,
    /// Without any output.
    pub silence: Option<Duration>,
    /// Without any output and without processor time.
    pub idle: Option<Duration>,
    /// Whether it makes way for others when they wait.
    pub gives_way: bool,
}

/// What a command reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing but its own loopback interface.
    #[default]
    None,
    /// All that the host reaches.
    Host,
}

/// Returns the spec for a command in a root.
pub fn spec(
    root: &Root,
    binds: &[Bind],
    tmpfs: &[Tmpfs],
    command: &Command,
    limits: &Limits,
    network: Network,
) -> Spec {
    let env: Vec<_> = command.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let capabilities = || CAPABILITIES.into_iter().collect::<std::collections::HashSet<_>>();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities())
        .permitted(capabilities())
        .effective(capabilities())
        .inheritable([])
        .ambient([])
        .build()
        .expect(COMPLETE);
    // Not 0, which is no limit for the program that a host may have to read its cores: 1 keeps that from starting, too
    // (fs/coredump.c), and no core fits into one byte.
    let no_core = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitCore).soft(1_u64).hard(1_u64);
    let user = UserBuilder::default().uid(0_u32).gid(0_u32).umask(0o022_u32).build().expect(COMPLETE);
    let process = ProcessBuilder::default()
        .terminal(command.terminal)
        .user(user)
        .args(command.args.clone())
        .env(env)
        .cwd(command.cwd.as_path())
        .capabilities(capabilities)
        .rlimits([no_core.build().expect(COMPLETE)])
        .no_new_privileges(true)
        .oom_score_adj(OOM_SCORE_ADJ)
        .build()
        .expect(COMPLETE);
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(network))
        .seccomp(seccomp::profile())
        .masked_paths(MASKED.map(str::to_string))
        .readonly_paths(READONLY.map(str::to_string))
        .build()
        .expect(COMPLETE);
    linux.set_resources(resources(limits));
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path("root").readonly(root.upper.is_none()).build().expect(COMPLETE))
        .hostname(HOSTNAME)
        .mounts(mounts(root, binds, tmpfs))
        .process(process)
        .linux(linux)
        .build()
        .expect(COMPLETE);
    spec.set_annotations(Some(annotations(limits, network)));
    spec
}

/// Has a sandbox run the programs of another machine, in qemu's words such as `aarch64`, by a program below the base folder.
pub fn emulate(spec: &mut Spec, machine: &str, program: &Path) {
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    annotations.insert(format!("bindery.emulator.{machine}"), program.display().to_string());
    spec.set_annotations(Some(annotations));
}

/// Has nothing run programs of other machines but what the spec names, whatever the host has registered.
pub fn without_hosts_emulators(spec: &mut Spec) {
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    annotations.insert("bindery.foreign".to_string(), "none".to_string());
    spec.set_annotations(Some(annotations));
}

/// Why the builders of the OCI types cannot fail.
const COMPLETE: &str = "all required fields are set";

fn annotations(limits: &Limits, network: Network) -> HashMap<String, String> {
    let network = match network {
        Network::None => "none",
        Network::Host => "host",
    };
    // The watchdog counts in seconds: less than one is one.
    let seconds = |limit: Duration| limit.as_secs().max(1).to_string();
    [
        ("bindery.network", Some(network.to_string())),
        ("bindery.time", limits.time.map(seconds)),
        ("bindery.silence", limits.silence.map(seconds)),
        ("bindery.idle", limits.idle.map(seconds)),
        ("bindery.disk", limits.disk.map(|bytes| bytes.to_string())),
        ("bindery.yield", limits.gives_way.then(|| "true".to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_string(), value?)))
    .collect()
}

fn namespaces(network: Network) -> Vec<oci_spec::runtime::LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network as Net, Pid, User, Uts};
    let own_network = (network == Network::None).then_some(Net);
    let all = [User, Mount, Pid, Ipc, Uts, Cgroup].into_iter().chain(own_network);
    all.map(|typ| LinuxNamespaceBuilder::default().typ(typ).build().expect(COMPLETE)).collect()
}

fn resources(limits: &Limits) -> Option<LinuxResources> {
    let signed = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
    let mut resources = LinuxResourcesBuilder::default().build().expect(COMPLETE);
    let none = resources.clone();
    let mut cpu = LinuxCpuBuilder::default().build().expect(COMPLETE);
    if let Some(cpus) = limits.cpus {
        let (quota, period) = quota(cpus);
        cpu.set_quota(Some(signed(quota))).set_period(Some(period));
    }
    cpu.set_cpus(limits.cpuset.as_ref().map(ToString::to_string));
    resources.set_cpu((limits.cpus.is_some() || limits.cpuset.is_some()).then_some(cpu));
    if limits.memory.is_some() || limits.swap.is_some() {
        let mut memory = LinuxMemoryBuilder::default().build().expect(COMPLETE);
        // For the OCI, swap is the sum of both.
        let sum = limits.memory.unwrap_or(0).saturating_add(limits.swap.unwrap_or(0));
        memory.set_limit(limits.memory.map(signed)).set_swap(Some(signed(sum)));
        resources.set_memory(Some(memory));
    }
    if let Some(pids) = limits.pids {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(signed(pids)).build().expect(COMPLETE)));
    }
    if let Some(weight) = limits.io_weight {
        resources.set_block_io(Some(LinuxBlockIoBuilder::default().weight(weight).build().expect(COMPLETE)));
    }
    (resources != none).then_some(resources)
}

/// Returns microseconds of processor time, and of the period that they are for.
pub fn quota(cpus: f64) -> (u64, u64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    let quota = (cpus * CPU_PERIOD as f64).round() as u64;
    (quota.max(1000), CPU_PERIOD)
}

fn mounts(root: &Root, binds: &[Bind], tmpfs: &[Tmpfs]) -> Vec<Mount> {
    let lower: Vec<_> = root.lower.iter().map(|layer| layer.to_string_lossy()).collect();
    let mut overlay = vec![format!("lowerdir={}", lower.join(":"))];
    if let Some(dir) = &root.upper {
        overlay.push(format!("upperdir={}", dir.join("upper").display()));
        overlay.push(format!("workdir={}", dir.join("work").display()));
    }
    // In a user namespace trusted.overlay attributes are out of reach and redirects could be forged. Nothing in a root
    // outlives the machine's restart, so nothing need be synced.
    overlay.extend(["userxattr", "redirect_dir=nofollow", "volatile"].map(str::to_string));
    let mount = |typ: &str, source: &Path, to: &Path, options: Vec<String>| {
        let mount = MountBuilder::default().destination(to).typ(typ).source(source).options(options);
        mount.build().expect(COMPLETE)
    };
    let new = |typ: &str, to: &str, options: &[&str]| {
        mount(typ, Path::new(typ), Path::new(to), options.iter().map(ToString::to_string).collect())
    };
    let mut mounts = vec![
        mount("overlay", Path::new("overlay"), Path::new("/"), overlay),
        new("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        new("tmpfs", "/dev", &["nosuid", "noexec", "mode=755", "size=64k"]),
        new("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        new("tmpfs", "/dev/shm", &["nosuid", "nodev", "mode=1777", "size=1g"]),
        new("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    for Tmpfs { to, size, mode } in tmpfs {
        let options = vec!["nosuid".into(), "nodev".into(), format!("size={size}"), format!("mode={mode:o}")];
        mounts.push(mount("tmpfs", Path::new("tmpfs"), to.as_path(), options));
    }
    for Bind { from, to, writable } in binds {
        let access = if *writable { "rw" } else { "ro" };
        let options = ["rbind", access, "nosuid", "nodev"].map(str::to_string).to_vec();
        mounts.push(mount("bind", from, to.as_path(), options));
    }
    mounts
}

#[cfg(test)]
mod tests;
