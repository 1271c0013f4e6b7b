//! What a profile must not say, and what its author is told.

use super::*;

/// Returns what the author of a profile with these lines is shown.
fn wrong(text: &str) -> String {
    Project::new(&[("p", &format!("{BASE}{text}"))]).complaint("p")
}

#[test]
fn an_unknown_profile_is_answered_with_the_known_ones() {
    let error = Project::new(&[("zen4", BASE)]).load("zne4").unwrap_err();
    assert_eq!(error.to_string(), "there is no profile `zne4`");
    assert!(error.diagnostic().is_none());
    assert_eq!(
        error.hints()[..2],
        [
            "did you mean `zen4`?",
            "known profiles: `amd64`, `arm64`, `armv7`, `i686`, `ppc64le`, `riscv64`, `s390x`, `sparc64`, `x86-64-v2`, \
             `x86-64-v3`, `x86-64-v4`, `zen4`"
        ]
    );
}

#[test]
fn an_unknown_parent_is_shown_where_it_is_named() {
    let text = wrong("inherits = [\n  \"amd64\",\n  \"zen3\",\n]\n");
    let text: Vec<&str> = text.lines().filter(|line| !line.contains("searched for")).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    error: there is no profile `zen3`
     --> profiles/p.toml:6:3
      |
    6 |   "zen3",
      |   ^^^^^^ expected the name of a profile
      |
      = help: known profiles: `amd64`, `arm64`, `armv7`, `i686`, `p`, `ppc64le`, `riscv64`, `s390x`, `sparc64`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`
    "#);
}

#[test]
fn a_profile_that_inherits_itself_is_shown_its_chain() {
    let project = Project::new(&[
        ("a", "version = 1\ninherits = \"b\"\n"),
        ("b", "version = 1\ninherits = \"c\"\n"),
        ("c", "version = 1\ninherits = [\"amd64\", \"b\"]\n"),
    ]);
    insta::assert_snapshot!(project.complaint("a"), @r#"
    error: profile `b` inherits itself
     --> profiles/c.toml:2:22
      |
    2 | inherits = ["amd64", "b"]
      |                      ^^^ b → c → b
    "#);
    insta::assert_snapshot!(Project::new(&[("a", "version = 1\ninherits = \"a\"\n")]).complaint("a"), @r#"
    error: profile `a` inherits itself
     --> profiles/a.toml:2:12
      |
    2 | inherits = "a"
      |            ^^^ a → a
    "#);
}

#[test]
fn inheritance_has_an_end() {
    let profiles: Vec<(String, String)> =
        (0..100).map(|i| (format!("p{i}"), format!("version = 1\ninherits = \"p{}\"\n", i + 1))).collect();
    let profiles: Vec<(&str, &str)> = profiles.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert!(Project::new(&profiles).complaint("p0").contains("more than 32 profiles inherit each other"));
}

#[test]
fn a_misspelt_key_is_named() {
    insta::assert_snapshot!(wrong("[flags]\ncflag = \"-O2\"\n"), @r#"
    error: unknown field `cflag`, expected one of `cflags`, `cxxflags`, `fflags`, `fcflags`, `ldflags`, `rustflags`, `goflags`, `cpu-flags`
     --> profiles/p.toml:5:1
      |
    5 | cflag = "-O2"
      | ^^^^^
    "#);
}

#[test]
fn a_wrong_type_is_named() {
    insta::assert_snapshot!(wrong("use = \"nls\"\n"), @r#"
    error: invalid type: string "nls", expected a sequence
     --> profiles/p.toml:4:7
      |
    4 | use = "nls"
      |       ^^^^^
    "#);
}

#[test]
fn an_unknown_backend_is_named() {
    insta::assert_snapshot!(wrong("backend = \"paludi\"\n"), @r#"
    error: unknown variant `paludi`, expected `portage`
     --> profiles/p.toml:4:11
      |
    4 | backend = "paludi"
      |           ^^^^^^^^
    "#);
}

#[test]
fn a_bad_atom_in_a_set_is_named() {
    insta::assert_snapshot!(wrong("[sets]\nworld = [\"app-misc/hello\", \"$(id)\"]\n"), @r#"
    error: `$(id)` is not an atom or set (as `app-misc/hello`, `=app-misc/hello-2.10` or `@world`)
     --> profiles/p.toml:5:9
      |
    5 | world = ["app-misc/hello", "$(id)"]
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn a_bad_unit_is_named() {
    insta::assert_snapshot!(wrong("[limits]\nmemory = \"4 gigs\"\n"), @r#"
    error: `4 gigs` is not a size (a number and a unit, as "512MiB" or "4GiB")
     --> profiles/p.toml:5:10
      |
    5 | memory = "4 gigs"
      |          ^^^^^^^^
    "#);
    insta::assert_snapshot!(wrong("[limits]\nmemory = 4\n"), @r#"
    error: invalid type: integer `4`, expected a quantity with its unit in quotes, as "4GiB" or "30min"
     --> profiles/p.toml:5:10
      |
    5 | memory = 4
      |          ^
    "#);
    insta::assert_snapshot!(wrong("[limits]\nsilence = \"off\"\n"), @r#"
    error: `off` is not a length of time (as "90s", "30min" or "2h")
     --> profiles/p.toml:5:11
      |
    5 | silence = "off"
      |           ^^^^^
    "#);
}

#[test]
fn limits_that_mean_nothing_are_refused() {
    for (limits, why) in [
        ("swap = \"1GiB\"", "swap is limited together with memory"),
        ("cpuset = \"3-1\"", "`3-1` is not a list of processors"),
        ("io-weight = 5", "`5` is not from 10 to 1000"),
        ("cpus = 0", "is not a number of processors"),
        ("pids = 0", "expected a nonzero u32"),
        ("yield = \"yes\"", "expected a boolean"),
    ] {
        let error = wrong(&format!("[limits]\n{limits}\n"));
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_tree_that_nobody_defines_is_named() {
    insta::assert_snapshot!(wrong("trees = [\"tree\", \"tre\"]\n"), @r#"
    error: there is no tree `tre`
     --> profiles/p.toml:4:18
      |
    4 | trees = ["tree", "tre"]
      |                  ^^^^^ expected a tree that `bindery.toml` names
      |
      = help: did you mean `tree`?
      = help: known trees: `tree`
      = help: say where it is in `bindery.toml`: [trees.tre] and path = "FOLDER"
    "#);
    insta::assert_snapshot!(wrong("trees = [\"tree\", \"tree\"]\n"), @r#"
    error: tree `tree` is listed twice
     --> profiles/p.toml:4:18
      |
    4 | trees = ["tree", "tree"]
      |                  ^^^^^^ expected each tree once
    "#);
    insta::assert_snapshot!(wrong("trees = []\n"), @r"
    error: a profile needs a tree
     --> profiles/p.toml:4:9
      |
    4 | trees = []
      |         ^^ expected at least one name
    ");
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let text = wrong("image = \"imgg\"\n");
    assert!(text.contains("there is no image `imgg`") && text.contains("did you mean `img`?"), "{text}");
}

#[test]
fn an_arch_that_does_not_go_with_the_chost_is_named() {
    insta::assert_snapshot!(wrong("arch = \"arm64\"\n"), @r#"
    error: arch `arm64` does not go with chost `x86_64-pc-linux-gnu`
     --> profiles/p.toml:4:8
      |
    4 | arch = "arm64"
      |        ^^^^^^^ expected `amd64`
      |
      = help: `chost` is said in profiles/p.toml:2
    "#);
}

#[test]
fn a_newer_version_is_refused_before_its_news() {
    insta::assert_snapshot!(Project::new(&[("p", "version = 2\nnews = 1\n")]).complaint("p"), @r"
    error: this bindery does not read that version
     --> profiles/p.toml:1:11
      |
    1 | version = 2
      |           ^ expected 1
      |
      = help: it was written for another bindery: use that one
    ");
}

#[test]
fn a_missing_chost_is_asked_for() {
    insta::assert_snapshot!(Project::new(&[("p", "version = 1\nportage-profile = \"x\"\n")]).complaint("p"), @r#"
    error: profile `p` has no `chost`
    --> profiles/p.toml
     = help: add `chost = "x86_64-pc-linux-gnu"` to it or to a profile that it inherits
    "#);
}

#[test]
fn a_variable_with_a_key_of_its_own_is_refused() {
    insta::assert_snapshot!(wrong("[env]\nCFLAGS = \"-O3\"\n"), @r#"
    error: `CFLAGS` is not a variable that a profile may set (letters, digits, `_`; not one that bindery sets, or a key of its own says)
     --> profiles/p.toml:5:1
      |
    5 | CFLAGS = "-O3"
      | ^^^^^^
    "#);
}

#[test]
fn text_that_would_leave_its_line_is_refused() {
    for text in [
        "[env]\nX = \"a\\nROOT=/\"",
        "[env]\n\"X=1\\nY\" = \"a\"",
        "use = [\"a\\nb\"]",
        "[flags]\ncflags = \"-O2\\u001b[2J\"",
        "[flags]\nldflags = \"$(touch /x)\"",
        "[package]\nuse = [\"a/b c\\n*/* d\"]",
        "features = [\"x\\\"\"]",
        "mirrors = [\"https://x/\\n\"]",
        "accept-keywords = [\"`x`\"]",
        "chost = \"x\\ny-z-a\"",
        "[sets]\n\"../x\" = []",
        "description = \"a\\rb\"",
        "patches = \"a\\nb\"",
    ] {
        let project = Project::new(&[("p", &format!("version = 1\n{text}\n"))]);
        assert!(project.complaint("p").contains("-->"), "{text}");
    }
}

#[test]
fn a_patches_folder_must_be_there_and_a_portage_profile_in_a_listed_tree() {
    insta::assert_snapshot!(wrong("patches = \"fixes\"\n"), @r#"
    error: there is no folder `fixes`
     --> profiles/p.toml:4:11
      |
    4 | patches = "fixes"
      |           ^^^^^^^ expected a folder, from the folder of this file
    "#);
    let text = "version = 1\nchost = \"x86_64-pc-linux-gnu\"\nportage-profile = \"gentoo:default\"\n";
    insta::assert_snapshot!(Project::new(&[("p", text)]).complaint("p"), @r#"
    error: the Portage profile is in tree `gentoo`, which is none of this profile's trees
     --> profiles/p.toml:3:19
      |
    3 | portage-profile = "gentoo:default"
      |                   ^^^^^^^^^^^^^^^^ expected one of `tree`
    "#);
}

#[test]
fn hostile_bytes_are_an_error_and_no_panic() {
    for text in [
        "",
        "version",
        "version = 1\n[",
        "version = \"1\"",
        "version = -1",
        "version = 99999999999999999999",
        "\u{feff}version = 1",
        "ä = \"",
        "version = 1\ninherits = 1",
        "version = 1\ninherits = [[]]",
    ] {
        let project = Project::new(&[("p", text)]);
        let error = project.load("p").unwrap_err();
        if let Some(diagnostic) = error.diagnostic() {
            diagnostic.render(true);
        }
    }
    let deep = format!("version = 1\nuse = {}", "[".repeat(100_000));
    assert!(Project::new(&[("p", &deep)]).load("p").is_err());
    let project = Project::new(&[("p", "")]);
    fs::write(&project.0.path().join("profiles/p.toml"), b"version = 1\n\xff\xfe").unwrap();
    assert!(matches!(project.load("p"), Err(ProfileError::Path(_))));
}

#[test]
fn a_level_or_feature_that_nobody_knows_is_shown_with_those_there_are() {
    insta::assert_snapshot!(wrong("key = \"k\"\n[isa]\nlevel = \"x86-64-v22\"\n"), @r#"
    error: there is no level `x86-64-v22`
     --> profiles/p.toml:6:9
      |
    6 | level = "x86-64-v22"
      |         ^^^^^^^^^^^^ expected a level, or a processor as GCC's `-march=` names it
      |
      = help: did you mean `x86-64-v2`?
      = help: levels are `x86-64`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`
    "#);
    let feature = wrong("key = \"k\"\n[isa]\nfeatures = [\"avx3\"]\n");
    assert!(feature.contains("no x86 processor has a feature `avx3`"), "{feature}");
    let arm = "version = 1\nchost = \"aarch64-unknown-linux-gnu\"\nportage-profile = \"default\"\nkey = \"k\"\n";
    let arm = Project::new(&[("arm", &format!("{arm}[isa]\nlevel = \"x86-64\"\n"))]).complaint("arm");
    assert!(arm.contains("levels are of x86 processors; what `aarch64-unknown-linux-gnu` needs follows"), "{arm}");
    for (text, said) in [
        ("package = \"a-b\"\nfile = \"/x\"\nreason = \"r\"", "`a-b` is not a package without version"),
        ("package = \"a/b\"\nfile = \"x\"\nreason = \"r\"", "`x` is not a file's absolute path"),
        ("package = \"a/b\"\nfile = \"/x\"\nreason = \" \"", "is not a reason on one line"),
        ("package = \"a/b\"\nfile = \"/x\"", "missing field `reason`"),
    ] {
        let shown = wrong(&format!("key = \"k\"\n[[isa.exceptions]]\n{text}\n"));
        assert!(shown.contains(said), "{shown}");
    }
}
