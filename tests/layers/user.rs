//! All of it once more, as an ordinary user.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::chain_bench::{self, Bench, HOME, Who};

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // Makes the user's image, and puts the program and the tests' files where the user finds them.
    let bench = Bench::of(Who::Other, "layers");
    bench.run(&["doctor"]).works();
    let home = chain_bench::home(Who::Other);
    let copy = home.join("tests-of-layers");
    let _ = std::fs::remove_file(&copy);
    crate::executable::copy(&std::env::current_exe().unwrap(), &copy);
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("runuser");
    command.args(["-u", &chain_bench::other(), "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    command.arg(format!("{HOME}={}", home.display())).arg(copy).arg("--test-threads=2");
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "as an ordinary user: {}", output.status);
}
