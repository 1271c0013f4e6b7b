//! One content, one archive; and back.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::pack;
use crate::fs;
use crate::layer::archive::Limits;

fn sample(dir: &Path, order: &[&str]) {
    for name in order {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(&dir.join(name), name).unwrap();
    }
    fs::symlink(Path::new(&"far/".repeat(60)), &dir.join("link")).unwrap();
    fs::hard_link(&dir.join("b/one"), &dir.join("b/two")).unwrap();
    fs::set_mode(&dir.join("b/one"), 0o4755).unwrap();
}

fn packed(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(dir, 1000, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_same_files_give_the_same_bytes_and_come_back() {
    let long = "n".repeat(120);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    sample(dirs[0].path(), &["a", "b/one", "b/x/y", &long]);
    sample(dirs[1].path(), &[&long, "b/x/y", "a", "b/one"]);
    let bytes = packed(dirs[0].path());
    assert!(bytes == packed(dirs[1].path()), "the order of creation shows");
    let into = dirs[0].path().join("into");
    crate::layer::unpack::unpack(bytes.as_slice(), &into, Limits::default()).unwrap();
    assert!(bytes == packed(&into), "unpacking and packing again changes something");
}

#[test]
fn a_later_time_becomes_the_latest_allowed_and_an_earlier_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("new"), "").unwrap();
    fs::write(&dir.path().join("old"), "").unwrap();
    fs::set_mtime(&dir.path().join("old"), std::time::UNIX_EPOCH + std::time::Duration::from_secs(5)).unwrap();
    let bytes = packed(dir.path());
    let mut archive = crate::layer::Archive::new(bytes.as_slice(), Limits::default());
    let times: Vec<u64> = std::iter::from_fn(|| archive.next_member().unwrap()).map(|m| m.mtime).collect();
    assert_eq!(times, [1000, 1000, 5]);
}

#[test]
fn a_named_pipe_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = rustix::fs::open(dir.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    rustix::fs::mknodat(&at, "p", rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let error = pack(dir.path(), 1000, Vec::new()).unwrap_err().to_string();
    assert!(error.ends_with("p` is a named pipe; a layer holds files, folders and links only"), "{error}");
}

#[test]
fn an_attribute_that_would_be_lost_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("x"), "").unwrap();
    rustix::fs::setxattr(dir.path().join("x"), "user.note", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let error = pack(dir.path(), 1000, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("has the extended attribute `user.note`"), "{error}");
}
