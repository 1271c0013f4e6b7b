//! What is known around a plan: how long building takes, and what stays published that the plan does not have.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::{BuildId, Cpv};
use crate::binhost::generation::Generation;
use crate::binhost::pool::Entry;
use crate::build::BuildError;
use crate::plan::{Action, Plan};
use crate::state::ProfileDir;

/// What is known around a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outlook {
    /// How long the packages to build may take, in milliseconds: as long as the newest build of the same version did, or
    /// of another one. Those that nobody built yet are missing.
    pub expected: BTreeMap<Cpv, u64>,
    /// What was published before and stays so.
    pub keep: Vec<Kept>,
    /// What is built emulated where others are cross built, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub emulated: BTreeMap<Cpv, String>,
}

/// A package that stays published.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// The package.
    pub cpv: Cpv,
    /// Its number.
    pub build_id: BuildId,
}

impl Outlook {
    /// Looks at what was built, `built`, and published.
    pub(super) fn of(plan: &Plan, built: &[Entry], profile: &ProfileDir) -> Result<Self, BuildError> {
        let mut times: BTreeMap<String, (bool, u64, u64)> = BTreeMap::new();
        let mut expected = BTreeMap::new();
        for planned in plan.packages.iter().filter(|planned| matches!(planned.action, Action::Build(_))) {
            times.clear();
            for entry in built.iter().filter(|entry| entry.facts.cpv.cp() == planned.cpv.cp()) {
                let Some(took) = entry.origin.milliseconds else { continue };
                let this = (entry.facts.cpv == planned.cpv, entry.origin.built, took);
                let best = times.entry(planned.cpv.cp()).or_insert(this);
                *best = (*best).max(this);
            }
            expected.extend(times.values().map(|(_, _, took)| (planned.cpv.clone(), *took)));
        }
        // Of a package in the plan another version may stay published; of the same the plan's is.
        let planned: BTreeSet<&Cpv> = plan.packages.iter().map(|planned| &planned.cpv).collect();
        let published = Generation::current(profile)?.map(|current| current.statement.packages).unwrap_or_default();
        let keep = published.into_iter().filter(|package| !planned.contains(&package.path.cpv));
        let keep = keep.map(|package| Kept { cpv: package.path.cpv, build_id: package.path.build_id }).collect();
        Ok(Self { expected, keep, emulated: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binhost::pool::Origin;
    use crate::plan::fixture::resolution;
    use crate::plan::{Graph, Stock};
    use crate::state::State;

    fn built(cpv: &str, built: u64, milliseconds: Option<u64>) -> Entry {
        let facts = crate::binhost::pool::tests::facts(cpv, 1);
        let path = crate::binhost::path::PackagePath::new(&facts.cpv, facts.build_id);
        let hashes = crate::digest::Hashes::of(&b""[..]).unwrap();
        let origin = Origin { built, milliseconds, ..Origin::default() };
        Entry { path, file: "/nowhere".into(), hashes, facts, origin }
    }

    #[test]
    fn the_newest_build_of_the_same_version_says_how_long_it_takes() {
        let resolution = resolution("app lib new", &[]);
        let graph = Graph::new(&resolution).unwrap();
        let plan = Plan::new(&resolution, &graph, BTreeMap::new(), &Stock::default(), &BTreeSet::new()).unwrap();
        let entries = [
            built("c/app-1", 10, Some(1000)),
            built("c/app-1", 20, Some(3000)),
            built("c/app-1", 30, None),
            built("c/app-2", 40, Some(9000)),
            built("c/lib-0", 10, Some(500)),
            built("c/other-1", 10, Some(7)),
        ];
        let dir = tempfile::tempdir().unwrap();
        let profile = State::below(dir.path()).profile(&"amd64".parse().unwrap());
        let outlook = Outlook::of(&plan, &entries, &profile).unwrap();
        let expected: Vec<_> = outlook.expected.iter().map(|(cpv, took)| (cpv.to_string(), *took)).collect();
        assert_eq!(expected, [("c/app-1".to_string(), 3000), ("c/lib-1".to_string(), 500)]);
        assert_eq!(outlook.keep, []);
    }
}
