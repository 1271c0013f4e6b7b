//! What the audit ([`crate::isa`]) found of a package, and what follows.
//!
//! 1. A package that was built is audited where it is read, before it is signed. What is found refuses it.
//! 2. The pool's record says what it was audited for. The level is no part of the request: it changes nothing in what is built.
//!    A package that is used again, or stays published, and was audited for something else, or never, is read once more, in a
//!    sandbox; then the record is completed, or it is not used.
//! 3. At the end of a run it is said which exceptions let something pass, and which nothing.

use std::collections::BTreeMap;
use std::path::Path;

use crate::atom::Cpv;
use crate::binhost::pool::{Audited, Entry, Origin};
use crate::build::finish::{self, Artefact};
use crate::build::one::Shop;
use crate::build::room::Room;
use crate::build::{BuildError, record};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::fs::{self, PathError};
use crate::isa::{self, Finding, Report, Wanted, What};
use crate::profile::Profile;
use crate::sandbox::range;
use crate::tree::Tree;

mod origin;

/// How many findings are shown.
const SHOWN: usize = 5;

/// What was found of a package: it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// The package.
    cpv: Cpv,
    /// What it was checked for.
    wanted: Wanted,
    findings: Vec<Finding>,
    more: u64,
}

impl std::fmt::Display for Beyond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.findings.first().map(ToString::to_string).unwrap_or_default();
        write!(f, "{}: {first}", self.reason())
    }
}

impl Beyond {
    /// Returns what is wrong, without what shows it.
    pub(super) fn reason(&self) -> String {
        let target = &self.wanted.target;
        if self.is_of_machine() {
            format!("it holds what does not run on {}", target.chost)
        } else {
            format!("it needs more than {target}, the profile's level")
        }
    }

    /// Returns whether all that is wrong is that it is for another machine.
    pub(super) fn is_of_machine(&self) -> bool {
        let of_machine = |finding: &Finding| matches!(finding.what, What::Machine(_) | What::Unread(_));
        self.findings.iter().all(of_machine)
    }

    /// Returns what to tell, a line each, with what of the build's log asks for it.
    fn telling(&self, log: Option<&Path>) -> Result<Vec<String>, PathError> {
        let mut lines: Vec<String> = self.findings.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = self.more + self.findings.len().saturating_sub(SHOWN) as u64;
        if more > 0 {
            lines.push(format!("and {more} more like these"));
        }
        let needs = |finding: &Finding| match &finding.what {
            What::Instruction { needs, .. } => needs.clone(),
            _ => Vec::new(),
        };
        let needs: Vec<String> = self.findings.iter().flat_map(needs).collect();
        if let Some(log) = log.filter(|_| !needs.is_empty()) {
            lines.extend(origin::of(&needs, log)?);
        }
        lines.extend(self.wanted.target.doubt.clone());
        let Some(finding) = self.findings.first() else { return Ok(lines) };
        let file = finding.file.split('(').next().unwrap_or_default();
        let symbol = finding.symbol.as_ref().map(|symbol| format!("symbol = \"{symbol}\", "));
        lines.push(format!(
            "if that is right, say why in the profile: [[isa.exceptions]] package = \"{}\", file = \"{file}\", {}reason = \"…\"",
            self.cpv.cp(),
            symbol.unwrap_or_default()
        ));
        Ok(lines)
    }

    /// Returns what to tell of a package whose build left a log.
    pub(super) fn told(&self, log: &Path) -> Result<Vec<String>, PathError> {
        self.telling(Some(log))
    }
}

/// Returns what a package is checked for.
pub(super) fn wanted(profile: &Profile, cpv: &Cpv) -> Wanted {
    profile.isa.wanted(&cpv.cp())
}

/// Returns what names all that an audit depends on.
fn key(wanted: &Wanted) -> Digest {
    let json = serde_json::to_string(&(isa::RULES, wanted)).expect("plain data");
    Digest::of(json)
}

/// Returns what a record says of a good audit.
pub(super) fn good(cpv: &Cpv, wanted: &Wanted, report: Option<Report>) -> Result<Option<Audited>, BuildError> {
    // Only what was not asked is not answered.
    let Some(report) = report else { return Ok(None) };
    if !report.findings.is_empty() || report.more > 0 || report.excepted.len() != wanted.exceptions.len() {
        let (findings, more) = (report.findings, report.more);
        let beyond = Beyond { cpv: cpv.clone(), wanted: wanted.clone(), findings, more };
        return Err(BuildError::Beyond(Box::new(beyond)));
    }
    let (files, code, dispatched, excepted) = (report.files, report.code, report.dispatched, report.excepted);
    Ok(Some(Audited { wanted: key(wanted), files, code, dispatched, excepted }))
}

/// Returns a package of the pool whose record says that it is good for the profile as it is now: reads it once more where
/// it does not say so.
pub(super) fn again(shop: &Shop<'_>, entry: Entry) -> Result<Entry, BuildError> {
    let cpv = entry.facts.cpv.clone();
    // What is proven to hold no compiled code needs nothing.
    if entry.facts.offers.as_ref().is_some_and(|offers| offers.not_proven().is_none()) {
        return Ok(entry);
    }
    let wanted = wanted(shop.profile, &cpv);
    if entry.origin.audited.as_ref().is_some_and(|audited| audited.wanted == key(&wanted)) {
        return Ok(entry);
    }
    shop.pool.verify(&entry)?;
    let mut room = Room::new(shop.host, &format!("auditing {cpv} for {}", shop.profile.name))?;
    let result = read_again(shop, &entry, &mut room);
    let closed = room.close();
    let audited = result?;
    closed?;
    let origin = Origin { audited, ..entry.origin.clone() };
    Ok(shop.pool.note(shop.held, &entry, &origin)?)
}

fn read_again(shop: &Shop<'_>, entry: &Entry, room: &mut Room<'_>) -> Result<Option<Audited>, BuildError> {
    let cpv = &entry.facts.cpv;
    let dir = record::dir_of(&shop.run.dir, cpv);
    fs::create_dir_all(&dir)?;
    let scratch = dir.join("audit");
    room.lease().owns_path(scratch.clone())?;
    fs::create_dir_new(&scratch, 0o700)?;
    range::admit(shop.host.ids, &scratch)?;
    let artefact = Artefact::Shared { file: &entry.file, content: &entry.facts.content };
    finish::audit_again(shop, cpv, artefact, &scratch)
}

/// Says why a package of the pool is not used, in a log of its own.
pub(super) fn refused(shop: &Shop<'_>, cpv: &Cpv, beyond: &Beyond) -> Result<Event, BuildError> {
    let log = record::dir_of(&shop.run.dir, cpv).join("log");
    let telling = beyond.telling(None)?;
    let reason = format!("its package in the pool is refused: {}", beyond.reason());
    let lines: Vec<String> =
        std::iter::once(&reason).chain(&telling).map(|line| format!("[bindery: {line}]\n")).collect();
    fs::write_atomic(&log, lines.concat(), 0o644)?;
    Ok(Event::BuildFailed { cpv: cpv.clone(), reason, telling, log })
}

/// Says which of the profile's exceptions are for packages that no tree has.
pub(super) fn unknown(profile: &Profile, trees: &[Tree], on: Sink<'_>) {
    for excused in &profile.isa.exceptions {
        if !trees.iter().any(|tree| tree.path.join(excused.package.as_str()).is_dir()) {
            on(Event::Warning { what: format!("the exception for {excused} is for a package that no tree has") });
        }
    }
}

/// Says what the profile's exceptions let pass of these packages, and which of them let nothing pass.
pub(super) fn summary(profile: &Profile, entries: &BTreeMap<Cpv, Entry>, on: Sink<'_>) {
    let (mut used, mut passed, mut idle) = (0, 0, BTreeMap::new());
    for (cpv, entry) in entries {
        let Some(audited) = &entry.origin.audited else { continue };
        for (excused, count) in profile.isa.of(&cpv.cp()).zip(&audited.excepted) {
            passed += count;
            used += u64::from(*count > 0);
            // Of several versions one may need it.
            let idle = idle.entry(excused.to_string()).or_insert(true);
            *idle &= *count == 0;
        }
    }
    let unused: Vec<String> = idle.into_iter().filter_map(|(excused, idle)| idle.then_some(excused)).collect();
    if used > 0 || !unused.is_empty() {
        on(Event::Excepted { exceptions: used, passed, unused });
    }
}
