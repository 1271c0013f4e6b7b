//! Runs the package manager in a root of its own: image below, an empty writable layer above, everything else read-only.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use oci_spec::runtime::Spec;

use crate::atom::RootPath;
use crate::backend::{self, Step};
use crate::build::{BuildError, Host};
use crate::event::{Event, Sink};
use crate::image::{self, Image};
use crate::profile::Profile;
use crate::root::{self, Bind, Command, Limits, Network, Root};
use crate::sandbox::{self, Emulator, Exit, Seen, Status, Stdio, Stopped, Stream, Together};
use crate::state::Lease;
use crate::{fs, layer};

/// The longest answer of a resolver that is kept, in bytes; the backend refuses far shorter ones.
const ANSWER: usize = 256 << 20;
/// How much of what a failed resolver said is shown, in bytes.
const SAID: usize = 4000;

/// What every root of a run sees, read-only.
#[derive(Debug, Clone)]
pub(super) struct Mounts {
    /// Each tree: where, and its snapshot.
    pub(super) trees: Vec<(RootPath, PathBuf)>,
    /// The package manager's configuration: where, and the folder that holds it.
    pub(super) configuration: (RootPath, PathBuf),
    /// Likewise, that of the build side, in a cross build.
    pub(super) build_side: Option<(RootPath, PathBuf)>,
    /// Source archives.
    pub(super) distfiles: PathBuf,
}

impl Mounts {
    /// Returns what a request is made from: trees and configuration.
    pub(super) fn sources(&self) -> Vec<(RootPath, PathBuf)> {
        self.trees.iter().chain([&self.configuration]).cloned().collect()
    }

    /// Returns the binds for a root.
    pub(super) fn binds(&self) -> Vec<Bind> {
        let distfiles = (path(backend::DISTFILES), self.distfiles.clone());
        let all = self.trees.iter().chain([&self.configuration, &distfiles]).chain(&self.build_side);
        all.map(|(to, from)| Bind { from: from.clone(), to: to.clone(), writable: false }).collect()
    }
}

/// Returns a path that is written in this program.
pub(super) fn path(text: &str) -> RootPath {
    text.parse().expect("paths in this program are absolute")
}

/// A root that a lease owns: gone when the lease is, or with the next command if this process is killed.
#[derive(Debug)]
pub(super) struct Room<'a> {
    host: &'a Host<'a>,
    lease: Lease,
    together: Option<&'a Together>,
    /// Whether nobody wants to look at what is written in it: the sandbox then empties it by itself.
    discard: bool,
    /// What runs programs of another machine in it, beside what the image itself asks for.
    emulator: Option<Emulator>,
}

impl<'a> Room<'a> {
    /// Takes the lease for a new root.
    pub(super) fn new(host: &'a Host<'a>, purpose: &str) -> Result<Self, BuildError> {
        Ok(Self { host, lease: Lease::take(host.state, purpose)?, together: None, discard: false, emulator: None })
    }

    /// Returns the same with an emulator for the programs of another machine, if there is one.
    pub(super) fn emulating(self, emulator: Option<&Emulator>) -> Self {
        Self { emulator: emulator.cloned(), ..self }
    }

    /// Takes the lease for a new root, of which others may be in use at the same time: what they use up is limited together.
    pub(super) fn beside(
        host: &'a Host<'a>,
        purpose: &str,
        together: Option<&'a Together>,
    ) -> Result<Self, BuildError> {
        Ok(Self { together, ..Self::new(host, purpose)? })
    }

    /// Likewise, for a step of which only counts what it prints.
    pub(super) fn to_discard(
        host: &'a Host<'a>,
        purpose: &str,
        together: Option<&'a Together>,
    ) -> Result<Self, BuildError> {
        Ok(Self { discard: true, ..Self::beside(host, purpose, together)? })
    }

    /// Returns the lease, for what else is to go with it.
    pub(super) fn lease(&mut self) -> &mut Lease {
        &mut self.lease
    }

    /// Returns the folder on the host that holds what was written in the root.
    pub(super) fn upper(&self) -> PathBuf {
        self.lease.root().join("upper")
    }

    /// Runs a step in a root of `lower`, the layers of an image with others on top; `config` is where the OCI runtime spec is
    /// kept, `sink` takes what it prints.
    #[expect(clippy::too_many_arguments, reason = "each is one thing that a step needs")]
    pub(super) fn run(
        &mut self,
        image: &Image,
        lower: &[PathBuf],
        binds: &[Bind],
        step: &Step,
        limits: &Limits,
        config: Option<&Path>,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Exit, BuildError> {
        self.run_and_watch(image, lower, binds, step, limits, config, Vec::new(), sink).map(|(exit, _)| exit)
    }

    /// Likewise, and sees whether groups of files in the root are opened ([`sandbox::With`]).
    #[expect(clippy::too_many_arguments, reason = "each is one thing that a step needs")]
    pub(super) fn run_and_watch(
        &mut self,
        image: &Image,
        lower: &[PathBuf],
        binds: &[Bind],
        step: &Step,
        limits: &Limits,
        config: Option<&Path>,
        groups: Vec<Vec<PathBuf>>,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(Exit, Vec<Seen>), BuildError> {
        let folder = self.lease.root();
        let folder = folder.strip_prefix(self.host.state.state()).unwrap_or(folder).to_path_buf();
        let root = Root { lower: lower.to_vec(), upper: Some(folder) };
        let mut spec = spec(&root, image, binds, step, limits);
        if let Some(emulator) = &self.emulator {
            root::emulate(&mut spec, &emulator.machine, &emulator.program);
        }
        if let Some(file) = config {
            let text = serde_json::to_string_pretty(&spec).expect("a spec is plain data");
            // For people who look at a build that is over: that it outlives a crash is not worth waiting for the disk.
            fs::write(file, text + "\n")?;
        }
        let request = sandbox::Request {
            spec: &spec,
            ids: self.host.ids,
            base: self.host.state.state(),
            lease: &mut self.lease,
            stdio: Stdio::Capture(sink),
            cancel: self.host.cancel,
        };
        let with =
            sandbox::With { discard: self.discard, watch: groups, together: self.together, ..Default::default() };
        Ok(sandbox::run_with(request, with, &mut || ())?)
    }

    /// Removes the root and ends its lease.
    pub(super) fn close(self) -> Result<(), BuildError> {
        layer::remove(self.host.ids, self.lease.root())?;
        for path in &self.lease.record().paths {
            layer::clear(self.host.ids, path)?;
        }
        Ok(self.lease.release()?)
    }
}

/// Returns the spec of a step in a root of an image's.
pub(super) fn spec(root: &Root, image: &Image, binds: &[Bind], step: &Step, limits: &Limits) -> Spec {
    let mut env = step.env.clone();
    env.extend(image.env.iter().filter(|(name, _)| !step.env.iter().any(|(n, _)| n == name)).cloned());
    let mut args = step.args.clone();
    if image.plain.is_some() {
        natively(&mut args, &mut env);
    }
    let command = Command { args, env, cwd: path("/"), terminal: false };
    let mut spec = root::spec(root, binds, &[], &command, limits, Network::None);
    // What comes out must not depend on what the host can run.
    root::without_hosts_emulators(&mut spec);
    if let Some(emulator) = &image.emulator {
        root::emulate(&mut spec, &emulator.machine, &emulator.program);
    }
    spec
}

/// Has the package manager itself run by the native tools' interpreter; it says anew where what it builds finds programs.
fn natively(args: &mut [String], env: &mut [(String, String)]) {
    for (_, value) in env.iter_mut().filter(|(name, _)| name == "PATH") {
        *value = format!("{}:{value}", image::TOOLS);
    }
    if let Some(program) = args.first_mut().filter(|program| *program == "/usr/bin/python3") {
        *program = format!("{}/python3", image::TOOLS);
    }
}

/// Runs the package manager's resolver and returns what it printed.
pub(super) fn resolve(
    host: &Host<'_>,
    profile: &Profile,
    image: &Image,
    mounts: &Mounts,
    step: Step,
    on: Sink<'_>,
) -> Result<Vec<u8>, BuildError> {
    let mut room = Room::to_discard(host, &format!("planning for {}", profile.name), None)?;
    let (mut answer, mut said) = (Vec::new(), Vec::new());
    let mut sink = |stream: Stream, bytes: &[u8]| match stream {
        Stream::Out if answer.len() < ANSWER => answer.extend_from_slice(bytes),
        Stream::Out => {}
        Stream::Err => {
            said.extend_from_slice(bytes);
            let excess = said.len().saturating_sub(SAID);
            said.drain(..excess);
        }
    };
    let exit = room.run(image, &image.layers, &mounts.binds(), &step, &limits(profile), None, &mut sink);
    let closed = room.close();
    let exit = exit?;
    closed?;
    interrupted(host.cancel)?;
    full(host, &exit, "planning")?;
    if exit.status == Status::Code(0) && exit.stopped.is_none() {
        return Ok(answer);
    }
    on(Event::Warning { what: format!("the resolver said: {}", crate::process::tail(&said)) });
    Err(BuildError::Resolver { exit: describe(&exit) })
}

/// Returns an error once a signal has asked for an end.
pub(super) fn interrupted(cancel: &AtomicBool) -> Result<(), BuildError> {
    if cancel.load(std::sync::atomic::Ordering::SeqCst) { Err(BuildError::Interrupted) } else { Ok(()) }
}

/// Returns an error where the host's disk is full: no package is to blame.
pub(super) fn full(host: &Host<'_>, exit: &Exit, what: &str) -> Result<(), BuildError> {
    if exit.stopped != Some(Stopped::Full) {
        return Ok(());
    }
    Err(no_room(host, what))
}

/// Returns the error of a full disk.
pub(super) fn no_room(host: &Host<'_>, what: &str) -> BuildError {
    let source = std::io::Error::from_raw_os_error(nix::libc::ENOSPC);
    BuildError::Full { what: what.to_string(), folder: host.state.state().to_path_buf(), source }
}

/// Returns a profile's limits in the root's terms.
pub(super) fn limits(profile: &Profile) -> Limits {
    let limits = &profile.limits;
    Limits {
        cpus: limits.cpus,
        cpuset: limits.cpuset.clone(),
        memory: limits.memory,
        swap: limits.swap,
        pids: limits.pids,
        io_weight: limits.io_weight,
        disk: limits.disk,
        time: limits.time,
        silence: limits.silence,
        idle: limits.idle,
        gives_way: limits.gives_way,
    }
}

/// Returns how a command ended, as a sentence fragment.
pub(super) fn describe(exit: &Exit) -> String {
    match (exit.reached(), exit.status) {
        (Some(reached), _) => reached,
        (None, Status::Code(code)) => format!("it ended with status {code}"),
        (None, Status::Signal(signal)) => format!("signal {signal} ended it"),
    }
}
