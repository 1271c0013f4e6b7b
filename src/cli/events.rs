//! Shows events: a line each on stderr, or JSON lines on stdout.

use crate::cli::report::{self, bytes, say};
use crate::event::{Event, Verdict};

/// Returns what takes events and shows them.
pub(super) fn shower(json: bool) -> impl FnMut(Event) {
    move |event| {
        if json {
            if let Ok(line) = serde_json::to_string(&event) {
                // Whoever reads it may stop reading: that is no reason to stop building.
                let _ = report::print(&line);
            }
        } else if let Some(line) = line(&event) {
            say(&line);
        }
    }
}

/// Returns an event as people read it.
pub(super) fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::RunStarted { run, profile } => format!("run {run} for {profile}"),
        Event::ImageStarted { image } => format!("making image {image}"),
        Event::Step { what } => format!("  {what}"),
        Event::ImageReady { cached: true, .. } | Event::Spent { .. } => return None,
        Event::ImageReady { image, digest, .. } => format!("image {image} is ready: {digest}"),
        Event::Planned { build: 0, reuse, share: 0 } => format!("nothing to build; {reuse} packages are unchanged"),
        Event::Planned { build, reuse, share: 0 } => format!("{build} packages to build, {reuse} unchanged"),
        Event::Planned { build, reuse, share } => {
            format!("{build} packages to build, {share} shared with other profiles, {reuse} unchanged")
        }
        Event::Settled { cpv, verdict, because } => {
            let verdict = match verdict {
                Verdict::Build => "is built",
                Verdict::Reuse => "is used again",
                Verdict::Share => "is shared",
            };
            format!("  {cpv} {verdict}: {}", because.join("; "))
        }
        Event::Shared { cpv, build_id, profile, content } => {
            let content = content.short();
            format!("  shared {cpv}, build {build_id}, content {content}: the same in {profile}, no compiled code")
        }
        Event::Fetching { file, uri } => format!("  fetching {file} from {uri}"),
        Event::Fetched { file, size } => format!("  fetched {file} ({})", bytes(*size)),
        Event::BuildStarted { cpv, number, of, .. } => format!("[{number}/{of}] building {cpv}"),
        Event::LimitsChanged { limits } => {
            let limits: Vec<_> = limits.iter().map(|(limit, how)| format!("{limit} {how}")).collect();
            format!("  limits changed: {}", limits.join(", "))
        }
        Event::BuildFinished { cpv, build_id, content, milliseconds } => {
            let seconds = report::time(*milliseconds);
            format!("  built {cpv}, build {build_id}, content {} in {seconds}", content.short())
        }
        Event::Unused { cpv, dependencies } => {
            let names: Vec<_> = dependencies.iter().map(ToString::to_string).collect();
            format!("  {cpv} declared and did not use: {}", names.join(", "))
        }
        Event::Audited { cpv, dispatched, excepted } => {
            let excepted = if *excepted > 0 { format!(", {excepted} by exceptions") } else { String::new() };
            format!(
                "  {cpv} has code beyond the level: {dispatched} functions only where the processor has it{excepted}"
            )
        }
        Event::Excepted { exceptions, passed, unused } => {
            let mut text = format!("{exceptions} exceptions from the level let {passed} findings pass");
            for excused in unused {
                text.push_str(&format!(
                    "\nwarning: the exception for {excused} lets nothing pass: take it out of the profile"
                ));
            }
            text
        }
        Event::BuildFailed { cpv, reason, telling, log } => {
            let mut text = format!("  failed {cpv}: {reason}");
            for line in telling {
                text.push_str("\n    | ");
                text.push_str(line);
            }
            text.push_str(&format!("\n  the whole log: bindery log {cpv}   ({})", log.display()));
            text
        }
        Event::BuildSkipped { cpv, because } => format!("  skipped {cpv}: it needs {because}, which failed"),
        Event::Published { generation, path, packages } => {
            format!("published generation {generation}: {packages} packages in {}", path.display())
        }
        Event::Reaped { what } => format!("removed what a dead process left: {what}"),
        Event::Warning { what } => format!("warning: {what}"),
    })
}
