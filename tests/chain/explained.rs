//! What real Portage's resolver refuses, explained: all of it at once, as text and as data, and what is proposed helps.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bench::{Bench, Said};

/// Ebuilds that a line of configuration each makes a plan of.
const MENDED: &[(&str, &str)] = &[
    ("testing", "KEYWORDS=\"~amd64\"\n"),
    ("elsewhere", "KEYWORDS=\"~sparc\"\n"),
    ("nowhere", "KEYWORDS=\"-*\"\n"),
    ("hole", ""),
    ("licence", "LICENSE=\"own-EULA\"\n"),
    ("several", "KEYWORDS=\"~amd64\"\nLICENSE=\"own-EULA\"\n"),
    ("wants-several", "RDEPEND=\"own/several\"\n"),
    ("restricted", "RESTRICT=\"bindist\"\n"),
    ("special", "PROPERTIES=\"special\"\n"),
    ("lib", "IUSE=\"foo +bar\"\n"),
    ("wants-foo", "DEPEND=\"own/lib[foo,-bar]\"\n"),
    ("choice", "IUSE=\"gui text\"\nREQUIRED_USE=\"^^ ( gui text )\"\n"),
    ("chosen", "IUSE=\"gui +text\"\nREQUIRED_USE=\"^^ ( gui text )\"\n"),
    ("wants-gui", "RDEPEND=\"own/chosen[gui]\"\n"),
    ("fixed", "IUSE=\"masked forced\"\n"),
    ("wants-fixed", "RDEPEND=\"own/fixed[masked,-forced]\"\n"),
    ("ring-a", "IUSE=\"+docs\"\nBDEPEND=\"docs? ( own/ring-b )\"\n"),
    ("ring-b", "DEPEND=\"own/ring-a\"\n"),
];

/// Ebuilds that no line helps.
const HOPELESS: &[(&str, &str)] = &[
    ("dies", "die \"no good here\"\n"),
    ("wants-dies", "RDEPEND=\"own/dies\"\n"),
    ("garbled", "RDEPEND=\"|| ( )) x\"\n"),
    ("wants-flag", "RDEPEND=\"own/lib[nosuch]\"\n"),
    ("top", "RDEPEND=\"own/middle\"\n"),
    ("middle", "IUSE=\"+extra\"\nRDEPEND=\"extra? ( own/lob ) dev-util/serd no-such/package\"\n"),
    ("wants-newer", "RDEPEND=\">=own/lib-7\"\n"),
    ("wants-slot", "RDEPEND=\"own/lib:5\"\n"),
    ("needs-old", "RDEPEND=\"<own/both-2\"\n"),
    ("needs-new", "RDEPEND=\">=own/both-2\"\n"),
    ("both", ""),
    ("blocks", "RDEPEND=\"!own/blocked\"\n"),
    ("blocked", ""),
    ("plain", "IUSE=\"x\"\n"),
    ("wants-x", "RDEPEND=\"own/plain[x]\"\n"),
    ("wants-no-x", "RDEPEND=\"own/plain[-x]\"\n"),
    ("hard-a", "DEPEND=\"own/hard-b\"\n"),
    ("hard-b", "DEPEND=\"own/hard-a\"\n"),
    ("twice", ""),
];

fn bench(test: &str) -> Bench {
    let bench = Bench::new(test);
    bench.write_tree(MENDED);
    bench.write_tree(HOPELESS);
    let usual =
        "EAPI=8\nDESCRIPTION=\"x\"\nLICENSE=\"public-domain\"\nSLOT=\"0\"\nKEYWORDS=\"amd64\"\nS=\"${WORKDIR}\"\n";
    bench.write("own/own/both/both-2.ebuild", usual);
    bench.write("own/odd/twice/twice-1.ebuild", usual);
    bench.write("own/own/future/future-1.ebuild", &usual.replace("EAPI=8", "EAPI=99"));
    bench.write("own/profiles/categories", "odd\nown\n");
    bench.write("own/profiles/package.mask", "# Somebody (2026-01-02)\n# Has a hole, and nobody mends it.\nown/hole\n");
    bench.write("own/profiles/license_groups", "EULA own-EULA\n");
    bench.write("own/licenses/own-EULA", "Read and weep.\n");
    bench.write("own/profiles/package.use.mask", "own/fixed masked\n");
    bench.write("own/profiles/package.use.force", "own/fixed forced\n");
    write_profile(&bench, "");
    bench
}

fn write_profile(bench: &Bench, package: &str) {
    let env = "[env]\nACCEPT_RESTRICT = \"* -bindist\"\nACCEPT_PROPERTIES = \"* -special\"\n";
    bench.write_broken_profile(", \"own\"", &format!("[package]\n{package}{env}"));
}

fn plan(bench: &Bench, atoms: &[&str]) -> Said {
    bench.run(&[&["--json", "plan", "--profile", &bench.profile], atoms].concat())
}

/// Returns the problems that a plan told as data.
#[track_caller]
fn problems(said: &Said) -> Vec<Value> {
    let told: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e} in:\n{said}"));
    assert_eq!((&told["event"], &told["more"]), (&Value::from("refused"), &Value::from(0)), "{said}");
    told["problems"].as_array().unwrap().clone()
}

/// Returns the first remedy of each problem as the `[package]` table of a profile, having written what belongs to files
/// of the package manager's own.
fn applied(bench: &Bench, problems: &[Value]) -> String {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for addition in problems.iter().flat_map(|problem| problem["remedies"][0].as_array().expect("there is a remedy")) {
        let (file, line) = (addition["file"].as_str().unwrap(), addition["line"].as_str().unwrap());
        match addition["key"].as_str() {
            Some(key) => {
                assert!(file.ends_with(&format!("/profiles/{}.toml", bench.profile)), "{file}");
                keys.entry(key.strip_prefix("package.").unwrap().to_string()).or_default().push(line.to_string());
            }
            None => {
                let path = file.strip_prefix(&format!("{}/", bench.config.path().display())).unwrap();
                let known = std::fs::read_to_string(file).unwrap_or_default();
                bench.write(path, &format!("{known}{line}\n"));
            }
        }
    }
    keys.iter().map(|(key, lines)| format!("{key} = {lines:?}\n")).collect()
}

#[test]
fn what_is_proposed_for_all_that_is_refused_at_once_makes_a_plan() {
    let bench = bench("explained-mended");
    let asked: Vec<String> = MENDED.iter().map(|(name, _)| format!("own/{name}")).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).filter(|name| *name != "own/several").collect();
    let said = plan(&bench, &asked);
    let toml = format!("in `{}`", bench.config.path().join(format!("profiles/{}.toml", bench.profile)).display());
    let native = bench.config.path().join(format!("profiles/{}/portage", bench.profile));
    let native = |path: &str| format!("to `{}`", native.join(path).display());
    said.fails(
        1,
        &[
            "`own/testing-1` is masked: it is not stable here yet (`~amd64` keyword)",
            &format!("add `=own/testing-1 ~amd64` to `package.accept-keywords` {toml}"),
            "`own/elsewhere-1` is masked: it has no keyword for this architecture (KEYWORDS=`~sparc`)",
            "add `=own/nowhere-1 **` to `package.accept-keywords`",
            "`own/hole-1` is masked: by `package.mask` (`profiles/package.mask` of tree `own`), which says: Somebody \
             (2026-01-02) Has a hole, and nobody mends it.",
            &format!("add `=own/hole-1` to `package.unmask` {toml}"),
            "`own/licence-1` is masked: its licence `own-EULA` is not accepted",
            "`own/wants-several-1` wants `own/several`, asked for",
            &format!(
                "add `=own/several-1 own-EULA` to `package.license` and `=own/several-1 ~amd64` to \
                 `package.accept-keywords` {toml}"
            ),
            "RESTRICT=`bindist` is not accepted",
            &format!("add `=own/restricted-1 bindist` {}", native("package.accept_restrict")),
            "PROPERTIES=`special` is not accepted",
            "`own/lib-1` is needed with USE=`-bar foo`",
            "`own/wants-foo-1` wants `own/lib[foo,-bar]`, asked for",
            "do not fulfil its REQUIRED_USE: `^^ ( gui text )`",
            &format!("add `=own/choice-1 gui` to `package.use` {toml}"),
            &format!("or add `=own/choice-1 text` to `package.use` {toml}"),
            "add `=own/chosen-1 gui -text`",
            "has USE flag `masked` masked (`use.mask`) by the Portage profile",
            &format!("`=own/fixed-1 -masked` {}", native("profile/package.use.mask")),
            &format!("`=own/fixed-1 -forced` {}", native("profile/package.use.force")),
            "`own/ring-a-1` needs `own/ring-b-1` to build (`own/ring-b` because of USE=`docs`)",
            "add `=own/ring-a-1 -docs` to `package.use`",
        ],
    );
    let package = applied(&bench, &problems(&said));
    write_profile(&bench, &package);
    let said = plan(&bench, &asked);
    let plan: Value = serde_json::from_str(&said.works().out).unwrap();
    assert_eq!(plan["packages"].as_array().unwrap().len(), MENDED.len(), "{said}");
}

#[test]
fn what_no_line_can_mend_says_what_is_wrong_and_who_wants_it() {
    let bench = bench("explained-hopeless");
    let asked = [
        "own/wants-dies",
        "own/garbled",
        "own/future",
        "own/wants-flag",
        "own/top",
        "own/wants-newer",
        "own/wants-slot",
        "own/needs-old",
        "own/needs-new",
        "own/blocks",
        "own/blocked",
        "own/wants-x",
        "own/wants-no-x",
        "hellp",
        "twice",
        "own/lib[",
    ];
    let said = plan(&bench, &asked);
    said.fails(
        1,
        &[
            "`own/dies-1` is masked: its ebuild cannot be read: no good here",
            "`own/wants-dies-1` wants `own/dies`, asked for",
            "`own/garbled-1` is masked: its ebuild is not valid: RDEPEND: ",
            "`own/future-1` is masked: it needs EAPI 99",
            "`own/lib-1` has no USE flag `nosuch`, and `own/lib[nosuch]` asks for it",
            "no tree has `own/lob`",
            "`own/middle-1` wants `own/lob` because of USE=`extra`, needed by `own/top-1`, asked for",
            "did you mean `own/lib`?",
            "no tree has `dev-util/serd`",
            "did you mean `dev-libs/serd`?",
            "no tree has `no-such/package`",
            "add a tree that has it to `trees`",
            "no tree has a version that satisfies `>=own/lib-7`; there is `own/lib-1` (slot 0)",
            "no tree has a version that satisfies `own/lib:5`",
            "only one version of `own/both:0` can be installed",
            "`own/both-1`: `own/needs-old-1` wants `<own/both-2`, asked for",
            "`own/both-2`: `own/needs-new-1` wants `>=own/both-2`, asked for",
            "`own/blocks-1` cannot be installed together with `own/blocked` (`!own/blocked`)",
            "`own/plain-1` is needed with and without USE=`x`",
            "`own/wants-no-x-1` wants `own/plain[-x]`, asked for",
            "no tree has `hellp`",
            "did you mean `app-misc/hello`?",
            "`twice` is the name of several packages: `odd/twice`, `own/twice`; say which",
            "`own/lib[` is not a package atom",
        ],
    );
    let told = problems(&said);
    assert!(told.iter().all(|problem| problem["remedies"].as_array().unwrap().is_empty()), "{said}");

    let cycle = plan(&bench, &["own/hard-a"]);
    cycle.fails(
        1,
        &[
            "packages need each other before they can be built",
            "`own/hard-a-1` needs `own/hard-b-1` to build (`own/hard-b`)",
            "`own/hard-b-1` needs `own/hard-a-1` to build (`own/hard-a`)",
            "leave one of them out",
        ],
    );
    assert_eq!(problems(&cycle)[0]["steps"].as_array().unwrap().len(), 2);
}

#[test]
fn sets_are_planned_for_and_what_is_wrong_in_them_is_told() {
    let bench = bench("explained-sets");
    let sets = |world: &str| {
        bench.write_broken_profile(", \"own\"", &format!("[sets]\nworld = [{world}]\nmine = [\"own/blocked\"]\n"));
    };
    let names = |said: &Said| -> Vec<String> {
        let plan: Value = serde_json::from_str(&said.works().out).unwrap();
        plan["packages"].as_array().unwrap().iter().map(|p| p["cpv"].as_str().unwrap().to_string()).collect()
    };
    sets("\"@mine\", \"own/lib\"");
    for asked in [&["@world"][..], &[], &["@mine", "own/lib"]] {
        assert_eq!(names(&plan(&bench, asked)), ["own/blocked-1", "own/lib-1"]);
    }
    assert!(names(&plan(&bench, &["@system"])).is_empty());
    bench.write("own/profiles/default/packages", "*own/lib\n*own/absent\n");
    bench.write("own/profiles/default/parent", "bindery-test:default/linux/amd64\n");
    bench.write("own/profiles/default/eapi", "8\n");
    let layout = "masters = bindery-test\nthin-manifests = true\nprofile-formats = portage-2\n";
    bench.write("own/metadata/layout.conf", layout);
    bench.write_broken_profile(", \"own\"", "portage-profile = \"own:default\"\n");
    plan(&bench, &["@system"]).fails(1, &["no tree has `own/absent`", "`own/absent` is part of the set `@system`"]);
    sets("\"@mien\"");
    plan(&bench, &["@world"]).fails(1, &["there is no set `@mien`", "did you mean `@mine`?"]);
    sets("\"own/testing\"");
    bench.build(&[]).fails(1, &["`own/testing-1` is masked"]);
}
