//! Packages that real Portage wrote are made canonical and signed, and real GnuPG believes the signatures.
//!
//! Needs `gpg`; `apt-get install gnupg` has it.

#![expect(clippy::unwrap_used, reason = "what fails in a test is shown by its panic")]

use std::io::Cursor;
use std::path::{Path, PathBuf};

use bindery::atom::BuildId;
use bindery::package::{self, Facts, NormaliseOptions, Normalised, SignOptions, SigningKey};
use bindery::{fs, process};

const DATE: u64 = 1_735_689_600;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/package").join(name)
}

/// Makes a package of Portage's canonical in a folder of the test's.
fn normalise(dir: &Path, name: &str) -> (Normalised, PathBuf) {
    let options = NormaliseOptions {
        signed: false,
        input: fixture(name),
        output: dir.join(name),
        cpv: "app-misc/odd-1.0-r2".parse().unwrap(),
        source_date: DATE,
        known: Vec::new(),
        next: BuildId(1),
        audit: None,
    };
    (package::normalise(&options).unwrap(), options.output)
}

fn sign(dir: &Path, input: &Path) -> PathBuf {
    let name = "main".parse().unwrap();
    let keys = dir.join("keys");
    fs::create_dir(&keys, 0o700).unwrap();
    if package::key::list(&keys).unwrap().is_empty() {
        package::key::new(&keys, &name, "Packages <packages@example.org>").unwrap();
    }
    let output = input.with_extension("signed");
    let options =
        SignOptions { key: package::key::secret_file(&keys, &name), input: input.into(), output: output.clone() };
    package::sign(&options, std::time::SystemTime::now()).unwrap();
    output
}

/// Returns the members of a package by name.
fn members(file: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(file).unwrap();
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_string();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
            (name, data)
        })
        .collect()
}

/// Runs gpg with a home of the test's and returns what it says about what happened.
fn gpg(dir: &Path, args: &[&str]) -> Result<String, String> {
    assert!(process::find("gpg").is_some(), "this test needs gpg: apt-get install gnupg");
    let home = dir.join("gnupg");
    fs::create_dir(&home, 0o700).unwrap();
    let mut command = process::command("gpg");
    command.arg("--homedir").arg(&home).args(["--batch", "--no-tty", "--no-autostart", "--status-fd", "1"]).args(args);
    match process::run(command.current_dir(dir)) {
        Ok(output) => Ok(String::from_utf8(output.stdout).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

fn facts(name: &str) -> Facts {
    let dir = tempfile::tempdir().unwrap();
    normalise(dir.path(), name).0.facts
}

#[test]
fn what_real_portage_writes_becomes_canonical_and_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["one.gpkg.tar", "long.gpkg.tar"] {
        let (result, unsigned) = normalise(dir.path(), name);
        let signed = sign(dir.path(), &unsigned);
        let certificate = package::key::public(&dir.path().join("keys"), &"main".parse().unwrap()).unwrap();
        let verified = package::verify(&signed, &[certificate], std::time::SystemTime::now()).unwrap();
        assert_eq!(verified.facts, result.facts);
    }
}

#[test]
fn a_process_that_never_reads_the_key_signs_by_others_and_gets_the_same_bytes() {
    process::set_this_program(Path::new(env!("CARGO_BIN_EXE_bindery")));
    let dir = tempfile::tempdir().unwrap();
    let (_, unsigned) = normalise(dir.path(), "one.gpkg.tar");
    let signed = sign(dir.path(), &unsigned);
    let (keys, name) = (dir.path().join("keys"), "main".parse().unwrap());
    let key = SigningKey::open(&keys, &name).unwrap();
    let loaded = package::key::load(&keys, &name).unwrap();
    assert_eq!(*key.certificate(), loaded.certificate());
    let apart = dir.path().join("apart");
    key.sign(unsigned, apart.clone()).unwrap();
    assert!(fs::read(&apart).unwrap() == fs::read(&signed).unwrap());
    let time = loaded.created() + 5;
    assert_eq!(key.detached(b"a statement", time).unwrap(), loaded.detached(&b"a statement"[..], time).unwrap());
}

#[test]
fn a_key_that_cannot_sign_is_refused_before_anything_is_signed() {
    process::set_this_program(Path::new(env!("CARGO_BIN_EXE_bindery")));
    let dir = tempfile::tempdir().unwrap();
    let name = "main".parse().unwrap();
    let error = || process::chain(&SigningKey::open(dir.path(), &name).unwrap_err());
    assert!(error().starts_with("there is no key `main`"), "{}", error());
    package::key::new(dir.path(), &name, "x").unwrap();
    let file = package::key::secret_file(dir.path(), &name);
    fs::set_mode(&file, 0o640).unwrap();
    assert!(error().contains("chmod 600"), "{}", error());
    fs::set_mode(&file, 0o600).unwrap();
    fs::write(&file, "x").unwrap();
    assert!(error().contains("is not a secret key as bindery makes them"), "{}", error());
}

#[test]
fn two_real_builds_become_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (one, first) = normalise(dir.path(), "one.gpkg.tar");
    let (two, second) = normalise(dir.path(), "two.gpkg.tar");
    assert_eq!(one, two);
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "bytes differ");
    assert!(fs::read(&sign(dir.path(), &first)).unwrap() == fs::read(&sign(dir.path(), &second)).unwrap());
    assert_ne!(fs::read(&fixture("one.gpkg.tar")).unwrap(), fs::read(&fixture("two.gpkg.tar")).unwrap());
}

#[test]
fn the_facts_of_a_real_package() {
    let facts = facts("one.gpkg.tar");
    assert_eq!((facts.slot.as_str(), facts.repo.as_str(), facts.license.as_str()), ("0/3", "bindery-test", "MIT"));
    assert_eq!(facts.rdepend, "app-misc/hello");
    assert_eq!(facts.defined_phases, ["compile", "install", "postinst"]);
    assert_eq!((facts.provides.as_str(), facts.requires.as_str()), ("x86_64: libodd.so.3", "x86_64: libc.so.6"));
    let elf: Vec<_> = facts.elf.iter().map(|elf| (elf.path.as_str(), elf.needed.join(","))).collect();
    assert_eq!(elf[0], ("/usr/bin/odd", "libodd.so.3,libc.so.6".to_string()));
    assert_eq!(facts.elf[1].soname, "libodd.so.3");
    assert_eq!((facts.privileged[0].path.as_str(), facts.privileged[0].mode), ("/usr/bin/odd", 0o2755));
}

#[test]
fn these_inputs_give_these_content_digests_for_ever() {
    // A change here means that every pool builds and publishes everything anew: only with a new version of the listing.
    insta::assert_snapshot!(facts("one.gpkg.tar").content, @"sha256:6c958bcaddb9be72a95ec81243a96bcdc6be49dfe9f07714b03e62bcdb55cc54");
    insta::assert_snapshot!(facts("long.gpkg.tar").content, @"sha256:a4c61ffdb7d6ced470dd9982502ae862ede82a0c321c0fcf25d87827bacacce0");
}

#[test]
fn gnupg_believes_all_three_signatures_and_no_changed_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (_, unsigned) = normalise(dir.path(), "one.gpkg.tar");
    let signed = sign(dir.path(), &unsigned);
    for (name, data) in members(&signed) {
        fs::write(&dir.path().join(name), data).unwrap();
    }
    gpg(dir.path(), &["--import", "keys/main.pub.asc"]).unwrap();
    for name in ["metadata.tar.zst", "image.tar.zst"] {
        let said = gpg(dir.path(), &["--verify", &format!("{name}.sig"), name]).unwrap();
        assert!(said.contains("[GNUPG:] GOODSIG"), "{said}");
        let mut data = fs::read(&dir.path().join(name)).unwrap();
        data[9] ^= 1;
        fs::write(&dir.path().join("changed"), data).unwrap();
        let said = gpg(dir.path(), &["--verify", &format!("{name}.sig"), "changed"]).unwrap_err();
        assert!(said.contains("BAD signature"), "{said}");
    }
    let said = gpg(dir.path(), &["--output", "text", "--verify", "Manifest"]).unwrap();
    assert!(said.contains("[GNUPG:] GOODSIG"), "{said}");
    let text = fs::read_to_string(&dir.path().join("text")).unwrap();
    assert!(text.starts_with("DATA gpkg-1 0 SHA512 cf83e135"), "{text}");
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn gnupg_imports_the_secret_key_too() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    fs::create_dir(&keys, 0o700).unwrap();
    let made = package::key::new(&keys, &"main".parse().unwrap(), "Packages <packages@example.org>").unwrap();
    let said =
        gpg(dir.path(), &["--with-colons", "--import-options", "show-only", "--import", "keys/main.asc"]).unwrap();
    assert!(said.contains(&made.fingerprint()), "{said}");
    assert!(said.contains("sec:") && said.contains("Packages <packages@example.org>"), "{said}");
}
