//! Everything before the first package is built: image, trees, configuration, plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atom::{Atom, Cpv, Name, RootPath};
use crate::backend::{self, Backend, Resolution, Settings};
use crate::binhost::pool::{Checked, Entry, Pool};
use crate::build::across::{self, Across};
use crate::build::answer::Answer;
use crate::build::explain::Explanation;
use crate::build::foreign::Foreign;
use crate::build::room::{self, Mounts};
use crate::build::turns::Turns;
use crate::build::{BuildError, Host, Outlook, share};
use crate::build::{ground, method};
use crate::config::{self, Search};
use crate::event::{Event, Sink};
use crate::image::{self, Definition, Image, ImageError};
use crate::layer::derive::Merge;
use crate::layer::hide::Hidden;
use crate::package::Facts;
use crate::plan::{self, Graph, Inputs, Output, Plan, Policy, Pooled, Request, Shells, Stock};
use crate::profile::{Archives, Method, Profile, Rebuild, Tools};
use crate::root;
use crate::sandbox::{self, Emulator};
use crate::state::ProfileDir;
use crate::tree::{self, Tree};

/// What a run knows before it builds.
#[derive(Debug)]
pub struct Prepared {
    /// What roots start from.
    pub image: Image,
    /// The snapshots that the run uses.
    pub trees: Vec<Tree>,
    /// What is to be done.
    pub plan: Plan,
    /// The package manager.
    pub(super) backend: &'static dyn Backend,
    /// How each package is merged.
    pub(super) merges: BTreeMap<Cpv, Merge>,
    /// What the image is made from.
    pub(super) definition: Definition,
    /// What of the image builds do not see.
    pub(super) hidden: Option<Hidden>,
    /// What lies below everything in a clean room: the image's layers, and what hides things there; top first.
    pub(super) bottom: Vec<PathBuf>,
    /// The profile's folder, and what each root may use.
    pub(super) home: ProfileDir,
    pub(super) limits: root::Limits,
    /// What every root of the run sees.
    pub(super) mounts: Mounts,
    /// What the pools had when the plan was made.
    pub(super) stock: Stock,
    /// What is known around the plan.
    pub outlook: Outlook,
    /// What lies there and is not what was put there.
    pub(super) altered: Vec<Entry>,
    /// How many jobs one build may run at a time.
    pub(super) jobs: u32,
    /// How many processors there are for all builds together.
    pub(super) processors: u32,
    /// Who is at work on which layer.
    pub(super) turns: Arc<Turns>,
    /// What runs meanwhile, in a cross build.
    pub(super) across: Option<Across>,
}

/// Makes the plan for a profile. `configuration` is a folder to be made, which must stay as long as the plan is used.
pub fn prepare(
    host: &Host<'_>,
    profile: &Profile,
    atoms: &[Atom],
    configuration: &Path,
    on: Sink<'_>,
) -> Result<Prepared, BuildError> {
    // What takes no time to refuse comes before an image is made.
    let definition = Definition::find(&profile.image, &host.config.search.folders_of(config::Kind::Image))
        .map_err(ImageError::from)?;
    let mut chosen = method::choose(host, profile, &definition)?;
    let mut trees = trees(host, profile, on)?;
    tree::check(&trees, &profile.portage_profile)?;
    let own = trees.len();
    let context =
        image::Context { state: host.state, ids: host.ids, archives: &host.config.archives, cancel: host.cancel };
    let image = image(&context, &host.config.search, &profile.image, on)?;
    let foreign = match &mut chosen {
        Some((cross, _)) => {
            let foreign = Foreign::find(host, &context, &definition, &image, on)?;
            cross.emulated = foreign.as_ref().is_some_and(|foreign| foreign.emulator().is_some());
            foreign
        }
        None => None,
    };
    let cross = chosen.as_ref().map(|(cross, _)| cross);
    let backend = backend::find(&profile.backend.to_string())?;
    let processors = sandbox::processors(profile.limits.cpus, profile.limits.cpuset.as_ref());
    let jobs = jobs(host.jobs, processors);
    let settings = Settings { cross: cross.cloned(), ..Settings::of(profile, jobs) };
    backend.configuration(&settings)?.write_with(&profile.patches, &profile.native, configuration)?;
    let mut places: Vec<RootPath> = settings.trees.iter().map(backend::Tree::path).collect();
    let mut configurations = vec![configuration.to_path_buf()];
    // The package manager itself runs on the build side, which is configured as for that side's own packages.
    if let Some((_, side)) = &chosen {
        let own = Settings::of(side, jobs);
        let dir = configuration.with_extension("build-side");
        backend.configuration(&own)?.write_with(&side.patches, &side.native, &dir)?;
        configurations.push(dir);
        for (tree, settings) in self::trees(host, side, on)?.into_iter().zip(&own.trees) {
            if !places.contains(&settings.path()) {
                places.push(settings.path());
                trees.push(tree);
            }
        }
    }
    let mounts = Mounts {
        trees: places.iter().cloned().zip(trees.iter().map(|tree| tree.path.clone())).collect(),
        build_side: configurations.get(1).map(|dir| (backend.configuration_path(None), dir.clone())),
        configuration: (backend.configuration_path(cross), configuration.to_path_buf()),
        distfiles: host.state.distfiles(),
    };
    let step = backend.resolve(atoms, cross);
    let seen: Vec<_> = places.into_iter().zip(&trees).collect();
    let answer = Answer::to(host.state, &image, &seen, &configurations, &step)?;
    drop(seen);
    let resolution = match answer.known().and_then(|known| backend.resolution(&known).ok()) {
        Some(resolution) => resolution,
        None => {
            on(Event::Step { what: format!("planning {} for {}", words(atoms), profile.name) });
            let output = room::resolve(host, profile, &image, &mounts, step, on)?;
            let resolution = backend.resolution(&output)?;
            if resolution.ok {
                answer.keep(&output);
            }
            resolution
        }
    };
    // What only the build side has is none of the profile's.
    trees.truncate(own);
    check(host, profile, &trees, &resolution)?;
    let used = match &chosen {
        Some(_) => Method::Cross,
        None if method::is_emulated(&definition) => Method::Emulated,
        None => Method::Native,
    };
    method::check(profile, used, &resolution)?;
    let home = host.state.profile(&profile.name);
    let checked = Pool::open(&home).check()?;
    let (across, side) = match chosen {
        Some(chosen) => {
            let dir = configuration.with_extension("tools");
            let (mut across, side) = across::prepare(host, chosen, &resolution, &dir, on)?;
            across.foreign = foreign;
            (Some(across), side)
        }
        None => (None, plan::Side::default()),
    };
    let (own, share, policy) = (pooled(&checked), profile.share, policy(profile.rebuild));
    let mut stock = Stock { own, others: BTreeMap::new(), share, policy, side };
    let hidden = ground::hidden(host, &image, &definition, false)?;
    let (toolchain, setup) = (toolchain(&image, &definition, hidden.as_ref()), definition.setup());
    let inputs = Inputs {
        resolution: &resolution,
        toolchain: &toolchain,
        image: &setup,
        mounts: &mounts.sources(),
        configuration: &mounts.configuration.1,
        shells: Shells::default(),
    };
    let plan = decide(&inputs, &mut stock, host, profile)?;
    let sysroot = across.as_ref().map(|across| &across.cross.sysroot);
    let merges = ground::merges(&resolution, configuration, sysroot);
    let outlook = Outlook::of(&plan, &checked.good, &home)?;
    let bottom = hidden.iter().map(|hidden| &hidden.layer).chain(&image.layers).cloned().collect();
    let (limits, altered, turns) = (room::limits(profile), checked.altered, Arc::default());
    Ok(Prepared {
        image,
        trees,
        plan,
        outlook,
        backend,
        merges,
        definition,
        hidden,
        bottom,
        home,
        limits,
        mounts,
        stock,
        altered,
        jobs,
        processors,
        turns,
        across,
    })
}

impl Prepared {
    /// Returns the same for an image without its native tools.
    pub(super) fn plainly(host: &Host<'_>, prepared: &Self) -> Result<Self, BuildError> {
        let image = prepared.image.plain.as_deref().unwrap_or(&prepared.image).clone();
        let hidden = ground::hidden(host, &image, &prepared.definition, false)?;
        Ok(Self {
            bottom: hidden.iter().map(|hidden| &hidden.layer).chain(&image.layers).cloned().collect(),
            image,
            hidden,
            trees: prepared.trees.clone(),
            plan: prepared.plan.clone(),
            outlook: prepared.outlook.clone(),
            backend: prepared.backend,
            merges: prepared.merges.clone(),
            definition: prepared.definition.clone(),
            home: prepared.home.clone(),
            limits: prepared.limits.clone(),
            mounts: prepared.mounts.clone(),
            stock: prepared.stock.clone(),
            altered: prepared.altered.clone(),
            jobs: prepared.jobs,
            processors: prepared.processors,
            turns: Arc::clone(&prepared.turns),
            // What is emulated is not cross built.
            across: None,
        })
    }
}

/// Returns how many jobs a build may run at a time: no more than it can keep processors busy.
fn jobs(most: Option<u32>, processors: u32) -> u32 {
    processors.min(most.unwrap_or(u32::MAX)).max(1)
}

/// Returns an image that is made from the definition as it is now: the one there is, or a new one.
pub fn image(cx: &image::Context<'_>, search: &Search, name: &Name, on: Sink<'_>) -> Result<Image, ImageError> {
    let definition = image::Definition::find(name, &search.folders_of(config::Kind::Image))?;
    let emulator = emulator(cx, search, &definition, on)?;
    let is_current = |image: &Image| image.origin.definition == definition.digest();
    let mut found = image::find(cx, name)?;
    if !found.as_ref().is_some_and(is_current) {
        let turn = image::turn(cx, name, on)?;
        // Another command may have made it meanwhile.
        found = image::find(cx, name)?;
        if found.is_some() && !found.as_ref().is_some_and(is_current) {
            on(Event::Step { what: format!("the definition of image {name} has changed since it was made") });
        }
        if !found.as_ref().is_some_and(is_current) {
            found = Some(image::make(cx, turn, &definition, &image::Mode::Newest, emulator.as_ref(), on)?);
        }
    }
    let image = found.expect("it was made where there was none");
    with_tools(cx, search, &definition, Image { emulator, ..image }, on)
}

/// Lays the image's native tools on top of it, where it is emulated and has some that serve; they are made if need be.
fn with_tools(
    cx: &image::Context<'_>,
    search: &Search,
    definition: &Definition,
    made: Image,
    on: Sink<'_>,
) -> Result<Image, ImageError> {
    let name = definition.recipe.native_tools.as_ref().filter(|_| made.emulator.is_some());
    let Some(name) = name else { return Ok(made) };
    let recipe = Definition::find(name, &search.folders_of(config::Kind::Image))?.recipe;
    if recipe.kind != image::Kind::DebianFiles || sandbox::foreign(recipe.architecture.as_str()).is_some() {
        return Err(ImageError::NoTools { image: made.name, tools: name.clone() });
    }
    let tools = image(cx, search, name, on)?;
    made.clone().with_tools(&tools).or_else(|error| {
        on(Event::Warning { what: format!("everything is emulated: {error}") });
        Ok(made)
    })
}

/// Returns what runs the programs of an image that is for another machine, of an image that is made if need be; nothing
/// where this machine does by itself.
pub fn emulator(
    cx: &image::Context<'_>,
    search: &Search,
    definition: &Definition,
    on: Sink<'_>,
) -> Result<Option<Emulator>, ImageError> {
    let recipe = &definition.recipe;
    let foreign = sandbox::foreign(recipe.architecture.as_str()).filter(|_| recipe.kind == image::Kind::Debian);
    let Some(machine) = foreign else { return Ok(None) };
    let none = || ImageError::Foreign { name: definition.name.clone(), architecture: recipe.architecture.clone() };
    let name = recipe.emulator.as_ref().ok_or_else(none)?;
    program(cx, search, name, machine, on)?.ok_or_else(none).map(Some)
}

/// Returns what runs a machine's programs, of the image of this name, which is made if need be; nothing where that is not one
/// of files alone.
pub(super) fn program(
    cx: &image::Context<'_>,
    search: &Search,
    name: &Name,
    machine: &str,
    on: Sink<'_>,
) -> Result<Option<Emulator>, ImageError> {
    if Definition::find(name, &search.folders_of(config::Kind::Image))?.recipe.kind != image::Kind::DebianFiles {
        return Ok(None);
    }
    let image = image(cx, search, name, on)?;
    let program = image.layers.first().map(|layer| layer.join(format!("usr/bin/qemu-{machine}")));
    Ok(program.map(|program| Emulator { machine: machine.to_string(), program }))
}

fn trees(host: &Host<'_>, profile: &Profile, on: Sink<'_>) -> Result<Vec<Tree>, BuildError> {
    let mut trees = Vec::new();
    for name in &profile.trees {
        let path = host.config.trees.get(name).expect("a profile's trees are checked when it is resolved");
        trees.push(tree::snapshot(name, &path.value, &host.state.trees(), on)?);
    }
    Ok(trees)
}

/// Refuses what cannot be built, before anything is.
fn check(host: &Host<'_>, profile: &Profile, trees: &[Tree], resolution: &Resolution) -> Result<(), BuildError> {
    if !resolution.ok {
        let mut known: Vec<Cpv> = Vec::new();
        for tree in trees {
            known.extend(tree::ebuilds(&tree.path)?);
        }
        let all: Vec<_> = host.config.trees.iter().map(|(name, path)| (name, path.value.as_path())).collect();
        let explain = |problem| Explanation::of(problem, profile, &known, &all);
        let problems = resolution.problems.iter().map(explain).collect();
        return Err(BuildError::Unsolvable { problems, more: resolution.more });
    }
    let present = |file: &backend::resolution::Distfile| host.state.distfiles().join(file.name.as_str()).is_file();
    let refusals = plan::refusals(resolution, &present);
    if refusals.is_empty() { Ok(()) } else { Err(BuildError::Refused { refusals, distfiles: host.state.distfiles() }) }
}

/// Returns the image's packages that can change what is built, by role. They count, not how the image was packed.
fn toolchain(image: &Image, definition: &Definition, hidden: Option<&Hidden>) -> BTreeMap<String, String> {
    let seen = |name: &str| hidden.is_none_or(|hidden| hidden.seen.contains(name));
    let base: BTreeSet<&str> =
        definition.recipe.base.iter().flat_map(|base| &base.packages).map(|name| name.as_str()).collect();
    let debs = image.origin.debs.iter().map(|deb| (deb.name.as_str(), deb.version.as_str()));
    let debs = debs.filter(|(name, _)| seen(name));
    let wheels = image.origin.wheels.iter().map(|wheel| (wheel.name.as_str(), wheel.version.as_str()));
    plan::toolchain(debs, wheels, |name| base.contains(name))
}

/// Returns what a package offers those that are built with it; nothing where the record's rules are not today's.
pub fn output(facts: &Facts) -> Option<Output> {
    let offers = facts.offers.as_ref().filter(|offers| offers.is_current())?;
    let (link, archives, tools) = (offers.link.clone(), offers.archives.clone(), offers.tools.clone());
    Some(Output { link, archives, tools })
}

fn decide(inputs: &Inputs<'_>, stock: &mut Stock, host: &Host<'_>, profile: &Profile) -> Result<Plan, BuildError> {
    let resolution = inputs.resolution;
    let mut requests = BTreeMap::new();
    for package in &resolution.packages {
        let mut request = inputs.request(package)?;
        request.set("source-date", host.source_date(profile).to_string());
        requests.insert(package.cpv.clone(), request);
    }
    let graph = Graph::new(resolution)?;
    let refused =
        |refusal| BuildError::Refused { refusals: vec![refusal], distfiles: host.state.distfiles().to_path_buf() };
    let plan = Plan::new(resolution, &graph, requests.clone(), stock, &BTreeSet::new()).map_err(refused)?;
    // Where all is unchanged and nothing came from elsewhere, other profiles' pools need not be read.
    if !share::matters(stock, &plan) {
        return Ok(plan);
    }
    stock.others = share::others(host.state, profile, &plan);
    Plan::new(resolution, &graph, requests, stock, &BTreeSet::new()).map_err(refused)
}

/// Returns what the profile says of the changes that count, in the plan's terms.
fn policy(rebuild: Rebuild) -> Policy {
    let tools = match rebuild.tools {
        Tools::Any => plan::Tools::Any,
        Tools::Abi => plan::Tools::Abi,
        Tools::Never => plan::Tools::Never,
    };
    Policy { archives: rebuild.archives == Archives::Any, tools }
}

/// Returns what the plan compares with.
fn pooled(checked: &Checked) -> plan::Pool {
    let good = checked.good.iter().map(|entry| (entry, false));
    let altered = checked.altered.iter().map(|entry| (entry, true));
    pool(good.chain(altered))
}

/// Returns packages as a plan sees them, each with whether it was altered.
pub fn pool<'a>(entries: impl IntoIterator<Item = (&'a Entry, bool)>) -> plan::Pool {
    let mut pool = plan::Pool::new();
    for (entry, altered) in entries {
        let Some(request) = Request::from_parts(&entry.origin.inputs) else { continue };
        let facts = &entry.facts;
        let offers = facts.offers.as_ref();
        let known = Pooled {
            build_id: facts.build_id,
            content: facts.content.clone(),
            request,
            output: output(facts),
            altered,
            code: offers.and_then(|offers| Some(offers.code.as_ref()?.to_string())),
            unproven: offers.is_none_or(|offers| offers.code.is_none() && offers.not_proven().is_some()),
            shared: entry.origin.shared.as_ref().map(|shared| shared.profile.clone()),
        };
        pool.entry(facts.cpv.clone()).or_default().push(known);
    }
    for builds in pool.values_mut() {
        builds.sort_by_key(|build| build.build_id);
    }
    pool
}

fn words(atoms: &[Atom]) -> String {
    atoms.iter().map(Atom::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn of_the_image_counts_what_builds_see_and_whatever_the_base_names() {
        let deb = |name: &str| serde_json::json!({"name": name, "version": "1", "architecture": "amd64", "sha256": Digest::of(name)});
        let debs = ["gcc", "hostname", "perl-base", "libssl3t64"].map(deb);
        let origin = serde_json::json!({"definition": Digest::of("d"), "debs": debs, "wheels": []});
        let image = Image {
            name: "debian-portage".parse().unwrap(),
            digest: Digest::of("image"),
            ground: Digest::of("image"),
            plain: None,
            layers: Vec::new(),
            env: Vec::new(),
            origin: serde_json::from_value(origin).unwrap(),
            emulator: None,
        };
        let definition = Definition::find(&image.name, &[]).unwrap();
        let seen: BTreeSet<String> = ["gcc", "hostname", "libssl3t64"].map(str::to_string).into();
        let (layer, digest, hidden) = ("l/x".into(), Digest::of("hidden"), BTreeMap::new());
        let hidden = Hidden { layer, digest, seen, hidden };
        let of = |hidden: Option<&Hidden>| toolchain(&image, &definition, hidden)["tools"].clone();
        assert_eq!(of(Some(&hidden)), "hostname=1");
        // An image without a base hides nothing.
        assert_eq!(of(None), "perl-base=1 hostname=1");
    }

    #[test]
    fn what_is_allowed_limits_the_jobs() {
        let all = sandbox::processors(None, None);
        for (most, cpus, wanted) in [
            (None, None, all),
            (Some(1), None, 1),
            (None, Some(0.5), 1),
            (None, Some(1.5), 2.min(all)),
            (Some(1), Some(16.0), 1),
            (Some(u32::MAX), Some(8192.0), all),
        ] {
            assert_eq!(jobs(most, sandbox::processors(cpus, None)), wanted, "{most:?} {cpus:?}");
        }
    }
}
