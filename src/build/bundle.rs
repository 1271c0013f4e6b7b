//! The step that builds a package as an OCI bundle, to be run by `bindery run --bundle` or by another runtime.
//!
//! ```text
//! DIR/config.json   what our sandbox is given, with a folder as the root and the ids' maps (root/bundle/export.rs)
//!     rootfs/       the image's layers, copied; belongs to the id range
//!     portage/      the package manager's configuration, mounted from here
//!     packages/     the packages that the root starts with, likewise
//! ```
//!
//! Trees and source archives are mounted from the state folder. What the package needs must be built already.

use std::collections::BTreeMap;
use std::path::Path;

use crate::atom::{Atom, Cpv};
use crate::backend::{self, Build};
use crate::binhost::pool::{Entry, Pool};
use crate::build::method::MethodError;
use crate::build::prepare::{Prepared, prepare};
use crate::build::room::{self, path};
use crate::build::{BuildError, Host, fetch, ground, method, one};
use crate::event::{Event, Sink};
use crate::plan::{Action, Planned};
use crate::profile::{Method, Profile};
use crate::root::bundle::{ROOTFS, export};
use crate::root::{Bind, Root};
use crate::sandbox::idmap;
use crate::{fs, layer};

/// Writes the bundle of the step that builds what `atom` means to the new folder `into`; returns which package it is.
pub fn bundle(host: &Host<'_>, profile: &Profile, atom: &Atom, into: &Path, on: Sink<'_>) -> Result<Cpv, BuildError> {
    let way = method::choose(host.config, profile)?;
    if way.method() == Method::Emulated {
        return Err(MethodError::Bundle { image: way.definition.name }.into());
    }
    fs::create_dir_new(into, 0o755)?;
    let prepared = prepare(host, profile, std::slice::from_ref(atom), &into.join("portage"), on)?;
    // What was asked for needs all the others.
    let planned = prepared.plan.packages.last().ok_or_else(|| BuildError::NoStep { atom: atom.clone() })?;
    if let Some(fallback) = prepared.fallback.as_ref().filter(|fallback| fallback.aside.contains_key(&planned.cpv)) {
        return Err(MethodError::Bundle { image: fallback.definition.name.clone() }.into());
    }
    let pool = Pool::open(&host.state.profile(&profile.name));
    let ready = needed(&pool, &prepared, planned)?;
    if let Some(tool) = prepared.across.as_ref().and_then(|across| across.lacks(&planned.tools)) {
        return Err(BuildError::NotBuilt { cpv: planned.cpv.clone(), needed: Box::new(tool.clone()) });
    }
    fetch::fetch(host, profile, &prepared, on)?;
    let packages = into.join("packages");
    // Copies, not links: the bundle may lie on another file system, and outlive the pool.
    let place = |from: &Path, to: &Path| fs::copy(from, to).map(drop);
    let _in_use = layer::collect::in_use(host.state)?;
    let ground = ground::ground(host, &prepared, planned, &ready, on)?;
    one::lay_out(&pool, prepared.backend, &ground.install, &ready, &packages, place)?;
    let mut binds = prepared.mounts.binds();
    binds.push(Bind { from: packages, to: path(backend::PACKAGES), writable: false });
    let across = prepared.across.as_ref();
    if let Some(across) = across {
        binds.extend(across.lay_out(&ground.tools, into, place)?);
    }
    let cross = across.map(|across| (&across.cross, ground.tools.as_slice()));
    let build = Build { cpv: &planned.cpv, needs: &ground.install, source_date: host.source_date(profile), cross };
    let step = prepared.backend.build(&build);
    // The root of the spec is exchanged, so any will do.
    let root = Root { lower: prepared.image.layers.clone(), upper: Some("roots/bundle".into()) };
    let spec = room::spec(&root, &prepared.image, &binds, &step, &room::limits(profile));
    on(Event::Step { what: format!("copying image {}", prepared.image.name) });
    layer::flatten(host.ids, host.state.state(), &ground.lower, into, ROOTFS)?;
    let config = export(&spec, host.ids.uid(), host.ids.gid(), idmap::COUNT);
    let text = serde_json::to_string_pretty(&config).expect("plain data");
    fs::write_atomic(&into.join("config.json"), text + "\n", 0o644)?;
    Ok(planned.cpv.clone())
}

/// Returns the packages in the pool that the step needs.
fn needed(pool: &Pool, prepared: &Prepared, planned: &Planned) -> Result<BTreeMap<Cpv, Entry>, BuildError> {
    let mut ready = BTreeMap::new();
    for cpv in &planned.needs {
        let action = prepared.plan.packages.iter().find(|other| other.cpv == *cpv).map(|other| &other.action);
        let Some(Action::Reuse(reuse)) = action else {
            return Err(BuildError::NotBuilt { cpv: planned.cpv.clone(), needed: Box::new(cpv.clone()) });
        };
        let entry = pool.find(cpv, reuse.build_id)?.ok_or_else(|| BuildError::Vanished { cpv: cpv.clone() })?;
        ready.insert(cpv.clone(), entry);
    }
    Ok(ready)
}
