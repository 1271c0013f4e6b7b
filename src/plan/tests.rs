use super::*;
use crate::backend::resolution::Kind;
use crate::plan::fixture::resolution;

const BUILD: &[Kind] = &[Kind::Build];

fn cpv(name: &str) -> Cpv {
    format!("c/{name}-1").parse().unwrap()
}

/// `lib` is built with `gen`, `app` with `lib`; every request has one part, its package's USE flags. What a package
/// offers follows from its request, as far as `offers` does not say otherwise.
struct World {
    resolution: Resolution,
    uses: BTreeMap<Cpv, &'static str>,
    offers: BTreeMap<Cpv, Output>,
    pool: Pool,
    forced: BTreeSet<Cpv>,
}

/// Returns an output digest that three letters stand for.
fn output(letters: &str) -> Output {
    let [link, archives, tools] = [0, 1, 2].map(|at| Digest::of(&letters[at..=at]));
    Output { link, archives, tools }
}

impl World {
    fn new() -> Self {
        let resolution = resolution("gen lib app", &[("lib", "gen", BUILD), ("app", "lib", BUILD)]);
        Self { resolution, uses: BTreeMap::new(), offers: BTreeMap::new(), pool: Pool::new(), forced: BTreeSet::new() }
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

    /// Builds what is planned, and returns what that was: the content of a package follows from its request.
    fn build(&mut self) -> String {
        let mut plan = self.plan();
        let identities = plan.identities();
        let (mut outputs, mut built) = (BTreeMap::new(), Vec::new());
        for planned in &mut plan.packages {
            let reuse = match &planned.action {
                Action::Reuse(reuse) => Some(reuse.clone()),
                Action::Build(_) => planned.settle(&identities, &outputs, &self.pool),
            };
            let all = self.pool.entry(planned.cpv.clone()).or_default();
            if let Some(reuse) = reuse {
                let same = all.iter().find(|pooled| pooled.build_id == reuse.build_id).unwrap();
                outputs.insert(planned.cpv.clone(), same.output.clone().unwrap());
                continue;
            }
            let content = planned.request.key();
            let all_of_it = Output { link: content.clone(), archives: content.clone(), tools: content.clone() };
            let output = self.offers.get(&planned.cpv).cloned().unwrap_or(all_of_it);
            outputs.insert(planned.cpv.clone(), output.clone());
            let build_id = BuildId(u32::try_from(all.len()).unwrap() + 1);
            let request = planned.request.clone();
            all.push(Pooled { build_id, content, request, output: Some(output), altered: false });
            built.push(planned.cpv.package.to_string());
        }
        built.join(" ")
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
fn a_dependency_that_offers_the_same_rebuilds_nobody() {
    let mut world = World::new();
    world.offers.insert(cpv("lib"), output("xxx"));
    assert_eq!(world.build(), "gen lib app");
    world.uses.insert(cpv("lib"), "nls");
    assert_eq!(world.reasons()[2], "`c/lib-1` is built again");
    assert_eq!(world.build(), "lib");
    assert_eq!(world.reasons(), ["unchanged since build 1", "unchanged since build 2", "unchanged since build 1"]);
}

/// `lib` is linked with, `gen` is run, and both need `base` to run; `lib` also needs `libc`. `user` runs `app`.
fn roles() -> World {
    let resolution = resolution(
        "base libc gen lib app user",
        &[
            ("gen", "base", &[Kind::Run]),
            ("lib", "base", &[Kind::Run]),
            ("lib", "libc", &[Kind::Run]),
            ("app", "gen", &[Kind::Build, Kind::Tool]),
            ("app", "lib", &[Kind::Build, Kind::Link]),
            ("user", "app", &[Kind::Build, Kind::Tool]),
        ],
    );
    World { resolution, ..World::new() }
}

#[test]
fn a_change_rebuilds_those_who_can_see_it() {
    for (changed, offered, built) in [
        // What is linked with: its ABI and its static archives, not its code.
        ("lib", "xxy", "lib"),
        ("lib", "yxx", "lib app"),
        ("lib", "xyx", "lib app"),
        ("libc", "xxy", "libc"),
        ("libc", "yxx", "libc app"),
        // What runs: all of it, and all that it needs to run.
        ("gen", "xxy", "gen app"),
        ("gen", "yxx", "gen"),
        ("base", "xxy", "base app"),
        ("base", "yxx", "base app"),
        ("base", "xxx", "base"),
        ("app", "yyx", "app"),
        ("app", "xxy", "app user"),
    ] {
        let mut world = roles();
        for name in ["base", "libc", "gen", "lib", "app"] {
            world.offers.insert(cpv(name), output("xxx"));
        }
        assert_eq!(world.build(), "base libc gen lib app user");
        world.uses.insert(cpv(changed), "nls");
        world.offers.insert(cpv(changed), output(offered));
        assert_eq!(world.build(), built, "{changed} {offered}");
        assert_eq!(world.plan().to_build().count(), 0);
    }
}

#[test]
fn once_the_dependency_is_there_the_reason_says_what_of_it_changed() {
    let mut world = roles();
    for name in ["base", "libc", "gen", "lib"] {
        world.offers.insert(cpv(name), output("xxx"));
    }
    world.build();
    for (changed, offered, reason) in [
        ("lib", "yxx", "`c/lib`'s ABI changed"),
        ("lib", "xyx", "`c/lib`'s static archives changed"),
        ("gen", "xxy", "`c/gen` changed, which runs while it is built"),
        ("base", "xxy", "`c/base` changed, which runs while it is built"),
    ] {
        let mut world = World { resolution: world.resolution.clone(), pool: world.pool.clone(), ..World::new() };
        let pooled = world.pool.get_mut(&cpv(changed)).unwrap().last_mut().unwrap();
        pooled.output = Some(output(offered));
        assert_eq!(world.reasons()[4], reason);
    }
}

#[test]
fn another_sub_slot_rebuilds_those_built_with_it() {
    let mut world = roles();
    world.build();
    world.resolution.packages[3].sub_slot = "7".parse().unwrap();
    assert_eq!(world.reasons()[3..5], ["unchanged since build 1", "`c/lib`'s sub-slot changed: 0 → 7"]);
}

#[test]
fn a_record_without_output_digest_is_built_once() {
    let mut world = World::new();
    world.build();
    world.pool.get_mut(&cpv("lib")).unwrap()[0].output = None;
    let expected = [
        "unchanged since build 1",
        "its record has no output digest: an earlier bindery wrote it",
        "`c/lib-1` is built again",
    ];
    assert_eq!(world.reasons(), expected);
    assert_eq!(world.build(), "lib");
    assert_eq!(world.reasons()[1], "unchanged since build 2");
    assert_eq!(world.reasons()[2], "unchanged since build 1");
}

#[test]
fn what_is_forced_is_built_even_if_nothing_changed() {
    let mut world = World::new();
    world.build();
    world.forced.insert(cpv("app"));
    let mut plan = world.plan();
    assert_eq!(plan.packages[2].action.to_string(), "asked for");
    let outputs = BTreeMap::from([(cpv("lib"), world.pool[&cpv("lib")][0].output.clone().unwrap())]);
    let identities = plan.identities();
    assert_eq!(plan.packages[2].settle(&identities, &outputs, &world.pool), None);
}

#[test]
fn another_version_in_the_pool_is_named() {
    let mut world = World::new();
    let (content, request) = (Digest::of("x"), Request::default());
    let old = Pooled { build_id: BuildId(1), content, request, output: None, altered: false };
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
