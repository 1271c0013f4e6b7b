//! The audit of what packages need of processors, with real packages: what is refused, what passes, and what is said.

use crate::bench::{Bench, Said, tool};

/// A loop that compilers make vector instructions of.
const SCALE: &str = "void scale(float *a, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1; }\n";
/// A package whose Makefile knows better.
const BOLD: &str = "\
src_unpack() { cp \"${FILESDIR}\"/* . || die; }
src_compile() { emake CC=\"${CC:-gcc}\"; }
src_install() { dolib.so libbold.so.1; }
";
const MAKEFILE: &str = "\
override CFLAGS += -mavx2 -O3
libbold.so.1: bold.o
\t$(CC) $(CFLAGS) $(LDFLAGS) -shared -o $@ $<
bold.o: bold.c
\t$(CC) $(CFLAGS) -fPIC -c -o $@ $<
";
/// As the C library chooses its functions.
const DISPATCH: &str = "\
__attribute__((target(\"avx2\"), noinline)) static void scale_avx2(float *a, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1; }
__attribute__((noinline)) static void scale_c(float *a, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1; }
static void (*choose(void))(float *, int) { __builtin_cpu_init(); return __builtin_cpu_supports(\"avx2\") ? scale_avx2 : scale_c; }
void scale(float *a, int n) __attribute__((ifunc(\"choose\")));
";
const POLITE: &str = "\
src_unpack() { cp \"${FILESDIR}\"/* . || die; }
src_compile() { ${CC:-gcc} ${CFLAGS} ${LDFLAGS} -O2 -fPIC -shared -o libpolite.so.1 polite.c || die; }
src_install() { dolib.so libpolite.so.1; }
";
/// Installs what another machine runs.
const FOREIGN: &str = "src_install() { insinto /usr/share/foreign; doins \"${FILESDIR}\"/foreign.o; }\n";

const SECOND: &str = "trees = [\"bindery-test\", \"own\"]\n[flags]\ncflags = \"-O2 -pipe -march=x86-64-v2\"\n";

fn bench(name: &str) -> Bench {
    let bench = Bench::new(name);
    bench.write_tree(&[("bold", BOLD), ("polite", POLITE)]);
    bench.write("own/own/bold/files/bold.c", SCALE);
    bench.write("own/own/bold/files/Makefile", MAKEFILE);
    bench.write("own/own/polite/files/polite.c", DISPATCH);
    bench.write_profile(SECOND);
    bench
}

fn is_published(bench: &Bench, package: &str) -> bool {
    // What clients are told: files of earlier generations stay for those who may still come for them.
    let index = std::fs::read_to_string(bench.profile_dir().join("current/Packages")).unwrap();
    index.lines().any(|line| line == format!("CPV: own/{package}-1"))
}

#[test]
fn a_package_beyond_the_level_is_refused_with_function_instruction_and_the_flag_that_did_it() {
    let bench = bench("audit-bold");
    let refused = |said: &Said| {
        said.fails(
            3,
            &[
                "its package was refused: it needs more than x86-64-v2, the profile's level",
                "`/usr/lib64/libbold.so.1`, `scale`, at 0x",
                " needs avx (x86-64-v3)",
                "`-mavx2` is in the log: ",
                " -fPIC -c -o bold.o bold.c",
                "[[isa.exceptions]] package = \"own/bold\", file = \"/usr/lib64/libbold.so.1\", symbol = \"scale\"",
            ],
        );
        assert!(!is_published(&bench, "bold"));
    };
    let said = bench.build(&["own/bold", "own/polite"]);
    refused(&said);
    // What dispatches is published beside it, and that is said.
    said.fails(3, &["own/polite-1 has code beyond the level: ", " functions only where the processor has it"]);
    assert!(is_published(&bench, "polite"));
    bench.run(&["log", "own/bold"]).works().prints(&["`-mavx2` is in the log", "needs avx (x86-64-v3)"]);

    // An exception that names something else helps nothing, and is told.
    let exception = |symbol: &str| {
        format!(
            "{SECOND}[[isa.exceptions]]\npackage = \"own/bold\"\nfile = \"/usr/lib64/libbold.so.*\"\nsymbol = \"{symbol}\"\n\
             reason = \"nobody calls it\"\n[[isa.exceptions]]\npackage = \"own/polite\"\nfile = \"/usr/bin/polite\"\n\
             reason = \"a mistake\"\n[[isa.exceptions]]\npackage = \"own/gone\"\nfile = \"/usr/bin/gone\"\n\
             reason = \"it was there once\"\n"
        )
    };
    bench.write_profile(&exception("other"));
    refused(&bench.build(&["own/bold"]));
    bench.write_profile(&exception("sca*"));
    let said = bench.build(&["own/bold", "own/polite"]);
    said.works().fails(
        0,
        &[
            "own/bold-1 has code beyond the level: 0 functions only where the processor has it, 1 by exceptions",
            "1 exceptions from the level let 1 findings pass",
            "the exception for `own/polite`, `/usr/bin/polite` lets nothing pass",
            "the exception for `own/gone`, `/usr/bin/gone` is for a package that no tree has",
        ],
    );
    assert!(is_published(&bench, "bold"));
    // Used again without being read again, it counts all the same.
    let said = bench.build(&["own/bold"]);
    said.works().fails(0, &["nothing to build", "1 exceptions from the level let 1 findings pass"]);

    // Without the exception, what the pool has is not used, nor published any more; and it is not built again: the same
    // would come of it.
    bench.write_profile(SECOND);
    let said = bench.build(&["own/bold", "own/polite"]);
    said.fails(3, &["its package in the pool is refused: it needs more than x86-64-v2", "is not published any more"]);
    assert!(!said.err.contains("] building"), "{said}");
    assert!(!is_published(&bench, "bold") && is_published(&bench, "polite"));
    // Processors that can do it make it good, and nothing is built for that.
    bench.write_profile(&format!("{SECOND}[isa]\nlevel = \"x86-64-v3\"\n"));
    bench.build(&["own/bold"]).works().lacks("] building");
    assert!(is_published(&bench, "bold"));
}

#[test]
fn what_another_machine_runs_is_refused_unless_the_profile_says_why_it_is_there() {
    let bench = bench("audit-foreign");
    bench.write_tree(&[("foreign", FOREIGN)]);
    let folder = bench.config.path().join("own/own/foreign/files");
    std::fs::create_dir_all(&folder).unwrap();
    let object = folder.join("foreign.o");
    let source = bench.write("foreign.c", SCALE);
    tool("cc", &["-c", "-o", object.to_str().unwrap(), source.to_str().unwrap()]);
    let mut bytes = std::fs::read(&object).unwrap();
    // Big-endian, SPARC V9.
    (bytes[5], bytes[18], bytes[19]) = (2, 0, 43);
    std::fs::write(&object, bytes).unwrap();
    let file = "/usr/share/foreign/foreign.o";
    let texts = [
        "its package was refused: it holds what does not run on x86_64-pc-linux-gnu",
        "it is for SPARC v9, 64-bit, big-endian; `x86_64-pc-linux-gnu` is x86-64, 64-bit, little-endian",
        &format!("[[isa.exceptions]] package = \"own/foreign\", file = \"{file}\", reason"),
    ];
    bench.build(&["own/foreign"]).fails(3, &texts);
    bench.write_profile(&format!(
        "{SECOND}[[isa.exceptions]]\npackage = \"own/foreign\"\nfile = \"{file}\"\nreason = \"it is data of a test\"\n"
    ));
    bench.build(&["own/foreign"]).works();
    assert!(is_published(&bench, "foreign"));
}
