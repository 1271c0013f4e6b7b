//! `bindery limit`: changes the limits of what runs.

use crate::build::{self, Outcome as Stands, Status};
use crate::cli::context::Context;
use crate::cli::limits::Quantities;
use crate::cli::report::{self, Failure, Kind, Outcome, say, table};
use crate::event::Event;
use crate::sandbox::{self, Change, ChangeError};
use crate::state::{HeldLease, held_leases};

/// Arguments of `bindery limit`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to change: the id of a run or of a lease; its beginning is enough. Without one, list what runs
    #[arg(value_name = "RUN|LEASE")]
    target: Option<String>,
    #[command(flatten)]
    quantities: Quantities,
}

const EXAMPLES: &str = "\
Examples:
  bindery limit                                      list what runs
  bindery limit 20261121-064100-7 --cpus 0.5         slow a build down, and the packages that follow in the same run
  bindery limit 6b0139f2-668c-0 --pids 200           a command of `bindery run`

Processors, processes and shares of the disk can be limited at any time, memory only where it was limited from the start. \
What was changed is in the run's events.";

/// Something that runs.
#[derive(Debug, serde::Serialize)]
struct Running {
    lease: String,
    /// The run whose builds they are.
    run: Option<String>,
    /// The run that has started that one, for packages that run while its own are built.
    #[serde(skip_serializing_if = "Option::is_none")]
    inside: Option<String>,
    what: String,
    process: u32,
}

/// Changes limits, or lists what runs.
pub(super) fn limit(cx: &Context, args: &Args) -> Outcome {
    let running = running(cx)?;
    let change = args.quantities.change();
    let Some(target) = &args.target else {
        if change != Change::default() {
            return Err(unknown("say which run is to be changed", &running));
        }
        return if cx.json { report::print_json(&running) } else { report::print(&list(&running)) };
    };
    let found: Vec<_> = running.iter().filter(|one| one.matches(target)).collect();
    let Some(first) = found.first() else {
        return Err(unknown(&format!("nothing runs that is called `{target}`"), &running));
    };
    // A run may have several leases, a name's beginning may fit several runs.
    if found.iter().any(|one| one.run != first.run || (one.run.is_none() && one.lease != first.lease)) {
        return Err(unknown(&format!("`{target}` is the beginning of several ids"), &running));
    }
    if change == Change::default() {
        return Err(Failure::user("say what to change, as `--cpus 0.5` or `--pids 200`"));
    }
    let several = found.len() > 1;
    for one in found {
        let folder = cx.state.roots().join(&one.lease);
        let limits = match sandbox::change(&folder, &change) {
            Ok(limits) => limits,
            // Of several that a run builds side by side one may just have ended: what follows it has the change from them.
            Err(_) if several && !is_held(cx, &one.lease)? => continue,
            Err(error @ ChangeError::Refused(_)) => return Err(Failure::new(Kind::User, error)),
            Err(error) => return Err(Failure::new(Kind::System, error)),
        };
        for (limit, how) in &limits {
            say(&format!("{}: {limit} {how}", one.what));
        }
        let event = Event::LimitsChanged { limits: limits.into_iter().collect() };
        for run in one.runs() {
            build::note(&cx.state, run, &event).map_err(|e| Failure::new(Kind::System, e))?;
        }
    }
    Ok(())
}

impl Running {
    fn matches(&self, target: &str) -> bool {
        !target.is_empty() && self.runs().chain([&self.lease]).any(|id| id.starts_with(target))
    }

    fn runs(&self) -> impl Iterator<Item = &String> {
        self.run.iter().chain(&self.inside)
    }
}

fn is_held(cx: &Context, lease: &str) -> Result<bool, Failure> {
    let leases = held_leases(&cx.state).map_err(|e| Failure::new(Kind::System, e))?;
    Ok(leases.iter().any(|held| held.id == lease))
}

/// Returns what holds a lease and a process: leases without one wait, or prepare.
fn running(cx: &Context) -> Result<Vec<Running>, Failure> {
    let leases = held_leases(&cx.state).map_err(|e| Failure::new(Kind::System, e))?;
    let runs = build::runs(&cx.state).map_err(|e| Failure::new(Kind::System, e))?;
    Ok(leases.into_iter().filter(|lease| !lease.record.processes.is_empty()).map(|lease| of(lease, &runs)).collect())
}

fn of(lease: HeldLease, runs: &[Status]) -> Running {
    let own = |run: &&Status| run.outcome == Stands::Running && run.process == lease.record.holder;
    // The last: one that it was started in waits for it, and builds nothing meanwhile.
    let run = runs.iter().rev().find(own);
    let (run, inside) = (run.map(|run| run.id.clone()), run.and_then(|run| run.inside.clone()));
    Running { lease: lease.id, run, inside, what: lease.record.purpose, process: lease.record.holder }
}

fn list(running: &[Running]) -> String {
    if running.is_empty() {
        return "nothing runs".to_string();
    }
    let rows = running.iter().map(|one| {
        [one.lease.clone(), one.run.clone().unwrap_or("-".to_string()), one.process.to_string(), one.what.clone()]
    });
    table(["lease", "run", "process", "what"], &rows.collect::<Vec<_>>())
}

fn unknown(message: &str, running: &[Running]) -> Failure {
    Failure::user(message).hint(format!("what runs:\n{}", list(running).trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Record;
    use crate::state::{Lease, State};

    #[test]
    fn what_is_built_for_a_run_by_a_run_of_its_own_is_of_both() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let [own, side] = ["sparc64", "amd64"].map(|profile| profile.parse().unwrap());
        let outer = Record::start(&state, &own, &[], None).unwrap();
        let inner = Record::start(&state, &side, &[], Some(&outer.status.id)).unwrap();
        let mut lease = Lease::take(&state, "building x").unwrap();
        lease.owns_process(std::process::id(), 0).unwrap();
        let found = || {
            let leases = held_leases(&state).unwrap();
            let lease = leases.into_iter().find(|lease| !lease.record.processes.is_empty()).unwrap();
            let one = of(lease, &build::runs(&state).unwrap());
            (one.run, one.inside)
        };
        let ids = [&outer, &inner].map(|record| record.status.id.clone());
        assert_eq!(found(), (Some(ids[1].clone()), Some(ids[0].clone())));
        // Then its own packages are built.
        inner.end(Stands::Done).unwrap();
        assert_eq!(found(), (Some(ids[0].clone()), None));
    }

    #[test]
    fn a_run_is_meant_by_its_id_its_leases_or_their_beginning() {
        let run = Some("2026-7".into());
        let one = Running { lease: "6b01-7-0".into(), run, inside: None, what: "x".into(), process: 7 };
        assert!(["6b01-7-0", "6b", "2026-7", "20"].iter().all(|target| one.matches(target)));
        assert!(!["", "7", "6b01-7-01"].iter().any(|target| one.matches(target)));
        let within = Running { run: Some("2027-7".into()), inside: one.run.clone(), ..one };
        assert!(["2027-7", "2026-7", "2026"].iter().all(|target| within.matches(target)));
        let alone = Running { run: None, inside: None, ..within };
        assert!(!alone.matches("2026-7"));
    }
}
