//! `bindery run --root`, and the tool's exit statuses: the program itself, on folders of the host's.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use bindery::{fs, process};

use crate::host::{Host, is_root, variable};

/// Runs the program with the host's state folder.
pub(crate) fn bindery(host: &Host, args: &[&str]) -> Output {
    let program = variable("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").to_string());
    let mut command = process::command(program);
    command.arg("--state").arg(host.dir.path()).args(args);
    command.output().unwrap()
}

/// Runs a command in a root that is a folder.
fn run(host: &Host, root: &Path, args: &[&str]) -> Output {
    let root = root.to_str().unwrap();
    bindery(host, &[&["run", "--root", root, "--env", "PATH=/bin", "--"], args].concat())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Has the host's layer belong to the id range whoever runs the tests: as root it does already.
pub(crate) fn ranged(host: &Host) -> PathBuf {
    for name in ["base/bin", "base/tmp", "base/etc", "base"] {
        bindery::sandbox::range::give(&host.ids, &host.state.state().join(name)).unwrap();
    }
    host.base()
}

/// Makes a root of whoever runs the tests.
pub(crate) fn own_root(host: &Host, name: &str) -> PathBuf {
    let root = host.folder(name);
    fs::create_dir_all(&root.join("bin")).unwrap();
    let busybox = process::find("busybox").expect("busybox is missing: `apt install busybox-static`");
    for name in ["sh", "stat", "touch", "rm", "cat", "ls", "mount", "id", "kill"] {
        crate::executable::copy(&busybox, &root.join("bin").join(name));
    }
    fs::set_mode(&root, 0o755).unwrap();
    root
}

#[test]
fn a_folder_of_host_roots_shows_its_owners_and_is_never_changed() {
    let host = Host::new();
    let root = own_root(&host, "own");
    fs::write(&root.join("file"), "as it was").unwrap();
    let script = "stat -c '%u:%g %n' / /file; touch /new && rm /file && echo done";
    if is_root() {
        std::os::unix::fs::chown(root.join("file"), Some(7), Some(8)).unwrap();
        let ran = run(&host, &root, &["sh", "-c", script]);
        assert_eq!(text(&ran.stdout), "0:0 /\n7:8 /file\ndone\n", "{}", text(&ran.stderr));
    } else {
        let ran = run(&host, &root, &["sh", "-c", script]);
        assert_eq!(ran.status.code(), Some(125));
        let said = text(&ran.stderr);
        assert!(said.contains("whom the sandbox does not have: everything in it would be nobody's"), "{said}");
    }
    assert_eq!(fs::read_to_string(&root.join("file")).unwrap(), "as it was");
    assert_eq!(fs::read_dir(&root).unwrap().len(), 2);
}

#[test]
fn a_folder_of_the_id_ranges_is_a_root_for_everyone() {
    let host = Host::new();
    let ran = run(&host, &ranged(&host), &["sh", "-c", "stat -c %u / && touch /new && ls /"]);
    assert!(ran.status.success() && text(&ran.stdout).starts_with("0\n"), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).contains("new\n") && !host.base().join("new").exists());
    assert_eq!(fs::read_dir(&host.state.state().join("roots")).unwrap(), [] as [&Path; 0]);
}

#[test]
fn of_several_folders_the_first_is_on_top() {
    let host = Host::new();
    let mut args = vec!["run".to_string()];
    let folders: Vec<_> = (0..20).map(|number| host.folder(&format!("layer{number}"))).collect();
    for (number, folder) in folders.iter().enumerate() {
        fs::write(&folder.join("which"), number.to_string()).unwrap();
        fs::write(&folder.join(format!("only{number}")), "").unwrap();
        bindery::sandbox::range::give(&host.ids, folder).unwrap();
        args.extend(["--root".to_string(), folder.display().to_string()]);
    }
    args.extend(["--root".to_string(), ranged(&host).display().to_string()]);
    args.extend(["--env", "PATH=/bin", "--", "sh", "-c", "cat /which; ls / | grep -c only"].map(str::to_string));
    let ran = bindery(&host, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(text(&ran.stdout), "020\n", "{}", text(&ran.stderr));
}

#[test]
fn device_nodes_of_a_folder_cannot_be_opened() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let root = own_root(&host, "own");
    let null = nix::sys::stat::makedev(1, 3);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&root.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, null).unwrap();
    let ran = run(&host, &root, &["sh", "-c", "cat /null"]);
    assert!(text(&ran.stderr).contains("Permission denied"), "{}", text(&ran.stderr));
}

#[test]
fn a_container_of_somebody_elses_is_no_root() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let root = own_root(&host, "own");
    std::os::unix::fs::chown(&root, Some(70_000), Some(70_000)).unwrap();
    let ran = run(&host, &root, &["true"]);
    assert_eq!(ran.status.code(), Some(125));
    assert!(text(&ran.stderr).contains("some other container's"), "{}", text(&ran.stderr));
    assert_eq!(fs::metadata(&root).unwrap().uid(), 70_000);
}

#[test]
fn exit_statuses_say_who_ended_it() {
    let host = Host::new();
    fs::write(&host.base().join("etc/text"), "no program").unwrap();
    let root = ranged(&host);
    for (args, code, said) in [
        (&["sh", "-c", "exit 7"][..], 7, ""),
        (&["sh", "-c", "kill -9 $$"], 137, ""),
        (&["sh", "-c", "kill -15 $$"], 143, ""),
        (&["/etc/text"], 126, "cannot start `/etc/text`"),
        (&["nothing-of-this-name"], 127, "cannot start `nothing-of-this-name`"),
    ] {
        let ran = run(&host, &root, args);
        assert_eq!(ran.status.code(), Some(code), "{args:?}: {}", text(&ran.stderr));
        assert!(text(&ran.stderr).contains(said), "{}", text(&ran.stderr));
    }
    let ran = run(&host, Path::new("/nowhere"), &["true"]);
    assert_eq!(ran.status.code(), Some(125));
    assert!(text(&ran.stderr).contains("/nowhere"), "{}", text(&ran.stderr));
}
