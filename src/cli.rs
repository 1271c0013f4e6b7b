//! The command line: types, dispatch, and the only place that prints.
//!
//! Order: hidden entry points (bindery started again by itself, inside a namespace), then clap's types, then one
//! function for each command: arguments → request → call → show.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::atom::Name;

mod build;
mod client;
mod commands;
mod context;
mod cost;
mod doctor;
mod entry;
mod events;
mod image;
mod key;
mod limit;
mod limits;
mod log;
mod plan;
mod profile;
mod reap;
pub mod report;
mod run;
mod serve;
mod signals;
mod verify;

use context::Context;
use report::{Failure, Kind};

/// Build signed binary packages from ebuilds, in one isolated root per hardware profile
#[derive(Debug, Parser)]
#[command(name = "bindery", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Args {
    /// Keep everything below this folder instead of the system's or the user's own folders
    #[arg(long, global = true, value_name = "DIR", env = "BINDERY_STATE", help_heading = GLOBAL)]
    state: Option<PathBuf>,
    /// Look for bindery.toml, profiles/ and images/ in this folder first
    #[arg(long, global = true, value_name = "DIR", env = "BINDERY_CONFIG", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// Print what is listed, shown or made as JSON on stdout, and what happens in a build as one object a line
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// The heading of what every command takes.
const GLOBAL: &str = "Global options";

const EXIT_CODES: &str = "\
Exit status: 0 done; 1 what was asked for is wrong; 2 the command line is; 3 a package failed or was refused; \
4 the host cannot do it; 70 a bug; 130 stopped by a signal. `run` and `shell` pass the command's status on \
(128 + signal), have 128 + signal too when one stops bindery, and use 125 to 127 for failures of their own.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Build packages and everything they need that is not built yet, and publish them
    Build(build::Args),
    /// Say what would be built, what is used again and what stays, and why
    Plan(plan::Args),
    /// Run a command in a sandbox: no network, a root of its own, thrown away afterwards
    Run(run::Args),
    /// Open an interactive shell in a sandbox, to look around
    Shell(run::ShellArgs),
    /// Make and look at images
    #[command(subcommand)]
    Image(image::Command),
    /// Write, look at and check hardware profiles
    #[command(subcommand)]
    Profile(profile::Command),
    /// Make and look at signing keys
    #[command(subcommand)]
    Key(key::Command),
    /// Check package files: form, hashes, signatures
    Verify(verify::Args),
    /// Write what machines need that install from here
    #[command(subcommand)]
    Client(client::Command),
    /// Serve the published generations over HTTP
    Serve(serve::Args),
    /// Show runs, and the logs of their packages
    Log(log::Args),
    /// Say what this host can do, and how to mend what it cannot
    ///
    /// Each primitive is tried by itself and works, is limited (all else can be done) or is missing. Nothing is changed, and
    /// nothing is left. The exit status is 0 where nothing is missing, and 4 where something is.
    Doctor,
    /// Change the limits of what runs, or list it
    Limit(limit::Args),
    /// Remove what killed processes left behind
    Reap {
        /// Remove all layers of packages, too; they are made again when they are needed
        #[arg(long)]
        layers: bool,
    },
}

/// An image, a profile or folders to take a root from.
#[derive(Debug, clap::Args)]
#[group(required = false, multiple = false)]
struct Source {
    /// The image to run in
    #[arg(long, value_name = "NAME")]
    image: Option<Name>,
    /// The profile whose image, environment and limits to run in
    #[arg(long, value_name = "NAME")]
    profile: Option<Name>,
    /// The folder to run in, which is never changed; of several the first one is on top
    #[arg(long, value_name = "DIR")]
    root: Vec<PathBuf>,
}

/// Runs the program with its arguments, the first being its name, and returns its exit code.
pub fn main(args: Vec<OsString>) -> ExitCode {
    if let Some(code) = entry::dispatch(&args) {
        return code;
    }
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // clap prints help and version to stdout, mistakes to stderr.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let own_codes = matches!(args.command, Command::Run(_) | Command::Shell(_));
    match dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(mut failure) => {
            failure.kind = match failure.kind {
                Kind::Interrupted if own_codes => Kind::Command(signals::status()),
                Kind::Command(_) | Kind::Interrupted => failure.kind,
                _ if own_codes => Kind::Command(125),
                other => other,
            };
            failure.show()
        }
    }
}

fn dispatch(args: Args) -> Result<(), Failure> {
    let cx = Context::new(args.state, args.config, args.json)?;
    match args.command {
        Command::Build(args) => build::build(&cx, args),
        Command::Plan(args) => plan::plan(&cx, args),
        Command::Run(args) => run::run(&cx, args),
        Command::Shell(args) => run::shell(&cx, args),
        Command::Image(command) => image::image(&cx, command),
        Command::Profile(command) => profile::profile(&cx, command),
        Command::Key(command) => key::key(&cx, command),
        Command::Verify(args) => verify::verify(&cx, &args),
        Command::Client(command) => client::client(&cx, command),
        Command::Serve(args) => serve::serve(&cx, &args),
        Command::Log(args) => log::log(&cx, &args),
        Command::Doctor => doctor::doctor(&cx),
        Command::Limit(args) => limit::limit(&cx, &args),
        Command::Reap { layers } => reap::reap(&cx, layers),
    }
}
