use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::atom::BuildId;
use crate::binhost::facts::Facts;
use crate::binhost::pool::{Entry, Origin, Pool};
use crate::binhost::soname::Missing;
use crate::binhost::statement::Tree;
use crate::digest::Digest;
use crate::state::{Lock, State};

const DAY: u64 = 24 * 60 * 60;

struct Fixture {
    dir: tempfile::TempDir,
    profile: ProfileDir,
    pool: Pool,
    lock: Lock,
    meta: Meta,
    key: &'static str,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let profile = State::below(dir.path()).profile(&"amd64".parse().unwrap());
    let meta = Meta {
        profile: "amd64".parse().unwrap(),
        arch: "amd64".into(),
        chost: "x86_64-pc-linux-gnu".into(),
        portage_profile: Some("default".into()),
        settings: BTreeMap::new(),
        trees: vec![Tree { name: "demo".into(), revision: "1".into() }],
        image: None,
        validity: Duration::from_secs(30 * DAY),
    };
    Fixture { lock: profile.lock().unwrap(), pool: Pool::open(&profile), profile, meta, dir, key: "the key\n" }
}

/// Stands in for OpenPGP: what matters here is over what and when signatures are made.
fn sign(bytes: &[u8]) -> Result<String, SignatureError> {
    Ok(format!("signed {}\n", Digest::of(bytes)))
}

fn believe(bytes: &[u8], signature: &str) -> Result<(), SignatureError> {
    if sign(bytes)? == signature { Ok(()) } else { Err("bad signature".into()) }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

impl Fixture {
    fn add(&self, cpv: &str, build_id: u32) -> Entry {
        let signed = self.dir.path().join("signed");
        fs::write(&signed, format!("{cpv} {build_id}")).unwrap();
        let facts = Facts::example(cpv, BuildId(build_id));
        self.pool.add(&self.lock, &signed, &facts, &Origin::default()).unwrap()
    }

    fn publish(&self, now: u64) -> Result<Published, GenerationError> {
        let signer = Signer { public_key: self.key, sign: &sign, believe: &believe };
        publish(&self.profile, &self.lock, &self.pool.entries().unwrap(), &self.meta, &signer, at(now))
    }

    fn file(&self, path: &str) -> PathBuf {
        self.profile.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(&self.file(path)).unwrap()
    }
}

fn overwrite(file: &Path, text: &str) {
    fs::remove_file(file).unwrap();
    fs::write(file, text).unwrap();
}

#[test]
fn a_generation_holds_index_statement_signature_key_and_packages() {
    let f = fixture();
    let entry = f.add("app-misc/hello-2.10", 1);
    let published = f.publish(5000).unwrap();
    assert!(published.new);
    assert_eq!(published.generation.path, f.file("generations/1"));
    assert_eq!(fs::read_link(&f.profile.current()).unwrap(), Path::new("generations/1"));
    let names: Vec<_> = fs::read_dir(&f.file("current/")).unwrap();
    let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["Packages", "Packages.gz", "app-misc", "key.asc", "statement.json", "statement.json.asc"]);
    for name in ["Packages", "Packages.gz", "statement.json", "statement.json.asc", "key.asc"] {
        let meta = fs::metadata(&f.file("current").join(name)).unwrap();
        assert_eq!((meta.modified().unwrap(), meta.permissions().mode() & 0o7777), (at(5000), 0o444), "{name}");
    }
    let linked = fs::metadata(&f.file("current/app-misc/hello/hello-2.10-1.gpkg.tar")).unwrap();
    assert_eq!(linked.ino(), fs::metadata(&entry.file).unwrap().ino());
    let index = f.text("current/Packages");
    assert!(index.contains("REPO_REVISIONS: {\"demo\":\"1\"}\nTIMESTAMP: 5000\n"), "{index}");
    let generation = Generation::current(&f.profile).unwrap().unwrap();
    assert_eq!(generation, published.generation);
    assert_eq!(generation.statement.valid_until, 5000 + 30 * DAY);
    verify(&generation, &believe).unwrap();
}

#[test]
fn an_empty_set_can_be_published() {
    let f = fixture();
    assert_eq!(Generation::current(&f.profile).unwrap(), None);
    assert_eq!(f.publish(5000).unwrap().generation.statement.packages, []);
}

#[test]
fn nothing_changed_means_no_new_generation() {
    let f = fixture();
    f.add("app-misc/hello-2.10", 1);
    let first = f.publish(5000).unwrap();
    let again = f.publish(6000).unwrap();
    assert_eq!((again.new, again.generation), (false, first.generation));
    assert_eq!(numbers(&f.profile).unwrap(), [1]);
}

#[test]
fn whatever_clients_see_makes_a_new_generation() {
    let mut f = fixture();
    f.add("app-misc/hello-2.10", 1);
    f.publish(5000).unwrap();
    f.meta.trees[0].revision = "2".into();
    assert_eq!(f.publish(5000).unwrap().generation.number, 2);
    f.meta.settings.insert("ACCEPT_KEYWORDS".into(), "amd64".into());
    assert_eq!(f.publish(5000).unwrap().generation.number, 3);
    f.key = "another key\n";
    assert_eq!(f.publish(5000).unwrap().generation.number, 4);
    f.meta.image = Some(Digest::of("image"));
    assert_eq!(f.publish(5000).unwrap().generation.number, 5);
    f.add("app-misc/hello-2.10", 2);
    assert_eq!(f.publish(5000).unwrap().generation.number, 6);
    assert!(!f.publish(5000).unwrap().new);
}

#[test]
fn a_statement_is_renewed_before_it_runs_out() {
    let f = fixture();
    assert!(f.publish(5000).unwrap().new);
    assert!(!f.publish(5000 + 15 * DAY).unwrap().new);
    assert!(f.publish(5001 + 15 * DAY).unwrap().new);
}

#[test]
fn timestamps_grow_by_what_clients_notice_even_when_the_clock_jumps_back() {
    let f = fixture();
    for (id, now, expected) in [(1, 5000, 5000), (2, 5001, 5006), (3, 100, 5012), (4, 5019, 5019), (5, 5025, 5025)] {
        f.add("app-misc/hello-2.10", id);
        let created = f.publish(now).unwrap().generation.statement.created;
        assert_eq!(created, expected);
        assert_eq!(fs::metadata(&f.file("current/Packages.gz")).unwrap().modified().unwrap(), at(expected));
    }
}

#[test]
fn what_a_killed_publisher_left_is_cleaned_or_passed_over() {
    let f = fixture();
    f.add("app-misc/hello-2.10", 1);
    f.publish(5000).unwrap();
    // Killed while assembling; and killed between the two renames.
    fs::create_dir_all(&f.file("generations/.new-2/app-misc")).unwrap();
    fs::write(&f.file("generations/.new-2/Packages"), "half").unwrap();
    f.add("app-misc/hello-2.10", 2);
    f.publish(6000).unwrap();
    fs::replace_symlink(Path::new("generations/1"), &f.profile.current()).unwrap();
    let third = f.publish(6000).unwrap();
    assert_eq!((third.generation.number, third.generation.statement.created), (3, 6006));
    assert_eq!(numbers(&f.profile).unwrap(), [1, 2, 3]);
    assert_eq!(fs::read_dir(&f.file("generations")).unwrap().len(), 3);
}

#[test]
fn files_of_earlier_generations_stay_as_long_as_clients_come_for_them() {
    let f = fixture();
    let path = "app-misc/hello/hello-2.10-1.gpkg.tar";
    let entry = f.add("app-misc/hello-2.10", 1);
    f.publish(5000).unwrap();
    fs::remove_file(&entry.file).unwrap();
    for (id, now, there) in [(2, 6000, true), (3, 6000 + DAY, true), (4, 7000 + 2 * DAY, false)] {
        f.add("app-misc/hello-2.10", id);
        let generation = f.publish(now).unwrap().generation;
        assert_eq!(generation.path.join(path).exists(), there, "{id}");
        assert!(!f.text("current/Packages").contains(path));
        verify(&generation, &believe).unwrap();
    }
}

#[test]
fn a_damaged_package_is_named_and_the_last_generation_stays() {
    let f = fixture();
    f.add("app-misc/hello-2.10", 1);
    f.publish(5000).unwrap();
    let bad = f.add("app-misc/hello-2.10", 2);
    overwrite(&bad.file, "app-misc/hello-2.10 X");
    let error = f.publish(6000).unwrap_err().to_string();
    let named = f.file("generations/.new-2/app-misc/hello/hello-2.10-2.gpkg.tar");
    assert_eq!(error, format!("`{}` is not the file that was published", named.display()));
    assert_eq!(current_number(&f.profile).unwrap(), Some(1));
}

#[test]
fn a_signature_that_cannot_be_made_or_believed_is_not_published() {
    let f = fixture();
    let publish = |sign: &Sign<'_>| {
        let signer = Signer { public_key: f.key, sign, believe: &believe };
        publish(&f.profile, &f.lock, &[], &f.meta, &signer, at(5000)).unwrap_err().to_string()
    };
    assert_eq!(publish(&|_| Err("no key".into())), "cannot sign the statement of generation 1");
    assert!(publish(&|_| Ok("rubbish".into())).ends_with("statement.json.asc` is not good"));
    assert_eq!(current_number(&f.profile).unwrap(), None);
}

#[test]
fn a_build_is_published_once() {
    let f = fixture();
    let entry = f.add("app-misc/hello-2.10", 1);
    let signer = Signer { public_key: f.key, sign: &sign, believe: &believe };
    let error =
        publish(&f.profile, &f.lock, &[entry.clone(), entry], &f.meta, &signer, at(5000)).unwrap_err().to_string();
    assert_eq!(error, "`app-misc/hello/hello-2.10-1.gpkg.tar` is given twice");
}

#[test]
fn libraries_that_no_package_gives_are_reported() {
    let f = fixture();
    let mut entry = f.add("app-misc/hello-2.10", 1);
    entry.facts.requires = "x86_64: libfoo.so.1".into();
    let signer = Signer { public_key: f.key, sign: &sign, believe: &believe };
    let cpv = entry.facts.cpv.clone();
    let published = publish(&f.profile, &f.lock, &[entry], &f.meta, &signer, at(5000)).unwrap();
    assert_eq!(published.missing, [Missing { soname: "x86_64: libfoo.so.1".into(), needed_by: vec![cpv] }]);
}

#[test]
fn every_change_to_a_published_file_is_found() {
    let f = fixture();
    f.add("app-misc/hello-2.10", 1);
    for (number, name, error) in [
        (1, "Packages", "is not the file that was published"),
        (2, "Packages.gz", "is not the file that was published"),
        (3, "key.asc", "is not the file that was published"),
        (4, "statement.json.asc", "is not good"),
        (5, "app-misc/hello/hello-2.10-1.gpkg.tar", "is not the file that was published"),
    ] {
        // Renewed each time, so that there is something new to damage.
        let generation = f.publish(5000 + number * 20 * DAY).unwrap().generation;
        assert_eq!(generation.number, number);
        let file = generation.path.join(name);
        let mut bytes = fs::read(&file).unwrap();
        bytes[3] ^= 1;
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
        let message = verify(&generation, &believe).unwrap_err().to_string();
        assert_eq!(message, format!("{} {error}", file_in(&message, &file)));
    }
    // A damaged statement is found when it is read, one that only says something else by its signature.
    let generation = f.publish(5000 + 6 * 20 * DAY).unwrap().generation;
    let file = generation.path.join("statement.json");
    let text = fs::read_to_string(&file).unwrap();
    overwrite(&file, &text.replace("\"amd64\"", "\"other\""));
    let error = verify(&Generation::current(&f.profile).unwrap().unwrap(), &believe).unwrap_err().to_string();
    assert!(error.ends_with("statement.json.asc` is not good"), "{error}");
    overwrite(&file, &text[..100]);
    let error = Generation::current(&f.profile).unwrap_err().to_string();
    assert!(error.contains("statement.json` is damaged; remove its folder"), "{error}");
}

/// Returns how a message begins that is about a file.
fn file_in(message: &str, file: &Path) -> String {
    let signature = if message.starts_with("the signature") { "the signature " } else { "" };
    format!("{signature}`{}`", file.display())
}

#[test]
fn a_link_that_is_not_ours_is_named() {
    let f = fixture();
    for target in ["generations/../../x", "/etc", "generations/01", "generations/0", "generations/", "2"] {
        fs::create_dir_all(f.profile.path()).unwrap();
        fs::replace_symlink(Path::new(target), &f.profile.current()).unwrap();
        let error = f.publish(5000).unwrap_err().to_string();
        assert!(error.contains(&format!("points to `{target}`, which is no generation")), "{error}");
    }
}
