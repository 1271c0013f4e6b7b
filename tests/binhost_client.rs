//! The folder that subscribes a client, with the machine's own shell and GnuPG.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::UNIX_EPOCH;

use bindery::client::{Subscription, config, write};
use bindery::fs;
use bindery::package::key::SecretKey;
use bindery::process;

/// A root folder of a client, and the folder that was copied to it.
struct Client {
    dir: tempfile::TempDir,
}

impl Client {
    fn new() -> Self {
        for (program, package) in [("gpg", "gnupg"), ("unshare", "util-linux"), ("awk", "mawk")] {
            let there = process::find(program).is_some();
            assert!(there, "this test needs `{program}`; get it with `apt-get install {package}`");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(&dir.path().join("root/etc/portage")).unwrap();
        Self { dir }
    }

    fn root(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn folder(&self, name: &str, key: &SecretKey) -> PathBuf {
        let folder = self.dir.path().join(name);
        let subscription = Subscription {
            profile: &"amd64".parse().unwrap(),
            name: &name.parse().unwrap(),
            uri: "http://127.0.0.1:8080/amd64",
            certificate: &key.certificate(),
            arch: "amd64",
            chost: "x86_64-pc-linux-gnu",
            accept_keywords: "amd64",
            priority: 10,
        };
        write(&folder, &config(&subscription).unwrap()).unwrap();
        folder
    }

    /// Runs the script as root of a user namespace, which is root enough.
    fn setup(&self, folder: &Path) -> Output {
        let mut command = process::command("unshare");
        command.args(["--user", "--map-root-user"]).arg(folder.join("setup")).arg(self.root(""));
        command.output().unwrap()
    }

    fn setup_well(&self, folder: &Path) {
        let output = self.setup(folder);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }

    fn refusal(&self, folder: &Path) -> String {
        let output = self.setup(folder);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Verifies a signature with the options that Portage verifies packages with, and returns gpg's status lines.
    fn verify(&self, key: &SecretKey) -> String {
        let (data, signature) = (self.dir.path().join("data"), self.dir.path().join("data.sig"));
        fs::write(&data, "a package").unwrap();
        fs::write(&signature, key.detached(&b"a package"[..], 1_700_000_000).unwrap()).unwrap();
        let mut command = process::command("gpg");
        command.args(["--verify", "--batch", "--no-tty", "--no-auto-check-trustdb", "--status-fd", "2", "--homedir"]);
        let output = command.arg(self.root("etc/portage/gnupg")).args([signature, data]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn believes(&self, key: &SecretKey) -> bool {
        let status = self.verify(key);
        status.contains("[GNUPG:] GOODSIG") && status.contains("[GNUPG:] TRUST_ULTIMATE")
    }
}

fn key() -> SecretKey {
    SecretKey::generate("Test", UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000), None).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_client_believes_the_key_after_setup_however_often_it_runs() {
    let (client, key) = (Client::new(), key());
    let folder = client.folder("first", &key);
    for _ in 0..2 {
        client.setup_well(&folder);
        assert!(client.believes(&key), "{}", client.verify(&key));
        assert!(!client.believes(&self::key()));
    }
    // Portage runs gpg as nobody.
    assert_eq!(mode(&client.root("etc/portage/gnupg")), 0o755);
    assert_eq!(mode(&client.root("etc/portage/gnupg/trustdb.gpg")), 0o644);
    assert_eq!(mode(&client.root("etc/portage/gnupg/pubring.kbx")), 0o644);
    let conf = fs::read_to_string(&client.root("etc/portage/binrepos.conf/first.conf")).unwrap();
    assert_eq!(conf, fs::read_to_string(&folder.join("binrepos.conf")).unwrap());
    assert_eq!(fs::read_dir(&client.root("etc/portage/binrepos.conf")).unwrap().len(), 1);
}

#[test]
fn a_second_binary_host_does_not_take_the_first_ones_place() {
    let (client, first, second) = (Client::new(), key(), key());
    client.setup_well(&client.folder("first", &first));
    client.setup_well(&client.folder("second", &second));
    assert!(client.believes(&first) && client.believes(&second));
    assert_eq!(fs::read_dir(&client.root("etc/portage/binrepos.conf")).unwrap().len(), 2);
}

#[test]
fn another_key_than_the_one_named_is_refused_before_anything_is_touched() {
    let (client, key) = (Client::new(), key());
    let folder = client.folder("first", &key);
    let other = self::key().certificate();
    for text in [other.armored(), other.armored() + &key.certificate().armored(), "rubbish".into(), String::new()] {
        fs::write(&folder.join("key.asc"), text).unwrap();
        let error = client.refusal(&folder);
        assert!(
            error.contains(&format!("not `{}`; get this folder again", key.certificate().fingerprint())),
            "{error}"
        );
    }
    assert!(fs::read_dir(&client.root("etc/portage")).unwrap().is_empty());
}

#[test]
fn a_configuration_that_is_one_file_is_left_alone() {
    let client = Client::new();
    fs::write(&client.root("etc/portage/binrepos.conf"), "mine").unwrap();
    let error = client.refusal(&client.folder("first", &key()));
    assert!(error.contains("is a file; make it a folder"), "{error}");
    assert_eq!(fs::read_dir(&client.root("etc/portage")).unwrap().len(), 1);
}

#[test]
fn a_folder_without_portage_is_refused() {
    let client = Client::new();
    fs::remove_dir_all(&client.root("etc")).unwrap();
    let error = client.refusal(&client.folder("first", &key()));
    assert!(error.contains("is it a system with Portage?"), "{error}");
}

#[test]
fn portages_own_trust_helper_goes_first_where_there_is_one() {
    let (client, key) = (Client::new(), key());
    fs::create_dir_all(&client.root("usr/bin")).unwrap();
    let helper = client.root("usr/bin/getuto");
    fs::write(
        &helper,
        "#!/bin/sh\nmkdir \"$ROOT/etc/portage/gnupg\" && echo made > \"$ROOT/etc/portage/gnupg/mykeyid\"\n",
    )
    .unwrap();
    fs::set_mode(&helper, 0o755).unwrap();
    let folder = client.folder("first", &key);
    // The second time it would fail, and is not run.
    client.setup_well(&folder);
    client.setup_well(&folder);
    assert_eq!(fs::read_to_string(&client.root("etc/portage/gnupg/mykeyid")).unwrap(), "made\n");
    assert!(client.believes(&key));
}
