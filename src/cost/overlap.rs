//! Packages that several profiles have, and which of them they could share, by the rule that plans share by
//! (`plan/share.rs`).

use std::collections::BTreeMap;

use super::Shelf;
use crate::atom::{BuildId, Cpv, Name};
use crate::binhost::pool::Entry;
use crate::build;
use crate::digest::Digest;
use crate::plan::{self, Request, Settled, Stock};

/// A version of a package that several profiles have.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overlap {
    /// The package.
    pub cpv: Cpv,
    /// What sharing it comes to.
    pub sharing: Sharing,
    /// How long building would have been spared by sharing, in milliseconds, as far as that is recorded.
    pub spares: u64,
    /// Who has it, by name.
    pub holders: Vec<Holder>,
}

/// What sharing a package comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// It holds no compiled code and differs in flags only, and was built more than once.
    Possible,
    /// One has built it, and all others took it over.
    Done,
    /// It was built more than once to the same content, but may not be shared.
    Same,
    /// It holds compiled code.
    Code,
    /// It was built from something else than flags that differs, or nobody looked whether it holds code.
    Different,
}

/// A profile that has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The profile.
    pub profile: Name,
    /// Which build.
    pub build_id: BuildId,
    /// Its content digest.
    pub content: Digest,
    /// The profile that it was taken over from.
    pub taken_from: Option<Name>,
    /// The profile that it could have been taken over from.
    pub could_take_from: Option<Name>,
    /// How long building it took, in milliseconds, where it was built and that is recorded.
    pub milliseconds: Option<u64>,
}

/// Returns whether a build is proven to hold no compiled code.
pub(super) fn is_proven(entry: &Entry) -> bool {
    entry.facts.offers.as_ref().is_some_and(|offers| offers.not_proven().is_none())
}

/// Returns what several profiles have: what can be shared first, each kind by name.
pub(super) fn overlaps(shelves: &[Shelf]) -> Vec<Overlap> {
    let mut all: BTreeMap<&Cpv, Vec<(&Shelf, &Entry)>> = BTreeMap::new();
    for shelf in shelves {
        for entry in &shelf.current {
            all.entry(&entry.facts.cpv).or_default().push((shelf, entry));
        }
    }
    // Several builds of one profile are none of several.
    all.retain(|_, holders| holders.windows(2).any(|pair| pair[0].0.name != pair[1].0.name));
    let others = shelves
        .iter()
        .map(|shelf| (shelf.name.clone(), build::pool(shelf.pool.iter().map(|entry| (entry, false)))))
        .collect();
    let mut stock = Stock { others, share: true, ..Stock::default() };
    let mut could: BTreeMap<(&Name, &Cpv), Name> = BTreeMap::new();
    for shelf in shelves {
        // As its own plans see the others. Requests are large, so there is one stock and not a copy for each profile.
        let own = stock.others.remove(&shelf.name);
        let settled = settled(&shelf.current);
        let apart =
            |entry: &&Entry| all.contains_key(&entry.facts.cpv) && entry.origin.shared.is_none() && is_proven(entry);
        for entry in shelf.current.iter().filter(apart) {
            let (cpv, request) = (&entry.facts.cpv, Request::from_parts(&entry.origin.inputs));
            let share = request.and_then(|request| plan::shared(cpv, &request, &stock, &settled));
            could.extend(share.map(|share| ((&shelf.name, cpv), share.profile)));
        }
        stock.others.extend(own.map(|own| (shelf.name.clone(), own)));
    }
    let mut overlaps: Vec<Overlap> = all
        .into_iter()
        .map(|(cpv, holders)| {
            let holder = |(shelf, entry): &(&Shelf, &Entry)| Holder {
                profile: shelf.name.clone(),
                build_id: entry.facts.build_id,
                content: entry.facts.content.clone(),
                taken_from: entry.origin.shared.as_ref().map(|shared| shared.profile.clone()),
                could_take_from: could.get(&(&shelf.name, cpv)).cloned(),
                milliseconds: entry.origin.milliseconds.filter(|_| entry.origin.shared.is_none()),
            };
            let code = holders
                .iter()
                .any(|(_, entry)| entry.facts.offers.as_ref().is_some_and(|offers| offers.code.is_some()));
            Overlap::new(cpv, holders.iter().map(holder).collect(), code)
        })
        .collect();
    overlaps.sort_by(|a, b| (a.sharing, &a.cpv).cmp(&(b.sharing, &b.cpv)));
    overlaps
}

impl Overlap {
    fn new(cpv: &Cpv, mut holders: Vec<Holder>, code: bool) -> Self {
        // Who has built what all others took over could not have had it from them.
        if holders.iter().filter(|holder| holder.taken_from.is_none()).count() < 2 {
            holders.iter_mut().for_each(|holder| holder.could_take_from = None);
        }
        let built: Vec<&Holder> = holders.iter().filter(|holder| holder.taken_from.is_none()).collect();
        let possible: Vec<&Holder> = built.iter().filter(|holder| holder.could_take_from.is_some()).copied().collect();
        let sharing = if !possible.is_empty() {
            Sharing::Possible
        } else if built.len() < 2 {
            Sharing::Done
        } else if holders.windows(2).all(|pair| pair[0].content == pair[1].content) {
            Sharing::Same
        } else if code {
            Sharing::Code
        } else {
            Sharing::Different
        };
        let times = || possible.iter().filter_map(|holder| holder.milliseconds);
        // One has to build it: where each could have it from another, the one that took longest.
        let first = if possible.len() == built.len() { times().max().unwrap_or(0) } else { 0 };
        let spares = times().sum::<u64>() - first;
        Self { cpv: cpv.clone(), sharing, spares, holders }
    }
}

/// Returns what a profile's packages were made for.
fn settled(current: &[Entry]) -> Settled {
    let mut settled = Settled::default();
    for entry in current {
        let slot = entry.facts.slot.split('/').next().unwrap_or_default();
        if let (Some(output), Some(request)) = (build::output(&entry.facts), Request::from_parts(&entry.origin.inputs))
        {
            settled.add(&entry.facts.cpv, slot, output, request);
        }
    }
    settled
}
