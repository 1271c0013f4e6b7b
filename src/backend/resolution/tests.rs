//! The files in `recorded/` are what `plan.py` printed inside a root with Portage 3.0.83: for the tree and the broken
//! tree in `tests/`, and for ebuilds made for the purpose.

use super::remedy::{Edit, EditedList, Remedy};
use super::*;

macro_rules! recorded {
    ($name:literal) => {
        Resolution::parse(include_bytes!(concat!("recorded/", $name, ".json"))).unwrap()
    };
}

#[test]
fn packages_come_with_all_that_is_known_of_them() {
    let resolution = recorded!("file");
    assert!(resolution.ok);
    let names: Vec<String> = resolution.packages.iter().map(|package| package.cpv.to_string()).collect();
    assert_eq!(names, ["app-arch/bzip2-1.0.8", "app-arch/xz-utils-5.8.1", "sys-apps/file-5.46"]);
    let file = resolution.package(&"sys-apps/file-5.46".parse().unwrap()).unwrap();
    assert_eq!(file.use_flags.iter().map(Word::as_str).collect::<Vec<_>>(), ["bzip2", "lzma"]);
    assert_eq!(file.depend.rdepend.as_str(), "app-arch/bzip2:= app-arch/xz-utils:=");
    let [distfile] = file.distfiles.as_slice() else { panic!("{:?}", file.distfiles) };
    assert_eq!((distfile.name.as_str(), distfile.size), ("file-5.46.tar.gz", Some(1312892)));
    assert_eq!((distfile.blake2b().unwrap().len(), distfile.sha512().unwrap().len()), (128, 128));
    let sources = file.sources().unwrap();
    assert_eq!(sources[0].dist.size, 1312892);
    assert_eq!(sources[0].uris, [distfile.uris[0].as_str()]);
    let [edge, _] = resolution.edges.as_slice() else { panic!("{:?}", resolution.edges) };
    assert_eq!((edge.to.package.as_str(), &edge.kinds), ("bzip2", &BTreeSet::from([Kind::Build, Kind::Run])));
}

#[test]
fn cycles_at_run_time_are_no_problem() {
    let resolution = recorded!("cycle-run");
    assert!(resolution.ok);
    let post = |edge: &&Edge| edge.kinds.contains(&Kind::Post);
    assert_eq!(resolution.edges.iter().find(post).unwrap().to.to_string(), "app-misc/tool-1.0");
}

#[test]
fn what_a_package_is_restricted_to_is_kept() {
    let resolution = recorded!("restricted");
    let words: Vec<String> = resolution
        .packages
        .iter()
        .map(|package| {
            let words = package.restrict.iter().chain(&package.properties).map(Word::as_str);
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(words, ["fetch", "interactive", "network-sandbox", "live"]);
    assert!(resolution.packages[0].sources().unwrap()[0].restrict.fetch);
}

/// What a recorded problem says, and the lines that it proposes: `LIST: LINE`, several with ` & ` between.
type Said = (Resolution, &'static str, &'static [&'static str]);

fn holds((resolution, said, remedies): Said) {
    assert!(!resolution.ok);
    let problems: Vec<String> = resolution.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems.join("\n"), said);
    let edit = |edit: &Edit| match edit.list {
        EditedList::Package(list) => format!("{}: {}", list.file(), edit.line),
        EditedList::Native(file) => format!("{file}: {}", edit.line),
    };
    let remedy = |remedy: &Remedy| remedy.iter().map(edit).collect::<Vec<_>>().join(" & ");
    let found: Vec<String> = resolution.problems.iter().flat_map(Problem::remedies).map(|r| remedy(&r)).collect();
    assert_eq!(found, remedies, "{said}");
}

#[test]
fn what_is_masked_says_by_what_and_how_to_take_it() {
    holds((
        recorded!("keyword"),
        "`refused/keyword-1` is masked: it is not stable here yet (`~amd64` keyword)\n    asked for as `refused/keyword`",
        &["package.accept_keywords: =refused/keyword-1 ~amd64"],
    ));
    holds((
        recorded!("arch"),
        "`own/never-1` is masked: it has no keyword for this architecture (KEYWORDS=`-*`)\n    asked for as `own/never`",
        &["package.accept_keywords: =own/never-1 **"],
    ));
    holds((
        recorded!("license"),
        "`refused/licence-1` is masked: its licence `bindery-EULA` is not accepted\n    asked for as `refused/licence`",
        &["package.license: =refused/licence-1 bindery-EULA"],
    ));
    holds((
        recorded!("mask"),
        "`own/masked-1` is masked: by `package.mask` (`profiles/package.mask` of tree `own`), which says: Jane Doe \
         <jane@example.org> (2026-01-02) Has a hole in it; removal in thirty days.\n    `own/wantmasked-1` wants \
         `own/masked`, asked for",
        &["package.unmask: =own/masked-1"],
    ));
    holds((
        recorded!("several"),
        "`own/several-1` is masked: its licence `own-EULA` is not accepted; it is not stable here yet (`~amd64` keyword)\n    \
         asked for as `own/several`",
        &["package.license: =own/several-1 own-EULA & package.accept_keywords: =own/several-1 ~amd64"],
    ));
    holds((
        recorded!("restrict"),
        "`own/restr-1` is masked: RESTRICT=`bindist` is not accepted\n    asked for as `own/restr`\n\
         `refused/interactive-1` is masked: PROPERTIES=`interactive` is not accepted\n    asked for as `refused/interactive`",
        &["package.accept_restrict: =own/restr-1 bindist", "package.properties: =refused/interactive-1 interactive"],
    ));
}

#[test]
fn an_ebuild_that_cannot_be_used_says_why_and_proposes_no_line() {
    for (resolution, said) in [
        (
            recorded!("eapi"),
            "`own/eapi-1` is masked: it needs EAPI 99, which the image's package manager does not know; that has to be newer\n    \
             asked for as `own/eapi`",
        ),
        (
            recorded!("corrupt"),
            "`own/corrupt-1` is masked: its ebuild cannot be read: broken\n    `own/deepcorrupt-1` wants `own/corrupt`, asked for",
        ),
        (
            recorded!("invalid"),
            "`own/invalid-1` is masked: its ebuild is not valid: RDEPEND: missing whitespace around ')' at '))', token 3\n    \
             asked for as `own/invalid`",
        ),
        (recorded!("unreadable"), "the ebuild of `app-misc/broken-1` cannot be read by the package manager"),
    ] {
        let advice = resolution.problems[0].advice();
        assert!(advice.is_none_or(|advice| advice.contains("mend the ebuild")), "{advice:?}");
        holds((resolution, said, &[]));
    }
}

#[test]
fn what_is_missing_says_who_wants_it_up_to_what_was_asked_for() {
    holds((
        recorded!("missing"),
        "no tree has `own/lob`\n    `own/deeper-1` wants `own/lob`, needed by `own/deep-1`, needed by `own/wantnone-1`, asked for\n\
         no tree has `other/serd`\n    `own/deeper-1` wants `other/serd`, needed by `own/deep-1`, needed by \
         `own/wantnone-1`, asked for\n\
         no tree has `no-such/package`\n    `own/deeper-1` wants `no-such/package`, needed by `own/deep-1`, needed by \
         `own/wantnone-1`, asked for",
        &[],
    ));
    holds((recorded!("unknown"), "no tree has `nope`\n    asked for as `nope`", &[]));
    holds((
        recorded!("version"),
        "no tree has a version that satisfies `>=own/slotted-7`; there is `own/slotted-1` (slot 1)\n    `own/wantver-1` wants \
         `>=own/slotted-7`, asked for",
        &[],
    ));
    holds((recorded!("ambiguous"), "`dup` is the name of several packages: `odd/dup`, `own/dup`; say which", &[]));
}

#[test]
fn use_flags_that_do_not_fit_say_which_and_for_whom() {
    holds((
        recorded!("use"),
        "`app-misc/hello-2.10` is needed with USE=`nls`\n    `refused/use-dependency-1` wants `app-misc/hello[nls]`, asked for",
        &["package.use: =app-misc/hello-2.10 nls"],
    ));
    holds((
        recorded!("use-conditional"),
        "`own/base-1` is needed with USE=`foo`\n    `own/usecond-1` wants `own/base[foo?]` because of USE=`foo`, asked for",
        &["package.use: =own/base-1 foo", "package.use: =own/usecond-1 -foo"],
    ));
    holds((
        recorded!("flag"),
        "nothing satisfies `own/base[zzz]`\n    `own/base-2` is masked: it is not stable here yet (`~amd64` keyword) and has no \
         USE flag `zzz`\n    `own/base-1` has no USE flag `zzz`\n    `own/usenone-1` wants `own/base[zzz]`, asked for",
        &[],
    ));
    holds((
        recorded!("use-masked"),
        "`own/forced-1` has USE flag `gui` masked (`use.mask`) by the Portage profile, and `own/forced[gui]` asks for it\n    \
         `own/usemask-1` wants `own/forced[gui]`, asked for",
        &["profile/package.use.mask: =own/forced-1 -gui & package.use: =own/forced-1 gui"],
    ));
    holds((
        recorded!("use-forced"),
        "`own/forced-1` has USE flag `text` forced (`use.force`) by the Portage profile, and `own/forced[-text]` asks for it\n    \
         `own/usetext-1` wants `own/forced[-text]`, asked for",
        &["profile/package.use.force: =own/forced-1 -text & package.use: =own/forced-1 -text"],
    ));
    holds((
        recorded!("use-conflict"),
        "`own/base-1` is needed with and without USE=`foo`\n    `own/slota-1` wants `own/base[foo]`, asked for\n    \
         `own/slotb-1` wants `own/base[-foo]`, asked for",
        &[],
    ));
}

#[test]
fn required_use_says_the_constraint_and_the_smallest_changes() {
    holds((
        recorded!("required-use"),
        "the USE flags of `refused/required-use-1` do not fulfil its REQUIRED_USE: `^^ ( gui text )`\n    asked for as \
         `refused/required-use`",
        &["package.use: =refused/required-use-1 gui", "package.use: =refused/required-use-1 text"],
    ));
    // What another package wants of its flags is part of the change.
    holds((
        recorded!("required-use-wanted"),
        "the USE flags of `own/required2-1` do not fulfil its REQUIRED_USE: `^^ ( gui text )`\n    `own/usereq-1` wants \
         `own/required2[gui]`, asked for",
        &["package.use: =own/required2-1 gui -text"],
    ));
}

#[test]
fn conflicts_say_who_wants_what() {
    holds((
        recorded!("slot"),
        "only one version of `own/lib:0` can be installed, and `own/lib-2` and `own/lib-1` are needed\n    `own/lib-2`: \
         `own/needs2-1` wants `>=own/lib-2`, needed by `own/top-1`, asked for\n    `own/lib-1`: `own/needs1-1` wants \
         `<own/lib-2`, needed by `own/top-1`, asked for",
        &[],
    ));
    holds((
        recorded!("blocker"),
        "`refused/blocker-1` cannot be installed together with `app-misc/hello` (`!!app-misc/hello`)\n    `refused/blocker-1`: \
         asked for as `refused/blocker`\n    `app-misc/hello-2.10`: `refused/blocker-1` wants `app-misc/hello`, asked for",
        &[],
    ));
    holds((
        recorded!("cycle"),
        "packages need each other before they can be built\n    `own/cyca-1` needs `own/cycb-1` to build (`own/cycb` because of \
         USE=`docs`)\n    `own/cycb-1` needs `own/cycc-1` to build (`own/cycc`)\n    `own/cycc-1` needs `own/cyca-1` to \
         build and to run (`own/cyca`)\n    asked for as `own/cyca`",
        &["package.use: =own/cyca-1 -docs"],
    ));
}

#[test]
fn what_is_wrong_all_at_once_is_all_told() {
    let kind = |problem: &Problem| serde_json::to_value(problem).unwrap()["kind"].as_str().unwrap().to_string();
    let kinds: Vec<String> = recorded!("at-once").problems.iter().map(kind).collect();
    assert_eq!(kinds, ["unsatisfied", "unsatisfied", "masked", "masked", "use", "slot", "blocker"]);
}

#[test]
fn what_is_no_question_of_packages_is_told_too() {
    for (resolution, said) in [
        (
            recorded!("malformed"),
            "`hello[` is not a package atom (as `app-misc/hello` or `=app-misc/hello-2.10`; with a version it starts with `=`, \
             `>=`, `<=`, `~`, `>` or `<`)",
        ),
        (
            recorded!("profile"),
            "there is no Portage profile at `/etc/portage/make.profile`; `portage-profile` has to name a folder below \
             `profiles/` of a tree",
        ),
        (
            recorded!("refused"),
            "the package manager refused: 'hello[' is not a valid package atom. !!! Please check ebuild(5) for full details. \
             !!! (Did you specify a version but forget to prefix with '='?)",
        ),
    ] {
        holds((resolution, said, &[]));
    }
}

#[test]
fn hostile_problems_are_refused_or_bounded() {
    let text = include_str!("recorded/keyword.json");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        match Resolution::parse(text.replace(from, to).as_bytes()) {
            Err(ResolutionError::Json(error)) => error.to_string(),
            Err(error) => error.to_string(),
            Ok(_) => "taken".to_string(),
        }
    };
    let one = text.split_once("\"problems\":[").unwrap().1.split_once("],\"more\"").unwrap().0;
    for (from, to, said) in [
        ("\"~amd64\"]", "\"~amd64\\nx\"]", "is not a word"),
        ("\"accept\":\"~amd64\"", "\"accept\":\"~amd64 =*/* **\"", "is not a word"),
        ("\"cpv\":\"refused/keyword-1\"", "\"cpv\":\"refused/keyword-1 **\"", "is not category/package-version"),
        ("\"by\":\"keyword\"", "\"by\":\"magic\"", "unknown variant `magic`"),
        ("\"kind\":\"masked\"", "\"kind\":\"masked\",\"evil\":1", "unknown field `evil`"),
        ("\"atom\":\"refused/keyword\"", "\"atom\":\"\\u001b[2J\"", "is not one line"),
        (one, &[one; 101].join(","), "names 101 problems"),
    ] {
        let error = with(from, to);
        assert!(error.contains(said), "{said}: {error}");
    }
    // However long a chain or a list is, what is shown of it is short.
    let link = "{\"atom\":\"refused/keyword\"}";
    let many = text.replace(link, &[link; 5000].join(","));
    let shown = Resolution::parse(many.as_bytes()).unwrap().problems[0].to_string();
    assert!(shown.len() < 1000, "{}", shown.len());
}

/// Returns the error for a recorded answer in which one text is replaced by another.
fn altered(from: &str, to: &str) -> String {
    let text = include_str!("recorded/file.json");
    assert!(text.contains(from), "{from}");
    let error = Resolution::parse(text.replace(from, to).as_bytes()).unwrap_err();
    match &error {
        ResolutionError::Json(source) => source.to_string(),
        _ => error.to_string(),
    }
}

#[test]
fn an_answer_that_is_altered_is_refused() {
    for (from, to, said) in [
        ("\"version\":1", "\"version\":2", "version 2, expected 1"),
        ("\"ok\":true", "\"ok\":false", "neither what is needed nor what stands in the way"),
        ("\"sub_slot\":", "\"evil\":1,\"sub_slot\":", "unknown field `evil`"),
        ("\"cpv\":\"app-arch/bzip2-1.0.8\"", "\"cpv\":\"../../x-1\"", "is not category/package-version"),
        ("\"cpv\":\"app-arch/bzip2-1.0.8\"", "\"cpv\":\"app-arch/other-1\"", "`app-arch/other-1` is not from"),
        ("\"cpv\":\"app-arch/bzip2-1.0.8\"", "\"cpv\":\"app-arch/xz-utils-5.8.1\"", "named twice"),
        ("\"repo\":\"bindery-test\"", "\"repo\":\"../x\"", "is not a name"),
        ("\"name\":\"file-5.46.tar.gz\"", "\"name\":\"../passwd\"", "is not the name of a source archive"),
        ("\"name\":\"file-5.46.tar.gz\"", "\"name\":\"-rf\"", "is not the name of a source archive"),
        ("\"size\":1312892", "\"size\":-1", "invalid value"),
        ("\"BLAKE2B\":\"", "\"BLAKE2B\":\"x", "a digest of `bzip2-1.0.8.tar.gz` is none"),
        ("\"to\":\"app-arch/bzip2-1.0.8\"", "\"to\":\"app-arch/bzip2-9\"", "one of them is unknown"),
        ("\"kinds\":[\"build\"", "\"kinds\":[\"magic\"", "unknown variant `magic`"),
        ("\"license\":\"", "\"license\":\"\\u001b[2J", "is not one line"),
    ] {
        let error = altered(from, to);
        assert!(error.contains(said), "{to}: {error}");
    }
}

#[test]
fn an_eclass_is_where_eclasses_are() {
    let eclass = |path: &str| format!("\"eclasses\":[{{\"name\":\"x\",\"path\":\"{path}\"}}]");
    let error = altered("\"eclasses\":[]", &eclass("/etc/shadow"));
    assert!(error.contains("inherits `x` from `/etc/shadow`"), "{error}");
    assert!(altered("\"eclasses\":[]", &eclass("/t/../eclass/x.eclass")).contains("without `..`"));
}

#[test]
fn an_answer_that_is_none_is_refused() {
    assert!(matches!(Resolution::parse(b" \n"), Err(ResolutionError::Empty)));
    assert!(matches!(Resolution::parse(b"!!! Traceback"), Err(ResolutionError::Json(_))));
    assert!(matches!(Resolution::parse(&vec![b' '; LIMIT + 1]), Err(ResolutionError::TooLong(_))));
    let deep = "[".repeat(100_000);
    assert!(matches!(Resolution::parse(deep.as_bytes()), Err(ResolutionError::Json(_))));
}
