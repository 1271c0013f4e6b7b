//! Runs `bindery doctor` here, as root and as an ordinary user, and with one thing after the other taken away: what is
//! missing is named, with how to get it.
//!
//! Things are taken away in mount and user namespaces of each run, so the tests are root's; the ordinary user is the one
//! that `BINDERY_TEST_USER` names (see `sandbox.rs`). What cannot be taken away like this is taken from a virtual machine
//! (`machine/`).

#![expect(clippy::unwrap_used, reason = "what fails is the test")]

#[path = "common/executable.rs"]
mod executable;

use std::path::Path;
use std::process::Output;

use bindery::process;

/// Who runs doctor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

/// What doctor said.
struct Said {
    status: Option<i32>,
    text: String,
    checks: serde_json::Value,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let checks = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {text}"));
        Self { status: output.status.code(), text, checks }
    }

    /// Returns the word about one thing, and what was found and how to mend it.
    fn about(&self, name: &str) -> (String, String) {
        let check = self.checks.as_array().unwrap().iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("nothing about {name}: {}", self.text));
        let field = |field: &str| check[field].as_str().unwrap_or_else(|| panic!("{field} of {check}")).to_string();
        (field("verdict"), format!("{}\n{}", field("found"), field("mend")))
    }

    fn says(&self, name: &str, verdict: &str, texts: &[&str]) {
        let (said, text) = self.about(name);
        assert!(said == verdict, "{name} is {said}, not {verdict}: {text}\n{}", self.text);
        for expected in texts {
            assert!(text.contains(expected), "{name}: `{expected}` is not in: {text}");
        }
        // A thing that is missing is the failure of the whole, and only that.
        if verdict == "missing" {
            assert!(self.status == Some(4) && self.text.contains("this host lacks:"), "{}", self.text);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how the tests are told of the user")]
fn user() -> String {
    std::env::var("BINDERY_TEST_USER").expect(
        "set BINDERY_TEST_USER to an ordinary user with subordinate ids (`useradd --create-home bindery-test` makes one)",
    )
}

/// A folder for the state, the program where everyone may run it, and a way to run doctor.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests take things away in mount namespaces: run them as root"
        );
        let dir = tempfile::Builder::new().prefix("bindery-test-").tempdir_in("/var/tmp").unwrap();
        bindery::fs::set_mode(dir.path(), 0o755).unwrap();
        executable::copy(Path::new(env!("CARGO_BIN_EXE_bindery")), &dir.path().join("bindery"));
        let state = dir.path().join("state");
        bindery::fs::create_dir(&state, 0o777).unwrap();
        Self { dir }
    }

    /// Runs doctor after a script, in a mount namespace of their own. `then` goes between, as the one who runs it.
    fn without(&self, who: Who, script: &str, then: &str) -> Said {
        let dir = self.dir.path().display();
        let user = if who == Who::User { format!("runuser -u {} --", user()) } else { String::new() };
        let path = "PATH=${DOCTORS_PATH:-/usr/sbin:/usr/bin:/sbin:/bin}";
        let script = format!(
            "cd /\nSTATE={dir}/state\n{script}\n\
             exec {user} {then} env -i HOME=/nonexistent {path} {dir}/bindery --state {dir}/state/new --json doctor"
        );
        let mut command = process::command("unshare");
        Said::of(&command.args(["--mount", "sh", "-euc", &script]).output().unwrap())
    }

    /// Panics if anything was left in the state's folder.
    fn is_clean(&self) {
        assert!(bindery::fs::read_dir(&self.dir.path().join("state")).unwrap().is_empty(), "doctor left something");
    }
}

/// What no sandbox can do without.
const NEEDED: [&str; 20] = [
    "kernel",
    "system calls",
    "seccomp",
    "keyrings",
    "user namespaces",
    "second user namespace",
    "namespaces",
    "network namespace",
    "host name",
    "mount calls",
    "subordinate ids",
    "newuidmap",
    "newgidmap",
    "proc",
    "file systems",
    "devices",
    "state",
    "overlayfs",
    "user attributes",
    "sandbox",
];

#[test]
fn a_host_with_everything_is_said_to_have_it_and_stays_as_it_was() {
    let bench = Bench::new();
    for who in [Who::Root, Who::User] {
        let said = bench.without(who, "", "");
        for name in NEEDED {
            said.says(name, "works", &[]);
        }
        for check in said.checks.as_array().unwrap() {
            assert!(check["for"].as_str().is_some_and(|purpose| !purpose.is_empty()), "{check}");
            assert_eq!(check["verdict"] == "works", check["mend"] == "", "{check}");
        }
        assert_eq!(said.status, Some(0), "{}", said.text);
        bench.is_clean();
    }
    let mut groups = process::command("find");
    groups.args(["/sys/fs/cgroup", "-name", "bindery-doctor-*"]);
    assert_eq!(String::from_utf8_lossy(&groups.output().unwrap().stdout), "");
}

#[test]
fn without_subordinate_ids_it_is_told_who_gives_them() {
    let bench = Bench::new();
    let said = bench.without(Who::User, "mount --bind /dev/null /etc/subuid", "");
    said.says("subordinate ids", "missing", &["usermod --add-subuids", &user()]);
    let shared = format!("printf '%s\\n' '{0}:200000:65536' 'eve:265000:65536' >$STATE/ids", user());
    let said = bench.without(
        Who::User,
        &format!("mount -t tmpfs tmpfs $STATE; chmod 777 $STATE; {shared}; mount --bind $STATE/ids /etc/subuid; mount --bind $STATE/ids /etc/subgid"),
        "",
    );
    said.says("subordinate ids", "limited", &["eve", "a range of its own"]);
}

#[test]
fn without_newuidmap_or_its_power_it_is_told_how_to_get_them() {
    let bench = Bench::new();
    let said = bench.without(Who::User, "DOCTORS_PATH=/nonexistent", "");
    for (tool, package) in [("newuidmap", "uidmap"), ("newgidmap", "uidmap")] {
        let (_, text) = said.about(tool);
        said.says(tool, "missing", &["not installed"]);
        assert!(text.contains(package) || text.contains("shadow"), "{text}");
    }
    let plain = "cp $(command -v newuidmap) $STATE/tool; chmod 755 $STATE/tool; mount --bind $STATE/tool $(command -v newuidmap)";
    let said = bench.without(Who::User, plain, "");
    said.says("newuidmap", "missing", &["chmod u+s", "setcap cap_setuid=ep", "nosuid"]);
    said.says("newgidmap", "works", &[]);
    said.says("sandbox", "missing", &["setuid root"]);
    let said = bench.without(Who::User, "", "setpriv --no-new-privs");
    said.says("newuidmap", "missing", &["no_new_privs"]);
}

#[test]
fn a_proc_with_parts_covered_is_named() {
    let bench = Bench::new();
    for who in [Who::Root, Who::User] {
        let said = bench.without(who, "mount --bind /dev/null /proc/version", "");
        said.says("proc", "missing", &["cannot mount proc", "`/proc/version`", "findmnt -R /proc"]);
        said.says("sandbox", "missing", &["unmask=/proc/*", "systempaths=unconfined"]);
        bench.is_clean();
    }
}

#[test]
fn settings_that_forbid_namespaces_are_named() {
    let bench = Bench::new();
    let inner = |setting: &str| {
        format!("unshare --user --map-root-user sh -euc 'echo 0 >/proc/sys/user/{setting}; exec \"$@\"' sh")
    };
    for who in [Who::Root, Who::User] {
        let said = bench.without(who, "", &inner("max_user_namespaces"));
        said.says("user namespaces", "missing", &["`sysctl -w user.max_user_namespaces=15000`", "/etc/sysctl.d/"]);
        let said = bench.without(who, "", &inner("max_net_namespaces"));
        said.says("network namespace", "missing", &["`sysctl -w user.max_net_namespaces=15000`"]);
        said.says("namespaces", "works", &[]);
    }
}

#[test]
fn what_the_states_file_system_cannot_do_is_named() {
    let bench = Bench::new();
    let tmpfs = |options: &str| bench.without(Who::Root, &format!("mount -t tmpfs -o {options} tmpfs $STATE"), "");
    let said = tmpfs("noexec");
    said.says("state", "missing", &["noexec", "mount -o remount,exec", "--state DIR"]);
    let said = tmpfs("size=20m,nr_inodes=1000");
    said.says("disk", "limited", &["0 GiB free", "--state DIR"]);
    said.says("inodes", "limited", &["--state DIR"]);
    said.says("reflinks", "limited", &["btrfs, xfs"]);
    let layers = "mount -t tmpfs tmpfs $STATE; mkdir $STATE/l $STATE/u $STATE/w; \
        mount -t overlay -o lowerdir=$STATE/l,upperdir=$STATE/u,workdir=$STATE/w overlay $STATE";
    let said = bench.without(Who::Root, layers, "");
    said.says("overlayfs", "missing", &["on overlayfs", "must lie on a volume", "--state DIR"]);
    let said = bench.without(Who::Root, "mount -t tmpfs -o ro tmpfs $STATE", "");
    said.says("state", "missing", &["cannot create the folder", "`--state DIR`"]);
    bench.is_clean();
}

#[test]
fn devices_control_groups_and_pressure_that_are_not_there_are_named() {
    let bench = Bench::new();
    let said = bench.without(Who::Root, "mount --bind /dev/null /dev/zero", "");
    said.says("devices", "missing", &["/dev/zero", "1:5"]);
    let said = bench.without(Who::Root, "umount -R /sys/fs/cgroup", "");
    said.says("control groups", "limited", &["none is mounted", "mount -t cgroup2"]);
    said.says("memory controller", "limited", &["CONFIG_MEMCG", "cgroup_disable=memory"]);
    let said = bench.without(Who::Root, "mount --bind /dev/null /proc/pressure/cpu", "");
    said.says("pressure", "limited", &["psi=1", "CONFIG_PSI=y"]);
    let said = bench.without(Who::Root, "mount --bind /dev/null /dev/loop-control", "");
    assert_ne!(said.about("loop devices").1, "");
}
