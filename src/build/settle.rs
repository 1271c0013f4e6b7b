//! What is to be done about a package once all that it is built with is there: the plan decided before these were built.
//!
//! A dependency that was built again and offers the same rebuilds nobody. Whichever it is, an event says why.

use std::collections::BTreeMap;

use crate::atom::Cpv;
use crate::binhost::pool::{Entry, Origin};
use crate::build::one::Shop;
use crate::build::record::Record;
use crate::build::{BuildError, audit, detail, prepare, share};
use crate::event::{Event, Sink, Verdict};
use crate::plan::{Action, Planned, Reason, Request, Settled};

/// What becomes of a package.
#[derive(Debug)]
pub(super) enum Next {
    /// It is there.
    There(Box<Entry>),
    /// It is built.
    Build,
    /// The one in the pool, which would be built the same again, needs more than the profile's processors have.
    Refused(Box<Event>),
}

/// Decides about a package of the plan, whose dependencies are `ready`, and takes it where it need not be built.
pub(super) fn settle(
    shop: &Shop<'_>,
    planned: &mut Planned,
    ready: &BTreeMap<Cpv, Entry>,
    record: &mut Record,
    on: Sink<'_>,
) -> Result<Next, BuildError> {
    if let Action::Build(before) = planned.action.clone() {
        planned.settle(&shop.prepared.plan.identities(), &settled(shop, ready), &shop.prepared.stock);
        // What is new is built, whatever became of others.
        if !matches!(before, Reason::New(_) | Reason::Forced)
            && let Some(event) = told(shop, planned, ready, &record.status.built)
        {
            record.tell(event, on);
        }
    }
    let entry = match planned.action.clone() {
        Action::Reuse(reuse) => {
            let entry = shop.pool.find(&planned.cpv, reuse.build_id)?;
            let entry = entry.ok_or_else(|| BuildError::Vanished { cpv: planned.cpv.clone() })?;
            let entry = match audit::again(shop, entry) {
                Err(BuildError::Beyond(beyond)) => {
                    return Ok(Next::Refused(Box::new(audit::refused(shop, &planned.cpv, &beyond)?)));
                }
                entry => entry?,
            };
            Some(if reuse.other_flags { note(shop, planned, &entry)? } else { entry })
        }
        Action::Share(share) => share::take(shop, planned, &share, record, on)?,
        Action::Build(_) => None,
    };
    Ok(entry.map_or(Next::Build, |entry| Next::There(Box::new(entry))))
}

/// Notes that a build does for another request, too, so that later ones are compared with that.
fn note(shop: &Shop<'_>, planned: &Planned, entry: &Entry) -> Result<Entry, BuildError> {
    let (request, inputs) = (Some(planned.request.key()), planned.request.to_parts());
    Ok(shop.pool.note(shop.held, entry, &Origin { request, inputs, ..entry.origin.clone() })?)
}

/// Returns what is known of all that is there: what a package is built with, and what that was built with.
pub(super) fn settled(shop: &Shop<'_>, ready: &BTreeMap<Cpv, Entry>) -> Settled {
    let mut settled = Settled::default();
    for other in &shop.prepared.plan.packages {
        let Some(entry) = ready.get(&other.cpv) else { continue };
        if let (Some(output), Some(request)) =
            (prepare::output(&entry.facts), Request::from_parts(&entry.origin.inputs))
        {
            settled.add(&other.cpv, other.slot.as_str(), output, request);
        }
    }
    settled
}

/// Returns what to say of a package of whose dependencies some were built again; `built` are those of this run.
fn told(shop: &Shop<'_>, planned: &Planned, ready: &BTreeMap<Cpv, Entry>, built: &[Cpv]) -> Option<Event> {
    let again: Vec<&Cpv> = planned.needs.iter().filter(|cpv| built.contains(cpv)).collect();
    if again.is_empty() {
        return None;
    }
    let (verdict, because) = match &planned.action {
        Action::Build(_) => {
            let reasons = planned.action.reasons().into_iter();
            (Verdict::Build, reasons.chain(detail::detail(shop, planned, ready)).collect())
        }
        Action::Share(_) => (Verdict::Share, planned.action.reasons()),
        Action::Reuse(reuse) if reuse.other_flags => (Verdict::Reuse, planned.action.reasons()),
        Action::Reuse(_) => {
            let same = again.iter().map(|cpv| format!("`{cpv}` was built again and offers it the same"));
            (Verdict::Reuse, same.collect())
        }
    };
    Some(Event::Settled { cpv: planned.cpv.clone(), verdict, because })
}
