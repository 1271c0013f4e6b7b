//! What cannot be cross built: it is built emulated, in the image of the profile's own architecture.
//!
//! 1. Whether a package is known not to cross build is decided with the plan: the profile says so, its ebuild does not tell
//!    the two sides apart, or it is remembered ([`methods`]). Others are cross built; one that fails, and shows a sign that
//!    this was why, is built once more here.
//! 2. The resolver is asked once more, in the other image, for this package with what it is linked with, on the run's own
//!    snapshots of trees. What it is linked with is what the run has, however that was built; what runs while it is built has
//!    to be of the other architecture as well, and is built so first.
//! 3. The package is built, with native tools or, where that fails, without ([`mod@emulated`]).
//!
//! ```text
//! profiles/NAME/emulated/pool/    what ran while a package was built: nobody else uses it, and it is not published
//! ```
//!
//! A package's request names the other image's toolchain, and the method; what ran stands in it as on the build side, of the
//! same versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::atom::{Atom, Cpv};
use crate::binhost::pool::{Entry, Pool};
use crate::build::method::Way;
use crate::build::one::{self, Failed, Run, Shop, Task};
use crate::build::prepare::{self, Prepared};
use crate::build::room::interrupted;
use crate::build::{Blame, BuildError, Host, emulated, fetch, methods, record, settle};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::fs;
use crate::image::Definition;
use crate::plan::{Action, Planned, Request};
use crate::process;
use crate::profile::Method;
use crate::tree::Tree;

/// What a run has for what cannot be cross built.
#[derive(Debug)]
pub(super) struct Fallback {
    /// What the image is made from.
    pub(super) definition: Definition,
    /// What is known not to cross build, and why.
    pub(super) aside: BTreeMap<Cpv, String>,
    /// What could not be built to run while others are, and why: it is tried once in a run.
    pub(super) failed: Mutex<BTreeMap<Cpv, String>>,
}

/// What a package that is built alone is built with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone<'a> {
    /// What is taken as it is, whatever it was built from.
    pub(super) given: &'a BTreeMap<Cpv, Entry>,
    /// The run's snapshots: what users change meanwhile is for the next run.
    pub(super) trees: &'a [Tree],
}

/// What requests say of the image that a package is built in.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) toolchain: BTreeMap<String, String>,
    pub(super) setup: Digest,
}

impl Parts {
    /// Returns the request of what would be cross built for building it emulated.
    pub(super) fn instead(&self, mut request: Request) -> Request {
        request.set_image(&self.toolchain, &self.setup);
        request.set("method", "emulated");
        request
    }
}

/// Cross builds a package, or builds it emulated where it is known that it does not cross build, or turns out so.
pub(super) fn build(
    shop: &Shop<'_>,
    fallback: &Fallback,
    task: &Task,
    on: Sink<'_>,
    once: &emulated::Once<'_>,
) -> Result<Result<Entry, Failed>, BuildError> {
    let cpv = &task.planned.cpv;
    if let Some(why) = fallback.aside.get(cpv) {
        on(Event::Step { what: format!("{cpv} is built emulated: {why}") });
        return emulated(shop, fallback, task, on);
    }
    let insists = shop.profile.method_of(&cpv.cp()) == Method::Cross;
    let why = match once(shop, on)? {
        Err(Failed { by_method: Some(why), .. }) if !insists => why,
        result => return Ok(result),
    };
    on(Event::Step { what: format!("{cpv} was not cross built, and is built once more, emulated: {why}") });
    emulated::keep_log(shop, cpv, Method::Cross)?;
    let mut result = emulated(shop, fallback, task, on)?;
    match &mut result {
        Ok(_) => {
            let of = methods::Of::new(&shop.prepared.image, &task.planned.request);
            methods::note(&shop.prepared.home, cpv, Method::Cross, &of, &why)?;
        }
        Err(failed) => failed.reason.push_str(&format!(" (built emulated; cross built, it failed before: {why})")),
    }
    Ok(result)
}

/// Builds a package in the image of its own architecture.
fn emulated(
    shop: &Shop<'_>,
    fallback: &Fallback,
    task: &Task,
    on: Sink<'_>,
) -> Result<Result<Entry, Failed>, BuildError> {
    let cpv = &task.planned.cpv;
    // What others of this run need as well is built once.
    let turn = shop.prepared.turns.take(["fallback".to_string()]);
    let prepared = match prepare(shop, fallback, task, on) {
        Ok(prepared) => prepared,
        Err(error) => {
            interrupted(shop.host.cancel)?;
            return match is_packages(&error) {
                true => refused(shop, cpv, format!("it cannot be built emulated: {}", process::chain(&error))),
                false => Err(error),
            };
        }
    };
    let Some(own) = prepared.plan.packages.iter().find(|planned| planned.cpv == *cpv) else {
        return refused(shop, cpv, format!("it cannot be built emulated: the resolver does not plan `={cpv}` there"));
    };
    if let Some(part) = own.request.differs_in_source(&task.planned.request) {
        return refused(shop, cpv, format!("it cannot be built emulated: {part} has changed since the run began"));
    }
    let pool = Pool::open(&prepared.home);
    pool.clean(shop.held)?;
    let run = Run { dir: shop.run.dir.join("emulated"), ..shop.run.clone() };
    let tools = Shop { prepared: &prepared, pool: &pool, limits: shop.limits.clone(), run, ..*shop };
    let mut ready = task.ready.clone();
    for planned in self::tools(&prepared, own, &ready) {
        let tool = &planned.cpv;
        let known = failures(fallback).get(tool).cloned();
        let there = match known {
            Some(why) => Err((why, false)),
            None => take_or_build(&tools, planned.clone(), &ready, task.jobs, on)?.map_err(|failed| {
                (format!("{}; its log is `{}`", failed.reason, failed.log.display()), failed.by_memory)
            }),
        };
        match there {
            Ok(entry) => drop(ready.insert(tool.clone(), entry)),
            Err((why, by_memory)) => {
                if !by_memory {
                    failures(fallback).insert(tool.clone(), why.clone());
                }
                let reason = format!("`{tool}`, which runs while it is built, could not be built emulated: {why}");
                return Ok(refused(shop, cpv, reason)?.map_err(|failed| Failed { by_memory, ..failed }));
            }
        }
    }
    drop(turn);
    let parts = prepare::parts(&prepared);
    let planned = Planned { request: parts.instead(task.planned.request.clone()), ..own.clone() };
    let ready = planned.needs.iter().filter_map(|cpv| Some((cpv.clone(), ready.get(cpv)?.clone()))).collect();
    let own = Shop { pool: shop.pool, limits: shop.limits.clone(), run: shop.run.clone(), ..tools };
    one::build(&own, &Task { planned, ready, jobs: task.jobs }, on)
}

/// Returns what could not be built. A whole map is there whoever panicked.
fn failures(fallback: &Fallback) -> MutexGuard<'_, BTreeMap<Cpv, String>> {
    fallback.failed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether an error is about what a package needs in the other image, and not about this host.
fn is_packages(error: &BuildError) -> bool {
    match error {
        BuildError::Image(error) => !error.is_of_host(),
        BuildError::Sandbox(_) => true,
        error => matches!(error.blame(), Blame::User | Blame::Package),
    }
}

/// Returns a failure before anything was built, which the package's log has then.
fn refused(shop: &Shop<'_>, cpv: &Cpv, reason: String) -> Result<Result<Entry, Failed>, BuildError> {
    let dir = record::dir_of(&shop.run.dir, cpv);
    fs::create_dir_all(&dir)?;
    let log = dir.join("log");
    fs::write_atomic(&log, format!("[bindery: {reason}]\n"), 0o644)?;
    Ok(Err(Failed { reason, telling: Vec::new(), log, by_memory: false, by_method: None }))
}

/// Plans a package in the image of its own architecture, with what it is linked with as it is.
fn prepare(shop: &Shop<'_>, fallback: &Fallback, task: &Task, on: Sink<'_>) -> Result<Prepared, BuildError> {
    let host: &Host<'_> = shop.host;
    let dir = record::dir_of(&shop.run.dir.join("emulated"), &task.planned.cpv);
    let configuration = dir.join("portage");
    // Of an attempt before this one.
    if fs::symlink_metadata(&configuration).is_ok() {
        fs::remove_dir_all(&configuration)?;
    }
    fs::create_dir_all(&dir)?;
    let way = Way::within(fallback.definition.clone());
    let exact = |cpv: &Cpv| format!("={cpv}").parse::<Atom>().expect("`=` and a package with its version are an atom");
    let atoms: Vec<Atom> = task.ready.keys().chain([&task.planned.cpv]).map(exact).collect();
    let alone = Alone { given: &task.ready, trees: &shop.prepared.trees };
    let prepared = prepare::prepare_in(host, shop.profile, way, &atoms, &configuration, Some(alone), on)?;
    fetch::fetch(host, shop.profile, &prepared, on)?;
    Ok(prepared)
}

/// Returns what has to be there before a package is built and is not given, in the order of building.
fn tools<'a>(prepared: &'a Prepared, own: &'a Planned, given: &BTreeMap<Cpv, Entry>) -> Vec<&'a Planned> {
    let packages = &prepared.plan.packages;
    let by_name: BTreeMap<&Cpv, &Planned> = packages.iter().map(|planned| (&planned.cpv, planned)).collect();
    let mut found: BTreeSet<&Cpv> = BTreeSet::new();
    let mut waiting: Vec<&Cpv> = own.needs.iter().collect();
    while let Some(next) = waiting.pop() {
        if !given.contains_key(next)
            && found.insert(next)
            && let Some(planned) = by_name.get(next)
            && matches!(planned.action, Action::Build(_))
        {
            waiting.extend(&planned.needs);
        }
    }
    packages.iter().filter(|planned| found.contains(&planned.cpv)).collect()
}

/// Returns a tool from the pool, or builds it.
fn take_or_build(
    shop: &Shop<'_>,
    mut planned: Planned,
    ready: &BTreeMap<Cpv, Entry>,
    jobs: u32,
    on: Sink<'_>,
) -> Result<Result<Entry, Failed>, BuildError> {
    if matches!(planned.action, Action::Build(_)) {
        planned.settle(&shop.prepared.plan.identities(), &settle::settled(shop, ready), &shop.prepared.stock);
    }
    if let Action::Reuse(reuse) = &planned.action {
        let entry = shop.pool.find(&planned.cpv, reuse.build_id)?;
        return Ok(Ok(entry.ok_or_else(|| BuildError::Vanished { cpv: planned.cpv.clone() })?));
    }
    on(Event::Step { what: format!("{} is built emulated: it runs while others are", planned.cpv) });
    let ready = planned.needs.iter().filter_map(|cpv| Some((cpv.clone(), ready.get(cpv)?.clone()))).collect();
    one::build(shop, &Task { planned, ready, jobs }, on)
}
