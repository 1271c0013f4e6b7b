//! The files in `recorded/` are logs of real builds that failed: of the broken tree in `tests/`, and of GNU hello with
//! an error put into it (cut).

use super::*;

fn failure(log: &[u8]) -> Failure {
    read(&mut &log[..]).unwrap()
}

macro_rules! recorded {
    ($name:literal) => {
        failure(include_bytes!(concat!("recorded/", $name, ".log")))
    };
}

fn check(failure: Failure, phase: Option<&str>, reason: Option<&str>, telling: &[&str]) {
    assert_eq!(failure.phase.as_deref(), phase);
    assert_eq!(failure.reason.as_deref(), reason);
    assert_eq!(failure.telling, telling);
}

#[test]
fn a_compilers_errors_are_telling() {
    check(
        recorded!("compile"),
        Some("compile"),
        Some("greet.c does not compile"),
        &[
            "greet.c:1:25: error: implicit declaration of function ‘undeclared_greeting’ [-Wimplicit-function-declaration]",
            "greet.c:1:45: error: expected expression before ‘;’ token",
            "greet.c:1:46: error: expected ‘;’ before ‘}’ token",
        ],
    );
    check(
        recorded!("undeclared-dependency"),
        Some("compile"),
        Some("bzip2 is not there"),
        &["use.c:1:10: fatal error: bzlib.h: No such file or directory"],
    );
}

#[test]
fn errors_far_from_the_end_of_a_parallel_make_are_found() {
    check(
        recorded!("make"),
        Some("compile"),
        Some("emake failed"),
        &[
            "src/hello.c:185:27: error: implicit declaration of function 'undefined_function' [-Wimplicit-function-declaration]",
            "make[2]: *** [Makefile:1658: src/hello.o] Error 1",
            "make[1]: *** [Makefile:1878: all-recursive] Error 1",
            "make: *** [Makefile:1413: all] Error 2",
        ],
    );
}

#[test]
fn without_marked_errors_the_last_lines_are_telling() {
    check(
        recorded!("install"),
        Some("install"),
        Some("dobin failed"),
        &["!!! dobin: nothing-that-was-built does not exist"],
    );
}

#[test]
fn failures_before_the_first_phase_are_read_too() {
    check(
        recorded!("no-distfile"),
        Some("fetch"),
        None,
        &[
            "!!! No write access to '/var/cache/distfiles'",
            "!!! File no-distfile-1.tar.gz isn't fetched but unable to get it.",
        ],
    );
    check(
        recorded!("required-use"),
        None,
        None,
        &[
            "!!! Problem resolving dependencies for =refused/required-use-1",
            "!!! The ebuild selected to satisfy \"=refused/required-use-1\" has unmet requirements.",
            "- refused/required-use-1::bindery-broken USE=\"-gui -text\"",
            "  The following REQUIRED_USE flag constraints are unsatisfied:",
            "    exactly-one-of ( gui text )",
        ],
    );
}

#[test]
fn a_dependency_that_cannot_be_installed_is_named() {
    let collision = recorded!("collision");
    assert_eq!(collision.cpv.as_ref().unwrap().to_string(), "odd/collide-b-1");
    check(
        collision,
        Some("dependencies"),
        None,
        &[
            " *     /usr/bin/odd-collide",
            " * Searching all installed packages for file collisions...",
            " * Press Ctrl-C to Stop",
            " * odd/collide-a-1:0::bindery-broken",
            " *     /usr/bin/odd-collide",
            " * Package 'odd/collide-b-1' NOT merged due to file collisions. If",
            " * necessary, refer to your elog messages for the whole content of the",
            " * above message.",
        ],
    );
    let postinst = recorded!("postinst");
    assert_eq!(postinst.cpv.unwrap().to_string(), "fails/postinst-1");
    assert_eq!(
        (postinst.phase.as_deref(), postinst.reason.as_deref()),
        (Some("postinst"), Some("cannot be set up here"))
    );
}

#[test]
fn a_build_that_was_stopped_tells_its_phase_and_last_lines() {
    let log = b">>> Compiling source in /x ...\ngcc -c a.c\ngcc -c b.c\n";
    check(failure(log), Some("compile"), None, &["gcc -c a.c", "gcc -c b.c"]);
    check(failure(b""), None, None, &[]);
}

#[test]
fn errors_of_earlier_phases_do_not_count() {
    let log =
        b">>> Configuring source in /x ...\nconftest.c:1:1: error: no such thing\n>>> Compiling source in /x ...\nok\n";
    assert_eq!(failure(log).telling, ["ok"]);
}

#[test]
fn many_kinds_of_errors_are_known() {
    for line in [
        "a.cc:3:1: error: expected ';'",
        "/usr/bin/ld: cannot find -lfoo: No such file or directory",
        "a.o: in function `main': a.c:(.text+0x5): undefined reference to `f'",
        "configure: error: no acceptable C compiler found in $PATH",
        "CMake Error at CMakeLists.txt:3 (find_package):",
        "make[1]: *** No rule to make target 'x', needed by 'all'.  Stop.",
        "ModuleNotFoundError: No module named 'setuptools'",
        "subprocess.CalledProcessError: Command '['x']' returned non-zero exit status 1.",
        "FAILED: libx.so.p/a.c.o",
        "meson.build:3:0: ERROR: Dependency \"x\" not found",
        "bash: line 1: frobnicate: command not found",
        "error[E0308]: mismatched types",
        "gcc: fatal error: Killed signal terminated program cc1plus",
    ] {
        assert!(is_error(line), "{line}");
    }
    for line in [
        "checking for errno.h... yes",
        "gcc -c error.c -o error.o",
        "-Werror: no",
        "make[2]: Leaving directory '/x'",
        "warning: unused variable 'error'",
        "Note: an Error: is not one here",
    ] {
        assert!(!is_error(line), "{line}");
    }
}

#[test]
fn a_hostile_log_is_bounded_and_harmless() {
    let mut log = b">>> Compiling source in /x ...\n".to_vec();
    for i in 0..1000 {
        log.extend(format!("a.c:{i}:1: error: \u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}\u{202e}txt.\n").into_bytes());
    }
    log.extend(vec![b'x'; 1 << 20]);
    log.extend(b"\n * ERROR: a/b-1::t failed (compile phase):\n");
    for i in 0..100 {
        log.extend(format!(" *   line {i}\n").into_bytes());
    }
    let Failure { cpv, phase, reason, telling, .. } = failure(&log);
    assert_eq!(cpv.unwrap().to_string(), "a/b-1");
    assert_eq!(phase.as_deref(), Some("compile"));
    assert_eq!(reason.unwrap(), "line 0 line 1 line 2 line 3");
    assert_eq!(telling.len(), TELLING);
    assert_eq!(telling[0], "a.c:0:1: error: red txt.");
}

#[test]
fn that_there_was_no_space_is_noticed_wherever_it_is_said() {
    let report = " * ERROR: a/b-1::t failed (compile phase):\n *   emake failed\n";
    let said = "cc1: error writing to x.s: No space left on device\n";
    assert!(failure(format!("{said}{report}").as_bytes()).no_space);
    assert!(failure(format!("{report}\n{said}").as_bytes()).no_space);
    assert!(!failure(report.as_bytes()).no_space);
}

#[test]
fn lines_are_cleaned() {
    for (bytes, text) in [
        (&b"10%\r50%\r100% done\n"[..], "100% done"),
        (b"a\tb\x07\x08c\xff\n", "a    bc\u{fffd}"),
        (b"\x1b[1;31mbold\x1b[m \x1b(Bx\x1b]8;;http://x\x1b\\link\n", "bold xlink"),
        (b"\x1b[", ""),
        (b"\x1b", ""),
    ] {
        assert_eq!(clean(bytes), text);
    }
    assert_eq!(clean("ä".repeat(2000).as_bytes()).chars().count(), SHOWN + 1);
}

#[test]
fn a_report_that_is_no_report_is_not_believed() {
    for line in [
        " * ERROR: x",
        " * ERROR: x failed (\u{1b} phase):",
        " * ERROR: x failed ( phase):",
        "ERROR: x failed (compile phase):",
    ] {
        assert_eq!(failed_phase(line), None, "{line:?}");
    }
}

#[test]
fn what_was_not_found_in_the_phase_that_failed_is_kept() {
    assert_eq!(recorded!("undeclared-dependency").missing, [Missing::Header("bzlib.h".into())]);
    let log = b">>> Configuring source in /x\nx: line 1: early: command not found\n>>> Compiling source in /x\n\
        checking for first... no\nchecking for second.h... no\nconfigure: error: second is needed\n\
        checking for third... no\n/bin/sh: 1: late: not found\n/bin/sh: 1: late: not found\n\
        * ERROR: a/b-1::t failed (compile phase):\n";
    let missing = failure(log).missing;
    assert_eq!(missing, [Missing::Header("second.h".into()), Missing::Tool("late".into())]);
    let many: String = (0..100).map(|n| format!("sh: 1: tool{n}: not found\n")).collect();
    assert_eq!(failure(many.as_bytes()).missing.len(), MISSING);
}
