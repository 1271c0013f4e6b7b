//! `bindery log`: runs, and the logs of their packages.

use std::path::PathBuf;

use crate::build::{self, Outcome as Stands, Status};
use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, table};
use crate::fs;

/// Arguments of `bindery log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The package whose log to print: `hello`, `app-misc/hello` or with its version; without one, list the runs.
    /// With `--json`, where the log is
    package: Option<String>,
    /// Look only at this run; its beginning is enough, and `last` is the newest
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Lists runs, or prints the newest log of a package.
pub(super) fn log(cx: &Context, args: &Args) -> Outcome {
    let mut runs = build::runs(&cx.state).map_err(|e| Failure::new(Kind::System, e))?;
    if let Some(id) = &args.run {
        let newest = runs.last().map(|run| run.id.clone());
        runs.retain(
            |run| if id == "last" { Some(&run.id) == newest.as_ref() } else { run.id.starts_with(id.as_str()) },
        );
        if runs.is_empty() {
            return Err(Failure::user(format!("no run `{id}`")).hint("`bindery log` lists the runs"));
        }
    }
    match &args.package {
        Some(package) => print_log(cx, &runs, package),
        None if cx.json => report::print_json(&runs),
        None => list(&runs),
    }
}

fn list(runs: &[Status]) -> Outcome {
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let outcome = match run.outcome {
                Stands::Running => "running",
                Stands::Killed => "killed",
                Stands::Done => "done",
                Stands::Failed => "failed",
                Stands::Interrupted => "interrupted",
            };
            let what = [(run.built.len(), "built"), (run.failed.len(), "failed"), (run.skipped.len(), "skipped")];
            let what: Vec<_> = what.iter().filter(|(n, _)| *n > 0).map(|(n, w)| format!("{n} {w}")).collect();
            [run.id.clone(), run.profile.to_string(), outcome.to_string(), run.atoms.join(" "), what.join(", ")]
        })
        .collect();
    report::print(&table(["run", "profile", "outcome", "asked for", "packages"], &rows))
}

fn print_log(cx: &Context, runs: &[Status], package: &str) -> Outcome {
    let mut found: Vec<PathBuf> = Vec::new();
    for run in runs.iter().rev() {
        for category in fs::read_dir_if_exists(&cx.state.runs().join(&run.id)).map_err(system)? {
            if !category.is_dir() {
                continue;
            }
            for dir in fs::read_dir(&category).map_err(system)? {
                if dir.join("log").is_file() && matches(&dir, package) {
                    found.push(dir.join("log"));
                }
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    match found.as_slice() {
        [] => Err(Failure::user(format!("no run has a log of `{package}`")).hint("`bindery log` lists the runs")),
        [file] if cx.json => report::print_json(&serde_json::json!({ "log": file })),
        [file] => report::print(&String::from_utf8_lossy(&fs::read(file).map_err(system)?)),
        several => {
            let names: Vec<_> = several.iter().filter_map(|log| name(log.parent()?)).collect();
            Err(Failure::user(format!("`{package}` is several packages: {}", names.join(", "))))
        }
    }
}

/// Returns `category/name-version` for a package's folder in a run.
fn name(dir: &std::path::Path) -> Option<String> {
    Some(format!("{}/{}", dir.parent()?.file_name()?.to_str()?, dir.file_name()?.to_str()?))
}

/// Returns whether a package's folder is what the user means.
fn matches(dir: &std::path::Path, wanted: &str) -> bool {
    let Some(Ok(cpv)) = name(dir).map(|name| name.parse::<crate::atom::Cpv>()) else { return false };
    [cpv.to_string(), cpv.cp(), cpv.pf(), cpv.package.to_string()].iter().any(|name| name == wanted)
}

fn system(error: fs::PathError) -> Failure {
    Failure::new(Kind::System, error)
}
