//! What the clean room of a package starts from: the image, less what it hides beyond its base, the layers of what it is built with, and, of that, what must be
//! installed by the package manager, because it is no layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::atom::{Cpv, RootPath};
use crate::backend::Resolution;
use crate::backend::resolution::Package;
use crate::binhost::pool::Entry;
use crate::build::prepare::Prepared;
use crate::build::{BuildError, Host, phases};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::fs;
use crate::image::{Definition, Image, Word};
use crate::layer::derive::{self, Derived, Layer, Merge, Reason, Settings};
use crate::layer::hide::{self, Base, Hidden};
use crate::layer::stack::{self, StackError};
use crate::plan::Planned;

/// What a clean room starts from.
#[derive(Debug)]
pub(super) struct Ground {
    /// The root's layers, top first.
    pub(super) lower: Vec<PathBuf>,
    /// Those of packages.
    pub(super) layers: Vec<Layer>,
    /// What is installed into it, in this order.
    pub(super) install: Vec<Cpv>,
    /// In a cross build, likewise on the build side.
    pub(super) tools: Vec<Cpv>,
}

/// Returns what a package's clean room starts from; `ready` says which build of each dependency.
pub(super) fn ground(
    host: &Host<'_>,
    prepared: &Prepared,
    planned: &Planned,
    ready: &BTreeMap<Cpv, Entry>,
    on: Sink<'_>,
) -> Result<Ground, BuildError> {
    let (layers, install) = self::layers(host, prepared, &planned.cpv, &planned.needs, ready, on)?;
    let (mut all, mut tools) = (layers.clone(), Vec::new());
    if let Some((across, side)) = prepared.across.as_ref().and_then(|a| Some((a, a.prepared.as_deref()?))) {
        let (more, rest) = self::layers(host, side, &planned.cpv, &planned.tools, &across.ready, on)?;
        all.extend(more);
        tools = rest;
    }
    // Many stacks share what is made for them.
    let _turn = prepared.turns.take(["stack".to_string()]);
    let bottom = bottom(host, prepared, !install.is_empty() || !tools.is_empty())?;
    let usual = Merge::default();
    let (lowest, image_digest) = (&bottom.0, &bottom.1);
    let below = derive::Context { image: lowest, image_digest, ..context(host, prepared, merge(prepared, &usual)) };
    match stack::stack(&below, &all, host.cancel) {
        Ok(lower) => Ok(Ground { lower, layers, install, tools }),
        // The package manager knows better, or says it in its own words.
        Err(error @ (StackError::Collision { .. } | StackError::TooMany { .. })) => {
            on(Event::Step { what: format!("everything that {} needs is installed: {error}", planned.cpv) });
            let (lower, _) = self::bottom(host, prepared, true)?;
            let (install, tools) = (planned.needs.clone(), planned.tools.clone());
            Ok(Ground { lower, layers: Vec::new(), install, tools })
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the layers of what `user` needs, in its order, and what of it is none and has to be installed.
fn layers(
    host: &Host<'_>,
    prepared: &Prepared,
    user: &Cpv,
    needs: &[Cpv],
    ready: &BTreeMap<Cpv, Entry>,
    on: Sink<'_>,
) -> Result<(Vec<Layer>, Vec<Cpv>), BuildError> {
    let mut found: BTreeMap<&Cpv, Derived> = BTreeMap::new();
    let usual = Merge::default();
    let context = |merge| context(host, prepared, merge);
    // Who needs the same at the same moment waits, and then finds it made.
    let turn = prepared.turns.take(needs.iter().map(ToString::to_string));
    // What is merged in the same way is derived at once.
    let mut rest: Vec<(&Cpv, &Entry, &Merge)> = Vec::new();
    for cpv in needs {
        let entry =
            ready.get(cpv).ok_or_else(|| BuildError::Order { cpv: user.clone(), needed: Box::new(cpv.clone()) })?;
        rest.push((cpv, entry, prepared.merges.get(cpv).unwrap_or(&usual)));
    }
    while let Some((.., merge)) = rest.first().copied() {
        let (same, other): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(.., theirs)| *theirs == merge);
        let packages: Vec<_> =
            same.iter().map(|(_, entry, _)| derive::Package { file: &entry.file, facts: &entry.facts }).collect();
        found.extend(same.iter().map(|(cpv, ..)| *cpv).zip(derive::derive(&context(merge), &packages)?));
        rest = other;
    }
    drop(turn);
    let (mut layers, mut install) = (Vec::new(), Vec::new());
    for cpv in needs {
        let merge = prepared.merges.get(cpv).unwrap_or(&usual);
        let derived = match found.remove(cpv).zip(ready.get(cpv)) {
            // Phases of what does not run here have to be run by the package manager of each root.
            Some((Derived::NotStackable(reasons), entry))
                if reasons.iter().all(Reason::is_phase) && merge.below().is_empty() =>
            {
                // Merged once by the package manager, which needs a little more for it.
                let (image, image_digest) = &bottom(host, prepared, true)?;
                let context = derive::Context { image, image_digest, ..context(merge) };
                Some(phases::derive(host, prepared, &context, entry, &layers, on)?)
            }
            derived => derived.map(|(derived, _)| derived),
        };
        match derived {
            Some(Derived::Layer(layer)) => layers.push(layer),
            Some(Derived::NotStackable(reasons)) => {
                let why: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                on(Event::Step { what: format!("{cpv} is installed, and no layer: {}", why.join("; ")) });
                let tools = ready.get(cpv).map_or("", |entry| entry.facts.idepend.as_str());
                if !merge.below().is_empty() && !tools.is_empty() {
                    let what = format!(
                        "{cpv} is installed below /{} without what its IDEPEND names (`{tools}`), which is not there: a phase \
                         that runs it fails; build that for the profile natively or emulated",
                        merge.below()
                    );
                    on(Event::Warning { what });
                }
                install.push(cpv.clone());
            }
            None => install.push(cpv.clone()),
        }
    }
    Ok((layers, install))
}

/// Returns how a profile's packages are merged, as far as that is the same for all: where to.
pub(super) fn merge<'a>(prepared: &'a Prepared, usual: &'a Merge) -> &'a Merge {
    prepared.merges.values().next().unwrap_or(usual)
}

/// Returns where layers are kept, and what lies below those of a room.
pub(super) fn context<'a>(host: &Host<'a>, prepared: &'a Prepared, merge: &'a Merge) -> derive::Context<'a> {
    let image_digest = prepared.hidden.as_ref().map_or(&prepared.image.ground, |hidden| &hidden.digest);
    let emulator = prepared.image.emulator.as_ref();
    derive::Context { state: host.state, ids: host.ids, image: &prepared.bottom, image_digest, merge, emulator }
}

/// Returns what lies below the packages of a room, and a digest of that.
fn bottom(host: &Host<'_>, prepared: &Prepared, installing: bool) -> Result<(Vec<PathBuf>, Digest), BuildError> {
    let Prepared { image, definition, .. } = prepared;
    // Looked at again: somebody may have removed all layers meanwhile.
    Ok(match hidden(host, image, definition, installing)? {
        Some(hidden) => ([&hidden.layer].into_iter().chain(&image.layers).cloned().collect(), hidden.digest),
        None => (image.layers.clone(), image.ground.clone()),
    })
}

/// Returns what the image hides beyond its base, if its definition has one: a little less, where something is to be
/// installed.
pub(super) fn hidden(
    host: &Host<'_>,
    image: &Image,
    definition: &Definition,
    installing: bool,
) -> Result<Option<Hidden>, BuildError> {
    let Some(base) = &definition.recipe.base else { return Ok(None) };
    let more: &[Word] = if installing { &base.install } else { &[] };
    let text = |words: &[Word]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let base = Base { packages: [text(&base.packages), text(more)].concat(), without: text(&base.without) };
    let (merge, state, ids) = (&Merge::default(), host.state, host.ids);
    let (emulator, image_digest) = (image.emulator.as_ref(), &image.ground);
    let context = derive::Context { state, ids, image: &image.layers, image_digest, merge, emulator };
    Ok(Some(hide::hide(&context, &base)?))
}

/// Returns how each package of a resolution is merged; `configuration` is the folder that is mounted as the package
/// manager's, `sysroot` what packages are merged into, in a cross build.
pub(super) fn merges(
    resolution: &Resolution,
    configuration: &Path,
    sysroot: Option<&RootPath>,
) -> BTreeMap<Cpv, Merge> {
    let profiles = resolution.bashrcs.first().map(ToString::to_string);
    let own = fs::symlink_metadata(&configuration.join("bashrc")).is_ok().then(|| "/etc/portage/bashrc".to_string());
    let bashrc = own.or(profiles);
    let below = sysroot.map(|path| path.to_string().trim_matches('/').to_string()).unwrap_or_default();
    let merge = |package: &Package| {
        let settings = settings(resolution, package, bashrc.clone());
        Merge::from(Settings { below: below.clone(), ..settings })
    };
    resolution.packages.iter().map(|package| (package.cpv.clone(), merge(package))).collect()
}

fn settings(resolution: &Resolution, package: &Package, bashrc: Option<String>) -> Settings {
    let value = |name: &str| {
        let of = |env: &BTreeMap<_, String>| {
            env.iter()
                .find(|(known, _): &(&crate::backend::resolution::Variable, _)| known.as_str() == name)
                .map(|(_, value)| value.clone())
        };
        let unset = package.env_unset.iter().any(|known| known.as_str() == name);
        of(&package.env).or_else(|| of(&resolution.env).filter(|_| !unset)).unwrap_or_default()
    };
    let has = |name: &str| package.features.iter().any(|word| word.as_str() == name);
    let mut features: Vec<String> = package.features.iter().map(ToString::to_string).collect();
    features.extend(derive::NEEDED.iter().filter(|name| !has(name)).map(|name| format!("-{name}")));
    Settings {
        install_mask: value("INSTALL_MASK"),
        config_protect: value("CONFIG_PROTECT"),
        config_protect_mask: value("CONFIG_PROTECT_MASK"),
        features,
        bashrc,
        below: String::new(),
    }
}
