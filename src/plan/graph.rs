//! What each package's build root has to hold. Pure.
//!
//! A build root starts with what the package is built with, and with everything that needs in turn to run. The
//! resolver's order is the order of building: it has already broken run-time cycles, which do no harm. What a
//! dependency needs to run and is built only later (it is part of such a cycle, or a PDEPEND) is left out, because
//! there is no other way.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Cpv;
use crate::backend::Resolution;
use crate::backend::resolution::Kind;

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
    /// What it needs to run, directly, in the order of building.
    pub runtime: Vec<Cpv>,
    /// What should be in its build root and cannot, being built later.
    pub missing: Vec<Cpv>,
}

impl Node {
    /// Returns the node of a package that needs nothing.
    pub(super) fn none() -> Self {
        Self { needs: Vec::new(), runtime: Vec::new(), missing: Vec::new() }
    }
}

impl Graph {
    /// Returns what each package of a resolution needs.
    pub fn new(resolution: &Resolution) -> Result<Self, GraphError> {
        let order: BTreeMap<&Cpv, usize> =
            resolution.packages.iter().enumerate().map(|(at, package)| (&package.cpv, at)).collect();
        let mut build: BTreeMap<&Cpv, BTreeSet<&Cpv>> = BTreeMap::new();
        let mut run: BTreeMap<&Cpv, BTreeSet<&Cpv>> = BTreeMap::new();
        for edge in resolution.edges.iter().filter(|edge| edge.from != edge.to) {
            if edge.kinds.contains(&Kind::Build) {
                build.entry(&edge.from).or_default().insert(&edge.to);
            }
            if edge.kinds.contains(&Kind::Run) || edge.kinds.contains(&Kind::Post) {
                run.entry(&edge.from).or_default().insert(&edge.to);
            }
        }
        let mut nodes = BTreeMap::new();
        for package in &resolution.packages {
            let cpv = &package.cpv;
            let direct = build.get(cpv).cloned().unwrap_or_default();
            if let Some(later) = direct.iter().find(|needed| order.get(*needed) >= order.get(cpv)) {
                return Err(GraphError(Box::new([cpv.clone(), (*later).clone()])));
            }
            let (mut earlier, later): (Vec<&Cpv>, Vec<&Cpv>) = closure(&direct, &run)
                .into_iter()
                .filter(|needed| *needed != cpv)
                .partition(|needed| order.get(needed) < order.get(cpv));
            earlier.sort_by_key(|cpv| order.get(cpv));
            let mut runtime: Vec<&Cpv> = run.get(cpv).into_iter().flatten().copied().collect();
            runtime.sort_by_key(|cpv| order.get(cpv));
            let owned = |cpvs: Vec<&Cpv>| cpvs.into_iter().cloned().collect();
            nodes.insert(cpv.clone(), Node { needs: owned(earlier), runtime: owned(runtime), missing: owned(later) });
        }
        Ok(Self { nodes })
    }

    /// Returns what a package needs.
    pub fn node(&self, cpv: &Cpv) -> Option<&Node> {
        self.nodes.get(cpv)
    }
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
