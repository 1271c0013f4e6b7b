//! What only shows when an archive meets the file system.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::fs;
use crate::layer::archive::Limits;
use crate::layer::archive::tests::{Raw, tarball};

fn unpack(members: impl IntoIterator<Item = Raw>) -> (tempfile::TempDir, Result<PathBuf, String>) {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("into");
    let result = super::unpack(tarball(members).as_slice(), &into, Limits::default());
    (dir, result.map(|_| into).map_err(|e| e.to_string()))
}

#[test]
fn modes_times_links_and_attributes_arrive() {
    let (_dir, into) = unpack([
        Raw::folder("./").with(|h| h.set_mode(0o700)),
        Raw::folder("bin").with(|h| h.set_mode(0o1777)),
        Raw::file("bin/su", b"program").with(|h| h.set_mode(0o4755)),
        Raw::hard_link("bin/other", "./bin/su"),
        Raw::symlink("link", "/outside"),
        Raw::file("noted", b"").pax("SCHILY.xattr.user.note", b"yes"),
    ]);
    let into = into.unwrap();
    let stat = |name: &str| fs::symlink_metadata(&into.join(name)).unwrap();
    assert_eq!(stat("").permissions().mode() & 0o7777, 0o700);
    assert_eq!(stat("bin").permissions().mode() & 0o7777, 0o1777);
    assert_eq!(stat("bin/su").permissions().mode() & 0o7777, 0o4755);
    assert_eq!(stat("bin/su").ino(), stat("bin/other").ino());
    assert_eq!(["", "bin", "bin/su", "link"].map(|name| stat(name).mtime()), [1_700_000_000; 4]);
    assert_eq!(fs::read_link(&into.join("link")).unwrap(), Path::new("/outside"));
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(into.join("noted"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"yes");
}

#[test]
fn writing_through_a_symlink_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let (_dir, result) = unpack([Raw::symlink("way", target), Raw::file("way/out", b"x")]);
    assert_eq!(result.unwrap_err(), "the archive puts the member `way/out` below something that is a link or a file");
    let (_dir, result) = unpack([
        Raw::folder("in"),
        Raw::symlink("way", "in"),
        Raw::folder("way/deeper"),
        Raw::file("way/deeper/x", b""),
    ]);
    assert!(result.unwrap_err().contains("below something that is a link"));
    assert!(fs::read_dir(outside.path()).unwrap().is_empty());
}

#[test]
fn a_folder_is_never_replaced_by_a_symlink() {
    let (_dir, result) = unpack([Raw::folder("d"), Raw::symlink("d", "/etc"), Raw::file("d/x", b"")]);
    assert_eq!(result.unwrap_err(), "the archive has the member `d` twice");
}

#[test]
fn a_symlink_is_never_written_to() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("f");
    fs::write(&file, "kept").unwrap();
    let (_dir, result) = unpack([Raw::symlink("f", file.to_str().unwrap()), Raw::file("f", b"lost")]);
    assert_eq!(result.unwrap_err(), "the archive has the member `f` twice");
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn a_member_that_is_there_twice_is_refused() {
    for twice in [[Raw::file("x", b"1"), Raw::file("x", b"2")], [Raw::folder("x"), Raw::folder("x/")]] {
        let (_dir, result) = unpack(twice);
        assert_eq!(result.unwrap_err(), "the archive has the member `x` twice");
    }
}

#[test]
fn a_member_before_its_folder_is_refused() {
    let (_dir, result) = unpack([Raw::file("d/x", b""), Raw::folder("d")]);
    assert_eq!(result.unwrap_err(), "the archive has the member `d/x` before the folder it is in");
}

#[test]
fn a_member_below_a_file_is_refused() {
    let (_dir, result) = unpack([Raw::file("f", b""), Raw::file("f/x", b"")]);
    assert!(result.unwrap_err().contains("below something that is a link or a file"));
}

#[test]
fn a_hard_link_to_what_is_not_in_the_archive_is_refused() {
    let (_dir, result) = unpack([Raw::hard_link("x", "y")]);
    assert!(result.unwrap_err().contains("is a hard link to `y`, which is no file that came before"));
}

#[test]
fn a_hard_link_to_or_through_a_symlink_is_refused() {
    let (_dir, result) = unpack([Raw::symlink("way", "/etc"), Raw::hard_link("x", "way/hostname")]);
    assert!(result.unwrap_err().contains("is a hard link to `way/hostname`"));
    let (_dir, result) = unpack([Raw::symlink("way", "/etc/hostname"), Raw::hard_link("x", "way")]);
    assert!(result.unwrap_err().contains("is a hard link to `way`"));
}

#[test]
fn a_folder_that_is_there_already_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let result = super::unpack(tarball([]).as_slice(), dir.path(), Limits::default());
    assert!(result.unwrap_err().to_string().contains("cannot create the folder"));
}
