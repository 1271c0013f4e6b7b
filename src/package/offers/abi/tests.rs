//! What a compiler of today makes, and what hostile hands make of it. Needs `cc`, which links every Rust program.

use std::path::PathBuf;

use super::*;
use crate::{fs, process};

/// Returns what `cc` makes of a C text with these arguments.
pub(crate) fn compiled(args: &[&str], text: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("a.c"), text).unwrap();
    fs::write(&dir.path().join("versions"), "ONE { global: f; g; local: *; };\nTWO { global: h; } ONE;\n").unwrap();
    let mut command = process::command("cc");
    command.current_dir(dir.path()).args(["-O1", "-w", "-o", "out", "a.c"]).args(args);
    process::run(&mut command).expect("a C compiler: apt-get install gcc");
    fs::read(&dir.path().join("out")).unwrap()
}

fn library(args: &[&str], text: &str) -> Vec<u8> {
    compiled(&[&["-shared", "-fPIC", "-Wl,-soname,liba.so.1"], args].concat(), text)
}

fn readable(bytes: &[u8]) -> Option<Vec<String>> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).ok()?;
    let text = |line: Vec<u8>| String::from_utf8_lossy(&line).replace('\0', " ");
    Some(lines(bytes, &file)?.into_iter().map(text).collect())
}

/// Uses the C library in any case: some compilers do not link with it for nothing.
const BASE: &str =
    "int getpid(void); int d = 1; static int s(int a) { return a + 1; } int f(int a) { return s(getpid()); }";

#[test]
fn what_a_library_exports_is_its_abi() {
    let lines = readable(&library(&[], BASE)).unwrap();
    let has = |line: &str| assert!(lines.iter().any(|l| l == line), "no `{line}` in {lines:#?}");
    has("elf 64 little 0 0 62 0 library");
    has("soname liba.so.1");
    has("needed libc.so.6");
    assert!(lines.iter().any(|l| l.starts_with("symbol d  1 1 0 false 4 ") && l.ends_with(" true d")), "{lines:#?}");
    has("symbol f  2 1 0 false");
    assert!(!lines.iter().any(|line| line.contains(" s ")), "{lines:#?}");
}

#[test]
fn what_no_dependant_can_see_does_not_change_the_abi() {
    let before = readable(&library(&[], BASE));
    for (args, text) in [
        (
            &[][..],
            "int getpid(void); int d = 7; static int s(int a) { return a * 3; } int f(int a) { return s(getpid()) - d; }",
        ),
        (&[], "int getpid(void); int d = 1; int f(int a) { static int t[100]; return t[getpid() % 100]++; }"),
        (&[], "int getpid(void), getppid(void); int d = 1; int f(int a) { return getpid() + getppid(); }"),
        (&["-g"], BASE),
        (&["-O0"], BASE),
        (&["-Wl,--build-id=sha1"], BASE),
        (&["-Wl,-z,now"], BASE),
        (&["-Wl,-s"], BASE),
    ] {
        assert_eq!(readable(&library(args, text)), before, "{args:?} {text}");
    }
}

#[test]
fn what_a_dependant_can_see_changes_the_abi() {
    let before = readable(&library(&[], BASE));
    for (args, text) in [
        (&[][..], "int getpid(void); int d = 1; int f(int a) { return getpid(); } int g;"),
        (&[], "int getpid(void); int d = 1; int f(int a) { return getpid(); } void g(void) {}"),
        (&[], "int getpid(void); int f(int a) { return getpid(); }"),
        (&[], "int getpid(void); int d[2]; int f(int a) { return getpid(); }"),
        (&[], "int getpid(void); const int d = 1; int f(int a) { return getpid(); }"),
        (&[], "int getpid(void); __thread int d = 1; int f(int a) { return getpid(); }"),
        (&[], "int getpid(void); int d __attribute__((aligned(64))) = 1; int f(int a) { return getpid(); }"),
        (
            &[],
            "int getpid(void); int d = 1; extern int e __attribute__((alias(\"d\"))); int f(int a) { return getpid(); }",
        ),
        (&[], "int getpid(void); int d = 1; __attribute__((weak)) int f(int a) { return getpid(); }"),
        (
            &[],
            "int getpid(void); int d = 1; __attribute__((visibility(\"protected\"))) int f(int a) { return getpid(); }",
        ),
        (&[], "int getpid(void); int d = 1; int given(int); int f(int a) { return given(getpid()); }"),
        (
            &[],
            "int d = 1; static int r(int a) { return getpid(); } static void *p(void) { return r; }\n\
               int f(int a) __attribute__((ifunc(\"p\")));",
        ),
        (&["-Wl,-soname,liba.so.2"], BASE),
        (&["-Wl,--no-as-needed", "-lm"], BASE),
        (&["-Wl,-rpath,/usr/lib/a"], BASE),
        (&["-Wl,--version-script=versions"], BASE),
    ] {
        let after = readable(&library(args, text));
        assert!(after.is_some() && after != before, "{args:?} {text}\n{after:#?}");
    }
}

#[test]
fn versions_belong_to_the_abi() {
    let text = "int f(void) { return 1; } int g(void) { return 2; } int h(void) { return 3; }";
    let lines = readable(&library(&["-Wl,--version-script=versions"], text)).unwrap();
    for line in ["version ONE", "version TWO ONE", "symbol f ONE 2 1 0 false", "symbol h TWO 2 1 0 false"] {
        assert!(lines.iter().any(|l| l == line), "no `{line}` in {lines:#?}");
    }
    // Another default, and the earlier one kept for programs that have it.
    let old = "__asm__(\".symver old,f@ONE\"); __asm__(\".symver new,f@@TWO\");\n\
               int old(void) { return 1; } int new(void) { return 2; } int g(void) { return 2; }";
    let lines = readable(&library(&["-Wl,--version-script=versions"], old)).unwrap();
    for line in ["symbol f ONE 2 1 0 true", "symbol f TWO 2 1 0 false"] {
        assert!(lines.iter().any(|l| l == line), "no `{line}` in {lines:#?}");
    }
}

#[test]
fn programs_objects_and_libraries_are_told_apart() {
    let main = "int main(void) { return 0; }";
    assert_eq!(of(&compiled(&["-c"], main)), Some(Elf::Object));
    for args in [&[][..], &["-no-pie"], &["-static"], &["-static-pie"]] {
        let lines = readable(&compiled(args, main)).unwrap();
        assert!(lines[0].ends_with(" program"), "{args:?} {lines:#?}");
    }
    // What plug-ins may use of a program.
    let exporting = |text| readable(&compiled(&["-rdynamic"], text));
    assert_ne!(exporting(main), exporting("int main(void) { return 0; } void hook(void) {}"));
    assert_eq!(exporting(main), exporting("int main(void) { return 7; }"));
    assert_eq!(of(b"\x7fELF"), None);
    assert_eq!(of(b""), None);
}

/// Shared libraries as the world has them: one with many versions, one without.
fn real() -> Vec<Vec<u8>> {
    let mut command = process::command("cc");
    let path = process::run(command.arg("-print-file-name=libc.so.6")).unwrap().stdout;
    let path = PathBuf::from(String::from_utf8(path).unwrap().trim_end());
    vec![fs::read(&path).unwrap(), library(&[], BASE)]
}

#[test]
fn a_real_library_is_read() {
    let lines = readable(&real()[0]).unwrap();
    assert!(lines.len() > 1000 && lines.iter().any(|line| line == "soname libc.so.6"), "{}", lines.len());
    assert!(
        lines.iter().any(|line| line.starts_with("symbol environ GLIBC_2.2.5 1 2 ") && line.ends_with("__environ"))
    );
}

#[test]
fn whatever_is_cut_off_or_flipped_it_ends_without_a_panic() {
    let mut state = 1_u64;
    let mut number = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for bytes in real() {
        for part in 0..100 {
            let _ = of(&bytes[..bytes.len() * part / 100]);
        }
        for length in 0..200 {
            let _ = of(&bytes[..length]);
        }
        // The places that lead to others: the header, the sections' headers, and what those say of tables.
        let sections = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
        let mut places: Vec<usize> = (0..64).chain(sections..bytes.len()).collect();
        let file = ElfBytes::<AnyEndian>::minimal_parse(&bytes).unwrap();
        for kind in [consts::SHT_DYNAMIC, consts::SHT_GNU_VERDEF, consts::SHT_GNU_VERSYM, consts::SHT_DYNSYM] {
            for section in file.section_headers().unwrap().iter().filter(|section| section.sh_type == kind) {
                let start = usize::try_from(section.sh_offset).unwrap();
                places.extend(start..start + usize::try_from(section.sh_size.min(2000)).unwrap());
            }
        }
        let mut bytes = bytes;
        for _ in 0..1500 {
            let at = places[number(places.len())];
            let was = bytes[at];
            bytes[at] = [0, 0xff, was ^ 0x80, was.wrapping_add(1)][number(4)];
            let _ = of(&bytes);
            // Some stay, so that several things are wrong at once.
            if number(8) != 0 {
                bytes[at] = was;
            }
        }
    }
}

#[test]
fn names_without_an_end_and_names_without_number_are_given_up() {
    let mut budget = 10;
    assert_eq!(name(b"abc\0", 0, &mut budget), Some(&b"abc"[..]));
    assert_eq!(name(b"abc", 0, &mut budget), None);
    assert_eq!(name(b"abc\0", 9, &mut budget), None);
    assert_eq!(name(b"abcdefg\0", 0, &mut budget), None);
    assert_eq!(budget, 6);
    for _ in 0..6 {
        assert!(name(b"\0", 0, &mut budget).is_some());
    }
    assert_eq!(name(b"\0", 0, &mut budget), None);
}
