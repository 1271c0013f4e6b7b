use proptest::prelude::*;

use super::*;

fn package(path: &str) -> Package {
    Package {
        path: path.parse().unwrap(),
        size: 10240,
        build_time: 1_795_230_796,
        md5: "92439df042460d5aec1a2c5f98bf758b".into(),
        sha1: "2ff9c4c695dd505729198514e7e0f7dddefd104e".into(),
        fields: [
            ("CHOST", "x86_64-pc-linux-gnu"),
            ("EAPI", "8"),
            ("DESC", "A  library\n"),
            ("KEYWORDS", "amd64"),
            ("PROVIDES", "x86_64: libfoo.so.1"),
            ("REPO", "demo"),
            ("RDEPEND", ""),
            ("SLOT", "0"),
            ("USE", "amd64"),
        ]
        .map(|(key, value)| (key, value.to_string()))
        .into(),
    }
}

fn index() -> Index {
    Index {
        timestamp: 1_795_230_797,
        header: [("ARCH", "amd64"), ("CHOST", "x86_64-pc-linux-gnu"), ("REPO_REVISIONS", r#"{"demo": "1"}"#)]
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .into(),
        packages: vec![
            package("dev-libs/libfoo/libfoo-1.0-r1-2.gpkg.tar"),
            package("app-misc/hello/hello-2.10-1.gpkg.tar"),
        ],
    }
}

#[test]
fn an_index_reads_as_portage_writes_it() {
    let text = render(&index()).unwrap();
    insta::assert_snapshot!(text, @r#"
    ARCH: amd64
    CHOST: x86_64-pc-linux-gnu
    PACKAGES: 2
    REPO_REVISIONS: {"demo": "1"}
    TIMESTAMP: 1795230797
    VERSION: 0

    BUILD_ID: 1
    BUILD_TIME: 1795230796
    CPV: app-misc/hello-2.10
    DESC: A library
    EAPI: 8
    KEYWORDS: amd64
    MD5: 92439df042460d5aec1a2c5f98bf758b
    PATH: app-misc/hello/hello-2.10-1.gpkg.tar
    PROVIDES: x86_64: libfoo.so.1
    SHA1: 2ff9c4c695dd505729198514e7e0f7dddefd104e
    SIZE: 10240
    USE: amd64
    MTIME: 1795230796
    REPO: demo

    BUILD_ID: 2
    BUILD_TIME: 1795230796
    CPV: dev-libs/libfoo-1.0-r1
    DESC: A library
    EAPI: 8
    KEYWORDS: amd64
    MD5: 92439df042460d5aec1a2c5f98bf758b
    PATH: dev-libs/libfoo/libfoo-1.0-r1-2.gpkg.tar
    PROVIDES: x86_64: libfoo.so.1
    SHA1: 2ff9c4c695dd505729198514e7e0f7dddefd104e
    SIZE: 10240
    USE: amd64
    MTIME: 1795230796
    REPO: demo
    "#);
    assert!(text.ends_with("REPO: demo\n\n"));
}

#[test]
fn the_order_of_packages_does_not_matter() {
    let mut other = index();
    other.packages.reverse();
    assert_eq!(render(&index()).unwrap(), render(&other).unwrap());
    assert_eq!(gzip(&render(&index()).unwrap()), gzip(&render(&other).unwrap()));
}

#[test]
fn an_index_reads_back() {
    let mut index = index();
    index.packages.reverse();
    for package in &mut index.packages {
        package.fields.insert("DESC", "A library".into());
        package.fields.retain(|key, value| !value.is_empty() && *key != "SLOT");
    }
    let text = render(&index).unwrap();
    assert_eq!(parse(&text).unwrap(), index);
    let empty = Index { packages: Vec::new(), ..index };
    assert_eq!(parse(&render(&empty).unwrap()).unwrap(), empty);
}

#[test]
fn metadata_cannot_begin_a_line() {
    let mut index = index();
    index.packages[0].fields.insert("DESC", "x\nPATH: ../../evil\r\rURI: http://evil".into());
    let text = render(&index).unwrap();
    assert!(text.contains("DESC: x PATH: ../../evil URI: http://evil\n"), "{text}");
    for bad in ["a\u{0}b", "a\u{1b}[2J", "a\u{85}b", "a\u{2028}b", "a\u{b}b\u{7f}"] {
        index.packages[0].fields.insert("DESC", bad.into());
        let error = render(&index).unwrap_err().to_string();
        assert_eq!(error, "`DESC` of `dev-libs/libfoo-1.0-r1` has a control character, which the index cannot hold");
    }
}

#[test]
fn a_header_cannot_redirect_clients_or_say_what_is_ours() {
    for key in ["URI", "TTL", "TIMESTAMP", "VERSION", "PACKAGES", "FETCHCOMMAND", "x", "A B", "A\nB", "A:", ""] {
        let mut index = index();
        index.header.insert(key.into(), "1".into());
        assert!(render(&index).is_err(), "{key}");
    }
    let mut index = index();
    index.header.insert("PROFILE".into(), "x\u{0}".into());
    assert_eq!(
        render(&index).unwrap_err().to_string(),
        "`PROFILE` has a control character, which the index cannot hold"
    );
}

#[test]
fn a_build_is_listed_once() {
    let mut index = index();
    let again = index.packages[0].clone();
    index.packages.push(again);
    let error = render(&index).unwrap_err().to_string();
    assert_eq!(error, "`dev-libs/libfoo/libfoo-1.0-r1-2.gpkg.tar` is listed twice");
}

#[test]
fn what_we_would_not_write_is_refused_with_its_line() {
    let text = render(&index()).unwrap();
    for (from, to, error) in [
        ("VERSION: 0", "VERSION: 1", "line 6: expected `VERSION: 0`"),
        ("PACKAGES: 2", "PACKAGES: 3", "line 3: expected `PACKAGES: 2`"),
        ("TIMESTAMP: 1795230797", "TIMESTAMP: now", "line 1: there is no number `TIMESTAMP`"),
        ("ARCH: amd64", "ARCH: amd64\nURI: http://evil", "`URI` cannot be a key of the header of `Packages`"),
        ("ARCH: amd64", "ARCH: amd64\nARCH: x", "line 2: the key is there twice"),
        ("ARCH: amd64", "ARCH", "line 1: expected `KEY: value`"),
        ("SIZE: 10240", "SIZE: 010240", "line 18: expected `SIZE: 10240`"),
        ("SIZE: 10240", "SIZE: -1", "line 8: there is no number `SIZE`"),
        ("CPV: app-misc/hello-2.10", "CPV: app-misc/world-1", "line 10: expected `CPV: app-misc/hello-2.10`"),
        ("PATH: app-misc/hello/", "PATH: ../../srv/", "is not the path of a package"),
        ("EAPI: 8", "EAPI: 0", "line 12: expected `KEYWORDS: amd64`"),
        ("EAPI: 8", "FETCHCOMMAND: x", "line 8: `FETCHCOMMAND` is no key of a package"),
        ("MD5: 9", "MD5: Z", "line 8: `MD5` is not 32 hexadecimal digits"),
        ("SHA1: 2", "SHA1: ", "line 8: `SHA1` is not 40 hexadecimal digits"),
        ("MTIME: 1795230796", "MTIME: 1", "line 20: expected `MTIME: 1795230796`"),
        ("REPO: demo\n\n", "REPO: demo\n\n\n", "expected"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text);
        let message = parse(&bad).unwrap_err().to_string();
        assert!(message.contains(error), "{from} -> {to}: {message}");
    }
    for bad in ["", "\n", "VERSION: 0\n\n", &text[..text.len() - 1], &text.replace('\n', "\r\n")] {
        assert!(parse(bad).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "([A-Z]{1,6}:? ?[ -~]{0,9}\n{0,2}){0,9}\\PC{0,9}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_makes_a_line_of_its_own(value in any::<String>()) {
        let mut index = index();
        let lines = render(&index).unwrap().lines().count();
        index.packages[0].fields.insert("DESC", format!("x{value}"));
        if let Ok(text) = render(&index) {
            prop_assert_eq!(text.lines().count(), lines);
            prop_assert!(parse(&text).is_ok());
        }
    }
}
