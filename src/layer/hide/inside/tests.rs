//! Made-up images. Whiteouts may be made by anybody; owners are whoever runs the tests.

use super::*;

struct Bench(tempfile::TempDir);

impl Bench {
    /// An image with a package that is seen and one that is not.
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let status =
            ["base", "extra"].map(|name| format!("Package: {name}\nStatus: install ok installed\n\n")).concat();
        bench.write("var/lib/dpkg/status", &status);
        bench.link("bin", "usr/bin");
        bench.list("base", &["/.", "/usr", "/usr/bin", "/bin/tool", "/usr/share", "/usr/share/both"]);
        bench.list(
            "extra:amd64",
            &[
                "/.",
                "/usr/bin",
                "/bin/extra",
                "/usr/share/both",
                "/usr/share/extra",
                "/usr/share/extra/data",
                "/usr/share/mixed",
                "/usr/share/mixed/data",
                "/usr/lib/python3/extra.py",
                "/usr/share/never-there",
            ],
        );
        for file in ["usr/bin/tool", "usr/bin/extra", "usr/share/both/x", "usr/share/extra/data"] {
            bench.write(file, "x");
        }
        for file in ["usr/share/mixed/data", "usr/share/mixed/somebody's", "usr/lib/python3/extra.py"] {
            bench.write(file, "x");
        }
        for file in ["extra.cpython-313.pyc", "extras.cpython-313.pyc"] {
            bench.write(&format!("usr/lib/python3/__pycache__/{file}"), "x");
        }
        bench.write("var/lib/dpkg/alternatives/pager", "auto\n/usr/bin/pager\n\n/usr/bin/extra\n50\n");
        bench.link("usr/bin/pager", "/etc/alternatives/pager");
        bench.write("etc/alternatives/README", "");
        bench.link("etc/alternatives/pager", "/bin/extra");
        bench
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("image").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(&self.path(path), text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::symlink(Path::new(target), &self.path(path)).unwrap();
    }

    fn list(&self, package: &str, paths: &[&str]) {
        self.write(&format!("var/lib/dpkg/info/{package}.list"), &(paths.join("\n") + "\n"));
    }

    fn hide(&self, packages: &[&str]) -> Result<Made, String> {
        let base = Base { packages: packages.iter().map(ToString::to_string).collect(), without: Vec::new() };
        let (scratch, place) = (self.0.path().join("scratch"), self.0.path().join("layer"));
        let task = Task { base, image: vec![self.0.path().join("image")], scratch, place };
        hide(&task).map_err(|e| e.to_string())
    }
}

#[test]
fn what_only_packages_beyond_the_base_have_is_hidden() {
    let bench = Bench::new();
    let made = bench.hide(&["base"]).unwrap();
    assert_eq!(made.seen, ["base".to_string()].into());
    let expected = [
        "etc/alternatives/pager",
        "usr/bin/extra",
        "usr/bin/pager",
        "usr/lib/python3/__pycache__/extra.cpython-313.pyc",
        "usr/lib/python3/extra.py",
        "usr/share/extra",
        "usr/share/mixed/data",
    ];
    assert_eq!(made.whiteouts.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(made.hidden["extra"].contains("usr/share/extra/data"));
    assert!(made.all_folders.contains("usr/lib/python3/__pycache__") && !made.all_folders.contains("bin"));
    let layers = Layers::open(&[bench.0.path().join("layer"), bench.0.path().join("image")]).unwrap();
    for path in expected {
        assert_eq!(layers.look(Path::new(path)).unwrap(), None, "{path}");
    }
    for path in ["usr/bin/tool", "usr/share/both/x", "usr/share/mixed/somebody's", "etc/alternatives/README"] {
        assert_eq!(layers.look(Path::new(path)).unwrap(), Some(Found::File), "{path}");
    }
}

#[test]
fn folders_look_as_in_the_image() {
    let bench = Bench::new();
    fs::set_mode(&bench.path("usr/share"), 0o711).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::set_mtime(&bench.path("usr/share/mixed"), time).unwrap();
    bench.hide(&["base"]).unwrap();
    let both = |path: &str| [bench.path(path), bench.0.path().join("layer").join(path)];
    let look = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.permissions(), metadata.modified().unwrap())
    };
    let [image, layer] = both("usr/share").map(|path| look(&path).0);
    assert_eq!(image, layer);
    let [image, layer] = both("usr/share/mixed").map(|path| look(&path).1);
    assert_eq!(image, layer);
}

#[test]
fn where_everything_is_seen_nothing_is_hidden() {
    let made = Bench::new().hide(&["base", "extra"]).unwrap();
    assert!(made.whiteouts.is_empty() && made.hidden.is_empty(), "{made:?}");
}

#[test]
fn a_base_that_cannot_be_is_refused() {
    let bench = Bench::new();
    let error = bench.hide(&["bsae"]).unwrap_err();
    assert_eq!(error, "the base of the image's definition names `bsae`, which is not installed in the image");
    fs::remove_file(&bench.path("var/lib/dpkg/status")).unwrap();
    let error = bench.hide(&["base"]).unwrap_err();
    assert!(error.contains("no `/var/lib/dpkg/status`"), "{error}");
}
