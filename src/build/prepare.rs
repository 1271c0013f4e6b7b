//! Everything before the first package is built: image, trees, configuration, plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::atom::{Atom, Cpv, RootPath};
use crate::backend::{self, Backend, Resolution, Settings};
use crate::binhost::pool::{Checked, Entry, Pool};
use crate::build::across::{self, Across};
use crate::build::answer::Answer;
use crate::build::explain::{Explanation, Sides};
use crate::build::fallback::{Alone, Fallback, Parts};
use crate::build::foreign::Foreign;
use crate::build::method::Way;
use crate::build::room::{self, Mounts};
use crate::build::turns::Turns;
use crate::build::{BuildError, Host, Outlook, share};
use crate::build::{ground, images, method, methods};
use crate::event::{Event, Sink};
use crate::image::{self, Definition, Image};
use crate::layer::derive::Merge;
use crate::layer::hide::Hidden;
use crate::package::Facts;
use crate::plan::{self, Graph, Inputs, Output, Plan, Policy, Pooled, Request, Shells, Stock};
use crate::profile::{Archives, Method, Profile, Rebuild, Tools};
use crate::root;
use crate::sandbox;
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
    /// What becomes of what cannot be cross built.
    pub(super) fallback: Option<Fallback>,
}

/// Makes the plan for a profile. `configuration` is a folder to be made, which must stay as long as the plan is used.
pub fn prepare(
    host: &Host<'_>,
    profile: &Profile,
    atoms: &[Atom],
    configuration: &Path,
    on: Sink<'_>,
) -> Result<Prepared, BuildError> {
    let way = method::choose(host.config, profile)?;
    prepare_in(host, profile, way, atoms, configuration, None, on)
}

/// Likewise, for how packages are built, and perhaps for one package alone.
pub(super) fn prepare_in(
    host: &Host<'_>,
    profile: &Profile,
    mut way: Way,
    atoms: &[Atom],
    configuration: &Path,
    alone: Option<Alone<'_>>,
    on: Sink<'_>,
) -> Result<Prepared, BuildError> {
    // What takes no time to refuse comes before an image is made.
    let mut trees = match alone {
        Some(alone) => alone.trees.to_vec(),
        None => trees(host, profile, on)?,
    };
    tree::check(&trees, &profile.portage_profile)?;
    let own = trees.len();
    let context =
        image::Context { state: host.state, ids: host.ids, archives: &host.config.archives, cancel: host.cancel };
    let image = images::image(&context, &host.config.search, &way.definition.name, on)?;
    let foreign = match &mut way.cross {
        Some((cross, _)) => {
            let foreign = Foreign::find(host, &context, &way.definition, &image, on)?;
            cross.emulated = foreign.as_ref().is_some_and(|foreign| foreign.emulator().is_some());
            foreign
        }
        None => None,
    };
    let cross = way.cross.as_ref().map(|(cross, _)| cross);
    let backend = backend::find(&profile.backend.to_string())?;
    let processors = sandbox::processors(profile.limits.cpus, profile.limits.cpuset.as_ref());
    let jobs = jobs(host.jobs, processors);
    let settings = Settings { cross: cross.cloned(), ..Settings::of(profile, jobs) };
    backend.configuration(&settings)?.write_with(&profile.patches, &profile.native, configuration)?;
    let mut places: Vec<RootPath> = settings.trees.iter().map(backend::Tree::path).collect();
    let mut configurations = vec![configuration.to_path_buf()];
    // The package manager itself runs on the build side, which is configured as for that side's own packages.
    if let Some((_, side)) = &way.cross {
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
    let sides = Sides { own: profile, build: way.cross.as_ref().map(|(_, side)| side) };
    check(host, sides, &trees, &resolution)?;
    // What only the build side has is none of the profile's.
    trees.truncate(own);
    let mut aside = method::check(profile, &way, &resolution)?;
    let home = host.state.profile(&profile.name);
    let home = if alone.is_some() { home.emulated() } else { home };
    let Way { definition, cross: chosen, fallback } = way;
    let checked = Pool::open(&home).check()?;
    let (across, side) = match chosen {
        Some(chosen) => {
            let dir = configuration.with_extension("tools");
            let (mut across, side) = across::prepare(host, &image, chosen, &resolution, &dir, on)?;
            across.foreign = foreign;
            (Some(across), side)
        }
        None => (None, plan::Side::default()),
    };
    let (mut own, policy) = (pooled(&checked), policy(profile.rebuild));
    // For one package alone, others' pools are not searched.
    let (share, mut given) = (profile.share && alone.is_none(), BTreeMap::new());
    for (cpv, entry) in alone.iter().flat_map(|alone| alone.given) {
        own.extend(pool([(entry, false)]));
        given.insert(cpv.clone(), entry.facts.build_id);
    }
    let mut stock = Stock { own, others: BTreeMap::new(), share, policy, side, given };
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
    if fallback.is_some() {
        for package in &resolution.packages {
            let cp = package.cpv.cp();
            if aside.contains_key(&package.cpv) || profile.method_of(&cp) == Method::Cross {
                continue;
            }
            let of = methods::Of::new(&image, &inputs.request(package)?);
            if let Some(why) = methods::failed(&home, &package.cpv, Method::Cross, &of) {
                aside.insert(package.cpv.clone(), format!("cross built it failed before: {why}"));
            }
        }
    }
    let fallback = fallback.map(|definition| Fallback { definition, aside, failed: Mutex::default() });
    let instead = match fallback.as_ref().filter(|fallback| !fallback.aside.is_empty()) {
        Some(fallback) => {
            let image = images::image(&context, &host.config.search, &fallback.definition.name, on)?;
            let hidden = ground::hidden(host, &image, &fallback.definition, false)?;
            let toolchain = self::toolchain(&image, &fallback.definition, hidden.as_ref());
            Some((fallback, Parts { toolchain, setup: fallback.definition.setup() }))
        }
        None => None,
    };
    let request = |cpv: &Cpv, request: Request| match &instead {
        Some((fallback, parts)) if fallback.aside.contains_key(cpv) => parts.instead(request),
        _ => request,
    };
    let plan = decide(&inputs, &mut stock, host, profile, request)?;
    let sysroot = across.as_ref().map(|across| &across.cross.sysroot);
    let merges = ground::merges(&resolution, configuration, sysroot);
    let emulated = fallback.as_ref().map(|fallback| fallback.aside.clone()).unwrap_or_default();
    let outlook = Outlook { emulated, ..Outlook::of(&plan, &checked.good, &home)? };
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
        fallback,
    })
}

/// Returns what requests say of the image of what was prepared.
pub(super) fn parts(prepared: &Prepared) -> Parts {
    let Prepared { image, definition, hidden, .. } = prepared;
    Parts { toolchain: toolchain(image, definition, hidden.as_ref()), setup: definition.setup() }
}

impl Prepared {
    /// Returns how a package is built, in words, if it is.
    pub fn method(&self, cpv: &Cpv) -> String {
        match self.outlook.emulated.get(cpv) {
            Some(why) => format!("emulated: {why}"),
            None if self.across.is_some() => "cross built".to_string(),
            None if self.image.emulator.is_some() => "emulated".to_string(),
            None => "native".to_string(),
        }
    }

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
            fallback: None,
        })
    }
}

/// Returns how many jobs a build may run at a time: no more than it can keep processors busy.
fn jobs(most: Option<u32>, processors: u32) -> u32 {
    processors.min(most.unwrap_or(u32::MAX)).max(1)
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
fn check(host: &Host<'_>, sides: Sides<'_>, trees: &[Tree], resolution: &Resolution) -> Result<(), BuildError> {
    if !resolution.ok {
        let (mut known, mut known_there): (Vec<Cpv>, Vec<Cpv>) = (Vec::new(), Vec::new());
        for tree in trees {
            let ebuilds = tree::ebuilds(&tree.path)?;
            if sides.own.trees.contains(&tree.name) {
                known.extend(ebuilds.iter().cloned());
            }
            known_there.extend(ebuilds);
        }
        let all: Vec<_> = host.config.trees.iter().map(|(name, path)| (name, path.value.as_path())).collect();
        let of_side = |number| resolution.of_build_side.contains(&number);
        let explain = |(number, problem)| {
            let known = if of_side(number) { &known_there } else { &known };
            Explanation::of(problem, of_side(number), sides, known, &all)
        };
        let problems = resolution.problems.iter().enumerate().map(explain).collect();
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

/// Makes the plan; `finally` is applied to the request of each package.
fn decide(
    inputs: &Inputs<'_>,
    stock: &mut Stock,
    host: &Host<'_>,
    profile: &Profile,
    finally: impl Fn(&Cpv, Request) -> Request,
) -> Result<Plan, BuildError> {
    let resolution = inputs.resolution;
    let mut requests = BTreeMap::new();
    for package in &resolution.packages {
        let mut request = inputs.request(package)?;
        request.set("source-date", host.source_date(profile).to_string());
        requests.insert(package.cpv.clone(), finally(&package.cpv, request));
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
