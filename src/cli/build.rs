//! `bindery build`: builds packages and everything they need, and publishes them.

use std::collections::BTreeMap;

use crate::atom::{Atom, Name};
use crate::build::{self, BuildError, Host, Prepared};
use crate::cli::context::Context;
use crate::cli::events::shower;
use crate::cli::limits::LimitArgs;
use crate::cli::report::{self, Failure, Kind, Outcome, say, table};
use crate::fs;
use crate::plan::Action;
use crate::profile::Profile;
use crate::sandbox::{IdRange, range};
use crate::state::Lease;

/// Arguments of `bindery build`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The hardware profile to build for
    #[arg(long, value_name = "NAME")]
    profile: Name,
    /// What to build: packages, or sets of the configuration; `@world` where none is named
    #[arg(value_name = "ATOM")]
    atoms: Vec<Atom>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Say what would be built and why, and build nothing
    #[arg(long)]
    pretend: bool,
}

const EXAMPLES: &str = "\
Examples:
  bindery build --profile amd64 app-misc/hello     build it and all it needs, and publish
  bindery build --profile amd64 @demo --pretend    say what would be built from a set, and why
  bindery build --profile amd64 =app-misc/hello-2.12.1

Packages that are built already and would come out the same are not built again. One that fails costs only itself and \
what needs it: the others are published, and the exit status is 3. `bindery log PACKAGE` prints its log. \
SOURCE_DATE_EPOCH, where it is set, wins over the profile's source-date-epoch.";

/// Builds, or says what would be built.
pub(super) fn build(cx: &Context, args: Args) -> Outcome {
    let mut profile = Profile::load(&cx.config, &args.profile)?;
    args.limits.over(&mut profile.limits)?;
    let asked = if args.atoms.is_empty() { vec!["@world".parse().expect("it is an atom")] } else { args.atoms };
    let atoms = profile.expand(&asked).map_err(|e| {
        let hints = e.hints();
        Failure { hints, ..Failure::new(Kind::User, e) }
    })?;
    let ids = cx.prepare()?;
    let host = host(cx, &ids)?;
    if args.pretend {
        return pretend(cx, &host, &profile, &atoms);
    }
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let status = build::build(&host, &profile, &atoms, &asked, &mut shower(cx.json))?;
    if status.failed.is_empty() {
        if let (Some(generation), true) = (status.generation, status.built.is_empty()) {
            say(&format!("generation {generation} of {} is current", profile.name));
        }
        return Ok(());
    }
    let failed: Vec<_> = status.failed.iter().map(ToString::to_string).collect();
    Err(Failure::new(Kind::Build, anyhow::anyhow!("{} of {} failed: {}", failed.len(), of(&status), failed.join(", ")))
        .hint(format!("the whole log: bindery log {}", failed[0])))
}

fn of(status: &build::Status) -> String {
    format!("{} packages", status.built.len() + status.failed.len() + status.skipped.len())
}

fn host<'a>(cx: &'a Context, ids: &'a IdRange) -> Result<Host<'a>, Failure> {
    Ok(Host {
        state: &cx.state,
        config: &cx.config,
        ids,
        cancel: &cx.cancel,
        jobs: cx.config.defaults.jobs,
        source_date: source_date()?,
        proxy: None,
    })
}

/// Returns the time that stands for "now" in builds, where the environment says one (reproducible-builds.org).
fn source_date() -> Result<Option<u64>, Failure> {
    #[expect(clippy::disallowed_methods, reason = "this is part of cli")]
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::user(format!("SOURCE_DATE_EPOCH=`{text}` is not a number of seconds")))
}

fn pretend(cx: &Context, host: &Host<'_>, profile: &Profile, atoms: &[Atom]) -> Outcome {
    let prepared = plan(cx, host, profile, atoms).map_err(|e| e.or_interrupted(&cx.cancel))?;
    if cx.json { report::print_json(&prepared.plan) } else { show(&prepared) }
}

/// Makes a plan with a configuration that is there only meanwhile.
fn plan(cx: &Context, host: &Host<'_>, profile: &Profile, atoms: &[Atom]) -> Result<Prepared, BuildError> {
    let mut lease = Lease::take(&cx.state, &format!("a plan for {}", profile.name))?;
    let folder = cx.state.runs().join(format!("plan-{}", lease.id()));
    lease.owns_path(folder.clone())?;
    fs::create_dir_new(&folder, 0o700)?;
    range::admit(host.ids, &folder)?;
    let prepared = build::prepare(host, profile, atoms, &folder.join("portage"), &mut shower(false));
    fs::remove_dir_all(&folder)?;
    lease.release()?;
    prepared
}

fn show(prepared: &Prepared) -> Outcome {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    let rows: Vec<_> = prepared
        .plan
        .packages
        .iter()
        .map(|planned| {
            let action = if matches!(planned.action, Action::Build(_)) { "build" } else { "reuse" };
            if action == "build" {
                sizes.extend(planned.distfiles.iter().map(|file| (file.dist.name.as_str(), file.dist.size)));
            }
            let flags = planned.iuse.iter().map(|flag| {
                let on = planned.use_flags.contains(flag);
                format!("{}{flag}", if on { "" } else { "-" })
            });
            let flags = flags.collect::<Vec<_>>().join(" ");
            [action.to_string(), planned.cpv.to_string(), flags, planned.action.to_string()]
        })
        .collect();
    let count = prepared.plan.to_build().count();
    let sources = report::bytes(sizes.values().sum());
    let summary = format!("{count} to build from {sources} of source archives, {} unchanged", rows.len() - count);
    report::print(&format!("{}{summary}\n", table(["action", "package", "USE", "why"], &rows)))
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let kind = match error.blame() {
            build::Blame::User => Kind::User,
            build::Blame::Package => Kind::Build,
            build::Blame::Host => Kind::System,
            build::Blame::Signal => Kind::Interrupted,
        };
        let (hints, sandbox) = (error.hints(), matches!(error, BuildError::Sandbox(_)));
        let failure = Self { hints, ..Self::new(kind, error) };
        if sandbox { failure.hint_at_doctor() } else { failure }
    }
}
