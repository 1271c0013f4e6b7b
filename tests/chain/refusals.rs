//! What is refused before anything is built: each with its exit code, what it is about, and the way out.

use std::path::Path;

use crate::bench::{Bench, Said, Who, tool};

#[test]
fn an_unknown_name_is_told_with_what_was_probably_meant() {
    let bench = Bench::bare(Who::Me, "refusals-names");
    let hello = "app-misc/hello";
    let profiles = "`amd64`, `arm64`, `armv7`, `i686`, `ppc64le`, `refusals-names`, `riscv64`, `s390x`, `sparc64`, `x86-64-v2`, \
                    `x86-64-v3`, `x86-64-v4`";
    let known = ["did you mean `amd64`?", profiles, "searched for `adm64.toml` in"];
    bench.run(&["build", "--profile", "adm64", hello]).fails(1, &["there is no profile `adm64`"]).fails(1, &known);

    bench.write_profile("image = \"debian-portag\"\n");
    let place = format!("profiles/{}.toml:4:9", bench.profile);
    let texts = ["there is no image `debian-portag`", &place, "did you mean `debian-portage`?", "known images:"];
    bench.build(&[hello]).fails(1, &texts);
    let texts = ["there is no image `debian-portag`", "known are `debian-portage`", "definitions are looked for in"];
    bench.run(&["run", "--image", "debian-portag", "--", "true"]).fails(125, &texts);

    bench.write_profile("trees = [\"bindery-tset\"]\n");
    bench.build(&[hello]).fails(1, &["`bindery-tset`", "did you mean `bindery-test`?"]);

    bench.write_profile("[sets]\nfriends = [\"app-misc/hello\"]\n");
    bench.build(&["@freinds"]).fails(1, &["there is no set `@freinds`", "did you mean `@friends`?", "[sets]"]);
    bench
        .build(&[])
        .fails(1, &["there is no set `@world`", "known sets: `friends`", "[sets] of `bindery.toml` or of a profile"]);
    bench.build(&["app misc"]).fails(2, &["`app misc` is not an atom or set (as `app-misc/hello`"]);
    bench.build(&["../../etc/passwd"]).fails(2, &["is not an atom"]);
}

#[test]
fn an_unknown_key_is_told_with_how_to_make_it() {
    let bench = Bench::alone("refusals-key");
    bench.write_profile("key = \"mine\"\n");
    let texts = ["there is no key `mine` in `", "make one with `bindery key new mine`"];
    bench.build(&["app-misc/hello"]).fails(1, &texts);
    bench.run(&["key", "show", "mine"]).fails(1, &texts);
    let uri = ["--uri", "http://host:8478/x", "--output", "/nowhere/client"];
    bench.run(&[&["client", "config", "--profile", &bench.profile], &uri[..]].concat()).fails(1, &texts);
    bench.run(&["verify", "/nowhere/x-1-1.gpkg.tar"]).fails(1, &["no key to check signatures with", "--key FILE"]);

    bench.run(&["key", "new", "mine"]).works();
    let fingerprint = bench.run(&["key", "show", "mine"]).out;
    let texts = ["there is a key `mine` already", "never overwritten", "choose another name"];
    bench.run(&["key", "new", "mine"]).fails(1, &texts);
    assert_eq!(bench.run(&["key", "show", "mine"]).out, fingerprint);

    let uri = ["--uri", "ftp://host/x", "--output", "/nowhere/client"];
    let said = bench.run(&[&["client", "config", "--profile", &bench.profile], &uri[..]].concat());
    said.fails(1, &["`ftp://host/x` is not where a client finds packages", "`file:///…`"]);
}

#[test]
fn a_wrong_profile_is_shown_with_line_and_caret() {
    let bench = Bench::alone("refusals-profile");
    bench.write("profiles/self.toml", "version = 1\ninherits = \"self\"\n");
    bench.write("profiles/one.toml", "version = 1\ninherits = \"two\"\n");
    bench.write("profiles/two.toml", "version = 1\ninherits = \"one\"\n");
    bench.write("profiles/typo.toml", "version = 1\ninherits = \"amd64\"\n[flags]\ncflag = \"-O2\"\n");
    bench.write("profiles/limit.toml", "version = 1\ninherits = \"amd64\"\n[limits]\nmemory = \"lots\"\n");
    for (name, texts) in [
        ("self", ["profile `self` inherits itself", "self.toml:2:12", "^^^^^^ self → self"]),
        ("one", ["inherits itself", "two.toml:2:12", "one → two → one"]),
        ("typo", ["unknown field `cflag`, expected one of `cflags`", "typo.toml:4:1", "| ^^^^^"]),
        ("limit", ["`lots`", "limit.toml:4:10", "| memory = \"lots\""]),
    ] {
        bench.run(&["profile", "check", name]).fails(1, &texts);
        bench.run(&["build", "--profile", name, "app-misc/hello"]).fails(1, &texts);
        bench.run(&["run", "--profile", name, "--", "true"]).fails(125, &texts);
    }
    // All of them: every one is told, and the good ones too.
    let texts = ["profile `self` inherits itself", "`cflag`", "`lots`"];
    bench.run(&["profile", "check"]).fails(1, &texts).prints(&["amd64: good"]);
    bench.run(&["profile", "check", "amd64", "x86-64-v3"]).works();
}

#[test]
fn a_new_profile_is_written_once_and_can_be_used() {
    let bench = Bench::alone("refusals-new");
    let said = bench.run(&["profile", "new", "mine", "--from-host"]);
    let file = bench.config.path().join("profiles/mine.toml");
    said.works();
    assert!(said.err.contains("wrote profile mine, which inherits amd64") && said.err.contains("mine.toml"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    bench.run(&["profile", "check", "mine"]).works();
    bench.run(&["profile", "show", "mine"]).works().prints(&["-march=x86-64", "profiles/mine.toml:", "sse2"]);
    bench.run(&["profile", "list"]).works().prints(&["mine "]);

    let texts = ["there is a profile `mine` already", "mine.toml`: it is never overwritten", "choose another name"];
    bench.run(&["profile", "new", "mine", "--from-host"]).fails(1, &texts);
    bench.run(&["profile", "new", "mine", "--like", "amd64"]).fails(1, &texts);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let texts = ["there is a profile `amd64` already, in `<bindery>/profiles/amd64.toml`", "`--like amd64` writes one"];
    bench.run(&["profile", "new", "amd64", "--from-host"]).fails(1, &texts);

    let said = bench.run(&["--json", "profile", "new", "second", "--like", "mine"]);
    let json: serde_json::Value = serde_json::from_str(&said.works().out).unwrap();
    assert_eq!((&json["name"], &json["inherits"]), (&"second".into(), &"mine".into()));
    assert_eq!(json["path"].as_str().map(Path::new), Some(file.with_file_name("second.toml").as_path()));
    bench.run(&["profile", "show", "second"]).works().prints(&["profiles/mine.toml:", "description = \"like mine\""]);

    let texts = ["there is no profile `mien`", "did you mean `mine`?"];
    bench.run(&["profile", "new", "third", "--like", "mien"]).fails(1, &texts);
    bench.write("profiles/wrong.toml", "version = 1\ninherits = \"amd64\"\ncolour = 1\n");
    bench.run(&["profile", "new", "third", "--like", "wrong"]).fails(1, &["unknown field `colour`", "wrong.toml:3:1"]);
    assert!(!file.with_file_name("third.toml").exists());
    for args in [&["../x", "--from-host"][..], &["a b", "--from-host"], &["x"], &["x", "--from-host", "--like", "mine"]]
    {
        bench.run(&[&["profile", "new"], args].concat()).fails(2, &["error: "]);
    }
}

#[test]
fn without_a_folder_of_their_own_new_profiles_are_the_users() {
    let bench = Bench::alone("refusals-own");
    let mut command = bench.command(&["profile", "new", "mine", "--from-host"]);
    let config = std::fs::read_to_string(bench.config.path().join("bindery.toml")).unwrap();
    std::fs::create_dir_all(bench.state.join("etc")).unwrap();
    std::fs::write(bench.state.join("etc/bindery.toml"), config).unwrap();
    let said: Said = command.env_remove("BINDERY_CONFIG").output().unwrap().into();
    said.works();
    assert!(bench.state.join("etc/profiles/mine.toml").is_file(), "{said}");
    let said: Said = bench.command(&["profile", "show", "mine"]).env_remove("BINDERY_CONFIG").output().unwrap().into();
    said.works().prints(&["etc/profiles/mine.toml"]);
}

#[test]
fn what_profiles_cost_is_told_of_those_there_are() {
    let bench = Bench::alone("refusals-cost");
    bench.run(&["profile", "cost"]).works().prints(&["nothing was built yet"]);
    bench.run(&["profile", "cost", "amd64"]).works().prints(&["profile  packages", "amd64    0", "amd64: needed by"]);
    bench.run(&["profile", "cost", "amd46"]).fails(1, &["there is no profile `amd46`", "did you mean `amd64`?"]);
    let said = bench.run(&["--json", "profile", "cost"]);
    let json: serde_json::Value = serde_json::from_str(&said.works().out).unwrap();
    assert_eq!(json, serde_json::json!({"version": 1, "profiles": [], "overlaps": []}));
}

#[test]
fn run_passes_the_status_on_and_has_codes_of_its_own() {
    let bench = Bench::new("refusals-run");
    let run = |command: &[&str]| bench.run(&[&["run", "--image", "debian-portage", "--"], command].concat());
    assert_eq!(run(&["sh", "-c", "echo out; echo err >&2"]).works().out, "out\n");
    run(&["sh", "-c", "echo err >&2; exit 42"]).fails(42, &["err\n"]);
    run(&["sh", "-c", "kill -TERM $$"]).fails(128 + 15, &[]);
    run(&["sh", "-c", "kill -KILL $$"]).fails(128 + 9, &[]);
    run(&["no-such-command"]).fails(127, &["cannot start `no-such-command` in the root: No such file"]);
    run(&["/etc/passwd"]).fails(126, &["cannot start `/etc/passwd` in the root: Permission denied"]);
    bench.run(&["run", "--", "true"]).fails(125, &["`--root DIR` or `--bundle DIR` says what to run in"]);
    let binds = ["run", "--image", "debian-portage", "--ro-bind", "/no/such:/mnt", "--", "true"];
    bench.run(&binds).fails(125, &["`/no/such`", "No such file"]);
    // A command that cannot be started leaves nothing for the next one to clean up.
    run(&["no-such-command"]).fails(127, &[]).lacks("removed what a dead process left");
}

#[test]
fn a_package_file_that_is_not_what_was_signed_is_refused() {
    let bench = Bench::new("refusals-verify");
    bench.write_broken_profile("", "");
    bench.build(&["guarded/secrets"]).works();
    let package = bench.profile_dir().join("current/guarded/secrets/secrets-1-1.gpkg.tar");
    let good = package.to_str().unwrap();
    bench.run(&["verify", good, "--profile", &bench.profile]).works();

    let bytes = std::fs::read(&package).unwrap();
    let manifest = bytes.windows(15).position(|w| w == b"\nDATA image.tar").unwrap();
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        let dir = tempfile::tempdir_in(bench.config.path()).unwrap();
        let file = dir.path().join("secrets-1-1.gpkg.tar");
        std::fs::write(&file, bytes).unwrap();
        let said = bench.run(&["verify", good, file.to_str().unwrap()]);
        // The good one beside it is good all the same.
        said.fails(3, &["1 of 2 files refused"]);
        said.prints(&["secrets-1-1.gpkg.tar: refused:", "secrets-1-1.gpkg.tar: good"]);
        said.out
    };
    // In what the Manifest says, and in every tenth of the file.
    assert!(flipped(manifest + 20).contains("is BAD"));
    for tenth in 0..10 {
        flipped(bytes.len() * tenth / 10);
    }

    let dir = tempfile::tempdir_in(bench.config.path()).unwrap();
    let unsigned = crate::client::unsigned(&package, dir.path());
    bench.run(&["verify", unsigned.to_str().unwrap()]).fails(3, &[]).prints(&["refused: it is not signed"]);

    let stranger = Bench::alone("refusals-stranger");
    stranger.run(&["key", "new", "default"]).works();
    stranger.run(&["verify", good]).fails(3, &[]).prints(&[
        "refused:",
        "it is signed by the key",
        "which is not known",
    ]);
    let missing = ["/no/such-1-1.gpkg.tar: refused:", "No such file"];
    bench.run(&["verify", "/no/such-1-1.gpkg.tar"]).fails(3, &[]).prints(&missing);
}

#[test]
fn an_altered_image_is_told_with_how_to_make_it_again() {
    let bench = Bench::new("refusals-image");
    let alone = Bench::alone("refusals-image");
    let images = alone.state.join("state/images");
    std::fs::create_dir_all(&images).unwrap();
    for file in ["blobs", "index.json", "oci-layout", "debian-portage.lock"] {
        let from = bench.state.join("state/images").join(file);
        tool("cp", &["-r", from.to_str().unwrap(), images.to_str().unwrap()]);
    }
    let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let blob = |described: &serde_json::Value| {
        images.join("blobs").join(described["digest"].as_str().unwrap().replace(':', "/"))
    };
    let index = read(&images.join("index.json"));
    let mut manifests = index["manifests"].as_array().unwrap().iter();
    let named = |one: &&serde_json::Value| one["annotations"]["org.opencontainers.image.ref.name"] == "debian-portage";
    let layer = blob(&read(&blob(manifests.find(named).unwrap()))["layers"][0]);
    let mut bytes = std::fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&layer, &bytes).unwrap();
    let again = "`bindery image make debian-portage` makes it again";
    let texts = ["the image `debian-portage`", layer.file_name().unwrap().to_str().unwrap(), again];
    alone.run(&["run", "--image", "debian-portage", "--", "true"]).fails(125, &texts);
    alone.run(&["key", "new", "default"]).works();
    alone.build(&["app-misc/hello"]).fails(4, &texts);
    alone.run(&["image", "show", "debian-portage"]).fails(4, &texts);
}

#[test]
fn what_cannot_be_planned_is_told_with_what_to_change() {
    let bench = Bench::new("refusals-plan");
    bench.write_broken_profile("", "");
    for (asked, texts) in [
        ("app-misc/hellp", vec!["no tree has `app-misc/hellp`", "did you mean `app-misc/hello`?"]),
        ("hellp", vec!["no tree has `hellp`", "did you mean `app-misc/hello`?"]),
        (
            "refused/unsatisfiable",
            vec![
                "no tree has `no-such/package`\n    `refused/unsatisfiable-1` wants `no-such/package`, asked for\n    add a \
                 tree that has it to `trees`",
            ],
        ),
        (
            "refused/cycle-a",
            vec![
                "packages need each other before they can be built\n    `refused/cycle-a-1` needs `refused/cycle-b-1` to \
                 build and to run",
            ],
        ),
        ("refused/required-use", vec!["`refused/required-use-1`", "`^^ ( gui text )`", "`package.use`"]),
        ("refused/licence", vec!["add `=refused/licence-1 bindery-EULA` to `package.license`"]),
        ("refused/keyword", vec!["`~amd64` keyword", "add `=refused/keyword-1 ~amd64` to `package.accept-keywords`"]),
        ("refused/use-dependency", vec!["add `=app-misc/hello-2.10 nls` to `package.use`"]),
        (
            "refused/blocker",
            vec!["`refused/blocker-1` cannot be installed together with `app-misc/hello`", "leave one of them out"],
        ),
    ] {
        let said = bench.build(&[asked, "--pretend"]);
        said.fails(1, &texts).lacks(&format!("did you mean `{asked}`"));
    }
    bench.write_broken_profile("", "[package]\nmask = [\"app-misc/hello\"]\n");
    let masked = ["`app-misc/hello-2.10`", "package.mask", "add `=app-misc/hello-2.10` to `package.unmask`"];
    bench.build(&["app-misc/hello"]).fails(1, &masked);
    // What the messages say to change is what helps.
    bench.write_broken_profile(
        "",
        "[package]\nuse = [\"=refused/required-use-1 gui\", \"=app-misc/hello-2.10 nls\"]\n\
         accept-keywords = [\"=refused/keyword-1 ~amd64\"]\nlicense = [\"=refused/licence-1 bindery-EULA\"]\n\
         mask = [\"app-misc/hello\"]\nunmask = [\"=app-misc/hello-2.10\"]\n",
    );
    let all = ["refused/required-use", "refused/licence", "refused/keyword", "refused/use-dependency"];
    bench.build(&[&all[..], &["--pretend"]].concat()).works();
}

#[test]
fn an_ebuild_that_cannot_be_honoured_is_refused_before_anything_is_built() {
    let bench = Bench::new("refusals-ebuild");
    bench.write_broken_profile("", "");
    let asked = ["refused/interactive", "refused/live", "refused/network", "refused/fetch", "guarded/secrets"];
    let distfiles = format!("the folder of distfiles is `{}`", bench.state.join("cache/distfiles").display());
    let texts = [
        "`refused/interactive-1` asks questions while it is built (PROPERTIES=interactive)",
        "`refused/live-9999` is a live ebuild",
        "take a released version",
        "`refused/network-1` wants the network while it is built (RESTRICT=network-sandbox)",
        "`refused/fetch-1` may not be fetched automatically (RESTRICT=fetch): get `fetch-1.tar.gz`",
        &distfiles,
    ];
    bench.build(&asked).fails(1, &texts).lacks("] building");
    assert!(!bench.profile_dir().join("current").exists());
}

#[test]
fn a_missing_or_altered_archive_is_fetched_or_told_with_every_address() {
    let bench = Bench::new("refusals-archive");
    let name = "bindery-test-own-1.tar.gz";
    let cached = bench.state.join("cache/distfiles").join(name);
    let _ = std::fs::remove_file(&cached);
    let archive = bench.write(&format!("mirror/{name}"), "the archive\n");
    let sum = |program: &str| tool(program, &[archive.to_str().unwrap()]).split(' ').next().unwrap().to_string();
    // Nobody listens there.
    let uri = format!("http://127.0.0.1:9/{name}");
    bench.write_tree(&[(
        "archive",
        &format!("SRC_URI=\"{uri}\"\nsrc_unpack() {{ grep -q archive \"${{DISTDIR}}/{name}\" || die; }}\n"),
    )]);
    let (blake2b, sha512) = (sum("b2sum"), sum("sha512sum"));
    bench.write("own/own/archive/Manifest", &format!("DIST {name} 12 BLAKE2B {blake2b} SHA512 {sha512}\n"));
    let profile = |folder: &str, cflags: &str| {
        let folder = bench.config.path().join(folder);
        let more = format!("mirrors = [\"{}\"]\n[flags]\ncflags = \"{cflags}\"\n", folder.display());
        bench.write_broken_profile(", \"own\"", &more);
        folder.join(name).display().to_string()
    };
    std::fs::create_dir(bench.config.path().join("empty")).unwrap();
    let empty = profile("empty", "-O1");
    let by_hand = format!("get it by hand and put it at `{}`", cached.display());
    let cannot = format!("`{name}` cannot be fetched:");
    let texts = [&*cannot, &*empty, &*uri, "expected: 12 bytes", &*blake2b, &*sha512, &*by_hand];
    bench.build(&["own/archive"]).fails(1, &texts).lacks("] building");

    profile("mirror", "-O1");
    bench.build(&["own/archive"]).works();
    assert_eq!(std::fs::read(&cached).unwrap(), b"the archive\n");

    // Altered, not only cut short.
    std::fs::write(&cached, "The archive\n").unwrap();
    profile("empty", "-O2");
    let altered = format!("`{}` is there, but", cached.display());
    bench.build(&["own/archive"]).fails(1, &[&*cannot, &*altered, &*by_hand, &*empty]).lacks("] building");
    profile("mirror", "-O2");
    let said = bench.build(&["own/archive"]);
    assert!(said.works().err.contains("is not the archive that the Manifest lists"), "{said}");
    assert_eq!(std::fs::read(&cached).unwrap(), b"the archive\n");
    // A mirror's archive is believed no more.
    bench.write(&format!("mirror/{name}"), "The archive\n");
    std::fs::remove_file(&cached).unwrap();
    profile("mirror", "-O3");
    bench.build(&["own/archive"]).fails(1, &[&*cannot, &*uri, &*by_hand]);
    assert!(!cached.exists());
}

#[test]
fn two_binderies_do_not_build_for_one_profile() {
    let bench = Bench::new("refusals-two");
    bench.write_broken_profile("", "");
    let running = bench.start(&["build", "--profile", &bench.profile, "endless/noisy"], "building endless/noisy-1");
    let texts = ["is locked by process ", "another bindery is at work there; wait for it or stop it"];
    bench.build(&["guarded/secrets"]).fails(1, &texts).lacks("removed what");
    // Looking is free.
    bench.build(&["guarded/secrets", "--pretend"]).works();
    assert_eq!(running.end("-INT"), 130);
    bench.build(&["guarded/secrets"]).works().lacks("removed what a dead process left: building endless");
}
