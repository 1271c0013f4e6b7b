use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::atom::Name;
use crate::state::State;

struct Fixture {
    dir: tempfile::TempDir,
    profile: ProfileDir,
    pool: Pool,
    lock: Lock,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let profile = State::below(dir.path()).profile(&"amd64".parse::<Name>().unwrap());
    let lock = profile.lock().unwrap();
    Fixture { pool: Pool::open(&profile), profile, lock, dir }
}

impl Fixture {
    fn add(&self, cpv: &str, build_id: u32, bytes: &str) -> Result<Entry, PoolError> {
        let signed = self.dir.path().join("signed");
        fs::write(&signed, bytes).unwrap();
        self.pool.add(&self.lock, &signed, &facts(cpv, build_id), &Origin::default())
    }
}

/// Returns facts of a package that says as little as it can.
pub(crate) fn facts(cpv: &str, build_id: u32) -> Facts {
    Facts {
        cpv: cpv.parse().unwrap(),
        build_id: BuildId(build_id),
        build_time: 1000 + u64::from(build_id),
        content: Digest::of(cpv),
        slot: "0".into(),
        eapi: "8".into(),
        repo: "demo".into(),
        use_: vec!["amd64".into(), "nls".into()],
        iuse: Vec::new(),
        keywords: vec!["amd64".into()],
        license: "GPL-2".into(),
        depend: String::new(),
        bdepend: String::new(),
        rdepend: String::new(),
        pdepend: String::new(),
        idepend: String::new(),
        properties: String::new(),
        restrict: String::new(),
        provides: String::new(),
        requires: String::new(),
        defined_phases: vec!["compile".into(), "install".into()],
        chost: "x86_64-pc-linux-gnu".into(),
        description: "An example".into(),
        size_installed: 1,
        entries: 1,
        elf: Vec::new(),
        privileged: Vec::new(),
        offers: None,
    }
}

fn cpv() -> Cpv {
    "app-misc/hello-2.10".parse().unwrap()
}

#[test]
fn what_is_added_is_found_again_and_cannot_be_written() {
    let f = fixture();
    assert!(f.pool.entries().unwrap().is_empty());
    let entry = f.add("app-misc/hello-2.10", 1, "bytes").unwrap();
    assert_eq!(entry.file, f.profile.pool().join("app-misc/hello/hello-2.10-1.gpkg.tar"));
    let meta = fs::metadata(&entry.file).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o444);
    assert_eq!(meta.modified().unwrap(), UNIX_EPOCH + Duration::from_secs(1001));
    assert_eq!(f.pool.entries().unwrap(), std::slice::from_ref(&entry));
    assert_eq!(f.pool.find(&cpv(), BuildId(1)).unwrap(), Some(entry.clone()));
    assert_eq!(f.pool.find_request(&cpv(), &Digest::of("request")).unwrap(), None);
    assert_eq!(f.pool.known(&cpv()).unwrap(), [(entry.facts.content.clone(), BuildId(1))]);
    assert_eq!(f.pool.find(&cpv(), BuildId(2)).unwrap(), None);
    f.pool.verify(&entry).unwrap();
}

#[test]
fn builds_are_numbered_and_a_number_is_given_once() {
    let f = fixture();
    assert_eq!(f.pool.next(&cpv()).unwrap(), Next { build_id: BuildId(1), newest: None });
    f.add("app-misc/hello-2.10", 9, "a").unwrap();
    f.add("app-misc/hello-2.10-r1", 11, "b").unwrap();
    let last = f.add("app-misc/hello-2.10", 10, "c").unwrap();
    let ids: Vec<_> = f.pool.builds(&cpv()).unwrap().iter().map(|e| e.path.build_id.0).collect();
    assert_eq!(ids, [9, 10]);
    assert_eq!(f.pool.next(&cpv()).unwrap(), Next { build_id: BuildId(11), newest: Some(1010) });
    let error = f.add("app-misc/hello-2.10", 10, "d").unwrap_err().to_string();
    assert_eq!(
        error,
        "`app-misc/hello/hello-2.10-10.gpkg.tar` is in the pool already; the next build needs the next number"
    );

    fs::remove_file(&last.file).unwrap();
    assert_eq!(f.pool.builds(&cpv()).unwrap().len(), 1);
    assert_eq!(f.pool.next(&cpv()).unwrap(), Next { build_id: BuildId(11), newest: Some(1009) });
}

#[test]
fn a_build_that_clients_would_think_older_is_refused() {
    let f = fixture();
    f.add("app-misc/hello-2.10", 9, "a").unwrap();
    let error = f.add("app-misc/hello-2.10", 8, "b").unwrap_err().to_string();
    assert_eq!(
        error,
        "`app-misc/hello/hello-2.10-8.gpkg.tar` must have a later BUILD_TIME than 1009, which an earlier build has; \
         raise the source date"
    );
    f.add("app-misc/hello-2.10-r1", 1, "c").unwrap();
}

#[test]
fn what_a_killed_process_left_does_not_count_and_is_cleaned() {
    let f = fixture();
    f.add("app-misc/hello-2.10", 1, "a").unwrap();
    let folder = f.profile.pool().join("app-misc/hello");
    fs::write(&folder.join(".new-x"), "half").unwrap();
    fs::write(&folder.join("hello-2.10-2.gpkg.tar"), "complete, without a record").unwrap();
    assert_eq!(f.pool.entries().unwrap().len(), 1);
    assert_eq!(f.pool.next(&cpv()).unwrap().build_id, BuildId(2));
    let removed = f.pool.clean(&f.lock).unwrap();
    assert_eq!(removed, [folder.join(".new-x"), folder.join("hello-2.10-2.gpkg.tar")]);
    assert_eq!(fs::read_dir(&folder).unwrap().len(), 2);
}

#[test]
fn a_package_left_without_its_record_is_replaced() {
    let f = fixture();
    let file = f.profile.pool().join("app-misc/hello/hello-2.10-1.gpkg.tar");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "left behind").unwrap();
    let entry = f.add("app-misc/hello-2.10", 1, "whole").unwrap();
    assert_eq!(fs::read(&entry.file).unwrap(), b"whole");
    f.pool.verify(&entry).unwrap();
}

#[test]
fn a_flipped_byte_and_a_changed_length_are_named() {
    let f = fixture();
    let entry = f.add("app-misc/hello-2.10", 1, "bytes").unwrap();
    fs::set_mode(&entry.file, 0o644).unwrap();
    fs::write(&entry.file, "bytEs").unwrap();
    f.pool.entries().unwrap();
    let error = f.pool.verify(&entry).unwrap_err().to_string();
    let expected = format!(
        "`{}` is not the file that was put into the pool; remove it, and the package is built again",
        entry.file.display()
    );
    assert_eq!(error, expected);
    fs::write(&entry.file, "byt").unwrap();
    assert_eq!(f.pool.entries().unwrap_err().to_string(), expected);
}

#[test]
fn what_was_altered_is_found_every_time_and_can_be_set_aside() {
    let f = fixture();
    let (one, two) = (f.add("app-misc/hello-2.10", 1, "bytes").unwrap(), f.add("app-misc/world-1", 1, "more").unwrap());
    let good = Checked { good: vec![one.clone(), two.clone()], altered: Vec::new() };
    let seen = f.profile.path().join("checked.json");
    assert_eq!(f.pool.check().unwrap(), good);
    // As long ago as no file system's clock is coarse: nothing of it is read any more.
    let look = |entry: &Entry| {
        let found = fs::metadata(&entry.file).unwrap();
        let time = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let times = [time(found.mtime(), found.mtime_nsec()), time(found.ctime(), found.ctime_nsec())];
        serde_json::json!([found.ino(), found.len(), times[0], times[1]])
    };
    let remember = |entries: &[&Entry]| {
        let packages: serde_json::Map<_, _> =
            entries.iter().map(|entry| (entry.path.to_string(), look(entry))).collect();
        fs::write(&seen, serde_json::json!({"version": 1, "packages": packages}).to_string()).unwrap();
    };
    remember(&[&one, &two]);
    assert_eq!(f.pool.check().unwrap(), good);
    for (bytes, damaged) in [("bytEs", true), ("byt", true), ("bytes", false)] {
        fs::remove_file(&one.file).unwrap();
        fs::write(&one.file, bytes).unwrap();
        for _ in 0..2 {
            let checked = f.pool.check().unwrap();
            assert_eq!(checked.altered.contains(&one), damaged, "{bytes}");
            assert_eq!(checked.good.contains(&one), !damaged, "{bytes}");
            assert!(checked.good.contains(&two));
        }
    }
    for damaged in ["", "{\"version\": 9, \"packages\": {}}", "[1]"] {
        fs::write(&seen, damaged).unwrap();
        assert_eq!(f.pool.check().unwrap(), good);
    }
    let aside = f.pool.set_aside(&f.lock, &one).unwrap();
    assert!(aside.is_file() && f.pool.find(&cpv(), BuildId(1)).unwrap().is_none());
    assert_eq!(f.pool.check().unwrap().good, [two]);
    assert_eq!(f.pool.next(&cpv()).unwrap().build_id, BuildId(2));
    assert!(f.pool.clean(&f.lock).unwrap().is_empty());
}

#[test]
fn a_damaged_record_is_named_with_the_way_out() {
    let f = fixture();
    let entry = f.add("app-misc/hello-2.10", 1, "bytes").unwrap();
    let record = entry.file.parent().unwrap().join("hello-2.10-1.json");
    let text = fs::read_to_string(&record).unwrap();
    for (bad, why) in [
        (String::new(), "EOF while parsing"),
        (text[..text.len() / 2].to_string(), "EOF while parsing"),
        (text.replace("hello-2.10", "hello-2.11"), "it is about `app-misc/hello/hello-2.11-1.gpkg.tar`"),
        (text.replace("\"app-misc/hello-2.10\"", "\"../../x-1\""), "is not category/package-version"),
        (text.replace("\"origin\"", "\"surprise\": 1, \"origin\""), "unknown field `surprise`"),
        (text.replace("\"version\": 4", "\"version\": 5"), "says format 5, this bindery reads 1 to 4"),
    ] {
        fs::remove_file(&record).unwrap();
        fs::write(&record, bad).unwrap();
        let error = f.pool.entries().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(&record.display().to_string()), "{error}");
    }
}

#[test]
fn a_record_of_the_first_version_is_read_and_can_be_completed() {
    let f = fixture();
    let entry = f.add("app-misc/hello-2.10", 1, "bytes").unwrap();
    let record = entry.file.parent().unwrap().join("hello-2.10-1.json");
    let text = fs::read_to_string(&record).unwrap();
    assert!(!text.contains("offers"), "{text}");
    fs::remove_file(&record).unwrap();
    fs::write(&record, text.replace("\"version\": 4", "\"version\": 1")).unwrap();
    let [old] = &f.pool.entries().unwrap()[..] else { panic!("one package") };
    assert_eq!(old.facts, entry.facts);
    let offers = crate::package::offers::Collector::new(&BTreeMap::new()).unwrap().finish();
    let facts = Facts { offers: Some(offers), ..old.facts.clone() };
    let noted = f.pool.note(&f.lock, &Entry { facts, ..old.clone() }, &old.origin).unwrap();
    assert_eq!(f.pool.entries().unwrap(), [noted]);
    assert!(fs::read_to_string(&record).unwrap().contains("\"version\": 4"));
}

#[test]
fn an_index_says_what_the_facts_say() {
    let f = fixture();
    let entry = f.add("app-misc/hello-2.10", 1, "bytes").unwrap();
    let index = crate::binhost::index::Index {
        timestamp: 1,
        header: BTreeMap::new(),
        packages: vec![crate::binhost::index::Package::of(&entry)],
    };
    let text = crate::binhost::index::render(&index).unwrap();
    let (_, package) = text.split_once("\n\n").unwrap();
    insta::assert_snapshot!(package, @r"
    BUILD_ID: 1
    BUILD_TIME: 1001
    CHOST: x86_64-pc-linux-gnu
    CPV: app-misc/hello-2.10
    DEFINED_PHASES: compile install
    DESC: An example
    EAPI: 8
    KEYWORDS: amd64
    LICENSE: GPL-2
    MD5: 4b3a6218bb3e3a7303e8a171a60fcf92
    PATH: app-misc/hello/hello-2.10-1.gpkg.tar
    SHA1: daf529a73101c2be626b99fc6938163e7a27620b
    SIZE: 5
    USE: amd64 nls
    MTIME: 1001
    REPO: demo
    ");
}
