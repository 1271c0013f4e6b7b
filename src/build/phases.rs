//! Runs the phases of a package that does more than copy its files: once, by the package manager, in a root of its own.
//!
//! 1. The root is the image and the layers of what the package needs to run; if one of these is no layer, neither is the
//!    package.
//! 2. The package manager merges the package there, as it would into the root of a build.
//! 3. What was written is compared with what copying would have written ([`learn()`]): the package is a layer, or there is
//!    a reason, and next time it is on record.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Cpv;
use crate::backend;
use crate::binhost::pool::{Entry, Pool};
use crate::build::one;
use crate::build::prepare::Prepared;
use crate::build::room::{Room, describe, full, interrupted, path};
use crate::build::{BuildError, Host};
use crate::event::{Event, Sink};
use crate::fs;
use crate::layer::derive::{Context, Derived, Layer, Merged, Package, Reason, learn, learned};
use crate::layer::stack::{StackError, stack};
use crate::package::DEFAULT_SOURCE_DATE;
use crate::plan::Plan;
use crate::root::Bind;
use crate::sandbox::{Exit, Status, range};

/// How much of what a merge said is looked at, from its end, in bytes.
const SAID: usize = 64 << 10;

/// Returns what a package comes to whose phases do something; `layers` are those of the packages before it in the plan.
pub(super) fn derive(
    host: &Host<'_>,
    prepared: &Prepared,
    cx: &Context<'_>,
    entry: &Entry,
    layers: &[Layer],
    on: Sink<'_>,
) -> Result<Derived, BuildError> {
    let cpv = &entry.facts.cpv;
    let needed = needed(&prepared.plan, cpv);
    let below: Vec<Layer> = layers.iter().filter(|layer| needed.contains(&layer.cpv)).cloned().collect();
    if let Some(other) = needed.iter().find(|cpv| !below.iter().any(|layer| layer.cpv == ***cpv)) {
        return Ok(Derived::NotStackable(vec![Reason::Below { cpv: (*other).clone() }]));
    }
    let package = Package { file: &entry.file, facts: &entry.facts };
    if let Some(derived) = learned(cx, &package, &below)? {
        return Ok(derived);
    }
    on(Event::Step { what: format!("running the phases of {cpv}") });
    let lower = match stack(cx, &below, host.cancel) {
        Ok(lower) => lower,
        Err(error @ (StackError::Collision { .. } | StackError::TooMany { .. } | StackError::Accounts { .. })) => {
            return Ok(Derived::NotStackable(vec![Reason::Failed { exit: error.to_string() }]));
        }
        Err(error) => return Err(error.into()),
    };
    let mut room = Room::new(host, &format!("running the phases of {cpv}"))?;
    let merged = merge(host, prepared, entry, &lower, &mut room);
    let derived = match merged {
        Ok((exit, _)) if exit.status == Status::Code(0) && exit.stopped.is_none() => {
            let merged = Merged { on: &below, lower: &lower, upper: &room.upper() };
            learn(cx, &package, &merged).map_err(Into::into)
        }
        // Not kept: it may be the host's fault.
        Ok((exit, said)) => {
            let failure = prepared.backend.failure(&mut said.as_slice()).ok();
            let phase = failure.as_ref().and_then(|failure| failure.phase.as_ref());
            let phase = phase.map_or_else(String::new, |phase| format!(" (in {phase})"));
            let why = failure.and_then(|failure| failure.reason).unwrap_or_else(|| describe(&exit));
            Ok(Derived::NotStackable(vec![Reason::Failed { exit: why + &phase }]))
        }
        Err(error) => Err(error),
    };
    let closed = room.close();
    let derived = derived?;
    closed.map(|()| derived)
}

/// Has the package manager merge a package in a root of `lower`.
fn merge(
    host: &Host<'_>,
    prepared: &Prepared,
    entry: &Entry,
    lower: &[std::path::PathBuf],
    room: &mut Room<'_>,
) -> Result<(Exit, Vec<u8>), BuildError> {
    let cpv = &entry.facts.cpv;
    let above = prepared.mounts.configuration.1.parent().unwrap_or(host.state.state()).to_path_buf();
    let scratch = above.join(format!("merging-{}", room.lease().id()));
    room.lease().owns_path(scratch.clone())?;
    fs::create_dir_new(&scratch, 0o700)?;
    range::admit(host.ids, &scratch)?;
    let packages = scratch.join("packages");
    let ready = BTreeMap::from([(cpv.clone(), entry.clone())]);
    // Copied where the folder of a bundle is on another file system.
    let place = |from: &std::path::Path, to: &std::path::Path| {
        fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
    };
    let pool = Pool::open(&prepared.home);
    one::lay_out(&pool, prepared.backend, std::slice::from_ref(cpv), &ready, &packages, place)?;
    let mut binds = prepared.mounts.binds();
    binds.push(Bind { from: packages, to: path(backend::PACKAGES), writable: false });
    let step = prepared.backend.merge(cpv, DEFAULT_SOURCE_DATE);
    let mut said = Vec::new();
    let exit = room.run(&prepared.image, lower, &binds, &step, &prepared.limits, None, &mut |_, bytes| {
        said.extend_from_slice(bytes);
        let excess = said.len().saturating_sub(SAID);
        said.drain(..excess);
    })?;
    interrupted(host.cancel)?;
    full(host, &exit, &format!("running the phases of {cpv}"))?;
    Ok((exit, said))
}

/// Returns what a package needs to run, and what that needs, as far as it comes earlier in the plan.
fn needed<'a>(plan: &'a Plan, cpv: &Cpv) -> BTreeSet<&'a Cpv> {
    let earlier: BTreeMap<&Cpv, _> =
        plan.packages.iter().take_while(|planned| planned.cpv != *cpv).map(|planned| (&planned.cpv, planned)).collect();
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&Cpv> =
        plan.packages.iter().find(|p| p.cpv == *cpv).into_iter().flat_map(|p| &p.runtime).collect();
    while let Some(next) = waiting.pop() {
        if let Some((known, planned)) = earlier.get_key_value(next)
            && found.insert(*known)
        {
            waiting.extend(&planned.runtime);
        }
    }
    found
}
