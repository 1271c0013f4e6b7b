use super::super::archive::Writer;
use super::super::metadata::Metadata;
use super::*;
use crate::digest::Digest;

const DATE: u64 = 1_700_000_000;

/// Returns an entry as Portage would write it; what ends in `/` is a folder.
fn entry(name: &str) -> Header {
    let (kind, size, mode) = if name.ends_with('/') { (Kind::Folder, 0, 0o755) } else { (Kind::File, 3, 0o644) };
    let root = || b"root".to_vec();
    Header { kind, mode, owner: root(), group: root(), ..Header::file(name, size, DATE + 5) }
}

fn link(kind: Kind, name: &str, target: &str) -> Header {
    Header { kind, size: 0, target: target.into(), ..entry(name) }
}

fn tar(headers: &[Header]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for header in headers {
        writer.entry(header, &mut io::repeat(b'x').take(header.size)).unwrap();
    }
    writer.finish().unwrap()
}

fn walk_all(tar: &[u8], canonical: bool) -> Result<(Summary, Digest, Vec<Header>), ContentsError> {
    let mut listing = Listing::new(DATE, &Metadata::new()).unwrap();
    let mut seen = Vec::new();
    let summary = walk(tar, DATE, canonical, &mut listing, &mut |header, _| {
        seen.push(header.clone());
        Ok(())
    })?;
    Ok((summary, listing.finish(), seen))
}

fn accepted(headers: &[Header]) -> Summary {
    walk_all(&tar(headers), false).unwrap().0
}

/// Returns why the last of these entries, in a folder of its own, is refused.
fn refused(headers: &[Header]) -> Wrong {
    let all = [&[entry("image/"), entry("image/d/")], headers].concat();
    match walk_all(&tar(&all), false).unwrap_err() {
        ContentsError::Entry { wrong, .. } => wrong,
        other => panic!("{other}"),
    }
}

#[test]
fn an_image_is_read_and_its_canonical_form_is_accepted_as_such() {
    let headers = [
        entry("image/"),
        entry("image/a/"),
        entry("image/a/b"),
        entry("image/a.b"),
        link(Kind::HardLink, "image/c", "image/a/b"),
        link(Kind::SymLink, "image/d", "../../etc/passwd"),
    ];
    let (summary, content, seen) = walk_all(&tar(&headers), false).unwrap();
    assert_eq!((summary.entries, summary.size, summary.portage_size), (5, 6, 9));
    assert!(seen.iter().all(|h| h.mtime == DATE && h.owner.is_empty() && h.group.is_empty()));
    let canonical = tar(&seen);
    assert_eq!(canonical.len() as u64, summary.length);
    let (again, same, _) = walk_all(&canonical, true).unwrap();
    assert_eq!((again, same), (summary, content));
    assert!(walk_all(&tar(&headers), true).is_err());
}

#[test]
fn the_content_digest_sees_everything_but_owners_names_and_late_times() {
    let digest = |change: fn(&mut Header)| {
        let mut file = entry("image/f");
        change(&mut file);
        walk_all(&tar(&[entry("image/"), file]), false).unwrap().1
    };
    let same = digest(|_| {});
    assert_eq!(same, digest(|h| h.owner = b"portage".into()));
    assert_eq!(same, digest(|h| h.mtime += 100));
    let changes: [fn(&mut Header); 6] = [
        |h| h.mtime = 5,
        |h| h.mode = 0o4755,
        |h| h.uid = 1,
        |h| h.gid = 1,
        |h| h.size = 4,
        |h| h.name = b"image/g".into(),
    ];
    for change in changes {
        assert_ne!(same, digest(change));
    }
}

#[test]
fn paths_that_leave_the_image_folder_are_refused() {
    for name in [
        "/etc/passwd",
        "etc/passwd",
        "image/../etc",
        "image/d/../../x",
        "image/d/./x",
        "image//x",
        "../x",
        "imagex",
        "image/d/x/..",
        "metadata/x",
    ] {
        assert_eq!(refused(&[entry(name)]), Wrong::Outside, "{name}");
    }
    let error = walk_all(&tar(&[entry("image/usr")]), false).unwrap_err().to_string();
    assert_eq!(error, "the image's `image/usr` is refused: its path leaves the image folder");
}

#[test]
fn an_entry_that_comes_twice_or_out_of_order_is_refused() {
    assert_eq!(refused(&[entry("image/f"), entry("image/f")]), Wrong::Order);
    assert_eq!(refused(&[entry("image/f"), entry("image/f/")]), Wrong::Order);
    assert_eq!(refused(&[entry("image/f"), entry("image/e")]), Wrong::Order);
    assert_eq!(refused(&[entry("image/d.x"), entry("image/d/x")]), Wrong::Order);
    assert_eq!(refused(&[entry("image/")]), Wrong::Order);
}

#[test]
fn an_entry_below_something_that_is_no_folder_of_the_package_is_refused() {
    assert_eq!(refused(&[entry("image/f/x")]), Wrong::Folder);
    assert_eq!(refused(&[entry("image/f"), entry("image/f/x")]), Wrong::Folder);
    assert_eq!(refused(&[link(Kind::SymLink, "image/l", "/etc"), entry("image/l/x")]), Wrong::Folder);
}

#[test]
fn names_that_are_not_plain_text_are_refused() {
    for name in ["image/a\nb", "image/a\tb", "image/a\u{7f}", "image/a\u{85}b"] {
        assert_eq!(refused(&[entry(name)]), Wrong::Characters, "{name:?}");
    }
    let bytes = Header { name: b"image/\xff".into(), ..entry("") };
    assert_eq!(refused(&[bytes]), Wrong::Characters);
    assert_eq!(refused(&[link(Kind::SymLink, "image/l", "a\nb")]), Wrong::Characters);
    accepted(&[entry("image/"), entry("image/with space"), entry("image/ü")]);
}

#[test]
fn overlong_names_are_refused() {
    let gnu = |header: Header| Header { format: Format::Gnu, ..header };
    let long = |name: String| walk_all(&tar(&[gnu(entry("image/")), gnu(entry(&name))]), false);
    assert!(long(format!("image/{}", "x".repeat(255))).is_ok());
    assert!(long(format!("image/{}", "x".repeat(256))).unwrap_err().to_string().contains("too long"));
    assert!(long(format!("image/{}", "x/".repeat(1600))).unwrap_err().to_string().contains("too long"));
    assert!(long(format!("image/{}", "x/".repeat(3000))).is_err());
}

#[test]
fn a_hard_link_must_name_an_earlier_file_of_the_package_and_agree_with_it() {
    let hard = |target: &str| link(Kind::HardLink, "image/z", target);
    for target in ["/etc/passwd", "image/none", "image/d", "image/../etc/passwd", "image/z", "f", "image/s"] {
        let headers = [entry("image/f"), link(Kind::SymLink, "image/s", "f"), hard(target)];
        assert_eq!(refused(&headers), Wrong::Link, "{target}");
    }
    assert_eq!(refused(&[entry("image/f"), Header { mode: 0o4755, ..hard("image/f") }]), Wrong::Link);
    assert_eq!(refused(&[entry("image/f"), Header { uid: 1, ..hard("image/f") }]), Wrong::Link);
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    assert_eq!(refused(&[Header { kind: Kind::File, ..entry("image/f/") }]), Wrong::Outside);
    assert_eq!(refused(&[Header { kind: Kind::Folder, ..entry("image/f") }]), Wrong::Form);
    assert_eq!(refused(&[Header { size: 3, ..entry("image/f/") }]), Wrong::Form);
    assert_eq!(refused(&[Header { size: 3, ..link(Kind::SymLink, "image/l", "x") }]), Wrong::Form);
    assert_eq!(refused(&[link(Kind::SymLink, "image/l", "")]), Wrong::Form);
    assert_eq!(refused(&[link(Kind::File, "image/l", "x")]), Wrong::Form);
}

#[test]
fn ids_outside_every_root_are_refused() {
    assert_eq!(refused(&[Header { uid: 65_536, ..entry("image/f") }]), Wrong::Owner);
    assert_eq!(refused(&[Header { gid: 2_000_000, ..entry("image/f") }]), Wrong::Owner);
}

#[test]
fn devices_fifos_sockets_sparse_files_and_pax_headers_are_refused() {
    for kind in [b'3', b'4', b'6', b'7', b'S', b'x', b'g', b's', 0, b'A'] {
        let mut bytes = tar(&[entry("image/"), entry("image/f")]);
        bytes[512 + 156] = kind;
        bytes[512 + 148..512 + 156].fill(b' ');
        let sum: u32 = bytes[512..1024].iter().map(|b| u32::from(*b)).sum();
        bytes[512 + 148..512 + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let ContentsError::Archive(error) = walk_all(&bytes, false).unwrap_err() else { panic!() };
        assert!(error.to_string().starts_with("it holds an entry of type"), "{kind}: {error}");
    }
}

#[test]
fn files_with_the_rights_of_others_are_reported() {
    let special = |name: &str, mode| Header { mode, ..entry(name) };
    let summary = accepted(&[
        entry("image/"),
        special("image/a", 0o4755),
        special("image/b", 0o2755),
        special("image/c/", 0o2755),
        special("image/d/", 0o1777),
        Header { mode: 0o4755, ..link(Kind::HardLink, "image/e", "image/a") },
    ]);
    let paths: Vec<_> = summary.privileged.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["/a", "/b", "/e"]);
}

#[test]
fn an_archive_that_is_empty_or_does_not_start_with_the_folder_is_refused() {
    assert!(matches!(walk_all(&tar(&[]), false).unwrap_err(), ContentsError::Empty));
    assert!(walk_all(&tar(&[entry("image")]), false).is_err());
    assert_eq!(accepted(&[entry("image/")]).entries, 0);
}

#[test]
fn the_form_is_gnu_only_where_it_must_be() {
    let gnu = |header: Header| Header { format: Format::Gnu, ..header };
    let headers = [gnu(entry("image/")), gnu(entry("image/f"))];
    assert_eq!(accepted(&headers).format, Format::Ustar);
    let headers = [gnu(entry("image/")), gnu(entry(&format!("image/{}", "x".repeat(150))))];
    assert_eq!(accepted(&headers).format, Format::Gnu);
}
