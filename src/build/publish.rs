//! Publishes what a run came to: the newest build of every package of the plan, and what was published before.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::atom::Cpv;
use crate::binhost::generation::{Generation, Meta, Published, Signer, publish as publish_generation};
use crate::binhost::pool::Entry;
use crate::binhost::statement;
use crate::build::one::Shop;
use crate::build::{BuildError, audit};
use crate::event::{Event, Sink};
use crate::tree::Tree;

/// For how long clients that check the statement may believe it without a newer one.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Publishes `ready`, and of what was published before all that is still in the pool and not replaced; nothing where
/// there is neither.
pub(super) fn publish(
    shop: &Shop<'_>,
    ready: &BTreeMap<Cpv, Entry>,
    on: Sink<'_>,
) -> Result<Option<Published>, BuildError> {
    let dir = shop.host.state.profile(&shop.profile.name);
    let mut entries = ready.clone();
    let current = Generation::current(&dir)?;
    if ready.is_empty() && current.is_none() {
        return Ok(None);
    }
    if let Some(current) = current {
        for package in &current.statement.packages {
            let cpv = &package.path.cpv;
            let Some(entry) = shop.pool.find(cpv, package.path.build_id)?.filter(|_| !entries.contains_key(cpv)) else {
                continue;
            };
            // What stays must be good for the profile as it is now, too.
            match audit::again(shop, entry) {
                Ok(entry) => drop(entries.insert(cpv.clone(), entry)),
                Err(BuildError::Beyond(beyond)) => {
                    let what = format!("{cpv}, build {}, is not published any more: {beyond}", package.path.build_id);
                    on(Event::Warning { what });
                }
                Err(error) => return Err(error),
            }
        }
    }
    audit::summary(shop.profile, &entries, on);
    let entries: Vec<Entry> = entries.into_values().collect();
    let profile = shop.profile;
    let tree = |t: &Tree| statement::Tree { name: t.name.to_string(), revision: t.revision.to_string() };
    let meta = Meta {
        profile: profile.name.clone(),
        arch: profile.arch.to_string(),
        chost: profile.chost.to_string(),
        portage_profile: Some(profile.portage_profile.path.to_string()),
        settings: BTreeMap::new(),
        trees: shop.prepared.trees.iter().map(tree).collect(),
        image: Some(shop.prepared.image.digest.clone()),
        validity: VALIDITY,
    };
    let signer =
        Signer { certificate: shop.key.certificate(), sign: &|bytes, time| Ok(shop.key.detached(bytes, time)?) };
    Ok(Some(publish_generation(&dir, shop.held, &entries, &meta, &signer, SystemTime::now())?))
}
