//! What each package's build root has to hold. Pure.
//!
//! A build root starts with what the package is built with, and with everything that needs in turn to run. Each of these
//! has a role there: what is built against (DEPEND), or what runs (BDEPEND; IDEPEND); what these need to run has theirs. The
//! resolver's order is the order of building: it has already broken run-time cycles, which do no harm. What a
//! dependency needs to run and is built only later (it is part of such a cycle, or a PDEPEND) is left out, because
//! there is no other way.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Cpv;
use crate::backend::Resolution;
use crate::backend::resolution::{Kind, Word};

/// What each package needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    nodes: BTreeMap<Cpv, Node>,
}

/// What one package needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What its build root starts with, in the order of building.
    pub needs: Vec<Cpv>,
    /// What each of these is there for.
    pub roles: BTreeMap<Cpv, BTreeSet<Role>>,
    /// Those of them that BDEPEND, DEPEND or IDEPEND name, in the same order.
    pub declared: Vec<Cpv>,
    /// What it needs to run, directly, in the order of building.
    pub runtime: Vec<Cpv>,
    /// What should be in its build root and cannot, being built later.
    pub missing: Vec<Cpv>,
}

/// What a package is to one that is built with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It is compiled against and linked with, or needed by what is.
    Link,
    /// Its programs run while the other is built, or it is needed by such.
    Tool,
}

impl Node {
    /// Returns the node of a package that needs nothing.
    pub(super) fn none() -> Self {
        let (needs, declared, runtime, missing) = Default::default();
        Self { needs, roles: BTreeMap::new(), declared, runtime, missing }
    }
}

impl Graph {
    /// Returns what each package of a resolution needs.
    pub fn new(resolution: &Resolution) -> Result<Self, GraphError> {
        let order: BTreeMap<&Cpv, usize> =
            resolution.packages.iter().enumerate().map(|(at, package)| (&package.cpv, at)).collect();
        let tools_apart: BTreeMap<&Cpv, bool> =
            resolution.packages.iter().map(|package| (&package.cpv, has_bdepend(&package.eapi))).collect();
        let mut build: BTreeMap<&Cpv, [BTreeSet<&Cpv>; 2]> = BTreeMap::new();
        let mut run: BTreeMap<&Cpv, BTreeSet<&Cpv>> = BTreeMap::new();
        let mut named: BTreeSet<(&Cpv, &Cpv)> = BTreeSet::new();
        let mut install: BTreeMap<&Cpv, BTreeSet<&Cpv>> = BTreeMap::new();
        for edge in resolution.edges.iter().filter(|edge| edge.from != edge.to) {
            if edge.kinds.contains(&Kind::Build) {
                let [link, tool] = build.entry(&edge.from).or_default();
                let apart = tools_apart.get(&edge.from).copied().unwrap_or_default();
                let [is_link, is_tool] = [Kind::Link, Kind::Tool].map(|kind| edge.kinds.contains(&kind));
                let either = !apart || is_link == is_tool;
                // Behind a virtual package, it is not the ebuild that names it.
                if is_link || is_tool {
                    named.insert((&edge.from, &edge.to));
                }
                link.extend((either || is_link).then_some(&edge.to));
                tool.extend((either || is_tool).then_some(&edge.to));
            }
            if edge.kinds.contains(&Kind::Install) {
                named.insert((&edge.from, &edge.to));
                install.entry(&edge.from).or_default().insert(&edge.to);
            }
            if edge.kinds.contains(&Kind::Run) || edge.kinds.contains(&Kind::Post) {
                run.entry(&edge.from).or_default().insert(&edge.to);
            }
        }
        let mut nodes = BTreeMap::new();
        for package in &resolution.packages {
            let cpv = &package.cpv;
            let mut direct = build.get(cpv).cloned().unwrap_or_default();
            if let Some(later) = direct.iter().flatten().find(|needed| order.get(*needed) >= order.get(cpv)) {
                return Err(GraphError(Box::new([cpv.clone(), (*later).clone()])));
            }
            // In a cycle, what merges it may come later: then it is missing.
            direct[1].extend(install.get(cpv).into_iter().flatten());
            let mut roles: BTreeMap<&Cpv, BTreeSet<Role>> = BTreeMap::new();
            for (start, role) in direct.iter().zip([Role::Link, Role::Tool]) {
                for needed in closure(start, &run) {
                    roles.entry(needed).or_default().insert(role);
                }
            }
            roles.remove(cpv);
            let (mut earlier, later): (Vec<&Cpv>, Vec<&Cpv>) =
                roles.keys().copied().partition(|needed| order.get(needed) < order.get(cpv));
            roles.retain(|needed, _| order.get(needed) < order.get(cpv));
            earlier.sort_by_key(|cpv| order.get(cpv));
            let mut runtime: Vec<&Cpv> = run.get(cpv).into_iter().flatten().copied().collect();
            runtime.sort_by_key(|cpv| order.get(cpv));
            let owned = |cpvs: Vec<&Cpv>| cpvs.into_iter().cloned().collect();
            let declared = owned(earlier.iter().copied().filter(|needed| named.contains(&(cpv, *needed))).collect());
            let (needs, runtime, missing) = (owned(earlier), owned(runtime), owned(later));
            let roles = roles.into_iter().map(|(cpv, roles)| (cpv.clone(), roles)).collect();
            nodes.insert(cpv.clone(), Node { needs, roles, declared, runtime, missing });
        }
        Ok(Self { nodes })
    }

    /// Returns what a package needs.
    pub fn node(&self, cpv: &Cpv) -> Option<&Node> {
        self.nodes.get(cpv)
    }
}

/// Returns whether an EAPI tells tools from what is built against: those from 7 on (PMS 8.1).
fn has_bdepend(eapi: &Word) -> bool {
    eapi.as_str().parse::<u32>().is_ok_and(|eapi| eapi >= 7)
}

/// Returns some packages and everything they need to run.
fn closure<'a>(start: &BTreeSet<&'a Cpv>, run: &BTreeMap<&'a Cpv, BTreeSet<&'a Cpv>>) -> BTreeSet<&'a Cpv> {
    let mut found = start.clone();
    let mut waiting: Vec<&Cpv> = start.iter().copied().collect();
    while let Some(cpv) = waiting.pop() {
        for needed in run.get(cpv).into_iter().flatten() {
            if found.insert(needed) {
                waiting.push(needed);
            }
        }
    }
    found
}

/// A package is to be built before what it is built with.
#[derive(Debug, thiserror::Error)]
#[error("the plan builds `{}` before `{}`, which it is built with", .0[0], .0[1])]
pub struct GraphError(Box<[Cpv; 2]>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::resolution;

    fn names(cpvs: &[Cpv]) -> String {
        cpvs.iter().map(|cpv| cpv.package.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn graph(packages: &str, edges: &[(&str, &str, &[Kind])]) -> Graph {
        Graph::new(&resolution(packages, edges)).unwrap()
    }

    fn node<'a>(graph: &'a Graph, name: &str) -> &'a Node {
        graph.node(&format!("c/{name}-1").parse().unwrap()).unwrap()
    }

    #[test]
    fn a_root_holds_what_is_built_with_and_what_that_needs_to_run() {
        let graph = graph(
            "libc lib tool app",
            &[
                ("app", "tool", &[Kind::Build]),
                ("tool", "lib", &[Kind::Build, Kind::Run]),
                ("lib", "libc", &[Kind::Run]),
            ],
        );
        assert_eq!(names(&node(&graph, "app").needs), "libc lib tool");
        assert_eq!(names(&node(&graph, "tool").needs), "libc lib");
        assert_eq!(names(&node(&graph, "lib").needs), "");
        assert_eq!(names(&node(&graph, "lib").runtime), "libc");
    }

    #[test]
    fn what_is_only_needed_to_build_a_dependency_is_left_out() {
        let graph = graph("gen lib app", &[("lib", "gen", &[Kind::Build]), ("app", "lib", &[Kind::Build])]);
        assert_eq!(names(&node(&graph, "app").needs), "lib");
    }

    #[test]
    fn what_only_runs_it_is_not_in_its_root() {
        let graph = graph("theme app", &[("app", "theme", &[Kind::Run])]);
        assert_eq!(names(&node(&graph, "app").needs), "");
        assert_eq!(names(&node(&graph, "app").runtime), "theme");
    }

    #[test]
    fn what_merges_it_is_in_its_root_and_what_the_ebuild_names_is_told_apart() {
        let edges: &[(&str, &str, &[Kind])] = &[
            ("app", "tool", &[Kind::Build, Kind::Tool]),
            ("app", "virtual", &[Kind::Build, Kind::Link]),
            ("app", "provider", &[Kind::Build]),
            ("app", "merger", &[Kind::Run, Kind::Install]),
            ("app", "theme", &[Kind::Run]),
            ("app", "plugin", &[Kind::Post]),
            ("tool", "lib", &[Kind::Run]),
            ("merger", "helper", &[Kind::Run]),
            ("lib", "plugin", &[Kind::Post]),
        ];
        let all = resolution("theme plugin lib tool provider virtual helper merger app", edges);
        let graph = Graph::new(&all).unwrap();
        let app = node(&graph, "app");
        assert_eq!(names(&app.needs), "plugin lib tool provider virtual helper merger");
        assert_eq!(names(&app.declared), "tool virtual merger");
        assert_eq!(names(&app.runtime), "theme plugin merger");
        let role = |name: &str| app.roles[&format!("c/{name}-1").parse().unwrap()].clone();
        assert_eq!((role("merger"), role("helper")), ([Role::Tool].into(), [Role::Tool].into()));
        // One that merges it and is built later is no reason to refuse.
        let graph = self::graph("app merger", &[("app", "merger", &[Kind::Run, Kind::Install])]);
        assert_eq!(
            (names(&node(&graph, "app").needs), names(&node(&graph, "app").missing)),
            (String::new(), "merger".to_string())
        );
    }

    #[test]
    fn what_a_package_is_there_for_goes_over_to_what_it_needs_to_run() {
        let edges: &[(&str, &str, &[Kind])] = &[
            ("app", "tool", &[Kind::Build, Kind::Tool]),
            ("app", "lib", &[Kind::Build, Kind::Link]),
            ("app", "virtual", &[Kind::Build]),
            ("tool", "both", &[Kind::Run]),
            ("lib", "both", &[Kind::Run]),
            ("tool", "libc", &[Kind::Run]),
        ];
        let mut resolution = resolution("both libc lib tool virtual app", edges);
        let roles = |resolution: &Resolution| {
            let graph = Graph::new(resolution).unwrap();
            let roles = node(&graph, "app").roles.iter();
            roles.map(|(cpv, roles)| format!("{} {roles:?}", cpv.package)).collect::<Vec<_>>()
        };
        let expected = ["both {Link, Tool}", "lib {Link}", "libc {Tool}", "tool {Tool}", "virtual {Link, Tool}"];
        assert_eq!(roles(&resolution), expected);
        // Before EAPI 7, DEPEND was for both.
        resolution.packages[5].eapi = "6".parse().unwrap();
        assert!(roles(&resolution).iter().all(|line| line.ends_with("{Link, Tool}")));
    }

    #[test]
    fn a_cycle_at_run_time_leaves_out_what_is_built_later() {
        // b is built with a, and a needs b to run.
        let graph =
            graph("a b app", &[("b", "a", &[Kind::Build]), ("a", "b", &[Kind::Post]), ("app", "a", &[Kind::Build])]);
        let b = node(&graph, "b");
        assert_eq!((names(&b.needs), names(&b.missing)), ("a".to_string(), String::new()));
        assert_eq!(names(&node(&graph, "app").needs), "a b");
        let graph =
            self::graph("a b c", &[("b", "a", &[Kind::Build]), ("a", "c", &[Kind::Run]), ("c", "b", &[Kind::Run])]);
        assert_eq!(
            (names(&node(&graph, "b").needs), names(&node(&graph, "b").missing)),
            ("a".to_string(), "c".to_string())
        );
    }

    #[test]
    fn an_order_that_cannot_be_built_in_is_refused() {
        let error = Graph::new(&resolution("app lib", &[("app", "lib", &[Kind::Build])])).unwrap_err();
        assert_eq!(error.to_string(), "the plan builds `c/app-1` before `c/lib-1`, which it is built with");
    }
}
