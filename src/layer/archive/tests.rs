//! Every refusal of the strict reader, by name.

use std::io::Read;

use tar::{EntryType, Header};

use super::{Archive, ArchiveError, Kind, Limits, Member};

/// A member to write, however impossible.
#[derive(Debug, Clone)]
pub(in crate::layer) struct Raw {
    header: Header,
    before: Vec<u8>,
    content: Vec<u8>,
}

impl Raw {
    pub(in crate::layer) fn new(kind: EntryType, name: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        // The test's own user, who is the only one an ordinary user may give files to.
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        let mut raw = Self { header, before: Vec::new(), content: Vec::new() };
        if name.len() <= 100 {
            raw.header.as_old_mut().name[..name.len()].copy_from_slice(name);
        } else {
            raw = raw.pax("path", name);
        }
        raw
    }

    pub(in crate::layer) fn file(name: &str, content: &[u8]) -> Self {
        let mut raw = Self::new(EntryType::Regular, name.as_bytes());
        raw.header.set_size(content.len() as u64);
        raw.content = content.to_vec();
        raw
    }

    pub(in crate::layer) fn folder(name: &str) -> Self {
        Self::new(EntryType::Directory, name.as_bytes())
    }

    pub(in crate::layer) fn symlink(name: &str, target: &str) -> Self {
        Self::new(EntryType::Symlink, name.as_bytes()).link(target)
    }

    pub(in crate::layer) fn hard_link(name: &str, target: &str) -> Self {
        Self::new(EntryType::Link, name.as_bytes()).link(target)
    }

    fn link(mut self, target: &str) -> Self {
        if target.len() > 100 {
            return self.pax("linkpath", target.as_bytes());
        }
        self.header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self
    }

    pub(in crate::layer) fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    pub(in crate::layer) fn pax(self, key: &str, value: &[u8]) -> Self {
        let mut length = key.len() + value.len() + 4;
        while length != key.len() + value.len() + 3 + length.to_string().len() {
            length += 1;
        }
        let mut record = format!("{length} {key}=").into_bytes();
        record.extend_from_slice(value);
        record.push(b'\n');
        self.extension(EntryType::XHeader, &record)
    }

    fn extension(mut self, kind: EntryType, bytes: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.before.extend_from_slice(header.as_bytes());
        self.before.extend_from_slice(bytes);
        self.before.resize(self.before.len().next_multiple_of(512), 0);
        self
    }

    fn write(mut self, out: &mut Vec<u8>) {
        self.header.set_cksum();
        out.append(&mut self.before);
        out.extend_from_slice(self.header.as_bytes());
        out.append(&mut self.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

pub(in crate::layer) fn tarball(members: impl IntoIterator<Item = Raw>) -> Vec<u8> {
    let mut out = Vec::new();
    members.into_iter().for_each(|member| member.write(&mut out));
    out.resize(out.len() + 1024, 0);
    out
}

fn read(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, ArchiveError> {
    let mut archive = Archive::new(bytes, Limits::default());
    let mut members = Vec::new();
    while let Some(member) = archive.next_member()? {
        let mut content = Vec::new();
        archive.read_to_end(&mut content).map_err(ArchiveError::Read)?;
        members.push((member, content));
    }
    Ok(members)
}

fn refusal(raw: Raw) -> String {
    read(&tarball([raw])).expect_err("it must be refused").to_string()
}

#[test]
fn what_is_written_is_read_with_all_it_says() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let members = read(&tarball([
        Raw::folder("./"),
        Raw::file("./a", b"hello").with(|h| h.set_mode(0o4755)),
        Raw::symlink("b", "/anywhere/../at/all"),
        Raw::hard_link("c", "a"),
        Raw::file(&long, b"").pax("SCHILY.xattr.user.note", b"x\0y").pax("mtime", b"17.25"),
    ]));
    // Two pax headers for one member are refused, and that is what the last one has.
    assert_eq!(members.unwrap_err().to_string(), "the archive has a pax header twice for one member");
    let members = read(&tarball([
        Raw::folder("./"),
        Raw::file("./a", b"hello").with(|h| h.set_mode(0o4755)),
        Raw::symlink("b", "/anywhere/../at/all"),
        Raw::hard_link("c", "a"),
        Raw::file(&long, b""),
        Raw::file("d", b"").pax("SCHILY.xattr.user.note", b"x\0y"),
        Raw::file("e", b"").pax("mtime", b"17.25"),
    ]))
    .unwrap();
    let kinds: Vec<_> = members.iter().map(|(m, _)| (m.path.to_str().unwrap(), m.kind.clone())).collect();
    assert_eq!(kinds[0], ("", Kind::Folder));
    assert_eq!((kinds[1].clone(), members[1].0.mode), (("a", Kind::File(5)), 0o4755));
    assert_eq!(members[1].1, b"hello");
    assert_eq!(kinds[2], ("b", Kind::Symlink("/anywhere/../at/all".into())));
    assert_eq!(kinds[3], ("c", Kind::HardLink("a".into())));
    assert_eq!(kinds[4].0, long);
    assert_eq!(members[5].0.xattrs, [(b"user.note".to_vec(), b"x\0y".to_vec())]);
    assert_eq!(members[6].0.mtime, 17);
}

#[test]
fn names_of_gnu_tar_are_read() {
    let long = "n".repeat(150);
    let raw = Raw::file("cut", b"x").extension(EntryType::GNULongName, format!("{long}\0").as_bytes());
    assert_eq!(read(&tarball([raw])).unwrap()[0].0.path.to_str().unwrap(), long);
}

#[test]
fn an_absolute_name_is_refused() {
    assert!(refusal(Raw::file("/etc/passwd", b"")).ends_with("is absolute"));
}

#[test]
fn a_name_with_dot_dot_is_refused() {
    for name in ["..", "../x", "a/../b", "./../x", "a/.."] {
        assert!(refusal(Raw::file(name, b"")).ends_with("has `..` in it"), "{name}");
    }
}

#[test]
fn an_empty_name_or_component_is_refused() {
    assert!(refusal(Raw::new(EntryType::Regular, b"")).ends_with("is empty"));
    for name in ["a//b", "a/./b", ".//a"] {
        let text = refusal(Raw::file(name, b""));
        assert!(text.ends_with("has an empty component in it") || text.ends_with("is absolute"), "{text}");
    }
}

#[test]
fn a_name_with_control_characters_is_refused_and_shown_harmless() {
    let text = refusal(Raw::file("a\x1b[2Jb", b""));
    assert_eq!(text, "the archive's member `a\\u{1b}[2Jb` is refused: its name has a control character in it");
    assert!(refusal(Raw::file("a\nb", b"")).ends_with("has a control character in it"));
    assert!(refusal(Raw::file("x", b"").pax("path", b"a\0b")).ends_with("has a control character in it"));
}

#[test]
fn a_name_that_no_file_can_have_is_refused() {
    assert!(refusal(Raw::file("x", b"").pax("path", &[b'n'; 256])).ends_with("of more than 255 bytes"));
    assert!(refusal(Raw::file("x", b"").pax("path", "abc/".repeat(1025).as_bytes())).contains("4095 bytes"));
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    assert!(refusal(Raw::file("x", b"").pax("path", "d/".repeat(1500).as_bytes())).ends_with("is too deep"));
}

#[test]
fn a_whiteout_is_refused() {
    assert!(refusal(Raw::file("etc/.wh.passwd", b"")).contains("is a whiteout of an OCI layer"));
    assert!(refusal(Raw::file(".wh..wh..opq", b"")).contains("is a whiteout of an OCI layer"));
}

#[test]
fn a_device_node_is_refused() {
    assert_eq!(refusal(Raw::new(EntryType::Char, b"null")), "the archive's member `null` is a device node");
    assert_eq!(refusal(Raw::new(EntryType::Block, b"sda")), "the archive's member `sda` is a device node");
}

#[test]
fn a_named_pipe_is_refused() {
    assert_eq!(refusal(Raw::new(EntryType::Fifo, b"p")), "the archive's member `p` is a named pipe");
}

#[test]
fn a_sparse_file_and_other_kinds_are_refused() {
    for kind in [EntryType::GNUSparse, EntryType::Continuous, EntryType::XGlobalHeader, EntryType::new(b'D')] {
        assert!(refusal(Raw::new(kind, b"x")).contains("is of a kind"), "{kind:?}");
    }
    assert!(refusal(Raw::file("x", b"").pax("GNU.sparse.realsize", b"8796093022208")).contains("GNU.sparse.realsize"));
}

#[test]
fn an_owner_outside_the_range_is_refused() {
    assert!(refusal(Raw::file("x", b"").with(|h| h.set_uid(65_535))).contains("belongs to id 65535"));
    assert!(refusal(Raw::file("x", b"").pax("gid", b"4294967296")).contains("belongs to id 4294967296"));
}

#[test]
fn an_attribute_of_overlayfs_or_of_the_kernel_is_refused() {
    for name in ["user.overlay.opaque", "trusted.overlay.redirect", "security.capability", "system.posix_acl_access"] {
        let text = refusal(Raw::file("x", b"").pax(&format!("SCHILY.xattr.{name}"), b"y"));
        assert!(text.contains(&format!("`{name}`")), "{text}");
    }
}

#[test]
fn a_pax_header_that_says_something_unknown_or_twice_is_refused() {
    assert!(refusal(Raw::file("x", b"").pax("hdrcharset", b"BINARY")).contains("`hdrcharset`"));
    let raw = Raw::file("x", b"").extension(EntryType::XHeader, b"8 uid=1\n8 uid=2\n");
    assert!(refusal(raw).contains("says `uid` twice"));
}

#[test]
fn a_pax_header_that_does_not_parse_is_refused() {
    for bytes in [&b"99 path=x\n"[..], b"x path=x\n", b"9 path=xy", b"5 a\n", b"0 =\n", b"+9 uid=1\n"] {
        let raw = Raw::file("x", b"").extension(EntryType::XHeader, bytes);
        assert!(refusal(raw).contains("pax header that"), "{bytes:?}");
    }
    for (key, value) in [("uid", "-1"), ("mtime", "-1"), ("size", "1e9"), ("mtime", "1.x")] {
        assert!(refusal(Raw::file("x", b"").pax(key, value.as_bytes())).contains("pax header that has no"), "{key}");
    }
}

#[test]
fn two_different_sizes_are_refused() {
    assert!(refusal(Raw::file("x", b"abc").pax("size", b"512")).contains("impossible size"));
}

#[test]
fn a_huge_extended_header_is_refused_before_it_is_read() {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(80 << 20);
    header.set_cksum();
    let error = read(header.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("an extended header of 83886080 bytes"), "{error}");
}

#[test]
fn more_bytes_or_members_than_allowed_are_refused_before_they_are_read() {
    let huge = Raw::new(EntryType::Regular, b"huge").with(|h| h.set_size(8 << 40));
    assert!(refusal(huge).contains("bytes of files"));
    let limits = Limits { members: 2, ..Limits::default() };
    let bytes = tarball(["a", "b", "c"].map(|name| Raw::file(name, b"")));
    let mut archive = Archive::new(bytes.as_slice(), limits);
    archive.next_member().unwrap();
    archive.next_member().unwrap();
    assert!(archive.next_member().unwrap_err().to_string().contains("more than 2 members"));
}

#[test]
fn a_time_before_1970_or_beyond_any_calendar_is_refused() {
    assert!(refusal(Raw::file("x", b"").with(|h| h.set_mtime(u64::MAX - 5))).contains("impossible time"));
    assert!(refusal(Raw::file("x", b"").pax("mtime", b"99999999999")).contains("impossible time"));
}

#[test]
fn content_where_there_can_be_none_is_refused() {
    assert!(refusal(Raw::folder("d").with(|h| h.set_size(1))).contains("impossible size"));
    assert!(refusal(Raw::file("d/", b"")).contains("ends with a slash"));
    assert!(refusal(Raw::file("./", b"")).contains("names the root itself"));
}

#[test]
fn a_link_without_a_target_is_refused() {
    assert!(refusal(Raw::symlink("l", "")).contains("impossible target"));
    assert!(refusal(Raw::symlink("l", "a\x1bb")).contains("impossible target"));
    assert!(refusal(Raw::hard_link("l", "/etc/passwd")).ends_with("is absolute"));
    assert!(refusal(Raw::hard_link("l", "../x")).ends_with("has `..` in it"));
}

#[test]
fn a_truncated_archive_is_refused_wherever_it_is_cut() {
    let bytes = tarball([Raw::file("x", &[7; 700]), Raw::symlink(&"l".repeat(120), "t")]);
    for length in (0..bytes.len()).step_by(100).chain([bytes.len() - 1, bytes.len() - 512]) {
        assert!(read(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
    }
}

#[test]
fn trailing_data_is_refused() {
    let mut bytes = tarball([Raw::file("x", b"")]);
    bytes.extend_from_slice(&tarball([Raw::file("y", b"")]));
    assert!(matches!(read(&bytes), Err(ArchiveError::Trailing)));
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut bytes = tarball([Raw::file("x", b"")]);
    bytes[0] = b'y';
    assert!(read(&bytes).unwrap_err().to_string().contains("impossible checksum"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2048), at in 0_usize..1024) {
        let _ = read(&bytes);
        let mut nearly = tarball([Raw::file("x", b"abc"), Raw::symlink(&"l".repeat(120), "t")]);
        let end = (at + bytes.len().min(16)).min(nearly.len());
        nearly[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = read(&nearly);
    }
}
