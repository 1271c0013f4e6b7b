//! `bindery plan`: what would be built, what is used again and what stays, and why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::atom::{Atom, Name};
use crate::build::{self, BuildError, Explanation, Host, Outlook, Prepared};
use crate::cli::build::{asked, host};
use crate::cli::context::Context;
use crate::cli::events::shower;
use crate::cli::report::{self, Failure, Outcome, say, table};
use crate::fs;
use crate::plan::{Action, Plan, Planned, Refusal, drawing};
use crate::profile::Profile;
use crate::sandbox::range;
use crate::state::Lease;

/// Arguments of `bindery plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The hardware profile to plan for
    #[arg(long, value_name = "NAME")]
    profile: Name,
    /// What is wanted: packages, or sets of the configuration; `@world` where none is named
    #[arg(value_name = "ATOM")]
    atoms: Vec<Atom>,
    /// Write a picture of the plan to a new or existing file, in SVG
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Say all that is known about one package: `hello`, `app-misc/hello` or `app-misc/hello-2.10`
    #[arg(long, value_name = "PACKAGE", conflicts_with = "graph")]
    why: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  bindery plan --profile amd64 @demo                       what would be built, used again and kept, and why
  bindery plan --profile amd64 @demo --why hello           all about one package
  bindery plan --profile amd64 @demo --graph plan.svg      a picture of it
  bindery --json plan --profile amd64 @demo

Nothing is built. The time is that of earlier builds; packages that were never built have none.";

/// A plan as JSON.
#[derive(serde::Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(flatten)]
    outlook: &'a Outlook,
    /// How much there is to download, in bytes.
    download: u64,
}

/// Why there is no plan, as JSON: one line, an event among those of a build.
#[derive(serde::Serialize)]
struct Refused<'a> {
    event: &'static str,
    /// What the package manager's resolver does not find.
    problems: &'a [Explanation],
    /// What bindery does not build.
    refusals: &'a [Refusal],
    /// How many more problems there are.
    more: u32,
}

/// Says what would be done.
pub(super) fn plan(cx: &Context, args: Args) -> Outcome {
    let profile = Profile::load(&cx.config, &args.profile)?;
    let (_, atoms) = asked(&profile, args.atoms)?;
    let ids = cx.prepare()?;
    let host = host(cx, &ids)?;
    let prepared = prepare(cx, &host, &profile, &atoms)?;
    if let Some(file) = &args.graph {
        fs::write_atomic(file, drawing(&prepared.plan), 0o644).map_err(|e| Failure::new(report::Kind::User, e))?;
        say(&format!("the picture is in `{}`", file.display()));
        return Ok(());
    }
    if let Some(package) = &args.why {
        return why(cx, &prepared, package);
    }
    show(cx, &prepared)
}

/// Makes a plan with a configuration that is there only meanwhile.
pub(super) fn prepare(cx: &Context, host: &Host<'_>, profile: &Profile, atoms: &[Atom]) -> Result<Prepared, Failure> {
    let prepared = prepare_meanwhile(cx, host, profile, atoms).map_err(|e| e.or_interrupted(&cx.cancel));
    Ok(prepared.inspect_err(|error| refused(cx, error))?)
}

fn prepare_meanwhile(cx: &Context, host: &Host<'_>, profile: &Profile, atoms: &[Atom]) -> Result<Prepared, BuildError> {
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

/// Prints why there is no plan as JSON, where that is asked for. The words for people go to stderr all the same.
pub(super) fn refused(cx: &Context, error: &BuildError) {
    let why = match error {
        BuildError::Unsolvable { problems, more } => Refused { event: "refused", problems, refusals: &[], more: *more },
        BuildError::Refused { refusals, .. } => Refused { event: "refused", problems: &[], refusals, more: 0 },
        _ => return,
    };
    if let (true, Ok(line)) = (cx.json, serde_json::to_string(&why)) {
        // Whoever reads it may have stopped: the exit code says it, too.
        let _ = report::print(&line);
    }
}

/// Shows a plan, as a table or as JSON.
pub(super) fn show(cx: &Context, prepared: &Prepared) -> Outcome {
    let (plan, outlook) = (&prepared.plan, &prepared.outlook);
    let download = download(cx, plan);
    if cx.json {
        return report::print_json(&Shown { plan, outlook, download });
    }
    let mut rows: Vec<_> = plan
        .packages
        .iter()
        .map(|planned| {
            let time = outlook.expected.get(&planned.cpv).map(|took| report::time(*took)).unwrap_or_default();
            let emulated = if outlook.emulated.contains_key(&planned.cpv) { "; emulated" } else { "" };
            let why = format!("{}{emulated}", planned.action);
            [verb(planned).to_string(), planned.cpv.to_string(), flags(planned), time, why]
        })
        .collect();
    rows.extend(outlook.keep.iter().map(|kept| {
        let why = format!("published before as build {}, and not asked for", kept.build_id);
        ["keep".to_string(), kept.cpv.to_string(), String::new(), String::new(), why]
    }));
    let build = plan.to_build().count();
    let mut summary = format!("{build} to build");
    if build > 0 {
        summary.push_str(&match download {
            0 => ", nothing to download,".to_string(),
            download => format!(" from {} to download", report::bytes(download)),
        });
        let unknown = plan.to_build().filter(|planned| !outlook.expected.contains_key(&planned.cpv)).count();
        let known = report::time(outlook.expected.values().sum());
        match (build - unknown, unknown) {
            (0, _) => {}
            (_, 0) => summary.push_str(&format!(" in about {known}")),
            (_, unknown) => summary.push_str(&format!(" in about {known} and what {unknown} new ones take")),
        }
    }
    let share = plan.shared();
    let shared = if share > 0 { format!(", {share} shared with other profiles") } else { String::new() };
    let (summary, unchanged) = (summary.trim_end_matches(','), plan.packages.len() - build - share);
    let summary = format!("{summary}{shared}, {unchanged} unchanged, {} kept", outlook.keep.len());
    report::print(&format!("{}{summary}\n", table(["action", "package", "USE", "time", "why"], &rows)))
}

/// Shows all about one package.
fn why(cx: &Context, prepared: &Prepared, package: &str) -> Outcome {
    let plan = &prepared.plan;
    let wanted = package.trim_start_matches('=');
    let is = |planned: &&Planned| {
        let cpv = &planned.cpv;
        [cpv.to_string(), cpv.cp(), cpv.package.to_string(), cpv.pf()].iter().any(|name| name == wanted)
    };
    let found: Vec<&Planned> = plan.packages.iter().filter(is).collect();
    if found.is_empty() {
        let hint = match crate::config::closest(wanted, plan.packages.iter().map(|p| p.cpv.package.as_str())) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "`bindery plan` without `--why` lists what is in it".to_string(),
        };
        return Err(Failure::user(format!("no package `{package}` is in the plan")).hint(hint));
    }
    if cx.json {
        return report::print_json(&found);
    }
    let text: Vec<String> = found.into_iter().map(|planned| about(prepared, planned)).collect();
    report::print(&text.join("\n"))
}

fn about(prepared: &Prepared, planned: &Planned) -> String {
    let list = |cpvs: Vec<String>| if cpvs.is_empty() { "nothing".to_string() } else { cpvs.join(", ") };
    let names = |cpvs: &[crate::atom::Cpv]| cpvs.iter().map(ToString::to_string).collect::<Vec<_>>();
    let of = |needs: fn(&Planned) -> &Vec<crate::atom::Cpv>| {
        let users = prepared.plan.packages.iter().filter(|other| needs(other).contains(&planned.cpv));
        list(users.map(|other| other.cpv.to_string()).collect())
    };
    let mut text = format!("{}: {}\n", planned.cpv, verb(planned));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<14}{value}\n"));
    for (number, reason) in planned.action.reasons().into_iter().enumerate() {
        line(if number == 0 { "because" } else { "" }, reason);
    }
    line("method", prepared.method(&planned.cpv));
    line("built for", of(|other| &other.needs));
    line("run for", of(|other| &other.runtime));
    line("built with", list(names(&planned.needs)));
    line("runs with", list(names(&planned.runtime)));
    line("tree", planned.repo.to_string());
    line("USE", Some(flags(planned)).filter(|flags| !flags.is_empty()).unwrap_or_else(|| "no flags".to_string()));
    let sources = planned.distfiles.iter().map(|f| format!("{} ({})", f.dist.name, report::bytes(f.dist.size)));
    line("sources", list(sources.collect()));
    if let Some(took) = prepared.outlook.expected.get(&planned.cpv) {
        line("time", format!("about {}", report::time(*took)));
    }
    text
}

fn verb(planned: &Planned) -> &'static str {
    match planned.action {
        Action::Build(_) => "build",
        Action::Reuse(_) => "reuse",
        Action::Share(_) => "share",
    }
}

fn flags(planned: &Planned) -> String {
    let flags = planned.iuse.iter().map(|flag| {
        let on = planned.use_flags.contains(flag);
        format!("{}{flag}", if on { "" } else { "-" })
    });
    flags.collect::<Vec<_>>().join(" ")
}

/// Returns how many bytes of source archives are needed and not there.
fn download(cx: &Context, plan: &Plan) -> u64 {
    let there =
        |name: &str, size: u64| fs::metadata(&cx.state.distfiles().join(name)).is_ok_and(|found| found.len() == size);
    let files = plan.to_build().flat_map(|planned| &planned.distfiles);
    let files = files.filter(|file| !there(file.dist.name.as_str(), file.dist.size));
    files.map(|file| (file.dist.name.as_str(), file.dist.size)).collect::<BTreeMap<_, _>>().values().sum()
}
