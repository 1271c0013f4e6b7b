//! The step that builds a package, run by bindery and by other OCI runtimes: they come to the same.
//!
//! runc and crun run the bundle that `bindery build --bundle-only` writes, as root. crun refuses hosts that have version 1
//! and version 2 of control groups mounted at once, so it is run where the second one is not to be seen.

use std::path::{Path, PathBuf};
use std::process::Command;

use bindery::atom::{BuildId, Cpv};
use bindery::package::{DEFAULT_SOURCE_DATE, NormaliseOptions, normalise};

use crate::bench::{Bench, Said};

/// Who runs a bundle.
const RUNTIMES: [&str; 3] = ["bindery", "runc", "crun"];

/// Bundles of a test, removed by root, whoever owns what is in them.
struct Bundles {
    bench: Bench,
    folder: tempfile::TempDir,
}

impl Bundles {
    fn new(test: &str) -> Self {
        // Other runtimes look for the folder as the range's uid 0, so all above it are open.
        let folder = tempfile::Builder::new().prefix("bindery-bundle-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        Self { bench: Bench::new(test), folder }
    }

    /// Writes the bundle of a package's step.
    fn write(&self, name: &str, atom: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        let args = ["build", "--profile", &self.bench.profile, "--bundle-only", folder.to_str().unwrap(), atom];
        self.bench.run(&args).works();
        folder
    }

    fn run(&self, runtime: &str, bundle: &Path) -> Said {
        let path = bundle.to_str().unwrap();
        let id = format!("bindery-test-{}-{runtime}", std::process::id());
        let mut command = match runtime {
            "bindery" => self.bench.command(&["run", "--bundle", path]),
            "runc" => {
                let mut command = Command::new("runc");
                command.args(["run", "--bundle", path, &id]);
                command
            }
            _ => {
                let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun run --bundle \"$1\" \"$2\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", script, "sh", path, &id]);
                command
            }
        };
        let output = command.stdin(std::process::Stdio::null()).output();
        output.unwrap_or_else(|e| panic!("{runtime} is missing ({e}): `tests/host-tools test` installs it")).into()
    }
}

/// Returns the content digest of the package that a step left in a bundle's root.
fn content(bundle: &Path, cpv: &Cpv) -> String {
    let built = bundle.join("rootfs/var/cache/bindery/built").join(cpv.category.as_str());
    let find =
        |dir: &Path| std::fs::read_dir(dir).map(|all| all.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    let mut files = find(&built).unwrap_or_default();
    files.extend(files.clone().iter().flat_map(|dir| find(dir).unwrap_or_default()));
    let input = files.into_iter().find(|file| file.to_string_lossy().ends_with(".gpkg.tar"));
    let output = bundle.join("normalised");
    let input = input.unwrap_or_else(|| panic!("no package below {}", built.display()));
    let options = NormaliseOptions {
        signed: false,
        input,
        output,
        cpv: cpv.clone(),
        source_date: DEFAULT_SOURCE_DATE,
        known: Vec::new(),
        next: BuildId(1),
        audit: None,
    };
    normalise(&options).unwrap().facts.content.to_string()
}

#[test]
fn other_runtimes_build_the_same_package_from_the_same_bundle_and_fail_alike() {
    let bundles = Bundles::new("chain-bundle");
    bundles.bench.write_tree(&[("small", "src_install() {\n\techo small >small || die\n\tdodoc small\n}\n")]);
    bundles.bench.write_profile("trees = [\"bindery-test\", \"own\"]\n[limits]\nsilence = \"5min\"\n");
    let cpv: Cpv = "own/small-1".parse().unwrap();
    let digests: Vec<_> = RUNTIMES
        .iter()
        .map(|runtime| {
            let bundle = bundles.write(runtime, "own/small");
            bundles.run(runtime, &bundle).works();
            content(&bundle, &cpv)
        })
        .collect();
    bundles.bench.build(&["own/small"]).works();
    let record = bundles.bench.profile_dir().join("pool/own/small/small-1-1.json");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let ours = record["facts"]["content"].as_str().unwrap();
    assert_eq!(digests, [ours; 3], "by {RUNTIMES:?}, and by `bindery build`");
    // The spec of the build is kept, and is the bundle's but for the root.
    let run = bundles.bench.state.join("state/runs");
    let kept = std::fs::read_dir(run).unwrap().flatten().map(|run| run.path().join("own/small-1/config.json"));
    let kept = kept.filter_map(|file| std::fs::read(file).ok()).last().expect("the build's config.json is kept");
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let written = std::fs::read(bundles.folder.path().join("runc/config.json")).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    for field in [
        "/process/args",
        "/process/env",
        "/process/rlimits",
        "/process/user",
        "/linux/namespaces",
        "/linux/maskedPaths",
        "/linux/readonlyPaths",
        "/hostname",
    ] {
        assert_eq!(kept.pointer(field), written.pointer(field), "{field}");
    }
    assert_eq!(kept["mounts"][0]["type"], "overlay");
    assert_eq!(kept["mounts"].as_array().unwrap()[1..6], written["mounts"].as_array().unwrap()[..5]);
    fail_alike(&bundles, &bundles.folder.path().join("runc"));
}

/// Has commands fail in a bundle's root: with the same status and words everywhere.
fn fail_alike(bundles: &Bundles, bundle: &Path) {
    let file = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let look = "id -u; umask; hostname; grep -h Cap /proc/self/status; ls -A /sys /proc/scsi; touch /proc/sys/x";
    // The command is process 1 of other runtimes', which no signal of its own ends.
    for (script, code) in [("exit 9", 9), ("sh -c 'kill -9 $$'", 137), (look, 1)] {
        config["process"]["args"] = serde_json::json!(["/bin/sh", "-c", format!("{script}; exit $?")]);
        std::fs::write(&file, config.to_string()).unwrap();
        let said = RUNTIMES.map(|runtime| bundles.run(runtime, bundle));
        for (runtime, by) in RUNTIMES.iter().zip(&said) {
            assert_eq!((by.code, &by.out), (code, &said[0].out), "by {runtime}: {by}");
        }
    }
}
