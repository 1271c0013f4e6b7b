//! Runs commands in a tiny root and looks at what they see, what they can do, and what they leave behind.
//!
//! Everything runs as whoever runs the tests. When that is root, `all_of_this_holds_for_an_ordinary_user` runs it all a
//! second time as the user that `BINDERY_TEST_USER` names, who needs subordinate ids:
//!
//! ```text
//! useradd --create-home bindery-test      (Debian's useradd gives it subordinate ids)
//! BINDERY_TEST_USER=bindery-test cargo test --test sandbox
//! ```
//!
//! The root's programs are busybox (Debian: `apt install busybox-static`). This program's ignored tests are what is killed
//! from outside. What attackers try from inside is in `battery.rs`.

#![expect(clippy::unwrap_used, reason = "what fails is the test")]

#[path = "sandbox/bundles.rs"]
mod bundles;
#[path = "sandbox/commands.rs"]
mod commands;
#[path = "sandbox/emulators.rs"]
mod emulators;
#[path = "common/executable.rs"]
mod executable;
#[path = "sandbox/folders.rs"]
mod folders;
#[path = "sandbox/host.rs"]
mod host;
#[path = "sandbox/isolation.rs"]
mod isolation;
#[path = "sandbox/lifetime.rs"]
mod lifetime;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/refusals.rs"]
mod refusals;
#[path = "sandbox/streams.rs"]
mod streams;
#[path = "sandbox/terminal.rs"]
mod terminal;
#[path = "sandbox/together.rs"]
mod together;
#[path = "sandbox/v2.rs"]
mod v2;
#[path = "sandbox/window.rs"]
mod window;

use std::path::Path;

use host::{Host, own_program};

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    if !host::is_root() {
        return;
    }
    let user = host::variable("BINDERY_TEST_USER").expect(
        "set BINDERY_TEST_USER to an ordinary user with subordinate ids, for whom everything is tested a second time \
         (`useradd --create-home bindery-test` makes one)",
    );
    // Neither cargo's folder nor root's temporary files need be the user's to see.
    let dir = tempfile::Builder::new().prefix("bindery-test-").tempdir_in("/var/tmp").unwrap();
    bindery::fs::set_mode(dir.path(), 0o755).unwrap();
    let (tests, program) = (dir.path().join("tests"), dir.path().join("bindery"));
    executable::copy(&own_program(), &tests);
    executable::copy(Path::new(env!("CARGO_BIN_EXE_bindery")), &program);
    let mut command = bindery::process::command("runuser");
    command.args(["-u", &user, "--"]).arg("env").arg("-i").arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
    command.arg(format!("BINDERY_TEST_PROGRAM={}", program.display())).arg(tests).arg("--test-threads=2");
    let output = command.current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "as {user}: {}", output.status);
}

#[test]
fn a_command_runs_and_its_output_and_exit_code_are_passed_on() {
    let ran = Host::new().sh("echo out; echo err >&2; exit 7").unwrap();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
    assert_eq!(ran.exit.status, bindery::sandbox::Status::Code(7));
    assert_eq!(ran.exit.stopped, None);
}
