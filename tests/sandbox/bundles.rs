//! `bindery run --bundle`: the program itself, on bundles as other runtimes' tools write them.

use std::path::PathBuf;
use std::process::Output;

use bindery::fs;
use serde_json::{Value, json};

use crate::folders::{bindery, own_root, ranged, text};
use crate::host::{Host, is_root};

/// Makes a bundle whose root belongs to the id range, after what `runc spec` writes, without the terminal.
fn bundle(host: &Host, script: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let mut config: Value = serde_json::from_str(include_str!("../common/config.json")).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", script]);
    config["process"]["env"] = json!(["PATH=/bin"]);
    config["root"]["path"] = json!("../state/base");
    config["hostname"] = json!("elsewhere");
    config["linux"]["maskedPaths"] = json!(["/etc/secret"]);
    edit(&mut config);
    let folder = host.folder("bundle");
    fs::write(&folder.join("config.json"), config.to_string()).unwrap();
    folder
}

fn run(host: &Host, script: &str, edit: impl FnOnce(&mut Value)) -> Output {
    let folder = bundle(host, script, edit);
    bindery(host, &["run", "--bundle", folder.to_str().unwrap()])
}

#[test]
fn a_bundle_runs_as_it_says_and_its_status_is_passed_on() {
    let host = Host::new();
    fs::write(&host.base().join("etc/secret"), "secret").unwrap();
    ranged(&host);
    let script = "hostname; ulimit -n; test -d /sys/class && ls /sys/fs/cgroup; cat /etc/secret; touch /x; exit 7";
    let ran = run(&host, script, |_| {});
    assert_eq!(text(&ran.stdout), "elsewhere\n1024\n", "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stderr), "touch: /x: Read-only file system\n");
    assert_eq!(ran.status.code(), Some(7));
    assert!(!host.base().join("x").exists());
}

#[test]
fn what_is_written_goes_into_the_bundles_root_unless_it_is_to_be_thrown_away() {
    let host = Host::new();
    ranged(&host);
    let script = "echo kept >/etc/kept && cat /etc/kept";
    let discard = |config: &mut Value| {
        config["root"]["readonly"] = json!(false);
        config["annotations"] = json!({"bindery.writes": "discard", "org.example": "passed over"});
    };
    let ran = run(&host, script, discard);
    assert_eq!(text(&ran.stdout), "kept\n", "{}", text(&ran.stderr));
    assert!(!host.base().join("etc/kept").exists());
    let ran = run(&host, script, |config| config["root"]["readonly"] = json!(false));
    assert_eq!(text(&ran.stdout), "kept\n", "{}", text(&ran.stderr));
    assert_eq!(fs::read_to_string(&host.base().join("etc/kept")).unwrap(), "kept\n");
}

#[test]
fn nothing_is_written_into_a_folder_of_the_hosts_own_ids() {
    let host = Host::new();
    let root = own_root(&host, "own");
    let ran = run(&host, "touch /x", |config| config["root"] = json!({"path": root.to_str().unwrap()}));
    assert_eq!(ran.status.code(), Some(125));
    let said = text(&ran.stderr);
    assert!(said.contains("so nothing may write to it from inside"), "{said}");
    assert_eq!(fs::read_dir(&root).unwrap().len(), 1);
}

#[test]
fn all_that_cannot_be_done_is_said_at_once() {
    let host = Host::new();
    let ran = run(&host, "true", |config| {
        config["hooks"] = json!({"poststop": [{"path": "/bin/x"}]});
        config["process"]["terminal"] = json!(true);
        config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}]);
    });
    assert_eq!(ran.status.code(), Some(125));
    let said = text(&ran.stderr);
    for part in ["(3 fields of its config.json)", "`hooks`", "`process.terminal`", "`bindery.network` = `host`"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
}

#[test]
fn a_bundle_is_all_there_is_to_say() {
    let host = Host::new();
    for more in [&["--network"][..], &["--root", "/"], &["--env", "A=b"], &["--memory", "1GiB"], &["true"]] {
        let ran = bindery(&host, &[&["run", "--bundle", "/nowhere"], more].concat());
        assert_eq!(ran.status.code(), Some(2), "{more:?}: {}", text(&ran.stderr));
        assert!(text(&ran.stderr).contains("cannot be used with"), "{}", text(&ran.stderr));
    }
}

#[test]
fn a_bundle_that_is_none_is_an_error_that_names_it() {
    let host = Host::new();
    let folder = host.folder("bundle");
    let path = folder.to_str().unwrap();
    let ran = bindery(&host, &["run", "--bundle", path]);
    assert!(ran.status.code() == Some(125) && text(&ran.stderr).contains("config.json"), "{}", text(&ran.stderr));
    fs::write(&folder.join("config.json"), "{").unwrap();
    let ran = bindery(&host, &["run", "--bundle", path]);
    assert!(ran.status.code() == Some(125) && text(&ran.stderr).contains("EOF"), "{}", text(&ran.stderr));
}

#[test]
fn root_binds_what_the_bundle_binds() {
    let host = Host::new();
    ranged(&host);
    fs::write(&host.folder("bundle").join("data"), "of the bundle").unwrap();
    let ran = run(&host, "cat /etc/data; echo x >/etc/data", |config| {
        let bind = json!({"destination": "/etc/data", "source": "data", "options": ["bind", "ro", "rprivate"]});
        config["mounts"].as_array_mut().unwrap().push(bind);
    });
    assert_eq!(text(&ran.stdout), "of the bundle", "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("Read-only"), "{} (root: {})", text(&ran.stderr), is_root());
}
