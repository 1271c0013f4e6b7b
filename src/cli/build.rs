//! `bindery build`: builds packages and everything they need, and publishes them.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use crate::atom::{Atom, Name};
use crate::build::{self, BuildError, Host};
use crate::cli::context::Context;
use crate::cli::events::shower;
use crate::cli::limits::LimitArgs;
use crate::cli::plan;
use crate::cli::report::{Failure, Kind, Outcome, say};
use crate::profile::Profile;
use crate::root::bundle::ROOTFS;
use crate::sandbox::IdRange;
use crate::{fs, layer};

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
    /// Build up to so many packages side by side; as many as there are processors and memory for, where it is not given
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroU32>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Say what would be built and why, and build nothing: `bindery plan` says more
    #[arg(long)]
    pretend: bool,
    /// Build nothing, but write the step that would build the package to a new folder, as an OCI bundle
    #[arg(long, value_name = "DIR", conflicts_with = "pretend")]
    bundle_only: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  bindery build --profile amd64 app-misc/hello     build it and all it needs, and publish
  bindery build --profile amd64 @demo --pretend    say what would be built from a set, and why
  bindery build --profile amd64 =app-misc/hello-2.12.1
  bindery build --profile amd64 @world --jobs 4    at most four packages side by side
  bindery build --profile amd64 app-misc/hello --bundle-only /srv/hello

Packages that are built already and would come out the same are not built again. One that fails costs only itself and \
what needs it: the others are published, and the exit status is 3. `bindery log PACKAGE` prints its log. \
SOURCE_DATE_EPOCH, where it is set, wins over the profile's source-date-epoch.";

/// Builds, or says what would be built.
pub(super) fn build(cx: &Context, args: Args) -> Outcome {
    let mut profile = Profile::load(&cx.config, &args.profile)?;
    args.limits.over(&mut profile.limits)?;
    let (asked, atoms) = asked(&profile, args.atoms)?;
    let ids = cx.prepare()?;
    let host = Host { side_by_side: args.jobs, ..host(cx, &ids)? };
    if let Some(folder) = &args.bundle_only {
        return bundle(cx, &host, &profile, &atoms, folder);
    }
    if args.pretend {
        let prepared = plan::prepare(cx, &host, &profile, &atoms)?;
        return plan::show(cx, &prepared);
    }
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let status = build::build(&host, &profile, &atoms, &asked, &mut shower(cx.json));
    let status = status.inspect_err(|error| plan::refused(cx, error))?;
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

/// Returns what is wanted, as it was asked for and without sets.
pub(super) fn asked(profile: &Profile, atoms: Vec<Atom>) -> Result<(Vec<Atom>, Vec<Atom>), Failure> {
    let asked = if atoms.is_empty() { vec!["@world".parse().expect("it is an atom")] } else { atoms };
    let atoms = profile.expand(&asked).map_err(|e| {
        let hints = e.hints();
        Failure { hints, ..Failure::new(Kind::User, e) }
    })?;
    Ok((asked, atoms))
}

/// Writes the bundle of one package's step, and says how to run it.
fn bundle(cx: &Context, host: &Host<'_>, profile: &Profile, atoms: &[Atom], folder: &Path) -> Outcome {
    let [atom] = atoms else {
        return Err(Failure::user(format!("`--bundle-only` is for one package, and {} are named", atoms.len())));
    };
    let folder = std::path::absolute(folder).map_err(|e| Failure::new(Kind::User, e))?;
    if fs::symlink_metadata(&folder).is_ok() {
        return Err(Failure::user(format!("`{}` is there already; name a new folder", folder.display())));
    }
    let made = build::bundle(host, profile, atom, &folder, &mut shower(cx.json));
    if made.is_err() {
        // What is half a bundle is none; what went wrong first is what to tell.
        let _ = layer::remove(host.ids, &folder.join(ROOTFS));
        let _ = fs::remove_dir_all(&folder);
    }
    let made = made.map_err(|e| e.or_interrupted(&cx.cancel));
    let cpv = made.inspect_err(|error| plan::refused(cx, error))?;
    say(&format!("the step that builds {cpv} is in `{0}`: bindery run --bundle {0}", folder.display()));
    Ok(())
}

fn of(status: &build::Status) -> String {
    format!("{} packages", status.built.len() + status.failed.len() + status.skipped.len())
}

pub(super) fn host<'a>(cx: &'a Context, ids: &'a IdRange) -> Result<Host<'a>, Failure> {
    Ok(Host {
        state: &cx.state,
        config: &cx.config,
        ids,
        cancel: &cx.cancel,
        jobs: cx.config.defaults.jobs,
        side_by_side: None,
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
