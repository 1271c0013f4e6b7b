use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

const ENTRY: &str = "var/db/pkg/c/p-1";
const TIME: u64 = 1_700_000_000;

/// A layer as predicted, what a merge wrote, a package's layer below, and the image.
struct Roots(tempfile::TempDir);

impl Roots {
    fn new() -> Self {
        let roots = Self(tempfile::tempdir().unwrap());
        for root in ["layer", "upper", "below", "image"] {
            roots.folder(&format!("{root}/usr/share"));
        }
        roots
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn folder(&self, path: &str) -> &Self {
        let mut all = self.0.path().to_path_buf();
        for part in Path::new(path).components() {
            all.push(part);
            fs::create_dir_all(&all).unwrap();
            fs::set_mode(&all, 0o755).unwrap();
        }
        self
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        self.folder(Path::new(path).parent().unwrap().to_str().unwrap());
        fs::write(&self.path(path), text).unwrap();
        fs::set_mode(&self.path(path), 0o644).unwrap();
        self
    }

    fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_mode(&self.path(path), mode).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        fs::symlink(Path::new(target), &self.path(path)).unwrap();
        self
    }

    fn node(&self, path: &str, kind: FileType) -> &Self {
        mknodat(CWD, self.path(path), kind, Mode::from_raw_mode(0o644), 0).unwrap();
        self
    }

    fn compare(&self, predicted: &[&str]) -> Found {
        let layer = Beneath::open(&self.path("layer")).unwrap();
        let merged = Merged { upper: self.path("upper"), below: vec![self.path("below")] };
        let comparison = Comparison::open(&layer, &merged, &[self.path("image")], Path::new(ENTRY), TIME).unwrap();
        let predicted = predicted.iter().map(ToString::to_string).collect();
        comparison.run(&[BTreeSet::new(), predicted]).unwrap()
    }

    /// Compares what can only be refused.
    fn reasons(&self) -> Vec<String> {
        let found = self.compare(&[]);
        assert!(found.kept.is_empty() && found.accounts.is_empty(), "{found:?}");
        found.reasons.iter().map(ToString::to_string).collect()
    }
}

fn paths(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.path.to_str().unwrap()).collect()
}

#[test]
fn what_is_as_predicted_or_belongs_to_no_layer_is_nothing() {
    let roots = Roots::new();
    roots.file("layer/usr/share/own", "x").file("upper/usr/share/own", "x");
    roots.file("image/etc/same", "x").file("upper/etc/same", "x");
    for left_out in [
        "etc/ld.so.cache",
        "etc/group-",
        "etc/environment.d/10-gentoo-env.conf",
        "var/tmp/x",
        "run/x",
        "usr/share/__pycache__/x.pyc",
        "var/db/pkg/c/.p-1.portage_lockfile",
        "var/db/pkg/c/p-1/CONTENTS",
    ] {
        roots.file(&format!("upper/{left_out}"), "x");
    }
    roots.folder("layer/var/db/pkg/c").folder("image/var/db/pkg");
    let found = roots.compare(&["usr/share/own"]);
    assert!(
        found.kept.is_empty() && found.removed.is_empty() && found.folders.is_empty() && found.reasons.is_empty(),
        "{found:?}"
    );
}

#[test]
fn the_packages_own_files_may_be_changed_and_removed() {
    let roots = Roots::new();
    for name in ["changed", "mode", "gone", "kept"] {
        roots.file(&format!("layer/usr/share/own/{name}"), "x");
    }
    roots
        .file("upper/usr/share/own/changed", "y")
        .file("upper/usr/share/own/mode", "x")
        .file("upper/usr/share/own/kept", "x");
    roots.mode("upper/usr/share/own/mode", 0o4755).mode("upper/usr/share/own", 0o700);
    let all = ["changed", "mode", "gone", "kept"].map(|name| format!("usr/share/own/{name}"));
    let found = roots.compare(&all.each_ref().map(String::as_str));
    assert_eq!(paths(&found.kept), ["usr/share/own/changed", "usr/share/own/mode"]);
    assert_eq!((found.kept[0].mtime, found.kept[1].mode), (TIME, 0o4755));
    assert_eq!((paths(&found.folders), found.folders[0].mode), (vec!["usr/share/own"], 0o700));
    assert_eq!(found.removed, [PathBuf::from("usr/share/own/gone")]);
    assert!(found.reasons.is_empty(), "{found:?}");
}

#[test]
fn what_is_new_and_what_no_package_has_is_kept_and_a_folder_comes_before_what_is_in_it() {
    let roots = Roots::new();
    roots.file("upper/usr/share/new/a", "x").link("upper/usr/share/new/b", "a").folder("upper/usr/share/new-empty");
    roots.file("image/usr/share/list", "x\n").file("upper/usr/share/list", "x\ny\n");
    let found = roots.compare(&[]);
    let expected = ["usr/share/list", "usr/share/new", "usr/share/new/a", "usr/share/new/b", "usr/share/new-empty"];
    assert_eq!(paths(&found.kept), expected);
    assert_eq!(found.kept[3].kind, Kind::Symlink("a".into()));
    assert!(found.reasons.is_empty(), "{found:?}");
}

#[test]
fn accounts_are_a_record() {
    let roots = Roots::new();
    roots.file("image/etc/group", "root:x:0:\n").file("upper/etc/group", "root:x:0:\ncron:x:16:\n");
    roots.file("below/etc/group", "root:x:0:\n");
    let found = roots.compare(&[]);
    assert!(!found.accounts.is_empty() && found.kept.is_empty() && found.reasons.is_empty(), "{found:?}");
    roots.file("upper/etc/group", "root:x:1:\n");
    assert_eq!(roots.reasons(), ["its phases do not only add to `/etc/group`: see `root` there"]);
}

#[test]
fn what_is_not_the_packages_is_named() {
    let roots = Roots::new();
    roots.file("below/usr/share/other", "x").file("upper/usr/share/other", "y");
    assert_eq!(roots.reasons(), ["its phases change `/usr/share/other`, which is not its own"]);

    let roots = Roots::new();
    roots.file("image/usr/share/gone", "x").node("upper/usr/share/gone", FileType::CharacterDevice);
    roots.node("upper/usr/share/never", FileType::CharacterDevice);
    assert_eq!(roots.reasons(), ["its phases remove `/usr/share/gone`, which is not its own"]);

    let roots = Roots::new();
    roots.mode("upper/usr/share", 0o700);
    assert_eq!(roots.reasons(), ["its phases change `/usr/share`, which is not its own"]);

    let roots = Roots::new();
    roots.folder("image/usr/share/folder").file("upper/usr/share/folder", "x");
    assert_eq!(roots.reasons(), ["its phases change `/usr/share/folder`, which is not its own"]);

    let roots = Roots::new();
    roots.folder("image/var/db/pkg/d/q-1").file("upper/var/db/pkg/d/q-1/USE", "x");
    roots.folder("layer/var/db/pkg");
    assert_eq!(roots.reasons(), ["its phases change `/var/db/pkg/d/q-1/USE`, which is not its own"]);
}

#[test]
fn what_no_layer_holds_is_named() {
    let roots = Roots::new();
    roots.node("upper/usr/share/pipe", FileType::Fifo);
    let odd = "its phases make `/usr/share/pipe` a device, pipe or socket, or a name that is no text";
    assert_eq!(roots.reasons(), [odd]);

    let roots = Roots::new();
    roots.file("upper/usr/share/a\nb", "x");
    assert!(roots.reasons()[0].contains("/usr/share/a\\nb"), "{:?}", roots.reasons());
}
