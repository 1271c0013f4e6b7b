//! Runs bindery inside Podman containers with the options of docs/containers.md, as root and as an ordinary user, and
//! without each of them, which is then named. The container's image is a folder with busybox and bindery.
//!
//! Root runs the tests; the ordinary user is the one that `BINDERY_TEST_USER` names (see `sandbox.rs`). For the time of a
//! run it has twice as many subordinate ids, in a mount namespace where /etc/subuid says so.

#![expect(clippy::unwrap_used, reason = "what fails is the test")]

#[path = "common/executable.rs"]
mod executable;

use std::path::{Path, PathBuf};
use std::process::Output;

use bindery::process;

/// The options of docs/containers.md but the volume.
const OPTIONS: [&str; 2] = ["--hostname=bindery", "--security-opt=unmask=/proc/*"];
/// The first of the ordinary user's ids while a container runs.
const IDS: u32 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

#[expect(clippy::disallowed_methods, reason = "how the tests are told of the user")]
fn user() -> String {
    std::env::var("BINDERY_TEST_USER").expect(
        "set BINDERY_TEST_USER to an ordinary user with subordinate ids (`useradd --create-home bindery-test` makes one)",
    )
}

/// A folder with an image's files, a volume, and Podman's own things.
struct Engine {
    who: Who,
    dir: tempfile::TempDir,
}

impl Engine {
    fn new(who: Who) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests start containers as root and as a user: run them as root"
        );
        process::find("podman").expect("podman is missing: `apt install podman crun`");
        let busybox = process::find("busybox").expect("busybox is missing: `apt install busybox-static`");
        let dir = tempfile::Builder::new().prefix("bindery-test-").tempdir_in("/var/tmp").unwrap();
        let root = dir.path().join("root");
        for folder in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "var/lib/bindery"] {
            bindery::fs::create_dir_all(&root.join(folder)).unwrap();
        }
        for folder in ["home", "run", "volume", "root/lower/bin"] {
            bindery::fs::create_dir_all(&dir.path().join(folder)).unwrap();
        }
        // The commands of the container's image, and a root for sandboxes in it.
        for bin in [root.join("bin"), root.join("lower/bin")] {
            executable::copy(&busybox, &bin.join("busybox"));
            bindery::fs::symlink(Path::new("busybox"), &bin.join("sh")).unwrap();
        }
        executable::copy(Path::new(env!("CARGO_BIN_EXE_bindery")), &root.join("bin/bindery"));
        // Users of the container's own, which a range must not overlap.
        bindery::fs::write(&root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
            .unwrap();
        bindery::fs::write(&root.join("etc/group"), "root:x:0:\nnobody:x:65534:\n").unwrap();
        bindery::fs::write(&dir.path().join("ids"), format!("{}:{IDS}:131072\n", user())).unwrap();
        bindery::fs::write(&dir.path().join("few-ids"), format!("{}:{IDS}:65536\n", user())).unwrap();
        if who == Who::User {
            let mut give = process::command("chown");
            // The group, too: root of the container has no power over files of a group that it does not know.
            process::run(give.args(["-R", &format!("{}:", user())]).arg(dir.path())).unwrap();
        }
        Self { who, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command in a container.
    fn run(&self, ids: &str, options: &[&str], rootfs: &str, command: &[&str]) -> Output {
        let dir = self.dir.path().display();
        // crun refuses hosts that have both versions of control groups with controllers, so one goes.
        let mut script =
            "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi\n".to_string();
        let mut podman = vec!["podman".to_string()];
        if self.who == Who::User {
            script += &format!("for file in subuid subgid; do mount --bind {dir}/{ids} /etc/$file; done\n");
            let env = format!("HOME={dir}/home XDG_RUNTIME_DIR={dir}/run PATH=/usr/sbin:/usr/bin:/sbin:/bin");
            podman = format!("runuser -u {} -- env -i {env} podman", user()).split(' ').map(str::to_string).collect();
        }
        script += &format!("cd {dir}\nexec \"$@\"");
        let more = [
            format!("--root={dir}/storage"),
            format!("--runroot={dir}/storage-run"),
            "--cgroup-manager=cgroupfs".to_string(),
            "run".to_string(),
            "--rm".to_string(),
            "--network=none".to_string(),
            // Podman's own defaults may be more than this machine lets it have.
            "--ulimit=nofile=1024:1024".to_string(),
            "--ulimit=nproc=2048:2048".to_string(),
        ];
        podman.extend(more);
        podman.extend(options.iter().map(ToString::to_string));
        podman.extend(["--rootfs".to_string(), self.path(rootfs).display().to_string()]);
        podman.extend(command.iter().map(ToString::to_string));
        let mut command = process::command("unshare");
        command.args(["--mount", "sh", "-euc", &script, "sh"]).args(podman).output().unwrap()
    }

    /// Runs doctor in a container with these options, and returns what it says of one thing.
    fn doctor(&self, ids: &str, options: &[&str], rootfs: &str) -> serde_json::Value {
        let output = self.run(ids, options, rootfs, &["bindery", "doctor", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    fn volume(&self) -> String {
        format!("--volume={}:/var/lib/bindery", self.path("volume").display())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // What Podman mounted here is gone with its containers; files of the user's ids are root's to remove.
        let mut remove = process::command("rm");
        let _ = remove.arg("-rf").arg(self.dir.path()).output();
    }
}

#[track_caller]
fn says(checks: &serde_json::Value, name: &str, verdict: &str, texts: &[&str]) {
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("nothing about {name}: {checks}"));
    let text = format!("{}\n{}", check["found"].as_str().unwrap(), check["mend"].as_str().unwrap());
    assert!(check["verdict"] == verdict && texts.iter().all(|expected| text.contains(expected)), "{check:#}");
}

/// What bindery cannot be without in a container.
const NEEDED: [&str; 12] = [
    "system calls",
    "seccomp",
    "keyrings",
    "user namespaces",
    "second user namespace",
    "namespaces",
    "network namespace",
    "host name",
    "subordinate ids",
    "proc",
    "overlayfs",
    "sandbox",
];

fn has_everything_with_the_documented_options(who: Who) {
    let engine = Engine::new(who);
    let volume = engine.volume();
    let options = [OPTIONS[0], OPTIONS[1], &volume];
    let checks = engine.doctor("ids", &options, "root");
    says(&checks, "surroundings", "works", &["inside a Podman container"]);
    for name in NEEDED {
        says(&checks, name, "works", &[]);
    }
}

fn runs_a_command(who: Who, owner: u32) {
    let engine = Engine::new(who);
    let volume = engine.volume();
    let options = [OPTIONS[0], OPTIONS[1], &volume];
    // Root of a container cannot map the owners of a folder, so they are the range's.
    let inside = "busybox id -u; busybox hostname; exit 7";
    let script =
        format!("busybox chown -R {owner}:{owner} /lower && exec bindery run --root /lower -- sh -c '{inside}'");
    let output = engine.run("ids", &options, "root", &["sh", "-c", &script]);
    let said = (output.status.code(), String::from_utf8_lossy(&output.stdout));
    assert_eq!(said, (Some(7), "0\nbindery\n".into()), "{output:?}");
    // What the engine takes away by default is not done without, but refused.
    let output = engine.run("ids", &[&volume], "root", &["sh", "-c", &script]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(said.contains("--hostname bindery") && said.contains("hint: `bindery doctor`"), "{said}");
    let output = engine.run("ids", &[OPTIONS[0], &volume], "root", &["sh", "-c", &script]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(125) && said.contains("--security-opt 'unmask=/proc/*'"), "{output:?}");
}

#[test]
fn in_a_container_of_roots_a_command_runs_with_the_documented_options_only() {
    runs_a_command(Who::Root, 0x7000_0000);
}

#[test]
fn in_a_container_of_an_ordinary_users_a_command_runs_with_the_documented_options_only() {
    runs_a_command(Who::User, 65536);
}

#[test]
fn in_a_container_of_roots_everything_works_with_the_documented_options() {
    has_everything_with_the_documented_options(Who::Root);
}

#[test]
fn in_a_container_of_an_ordinary_users_everything_works_with_the_documented_options() {
    has_everything_with_the_documented_options(Who::User);
}

#[test]
fn without_one_of_the_options_that_one_is_named() {
    let engine = Engine::new(Who::Root);
    let volume = engine.volume();
    let checks = engine.doctor("ids", &[&volume], "root");
    says(&checks, "host name", "missing", &["podman run --hostname bindery"]);
    says(&checks, "proc", "missing", &["something covers", "podman run --security-opt 'unmask=/proc/*'"]);
    says(&checks, "sandbox", "missing", &["a container must be started with `--hostname bindery`"]);
    let checks = engine.doctor("ids", &[OPTIONS[0], &volume], "root");
    says(&checks, "host name", "works", &[]);
    says(&checks, "sandbox", "missing", &["'unmask=/proc/*'` (Podman)", "systempaths=unconfined"]);
    // An overlay over the folder, as the root of a container of an image's is.
    let checks = engine.doctor("ids", &OPTIONS, "root:O");
    says(&checks, "overlayfs", "missing", &["on overlayfs", "podman run --volume bindery:/var/lib/bindery"]);
}

#[test]
fn a_container_of_a_user_with_too_few_ids_is_refused_with_the_command_that_gives_more() {
    let engine = Engine::new(Who::User);
    let volume = engine.volume();
    let checks = engine.doctor("few-ids", &[OPTIONS[0], OPTIONS[1], &volume], "root");
    says(&checks, "subordinate ids", "missing", &["131072", "usermod --add-subuids", "podman system migrate"]);
}
