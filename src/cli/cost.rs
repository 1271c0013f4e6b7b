//! `bindery profile cost`: what profiles cost, as a table for people or as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::atom::Name;
use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, bytes, table, time};
use crate::cost::{self, Cost, CostError, Overlap, ProfileCost, Sharing};

/// How many packages are named before the rest is counted.
const NAMED: usize = 10;

/// Shows what profiles cost.
pub(super) fn cost(cx: &Context, names: &[Name]) -> Outcome {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let cost = cost::of(&cx.state, &cx.config, names, now)?;
    if cx.json { report::print_json(&cost) } else { report::print(&text(&cost)) }
}

fn text(cost: &Cost) -> String {
    if cost.profiles.is_empty() {
        return "nothing was built yet, for no profile\n".to_string();
    }
    let row = |cost: &ProfileCost| {
        [
            cost.profile.to_string(),
            cost.packages.to_string(),
            bytes(cost.disk.bytes),
            cost.history.all.finished.to_string(),
            time(cost.history.all.milliseconds),
            time(cost.history.all.cpu_milliseconds),
            time(cost.history.recent.cpu_milliseconds),
            bytes(cost.dropping.bytes),
            format!("{} for {}", time(cost.adding.cpu_milliseconds), cost.adding.build),
        ]
    };
    let head = [
        "profile",
        "packages",
        "disk",
        "builds",
        "build time",
        "CPU time",
        "last 30 days",
        "dropping frees",
        "one more like it",
    ];
    let mut text = table(head, &cost.profiles.iter().map(row).collect::<Vec<_>>());
    let notes: Vec<String> = cost.profiles.iter().flat_map(notes).collect();
    if !notes.is_empty() {
        text.push_str(&format!("\n{}\n", notes.join("\n")));
    }
    text.push_str(&overlaps(&cost.overlaps));
    text.push_str("\nBuild time is the wall time of single packages; from there on, times are of processors.\n");
    text
}

/// Returns what the table has no room for, and what is not known.
fn notes(cost: &ProfileCost) -> Vec<String> {
    let (name, history, mut notes) = (&cost.profile, &cost.history, Vec::new());
    if !cost.defined {
        notes.push(format!("{name}: there is no such profile any more; its packages are still there"));
    }
    if history.unrecorded > 0 {
        notes.push(format!("{name}: of {} in its pool there is no record of the time", builds(history.unrecorded)));
    }
    if history.all.without_cpu > 0 {
        notes.push(format!("{name}: of {} there is no record of the CPU time", builds(history.all.without_cpu)));
    }
    if history.all.failed > 0 {
        notes.push(format!("{name}: {} failed", builds(history.all.failed)));
    }
    if cost.adding.take_over > 0 {
        notes.push(format!(
            "{name}: another one like it would take over {} without compiled code, if it differs in flags only",
            packages(cost.adding.take_over)
        ));
    }
    if !cost.adding.unknown.is_empty() {
        notes.push(format!(
            "{name}: no record of {}, which one more like it would build: {}",
            packages(cost.adding.unknown.len()),
            named(cost.adding.unknown.iter())
        ));
    }
    if !cost.dropping.lent.is_empty() {
        let took: u64 = cost.dropping.lent.iter().filter_map(|lent| lent.milliseconds).sum();
        notes.push(format!(
            "{name}: without it others would build {} that they took over ({}): {}",
            packages(cost.dropping.lent.len()),
            time(took),
            named(cost.dropping.lent.iter().map(|lent| format!("{} of {}", lent.cpv, lent.profile)))
        ));
    }
    if !cost.dropping.needed_by.is_empty() {
        notes.push(format!("{name}: needed by {}", named(cost.dropping.needed_by.iter())));
    }
    notes
}

/// Returns what several profiles have: counted, and named where something can be done.
fn overlaps(overlaps: &[Overlap]) -> String {
    if overlaps.is_empty() {
        return String::new();
    }
    let kinds = [
        (Sharing::Done, "shared"),
        (Sharing::Possible, "could be shared"),
        (Sharing::Same, "built to the same content"),
        (Sharing::Code, "with compiled code"),
        (Sharing::Different, "that differ otherwise"),
    ];
    let count = |kind| overlaps.iter().filter(|overlap| overlap.sharing == kind).count();
    let counts = kinds.map(|(kind, word)| (count(kind), word)).into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    let mut text = format!("\nin several profiles: {} ({})\n", packages(overlaps.len()), counts.join(", "));
    let possible: Vec<&Overlap> = overlaps.iter().filter(|overlap| overlap.sharing == Sharing::Possible).collect();
    let row = |overlap: &&Overlap| {
        let who: Vec<String> = overlap.holders.iter().map(|holder| holder.profile.to_string()).collect();
        [overlap.cpv.to_string(), who.join(", "), time(overlap.spares)]
    };
    if !possible.is_empty() {
        let rows: Vec<_> = possible.iter().take(NAMED).map(row).collect();
        text.push_str(&format!("\n{}", table(["could be shared", "built for", "would have spared"], &rows)));
        if possible.len() > NAMED {
            text.push_str(&format!("and {} more (`--json` has all)\n", possible.len() - NAMED));
        }
    }
    text
}

fn packages(count: usize) -> String {
    if count == 1 { "1 package".to_string() } else { format!("{count} packages") }
}

fn builds(count: usize) -> String {
    if count == 1 { "1 build".to_string() } else { format!("{count} builds") }
}

fn named<T: ToString>(all: impl ExactSizeIterator<Item = T>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let mut names: Vec<String> = all.take(NAMED).map(|one| one.to_string()).collect();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

impl From<CostError> for Failure {
    fn from(error: CostError) -> Self {
        match error {
            CostError::Profile(error) => error.into(),
            error => Self::new(Kind::System, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::tests::{Build, Made, NOW, build, compiled};

    fn text_of(made: &Made, names: &[&str]) -> String {
        let names: Vec<Name> = names.iter().map(|name| name.parse().unwrap()).collect();
        text(&cost::of(&made.state, &made.config(), &names, NOW).unwrap())
    }

    fn has(text: &str, expected: &[&str]) {
        for expected in expected {
            assert!(text.contains(expected), "no `{expected}` in:\n{text}");
        }
    }

    #[test]
    fn people_see_what_is_known_and_what_is_not() {
        let made = Made::new();
        assert_eq!(text_of(&made, &[]), "nothing was built yet, for no profile\n");
        made.add("one", &Build { milliseconds: Some(61_000), ..compiled("c/code-1", "-O2") });
        made.add("one", &Build { milliseconds: None, ..compiled("c/never-1", "-O2") });
        let failed =
            serde_json::json!({"event": "build-failed", "cpv": "c/b-1", "reason": "", "telling": [], "log": "/l"});
        made.run("1", "one", NOW, &[failed]);
        for (profile, cflags) in [("one", "-O2"), ("two", "-O3")] {
            made.add(profile, &build("c/possible-1", cflags));
        }
        made.add("one", &build("c/lent-1", "-O2"));
        made.add("two", &Build { from: Some("one"), milliseconds: None, ..build("c/lent-1", "-O3") });
        made.add("gone", &Build { milliseconds: Some(5_000), ..compiled("c/code-1", "-O1") });
        let text = text_of(&made, &[]);
        let row = text.lines().find(|line| line.starts_with("one ")).unwrap();
        let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells[3..7], ["3", "1m 3s", "2m 6s", "2m 6s"]);
        assert_eq!((cells[1], cells[8]), ("4", "2m 2s for 2"));
        has(
            &text,
            &[
                "gone: there is no such profile any more; its packages are still there",
                "one: of 1 build in its pool there is no record of the time",
                "one: 1 build failed",
                "one: another one like it would take over 2 packages without compiled code",
                "one: no record of 1 package, which one more like it would build: c/never-1",
                "one: without it others would build 1 package that they took over (1s): c/lent-1 of two",
                "one: needed by two",
                "in several profiles: 3 packages (1 shared, 1 could be shared, 1 with compiled code)",
                "c/possible-1     one, two   1s",
                "from there on, times are of processors",
            ],
        );
        // What is not asked for is not told.
        assert!(!text_of(&made, &["two"]).contains("one: "));
    }

    #[test]
    fn many_are_counted_and_few_are_named() {
        assert_eq!(named(["a", "b"].iter()), "a, b");
        let many = (0..13).map(|number| number.to_string()).collect::<Vec<_>>();
        assert!(named(many.iter()).ends_with("8, 9, and 3 more"));
    }
}
