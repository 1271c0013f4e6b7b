//! The graph of packages to build or reuse, each with its reason.
//!
//! ```text
//! backend's resolver ─► Resolution ─► refusals      what cannot be honoured ends here
//!                                 ├─► Graph         the order, and what each build root holds
//!                                 └─► Inputs        the request of each package, but for its dependencies
//!      image's packages ─► toolchain ──┘
//!                                        └─► Plan   compared with the pool: build or reuse, and why
//! ```
//!
//! A request holds the output digests of what a package is built with, as far as it can see them, which are only known
//! when that is built. So a package whose dependency is built again is planned to be built, and looked at once more, by
//! [`Planned::settle`], when it is its turn: a dependency that offers the same rebuilds nobody (`docs/keys.md`).

mod drawing;
mod graph;
mod inputs;
mod policy;
mod refusal;
mod request;
mod share;
mod toolchain;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::atom::{BuildId, Cpv, Name};
use crate::backend::Resolution;
use crate::backend::resolution::Word;
use crate::digest::Digest;
use crate::distfiles::Distfile;

pub use drawing::drawing;
pub use graph::{Graph, GraphError, Node, Role};
pub use inputs::{Inputs, InputsError, Shells};
pub use policy::{Policy, Tools};
pub use refusal::{Refusal, Why, refusals};
pub use request::{Change, Identity, Output, Request};
use share::Alike;
pub use share::{PROCESSOR_OPTIONS, Share, shared};
pub use toolchain::toolchain;

/// The version of the plan's JSON.
const VERSION: u32 = 1;

/// What is to be done for one profile.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    version: u32,
    /// Every package, in the order of building.
    pub packages: Vec<Planned>,
}

/// What is to be done about one package.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Planned {
    /// The package.
    pub cpv: Cpv,
    /// The tree it is from.
    pub repo: Name,
    /// Its slot.
    pub slot: Word,
    /// Its sub-slot.
    pub sub_slot: Word,
    /// Its EAPI.
    pub eapi: Word,
    /// The flags it knows.
    pub iuse: BTreeSet<Word>,
    /// Those that are on.
    pub use_flags: BTreeSet<Word>,
    /// What its build root starts with, in the order in which that is put there.
    pub needs: Vec<Cpv>,
    /// In a cross build, what it starts with on the build side, likewise ([`Side`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Cpv>,
    /// What each of these is there for.
    #[serde(default)]
    pub roles: BTreeMap<Cpv, BTreeSet<Role>>,
    /// Those of them that the ebuild names itself (BDEPEND, DEPEND, IDEPEND).
    #[serde(default)]
    pub declared: Vec<Cpv>,
    /// What it needs to run, directly.
    pub runtime: Vec<Cpv>,
    /// What its build root should hold and cannot, being built later (a cycle at run time).
    pub missing: Vec<Cpv>,
    /// The source archives it is built from, as they are fetched.
    pub distfiles: Vec<Distfile>,
    /// What it is built from; complete once all its dependencies are there.
    pub request: Request,
    /// What to do.
    pub action: Action,
}

/// What to do about a package.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Take the one in the pool: it was built from the same.
    Reuse(Reuse),
    /// Take one of another profile: it differs in nothing but flags for the compiler, and holds no compiled code.
    Share(Share),
    /// Build it.
    Build(Reason),
}

/// The package in the pool that is used again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reuse {
    /// Its number.
    pub build_id: BuildId,
    /// Its content digest.
    pub content: Digest,
    /// It was built for other flags; it holds no compiled code.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub other_flags: bool,
}

/// Why a package is built.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The pool does not have it; perhaps another version.
    New(Option<Cpv>),
    /// It would be built from something else than the one in the pool.
    Changed(Vec<Change>),
    /// These, which it is built with, are built again, and may come out different.
    Dependencies(Vec<Cpv>),
    /// The one in the pool, which would do, is no longer what was put there.
    Altered,
    /// The pool's record has no output digest, or one by other rules: an earlier bindery wrote it.
    NoOutput,
    /// It was taken over from another profile because it held no compiled code. A newer build of the same holds some:
    /// of which profile, none for this one, and what shows it.
    HoldsCode(Option<Name>, String),
    /// It was taken over from this profile, and the profile does not share any more.
    NotShared(Name),
    /// It was asked for whatever the pool has.
    Forced,
}

/// A dependency that offers something else than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// What it is now.
    pub cpv: Cpv,
    /// Which part of its output digest changed, as requests name it.
    pub part: String,
    /// The build of it that its user was built with.
    pub was: (Cpv, BuildId),
}

/// A package that the pool has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooled {
    /// Its number.
    pub build_id: BuildId,
    /// Its content digest.
    pub content: Digest,
    /// What it was built from.
    pub request: Request,
    /// What it offers those that are built with it; without, it is not used again.
    pub output: Option<Output>,
    /// Its file is not what was put into the pool: it cannot be used.
    pub altered: bool,
    /// What shows that it may hold compiled code; nothing where it is proven to hold none, or `unproven`.
    pub code: Option<String>,
    /// Nobody looked for code by the rules of today.
    pub unproven: bool,
    /// The profile that it was taken over from.
    pub shared: Option<Name>,
}

impl Pooled {
    fn is_usable(&self) -> bool {
        self.output.is_some() && !self.altered
    }
}

/// All packages of a pool by name and version, each's newest last.
pub type Pool = BTreeMap<Cpv, Vec<Pooled>>;

/// What a plan is compared with.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    /// The profile's own packages.
    pub own: Pool,
    /// Those of other profiles, as far as the plan may need them.
    pub others: BTreeMap<Name, Pool>,
    /// Whether packages without compiled code serve for other flags than those that they were built with.
    pub share: bool,
    /// Which differences count.
    pub policy: Policy,
    /// In a cross build, what runs meanwhile.
    pub side: Side,
    /// Those of the profile's own that are used as they are, whatever they were built from.
    pub given: BTreeMap<Cpv, BuildId>,
}

/// What runs while packages are cross built: packages of the build side, which are no part of the plan.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// For each package of the plan, what its build root starts with there, in the order in which that is put there.
    pub tools: BTreeMap<Cpv, Vec<Cpv>>,
    /// What each of these is and offers, as far as they are built.
    pub known: BTreeMap<Cpv, (Identity, Output)>,
}

/// What is known of packages that need not be looked at again: they are there, or will be used as they are.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// What each offers.
    outputs: BTreeMap<Cpv, Output>,
    /// What each was made for, by name and slot as requests name it.
    requests: BTreeMap<String, (Cpv, Request)>,
}

impl Settled {
    /// Adds a package.
    pub fn add(&mut self, cpv: &Cpv, slot: &str, output: Output, request: Request) {
        self.outputs.insert(cpv.clone(), output);
        self.requests.insert(request::dependency_name(cpv, slot), (cpv.clone(), request));
    }
}

impl Plan {
    /// Decides about every package. `requests` are those of [`Inputs::request`]; `forced` are built in any case. What
    /// [`refusals`] lets pass is not refused.
    pub fn new(
        resolution: &Resolution,
        graph: &Graph,
        mut requests: BTreeMap<Cpv, Request>,
        stock: &Stock,
        forced: &BTreeSet<Cpv>,
    ) -> Result<Self, Refusal> {
        let mut settled = Settled::default();
        let identities: BTreeMap<Cpv, Identity> = resolution
            .packages
            .iter()
            .map(|p| (p.cpv.clone(), Identity::new(&p.slot, &p.sub_slot, &p.use_flags)))
            .collect();
        let mut packages = Vec::new();
        for package in &resolution.packages {
            let node = graph.node(&package.cpv).cloned().unwrap_or_else(Node::none);
            let mut planned = Planned {
                cpv: package.cpv.clone(),
                repo: package.repo.clone(),
                slot: package.slot.clone(),
                sub_slot: package.sub_slot.clone(),
                eapi: package.eapi.clone(),
                iuse: package.iuse.clone(),
                use_flags: package.use_flags.clone(),
                needs: node.needs,
                tools: stock.side.tools.get(&package.cpv).cloned().unwrap_or_default(),
                roles: node.roles,
                declared: node.declared,
                runtime: node.runtime,
                missing: node.missing,
                distfiles: package.sources().ok_or_else(|| Refusal::incomplete_manifest(package))?,
                request: requests.remove(&package.cpv).unwrap_or_default(),
                action: Action::Build(Reason::Forced),
            };
            planned.complete(&identities, &settled, &stock.side);
            if !forced.contains(&planned.cpv) {
                planned.action = planned.decide(stock, &settled);
            }
            if let Some(output) = planned.taken(stock).and_then(|build| build.output.clone()) {
                settled.add(&planned.cpv, planned.slot.as_str(), output, planned.request.clone());
            }
            packages.push(planned);
        }
        Ok(Self { version: VERSION, packages })
    }

    /// Returns how many packages are taken over from other profiles.
    pub fn shared(&self) -> usize {
        self.packages.iter().filter(|planned| matches!(planned.action, Action::Share(_))).count()
    }

    /// Returns the packages to build, in order.
    pub fn to_build(&self) -> impl Iterator<Item = &Planned> {
        self.packages.iter().filter(|planned| matches!(planned.action, Action::Build(_)))
    }

    /// Returns what every package is once it is installed.
    pub fn identities(&self) -> BTreeMap<Cpv, Identity> {
        let identity = |p: &Planned| Identity::new(&p.slot, &p.sub_slot, &p.use_flags);
        self.packages.iter().map(|planned| (planned.cpv.clone(), identity(planned))).collect()
    }
}

impl Planned {
    /// Looks at a package again when all that it is built with is there: completes its request with their output
    /// digests, and decides what is to be done. `identities` are [`Plan::identities`], `settled` is what it is built with.
    pub fn settle(&mut self, identities: &BTreeMap<Cpv, Identity>, settled: &Settled, stock: &Stock) {
        self.complete(identities, settled, &stock.side);
        if self.action != Action::Build(Reason::Forced) {
            self.action = self.decide(stock, settled);
        }
    }

    fn complete(&mut self, identities: &BTreeMap<Cpv, Identity>, settled: &Settled, side: &Side) {
        for (cpv, (identity, output)) in self.tools.iter().filter_map(|cpv| side.known.get_key_value(cpv)) {
            self.request.set_tool(cpv, identity, output);
        }
        for cpv in &self.needs {
            if let (Some(output), Some(identity)) = (settled.outputs.get(cpv), identities.get(cpv)) {
                let roles = self.roles.get(cpv).cloned().unwrap_or_default();
                self.request.set_dependency(cpv, identity, &roles, output);
            }
        }
    }

    /// Returns the build that is used, where that is decided.
    fn taken<'a>(&self, stock: &'a Stock) -> Option<&'a Pooled> {
        let (pool, build_id) = match &self.action {
            Action::Reuse(reuse) => (&stock.own, reuse.build_id),
            Action::Share(share) => (stock.others.get(&share.profile)?, share.build_id),
            Action::Build(_) => return None,
        };
        pool.get(&self.cpv)?.iter().find(|build| build.build_id == build_id)
    }

    fn same<'a>(&self, stock: &'a Stock) -> Option<&'a Pooled> {
        let does = |build: &&Pooled| build.is_usable() && self.request.is_met_by(&build.request, stock.policy);
        stock.own.get(&self.cpv)?.iter().rev().find(does)
    }

    fn decide(&self, stock: &Stock, settled: &Settled) -> Action {
        let given = stock.given.get(&self.cpv).zip(stock.own.get(&self.cpv));
        if let Some(build) = given.and_then(|(id, builds)| builds.iter().find(|build| build.build_id == *id)) {
            return Action::Reuse(Reuse::of(build, false));
        }
        let needs = self.needs.iter().filter(|cpv| !settled.outputs.contains_key(cpv));
        let tools = self.tools.iter().filter(|cpv| !stock.side.known.contains_key(cpv));
        let pending: Vec<Cpv> = needs.chain(tools).cloned().collect();
        if pending.is_empty()
            && let Some(action) = self.use_again(stock, settled)
        {
            return action;
        }
        let Some(newest) = stock.own.get(&self.cpv).and_then(|builds| builds.last()) else {
            let cp = self.cpv.cp();
            return Action::Build(Reason::New(stock.own.keys().rfind(|cpv| cpv.cp() == cp).cloned()));
        };
        if newest.output.is_none() {
            return Action::Build(Reason::NoOutput);
        }
        if !pending.is_empty() {
            // What is still to be built cannot be compared; anything else can.
            let earlier = newest.request.without_dependencies();
            let changes = self.request.without_dependencies().changes_since(&earlier, stock.policy);
            return Action::Build(if changes.is_empty() {
                Reason::Dependencies(pending)
            } else {
                Reason::Changed(changes)
            });
        }
        let changes = self.request.changes_since(&newest.request, stock.policy);
        Action::Build(if changes.is_empty() && newest.altered { Reason::Altered } else { Reason::Changed(changes) })
    }

    /// Returns which dependencies offer something else than when the newest package in the pool was built, as far as the
    /// build that it was built with is known.
    pub fn moved(&self, stock: &Stock) -> Vec<Moved> {
        let Some(newest) = stock.own.get(&self.cpv).and_then(|builds| builds.last()) else { return Vec::new() };
        let parts = stock.policy.differences(&newest.request.parts, &self.request.parts);
        let moved = |part: &String| {
            let (kind, name) = part.split_once(' ')?;
            let old = newest.request.parts.get(part)?;
            let slot = name.rsplit_once(':')?.0;
            let cpv = self.needs.iter().find(|cpv| cpv.cp() == slot)?.clone();
            let offered = |output: &Output| match kind {
                "link" | "interface" => Some(output.link.to_string()),
                "archives" => Some(output.archives.to_string()),
                "tools" => Some(output.tools.to_string()),
                _ => None,
            };
            let builds = stock.own.iter().filter(|(cpv, _)| cpv.cp() == slot);
            let mut builds = builds.flat_map(|(cpv, builds)| builds.iter().map(move |build| (cpv, build)));
            let was = builds.find(|(_, build)| build.output.as_ref().and_then(offered).as_ref() == Some(old))?;
            Some(Moved { cpv, part: kind.to_string(), was: (was.0.clone(), was.1.build_id) })
        };
        parts.into_iter().filter_map(moved).collect()
    }

    /// Decides about a package whose dependencies are known: nothing where it must be built.
    fn use_again(&self, stock: &Stock, settled: &Settled) -> Option<Action> {
        let same = self.same(stock);
        if let Some(same) = same
            && same.shared.is_none()
        {
            return Some(Action::Reuse(Reuse::of(same, false)));
        }
        let alike = share::find(&self.cpv, &self.request, stock, settled);
        if let Some((same, from)) = same.and_then(|same| Some((same, same.shared.clone()?))) {
            return Some(match alike {
                _ if same.unproven => {
                    Action::Build(Reason::HoldsCode(None, "an earlier bindery looked at it".to_string()))
                }
                Alike::Code(profile, why) => Action::Build(Reason::HoldsCode(profile.cloned(), why.to_string())),
                _ if !stock.share => Action::Build(Reason::NotShared(from)),
                _ => Action::Reuse(Reuse::of(same, false)),
            });
        }
        match alike {
            Alike::Proven(None, build) => Some(Action::Reuse(Reuse::of(build, true))),
            Alike::Proven(Some(profile), build) => {
                let (build_id, content) = (build.build_id, build.content.clone());
                Some(Action::Share(Share { profile: profile.clone(), build_id, content }))
            }
            Alike::Code(..) | Alike::Nothing => None,
        }
    }
}

impl Reuse {
    fn of(pooled: &Pooled, other_flags: bool) -> Self {
        Self { build_id: pooled.build_id, content: pooled.content.clone(), other_flags }
    }
}

impl Action {
    /// Returns why, each reason by itself.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Build(Reason::Changed(changes)) => changes.iter().map(Change::to_string).collect(),
            Self::Build(Reason::Dependencies(cpvs)) => {
                cpvs.iter().map(|cpv| format!("`{cpv}` is built again")).collect()
            }
            _ => vec![self.to_string()],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reuse(Reuse { build_id, other_flags: true, .. }) => {
                write!(f, "no compiled code: build {build_id} does for any flags")
            }
            Self::Reuse(reuse) => write!(f, "unchanged since build {}", reuse.build_id),
            Self::Share(share) => write!(f, "the same in {}: no compiled code", share.profile),
            Self::Build(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More than these say no more.
        const SHOWN: usize = 3;
        let list = |f: &mut fmt::Formatter<'_>, mut all: Vec<String>| {
            let more = all.len().saturating_sub(SHOWN);
            all.truncate(SHOWN);
            f.write_str(&all.join(", "))?;
            if more > 0 { write!(f, ", and {more} more") } else { Ok(()) }
        };
        match self {
            Self::New(None) => f.write_str("no package yet"),
            Self::New(Some(other)) => write!(f, "no package of this version yet, only of `{other}`"),
            Self::Changed(changes) => list(f, changes.iter().map(Change::to_string).collect()),
            Self::Dependencies(cpvs) => {
                list(f, cpvs.iter().map(|cpv| format!("`{cpv}`")).collect())?;
                f.write_str(if cpvs.len() == 1 { " is built again" } else { " are built again" })
            }
            Self::Altered => f.write_str("its package was altered after it was put into the pool"),
            Self::NoOutput => f.write_str("its record has no output digest: an earlier bindery wrote it"),
            Self::HoldsCode(Some(profile), why) => {
                write!(f, "it was shared as holding no compiled code, which is not so any more in {profile}: {why}")
            }
            Self::HoldsCode(None, why) => {
                write!(f, "it was shared as holding no compiled code, which is not so any more: {why}")
            }
            Self::NotShared(profile) => {
                write!(f, "it was taken over from {profile}, and `share` is now false in the profile")
            }
            Self::Forced => f.write_str("asked for"),
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
