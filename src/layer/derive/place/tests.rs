use super::*;
use crate::layer::derive::merge::Settings;

/// A root: folders, links with their targets, files.
struct Root(BTreeMap<PathBuf, Found>);

const OLD: Attributes = Attributes { mode: 0o711, uid: 5, gid: 6, mtime: 1 };

impl Root {
    fn new(paths: &[&str]) -> Self {
        let found = paths.iter().map(|path| match path.split_once(" -> ") {
            Some((path, target)) => (path.into(), Found::Link(target.into())),
            None => match path.strip_suffix('/') {
                Some(path) => (path.into(), Found::Folder(OLD)),
                None => (path.into(), Found::File),
            },
        });
        Self([(PathBuf::new(), Found::Folder(OLD))].into_iter().chain(found).collect())
    }
}

impl Ground for Root {
    fn look(&self, path: &Path) -> Result<Option<Found>, PathError> {
        Ok(self.0.get(path).cloned())
    }
}

/// Returns the header of `PATH/`, `PATH -> TARGET`, `PATH = OTHER` (a hard link) or `PATH`.
fn header(entry: &str) -> Header {
    let file = Header { mode: 0o755, uid: 7, gid: 8, ..Header::file("", 3, 9) };
    let at = |path: &str| format!("image/{path}").into_bytes();
    if let Some((path, target)) = entry.split_once(" -> ") {
        return Header { name: at(path), target: target.into(), kind: header::Kind::SymLink, size: 0, ..file };
    }
    if let Some((path, target)) = entry.split_once(" = ") {
        return Header { name: at(path), target: at(target), kind: header::Kind::HardLink, size: 0, ..file };
    }
    let kind = if entry.ends_with('/') || entry.is_empty() { header::Kind::Folder } else { header::Kind::File };
    Header { name: at(entry), kind, ..file }
}

/// Places a package; returns what is made, and what is recorded.
fn place(root: &Root, settings: Settings, package: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
    let merge = settings.into();
    let mut placer = Placer::new(root, &merge);
    let (mut made, mut recorded) = (Vec::new(), Vec::new());
    for entry in [""].iter().chain(package) {
        let placed = placer.place(&header(entry)).map_err(|e| e.to_string())?;
        recorded.extend(placed.recorded);
        made.extend(placed.folders.iter().chain(&placed.entry).map(|member| {
            let Member { path, kind, mode, uid, gid, mtime, .. } = member;
            let path = path.display();
            match kind {
                Kind::Folder if (*mode, *uid, *gid, *mtime) == (OLD.mode, OLD.uid, OLD.gid, OLD.mtime) => {
                    format!("{path}/ as it was")
                }
                Kind::Folder => format!("{path}/ {mode:o} {uid} {gid} {mtime}"),
                Kind::File(size) => format!("{path} {size}"),
                Kind::Symlink(target) => format!("{path} -> {}", target.display()),
                Kind::HardLink(target) => format!("{path} = {}", target.display()),
            }
        }));
    }
    Ok((made, recorded))
}

fn plain(root: &[&str], package: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
    place(&Root::new(root), Settings::default(), package)
}

#[track_caller]
fn refused(root: &[&str], package: &[&str], why: &str) {
    let said = plain(root, package).unwrap_err();
    assert!(said.contains(why), "{said}");
}

#[test]
fn folders_of_the_root_keep_their_attributes_and_new_ones_have_the_packages() {
    let (made, recorded) = plain(&["usr/"], &["usr/", "usr/new/", "usr/new/file"]).unwrap();
    assert_eq!(made, ["/ as it was", "usr/ as it was", "usr/new/ 755 7 8 9", "usr/new/file 3"]);
    assert_eq!(recorded, ["usr", "usr/new"]);
}

#[test]
fn what_is_below_a_link_to_a_folder_lands_where_the_link_leads() {
    let root = ["usr/", "usr/lib/", "lib -> usr/lib", "x/", "x/y -> ../lib/.//", "z -> /x/y"];
    let (made, recorded) =
        plain(&root, &["lib/", "lib/a", "lib/b -> a", "lib/c = lib/a", "lib/d/", "lib/d/e"]).unwrap();
    assert_eq!(
        made,
        [
            "/ as it was",
            "usr/ as it was",
            "usr/lib/ as it was",
            "usr/lib/a 3",
            "usr/lib/b -> a",
            "usr/lib/c = usr/lib/a",
            "usr/lib/d/ 755 7 8 9",
            "usr/lib/d/e 3",
        ]
    );
    assert_eq!(recorded, ["lib", "lib/d"]);
    let (made, _) = plain(&root, &["usr/", "usr/lib/", "usr/lib/a", "z/", "z/b"]).unwrap();
    assert_eq!(made[2..], ["usr/lib/ as it was", "usr/lib/a 3", "usr/lib/b 3"]);
}

#[test]
fn what_is_merged_into_a_folder_is_below_it() {
    let root = Root::new(&["usr/", "usr/s/", "usr/s/lib64/", "lib -> usr/lib"]);
    let settings = Settings { below: "usr/s".into(), ..Settings::default() };
    let (made, recorded) = place(&root, settings, &["lib/", "lib/a", "lib64/", "lib64/b = lib/a"]).unwrap();
    assert_eq!(
        made,
        [
            "/ as it was",
            "usr/ as it was",
            "usr/s/ as it was",
            "usr/s/lib/ 755 7 8 9",
            "usr/s/lib/a 3",
            "usr/s/lib64/ as it was",
            "usr/s/lib64/b = usr/s/lib/a",
        ]
    );
    // The database says where things are below that folder.
    assert_eq!(recorded, ["lib", "lib64"]);
}

#[test]
fn an_empty_folder_is_made_and_one_behind_a_link_is_not_made_twice() {
    let (made, recorded) = plain(&["usr/", "usr/lib/", "lib -> usr/lib"], &["lib/", "usr/", "usr/lib/"]).unwrap();
    assert_eq!(made, ["/ as it was", "usr/ as it was", "usr/lib/ as it was"]);
    assert_eq!(recorded, ["lib", "usr", "usr/lib"]);
}

#[test]
fn files_and_links_replace_what_is_no_folder() {
    let root = ["bin/", "bin/a", "bin/b -> /etc/alternatives/b", "bin/c -> a", "lib -> usr", "usr/"];
    let (made, _) = plain(&root, &["bin/", "bin/a -> x", "bin/b", "bin/c", "lib -> usr"]).unwrap();
    assert_eq!(made[2..], ["bin/a -> x", "bin/b 3", "bin/c 3", "lib -> usr"]);
}

#[test]
fn what_a_merge_would_refuse_or_rename_is_no_layer() {
    refused(&["a"], &["a/"], "it has the folder `/a`, where the root has a file");
    refused(&["a -> b"], &["a/"], "or a link to nowhere");
    refused(&["a -> b", "b -> a"], &["a/"], "or a link to nowhere");
    refused(&["a -> b", "b"], &["a/"], "or a link to nowhere");
    refused(&["a/"], &["a"], "it has a file or link `/a`, where the root has a folder");
    refused(&["a/"], &["a -> b"], "where the root has a folder");
    refused(&["b/", "a -> b"], &["a"], "it replaces the link `/a`, through which the root finds the folder `b`");
    refused(&["b/", "a -> b"], &["a -> c"], "it replaces the link");
    refused(&["b/", "a -> b"], &["a/", "a/x", "b/", "b/x"], "it has `/b/x` twice");
}

#[test]
fn a_package_out_of_order_is_refused() {
    refused(&[], &["a/b"], "not in the order");
}

#[test]
fn masked_files_are_left_out_and_masked_folders_unless_something_in_them_is_not() {
    let with = |mask: &str| Settings { install_mask: mask.into(), ..Settings::default() };
    let package = ["doc/", "doc/a/", "doc/a/x", "doc/b/", "doc/b/y", "usr/", "usr/z"];
    let (made, recorded) = place(&Root::new(&[]), with("/doc -/doc/b/y"), &package).unwrap();
    assert_eq!(made[1..], ["doc/ 755 7 8 9", "doc/b/ 755 7 8 9", "doc/b/y 3", "usr/ 755 7 8 9", "usr/z 3"]);
    assert_eq!(recorded, ["doc", "doc/b", "usr"]);
    // The folder is not masked, and so stays.
    let (made, _) = place(&Root::new(&[]), with("x"), &package).unwrap();
    assert_eq!(made[1..4], ["doc/ 755 7 8 9", "doc/a/ 755 7 8 9", "doc/b/ 755 7 8 9"]);
    let said = place(&Root::new(&[]), with("x"), &["a/", "a/x", "a/y = a/x"]).unwrap_err();
    assert_eq!(said, "`/a/y` is a hard link to `/a/x`, which INSTALL_MASK leaves out");
}

#[test]
fn a_protected_file_that_the_root_has_is_no_layers() {
    let with = || Settings { config_protect: "/etc".into(), ..Settings::default() };
    let root = Root::new(&["etc/", "etc/a", "etc/.keep"]);
    let said = place(&root, with(), &["etc/", "etc/a"]).unwrap_err();
    assert_eq!(said, "`/etc/a` is in the root already, and CONFIG_PROTECT keeps that");
    assert!(place(&root, with(), &["etc/", "etc/b"]).is_ok());
}

#[test]
fn what_is_added_gets_roots_folders_and_no_line_in_the_database() {
    let root = Root::new(&["var/"]);
    let merge = Merge::default();
    let mut placer = Placer::new(&root, &merge);
    placer.place(&header("")).unwrap();
    let placed = placer.add("var/db/pkg", 5, 4).unwrap();
    assert!(placed.recorded.is_empty());
    let modes: Vec<_> = placed.folders.iter().map(|m| (m.path.to_str().unwrap(), m.mode, m.uid, m.mtime)).collect();
    assert_eq!(modes, [("var", 0o711, 5, 1), ("var/db", 0o755, 0, 4)]);
    assert_eq!(placed.entry.map(|m| (m.mode, m.mtime)), Some((0o644, 4)));
    assert_eq!(placer.contents().map(|paths| paths.len()), [3, 1]);
}
