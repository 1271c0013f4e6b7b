use super::*;
use crate::backend::resolution::Kind;
use crate::plan::fixture::resolution;

const BUILD: &[Kind] = &[Kind::Build];

fn cpv(name: &str) -> Cpv {
    format!("c/{name}-1").parse().unwrap()
}

/// `lib` is built with `gen`, `app` with `lib`; every request has one part, its package's USE flags.
struct World {
    resolution: Resolution,
    uses: BTreeMap<Cpv, &'static str>,
    pool: Pool,
    forced: BTreeSet<Cpv>,
}

impl World {
    fn new() -> Self {
        let resolution = resolution("gen lib app", &[("lib", "gen", BUILD), ("app", "lib", BUILD)]);
        Self { resolution, uses: BTreeMap::new(), pool: Pool::new(), forced: BTreeSet::new() }
    }

    fn plan(&self) -> Plan {
        let request = |cpv: &Cpv| {
            let mut request = Request::default();
            request.set("use", *self.uses.get(cpv).unwrap_or(&""));
            (cpv.clone(), request)
        };
        let requests = self.resolution.packages.iter().map(|package| request(&package.cpv)).collect();
        let graph = Graph::new(&self.resolution).unwrap();
        Plan::new(&self.resolution, &graph, requests, &self.pool, &self.forced).unwrap()
    }

    /// Builds what is planned: the content of a package follows from its request.
    fn build(&mut self) {
        let mut plan = self.plan();
        let slots = plan.slots();
        let mut contents = BTreeMap::new();
        for planned in &mut plan.packages {
            let reuse = match &planned.action {
                Action::Reuse(reuse) => Some(reuse.clone()),
                Action::Build(_) => planned.settle(&slots, &contents, &self.pool),
            };
            let content = reuse.map_or_else(|| planned.request.key(), |reuse| reuse.content);
            contents.insert(planned.cpv.clone(), content.clone());
            let all = self.pool.entry(planned.cpv.clone()).or_default();
            let build_id = BuildId(u32::try_from(all.len()).unwrap() + 1);
            all.push(Pooled { build_id, content, request: planned.request.clone(), altered: false });
        }
    }

    fn reasons(&self) -> Vec<String> {
        self.plan().packages.iter().map(|planned| planned.action.to_string()).collect()
    }
}

#[test]
fn what_was_altered_is_built_again_and_those_built_with_it_are_looked_at_again() {
    let mut world = World::new();
    world.build();
    world.pool.get_mut(&cpv("lib")).unwrap()[0].altered = true;
    let expected = [
        "unchanged since build 1",
        "its package was altered after it was put into the pool",
        "`c/lib-1` is built again",
    ];
    assert_eq!(world.reasons(), expected);
    // It came out the same, with another number.
    world.build();
    let lib = &world.pool[&cpv("lib")];
    assert_eq!(lib[1].content, lib[0].content);
    assert_eq!(world.pool[&cpv("app")].last().unwrap().request, world.pool[&cpv("app")][0].request);
    assert!(world.reasons().iter().all(|reason| reason.starts_with("unchanged")));
}

#[test]
fn an_empty_pool_builds_everything() {
    assert_eq!(World::new().reasons(), ["no package yet"; 3]);
}

#[test]
fn what_is_unchanged_is_used_again() {
    let mut world = World::new();
    world.build();
    assert_eq!(world.reasons(), ["unchanged since build 1"; 3]);
    assert_eq!(world.plan().to_build().count(), 0);
}

#[test]
fn a_change_builds_the_package_and_perhaps_what_is_built_with_it() {
    let mut world = World::new();
    world.build();
    world.uses.insert(cpv("lib"), "nls");
    assert_eq!(world.reasons(), ["unchanged since build 1", "USE changed: +nls", "`c/lib-1` is built again"]);
    world.build();
    assert_eq!(world.reasons()[2], "unchanged since build 2");
}

#[test]
fn going_back_finds_the_earlier_package() {
    let mut world = World::new();
    world.build();
    world.uses.insert(cpv("app"), "nls");
    world.build();
    world.uses.clear();
    assert_eq!(world.reasons()[2], "unchanged since build 1");
}

#[test]
fn a_dependency_that_came_out_the_same_rebuilds_nobody() {
    let mut world = World::new();
    world.build();
    world.uses.insert(cpv("lib"), "nls");
    let plan = world.plan();
    let contents: BTreeMap<Cpv, Digest> =
        world.pool.iter().map(|(cpv, pooled)| (cpv.clone(), pooled[0].content.clone())).collect();
    let mut app = plan.packages[2].clone();
    assert_eq!(app.settle(&plan.slots(), &contents, &world.pool).unwrap().build_id, BuildId(1));
    let changed = BTreeMap::from([(cpv("lib"), Digest::of("other"))]);
    assert_eq!(app.settle(&plan.slots(), &changed, &world.pool), None);
}

#[test]
fn what_is_forced_is_built_even_if_nothing_changed() {
    let mut world = World::new();
    world.build();
    world.forced.insert(cpv("app"));
    let mut plan = world.plan();
    assert_eq!(plan.packages[2].action.to_string(), "asked for");
    let contents = BTreeMap::from([(cpv("lib"), world.pool[&cpv("lib")][0].content.clone())]);
    let slots = plan.slots();
    assert_eq!(plan.packages[2].settle(&slots, &contents, &world.pool), None);
}

#[test]
fn another_version_in_the_pool_is_named() {
    let mut world = World::new();
    let old = Pooled { build_id: BuildId(1), content: Digest::of("x"), request: Request::default(), altered: false };
    world.pool.insert("c/app-0.9".parse().unwrap(), vec![old]);
    assert_eq!(world.reasons()[2], "no package of this version yet, only of `c/app-0.9`");
}

#[test]
fn a_plan_survives_being_written_down() {
    let mut world = World::new();
    world.build();
    world.uses.insert(cpv("lib"), "nls");
    let plan = world.plan();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn a_long_list_of_reasons_is_cut() {
    let cpvs = ["a", "b", "c", "d", "e"].map(cpv).to_vec();
    assert_eq!(Reason::Dependencies(cpvs).to_string(), "`c/a-1`, `c/b-1`, `c/c-1`, and 2 more are built again");
}
