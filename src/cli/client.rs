//! `bindery client`: what machines need that install from here.

use std::path::PathBuf;

use crate::atom::Name;
use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, say};
use crate::client::{self, Subscription};
use crate::package::key;
use crate::profile::Profile;

/// `bindery client …`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write a folder that subscribes a machine: copy it there and run its `setup`
    Config(Config),
}

/// Arguments of `bindery client config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  bindery client config --profile amd64 --uri http://builder:8478/amd64 --output client
  scp -r client machine: && ssh machine sudo sh client/setup")]
pub(super) struct Config {
    /// The profile to install from
    #[arg(long, value_name = "NAME")]
    profile: Name,
    /// Where clients find it: http://HOST:8478/PROFILE from `bindery serve`, or file:///…/profiles/PROFILE/current
    #[arg(long, value_name = "URI")]
    uri: String,
    /// The folder to write
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// What clients call it
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// Among several binary hosts that have a package, the one with the highest wins
    #[arg(long, value_name = "N", default_value_t = 10)]
    priority: i32,
}

/// Runs `bindery client`.
pub(super) fn client(cx: &Context, command: Command) -> Outcome {
    let Command::Config(args) = command;
    let profile = Profile::load(&cx.config, &args.profile)?;
    let certificate = key::public(&cx.state.keys(), &profile.key)?;
    let name = args.name.unwrap_or_else(|| args.profile.clone());
    let keywords: Vec<String> = profile.accept_keywords.iter().map(ToString::to_string).collect();
    let keywords = if keywords.is_empty() { profile.arch.to_string() } else { keywords.join(" ") };
    let files = client::config(&Subscription {
        profile: &args.profile,
        name: &name,
        uri: &args.uri,
        certificate: &certificate,
        arch: profile.arch.as_str(),
        chost: profile.chost.as_str(),
        accept_keywords: &keywords,
        priority: args.priority,
    })
    .map_err(|e| Failure::new(Kind::User, e))?;
    client::write(&args.output, &files).map_err(|e| Failure::new(Kind::System, e))?;
    if cx.json {
        let paths: Vec<_> = files.iter().map(|file| args.output.join(file.name)).collect();
        return report::print_json(&serde_json::json!({ "folder": args.output, "files": paths }));
    }
    say(&format!("copy `{}` to a machine and run its `setup` there, as root", args.output.display()));
    Ok(())
}
