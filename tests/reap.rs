//! `bindery reap`: one thing that cannot be removed stops nothing else.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on panics")]

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn bindery(state: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
    command.arg("--state").arg(state).args(args).env_remove("BINDERY_STATE").output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_lease_that_cannot_be_removed_is_told_and_the_others_are_reaped() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert!(bindery(&state, &["reap"]).status.success());
    let lease = |id: &str, purpose: &str, path: &Path| {
        let text = format!(
            r#"{{"version":1,"purpose":"{purpose}","holder":1,"cgroups":[],"processes":[],"paths":["{}"]}}"#,
            path.display()
        );
        std::fs::write(state.join("run/leases").join(format!("{id}.json")), text).unwrap();
    };
    let removable = dir.path().join("removable");
    std::fs::create_dir_all(removable.join("below")).unwrap();
    // Not even root removes a file of the kernel's.
    lease("1-400001-0", "the first", Path::new("/proc/version"));
    lease("1-400001-1", "the second", &removable);
    std::fs::create_dir(state.join("state/roots/1-400001-2")).unwrap();
    std::fs::create_dir_all(state.join("state/.bindery-doctor-400001-0/overlay/work")).unwrap();
    for file in ["state/images/.new-half", "etc/keys/.new-half", "cache/distfiles/.part/half"] {
        std::fs::create_dir_all(state.join(file).parent().unwrap()).unwrap();
        std::fs::write(state.join(file), "half").unwrap();
    }
    let output = bindery(&state, &["reap"]);
    let said = err(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for text in [
        "warning: cannot remove what a dead process left: the first (1-400001-0): cannot remove `/proc/version`",
        "removed what a dead process left: the second (1-400001-1)",
        "removed what a dead process left: no record (1-400001-2)",
        "removed what a dead process left: temporary files",
        "removed what a dead process left: trials of `bindery doctor`",
        "bindery: 1 of the things left behind could not be removed",
    ] {
        assert!(said.contains(text), "no `{text}` in:\n{said}");
    }
    assert!(!state.join("state/.bindery-doctor-400001-0").exists());
    assert!(!removable.exists() && !state.join("state/roots/1-400001-2").exists());
    for file in ["state/images/.new-half", "etc/keys/.new-half", "cache/distfiles/.part/half"] {
        assert!(!state.join(file).exists(), "{file}");
    }
    // It stays on record until it can be removed, and other commands do what they are for.
    assert_eq!(bindery(&state, &["reap"]).status.code(), Some(4));
    let run = bindery(&state, &["run", "--image", "no-such-image", "--", "true"]);
    assert!(err(&run).contains("warning: cannot remove") && err(&run).contains("no-such-image"), "{}", err(&run));
    lease("1-400001-0", "the first", &removable);
    assert!(bindery(&state, &["reap"]).status.success());
    assert!(err(&bindery(&state, &["reap"])).contains("nothing was left behind"));
}

#[test]
fn a_state_folder_that_is_not_utf8_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join(std::ffi::OsStr::from_bytes(b"st\xffate"));
    let output = bindery(&state, &["reap"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("is not UTF-8") && err(&output).contains("hint: `--state DIR`"), "{}", err(&output));
    assert!(!state.exists());
}
