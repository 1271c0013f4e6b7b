//! The build side of a cross build: packages of another profile, for this machine, that run while packages are built.
//!
//! 1. The resolver, asked with another root (`SYSROOT`), says which package needs which tool (BDEPEND) of the build side.
//! 2. These tools are planned as they would be for that profile alone, and are packages of its pool like any others.
//! 3. What of them is not there is built in a run of its own for that profile, which publishes nothing: nobody asked for
//!    that.
//! 4. The root of a cross build has the tools, with what they need to run, as layers in the root; and what is linked with
//!    as layers below the sysroot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::atom::{Atom, Cpv};
use crate::backend::{self, Cross, Resolution};
use crate::binhost::pool::{Entry, Pool};
use crate::build::foreign::Foreign;
use crate::build::prepare::{self, Prepared};
use crate::build::record::Record;
use crate::build::room::path;
use crate::build::{BuildError, Host, Purpose, one};
use crate::event::{Event, Sink};
use crate::fs::PathError;
use crate::image::Image;
use crate::plan::{Action, Identity, Plan, Side};
use crate::profile::Profile;
use crate::root::Bind;

/// The build side.
#[derive(Debug)]
pub(super) struct Across {
    /// Where things are, for the package manager.
    pub(super) cross: Cross,
    /// What runs programs of the other side, or why nothing does.
    pub(super) foreign: Option<Foreign>,
    /// Whose packages run.
    profile: Profile,
    /// Those that the packages of the plan name.
    atoms: Vec<Atom>,
    /// What is known of them; nothing where no package needs any.
    pub(super) prepared: Option<Box<Prepared>>,
    /// Those that are there.
    pub(super) ready: BTreeMap<Cpv, Entry>,
    /// A folder for their configuration, to be made.
    configuration: PathBuf,
}

/// Returns the build side for the tools that a resolution names, and what the plan has to know of it. `configuration` is a
/// folder to be made; `image` is where they are to run.
pub(super) fn prepare(
    host: &Host<'_>,
    image: &Image,
    (cross, profile): (Cross, Profile),
    resolution: &Resolution,
    configuration: &Path,
    on: Sink<'_>,
) -> Result<(Across, Side), BuildError> {
    let named: BTreeSet<&Cpv> = resolution.tools.iter().map(|edge| &edge.to).collect();
    let exact = |cpv: &&Cpv| format!("={cpv}").parse::<Atom>().ok();
    let atoms: Vec<Atom> = named.iter().filter_map(exact).collect();
    let configuration = configuration.to_path_buf();
    let mut across =
        Across { cross, foreign: None, profile, atoms, prepared: None, ready: BTreeMap::new(), configuration };
    if across.atoms.is_empty() {
        return Ok((across, Side::default()));
    }
    let mut direct: BTreeMap<&Cpv, BTreeSet<&Cpv>> = BTreeMap::new();
    for edge in &resolution.tools {
        direct.entry(&edge.from).or_default().insert(&edge.to);
    }
    let known = across.look(host, on)?;
    if let Some(side) = &across.prepared {
        image.runs_what_is_built_in(&side.image)?;
    }
    let plan = across.prepared.as_ref().map(|prepared| &prepared.plan);
    let tools = direct.into_iter().filter_map(|(cpv, tools)| Some((cpv.clone(), closure(plan?, &tools)))).collect();
    Ok((across, Side { tools, known }))
}

/// Builds what is not there, in a run with a record of its own. What fails is missing in `ready`, and so fails who needs it.
pub(super) fn build(
    host: &Host<'_>,
    prepared: &mut Prepared,
    record: &mut Record,
    on: Sink<'_>,
) -> Result<(), BuildError> {
    let Some(across) = &mut prepared.across else { return Ok(()) };
    let missing = |prepared: &Prepared| {
        let packages = prepared.plan.packages.iter();
        packages.filter(|planned| !matches!(planned.action, Action::Reuse(_))).count()
    };
    let count = across.prepared.as_deref().map_or(0, missing);
    if count == 0 {
        return Ok(());
    }
    let name = &across.profile.name;
    let what = format!("{count} packages that run while others are built come first, for {name}");
    record.tell(Event::Step { what }, on);
    let asked: Vec<String> = across.atoms.iter().map(ToString::to_string).collect();
    super::build_for(host, &across.profile, &across.atoms, &asked, Purpose::BuildSide(&record.status.id), on)?;
    across.configuration.set_extension("again");
    prepared.stock.side.known = across.look(host, &mut |event| record.tell(event, on))?;
    Ok(())
}

impl Across {
    /// Looks at which tools are there; returns what those are, and offer.
    fn look(
        &mut self,
        host: &Host<'_>,
        on: Sink<'_>,
    ) -> Result<BTreeMap<Cpv, (Identity, crate::plan::Output)>, BuildError> {
        let prepared = prepare::prepare(host, &self.profile, &self.atoms, &self.configuration, on)?;
        let pool = Pool::open(&prepared.home);
        let identities = prepared.plan.identities();
        let mut known = BTreeMap::new();
        for planned in &prepared.plan.packages {
            let Action::Reuse(reuse) = &planned.action else { continue };
            let Some(entry) = pool.find(&planned.cpv, reuse.build_id)? else { continue };
            if let (Some(output), Some(identity)) = (prepare::output(&entry.facts), identities.get(&planned.cpv)) {
                known.insert(planned.cpv.clone(), (identity.clone(), output));
                self.ready.insert(planned.cpv.clone(), entry);
            }
        }
        self.prepared = Some(Box::new(prepared));
        Ok(known)
    }

    /// Lays out the tools that are installed by the package manager below `dir`, each placed there by `place`; returns what
    /// is mounted.
    pub(super) fn lay_out(
        &self,
        tools: &[Cpv],
        dir: &Path,
        place: impl Fn(&Path, &Path) -> Result<(), PathError>,
    ) -> Result<Option<Bind>, BuildError> {
        let Some(prepared) = self.prepared.as_deref().filter(|_| !tools.is_empty()) else { return Ok(None) };
        let from = dir.join("tools");
        one::lay_out(&Pool::open(&prepared.home), prepared.backend, tools, &self.ready, &from, place)?;
        Ok(Some(Bind { from, to: path(backend::TOOLS), writable: false }))
    }

    /// Returns the first of some tools that is not there.
    pub(super) fn lacks<'a>(&self, tools: &'a [Cpv]) -> Option<&'a Cpv> {
        tools.iter().find(|cpv| !self.ready.contains_key(cpv))
    }
}

/// Returns some packages of a plan and all that they need to run, in its order.
fn closure(plan: &Plan, start: &BTreeSet<&Cpv>) -> Vec<Cpv> {
    let runtime: BTreeMap<&Cpv, &Vec<Cpv>> =
        plan.packages.iter().map(|planned| (&planned.cpv, &planned.runtime)).collect();
    let mut found: BTreeSet<&Cpv> = start.clone();
    let mut waiting: Vec<&Cpv> = start.iter().copied().collect();
    while let Some(next) = waiting.pop() {
        waiting.extend(runtime.get(next).into_iter().flat_map(|needed| needed.iter()).filter(|cpv| found.insert(cpv)));
    }
    plan.packages.iter().map(|planned| &planned.cpv).filter(|cpv| found.contains(cpv)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::resolution::Kind;
    use crate::plan::fixture::resolution;
    use crate::plan::{Graph, Stock};

    #[test]
    fn tools_come_with_what_they_need_to_run_in_the_order_of_their_plan() {
        let edges: &[(&str, &str, &[Kind])] =
            &[("meson", "ninja", &[Kind::Run]), ("ninja", "re2c", &[Kind::Build]), ("other", "meson", &[Kind::Run])];
        let resolution = resolution("re2c ninja meson other", edges);
        let graph = Graph::new(&resolution).unwrap();
        let plan = Plan::new(&resolution, &graph, BTreeMap::new(), &Stock::default(), &BTreeSet::new()).unwrap();
        let meson: Cpv = "c/meson-1".parse().unwrap();
        let tools = closure(&plan, &[&meson].into());
        assert_eq!(tools.iter().map(|cpv| cpv.package.to_string()).collect::<Vec<_>>(), ["ninja", "meson"]);
    }
}
