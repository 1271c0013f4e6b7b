//! What cannot be cross built is built emulated, with what is cross built below it: real Portage, for arm64 on this machine.

use std::path::Path;

use crate::bench::{Bench, tool};

const CROSS: &str = "debian-portage-cross-arm64";

/// A library that is no trouble.
const LIB: &str = r#"
src_compile() {
	echo 'int own_magic(void) { return 42; }' > magic.c
	echo 'int own_magic(void);' > own.h
	${CC} ${CFLAGS} ${LDFLAGS} -shared -fPIC -Wl,-soname,libown.so.1 -o libown.so.1 magic.c || die
}
src_install() { dolib.so libown.so.1; dosym libown.so.1 /usr/$(get_libdir)/libown.so; doheader own.h; }
"#;
/// A compiled program that runs while others are built: on which machine, it says.
const TOOL: &str = r#"
src_compile() {
	printf '#include <stdio.h>\n#include <sys/utsname.h>\nint main(void) { struct utsname u; uname(&u); return puts(u.machine) < 0; }\n' > own-tool.c
	${CC:-gcc} ${CFLAGS} ${LDFLAGS} -o own-tool own-tool.c || die
}
src_install() { dobin own-tool; }
"#;
/// Calls the compiler by the name that it has on every machine, whatever it is told.
const STUBBORN: &str = r#"
DEPEND="own/lib"
RDEPEND="own/lib"
BDEPEND="own/tool"
src_compile() {
	echo "it is built on $(own-tool) for ${CHOST}"
	printf '#include <stdio.h>\nint main(void) { return puts("stubborn") < 0; }\n' > own-stubborn.c
	gcc -O2 -o own-stubborn own-stubborn.c || die "no program"
	[[ ${CBUILD:-${CHOST}} != ${CHOST} ]] || echo 'int own_magic(void); int main(void) { return own_magic() - 42; }' > linked.c
	[[ ! -e linked.c ]] || { gcc -o linked linked.c -L/usr/lib64 -lown && LD_LIBRARY_PATH=/usr/lib64 ./linked; } || die "no library"
}
src_install() { dobin own-stubborn; }
"#;
/// Fails either way, and shows a sign of the first.
const NEITHER: &str = r#"
src_configure() { echo "configure: error: cannot run test program while cross compiling"; die "it is no good"; }
"#;
/// Is wrong in itself.
const WRONG: &str = r#"
src_compile() { echo 'int x = ;' > x.c; ${CC} -c x.c || die "the compiler refuses"; }
"#;
/// Is built by nothing but an emulated shell.
const PURELY: &str = r#"
src_compile() {
	[[ ${CBUILD:-${CHOST}} == ${CHOST} ]] || { echo "ld: x.o: file in wrong format"; die "it does not cross build"; }
	if [ "$(head -c 19 /bin/sh | tail -c 1)" = '>' ]; then
		echo 'qemu: uncaught target signal 11 (Segmentation fault) - core dumped' >&2; die gone
	fi
}
"#;

/// Cannot be built on the other machine.
const BROKEN: &str = r#"
src_compile() { [[ $(uname -m) == x86_64 ]] || die "not here"; }
"#;

fn bench(test: &str, more: &str) -> Bench {
    let bench = Bench::new(test);
    let trees = "trees = [\"bindery-test\", \"own\"]\nshare = false\n";
    bench.write(&format!("profiles/{test}-side.toml"), &format!("version = 1\ninherits = \"amd64\"\n{trees}"));
    let own = format!("build-side = \"{test}-side\"\nmethod = \"auto\"\n{more}");
    let text = format!("version = 1\ninherits = \"arm64\"\n{trees}{own}");
    bench.write(&format!("profiles/{test}.toml"), &text);
    let _ = std::fs::remove_dir_all(bench.state.join("state/profiles").join(format!("{test}-side")));
    bench.ready_with(CROSS);
    bench.ready_with("debian-portage-arm64");
    bench
}

/// Returns which machine a program in a published package is for, by its ELF header.
fn machine(bench: &Bench, package: &str, program: &str) -> u16 {
    let dir = tempfile::tempdir().unwrap();
    let name = package.rsplit('/').next().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let file = bench.profile_dir().join("current").join(format!("{package}.gpkg.tar"));
    tool("tar", &["-xf", &text(&file), "-C", &text(dir.path())]);
    let image = text(&dir.path().join(name).join("image.tar.zst"));
    tool("tar", &["--zstd", "-xf", &image, "-C", &text(dir.path()), "--strip-components=1", "--no-same-owner"]);
    let header = std::fs::read(dir.path().join(program)).unwrap();
    u16::from_le_bytes([header[18], header[19]])
}

/// EM_AARCH64 of elf(5).
const AARCH64: u16 = 183;

#[test]
fn what_does_not_cross_build_is_built_emulated_with_what_does() {
    let bench = bench("fallback", "");
    bench.write_tree(&[("lib", LIB), ("tool", TOOL), ("stubborn", STUBBORN)]);
    let said = bench.build(&["own/stubborn"]);
    said.fails(
        0,
        &[
            "own/stubborn-1 was not cross built, and is built once more, emulated: its package was refused: it holds what does \
             not run on aarch64-unknown-linux-gnu",
            "own/tool-1 is built emulated: it runs while others are",
            "built own/stubborn-1",
        ],
    );
    // The library is the one that was cross built.
    said.lacks("own/lib-1 was not").lacks("own/lib-1 is built emulated");
    let log = bench.run(&["log", "own/stubborn", "--run", &said.run()]);
    log.works().prints(&["it is built on aarch64 for aarch64-unknown-linux-gnu\n"]);
    let run = bench.state.join("state/runs").join(said.run()).join("own/stubborn-1");
    let first = std::fs::read_to_string(run.join("log.cross")).unwrap();
    assert!(first.contains("it is built on x86_64 for aarch64-unknown-linux-gnu\n"), "{first}");
    assert_eq!(machine(&bench, "own/stubborn/stubborn-1-1", "usr/bin/own-stubborn"), AARCH64);
    assert_eq!(machine(&bench, "own/lib/lib-1-1", "usr/lib64/libown.so.1"), AARCH64);
    let index = std::fs::read_to_string(bench.profile_dir().join("current/Packages")).unwrap();
    assert!(index.contains("CPV: own/stubborn-1\n") && !index.contains("CPV: own/tool-1\n"), "{index}");
    // Nothing changes: nothing is built.
    bench.build(&["own/stubborn"]).fails(0, &["nothing to build; 2 packages are unchanged"]);
    // The tool has a log, and is no package of the profile's, until somebody asks for it: neither takes the other's place.
    bench.run(&["log", "own/tool", "--run", &said.run()]).works().prints(&["Completed installing own/tool-1"]);
    assert!(
        !bench.profile_dir().join("pool/own/tool").exists()
            && bench.profile_dir().join("emulated/pool/own/tool").exists()
    );
    bench.build(&["own/stubborn", "own/tool"]).fails(0, &["built own/tool-1, build 1"]).lacks("emulated");
    bench.build(&["own/stubborn", "own/tool"]).fails(0, &["nothing to build; 3 packages are unchanged"]);
    // What was found out is remembered of this ebuild; the tool is there.
    bench.write_tree(&[(
        "lib",
        &LIB.replace("echo 'int own_magic(void);'", "echo 'int own_magic(void); extern int more;'"),
    )]);
    let plan = bench.run(&["plan", "--profile", &bench.profile, "own/stubborn"]);
    plan.works().prints(&["`own/lib-1` is built again; emulated\n"]);
    let plan = bench.run(&["plan", "--profile", &bench.profile, "own/stubborn", "--why", "own/stubborn"]);
    plan.works().prints(&["method        emulated: cross built it failed before: its"]);
    let plan = bench.run(&["plan", "--profile", &bench.profile, "own/stubborn", "--why", "own/lib"]);
    plan.works().prints(&["method        cross built\n"]);
    let said = bench.build(&["own/stubborn"]);
    said.fails(0, &["own/stubborn-1 is built emulated: cross built it failed before", "built own/stubborn-1"]);
    said.lacks("own/tool-1 is built emulated").lacks("was not cross built");
    // Another may be mended.
    bench.write_tree(&[("stubborn", &STUBBORN.replace("\"stubborn\"", "\"more so\""))]);
    let said = bench.build(&["own/stubborn"]);
    said.fails(0, &["own/stubborn-1 was not cross built", "built own/stubborn-1, build 2"]);
    said.lacks("own/tool-1 is built emulated");
    // Who insists is not asked twice.
    let insists = "[package]\nmethod = [\"own/stubborn cross\"]\n";
    let path = format!("profiles/{}.toml", bench.profile);
    let text = std::fs::read_to_string(bench.config.path().join(&path)).unwrap();
    bench.write(&path, &format!("{text}{insists}"));
    bench.build(&["own/stubborn"]).fails(3, &["it holds what does not run on aarch64"]).lacks("is built");
    bench.write(&path, &text);
    // What runs while it is built counts.
    bench.write_tree(&[("tool", &TOOL.replace("< 0", "== 7"))]);
    bench.build(&["own/stubborn"]).fails(0, &["built own/tool-1", "own/tool-1 is built emulated"]);
}

#[test]
fn each_package_goes_down_as_far_as_it_must_and_no_further() {
    let bench = bench("fallback-down", "[package]\nmethod = [\"own/said emulated\"]\n");
    let old = "DEPEND=\"app-arch/bzip2\"\n";
    bench.write_tree(&[("neither", NEITHER), ("wrong", WRONG), ("purely", PURELY), ("said", ""), ("old", old)]);
    let needs = |text: &str| format!("BDEPEND=\"own/broken\"\n{text}");
    bench.write_tree(&[("broken", BROKEN), ("first", &needs(NEITHER)), ("second", &needs(NEITHER))]);
    let path = bench.config.path().join("own/own/old/old-1.ebuild");
    let text = std::fs::read_to_string(&path).unwrap().replace("EAPI=8", "EAPI=6");
    std::fs::write(&path, text).unwrap();
    let said = bench.build(&["own/neither", "own/wrong", "own/purely", "own/said", "own/old"]);
    said.fails(
        3,
        &[
            "2 of 5 packages failed",
            "own/neither-1 was not cross built, and is built once more, emulated: that may be because it is cross built: \
             `configure: error: cannot run test program while cross compiling`",
            "(built emulated; cross built, it failed before: that may be",
            "own/purely-1 was not cross built, and is built once more, emulated",
            "own/purely-1 failed with native tools, and is built once more with everything emulated",
            "own/said-1 is built emulated: the profile has it built by the method `emulated`",
            "own/old-1 is built emulated: `own/old-1` has EAPI 6",
        ],
    );
    said.lacks("own/wrong-1 was not cross built").lacks("own/old-1 was not").lacks("own/neither-1 failed with");
    let pool = bench.profile_dir().join("pool");
    for (package, wanted) in [("neither", false), ("wrong", false), ("purely", true), ("said", true), ("old", true)] {
        assert_eq!(pool.join("own").join(package).exists(), wanted, "{package}: {said}");
    }
    // A tool that cannot be built is tried once, and its users' logs say where its own is.
    let said = bench.build(&["own/first", "own/second"]);
    let why = "`own/broken-1`, which runs while it is built, could not be built emulated: not here (in compile)";
    said.fails(
        3,
        &["2 of 2 packages failed", &format!("failed own/first-1: {why}"), &format!("failed own/second-1: {why}")],
    );
    assert_eq!(said.err.matches("own/broken-1 is built emulated").count(), 1, "{said}");
    bench.run(&["log", "own/second", "--run", &said.run()]).works().prints(&[why, "emulated/own/broken-1/log"]);
    bench.run(&["log", "own/broken", "--run", &said.run()]).works().prints(&["not here"]);
    // Whoever insists is refused.
    let profile = format!("profiles/{}.toml", bench.profile);
    let text = std::fs::read_to_string(bench.config.path().join(&profile)).unwrap();
    bench.write(&profile, &text.replace("method = \"auto\"", "method = \"cross\""));
    bench.build(&["own/said"]).fails(1, &["`own/said-1` is to be built by the method `emulated`"]);
}
