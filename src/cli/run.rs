//! `bindery run` and `bindery shell`: a command in a sandbox, in a root that is thrown away.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::atom::RootPath;
use crate::cli::context::Context;
use crate::cli::events::shower;
use crate::cli::limits::LimitArgs;
use crate::cli::report::{Failure, Kind, Outcome, say};
use crate::cli::{Source, commands};
use crate::config::Defaults;
use crate::image;
use crate::process::chain;
use crate::profile::{self, Profile};
use crate::root::{self, Bind, Limits, Network, Root, Tmpfs};
use crate::sandbox::{self, Early, Emulator, Exit, IdRange, SandboxError, Status, Stdio, Stopped};
use crate::state::Lease;
use crate::{build, fs, layer};

mod bundle;
mod folders;

/// Arguments of `bindery run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    room: RoomArgs,
    /// Run what the folder's config.json (OCI runtime spec) says, in its root
    #[arg(long, value_name = "DIR", conflicts_with_all = BESIDE_NO_BUNDLE)]
    bundle: Option<PathBuf>,
    /// The command and its arguments
    #[arg(
        required_unless_present = "bundle",
        conflicts_with = "bundle",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

/// A bundle says all there is to say.
const BESIDE_NO_BUNDLE: [&str; 17] = [
    "Source",
    "ro_bind",
    "bind",
    "tmpfs",
    "cpus",
    "cpuset",
    "memory",
    "swap",
    "pids",
    "io_weight",
    "disk",
    "timeout",
    "network",
    "env",
    "chdir",
    "gives_way",
    "no_yield",
];

const EXAMPLES: &str = "\
Examples:
  bindery run --image debian-portage -- emerge --version
  bindery run --profile amd64 --ro-bind /srv/source:/mnt/source --memory 2GiB -- sh -c 'cp -r /mnt/source /tmp && …'
  bindery run --root /srv/stage3 --tmpfs /var/tmp:4GiB -- emerge --info
  bindery run --bundle /srv/bundle

The exit status is the command's, 128 and the signal's number where a signal ended it, 127 where there is no such \
command, 126 where it cannot be executed, and 125 for every failure of bindery's own.";

/// Arguments of `bindery shell`.
#[derive(Debug, clap::Args)]
pub(super) struct ShellArgs {
    #[command(flatten)]
    room: RoomArgs,
}

/// What the sandbox is like.
#[derive(Debug, clap::Args)]
struct RoomArgs {
    #[command(flatten)]
    source: Source,
    /// Show a file or folder of the host, read-only
    #[arg(long, value_name = "SRC:DST")]
    ro_bind: Vec<Pair>,
    /// Show a file or folder of the host, writable; files there get owners of the id range
    #[arg(long, value_name = "SRC:DST")]
    bind: Vec<Pair>,
    /// A folder in memory, of at most 1 GiB or SIZE
    #[arg(long, value_name = "DST[:SIZE]")]
    tmpfs: Vec<Memory>,
    #[command(flatten)]
    limits: LimitArgs,
    /// What may be written in the root, as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = profile::parse_size)]
    disk: Option<u64>,
    /// How long it may take, as 90s or 2h
    #[arg(long, value_name = "TIME", value_parser = profile::parse_time)]
    timeout: Option<Duration>,
    /// Use the host's network: the one thing that reaches out of the sandbox
    #[arg(long)]
    network: bool,
    /// Set a variable; nothing is inherited
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<Variable>,
    /// The working folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    chdir: RootPath,
}

/// `SRC:DST` of a bind.
#[derive(Debug, Clone)]
struct Pair(PathBuf, RootPath);

impl FromStr for Pair {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // The destination starts with a slash, the source may hold colons.
        let at = text.rfind(":/").ok_or("expected SRC:DST, DST being an absolute path")?;
        let to = text[at + 1..].parse().map_err(|e: crate::atom::NameError| e.to_string())?;
        if at == 0 { Err("expected SRC:DST".into()) } else { Ok(Self(text[..at].into(), to)) }
    }
}

/// `DST[:SIZE]` of a folder in memory.
#[derive(Debug, Clone)]
struct Memory(RootPath, u64);

impl FromStr for Memory {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const UNSAID: u64 = 1 << 30;
        let (to, size) = match text.rsplit_once(':') {
            Some((to, size)) => (to, profile::parse_size(size)?),
            None => (text, UNSAID),
        };
        Ok(Self(to.parse().map_err(|e: crate::atom::NameError| e.to_string())?, size))
    }
}

/// `NAME=VALUE`.
#[derive(Debug, Clone)]
struct Variable(String, String);

impl FromStr for Variable {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self(name.to_string(), value.to_string())),
            _ => Err("expected NAME=VALUE"),
        }
    }
}

/// Runs a command and passes its status on.
pub(super) fn run(cx: &Context, args: Args) -> Outcome {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if let Some(folder) = &args.bundle {
        return bundle::run(cx, folder, terminal);
    }
    enter(cx, "run", args.room, args.command, terminal)
}

/// Opens a shell, with a terminal if there is one.
pub(super) fn shell(cx: &Context, args: ShellArgs) -> Outcome {
    let terminal = std::io::stdin().is_terminal();
    enter(cx, "shell", args.room, vec!["/bin/bash".into(), "-l".into()], terminal)
}

fn enter(cx: &Context, tool: &str, args: RoomArgs, command: Vec<String>, terminal: bool) -> Outcome {
    let profile = args.source.profile.as_ref().map(|name| Profile::load(&cx.config, name)).transpose()?;
    let binds = binds(&args)?;
    let limits = limits(&args, profile.as_ref(), &cx.config.defaults)?;
    // While it starts, the root and the command are found.
    let first = (limits == Limits { time: limits.time, ..Limits::default() }).then(sandbox::first).transpose()?;
    let ids = cx.prepare_ids()?;
    let early = first.map(|first| first.begin(&ids, cx.state.state(), args.network)).transpose()?;
    // A start waits for nothing that can be done beside the command; but a full disk may be full of what is left behind.
    let mut swept = early.is_none() || sandbox::is_nearly_full(cx.state.state());
    if swept {
        cx.sweep(&ids)?;
    }
    let outcome = (|| {
        let ground = ground(cx, &ids, &args.source, profile.as_ref())?;
        if args.network {
            say(HOST_NETWORK);
        }
        let env = environment(&args, &ground, terminal);
        let command = root::Command { env, args: command, cwd: args.chdir.clone(), terminal };
        let tmpfs = args.tmpfs.iter().map(|Memory(to, size)| Tmpfs { to: to.clone(), size: *size, mode: 0o1777 });
        let tmpfs: Vec<_> = tmpfs.collect();
        let network = if args.network { Network::Host } else { Network::None };
        let spec = |upper: &Path| {
            let root = Root { lower: ground.layers.clone(), upper: Some(upper.to_path_buf()) };
            let mut spec = root::spec(&root, &binds, &tmpfs, &command, &limits, network);
            if let Some(emulator) = &ground.emulator {
                root::emulate(&mut spec, &emulator.machine, &emulator.program);
            }
            Ok(spec)
        };
        finish(&start(cx, &ids, early, &mut swept, (tool, &from(&args.source)), spec)?)
    })();
    if !swept {
        cx.sweep(&ids)?;
    }
    outcome
}

/// Returns what a root is made of, for the record.
fn from(source: &Source) -> String {
    match (&source.image, &source.profile) {
        (Some(image), _) => format!("image {image}"),
        (None, Some(profile)) => format!("profile {profile}"),
        (None, None) => source.root.iter().fold("root".to_string(), |text, dir| format!("{text} {}", dir.display())),
    }
}

/// What is said of every sandbox that is none in this respect.
const HOST_NETWORK: &str = "bindery: this sandbox uses the host's network";

/// What a root starts from.
struct Ground {
    /// Layers, top first.
    layers: Vec<PathBuf>,
    env: Vec<(String, String)>,
    /// What runs the image's programs, where this machine cannot by itself.
    emulator: Option<Emulator>,
}

fn ground(cx: &Context, ids: &IdRange, source: &Source, profile: Option<&Profile>) -> Result<Ground, Failure> {
    if !source.root.is_empty() {
        return Ok(Ground { layers: folders::layers(&source.root, &cx.state)?, env: Vec::new(), emulator: None });
    }
    let name = match (&source.image, profile) {
        (Some(image), _) => image.clone(),
        (None, Some(profile)) => profile.image.clone(),
        (None, None) => {
            return Err(Failure::user(
                "`--image NAME`, `--profile NAME`, `--root DIR` or `--bundle DIR` says what to run in",
            ));
        }
    };
    let context = image::Context { state: &cx.state, ids, archives: &cx.config.archives, cancel: &cx.cancel };
    let image = build::image(&context, &cx.config.search, &name, &mut shower(false))?;
    let emulator = match image.emulator {
        Some(emulator) => Some(emulator),
        // What is cross built there runs there, too.
        None => build::emulator_of_cross(&context, &cx.config.search, &name, &mut shower(false))?,
    };
    Ok(Ground { layers: image.layers, env: image.env, emulator })
}

/// Runs what a spec says; it is made for the folder, relative to the state's, that holds what is written in the root.
/// Recorded is which tool was asked for, and what the root is made of. What dead processes left is removed beside the
/// command, unless it was `swept` before.
fn start(
    cx: &Context,
    ids: &IdRange,
    early: Option<Early>,
    swept: &mut bool,
    (tool, from): (&str, &str),
    spec: impl FnOnce(&Path) -> Result<oci_spec::runtime::Spec, Failure>,
) -> Result<Exit, Failure> {
    let mut lease = Lease::take(&cx.state, &format!("bindery {tool}")).map_err(|e| Failure::new(Kind::System, e))?;
    let folder = lease.root().to_path_buf();
    let base = cx.state.state();
    let relative = folder.strip_prefix(base).unwrap_or(&folder);
    let exit = spec(relative).and_then(|spec| {
        let terminal = spec.process().as_ref().is_some_and(|process| process.terminal() == Some(true));
        let stdio = if terminal { Stdio::Terminal } else { Stdio::Relay };
        let id = lease.id().to_string();
        commands::begin(&cx.state, &id, tool, from, &spec).map_err(|e| Failure::new(Kind::System, e))?;
        let request = sandbox::Request { spec: &spec, ids, base, lease: &mut lease, stdio, cancel: &cx.cancel };
        let exit = std::thread::scope(|scope| {
            let mut sweep = None;
            let mut told = || sweep = (!std::mem::replace(swept, true)).then(|| scope.spawn(|| cx.sweep(ids)));
            let with = sandbox::With { early, keys: Some(&cx.keys), discard: true, ..Default::default() };
            let exit = sandbox::run_with(request, with, &mut told).map(|(exit, _)| exit);
            (exit, sweep.map_or(Ok(()), |sweep| sweep.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
        });
        let (exit, swept) = exit;
        if let Err(e) = commands::end(&cx.state, &id, exit.as_ref().map_err(|e| chain(e))) {
            say(&format!("bindery: {}", chain(&e)));
        }
        let exit = exit?;
        swept.map(|()| exit)
    });
    // Whether it could be started or not, nothing is left to be found by the next command.
    let removed = layer::remove(ids, &folder).map_err(|e| Failure::new(Kind::System, e));
    let released = removed.and_then(|()| lease.release().map_err(|e| Failure::new(Kind::System, e)));
    // What went wrong first is what to tell.
    let exit = exit?;
    released?;
    Ok(exit)
}

fn finish(exit: &Exit) -> Outcome {
    // Whoever stopped it has been told so, and may have stopped it because their terminal takes no more.
    if let Some(reached) = exit.reached().filter(|_| exit.stopped != Some(Stopped::Cancelled)) {
        say(&format!("bindery: {reached}"));
    }
    match exit.status {
        _ if exit.stopped == Some(Stopped::Cancelled) => Err(Failure::silent(Kind::Interrupted)),
        _ if exit.stopped == Some(Stopped::Full) => Err(Failure::silent(Kind::System)),
        Status::Code(0) if exit.stopped.is_none() => Ok(()),
        Status::Code(code) => Err(Failure::silent(Kind::Command(code))),
        Status::Signal(signal) => Err(Failure::silent(Kind::Command(u8::try_from(128 + signal).unwrap_or(u8::MAX)))),
    }
}

fn binds(args: &RoomArgs) -> Result<Vec<Bind>, Failure> {
    let all = args.ro_bind.iter().map(|p| (p, false)).chain(args.bind.iter().map(|p| (p, true)));
    all.map(|(Pair(from, to), writable)| {
        // The user means what a link points to; a build's own links are never followed.
        let from = fs::canonicalize(Path::new(from)).map_err(|e| Failure::new(Kind::User, e))?;
        Ok(Bind { from, to: to.clone(), writable })
    })
    .collect()
}

fn environment(args: &RoomArgs, ground: &Ground, terminal: bool) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = vec![
        ("HOME".into(), "/root".into()),
        ("LANG".into(), "C.UTF-8".into()),
        ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
    ];
    #[expect(clippy::disallowed_methods, reason = "this is part of cli")]
    if let (true, Ok(term)) = (terminal, std::env::var("TERM")) {
        env.push(("TERM".into(), term));
    }
    for (name, value) in ground.env.iter().cloned().chain(args.env.iter().map(|v| (v.0.clone(), v.1.clone()))) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    env
}

/// What is typed wins over what the profile says. A person at work is not hurried: time only if asked for.
fn limits(args: &RoomArgs, profile: Option<&Profile>, defaults: &Defaults) -> Result<Limits, Failure> {
    let usual = || profile::Limits { gives_way: defaults.gives_way.unwrap_or(false), ..profile::Limits::default() };
    let mut limits = profile.map_or_else(usual, |profile| profile.limits.clone());
    args.limits.over(&mut limits)?;
    Ok(Limits {
        cpus: limits.cpus,
        cpuset: limits.cpuset,
        memory: limits.memory,
        swap: limits.swap,
        pids: limits.pids,
        io_weight: limits.io_weight,
        disk: args.disk.or(limits.disk),
        time: args.timeout,
        silence: None,
        idle: None,
        gives_way: limits.gives_way,
    })
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        let kind = match &error {
            SandboxError::Command { missing: true, .. } => Kind::Command(127),
            SandboxError::Command { missing: false, .. } => Kind::Command(126),
            _ => Kind::System,
        };
        let host = matches!(error, SandboxError::Refused(_) | SandboxError::Setup(_) | SandboxError::Ids(_));
        let host = host || matches!(error, SandboxError::Limit(_) | SandboxError::Emulation(_));
        let failure = Self::new(kind, error);
        if host { failure.hint_at_doctor() } else { failure }
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parse(args: &[&str]) -> Result<clap::ArgMatches, ErrorKind> {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("run"));
        command.try_get_matches_from([&["run"], args].concat()).map_err(|e| e.kind())
    }

    #[test]
    fn beside_a_bundle_every_other_option_is_refused() {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("run"));
        let options = command.get_arguments().filter_map(|arg| arg.get_long()).filter(|long| *long != "bundle");
        for option in options.map(|long| format!("--{long}")) {
            let values = ["1", "100", "1GiB", "/x", "x", "/x:/x", "A=b", "90s"];
            let mut said: Vec<_> = values.iter().map(|value| parse(&["--bundle", "b", &option, value])).collect();
            said.push(parse(&["--bundle", "b", &option]));
            assert!(!said.iter().any(Result::is_ok), "{option}: name it in BESIDE_NO_BUNDLE");
            let conflicts = |said: &Result<_, ErrorKind>| matches!(said, Err(ErrorKind::ArgumentConflict));
            assert!(said.iter().any(conflicts), "{option}: {said:?}");
        }
        parse(&["--bundle", "b"]).unwrap();
        assert_eq!(parse(&["--bundle", "b", "true"]).unwrap_err(), ErrorKind::ArgumentConflict);
        assert_eq!(parse(&[]).unwrap_err(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn a_folder_in_memory_may_have_a_size() {
        let size =
            |text: &str| text.parse::<Memory>().map(|memory| (memory.0.as_path().display().to_string(), memory.1));
        assert_eq!(size("/x").unwrap(), ("/x".to_string(), 1 << 30));
        assert_eq!(size("/x:4KiB").unwrap(), ("/x".to_string(), 4096));
        for wrong in ["x", "/x:", "/x:many", "/x/..:4KiB"] {
            size(wrong).unwrap_err();
        }
    }
}
