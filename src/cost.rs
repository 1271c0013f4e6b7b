//! What profiles cost, from what is recorded: time and disk, what several have, what adding or dropping one would mean.
//!
//! ```text
//! runs/ID/{status.json,events.jsonl}    what was built, and how long that took     cost/history.rs
//! profiles/NAME/…                       every file, hard links once                cost/disk.rs
//! profiles/NAME/pool/…                  the records: content, time, proof          cost/overlap.rs
//! profiles/NAME/current                 which of them are published
//! ```
//!
//! Wall times are of single packages, as they were built, some side by side with others; processor time is that of their
//! sandboxes. What is not known is counted and told, and never estimated silently. Nothing here writes.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::{Cpv, Name};
use crate::binhost::generation::{Generation, GenerationError};
use crate::binhost::pool::{Entry, Origin, Pool, PoolError};
use crate::config::{Config, Kind, SearchError};
use crate::fs::{self, PathError};
use crate::profile::{Profile, ProfileError};
use crate::state::State;

mod disk;
mod history;
mod overlap;

pub use disk::Disk;
pub use history::{Builds, History, RECENT};
pub use overlap::{Holder, Overlap, Sharing};

/// The version of the JSON.
const VERSION: u32 = 1;

/// What profiles cost.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    version: u32,
    /// Each profile, by name.
    pub profiles: Vec<ProfileCost>,
    /// What several of them have, in the same version.
    pub overlaps: Vec<Overlap>,
}

/// What one profile costs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProfileCost {
    /// The profile.
    pub profile: Name,
    /// Whether there is a definition of it; its packages may be there without.
    pub defined: bool,
    /// How many packages it has: those that are published, or, before the first generation, the newest build of each.
    pub packages: usize,
    /// How many package files its pool has, earlier builds included.
    pub pool: usize,
    /// What it takes on the disk.
    pub disk: Disk,
    /// What was built for it.
    pub history: History,
    /// What dropping it would mean.
    pub dropping: Dropping,
    /// What another profile like it would cost.
    pub adding: Adding,
}

/// What dropping a profile would mean.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dropping {
    /// How many bytes become free: files that have no other name elsewhere.
    pub bytes: u64,
    /// The processor time of building for it in the last 30 days, in milliseconds.
    pub cpu_milliseconds: u64,
    /// Packages that others have taken over from it, and would build themselves.
    pub lent: Vec<Lent>,
    /// Profiles that inherit it or whose build side it is, and that cannot be used without.
    pub needed_by: Vec<Name>,
}

/// A package that another profile took over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lent {
    /// The package.
    pub cpv: Cpv,
    /// Who has it.
    pub profile: Name,
    /// How long building it took, in milliseconds, where that is recorded.
    pub milliseconds: Option<u64>,
}

/// What another profile would cost that has the same packages and differs in flags for the compiler only.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Adding {
    /// How many packages would be built.
    pub build: usize,
    /// How many are proven to hold no compiled code, and would be taken over.
    pub take_over: usize,
    /// How long building took the last time, in milliseconds, where that is recorded.
    pub milliseconds: u64,
    /// The processor time of that, in milliseconds.
    pub cpu_milliseconds: u64,
    /// Those to build of which nobody recorded what that takes.
    pub unknown: Vec<Cpv>,
    /// How many bytes all the package files have.
    pub bytes: u64,
}

/// What a profile has.
struct Shelf {
    name: Name,
    /// All builds in its pool.
    pool: Vec<Entry>,
    /// Those that count.
    current: Vec<Entry>,
}

/// Returns what profiles cost: all that have something, or those that are named. `now` is in seconds since 1970.
pub fn of(state: &State, config: &Config, names: &[Name], now: u64) -> Result<Cost, CostError> {
    let folders = fs::read_dir_if_exists(&state.profiles())?;
    let known: BTreeSet<Name> =
        folders.iter().filter_map(|folder| folder.file_name()?.to_str()?.parse().ok()).collect();
    let mut defined = BTreeSet::new();
    for found in config.search.list(Kind::Profile)? {
        defined.insert(found.name);
    }
    for name in names.iter().filter(|name| !known.contains(name) && !defined.contains(name)) {
        // Says which there are.
        let Err(SearchError::Unknown(unknown)) = config.search.find(Kind::Profile, name) else { continue };
        return Err(ProfileError::Unknown(unknown).into());
    }
    let shelves = known.iter().map(|name| shelf(state, name)).collect::<Result<Vec<_>, _>>()?;
    let runs = crate::build::runs(state)?;
    let mut needs = needs(config)?;
    let shown: BTreeSet<&Name> = if names.is_empty() { known.iter().collect() } else { names.iter().collect() };
    let mut profiles = Vec::new();
    for name in &shown {
        let nothing = Shelf { name: (*name).clone(), pool: Vec::new(), current: Vec::new() };
        let shelf = shelves.iter().find(|shelf| shelf.name == **name).unwrap_or(&nothing);
        let disk = Disk::of(state.profile(name).path())?;
        let history = History::of(state, name, &runs, &shelf.pool, now)?;
        profiles.push(ProfileCost {
            profile: (*name).clone(),
            defined: defined.contains(*name),
            packages: shelf.current.len(),
            pool: shelf.pool.len(),
            disk,
            dropping: Dropping {
                bytes: disk.frees,
                cpu_milliseconds: history.recent.cpu_milliseconds,
                lent: lent(name, &shelves),
                needed_by: needs.remove(*name).unwrap_or_default(),
            },
            history,
            adding: Adding::like(shelf, &shelves),
        });
    }
    let mut overlaps = overlap::overlaps(&shelves);
    overlaps.retain(|overlap| overlap.holders.iter().any(|holder| shown.contains(&holder.profile)));
    Ok(Cost { version: VERSION, profiles, overlaps })
}

fn shelf(state: &State, name: &Name) -> Result<Shelf, CostError> {
    let dir = state.profile(name);
    let pool = Pool::open(&dir).entries()?;
    let current: Vec<Entry> = match Generation::current(&dir)? {
        Some(generation) => {
            let published: BTreeSet<_> =
                generation.statement.packages.into_iter().map(|package| package.path).collect();
            pool.iter().filter(|entry| published.contains(&entry.path)).cloned().collect()
        }
        None => {
            let mut newest: BTreeMap<&Cpv, &Entry> = BTreeMap::new();
            for entry in &pool {
                let best = newest.entry(&entry.facts.cpv).or_insert(entry);
                if best.facts.build_id < entry.facts.build_id {
                    *best = entry;
                }
            }
            newest.into_values().cloned().collect()
        }
    };
    Ok(Shelf { name: name.clone(), pool, current })
}

/// Returns for each profile those that cannot be used without it. One that is wrong needs nobody.
fn needs(config: &Config) -> Result<BTreeMap<Name, Vec<Name>>, PathError> {
    let all = config.search.list(Kind::Profile)?;
    let mut needs: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
    for profile in all.iter().filter_map(|found| Profile::load(config, &found.name).ok()) {
        let needed = |name: &Name, path| profile.build_side.as_ref() == Some(name) || profile.files.contains(path);
        for other in all.iter().filter(|other| other.name != profile.name && needed(&other.name, &other.path)) {
            needs.entry(other.name.clone()).or_default().push(profile.name.clone());
        }
    }
    Ok(needs)
}

/// Returns what other profiles have taken over from one.
fn lent(name: &Name, shelves: &[Shelf]) -> Vec<Lent> {
    let taken = shelves.iter().flat_map(|shelf| shelf.current.iter().map(move |entry| (shelf, entry)));
    let from = |entry: &Entry| entry.origin.shared.as_ref().is_some_and(|shared| shared.profile == *name);
    let lent = taken.filter(|(shelf, entry)| shelf.name != *name && from(entry)).map(|(shelf, entry)| Lent {
        cpv: entry.facts.cpv.clone(),
        profile: shelf.name.clone(),
        milliseconds: took(entry, shelf, shelves).and_then(|origin| origin.milliseconds),
    });
    lent.collect()
}

impl Adding {
    fn like(shelf: &Shelf, shelves: &[Shelf]) -> Self {
        let mut adding = Self::default();
        for entry in &shelf.current {
            adding.bytes += entry.hashes.size;
            if overlap::is_proven(entry) {
                adding.take_over += 1;
                continue;
            }
            adding.build += 1;
            match took(entry, shelf, shelves) {
                Some(origin) => {
                    adding.milliseconds += origin.milliseconds.unwrap_or(0);
                    match origin.cpu_milliseconds {
                        Some(milliseconds) => adding.cpu_milliseconds += milliseconds,
                        None => adding.unknown.push(entry.facts.cpv.clone()),
                    }
                }
                None => adding.unknown.push(entry.facts.cpv.clone()),
            }
        }
        adding
    }
}

/// Returns the record of what building a package took the last time: this build, else another of the profile's of the same version or
/// of another, else another profile's of the same version.
fn took<'a>(entry: &'a Entry, own: &'a Shelf, shelves: &'a [Shelf]) -> Option<&'a Origin> {
    fn newest<'a>(shelf: &'a Shelf, fits: &dyn Fn(&Entry) -> bool) -> Option<&'a Origin> {
        let timed = shelf.pool.iter().filter(|other| fits(other) && other.origin.milliseconds.is_some());
        timed.map(|other| &other.origin).max_by_key(|origin| origin.built)
    }
    let same = |other: &Entry| other.facts.cpv == entry.facts.cpv;
    let likewise = |other: &Entry| other.facts.cpv.cp() == entry.facts.cpv.cp();
    let this = Some(&entry.origin).filter(|origin| origin.milliseconds.is_some());
    let built = this.or_else(|| newest(own, &same)).or_else(|| newest(own, &likewise));
    built.or_else(|| shelves.iter().find_map(|shelf| newest(shelf, &same)))
}

/// It cannot be told what profiles cost.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A pool cannot be read.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A generation cannot be read.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// There is no such profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

#[cfg(test)]
pub(crate) mod tests;
