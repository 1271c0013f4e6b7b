//! The files in `recorded/` are what `plan.py` printed inside a root with Portage 3.0.83: for the tree and the broken
//! tree in `tests/`, and `cycle-run`, `flag`, `mask`, `slot`, `unreadable` for ebuilds made for the purpose.

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

#[test]
fn every_problem_says_what_to_change() {
    for (resolution, said) in [
        (recorded!("unknown"), "no tree has `nope`"),
        (
            recorded!("missing"),
            "no tree has `no-such/package`, needed by `refused/unsatisfiable-1`; add a tree that has it to `trees`",
        ),
        (
            recorded!("keyword"),
            "`refused/keyword-1` is masked by: ~amd64 keyword; add `=refused/keyword-1 ~amd64` to `package.accept-keywords`",
        ),
        (
            recorded!("license"),
            "`refused/licence-1` is masked by: bindery-EULA license(s); add `=refused/licence-1 bindery-EULA` to `package.license`",
        ),
        (
            recorded!("mask"),
            "`app-misc/maskd-1`, needed by `app-misc/depmask-1`, is masked by: package.mask; add `=app-misc/maskd-1` to `package.unmask`",
        ),
        (
            recorded!("required-use"),
            "the USE flags of `refused/required-use-1` do not fulfil `^^ ( gui text )`: change them in `package.use`",
        ),
        (
            recorded!("use"),
            "`app-misc/hello-2.10` is needed with USE=`nls`: add `=app-misc/hello-2.10 nls` to `package.use`",
        ),
        (
            recorded!("flag"),
            "`dev-libs/libfoo-1.0`, needed by `app-misc/useless-1`, has no USE flag `zzz`, and `dev-libs/libfoo[zzz]` asks for it",
        ),
        (
            recorded!("slot"),
            "only one version of `dev-libs/multi:0` can be installed, and `dev-libs/multi-1` and `dev-libs/multi-2` are needed",
        ),
        (
            recorded!("blocker"),
            "`refused/blocker-1` cannot be installed together with `app-misc/hello`: leave one of them out",
        ),
        (
            recorded!("cycle"),
            "packages need each other before they can be built: `refused/cycle-a-1` needs `refused/cycle-b-1` needs \
             `refused/cycle-a-1`; switch off a USE flag of one",
        ),
        (recorded!("unreadable"), "the ebuild of `app-misc/broken-1` cannot be read by the package manager"),
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
        assert!(!resolution.ok);
        let problems: Vec<String> = resolution.problems.iter().map(Problem::to_string).collect();
        assert_eq!(problems, [said]);
    }
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
