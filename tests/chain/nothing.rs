//! A plan with nothing to do asks nobody, and whatever changes is noticed by the very next one.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::bench::{Bench, Said};

const EBUILD: &str = "IUSE=\"extra\"\ninherit thing\nsrc_install() { thing; }\n";

/// Says that the resolver is asked.
const ASKED: &str = "planning own/plain";

fn bench(test: &str) -> Bench {
    let bench = Bench::new(test);
    // Answers are kept in the state that all tests share.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    bench.write_tree(&[("plain", &format!("{EBUILD}# {test} {now}\n"))]);
    bench.write("own/eclass/thing.eclass", "thing() { echo one > thing && insinto /usr/share && doins thing; }\n");
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n");
    bench
}

fn plan(bench: &Bench) -> Said {
    let said = bench.build(&["own/plain", "--pretend"]);
    said.works();
    said
}

#[test]
fn the_resolver_is_asked_once_and_again_when_something_it_sees_has_changed() {
    let bench = bench("nothing-asked");
    assert!(plan(&bench).err.contains(ASKED));
    plan(&bench).lacks(ASKED).prints(&["no package yet"]);
    bench.build(&["own/plain"]).works().lacks(ASKED);
    plan(&bench).lacks(ASKED).prints(&["unchanged since build 1"]);
    // Its flags.
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n[package]\nuse = [\"own/plain extra\"]\n");
    let said = plan(&bench);
    assert!(said.err.contains(ASKED), "{said}");
    said.prints(&["USE changed: +extra"]);
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n");
    plan(&bench).lacks(ASKED).prints(&["unchanged since build 1"]);
    // An eclass.
    bench.write("own/eclass/thing.eclass", "thing() { echo two > thing && insinto /usr/share && doins thing; }\n");
    let said = plan(&bench);
    assert!(said.err.contains(ASKED), "{said}");
    said.prints(&["eclass `thing` changed"]);
}

#[test]
fn a_flipped_byte_in_the_pool_is_noticed_and_the_package_is_built_again() {
    let bench = bench("nothing-flipped");
    bench.build(&["own/plain"]).works();
    plan(&bench).prints(&["unchanged since build 1"]);
    let flipped = bench.profile_dir().join("pool/own/plain/plain-1-1.gpkg.tar");
    flip(&flipped);
    for _ in 0..2 {
        plan(&bench).prints(&["its package was altered after it was put into the pool"]);
    }
    let said = bench.build(&["own/plain"]);
    said.works();
    assert!(said.err.contains("is no longer what was put into the pool"), "{said}");
    assert!(flipped.with_file_name(".altered-plain-1-1.gpkg.tar").exists() && !flipped.exists());
    let package = bench.profile_dir().join("current/own/plain/plain-1-2.gpkg.tar");
    bench.run(&["verify", package.to_str().unwrap()]).works();
    plan(&bench).prints(&["unchanged since build 2"]);
}

#[test]
fn another_image_is_noticed_by_the_very_next_plan() {
    let bench = bench("nothing-image");
    bench.build(&["own/plain"]).works();
    plan(&bench).lacks(ASKED).prints(&["unchanged since build 1"]);
    // The usual one without a compiler: no more than it takes to make a plan, so that it is made soon.
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/debian-portage.toml");
    let usual = std::fs::read_to_string(usual).unwrap();
    let (before, rest) = usual.split_once("\npackages = [").unwrap();
    let (_, after) = rest.split_once("\n]\n").unwrap();
    // Its base names what it does not have.
    let (after, base) = after.split_once("\n[base]\n").unwrap();
    let (_, rest) = base.split_once("\n[environment]\n").unwrap();
    let small = format!("{before}\npackages = [\"python3\", \"file\"]\n{after}\n[environment]\n{rest}");
    bench.write("images/small.toml", &small);
    let profile = "trees = [\"bindery-test\", \"own\"]\n";
    bench.write_profile(&format!("image = \"small\"\n{profile}"));
    let said = plan(&bench);
    assert!(said.err.contains(ASKED), "{said}");
    let why = bench.run(&["plan", "--profile", &bench.profile, "own/plain", "--why", "plain"]);
    why.works().prints(&["own/plain-1: build", "compiler changed: gcc-14 "]);
    bench.write_profile(profile);
    plan(&bench).lacks(ASKED).prints(&["unchanged since build 1"]);
}

#[test]
fn what_another_bindery_left_is_noticed_by_the_very_next_plan() {
    let bench = bench("nothing-version");
    bench.build(&["own/plain"]).works();
    plan(&bench).prints(&["unchanged since build 1"]);
    // There is only this one to run: the record says what another would have written. That the resolver is asked again by
    // another version is tested where answers are kept (`build/answer.rs`).
    let record = bench.profile_dir().join("pool/own/plain/plain-1-1.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        change(&mut json);
        std::fs::remove_file(&record).unwrap();
        std::fs::write(&record, serde_json::to_string_pretty(&json).unwrap()).unwrap();
        bench.build(&["own/plain", "--pretend"])
    };
    // One that made other packages of the same inputs.
    let said = with(&|json| json["origin"]["inputs"]["version"] = "0".into());
    said.works().prints(&["bindery's way of building changed"]);
    // One with other rules for what a package offers, and one that knew none.
    let said = with(&|json| json["facts"]["offers"]["version"] = 0.into());
    said.works().prints(&["its record has no output digest: an earlier bindery wrote it"]);
    let said = with(&|json| {
        json["version"] = 1.into();
        json["facts"].as_object_mut().unwrap().remove("offers");
    });
    said.works().prints(&["its record has no output digest: an earlier bindery wrote it"]);
    // A newer one: refused, with the way out.
    let said = with(&|json| json["version"] = 99.into());
    said.fails(4, &["says format 99, this bindery reads 1 to 4; use the bindery that wrote it, or another --state"]);
    with(&|_| ()).works().prints(&["unchanged since build 1"]);
}

#[test]
fn a_plan_says_what_stays_published_why_something_is_built_and_draws_itself() {
    let bench = bench("nothing-plan");
    bench.write_tree(&[("user", "BDEPEND=\"own/plain\"\nRDEPEND=\"own/plain\"\n")]);
    let plan = |args: &[&str]| bench.run(&[&["plan", "--profile", &bench.profile], args].concat());
    let said = plan(&["own/user"]);
    said.works().prints(&["2 to build, nothing to download, 0 unchanged, 0 kept", "no package yet"]);
    bench.build(&["own/user"]).works();
    let said = plan(&["own/plain"]);
    said.works().prints(&["0 to build, 1 unchanged, 1 kept", "keep", "published before as build 1, and not asked for"]);
    // Another ebuild: what took how long is known now.
    bench.write_tree(&[("user", "BDEPEND=\"own/plain\"\nRDEPEND=\"own/plain\"\n# changed\n")]);
    let said = plan(&["own/user"]);
    said.works().prints(&["1 to build, nothing to download, in about ", ", 1 unchanged, 0 kept", "the ebuild changed"]);
    let said = plan(&["own/user", "--why", "user"]);
    said.works().prints(&["own/user-1: build", "because       the ebuild changed", "built with    own/plain-1"]);
    plan(&["own/user", "--why", "own/plain"]).works().prints(&["own/plain-1: reuse", "built for     own/user-1"]);
    plan(&["own/user", "--why", "plian"]).fails(1, &["no package `plian` is in the plan", "did you mean `plain`?"]);
    let file = bench.config.path().join("plan.svg");
    plan(&["own/user", "--graph", file.to_str().unwrap()]).works();
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("own/user-1: the ebuild changed"), "{svg}");
    let nowhere = bench.config.path().join("no/plan.svg");
    plan(&["own/user", "--graph", nowhere.to_str().unwrap()]).fails(1, &["cannot write a file in", "/no`"]);
    let said = plan(&["own/plain", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.works().out).unwrap();
    assert_eq!(json["keep"][0]["cpv"], "own/user-1");
    assert_eq!(json["packages"][0]["cpv"], "own/plain-1");
}

fn flip(file: &Path) {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let open = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    open.read_exact_at(&mut byte, 3000).unwrap();
    open.write_all_at(&[byte[0] ^ 1], 3000).unwrap();
}
