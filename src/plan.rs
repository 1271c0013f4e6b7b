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
mod refusal;
mod request;
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
pub use refusal::{Refusal, Why, refusals};
pub use request::{Change, Identity, Output, Request};
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
    /// Build it.
    Build(Reason),
}

/// The package in the pool that is used again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reuse {
    /// Its number.
    pub build_id: BuildId,
    /// Its content digest.
    pub content: Digest,
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
    /// It was asked for whatever the pool has.
    Forced,
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
}

/// All packages of a pool by name and version, each's newest last.
pub type Pool = BTreeMap<Cpv, Vec<Pooled>>;

impl Plan {
    /// Decides about every package. `requests` are those of [`Inputs::request`]; `forced` are built in any case. What
    /// [`refusals`] lets pass is not refused.
    pub fn new(
        resolution: &Resolution,
        graph: &Graph,
        mut requests: BTreeMap<Cpv, Request>,
        pool: &Pool,
        forced: &BTreeSet<Cpv>,
    ) -> Result<Self, Refusal> {
        let mut outputs = BTreeMap::new();
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
                roles: node.roles,
                declared: node.declared,
                runtime: node.runtime,
                missing: node.missing,
                distfiles: package.sources().ok_or_else(|| Refusal::incomplete_manifest(package))?,
                request: requests.remove(&package.cpv).unwrap_or_default(),
                action: Action::Build(Reason::Forced),
            };
            planned.complete(&identities, &outputs);
            if !forced.contains(&planned.cpv) {
                planned.action = planned.decide(pool, &outputs);
            }
            if let Action::Reuse(_) = &planned.action
                && let Some(output) = planned.same(pool).and_then(|same| same.output.clone())
            {
                outputs.insert(planned.cpv.clone(), output);
            }
            packages.push(planned);
        }
        Ok(Self { version: VERSION, packages })
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
    /// digests, and returns the package in the pool that was built from just that, if there is one and it was not to be
    /// built in any case. `identities` are [`Plan::identities`].
    pub fn settle(
        &mut self,
        identities: &BTreeMap<Cpv, Identity>,
        outputs: &BTreeMap<Cpv, Output>,
        pool: &Pool,
    ) -> Option<Reuse> {
        self.complete(identities, outputs);
        if self.action == Action::Build(Reason::Forced) {
            return None;
        }
        self.same(pool).map(Reuse::of)
    }

    fn complete(&mut self, identities: &BTreeMap<Cpv, Identity>, outputs: &BTreeMap<Cpv, Output>) {
        for cpv in &self.needs {
            if let (Some(output), Some(identity)) = (outputs.get(cpv), identities.get(cpv)) {
                let roles = self.roles.get(cpv).cloned().unwrap_or_default();
                self.request.set_dependency(cpv, identity, &roles, output);
            }
        }
    }

    fn same<'a>(&self, pool: &'a Pool) -> Option<&'a Pooled> {
        let usable = |pooled: &&Pooled| pooled.request == self.request && pooled.output.is_some() && !pooled.altered;
        pool.get(&self.cpv)?.iter().rev().find(usable)
    }

    fn decide(&self, pool: &Pool, outputs: &BTreeMap<Cpv, Output>) -> Action {
        let pending: Vec<Cpv> = self.needs.iter().filter(|cpv| !outputs.contains_key(cpv)).cloned().collect();
        let Some(newest) = pool.get(&self.cpv).and_then(|pooled| pooled.last()) else {
            let cp = self.cpv.cp();
            return Action::Build(Reason::New(pool.keys().rfind(|cpv| cpv.cp() == cp).cloned()));
        };
        if newest.output.is_none() && (!pending.is_empty() || self.same(pool).is_none()) {
            return Action::Build(Reason::NoOutput);
        }
        if !pending.is_empty() {
            // What is still to be built cannot be compared; anything else can.
            let changes = self.request.without_dependencies().changes_since(&newest.request.without_dependencies());
            return Action::Build(if changes.is_empty() {
                Reason::Dependencies(pending)
            } else {
                Reason::Changed(changes)
            });
        }
        match self.same(pool) {
            Some(same) => Action::Reuse(Reuse::of(same)),
            None if newest.altered && newest.request == self.request => Action::Build(Reason::Altered),
            None => Action::Build(Reason::Changed(self.request.changes_since(&newest.request))),
        }
    }
}

impl Reuse {
    fn of(pooled: &Pooled) -> Self {
        Self { build_id: pooled.build_id, content: pooled.content.clone() }
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
            Self::Reuse(reuse) => write!(f, "unchanged since build {}", reuse.build_id),
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
            Self::Forced => f.write_str("asked for"),
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
