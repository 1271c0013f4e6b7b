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

fn facts(cpv: &str, build_id: u32) -> Facts {
    Facts { build_time: 1000 + u64::from(build_id), ..Facts::example(cpv, BuildId(build_id)) }
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
    assert_eq!(f.pool.find_content(&cpv(), &entry.facts.content).unwrap(), Some(entry.clone()));
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
        (text.replace("\"version\": 1", "\"version\": 2"), "says format 2, this bindery reads 1"),
    ] {
        fs::remove_file(&record).unwrap();
        fs::write(&record, bad).unwrap();
        let error = f.pool.entries().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(&record.display().to_string()), "{error}");
    }
}
