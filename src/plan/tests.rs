use super::*;
use crate::backend::resolution::Kind;
use crate::plan::fixture::resolution;

mod given;

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
    cflags: &'static str,
    /// What is compiled: it holds code, and what it offers to run follows from the flags.
    compiled: BTreeSet<Cpv>,
    others: BTreeMap<Name, Pool>,
    share: bool,
    policy: Policy,
    given: BTreeMap<Cpv, BuildId>,
}

/// Returns an output digest that three letters stand for.
fn output(letters: &str) -> Output {
    let [link, archives, tools] = [0, 1, 2].map(|at| Digest::of(&letters[at..=at]));
    Output { link, archives, tools }
}

impl World {
    fn new() -> Self {
        let resolution = resolution("gen lib app", &[("lib", "gen", BUILD), ("app", "lib", BUILD)]);
        Self {
            resolution,
            uses: BTreeMap::new(),
            offers: BTreeMap::new(),
            pool: Pool::new(),
            forced: BTreeSet::new(),
            cflags: "-O2 -march=x86-64",
            compiled: BTreeSet::from([cpv("gen"), cpv("lib"), cpv("app")]),
            others: BTreeMap::new(),
            share: true,
            policy: Policy::default(),
            given: BTreeMap::new(),
        }
    }

    fn stock(&self) -> Stock {
        Stock {
            own: self.pool.clone(),
            others: self.others.clone(),
            share: self.share,
            policy: self.policy,
            side: Side::default(),
            given: self.given.clone(),
        }
    }

    fn plan(&self) -> Plan {
        let request = |cpv: &Cpv| {
            let mut request = Request::default();
            request.set("use", *self.uses.get(cpv).unwrap_or(&""));
            request.set("env CFLAGS", self.cflags);
            (cpv.clone(), request)
        };
        let requests = self.resolution.packages.iter().map(|package| request(&package.cpv)).collect();
        let graph = Graph::new(&self.resolution).unwrap();
        Plan::new(&self.resolution, &graph, requests, &self.stock(), &self.forced).unwrap()
    }

    /// Builds what is planned, and returns what that was: the content of a package follows from its request.
    fn build(&mut self) -> String {
        let mut plan = self.plan();
        let identities = plan.identities();
        let (mut settled, mut built) = (Settled::default(), Vec::new());
        for planned in &mut plan.packages {
            if matches!(planned.action, Action::Build(_)) {
                planned.settle(&identities, &settled, &self.stock());
            }
            let all = self.pool.entry(planned.cpv.clone()).or_default();
            let request = planned.request.clone();
            let build_id = BuildId(u32::try_from(all.len()).unwrap() + 1);
            let output = match &planned.action {
                Action::Reuse(reuse) => {
                    let same = all.iter_mut().find(|pooled| pooled.build_id == reuse.build_id).unwrap();
                    if reuse.other_flags {
                        same.request = request.clone();
                    }
                    same.output.clone().unwrap()
                }
                Action::Share(share) => {
                    let theirs = self.others[&share.profile][&planned.cpv].iter();
                    let theirs = theirs.clone().find(|pooled| pooled.build_id == share.build_id).unwrap();
                    let shared = Some(share.profile.clone());
                    all.push(Pooled { build_id, request: request.clone(), shared, ..theirs.clone() });
                    theirs.output.clone().unwrap()
                }
                Action::Build(_) => {
                    let content = request.key();
                    let compiled = self.compiled.contains(&planned.cpv);
                    // What runs differs with the flags, what is linked with does not.
                    let mut plain = request.clone();
                    plain.set("env CFLAGS", "");
                    let (code, link) = (compiled.then(|| "`/usr/bin/x` is compiled".to_string()), plain.key());
                    let tools = if compiled { content.clone() } else { link.clone() };
                    let usual = Output { link, archives: tools.clone(), tools };
                    let offered = self.offers.get(&planned.cpv).cloned().unwrap_or(usual);
                    let output = Some(offered.clone());
                    let (altered, unproven, shared, request) = (false, false, None, request.clone());
                    built.push(planned.cpv.package.to_string());
                    all.push(Pooled { build_id, content, request, output, altered, code, unproven, shared });
                    offered
                }
            };
            settled.add(&planned.cpv, planned.slot.as_str(), output, request);
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
    let lib = &world.pool[&cpv("lib")][0];
    let mut settled = Settled::default();
    settled.add(&cpv("lib"), "0", lib.output.clone().unwrap(), lib.request.clone());
    let identities = plan.identities();
    plan.packages[2].settle(&identities, &settled, &world.stock());
    assert_eq!(plan.packages[2].action, Action::Build(Reason::Forced));
}

#[test]
fn another_version_in_the_pool_is_named() {
    let mut world = World::new();
    let (content, request) = (Digest::of("x"), Request::default());
    let (altered, code, unproven, shared) = (false, None, true, None);
    let old = Pooled { build_id: BuildId(1), content, request, output: None, altered, code, unproven, shared };
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

/// `tool` is compiled and runs while `script` is built, which is text; `page` is text, too, and is built with `script`.
/// `lib` is compiled and linked with `user`, text as well.
fn texts(cflags: &'static str) -> World {
    let edges: &[(&str, &str, &[Kind])] = &[
        ("script", "tool", &[Kind::Build, Kind::Tool]),
        ("page", "script", &[Kind::Build, Kind::Tool]),
        ("user", "lib", &[Kind::Build, Kind::Link]),
    ];
    let resolution = resolution("tool script page lib user", edges);
    World { resolution, cflags, compiled: BTreeSet::from([cpv("tool"), cpv("lib")]), ..World::new() }
}

/// Returns a profile for another processor beside `amd64`, whose packages are built.
fn beside() -> World {
    let mut amd64 = texts("-O2 -march=x86-64");
    amd64.build();
    World { others: BTreeMap::from([("amd64".parse().unwrap(), amd64.pool)]), ..texts("-O3 -march=x86-64-v3") }
}

#[test]
fn what_holds_no_code_is_shared_with_profiles_that_differ_in_flags() {
    let mut world = beside();
    let plan = world.reasons();
    assert_eq!(plan[0], "no package yet");
    // Which is known once the tool is there, that was compiled with other flags and does the same.
    assert_eq!(plan[1], "no package yet");
    assert_eq!(world.build(), "tool lib");
    for text in ["script", "page", "user"] {
        assert_eq!(world.pool[&cpv(text)][0].shared.as_ref().unwrap().as_str(), "amd64");
    }
    assert!(world.reasons().iter().all(|reason| reason.starts_with("unchanged")));
    // Known from the start: the tool is.
    world.pool.retain(|name, _| *name == cpv("tool") || *name == cpv("lib"));
    assert_eq!(world.reasons()[1..3], ["the same in amd64: no compiled code"; 2]);
    assert_eq!((world.plan().shared(), world.plan().to_build().count()), (3, 0));
}

#[test]
fn other_flags_for_the_compiler_build_again_what_is_compiled() {
    let mut world = texts("-O2 -march=x86-64");
    world.build();
    world.cflags = "-O1";
    assert_eq!(world.reasons()[0], "CFLAGS changed: `-O2 -march=x86-64` to `-O1`");
    assert_eq!(world.build(), "tool lib");
    assert_eq!(world.reasons(), [2, 1, 1, 2, 1].map(|build| format!("unchanged since build {build}")));
    world.cflags = "-O3";
    world.pool.get_mut(&cpv("tool")).unwrap().last_mut().unwrap().request.set("env CFLAGS", "-O3");
    assert_eq!(world.reasons()[1], "no compiled code: build 1 does for any flags");
    // What is noted for other flags is compared with from then on.
    world.build();
    world.uses.insert(cpv("tool"), "nls");
    world.offers.insert(cpv("tool"), world.pool[&cpv("tool")].last().unwrap().output.clone().unwrap());
    assert_eq!(world.build(), "tool");
    world.share = false;
    world.cflags = "-O0";
    assert_eq!(world.build(), "tool script page lib user");
}

#[test]
fn whatever_else_differs_is_not_shared() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 6] = [
        ("its flags", |world| _ = world.uses.insert(cpv("script"), "nls")),
        ("the tool's flags", |world| _ = world.uses.insert(cpv("tool"), "nls")),
        ("what it was", |world| of_amd64(world, "script").code = Some("`/usr/bin/x` is compiled".to_string())),
        ("the profile does not", |world| world.share = false),
        ("the file", |world| of_amd64(world, "script").altered = true),
        ("the rules", |world| of_amd64(world, "script").output = None),
    ];
    for (what, change) in changes {
        let mut world = beside();
        change(&mut world);
        let built = world.build();
        assert!(built.contains("script"), "{what}: {built}");
    }
    // Linked with another interface: it may be in its texts.
    let mut world = beside();
    world.offers.insert(cpv("lib"), output("xyz"));
    assert_eq!(world.build(), "tool lib user");
}

fn of_amd64<'a>(world: &'a mut World, name: &str) -> &'a mut Pooled {
    world.others.values_mut().next().unwrap().get_mut(&cpv(name)).unwrap().last_mut().unwrap()
}

#[test]
fn what_is_found_to_hold_code_is_shared_no_more() {
    let mut world = beside();
    world.build();
    // amd64 has built it again, from the same, and it came out otherwise.
    let again = Pooled { build_id: BuildId(2), ..of_amd64(&mut world, "page").clone() };
    let again = Pooled { code: Some("`/usr/bin/x` is compiled".to_string()), content: Digest::of("other"), ..again };
    world.others.values_mut().next().unwrap().get_mut(&cpv("page")).unwrap().push(again.clone());
    let reason =
        "it was shared as holding no compiled code, which is not so any more in amd64: `/usr/bin/x` is compiled";
    assert_eq!(world.reasons()[2], reason);
    assert_eq!(world.build(), "page");
    assert_eq!(world.reasons()[2], "unchanged since build 2");
    // A third profile takes nothing either.
    let third = World { others: world.others.clone(), ..texts("-O2 -march=x86-64-v4") };
    let mut third = World { share: true, ..third };
    assert_eq!(third.build(), "tool page lib");
    // Until it is proven again.
    let proven = Pooled { build_id: BuildId(3), code: None, ..again };
    third.others.values_mut().next().unwrap().get_mut(&cpv("page")).unwrap().push(proven);
    third.pool.remove(&cpv("page"));
    assert_eq!(third.build(), "");
    assert_eq!(third.pool[&cpv("page")][0].shared.as_ref().unwrap().as_str(), "amd64");
}

#[test]
fn a_profile_that_stops_sharing_builds_what_it_took() {
    let mut world = beside();
    world.build();
    world.share = false;
    let reason = "it was taken over from amd64, and `share` is now false in the profile";
    assert_eq!(world.reasons()[1], reason);
    assert_eq!(world.build(), "script page user");
    assert_eq!(world.build(), "");
}

#[test]
fn what_the_profile_says_of_tools_and_archives_holds_for_the_whole_plan() {
    for (changed, offered, archives, tools, built) in [
        ("lib", "xyx", true, Tools::Any, "lib app"),
        ("lib", "xyx", false, Tools::Any, "lib"),
        ("lib", "yxx", false, Tools::Never, "lib app"),
        ("gen", "xxy", true, Tools::Any, "gen app"),
        ("gen", "xxy", true, Tools::Abi, "gen"),
        ("gen", "yxy", true, Tools::Abi, "gen app"),
        ("gen", "yxy", true, Tools::Never, "gen"),
    ] {
        let mut world = roles();
        world.policy = Policy { archives, tools };
        for name in ["base", "libc", "gen", "lib", "app"] {
            world.offers.insert(cpv(name), output("xxx"));
        }
        world.build();
        world.uses.insert(cpv(changed), "nls");
        world.offers.insert(cpv(changed), output(offered));
        assert_eq!(world.build(), built, "{changed} {offered} {archives} {tools:?}");
        assert_eq!(world.plan().to_build().count(), 0);
        // Another choice builds nothing by itself, unless what it left out has changed meanwhile.
        world.policy = Policy::default();
        assert_eq!(world.plan().to_build().count() > 0, built.len() == 3 && (archives, tools) != (true, Tools::Any));
    }
}

#[test]
fn what_an_earlier_bindery_looked_at_says_nothing_either_way() {
    let mut world = beside();
    let mut old = world.others.values().next().unwrap().clone();
    old.values_mut().flatten().for_each(|build| (build.unproven, build.code) = (true, None));
    world.others.insert("older".parse().unwrap(), old.clone());
    assert_eq!(world.build(), "tool lib");
    assert_eq!(world.build(), "");
    world.others = BTreeMap::from([("older".parse().unwrap(), old)]);
    world.pool.clear();
    assert_eq!(world.build(), "tool script page lib user");
    // Rules that changed after it was taken: it is proven anew by building it.
    let mut world = beside();
    world.build();
    world.pool.get_mut(&cpv("page")).unwrap()[0].unproven = true;
    assert_eq!(world.build(), "page");
    assert_eq!(world.build(), "");
}
