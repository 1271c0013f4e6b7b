//! `bindery doctor`: what this host can do, and how to mend what it cannot.

use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, table};
use crate::doctor::{self, Verdict};

/// Examines the host; fails where something that everything needs is missing.
pub(super) fn doctor(cx: &Context) -> Outcome {
    let checks = doctor::examine(&cx.state, cx.config.ids, &cx.cancel);
    if cx.json {
        report::print_json(&checks)?;
    } else {
        let rows: Vec<_> = checks
            .iter()
            .map(|check| {
                let verdict = match check.verdict {
                    Verdict::Works => "works",
                    Verdict::Limited => "limited",
                    Verdict::Missing => "missing",
                };
                [check.name.to_string(), verdict.to_string(), check.found.clone()]
            })
            .collect();
        let mut text = table(["what", "", "found"], &rows);
        for check in checks.iter().filter(|check| !check.mend.is_empty()) {
            text.push_str(&format!("\n{}: {}", check.name, check.mend));
        }
        report::print(text.trim_end())?;
    }
    let missing: Vec<_> = checks.iter().filter(|check| check.verdict == Verdict::Missing).map(|c| c.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::System, anyhow::anyhow!("this host lacks: {}", missing.join(", "))))
}
