//! Packages without compiled code are taken over from other profiles that differ in flags only (`plan/share.rs`).
//!
//! 1. The other pool's file is compared with its record.
//! 2. In a sandbox it is read as any package is: the proof that it holds no code is made anew, its content must be what
//!    the plan knows, and it gets its number here.
//! 3. It is signed with this profile's key, verified, and put into this profile's pool, with its own record.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::atom::{Cpv, Name};
use crate::binhost::pool::{Entry, Origin, Pool, Shared};
use crate::build::finish::{self, Artefact};
use crate::build::one::Shop;
use crate::build::record::{self, Record};
use crate::build::room::Room;
use crate::build::{BuildError, prepare};
use crate::event::{Event, Sink};
use crate::fs;
use crate::plan::{self, Action, Plan, Planned, Share, Stock};
use crate::profile::Profile;
use crate::sandbox::range;
use crate::state::State;

/// Returns whether other profiles' pools can change a plan that was made without them.
pub(super) fn matters(stock: &Stock, plan: &Plan) -> bool {
    let taken = |planned: &Planned| {
        let Action::Reuse(reuse) = &planned.action else { return true };
        let builds = stock.own.get(&planned.cpv).into_iter().flatten();
        builds.into_iter().any(|build| build.build_id == reuse.build_id && build.shared.is_some())
    };
    stock.share && plan.packages.iter().any(taken)
}

/// Returns what the pools of other profiles have of a plan's packages. What cannot be read there is no hindrance here:
/// its own profile's next plan complains.
pub(super) fn others(state: &State, profile: &Profile, plan: &Plan) -> BTreeMap<Name, plan::Pool> {
    let folders = fs::read_dir_if_exists(&state.profiles()).unwrap_or_default();
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str()?.parse::<Name>().ok());
    let read = |name: Name| {
        let pool = Pool::open(&state.profile(&name));
        let builds = plan.packages.iter().filter_map(|planned| pool.builds(&planned.cpv).ok());
        let builds: Vec<Entry> = builds.flatten().collect();
        let pool = prepare::pool(builds.iter().map(|entry| (entry, false)));
        (!pool.is_empty()).then_some((name, pool))
    };
    names.filter(|name| *name != profile.name).filter_map(read).collect()
}

/// Takes a package over from another profile; nothing where it turns out that it cannot be.
pub(super) fn take(
    shop: &Shop<'_>,
    planned: &Planned,
    share: &Share,
    record: &mut Record,
    on: Sink<'_>,
) -> Result<Option<Entry>, BuildError> {
    let cpv = &planned.cpv;
    match taken(shop, planned, share) {
        Ok(entry) => {
            let event = Event::Shared {
                cpv: cpv.clone(),
                build_id: entry.facts.build_id,
                profile: share.profile.clone(),
                content: entry.facts.content.clone(),
            };
            record.tell(event, on);
            record.status.shared.push(cpv.clone());
            record.save()?;
            Ok(Some(entry))
        }
        Err(Untaken::Build(error)) => Err(error),
        Err(Untaken::Unfit(why)) => {
            let what = format!("{cpv} is built, and not taken over from {}: {why}", share.profile);
            record.tell(Event::Warning { what }, on);
            Ok(None)
        }
    }
}

/// Why a package was not taken over.
enum Untaken {
    /// It is not what its pool's record says.
    Unfit(String),
    /// Nothing can be built either.
    Build(BuildError),
}

impl<E: Into<BuildError>> From<E> for Untaken {
    fn from(error: E) -> Self {
        Self::Build(error.into())
    }
}

fn taken(shop: &Shop<'_>, planned: &Planned, share: &Share) -> Result<Entry, Untaken> {
    let cpv = &planned.cpv;
    let unfit = |why: &dyn ToString| Untaken::Unfit(why.to_string());
    let pool = Pool::open(&shop.host.state.profile(&share.profile));
    let theirs = pool.find(cpv, share.build_id).map_err(|e| unfit(&e))?.ok_or_else(|| unfit(&"it is gone"))?;
    pool.verify(&theirs).map_err(|e| unfit(&e))?;
    let mut room = Room::new(shop.host, &format!("taking {cpv} over for {}", shop.profile.name))?;
    let result = adopt(shop, cpv, &theirs, share, &planned.request, &mut room);
    let closed = room.close();
    let entry = result?;
    closed?;
    Ok(entry)
}

fn adopt(
    shop: &Shop<'_>,
    cpv: &Cpv,
    theirs: &Entry,
    share: &Share,
    request: &plan::Request,
    room: &mut Room<'_>,
) -> Result<Entry, Untaken> {
    let dir = record::dir_of(&shop.run.dir, cpv);
    fs::create_dir_all(&dir)?;
    let scratch = dir.join("scratch");
    room.lease().owns_path(scratch.clone())?;
    fs::create_dir_new(&scratch, 0o700)?;
    range::admit(shop.host.ids, &scratch)?;
    let origin = Origin {
        request: Some(request.key()),
        inputs: request.to_parts(),
        run: Some(shop.run.id.clone()),
        built: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        milliseconds: None,
        cpu_milliseconds: None,
        shared: Some(Shared { profile: share.profile.clone(), build_id: share.build_id }),
        audited: None,
    };
    let artefact = Artefact::Shared { file: &theirs.file, content: &theirs.facts.content };
    match finish::finish(shop, cpv, artefact, &scratch, &origin) {
        Ok(entry) => Ok(entry),
        Err(BuildError::Odd(why)) => Err(Untaken::Unfit(why)),
        Err(BuildError::Beyond(beyond)) => Err(Untaken::Unfit(beyond.to_string())),
        Err(error) => Err(Untaken::Build(error)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_profiles_may_differ_in_is_what_the_proof_looks_for() {
        for option in crate::plan::PROCESSOR_OPTIONS {
            assert!(crate::package::offers::names_flags(option.as_bytes()), "{option}");
        }
        assert!(!crate::package::offers::names_flags(b"-O2 -pipe -mabi=ms"));
    }
}
