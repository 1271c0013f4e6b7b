//! What is in a clean room and what is not, with real packages: what was declared and what that needs to run; nothing else
//! of the tree's, and nothing of the image's beyond its base. What was not declared fails, and who has it is named.

use crate::bench::{Bench, Said};

/// A package that leaves a mark in every root it is in.
fn marked(name: &str, more: &str) -> String {
    format!("{more}\nsrc_install() {{ insinto /usr/share/own; newins - {name} <<< {name}; }}\n")
}

/// Returns the log of a package of the tree `own`.
fn log(bench: &Bench, said: &Said, package: &str) -> String {
    let log = bench.run(&["log", &format!("own/{package}"), "--run", &said.run()]);
    log.works().out.clone()
}

/// Returns `status.json` of a package's build.
fn status(bench: &Bench, said: &Said, package: &str) -> serde_json::Value {
    let path = format!("state/runs/{}/own/{package}-1/status.json", said.run());
    serde_json::from_slice(&std::fs::read(bench.state.join(path)).unwrap()).unwrap()
}

#[test]
fn a_room_holds_what_was_declared_and_what_that_needs_to_run() {
    let bench = Bench::new("rooms-holds");
    let room = "BDEPEND=\"own/tool\"\nDEPEND=\"own/lib\"\nIDEPEND=\"own/merger\"\nRDEPEND=\"own/theme\"\nPDEPEND=\"own/plugin\"\n\
                src_compile() { echo holds: $(cd /var/db/pkg && ls own) = $(ls /usr/share/own); }\n";
    let tree = [
        ("room", marked("room", room)),
        ("tool", marked("tool", "RDEPEND=\"own/tool-run\"\nBDEPEND=\"own/tool-build\"\nPDEPEND=\"own/tool-post\"\n")),
        ("lib", marked("lib", "DEPEND=\"own/lib-build\"\n")),
        ("merger", marked("merger", "RDEPEND=\"own/merger-run\"\n")),
    ];
    let rest = ["theme", "plugin", "tool-run", "tool-build", "tool-post", "lib-build", "merger-run"];
    let tree: Vec<_> = tree.into_iter().chain(rest.map(|name| (name, marked(name, "")))).collect();
    bench.write_tree(&tree.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n");
    let said = bench.build(&["own/room"]);
    said.works();
    let held = "holds: lib-1 merger-1 merger-run-1 tool-1 tool-post-1 tool-run-1 = lib merger merger-run tool tool-post \
                tool-run\n";
    let log = log(&bench, &said, "room");
    assert!(log.contains(held), "{log}");
}

/// What a build may take for granted.
const BASE: &str = "bash sh gcc g++ cc c++ cpp ld as ar make patch awk sed grep find xargs diff cmp file scanelf python3 python \
                    tar gzip bzip2 xz zstd getopt hostname which install ldd getent";
/// What the image has beyond that: by its definition, or because Debian itself needs it.
const HIDDEN: &str = "wget gpg gpgconf perl dpkg dpkg-deb update-alternatives tic infocmp debconf logger";

#[test]
fn what_the_image_has_beyond_its_base_is_hidden() {
    for who in [crate::bench::Who::Me, crate::bench::Who::Other] {
        hides(&Bench::of(who, "rooms-hides"));
    }
}

fn hides(bench: &Bench) {
    let look = format!(
        "src_compile() {{\n\
         for name in {BASE}; do type -P $name >/dev/null || echo \"not there: $name\"; done\n\
         for name in {HIDDEN}; do ! type -P $name || echo \"there: $name\"; done\n\
         for file in /usr/lib/x86_64-linux-gnu/lib{{gcrypt,gnutls,nettle}}.so* /usr/share/perl5 /etc/wgetrc; do\n\
         [[ -e $file ]] && echo \"there: $file\"\ndone\n\
         python3 -c 'import portage, ssl, sqlite3, ctypes, bz2, lzma' || echo 'not there: modules'\n\
         echo 'int main(void) {{ return 0; }}' > x.c; gcc -o x x.c && ./x || echo 'not there: compiler'\n\
         echo looked\n}}\n\
         src_install() {{ newbin - looked <<< looked; }}\n"
    );
    bench.write_tree(&[("look", &look)]);
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n");
    let said = bench.build(&["own/look"]);
    said.works();
    let log = log(bench, &said, "look");
    assert!(log.contains("looked\n") && !log.contains("there: "), "{log}");
    // It is hidden from builds only: who runs a command in the image sees all of it.
    bench.run(&["run", "--image", "debian-portage", "--", "wget", "--version"]).works();
}

const LIB: &str = r#"
src_compile() {
	echo 'int own(void) { return 0; }' > own.c
	${CC:-gcc} ${CFLAGS} ${LDFLAGS} -shared -fPIC -Wl,-soname,libown.so.1 -o libown.so.1 own.c || die
	echo 'int own(void);' > own.h
}
src_install() { dolib.so libown.so.1; dosym libown.so.1 /usr/$(get_libdir)/libown.so; doheader own.h; }
"#;
/// Lacks RDEPEND.
const APP: &str = r#"
DEPEND="own/lib"
src_compile() {
	printf '#include <own.h>\nint main(void) { return own(); }\n' > own-app.c
	${CC:-gcc} ${CFLAGS} ${LDFLAGS} -o own-app own-app.c -L"${ESYSROOT}"/usr/$(get_libdir) -lown || die
}
src_install() { dobin own-app; }
"#;
const TOOL: &str = "src_install() { newbin - own-tool <<< $'#!/bin/sh\\necho own'; }\n";
const MODULE: &str =
    "src_install() { insinto /usr/lib/python3/dist-packages/own_module; newins - __init__.py <<< 'own = 1'; }\n";

#[test]
fn what_was_not_declared_fails_and_who_has_it_is_named() {
    let bench = Bench::new("rooms-undeclared");
    let compile =
        |more: &str, command: &str| format!("{more}src_compile() {{ {command} || die 'it is not there'; }}\n");
    let header = compile("", "printf '#include <own.h>\\n' > x.c && gcc -c x.c");
    let tool = compile("", "own-tool");
    let module = compile("", "python3 -c 'import own_module'");
    let library = compile("BDEPEND=\"own/app\"\n", "own-app");
    let image = compile("", "wget --version");
    let never = compile("", "ninja --version");
    let declared = compile(
        "DEPEND=\"own/lib\"\nBDEPEND=\"own/app own/lib own/tool own/module\"\n",
        "printf '#include <own.h>\\n' > x.c && gcc -c x.c && own-tool && own-app && python3 -c 'import own_module'",
    );
    bench.write_tree(&[
        ("lib", LIB),
        ("app", APP),
        ("tool", TOOL),
        ("module", MODULE),
        ("no-header", &header),
        ("no-tool", &tool),
        ("no-module", &module),
        ("no-library", &library),
        ("no-image", &image),
        ("no-build", &never),
        ("declared", &declared),
    ]);
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n");
    // Whatever is built side by side, they are there then.
    bench.build(&["own/declared"]).fails(0, &["built own/declared-1, build 1", "built own/lib-1, build 1"]);
    let undeclared = ["no-header", "no-tool", "no-module", "no-library", "no-image", "no-build"];
    let atoms: Vec<String> = undeclared.iter().map(|name| format!("own/{name}")).collect();
    let said = bench.build(&atoms.iter().map(String::as_str).collect::<Vec<_>>());
    let told = [
        "`own.h` is not in the clean room: `own/lib-1` would provide it; add it to DEPEND",
        "`own-tool` is not in the clean room: `own/tool-1` would provide it; add it to BDEPEND",
        "Python's module `own_module` is not in the clean room: `own/module-1` would provide it; add it to BDEPEND",
        "`libown.so.1`, which `own-app` needs to run, is not in the clean room: `own/lib-1` would provide it; add it to RDEPEND \
         of `own/app`",
        "`wget` is not in the clean room: the image has it in `wget`, beyond its base, which no build sees; add what provides it \
         to BDEPEND",
        "`ninja` is not in the clean room: perhaps `dev-build/ninja` would provide it, by its name; then add it to BDEPEND",
    ];
    said.fails(3, &["packages failed"]);
    for (package, told) in undeclared.iter().zip(told) {
        said.fails(3, &[&format!("failed own/{package}-1: it is not there"), &format!("    | [bindery: {told}]")]);
        let log = log(&bench, &said, package);
        assert!(log.contains(&format!("[bindery: {told}]\n")), "{log}");
    }
    let status = status(&bench, &said, "no-header");
    let expected = serde_json::json!([{
        "missing": {"header": "own.h"}, "providers": ["own/lib-1"], "image": [], "perhaps": [], "needed-by": null
    }]);
    assert_eq!(status["undeclared"], expected, "{status}");
}

#[test]
fn what_was_declared_and_not_used_is_told() {
    for who in [crate::bench::Who::Me, crate::bench::Who::Other] {
        tells_unused(&Bench::of(who, "rooms-unused"));
    }
}

fn tells_unused(bench: &Bench) {
    let script = |name: &str| format!("src_install() {{ newbin - {name} <<< $'#!/bin/sh\\necho own'; }}\n");
    let header = |path: &str| {
        format!(
            "src_install() {{ insinto /usr/include/{path}; newins - x.h <<< 'int x(void);'; dodoc -r \"${{T}}\"/*; }}\n"
        )
    };
    let declares = "DEPEND=\"own/headers own/more-headers\"\n\
                    BDEPEND=\"own/called own/looked-at own/brings own/nothing own/manual own/virtual\"\n\
                    src_compile() { own-called && printf '#include <own/x.h>\\n' > x.c && gcc -c x.c || die\n\
                    type -P own-looked-at && [[ -x $(type -P own-looked-at) ]] || die; }\n\
                    src_install() { newbin - uses <<< uses; }\n";
    bench.write_tree(&[
        ("called", &script("own-called")),
        ("looked-at", &script("own-looked-at")),
        // What somebody else declares is not this package's to remove.
        ("brought", &script("own-brought")),
        ("brings", &format!("RDEPEND=\"own/brought\"\n{}", script("own-brings"))),
        ("headers", &header("own")),
        ("more-headers", &header("own-more")),
        ("nothing", ""),
        ("virtual", "RDEPEND=\"own/called\"\n"),
        ("manual", "src_install() { newman - own.3 <<< '.TH OWN 3'; }\n"),
        ("declares", declares),
    ]);
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n");
    let said = bench.build(&["own/declares"]);
    let unused = ["own/brings-1", "own/looked-at-1", "own/more-headers-1"];
    said.fails(0, &[&format!("  own/declares-1 declared and did not use: {}\n", unused.join(", "))]);
    assert_eq!(said.err.matches("did not use").count(), 1, "{said}");
    let status = status(bench, &said, "declares");
    let expected = serde_json::json!({"used": ["own/called-1", "own/headers-1"], "unused": unused, "unknown": {}});
    assert_eq!(status["dependencies"], expected, "{status}");
    let log = log(bench, &said, "declares");
    assert!(log.contains(&format!("[bindery: declared and not used: {}]\n", unused.join(", "))), "{log}");
    let events = std::fs::read_to_string(bench.state.join("state/runs").join(said.run()).join("events.jsonl")).unwrap();
    assert_eq!(events.lines().filter(|line| line.contains("\"event\":\"unused\"")).count(), 1, "{events}");
    // What its package is installed by Portage reads everything: then nothing is claimed.
    let phase = "pkg_postinst() { mkfifo \"${EROOT}\"/var/lib/own || die; }\n";
    bench.write_tree(&[("headers", &format!("{}{phase}", header("own")))]);
    let said = bench.build(&["own/declares"]);
    said.works().lacks("did not use");
    let unknown = self::status(bench, &said, "declares")["dependencies"]["unknown"].take();
    let why = unknown["own/looked-at-1"].as_str().unwrap_or_default();
    assert!(why.contains("was installed into its room"), "{unknown}");
}
