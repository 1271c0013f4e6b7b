//! Who is built again when something changes, with real packages: a library, a program that is linked with it, and one that
//! runs that program while it is built. The rules are in `docs/keys.md`.

use crate::bench::{Bench, Said};

const LIB: &str = r#"
src_compile() { ${CC:-gcc} ${CFLAGS} ${LDFLAGS} -shared -fPIC -Wl,-soname,libown.so.1 -o libown.so.1 "${FILESDIR}"/own.c || die; }
src_install() { dolib.so libown.so.1; dosym libown.so.1 /usr/$(get_libdir)/libown.so; doheader "${FILESDIR}"/own.h; doman "${FILESDIR}"/own.3; }
"#;
const APP: &str = r#"
DEPEND="own/lib"
RDEPEND="own/lib"
src_compile() { ${CC:-gcc} ${CFLAGS} ${LDFLAGS} -o app "${FILESDIR}"/app.c -L"${ESYSROOT}"/usr/$(get_libdir) -lown || die; }
src_install() { dobin app; }
"#;
/// As a generator is used: it runs a program that needs the library.
const TABLE: &str = r#"
BDEPEND="own/app"
src_compile() { app > table || die; }
src_install() { insinto /usr/share/own; doins table; }
"#;

fn tree(bench: &Bench, lib: &str) {
    bench.write_tree(&[("lib", lib), ("app", APP), ("table", TABLE)]);
}

/// Returns what the plan says of a package.
fn why(plan: &Said, package: &str) -> String {
    let line = plan.works().out.lines().find(|line| line.contains(package));
    line.unwrap_or_else(|| panic!("no `{package}` in:\n{plan}")).to_string()
}

/// Returns what the pool's record says of a build.
fn facts(bench: &Bench, package: &str, build: u32) -> serde_json::Value {
    let path = format!("pool/own/{package}/{package}-1-{build}.json");
    let record = std::fs::read(bench.profile_dir().join(path)).unwrap();
    serde_json::from_slice::<serde_json::Value>(&record).unwrap()["facts"].take()
}

#[test]
fn who_is_built_again_depends_on_what_they_can_see() {
    let bench = Bench::new("keys");
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n");
    let file = |path: &str, text: &str| bench.write(&format!("own/own/{path}"), text);
    tree(&bench, LIB);
    file("lib/files/own.c", "int own(void) { return 1; }\n");
    file("lib/files/own.h", "int own(void);\n");
    file("lib/files/own.3", ".TH OWN 3\n");
    file(
        "app/files/app.c",
        "#include <own.h>\n#include <stdio.h>\nint main(void) { return printf(\"%d\\n\", own()) < 0; }\n",
    );
    let all = ["built own/lib-1, build 1", "built own/app-1, build 1", "built own/table-1, build 1"];
    bench.build(&["own/table"]).works().fails(0, &all);

    // Other code behind the same interface: who links sees nothing of it, who runs it does.
    file("lib/files/own.c", "/* The answer. */\nint own(void) { return 42; }\n");
    let said = bench.build(&["own/table"]);
    said.works().fails(0, &["built own/lib-1, build 2", "built own/table-1, build 2"]).lacks("built own/app-1");
    let (before, after) = (facts(&bench, "lib", 1), facts(&bench, "lib", 2));
    for (part, same) in [("link", true), ("archives", true), ("tools", false)] {
        assert_eq!(before["offers"][part] == after["offers"][part], same, "{part}");
    }
    assert_ne!(before["content"], after["content"]);
    assert_eq!(after["offers"]["code"]["why"], "compiled");
    assert_eq!(facts(&bench, "table", 2)["offers"]["code"], serde_json::Value::Null);

    // A comment in the ebuild, another manual page, and configuration that says the same: nobody but the library.
    tree(&bench, &format!("# A comment.\n{LIB}"));
    file("lib/files/own.3", ".TH OWN 3\nThe answer.\n");
    bench.write(&format!("profiles/{}/portage/package.use/own", bench.profile), "# A comment.\n");
    bench.write_profile("# A comment.\ntrees = [\"bindery-test\", \"own\"]\n");
    let plan = bench.build(&["own/table", "--pretend"]);
    assert!(why(&plan, "own/lib-1").contains("the ebuild changed, a file beside the ebuild changed"), "{plan}");
    assert!(why(&plan, "own/app-1").contains("`own/lib-1` is built again"), "{plan}");
    let said = bench.build(&["own/table"]);
    said.works().fails(0, &["built own/lib-1, build 3"]).lacks("built own/app-1").lacks("built own/table-1");
    let same = "own/app-1 is used again: `own/lib-1` was built again and offers it the same";
    said.fails(0, &[same]);
    // Which the run's record says, too.
    bench.run(&["log", "--run", &said.run()]).works().prints(&[same]);
    assert_ne!(facts(&bench, "lib", 3)["content"], facts(&bench, "lib", 2)["content"]);

    // Another exported symbol: once the library is there, the plan says why.
    file("lib/files/own.c", "int own(void) { return 42; }\nint more(void) { return 7; }\n");
    bench.build(&["own/lib"]).works().fails(0, &["built own/lib-1, build 4"]);
    let plan = bench.build(&["own/table", "--pretend"]);
    assert!(why(&plan, "own/app-1").contains("`own/lib`'s ABI changed"), "{plan}");
    assert!(why(&plan, "own/table-1").contains("`own/app-1` is built again"), "{plan}");
    // Back to the interface that it was built with: nothing to do but the library.
    file("lib/files/own.c", "int own(void) { return 43; }\n");
    bench.build(&["own/lib"]).works();
    assert!(why(&bench.build(&["own/app", "--pretend"]), "own/app-1").contains("unchanged since build 1"));
    // Of the same in one run, an event says it: which symbol, and that a run of the program may see it.
    file("lib/files/own.c", "int own(void) { return 43; }\nint other(void) { return 7; }\n");
    let said = bench.run(&["--json", "build", "--profile", &bench.profile, "own/table"]);
    let settled = said.works().out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let settled: Vec<_> = settled.filter(|event| event["event"] == "settled").collect();
    let because = |package: &str| {
        let event = settled.iter().find(|event| event["cpv"] == package);
        event.unwrap_or_else(|| panic!("nothing of {package} in {settled:?}"))["because"].to_string()
    };
    let app = because("own/app-1");
    assert!(
        app.contains("`own/lib`'s ABI changed") && app.contains("symbol `other` is new in `/usr/lib64/libown.so.1`")
    );
    assert!(because("own/table-1").contains("`own/lib` changed, which runs while it is built"));
    file("lib/files/own.c", "int own(void) { return 43; }\n");
    bench.build(&["own/app"]).works();

    // A header, if only a comment in it.
    file("lib/files/own.h", "/* The answer. */\nint own(void);\n");
    let said = bench.build(&["own/app"]);
    said.works().fails(0, &["built own/lib-1, build 7", "built own/app-1, build 1"]);

    // Flags for the compiler concern all that may be compiled.
    bench.write_profile("trees = [\"bindery-test\", \"own\"]\n[flags]\ncflags = \"-O1\"\n");
    let plan = bench.build(&["own/app", "--pretend"]);
    assert!(why(&plan, "own/app-1").contains("CFLAGS changed: `-O2 -pipe -march=x86-64` to `-O1`"), "{plan}");
}
