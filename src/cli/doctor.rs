//! `bindery doctor`: what this host can do, and how to mend what it cannot.

use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, table};
use crate::doctor::{self, Check, Verdict};

/// Examines the host; fails where something is missing.
pub(super) fn doctor(cx: &Context) -> Outcome {
    let checks = doctor::examine(&cx.state, cx.config.ids, &cx.cancel);
    if cx.json {
        report::print_json(&checks)?;
    } else {
        report::print(&text(&checks))?;
    }
    let missing: Vec<_> = checks.iter().filter(|check| check.verdict == Verdict::Missing).map(|c| c.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::System, anyhow::anyhow!("this host lacks: {}", missing.join(", "))))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Works => "works",
        Verdict::Limited => "limited",
        Verdict::Missing => "missing",
    }
}

/// Returns everything as a table, and below it what is to be mended.
fn text(checks: &[Check]) -> String {
    let rows: Vec<_> =
        checks.iter().map(|c| [c.name.to_string(), word(c.verdict).to_string(), c.found.clone()]).collect();
    let mut text = table(["what", "", "found"], &rows);
    let mut said: Vec<&Check> = Vec::new();
    for check in checks.iter().filter(|check| check.verdict != Verdict::Works) {
        text.push_str(&format!("\n{} ({}), for {}\n", check.name, word(check.verdict), check.purpose));
        match said.iter().find(|other| other.mend == check.mend) {
            Some(other) => text.push_str(&format!("  as for {}\n", other.name)),
            None => check.mend.lines().for_each(|line| text.push_str(&format!("  {line}\n"))),
        }
        said.push(check);
    }
    text.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_mended_stands_below_the_table_step_by_step() {
        let check = |name, verdict, mend: &str| Check {
            name,
            verdict,
            purpose: "a thing",
            found: "this".to_string(),
            mend: mend.to_string(),
        };
        let checks = [
            check("one", Verdict::Works, ""),
            check("two", Verdict::Missing, "first\nsecond"),
            check("three", Verdict::Limited, "first\nsecond"),
        ];
        let expected = "what            found\none    works    this\ntwo    missing  this\nthree  limited  this\n\n\
            two (missing), for a thing\n  first\n  second\n\nthree (limited), for a thing\n  as for two";
        assert_eq!(text(&checks), expected);
    }
}
