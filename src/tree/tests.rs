use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use super::*;

struct Source(tempfile::TempDir);

impl Source {
    fn new() -> Self {
        let source = Self(tempfile::tempdir().unwrap());
        for (file, text) in [
            ("profiles/repo_name", "t\n"),
            ("profiles/profiles.desc", "# arch profile state\namd64 default/linux/amd64 stable\n"),
            ("profiles/default/linux/amd64/make.defaults", ""),
            ("metadata/layout.conf", "masters =\n"),
            ("app-misc/hello/hello-2.10.ebuild", "EAPI=8\n"),
            ("app-misc/hello/files/a.patch", "a"),
            ("app-misc/hello/files/b.patch", "b"),
            (".git/HEAD", "0123456789abcdef0123456789abcdef01234567\n"),
        ] {
            source.write(file, text);
        }
        source
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("source")
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }

    fn snapshot(&self) -> Result<(Tree, usize), TreeError> {
        self.snapshot_at(SystemTime::now)
    }

    /// Returns the snapshot and how often the tree was copied for it.
    fn snapshot_at(&self, now: fn() -> SystemTime) -> Result<(Tree, usize), TreeError> {
        let mut copies = 0;
        let (name, trees) = ("t".parse().unwrap(), self.0.path().join("trees"));
        let tree = snapshot_at(now, &name, &self.path(), &trees, &mut |_| copies += 1)?;
        Ok((tree, copies))
    }
}

#[test]
fn a_snapshot_holds_the_tree_without_git_and_does_not_change_with_it() {
    let source = Source::new();
    let (tree, _) = source.snapshot().unwrap();
    assert_eq!(tree.commit.as_deref(), Some("0123456789abcdef0123456789abcdef01234567"));
    assert_eq!(tree.masters, Some(vec![]));
    assert!(!tree.path.join(".git").exists());
    source.write("app-misc/hello/hello-2.10.ebuild", "EAPI=7\n");
    assert_eq!(fs::read_to_string(&tree.path.join("app-misc/hello/hello-2.10.ebuild")).unwrap(), "EAPI=8\n");
    let (changed, _) = source.snapshot().unwrap();
    assert_ne!(changed.revision, tree.revision);
    source.write("app-misc/hello/hello-2.10.ebuild", "EAPI=8\n");
    assert_eq!(source.snapshot().unwrap().0, tree);
}

#[test]
fn the_revision_is_one_of_content_and_known_for_ever() {
    let source = Source::new();
    fs::symlink(Path::new("../hello/hello-2.10.ebuild"), &source.path().join("app-misc/hello/link")).unwrap();
    fs::set_mode(&source.path().join("profiles/repo_name"), 0o755).unwrap();
    let revision = source.snapshot().unwrap().0.revision;
    // Pools and statements name trees by it: a change here needs another header in `copy`.
    assert_eq!(revision.hex(), "c23db1daab093c152ae02afbbb1926f9f5bff834356c78303729d278baa9acde");
    fs::set_mtime(&source.path().join("profiles/repo_name"), SystemTime::UNIX_EPOCH).unwrap();
    fs::create_dir_all(&source.path().join("empty/folder")).unwrap();
    assert_eq!(source.snapshot().unwrap().0.revision, revision);
    fs::set_mode(&source.path().join("profiles/repo_name"), 0o644).unwrap();
    assert_ne!(source.snapshot().unwrap().0.revision, revision);
}

#[test]
fn times_follow_from_content_and_are_equal_among_files_to_copy() {
    let source = Source::new();
    let time = |tree: &Tree, file: &str| fs::metadata(&tree.path.join(file)).unwrap().mtime();
    let (one, _) = source.snapshot().unwrap();
    source.write("app-misc/hello/hello-2.10.ebuild", "EAPI=8 \n");
    let (two, _) = source.snapshot().unwrap();
    let ebuild = "app-misc/hello/hello-2.10.ebuild";
    assert_ne!(time(&one, ebuild), time(&two, ebuild));
    assert_eq!(time(&one, "profiles/repo_name"), time(&two, "profiles/repo_name"));
    assert_eq!(time(&one, "app-misc/hello/files/a.patch"), time(&one, "app-misc/hello/files/b.patch"));
}

#[test]
fn what_looks_unchanged_is_not_copied_again_unless_it_is_too_new_to_tell() {
    let later = || SystemTime::now() + Duration::from_secs(3600);
    let source = Source::new();
    let (tree, copies) = source.snapshot_at(|| SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(copies, 1);
    assert_eq!(source.snapshot_at(later).unwrap(), (tree.clone(), 1), "nothing had settled");
    assert_eq!(source.snapshot_at(later).unwrap(), (tree.clone(), 0));
    source.write("app-misc/hello/hello-2.11.ebuild", "");
    assert_eq!(source.snapshot_at(later).unwrap().1, 1);
    fs::remove_file(&source.path().join("app-misc/hello/hello-2.11.ebuild")).unwrap();
    assert_eq!(source.snapshot_at(later).unwrap(), (tree.clone(), 1));
    fs::remove_dir_all(&tree.path).unwrap();
    assert_eq!(source.snapshot_at(later).unwrap(), (tree, 1), "a snapshot that is gone is made again");
}

#[test]
fn what_a_killed_process_left_behind_is_no_hindrance() {
    let source = Source::new();
    let (tree, _) = source.snapshot().unwrap();
    let home = tree.path.parent().unwrap();
    fs::create_dir_all(&home.join(".new/half/done")).unwrap();
    fs::write(&home.join("seen.json"), "{\"ver").unwrap();
    assert_eq!(source.snapshot().unwrap().0, tree);
    assert!(!home.join(".new").exists());
}

#[test]
fn links_out_of_the_tree_and_odd_files_are_refused() {
    let source = Source::new();
    let link = source.path().join("eclass");
    fs::symlink(Path::new("/etc"), &link).unwrap();
    assert!(source.snapshot().unwrap_err().to_string().ends_with("it is a link that leads out of the tree"));
    fs::remove_file(&link).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    assert!(source.snapshot().unwrap_err().to_string().contains("neither a file nor a folder nor a link"));
    fs::remove_file(&source.path().join("socket")).unwrap();
    source.write("a\nb", "");
    assert!(source.snapshot().unwrap_err().to_string().contains("control characters"));
}

#[test]
fn what_is_not_the_tree_it_should_be_is_refused() {
    let source = Source::new();
    source.write("profiles/repo_name", "other\n");
    let error = source.snapshot().unwrap_err().to_string();
    assert!(error.ends_with("calls itself `other`; write [trees.other] in `bindery.toml`"), "{error}");
    source.write("profiles/repo_name", "../x\n");
    assert!(matches!(source.snapshot(), Err(TreeError::Name { .. })));
    fs::remove_file(&source.path().join("profiles/repo_name")).unwrap();
    assert!(source.snapshot().unwrap_err().to_string().contains("is not an ebuild repository"));
    let error = snapshot(&"t".parse().unwrap(), Path::new("/nowhere"), source.0.path(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("tree `t` is not at `/nowhere`; get it there"), "{error}");
}

#[test]
fn masters_come_first_and_the_portage_profile_is_there() {
    let (mut tree, _) = Source::new().snapshot().unwrap();
    let source = Source::new();
    let (base, _) = source.snapshot().unwrap();
    (tree.name, tree.masters) = ("overlay".parse().unwrap(), Some(vec!["t".parse().unwrap()]));
    let profile = |text: &str| text.parse::<PortageProfile>().unwrap();
    let trees = [base.clone(), tree.clone()];
    assert_eq!(check(&trees, &profile("default/linux/amd64")).unwrap().name.as_str(), "t");
    assert_eq!(check(&trees, &profile("t:default/linux/amd64")).unwrap().name.as_str(), "t");
    let error = check(&[tree, base], &profile("default/linux/amd64")).unwrap_err().to_string();
    assert!(error.contains("list `t` before it"), "{error}");
    let error = check(&trees, &profile("default/linux/amd46")).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no Portage profile `default/linux/amd46` in tree `t`; did you mean `default/linux/amd64`?"
    );
}

#[test]
fn two_at_once_make_one_snapshot() {
    let source = Source::new();
    let trees: Vec<Tree> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| source.snapshot().unwrap().0)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(trees.iter().all(|tree| *tree == trees[0]));
}

/// The tree that comes with the project.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tree")
}

#[test]
fn the_shipped_tree_can_be_used() {
    let trees = tempfile::tempdir().unwrap();
    let tree = snapshot(&"bindery-test".parse().unwrap(), &shipped(), trees.path(), &mut |_| {}).unwrap();
    check(std::slice::from_ref(&tree), &"default/linux/amd64".parse().unwrap()).unwrap();
    assert!(tree.portage_profiles().unwrap().contains(&"default/linux/amd64".to_string()));
    let ebuilds = ebuilds(&tree.path).unwrap();
    for cpv in &ebuilds {
        let folder = tree.path.join(cpv.cp());
        let ebuild = fs::read_to_string(&folder.join(format!("{}.ebuild", cpv.pf()))).unwrap();
        let text = fs::read_if_exists(&folder.join("Manifest")).unwrap().unwrap_or_default();
        // What fetches nothing has nothing to check.
        assert_eq!(manifest::parse(&text).unwrap().is_empty(), !ebuild.contains("SRC_URI="), "{cpv}");
    }
}

#[test]
fn the_sets_are_the_whole_shipped_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = crate::config::Config::load(crate::config::Search::of(vec![root.to_path_buf()])).unwrap();
    let mut packages: Vec<String> = ebuilds(&shipped()).unwrap().iter().map(crate::atom::Cpv::cp).collect();
    packages.dedup();
    let of = |set: &str| config.sets[&set.parse().unwrap()].value.iter().map(ToString::to_string).collect::<Vec<_>>();
    let demo = of("demo");
    assert!(demo.is_sorted() && demo.len() > 20);
    let mut all = [demo, of("proof"), of("cross")].concat();
    all.sort();
    all.dedup();
    assert_eq!(all, packages);
}
