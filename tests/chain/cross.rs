//! Cross building with real Portage: a profile for sparc64 on this machine. What runs comes from the build side, what is linked
//! with lies below the sysroot, and what comes out runs under an emulator in a root of nothing but that.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::bench::{Bench, Who, tool};

const IMAGE: &str = "debian-portage-cross-sparc64";

/// A bench whose profile is cross built for sparc64; what runs meanwhile has a profile, and so a pool, of its own.
fn cross(who: Who, test: &str, trees: &str, more: &str) -> Bench {
    let bench = Bench::of(who, test);
    profiles(&bench, trees, more);
    let _ = std::fs::remove_dir_all(side_dir(&bench));
    bench
}

fn profiles(bench: &Bench, trees: &str, more: &str) {
    let (name, trees) = (bench.profile.as_str(), format!("trees = [\"bindery-test\"{trees}]\nshare = false\n"));
    let side = format!("version = 1\ninherits = \"amd64\"\n{trees}");
    bench.write(&format!("profiles/{name}-side.toml"), &side);
    let own = format!("version = 1\ninherits = \"sparc64\"\nbuild-side = \"{name}-side\"\n{trees}{more}");
    bench.write(&format!("profiles/{name}.toml"), &own);
}

/// The folder of the pool of what runs meanwhile.
fn side_dir(bench: &Bench) -> PathBuf {
    bench.state.join("state/profiles").join(format!("{}-side", bench.profile))
}

/// A library of which a part is assembly, and only sparc64's.
const LIB: &str = r#"
src_compile() {
	cat > magic.S <<-'END' || die
		.text
		.globl own_magic
		.type own_magic, #function
		own_magic:
			retl
			 mov 42, %o0
		.size own_magic, .-own_magic
		.section .note.GNU-stack,"",@progbits
	END
	echo 'int own_magic(void);' > own.h
	${CC} ${CFLAGS} ${LDFLAGS} -shared -fPIC -Wl,-soname,libown.so.1 -o libown.so.1 magic.S || die
}
src_install() { dolib.so libown.so.1; dosym libown.so.1 /usr/$(get_libdir)/libown.so; doheader own.h; }
"#;
/// A compiled program that runs while others are built.
const TOOL: &str = r##"
src_compile() {
	printf '#include <stdio.h>\nint main(void) { return puts("#define GREETING \\"from the tool\\"") < 0; }\n' > own-tool.c
	${CC:-gcc} ${CFLAGS} ${LDFLAGS} -o own-tool own-tool.c || die
}
src_install() { dobin own-tool; }
"##;
/// Runs the tool, and a program that it has just compiled itself.
const APP: &str = r#"
DEPEND="own/lib"
RDEPEND="own/lib"
BDEPEND="own/tool"
src_compile() {
	echo "ROOT=${ROOT} SYSROOT=${SYSROOT} CBUILD=${CBUILD} CHOST=${CHOST} ARCH=${ARCH}"
	has_version -b own/tool || die "the tool is not on the build side"
	has_version -d own/lib || die "the library is not below the sysroot"
	has_version -b own/lib && die "the library is on the build side"
	own-tool > greeting.h || die
	echo 'int main(void) { return 0; }' > here.c && ${BUILD_CC} -o here here.c && ./here || die "no program for this machine"
	printf '#include <own.h>\n#include <stdio.h>\n#include "greeting.h"\n%s\n' \
		'int main(void) { printf("%s %d\n", GREETING, own_magic()); return 0; }' > app.c
	${CC} ${CFLAGS} ${LDFLAGS} -MD -o own-app app.c -lown || die
}
src_install() { dobin own-app; }
"#;

#[test]
fn programs_are_cross_built_with_tools_of_this_machine_and_run() {
    builds_and_runs(Who::Me);
}

#[test]
fn an_ordinary_user_cross_builds_them_likewise() {
    builds_and_runs(Who::Other);
}

fn builds_and_runs(who: Who) {
    let bench = cross(who, "cross-runs", ", \"own\"", "");
    bench.write_tree(&[("lib", LIB), ("tool", TOOL), ("app", APP)]);
    let said = bench.build(&["own/app", "dev-util/bsdiff"]);
    said.works();
    let log = bench.run(&["log", "own/app", "--run", &said.run()]);
    let roots = "ROOT=/usr/sparc64-linux-gnu SYSROOT=/usr/sparc64-linux-gnu CBUILD=x86_64-pc-linux-gnu \
                 CHOST=sparc64-unknown-linux-gnu ARCH=sparc\n";
    assert!(log.works().out.contains(roots), "{log}");
    // Each side's builds are on the record of its own run.
    let events = std::fs::read_to_string(bench.state.join("state/runs").join(said.run()).join("events.jsonl")).unwrap();
    let built = |package: &str| events.lines().any(|line| line.contains("build-finished") && line.contains(package));
    assert!(built("own/app-1") && !built("own/tool-1"), "{events}");
    // What runs is in the pool of its own profile, which publishes nothing of it.
    assert!(side_dir(&bench).join("pool/own/tool/tool-1-1.gpkg.tar").exists());
    assert!(!side_dir(&bench).join("current").exists() && !side_dir(&bench).join("pool/own/lib").exists());
    let current = bench.profile_dir().join("current");
    let index = std::fs::read_to_string(current.join("Packages")).unwrap();
    for text in ["CHOST: sparc64-unknown-linux-gnu\n", "ARCH: sparc\n", "CPV: own/app-1\n", "CPV: own/lib-1\n"] {
        assert!(index.contains(text), "no {text} in {index}");
    }
    assert!(!index.contains("CPV: own/tool"), "{index}");
    let root = Root::new(&bench, &current, &["own/app/app-1-1", "own/lib/lib-1-1"]);
    assert_eq!(root.run("own-app", &[]), "from the tool 42\n");
    let root = Root::new(&bench, &current, &["dev-util/bsdiff/bsdiff-4.3-1", "app-arch/bzip2/bzip2-1.0.8-1"]);
    let file = |name: &str, text: &str| {
        std::fs::write(root.dir.path().join(name), text).unwrap();
        root.dir.path().join(name).to_str().unwrap().to_string()
    };
    let (old, new) = (file("old", "what it was"), file("new", "what it has become"));
    let (patch, made) = (root.dir.path().join("patch"), root.dir.path().join("made"));
    let [patch, made] = [patch, made].map(|path| path.to_str().unwrap().to_string());
    root.run("bsdiff", &[&old, &new, &patch]);
    root.run("bspatch", &[&old, &made, &patch]);
    assert_eq!(std::fs::read_to_string(made).unwrap(), "what it has become");
    // Nothing changes: nothing is built, on neither side.
    let again = bench.build(&["own/app", "dev-util/bsdiff"]);
    again.works();
    assert!(again.err.contains("nothing to build; 4 packages are unchanged"), "{again}");
    // The tool does something else: it and who runs it are built again.
    let other = TOOL.replace("from the tool", "from another");
    bench.write_tree(&[("tool", &other)]);
    let plan = bench.run(&["plan", "--profile", &bench.profile, "own/app"]);
    assert!(plan.works().out.contains("`own/tool-1` is built again"), "{plan}");
    let said = bench.build(&["own/app"]);
    said.fails(0, &["built own/app-1, build 2", "built own/tool-1, build 2"]).lacks("built own/lib-1");
    let root = Root::new(&bench, &current, &["own/app/app-1-2", "own/lib/lib-1-1"]);
    assert_eq!(root.run("own-app", &[]), "from another 42\n");
}

/// Runs what it has just compiled, which is linked with what lies below the sysroot, in the ways that builds do.
const RUNS: &str = r##"
DEPEND="own/lib"
RDEPEND="own/lib"
src_compile() {
	cat > runs.cc <<-'END' || die
		#include <own.h>
		#include <cstdlib>
		#include <iostream>
		extern "C" int own_magic(void);
		int main(int argc, char **argv) {
			std::cout << "magic " << own_magic() << std::endl;
			return argc > 1 ? std::system(argv[1]) : 0;
		}
	END
	sed -i '/own.h/d' runs.cc || die
	${CXX} ${CXXFLAGS} ${LDFLAGS} -o runs runs.cc -lown || die
	${CXX} ${CXXFLAGS} ${LDFLAGS} -static -o alone -x c++ - <<< 'int main() { return 7; }' || die
	./runs || die "it does not run"
	env -i ./runs || die "it takes the environment to run"
	[[ $(./runs 'uname -m; ./runs; echo "#" | sparc64-unknown-linux-gnu-gcc -E - > /dev/null') == "magic 42"$'\n'"x86_64"$'\n'"magic 42" ]] \
		|| die "what it starts does not run"
	./alone
	[[ $? == 7 ]] || die "a static program does not run"
	python3 -c 'import subprocess, sys; sys.exit(subprocess.call(["./runs"]))' || die "Python cannot start it"
}
src_install() { dobin runs; }
"##;

#[test]
fn what_a_build_has_just_compiled_for_the_other_processor_runs() {
    let bench = cross(Who::Me, "cross-foreign-runs", ", \"own\"", "");
    bench.write_tree(&[("lib", LIB), ("runs", RUNS)]);
    let said = bench.build(&["own/runs"]);
    said.works();
    let run = bench.state.join("state/runs").join(said.run()).join("own/runs-1");
    let status: serde_json::Value = serde_json::from_slice(&std::fs::read(run.join("status.json")).unwrap()).unwrap();
    let emulator = status["achieved"]["emulators"]["sparc64"].as_str().unwrap();
    assert_eq!(emulator, "`qemu-sparc64`, registered for this sandbox");
}

#[test]
fn what_is_compiled_in_the_image_runs_there_without_a_build() {
    let bench = cross(Who::Me, "cross-run", "", "");
    let made =
        "echo 'int main(void) { return 7; }' > a.c; sparc64-unknown-linux-gnu-gcc -o a a.c && file -b a && exec ./a";
    let said = bench.run(&["run", "--image", IMAGE, "--", "sh", "-c", &format!("cd /tmp; {made}")]);
    said.fails(7, &[]);
    said.prints(&["ELF 64-bit MSB"]);
}

#[test]
fn test_programs_of_configure_run_and_ninja_builds_itself() {
    let bench = cross(Who::Me, "cross-foreign-tests", "", "");
    let said = bench.build(&["app-misc/hello", "dev-build/ninja"]);
    said.works();
    let log = bench.run(&["log", "app-misc/hello", "--run", &said.run()]);
    log.works().prints(&["checking whether we are cross compiling... no\n"]);
    let current = bench.profile_dir().join("current");
    let root = Root::new(&bench, &current, &["app-misc/hello/hello-2.10-1", "dev-build/ninja/ninja-1.12.1-1"]);
    assert_eq!(root.run("hello", &[]), "Hello, world!\n");
    assert_eq!(root.run("ninja", &["--version"]), "1.12.1\n");
}

#[test]
fn files_are_given_to_users_that_either_side_brings() {
    let bench = cross(Who::Me, "cross-users", ", \"own\"", "");
    let gives = |depend: &str| {
        format!(
            "{depend}=\"acct-user/cron\"\nsrc_install() {{\ndiropts --owner=cron --group=crontab\ndodir /var/of-cron\n\
             echo x > x && insinto /var/of-cron && doins x && fowners cron:crontab /var/of-cron/x\n}}\n"
        )
    };
    bench.write_tree(&[("root", &gives("BDEPEND")), ("sysroot", &gives("DEPEND"))]);
    bench.build(&["own/root", "own/sysroot"]).works();
    for package in ["root", "sysroot"] {
        let dir = tempfile::tempdir().unwrap();
        let [gpkg, text] =
            [bench.profile_dir().join(format!("current/own/{package}/{package}-1-1.gpkg.tar")), dir.path().into()]
                .map(|path: PathBuf| path.to_str().unwrap().to_string());
        tool("tar", &["-xf", &gpkg, "-C", &text]);
        let image = format!("{text}/{package}-1-1/image.tar.zst");
        let listed = tool("tar", &["--zstd", "--numeric-owner", "-tvf", &image]);
        let owned = listed.lines().filter(|line| line.contains("/var/of-cron") && line.contains(" 16/248 "));
        assert_eq!(owned.count(), 2, "{listed}");
    }
}

#[test]
fn a_strict_client_of_that_processor_installs_and_this_machines_refuses() {
    let bench = cross(Who::Me, "cross-client", "", "");
    bench.build(&["dev-util/bsdiff"]).works();
    let current = bench.profile_dir().join("current");
    let said = client(&bench, &current, "default/linux/sparc");
    said.works();
    for text in [
        "installed app-arch/bzip2-1.0.8 for sparc64-unknown-linux-gnu (amd64 arm ppc64 riscv s390 sparc x86)",
        "installed dev-util/bsdiff-4.3 for sparc64-unknown-linux-gnu (amd64 arm ppc64 riscv s390 sparc x86)",
        "/usr/bin/bsdiff: ",
        "/usr/lib64/libbz2.so.1.0.8: ",
        "done\n",
    ] {
        assert!(said.out.contains(text), "no `{text}` in:\n{said}");
    }
    let of = |path: &str| said.out.lines().find(|line| line.starts_with(path)).unwrap().to_string();
    for path in ["/usr/bin/bsdiff: ", "/usr/lib64/libbz2.so.1.0.8: "] {
        assert!(of(path).contains("ELF 64-bit MSB") && of(path).contains("SPARC V9"), "{said}");
    }
    let refused = client(&bench, &current, "default/linux/amd64");
    assert_ne!(refused.code, 0, "{refused}");
    assert!(!refused.out.contains("installed "), "{refused}");
}

/// Runs the strict client of `tests/client-cross` in a fresh root of this machine.
fn client(bench: &Bench, current: &Path, profile: &str) -> crate::bench::Said {
    let subscription = tempfile::tempdir_in(bench.config.path()).unwrap();
    let output = subscription.path().join("client").to_str().unwrap().to_string();
    let uri = "file:///srv/binhost";
    bench.run(&["client", "config", "--profile", &bench.profile, "--uri", uri, "--output", &output]).works();
    let tests = crate::bench::tests();
    let binds = [
        format!("{}:/var/db/repos/bindery-test", tests.join("tree").display()),
        format!("{output}:/mnt/client"),
        format!("{}:/mnt/install", tests.join("client-cross").display()),
        format!("{}:/srv/binhost", std::fs::canonicalize(current).unwrap().display()),
    ];
    let mut args = vec!["run", "--image", "debian-portage"];
    args.extend(binds.iter().flat_map(|bind| ["--ro-bind", bind]));
    args.extend(["--", "sh", "/mnt/install", profile, "dev-util/bsdiff"]);
    bench.run(&args)
}

#[test]
fn what_the_build_machine_has_is_not_taken_for_the_targets() {
    let bench = cross(Who::Me, "cross-foreign", ", \"own\"", "");
    let header = "src_install() { echo 'int x;' > own-here.h; doheader own-here.h; }\n";
    let finds = |source: &str, command: &str| {
        format!(
            "BDEPEND=\"own/here\"\nsrc_compile() {{\n[[ -f /usr/include/own-here.h ]] || die 'it is not there'\n\
             printf '{source}\\n' > x.c || die\n{command} || die 'the compiler refuses'\n}}\n"
        )
    };
    let plain = "#include <own-here.h>";
    bench.write_tree(&[
        ("here", header),
        ("path", &finds(plain, "${CC} -I/usr/include -c x.c")),
        ("environment", &finds(plain, "CPATH=/usr/include ${CC} -c x.c")),
        ("listed", &finds(plain, "${CC} -I/usr/include -MD -MF x.deps -o x.o -c x.c")),
        ("source", &finds("#include \"/usr/include/own-here.h\"", "${CC} -c x.c")),
        (
            "multiarch",
            &finds(
                "#include <gnu/stubs-64.h>\\n#include <bits/wordsize.h>",
                "${CC} -I/usr/include/x86_64-linux-gnu -c x.c",
            ),
        ),
        ("nowhere", &finds(plain, "${CC} -c x.c")),
        ("own-program", &finds(plain, "${BUILD_CC} -c x.c")),
    ]);
    let said = bench.build(&["own/path", "own/environment", "own/listed", "own/source", "own/multiarch"]);
    said.fails(3, &["5 of 5 packages failed"]);
    for package in ["path", "environment", "listed", "source"] {
        let log = bench.run(&["log", &format!("own/{package}"), "--run", &said.run()]);
        let told = "error: `/usr/include/own-here.h` is this machine's and not /usr/sparc64-linux-gnu's";
        assert!(log.works().out.contains(told), "{log}");
    }
    // As if it were not there; and for programs of this machine it is.
    let said = bench.build(&["own/nowhere", "own/own-program"]);
    said.fails(3, &["1 of 2 packages failed: own/nowhere-1", "own-here.h: No such file or directory"]);
}

#[test]
fn a_profile_that_does_not_go_with_its_image_is_refused_with_what_to_change() {
    let bench = Bench::new("cross-refused");
    let refused = |own: &str, side: &str, texts: &[&str]| {
        bench.write("profiles/cross-refused-side.toml", &format!("version = 1\ninherits = \"amd64\"\n{side}"));
        bench.write("profiles/cross-refused.toml", &format!("version = 1\ninherits = \"sparc64\"\n{own}"));
        for args in [["build", "--profile", "cross-refused"], ["plan", "--profile", "cross-refused"]] {
            bench.run(&[args.as_slice(), &["app-misc/hello"]].concat()).fails(1, texts);
        }
    };
    let image = "name an image that cross builds for it: `image = \"debian-portage-cross-sparc64\"`";
    let native = "is for `sparc64-unknown-linux-gnu` (method `cross`), and its image `debian-portage` builds for amd64";
    refused("image = \"debian-portage\"\n", "", &[native, image]);
    refused("image = \"debian-portage\"\nmethod = \"auto\"\n", "", &["builds for amd64", image]);
    refused("method = \"native\"\n", "", &["builds for amd64 and sparc64-unknown-linux-gnu", "correct the profile's"]);
    let other = "chost = \"sparc-unknown-linux-gnu\"\n";
    refused(other, "", &["is for `sparc-unknown-linux-gnu`", "no image cross builds for `sparc-unknown-linux-gnu`"]);
    refused("method = \"emulated\"\n", "", &["its image is not one of another machine's for it"]);
    refused(
        "build-side = \"cross-refused-non\"\n",
        "",
        &["the build side `cross-refused-non` of profile `cross-refused`"],
    );
    refused(
        "build-side = \"sparc64\"\n",
        "",
        &["`sparc64` of profile `cross-refused` is for sparc", "`build-side = \"NAME\"`"],
    );
    bench.write("images/other.toml", "version = 1\ninherits = \"debian-portage\"\n");
    let side = "build-side = \"cross-refused-side\"\n";
    refused(
        side,
        "image = \"other\"\n",
        &["has the image `other`, which `debian-portage-cross-sparc64` does not inherit"],
    );
    // A profile for another processor that is taken for this one.
    bench.write_profile("chost = \"aarch64-unknown-linux-gnu\"\narch = \"arm64\"\n");
    bench
        .build(&["app-misc/hello"])
        .fails(1, &["is for `aarch64-unknown-linux-gnu` (method `auto`)", "builds for amd64"]);
}

#[test]
fn what_is_wrong_on_the_build_side_is_told_of_its_profile() {
    let bench = cross(Who::Me, "cross-explained", ", \"own\"", "");
    bench.write_tree(&[
        ("tool", "KEYWORDS=\"~amd64\"\n"),
        ("flags", "IUSE=\"x\"\n"),
        ("lib", "KEYWORDS=\"~sparc\"\n"),
        ("app", "BDEPEND=\"own/tool own/flags[x] own/nowhere\"\nDEPEND=\"own/lib\"\n"),
    ]);
    let said = bench.run(&["plan", "--profile", &bench.profile, "own/app"]);
    let side = format!("of the build side, profile `{}-side`: ", bench.profile);
    let added = |line: &str, list: &str, profile: &str| {
        let file = bench.config.path().join(format!("profiles/{profile}.toml"));
        format!("add `{line}` to `package.{list}` in `{}`", file.display())
    };
    let its = format!("{}-side", bench.profile);
    said.fails(
        1,
        &[
            &format!("{side}`own/tool-1` is masked: it is not stable here yet (`~amd64` keyword)"),
            &added("=own/tool-1 ~amd64", "accept-keywords", &its),
            &format!("{side}`own/flags-1` is needed with USE=`x`"),
            &added("=own/flags-1 x", "use", &its),
            &format!("{side}no tree has `own/nowhere`"),
            "\n  `own/lib-1` is masked: it is not stable here yet (`~sparc` keyword)",
            &added("=own/lib-1 ~sparc", "accept-keywords", &bench.profile),
        ],
    );
}

#[test]
fn what_a_cross_build_declared_and_did_not_use_is_named() {
    let bench = cross(Who::Me, "cross-unused", ", \"own\"", "");
    let header = "src_install() { echo 'int x;' > \"${PN}.h\"; doheader \"${PN}.h\"; }\n";
    let app =
        "DEPEND=\"own/used own/unused\"\nsrc_compile() { echo '#include <used.h>' > x.c; ${CC} -c x.c || die; }\n";
    bench.write_tree(&[("used", header), ("unused", header), ("app", app)]);
    let said = bench.build(&["own/app"]);
    said.fails(0, &["own/app-1 declared and did not use: own/unused-1\n"]);
}

#[test]
fn a_dependency_that_needs_tools_to_be_installed_is_told_of() {
    let bench = cross(Who::Me, "cross-idepend", ", \"own\"", "");
    let lib = "IDEPEND=\"own/tool\"\nsrc_install() { echo 'int x;' > own.h; doheader own.h; }\n\
               pkg_postinst() { own-tool || die 'there is no tool'; }\n";
    bench.write_tree(&[("tool", TOOL), ("lib", lib), ("app", "DEPEND=\"own/lib\"\n")]);
    let told = "own/lib-1 is installed below /usr/sparc64-linux-gnu without what its IDEPEND names (`own/tool`)";
    bench.build(&["own/app"]).fails(3, &[told, "failed own/app-1: "]);
}

/// A folder that holds packages, unpacked, and the image's C library for sparc64, and nothing else.
struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    fn new(bench: &Bench, current: &Path, packages: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_string();
        let root = text(&dir.path().join("root"));
        std::fs::create_dir(&root).unwrap();
        // Read by a command in the image: its files are another's.
        let libc = dir.path().join("libc.tar");
        let said = bench
            .command(&["run", "--image", IMAGE, "--", "tar", "-cC", "/usr/sparc64-linux-gnu", "lib", "lib64"])
            .output();
        std::fs::write(&libc, said.unwrap().stdout).unwrap();
        tool("tar", &["-xf", &text(&libc), "-C", &root, "--exclude=*.a", "--exclude=*.o"]);
        for package in packages {
            let inner = tempfile::tempdir_in(dir.path()).unwrap();
            tool("tar", &["-xf", &text(&current.join(format!("{package}.gpkg.tar"))), "-C", &text(inner.path())]);
            let name = package.rsplit('/').next().unwrap();
            let image = inner.path().join(name).join("image.tar.zst");
            tool("tar", &["--zstd", "-xf", &text(&image), "-C", &root, "--strip-components=1", "--no-same-owner"]);
        }
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// Runs a program under the emulator, and returns what it prints.
    fn run(&self, program: &str, args: &[&str]) -> String {
        let root = self.dir.path().join("root");
        let program = root.join("usr/bin").join(program);
        let emulator = ["-L", root.to_str().unwrap(), "-E", "LD_LIBRARY_PATH=/usr/lib64:/lib"];
        tool("qemu-sparc64-static", &[&emulator, [program.to_str().unwrap()].as_slice(), args].concat())
    }
}
