//! `bindery log`: runs, the logs of their packages, and what `run` and `shell` ran.

use std::path::PathBuf;

use crate::build::{self, Outcome as Stands, Status};
use crate::cli::commands::{self, Command, How};
use crate::cli::context::Context;
use crate::cli::events;
use crate::cli::report::{self, Failure, Kind, Outcome, table};
use crate::event::Event;
use crate::fs;
use crate::sandbox::{Status as Exited, Stopped};

/// Arguments of `bindery log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The package whose log to print: `hello`, `app-misc/hello` or with its version; without one, list the runs.
    /// With `--json`, where the log is
    package: Option<String>,
    /// Look only at this run; its beginning is enough, and `last` is the newest that was asked for
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// List all that is kept of what `run` and `shell` ran, not only the last ones below the runs; with `--json`, also
    /// what isolation and limits each really had
    #[arg(long, conflicts_with_all = ["package", "run"])]
    commands: bool,
}

/// How many commands are listed unless all are asked for.
const LAST: usize = 10;
/// How much of a command line is listed.
const WIDTH: usize = 60;

/// Lists runs, or prints the newest log of a package.
pub(super) fn log(cx: &Context, args: &Args) -> Outcome {
    if args.commands {
        let commands = commands::all(&cx.state).map_err(system)?;
        return if cx.json { report::print_json(&commands) } else { report::print(&list_commands(&commands)) };
    }
    let mut runs = build::runs(&cx.state).map_err(|e| Failure::new(Kind::System, e))?;
    if let Some(id) = &args.run {
        retain(&mut runs, id);
        if runs.is_empty() {
            return Err(Failure::user(format!("no run `{id}`")).hint("`bindery log` lists the runs"));
        }
    }
    match &args.package {
        Some(package) => print_log(cx, &runs, package),
        None if cx.json => report::print_json(&runs),
        None => list(cx, &runs, args.run.is_none()),
    }
}

/// Leaves the runs that an id, its beginning, or `last` means: that of a run which another has started, for packages that run
/// meanwhile, begins as the other's does.
fn retain(runs: &mut Vec<Status>, id: &str) {
    let newest = || runs.iter().rev().find(|run| run.inside.is_none()).map(|run| run.id.clone());
    let one = if id == "last" { newest() } else { runs.iter().find(|run| run.id == id).map(|run| run.id.clone()) };
    runs.retain(|run| match &one {
        Some(one) => run.id == *one,
        None => run.id.starts_with(id),
    });
}

fn list(cx: &Context, runs: &[Status], with_commands: bool) -> Outcome {
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
            let (built, shared) = (run.built.len(), run.shared.len());
            let what =
                [(built, "built"), (shared, "shared"), (run.failed.len(), "failed"), (run.skipped.len(), "skipped")];
            let what: Vec<_> = what.iter().filter(|(n, _)| *n > 0).map(|(n, w)| format!("{n} {w}")).collect();
            [run.id.clone(), run.profile.to_string(), outcome.to_string(), run.atoms.join(" "), what.join(", ")]
        })
        .collect();
    let mut text = table(["run", "profile", "outcome", "asked for", "packages"], &rows);
    let commands = if with_commands { commands::all(&cx.state).map_err(system)? } else { Vec::new() };
    let last = &commands[commands.len().saturating_sub(LAST)..];
    if !last.is_empty() {
        text.push('\n');
        text.push_str(&list_commands(last));
    }
    if let ([run], false) = (runs, with_commands) {
        let reasons = reasons(cx, run)?;
        if !reasons.is_empty() {
            text.push_str(&format!("\n{reasons}"));
        }
    }
    report::print(&text)
}

/// Returns why packages of a run were built, used again or shared after all, a line each.
fn reasons(cx: &Context, run: &Status) -> Result<String, Failure> {
    let events = build::events(&cx.state, &run.id).map_err(system)?;
    let told = events.iter().filter(|event| matches!(event, Event::Settled { .. } | Event::Shared { .. }));
    Ok(told.filter_map(events::line).map(|line| line.trim_start().to_string() + "\n").collect())
}

fn list_commands(commands: &[Command]) -> String {
    let rows = commands.iter().map(|command| {
        let begun = &command.begun;
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(begun.at);
        let line = format!("{}: {}", begun.from, begun.command.join(" "));
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = match line.char_indices().nth(WIDTH) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        };
        [
            humantime::format_rfc3339_seconds(at).to_string(),
            begun.lease.clone(),
            begun.tool.clone(),
            begun.network.clone(),
            outcome(command),
            line,
        ]
    });
    table(["started", "lease", "tool", "network", "outcome", "command"], &rows.collect::<Vec<_>>())
}

fn outcome(command: &Command) -> String {
    match &command.how {
        None if command.running => "running".to_string(),
        None => "killed".to_string(),
        Some(How::Error(_)) => "error".to_string(),
        Some(How::Exit(told)) => match (told.stopped, told.status) {
            (Some(Stopped::Cancelled), _) => "interrupted".to_string(),
            (Some(stopped), _) => format!("limit: {}", format!("{stopped:?}").to_lowercase()),
            (None, Exited::Code(0)) => "done".to_string(),
            (None, Exited::Code(code)) => format!("exit {code}"),
            (None, Exited::Signal(signal)) => format!("signal {signal}"),
        },
    }
}

fn print_log(cx: &Context, runs: &[Status], package: &str) -> Outcome {
    let mut found: Vec<PathBuf> = Vec::new();
    for run in runs.iter().rev() {
        let folder = cx.state.runs().join(&run.id);
        // What only ran while others were built comes after what was asked for.
        for folder in [&folder, &folder.join("emulated")] {
            for category in fs::read_dir_if_exists(folder).map_err(system)?.iter().filter(|path| path.is_dir()) {
                for dir in fs::read_dir(category).map_err(system)? {
                    if dir.join("log").is_file() && matches(&dir, package) {
                        found.push(dir.join("log"));
                    }
                }
            }
            if !found.is_empty() {
                break;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Record;
    use crate::state::State;

    #[test]
    fn last_is_what_was_asked_for_and_an_id_is_not_the_beginning_of_that_of_a_run_inside() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let outer = Record::start(&state, &"sparc64".parse().unwrap(), &[], None).unwrap();
        let inner = Record::start(&state, &"amd64".parse().unwrap(), &[], Some(&outer.status.id)).unwrap();
        let [outer, inner] = [&outer, &inner].map(|record| record.status.id.as_str());
        let left = |id: &str| {
            let mut runs = build::runs(&state).unwrap();
            retain(&mut runs, id);
            runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
        };
        assert_eq!(
            (left("last"), left(outer), left(inner)),
            (vec![outer.into()], vec![outer.into()], vec![inner.into()])
        );
        assert_eq!((left(&outer[..8]).len(), left("x").len()), (2, 0));
    }
}
