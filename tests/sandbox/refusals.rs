//! What is refused: hostile roots, and specs that ask for something else. (Fields of the spec are unit tests.)

use std::path::Path;

use bindery::fs;
use bindery::sandbox::SandboxError;

use crate::host::Host;

fn refusal(host: &Host) -> String {
    match host.sh("true").unwrap_err() {
        SandboxError::Setup(message) => message,
        other => panic!("{other}"),
    }
}

#[test]
fn links_in_the_root_lead_no_mount_to_the_host() {
    let host_folder = tempfile::tempdir().unwrap();
    for (link, to) in [("dist", "/mnt"), ("deep/dist", "../../../../.."), ("etc/dist", "/proc/self/root/etc")] {
        let mut host = Host::new();
        let link = host.base().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        fs::symlink(Path::new(to), &link).unwrap();
        let source = host.folder("source");
        let target = format!("/{}/below", link.strip_prefix(host.base()).unwrap().display());
        host.bind(&source, &target, true);
        let message = refusal(&host);
        assert!(message.contains("a symbolic link of the root is in the way"), "{message}");
    }
    for name in ["proc", "dev"] {
        let host = Host::new();
        fs::symlink(host_folder.path(), &host.base().join(name)).unwrap();
        let message = refusal(&host);
        assert!(message.contains(&format!("cannot mount on `/{name}` in the root: a symbolic link")), "{message}");
    }
    assert_eq!(fs::read_dir(host_folder.path()).unwrap(), [] as [&Path; 0]);
}

#[test]
fn a_file_is_not_mounted_on_a_folder_nor_the_reverse() {
    let mut host = Host::new();
    let file = host.dir.path().join("file");
    fs::write(&file, "").unwrap();
    host.bind(&file, "/etc", false);
    assert!(refusal(&host).contains("cannot mount on `/etc` in the root: is a directory"), "{}", refusal(&host));
    let mut host = Host::new();
    let folder = host.folder("f");
    host.bind(&folder, "/bin/busybox", false);
    assert!(refusal(&host).contains("not a directory"), "{}", refusal(&host));
}

#[test]
fn a_source_that_is_a_link_or_missing_is_refused() {
    let mut host = Host::new();
    let (link, missing) = (host.dir.path().join("link"), host.dir.path().join("missing"));
    fs::symlink(Path::new("/etc"), &link).unwrap();
    host.bind(&link, "/mnt/x", false);
    assert!(refusal(&host).contains("link` to mount it: it is a symbolic link; give the path it points to"));
    host.binds.clear();
    host.bind(&missing, "/mnt/x", false);
    assert!(refusal(&host).contains("missing` to mount it: No such file"));
}

#[test]
fn a_layer_that_is_missing_is_named_by_the_kernels_word() {
    let host = Host::new();
    fs::rename(&host.base(), &host.state.state().join("elsewhere")).unwrap();
    assert!(refusal(&host).contains("cannot mount the root's 1 layers: No such file"), "{}", refusal(&host));
}

#[test]
fn a_working_folder_that_is_missing_is_named() {
    let mut host = Host::new();
    host.edit = |spec| spec["process"]["cwd"] = "/nowhere".into();
    assert!(refusal(&host).contains("cannot enter `/nowhere` in the root: No such file"));
}

#[test]
fn a_terminal_must_be_asked_for_by_spec_and_caller() {
    let mut host = Host::new();
    host.edit = |spec| spec["process"]["terminal"] = true.into();
    let error = host.sh("true").unwrap_err();
    assert!(matches!(error, SandboxError::Unsupported(_)), "{error}");
}
