use super::*;
use crate::package::header::Format;

const MAIN: &str = "int main(void) { return 0; }";

/// A package made up for a test.
#[derive(Clone, Default)]
struct Package {
    metadata: Metadata,
    /// By path: what is there.
    entries: std::collections::BTreeMap<String, (Kind, u32, Vec<u8>)>,
}

impl Package {
    fn new(files: &[(&str, &[u8])]) -> Self {
        files.iter().fold(Self::default(), |package, (path, data)| package.with(path, data))
    }

    fn with(mut self, path: &str, data: &[u8]) -> Self {
        self.entries.insert(path.to_string(), (Kind::File, 0o644, data.to_vec()));
        self
    }

    fn link(mut self, kind: Kind, path: &str, target: &str) -> Self {
        self.entries.insert(path.to_string(), (kind, 0o777, target.as_bytes().to_vec()));
        self
    }

    fn offers(&self) -> Offers {
        let mut collector = Collector::new(&self.metadata).unwrap();
        for (path, (kind, mode, data)) in &self.entries {
            let is_link = matches!(kind, Kind::SymLink | Kind::HardLink);
            let target = if is_link { data.clone() } else { Vec::new() };
            let data: &[u8] = if is_link { b"" } else { data };
            let name = format!("image{path}");
            let header = Header { kind: *kind, mode: *mode, target, ..Header::file(&name, data.len() as u64, 7) };
            collector.entry(&Header { format: Format::Gnu, ..header }, &mut { data }).unwrap();
        }
        collector.finish()
    }

    /// Returns the parts that differ from another's.
    fn changed(&self, other: &Self) -> String {
        let (a, b) = (self.offers(), other.offers());
        let parts = [("link", a.link != b.link), ("archives", a.archives != b.archives), ("tools", a.tools != b.tools)];
        parts.iter().filter(|(_, differs)| *differs).map(|(part, _)| *part).collect::<Vec<_>>().join(" ")
    }
}

fn library(text: &str) -> Vec<u8> {
    abi::tests::compiled(&["-shared", "-fPIC", "-Wl,-soname,liba.so.1"], text)
}

#[test]
fn each_change_concerns_the_parts_that_can_see_it() {
    let object = abi::tests::compiled(&["-c"], MAIN);
    let base = Package::new(&[
        ("/usr/bin/tool", &abi::tests::compiled(&[], MAIN)),
        ("/usr/bin/a-config", b"#!/bin/sh\necho -la\n"),
        ("/usr/include/a.h", b"int f(void);\n"),
        ("/usr/lib/debug/usr/lib64/liba.so.1.debug", b"x"),
        ("/usr/lib64/crt.o", &object),
        ("/usr/lib64/liba.a", b"!<arch>\none"),
        ("/usr/lib64/liba.so.1", &library("int f(void) { return 1; }")),
        ("/usr/lib64/pkgconfig/a.pc", b"Libs: -la\n"),
        ("/usr/share/doc/a-1/README", b"x"),
        ("/usr/share/man/man1/tool.1.bz2", b"BZh9x"),
    ])
    .link(Kind::SymLink, "/usr/lib64/liba.so", "liba.so.1");
    assert_eq!(base.changed(&base), "");
    for (path, data, parts) in [
        ("/usr/share/man/man1/tool.1.bz2", b"BZh9y".to_vec(), ""),
        ("/usr/share/man/man1/other.1", b"y".to_vec(), ""),
        ("/usr/share/doc/a-1/README", b"y".to_vec(), ""),
        ("/usr/lib/debug/usr/lib64/liba.so.1.debug", b"y".to_vec(), ""),
        ("/usr/share/manual", b"y".to_vec(), "link tools"),
        ("/usr/include/a.h", b"int f(void); /* says 1 */\n".to_vec(), "link tools"),
        ("/usr/include/b.h", b"".to_vec(), "link tools"),
        ("/usr/lib64/pkgconfig/a.pc", b"Libs: -lb\n".to_vec(), "link tools"),
        ("/usr/bin/a-config", b"#!/bin/sh\necho -lb\n".to_vec(), "link tools"),
        ("/usr/share/aclocal/a.m4", b"AC_DEFUN\n".to_vec(), "link tools"),
        ("/usr/lib64/liba.so.1", library("int f(void) { return 2; }"), "tools"),
        ("/usr/lib64/liba.so.1", library("int f(void) { return 1; } int g(void) { return 1; }"), "link tools"),
        ("/usr/lib64/liba.so.1", b"\x7fELF, and nothing more".to_vec(), "link tools"),
        ("/usr/lib64/liba.a", b"!<arch>\ntwo".to_vec(), "archives tools"),
        ("/usr/lib64/libb.a", b"!<arch>\none".to_vec(), "archives tools"),
        ("/usr/lib64/crt.o", abi::tests::compiled(&["-c"], "int g;"), "archives tools"),
        ("/usr/bin/tool", abi::tests::compiled(&[], "int main(void) { return 1; }"), "tools"),
        ("/usr/bin/tool2", abi::tests::compiled(&[], MAIN), "link tools"),
    ] {
        assert_eq!(base.clone().with(path, &data).changed(&base), parts, "{path}");
    }
    let moved = base.clone().link(Kind::SymLink, "/usr/lib64/liba.so", "liba.so.2");
    assert_eq!(moved.changed(&base), "link tools");
    let mut executable = base.clone();
    executable.entries.get_mut("/usr/lib64/liba.so.1").unwrap().1 = 0o755;
    assert_eq!(executable.changed(&base), "link tools");
}

#[test]
fn a_hard_link_is_a_file_like_its_target() {
    let lib = library(MAIN);
    let linked = Package::new(&[("/usr/a", &lib)]).link(Kind::HardLink, "/usr/b", "image/usr/a");
    let mut copied = Package::new(&[("/usr/a", &lib), ("/usr/b", &lib)]);
    copied.entries.get_mut("/usr/b").unwrap().1 = 0o777;
    assert_eq!(linked.changed(&copied), "");
    let documented = Package::new(&[("/usr/share/doc/a", b"x")]).link(Kind::HardLink, "/z", "image/usr/share/doc/a");
    let other = Package::new(&[("/usr/share/doc/a", b"y")]).link(Kind::HardLink, "/z", "image/usr/share/doc/a");
    assert_eq!(documented.changed(&other), "link tools");
}

#[test]
fn code_that_runs_at_merging_counts_and_other_code_does_not() {
    let package = |phases: &str, text: &str| {
        let mut package = Package::default();
        package.metadata.insert("DEFINED_PHASES".into(), phases.into());
        package.metadata.insert(ENVIRONMENT.into(), environment::pack(text.as_bytes()).unwrap());
        package
    };
    let changed = |phases: &str| package(phases, "A=1\n").changed(&package(phases, "A=2\n"));
    assert_eq!(changed("compile install prerm"), "");
    assert_eq!(changed("compile install postinst"), "link tools");
}

#[test]
fn the_proof_that_there_is_no_code_takes_nothing_for_granted() {
    let long = [&b"x".repeat(CHUNK - 4)[..], b"-march=native\n"].concat();
    for (path, data, why) in [
        ("/usr/bin/a", &b"#!/bin/sh\n"[..], None),
        ("/usr/bin/a", b"", None),
        ("/usr/share/a.png", b"\x89PNG\r\n\x1a\n\0\0\0", None),
        ("/usr/share/locale/de/LC_MESSAGES/a.mo", b"\xde\x12\x04\x95\0", None),
        ("/usr/lib/python3/__pycache__/a.cpython-313.pyc", b"\xf3\x0d\r\n\0\0\0\0\0\0", None),
        ("/usr/share/man/man1/a.1.bz2", b"BZh9\0", None),
        ("/usr/share/doc/a/README", b"built with -march=native", None),
        ("/usr/share/latin1", b"caf\xe9", None),
        ("/usr/bin/a", b"\x7fELF", Some(Why::Compiled)),
        ("/usr/share/doc/a/example", b"\x7fELF", Some(Why::Compiled)),
        ("/usr/lib64/a.a", b"!<arch>\n", Some(Why::Compiled)),
        ("/usr/lib64/a.a", b"!<thin>\n", Some(Why::Compiled)),
        ("/usr/lib64/a.bc", b"BC\xc0\xde", Some(Why::Compiled)),
        ("/usr/lib64/a.gch", b"gpch.014", Some(Why::Compiled)),
        ("/usr/lib/modules/a.ko.xz", b"\xfd7zXZ\0", Some(Why::Packed)),
        ("/usr/lib/a.whl", b"PK\x03\x04", Some(Why::Packed)),
        ("/usr/lib/a.lut", b"a\0b", Some(Why::Unknown)),
        ("/usr/bin/a-config", b"echo -O2 -march=native", Some(Why::Flags)),
        ("/usr/bin/a-config", &long, Some(Why::Flags)),
    ] {
        let code = Package::new(&[("/a", b"text"), (path, data)]).offers().code;
        assert_eq!(code, why.map(|why| Code { path: path.to_string(), why }), "{path}");
    }
    assert_eq!(Package::new(&[("/a", b"text")]).offers().not_proven(), None);
}

#[test]
fn the_options_that_it_was_compiled_with_are_in_no_text() {
    for (text, why) in [
        ("flags='-O2 -pipe'", Some(Why::Flags)),
        ("-O2 -pipe", Some(Why::Flags)),
        ("-O2", None),
        ("x-O2 -pipe", None),
        ("-O2 -pipes", None),
        ("-O2 -pipe=x", None),
        ("python -O2 -pipe -q", Some(Why::Flags)),
        ("-Wl,-O1", Some(Why::Flags)),
        ("#define HAVE_AVX2 1", Some(Why::Flags)),
        ("GOAMD64=v3", Some(Why::Flags)),
    ] {
        let mut package = Package::new(&[("/usr/share/a", text.as_bytes())]);
        package.metadata.insert("CFLAGS".into(), b"-O2 -pipe\n".to_vec());
        package.metadata.insert("LDFLAGS".into(), b"-Wl,-O1\n".to_vec());
        assert_eq!(package.offers().code.map(|code| code.why), why, "{text}");
    }
    // Wherever it is cut.
    let options = [b"-O2 -pipe".to_vec()];
    for at in 0..25 {
        let (a, b) = b"12345 -O2 -pipe 67890 1234".split_at(at);
        let mut scan = code::Scan::new(&options);
        [a, &b[..1], &b[1..]].iter().for_each(|part| scan.take(part));
        assert_eq!(scan.finish(false), Some(Why::Flags), "{at}");
    }
}

#[test]
fn what_may_compile_when_it_is_merged_is_not_proven() {
    for (phases, text, proven) in [
        ("postinst", "pkg_postinst () \n{ \n    gcc ${CFLAGS} x.c\n}\n", false),
        ("setup", "pkg_setup () \n{ \n    $(tc-getCC) x.c\n}\n", false),
        ("postinst", "declare -x CFLAGS=\"-O2\"\npkg_postinst () \n{ \n    elog x\n}\n", true),
        ("compile install", "src_compile () \n{ \n    gcc ${CFLAGS} x.c\n}\n", true),
    ] {
        let mut package = Package::new(&[("/a", b"text")]);
        package.metadata.insert("DEFINED_PHASES".into(), phases.into());
        package.metadata.insert(ENVIRONMENT.into(), environment::pack(text.as_bytes()).unwrap());
        let why = package.offers().not_proven();
        assert_eq!(why.is_none(), proven, "{phases} {why:?}");
    }
}

#[test]
fn a_proof_by_other_rules_is_none() {
    let offers = Package::new(&[("/a", b"text")]).offers();
    let json = serde_json::to_string(&offers).unwrap().replace(",\"proof\":1", "");
    let old: Offers = serde_json::from_str(&json).unwrap();
    assert!(old.is_current());
    assert_eq!(old.not_proven().unwrap(), "an earlier bindery looked at it");
}

#[test]
fn a_flag_is_found_wherever_it_is_cut() {
    for at in 0..20 {
        let (a, b) = b"12345 -march=x 67890".split_at(at);
        for parts in [vec![a, b], vec![a, &b[..b.len() / 2], &b[b.len() / 2..]]] {
            let mut scan = code::Scan::new(&[]);
            parts.iter().for_each(|part| scan.take(part));
            assert_eq!(scan.finish(false), Some(Why::Flags), "{at}");
        }
    }
}

#[test]
fn digests_of_other_rules_are_not_current() {
    let offers = Package::new(&[("/a", b"text")]).offers();
    assert!(offers.is_current());
    let json = serde_json::to_string(&offers).unwrap();
    assert_eq!(serde_json::from_str::<Offers>(&json).unwrap(), offers);
    let other: Offers = serde_json::from_str(&json.replace("\"version\":1", "\"version\":0")).unwrap();
    assert!(!other.is_current());
}
