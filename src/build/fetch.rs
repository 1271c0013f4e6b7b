//! Fetches what a plan's packages are built from.

use crate::build::prepare::Prepared;
use crate::build::{BuildError, Host};
use crate::distfiles::{self, Request, ThirdParty};
use crate::event::Sink;
use crate::profile::Profile;

/// Makes sure that the archives of all packages to build are there and right.
pub(super) fn fetch(host: &Host<'_>, profile: &Profile, prepared: &Prepared, on: Sink<'_>) -> Result<(), BuildError> {
    let files: Vec<_> = prepared.plan.to_build().flat_map(|planned| planned.distfiles.clone()).collect();
    let mut third_party = ThirdParty::default();
    for tree in &prepared.trees {
        third_party.add(&tree.third_party_mirrors()?);
    }
    let request = Request {
        files: &files,
        mirrors: &profile.mirrors,
        third_party: &third_party,
        folder: &host.state.distfiles(),
        proxy: host.proxy.cloned(),
        cancel: host.cancel,
    };
    distfiles::fetch(&request, on)?;
    Ok(())
}
