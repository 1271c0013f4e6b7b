use std::path::Path;

use super::*;
use crate::binhost::path::PackagePath;
use crate::binhost::pool::{Origin, Shared, tests::facts};
use crate::binhost::statement::{self, Package, Statement};
use crate::config::Search;
use crate::digest::Digest;
use crate::plan::Request;

pub(crate) const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;

/// A state folder made by hand, and a project with the profiles `one`, `two` (which inherits `one`) and `idle`.
pub(crate) struct Made {
    dir: tempfile::TempDir,
    pub(crate) state: State,
}

/// A build in a pool.
#[derive(Clone)]
pub(crate) struct Build {
    pub(crate) cpv: &'static str,
    pub(crate) number: u32,
    pub(crate) bytes: usize,
    pub(crate) content: &'static str,
    /// What shows that it holds code; nothing where it holds none, and `unlooked` where nobody looked.
    pub(crate) code: Option<&'static str>,
    pub(crate) unlooked: bool,
    pub(crate) cflags: &'static str,
    pub(crate) use_: &'static str,
    pub(crate) at: u64,
    pub(crate) milliseconds: Option<u64>,
    pub(crate) run: Option<&'static str>,
    pub(crate) from: Option<&'static str>,
}

pub(crate) fn build(cpv: &'static str, cflags: &'static str) -> Build {
    Build {
        cpv,
        number: 1,
        bytes: 100,
        content: cpv,
        code: None,
        unlooked: false,
        cflags,
        use_: "",
        at: NOW - DAY,
        milliseconds: Some(1000),
        run: None,
        from: None,
    }
}

pub(crate) fn compiled(cpv: &'static str, cflags: &'static str) -> Build {
    Build { code: Some("/usr/bin/x"), content: cflags, ..build(cpv, cflags) }
}

impl Made {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(&dir.path().join("state"));
        state.prepare().unwrap();
        let made = Self { dir, state };
        made.write(
            "bindery.toml",
            "version = 1\n[defaults]\nimage = \"img\"\ntrees = [\"t\"]\nkey = \"k\"\n[trees.t]\npath = \"t\"\n",
        );
        made.write("images/img.toml", "");
        let own = "version = 1\nchost = \"x86_64-pc-linux-gnu\"\nportage-profile = \"d\"\n";
        for (name, text) in [("one", own), ("idle", own), ("two", "version = 1\ninherits = \"one\"\n")] {
            made.write(&format!("profiles/{name}.toml"), text);
        }
        made
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    /// Puts a build into a pool; returns its file.
    pub(crate) fn add(&self, profile: &str, build: &Build) -> Entry {
        let dir = self.state.profile(&name(profile));
        let (lock, signed) = (dir.lock().unwrap(), self.dir.path().join("signed"));
        fs::write(&signed, vec![b'x'; build.bytes]).unwrap();
        let mut facts = facts(build.cpv, build.number);
        facts.content = Digest::of(build.content);
        let mut offers = serde_json::json!({"version": 1, "proof": u32::from(!build.unlooked)});
        for part in ["link", "archives", "tools"] {
            offers[part] = serde_json::to_value(Digest::of(part)).unwrap();
        }
        if let Some(path) = build.code {
            offers["code"] = serde_json::json!({"path": path, "why": "compiled"});
        }
        facts.offers = Some(serde_json::from_value(offers).unwrap());
        let mut request = Request::default();
        request.set("env CFLAGS", build.cflags);
        request.set("use", build.use_);
        let shared = build.from.map(|from| Shared { profile: name(from), build_id: facts.build_id });
        let origin = Origin {
            inputs: request.to_parts(),
            run: build.run.map(str::to_string),
            built: build.at,
            milliseconds: build.milliseconds,
            cpu_milliseconds: build.milliseconds.map(|milliseconds| 2 * milliseconds),
            shared,
            ..Origin::default()
        };
        Pool::open(&dir).add(&lock, &signed, &facts, &origin).unwrap()
    }

    /// Writes the record of a run.
    pub(crate) fn run(&self, id: &str, profile: &str, started: u64, events: &[serde_json::Value]) {
        let dir = self.state.runs().join(id);
        fs::create_dir_all(&dir).unwrap();
        let status = serde_json::json!({
            "version": 1, "id": id, "profile": profile, "atoms": [], "outcome": "done", "started": started,
            "ended": started + 10, "process": 1, "built": [], "failed": [], "skipped": [], "generation": null, "error": null,
        });
        fs::write(&dir.join("status.json"), status.to_string()).unwrap();
        let lines: Vec<String> = events.iter().map(|event| format!("{event}\n")).collect();
        fs::write(&dir.join("events.jsonl"), lines.concat()).unwrap();
    }

    /// Publishes builds of a pool.
    fn publish(&self, profile: &str, entries: &[&Entry]) {
        let dir = self.state.profile(&name(profile));
        let generation = dir.generations().join("1");
        fs::create_dir_all(&generation).unwrap();
        let packages = entries.iter().map(|entry| Package {
            path: PackagePath::new(&entry.facts.cpv, entry.facts.build_id),
            size: entry.hashes.size,
            sha256: Digest::of("x"),
            content: entry.facts.content.clone(),
        });
        let statement = Statement {
            version: statement::VERSION,
            profile: name(profile),
            serial: 1,
            created: NOW,
            valid_until: NOW + DAY,
            generator: "test".into(),
            trees: Vec::new(),
            image: None,
            files: BTreeMap::new(),
            packages: packages.collect(),
        };
        fs::write(&generation.join(statement::FILE), statement.render()).unwrap();
        for entry in entries {
            fs::hard_link(&entry.file, &generation.join(entry.file.file_name().unwrap())).unwrap();
        }
        fs::symlink(Path::new("generations/1"), &dir.current()).unwrap();
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(Search::of(vec![self.dir.path().to_path_buf()])).unwrap()
    }

    fn cost(&self, names: &[&str]) -> Result<Cost, CostError> {
        let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
        of(&self.state, &self.config(), &names, NOW)
    }

    fn of(&self, profile: &str) -> ProfileCost {
        self.cost(&[profile]).unwrap().profiles.remove(0)
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn finished(cpv: &str, milliseconds: u64) -> serde_json::Value {
    let content = serde_json::to_value(Digest::of("c")).unwrap();
    serde_json::json!({"event": "build-finished", "cpv": cpv, "build-id": 1, "content": content, "milliseconds": milliseconds})
}

fn spent(cpv: &str, milliseconds: u64) -> serde_json::Value {
    serde_json::json!({"event": "spent", "cpv": cpv, "milliseconds": 1, "cpu-milliseconds": milliseconds})
}

fn names(cpvs: &[Cpv]) -> Vec<String> {
    cpvs.iter().map(ToString::to_string).collect()
}

#[test]
fn time_is_what_runs_say_and_what_the_pool_says_of_runs_that_are_gone() {
    let made = Made::new();
    let failed =
        serde_json::json!({"event": "build-failed", "cpv": "c/b-1", "reason": "x", "telling": [], "log": "/l"});
    made.run("1", "one", NOW - 40 * DAY, &[finished("c/a-1", 5000), spent("c/b-1", 700), failed]);
    // The first attempt failed.
    let attempts = [spent("c/a-1", 10), spent("c/a-1", 6000), finished("c/a-1", 3000)];
    made.run("2", "one", NOW - DAY, &[&attempts[..], &[serde_json::json!({"event": "of tomorrow"})]].concat());
    made.run("3", "two", NOW - DAY, &[finished("c/a-1", 70)]);
    // Of a run that is there: counted there. Of one that is gone, of none, without a time, and taken over.
    let a = build("c/a-1", "-O2");
    made.add("one", &Build { run: Some("2"), milliseconds: Some(3000), ..a.clone() });
    made.add(
        "one",
        &Build { cpv: "c/gone-1", run: Some("0"), at: NOW - 50 * DAY, milliseconds: Some(200), ..a.clone() },
    );
    made.add("one", &Build { cpv: "c/early-1", milliseconds: None, ..a.clone() });
    made.add("one", &Build { cpv: "c/taken-1", milliseconds: None, from: Some("two"), ..a });
    let history = made.of("one").history;
    assert_eq!((history.runs, history.since, history.unrecorded), (2, Some(NOW - 50 * DAY), 1));
    let all = Builds { finished: 3, milliseconds: 8200, cpu_milliseconds: 7110, without_cpu: 1, failed: 1 };
    assert_eq!(history.all, all);
    let recent = Builds { finished: 1, milliseconds: 3000, cpu_milliseconds: 6010, without_cpu: 0, failed: 0 };
    assert_eq!(history.recent, recent);
}

#[test]
fn a_file_with_several_names_counts_once_and_is_freed_with_the_last() {
    let made = Made::new();
    let first = made.add("one", &Build { bytes: 5000, ..build("c/a-1", "-O2") });
    let before = made.of("one").disk.bytes;
    let second = made.add("one", &Build { bytes: 70_000, ..build("c/b-1", "-O2") });
    let record = fs::metadata(&second.file.with_file_name("b-1-1.json")).unwrap().len();
    assert_eq!(made.of("one").disk.bytes, before + 70_000 + record);
    made.publish("one", &[&first, &second]);
    let statement =
        fs::metadata(&made.state.profile(&name("one")).generations().join("1/statement.json")).unwrap().len();
    let one = made.of("one");
    assert_eq!(one.disk.bytes, before + 70_000 + record + statement);
    assert_eq!(one.dropping.bytes, one.disk.bytes);
    // Somebody else has it, too.
    fs::hard_link(&second.file, &made.dir.path().join("kept")).unwrap();
    assert_eq!(made.of("one").dropping.bytes, one.disk.bytes - 70_000);
}

#[test]
fn what_counts_is_published_or_the_newest_build() {
    let made = Made::new();
    let first = made.add("one", &Build { bytes: 5, ..compiled("c/a-1", "-O2") });
    made.add("one", &Build { bytes: 7, number: 2, ..compiled("c/a-1", "-O2") });
    made.add("one", &Build { bytes: 11, ..compiled("c/a-2", "-O2") });
    let one = made.of("one");
    assert_eq!((one.packages, one.pool, one.adding.bytes), (2, 3, 18));
    made.publish("one", &[&first]);
    let one = made.of("one");
    assert_eq!((one.packages, one.pool, one.adding.bytes), (1, 3, 5));
}

#[test]
fn one_more_builds_what_holds_code_and_says_whose_time_nobody_knows() {
    let made = Made::new();
    made.add("one", &compiled("c/code-1", "-O2"));
    made.add("one", &build("c/none-1", "-O2"));
    made.add("one", &Build { unlooked: true, ..build("c/unlooked-1", "-O2") });
    made.add("one", &Build { milliseconds: None, ..compiled("c/never-1", "-O2") });
    // Of the same version by another profile, and of another version.
    made.add("one", &Build { milliseconds: None, ..compiled("c/theirs-1", "-O2") });
    made.add("two", &Build { milliseconds: Some(30), ..compiled("c/theirs-1", "-O3") });
    made.add("one", &Build { milliseconds: Some(4), ..compiled("c/old-1", "-O2") });
    let new = made.add("one", &Build { milliseconds: None, ..compiled("c/old-2", "-O2") });
    let adding = made.of("one").adding;
    assert_eq!((adding.build, adding.take_over, adding.milliseconds), (6, 1, 2000 + 30 + 4 + 4));
    assert_eq!(adding.cpu_milliseconds, 2 * adding.milliseconds);
    assert_eq!(names(&adding.unknown), ["c/never-1"]);
    assert_eq!(made.of("one").history.unrecorded, 3);
    made.publish("one", &[&new]);
    assert_eq!(made.of("one").adding.milliseconds, 4);
}

#[test]
fn what_differs_in_flags_only_and_holds_no_code_could_be_shared() {
    let made = Made::new();
    for (profile, cflags, took) in [("one", "-O2", 100), ("two", "-O3", 300)] {
        made.add(profile, &Build { milliseconds: Some(took), ..build("c/possible-1", cflags) });
        made.add(profile, &compiled("c/code-1", cflags));
        made.add(profile, &Build { content: "same", ..compiled("c/same-1", cflags) });
        made.add(profile, &Build { use_: cflags, content: cflags, ..build("c/use-1", cflags) });
        made.add(profile, &Build { unlooked: true, content: cflags, ..build("c/unlooked-1", cflags) });
    }
    made.add("one", &build("c/done-1", "-O2"));
    made.add("two", &Build { from: Some("one"), milliseconds: None, ..build("c/done-1", "-O3") });
    made.add("one", &build("c/alone-1", "-O2"));
    let cost = made.cost(&[]).unwrap();
    let found: Vec<_> = cost.overlaps.iter().map(|overlap| (overlap.cpv.to_string(), overlap.sharing)).collect();
    let expected = [
        ("c/possible-1", Sharing::Possible),
        ("c/done-1", Sharing::Done),
        ("c/same-1", Sharing::Same),
        ("c/code-1", Sharing::Code),
        ("c/unlooked-1", Sharing::Different),
        ("c/use-1", Sharing::Different),
    ];
    assert_eq!(found, expected.map(|(cpv, sharing)| (cpv.to_string(), sharing)));
    let possible = &cost.overlaps[0];
    // Either could have been spared, not both.
    assert_eq!(possible.spares, 100);
    let from: Vec<_> = possible.holders.iter().map(|holder| holder.could_take_from.clone()).collect();
    assert_eq!(from, [Some(name("two")), Some(name("one"))]);
    let done = &cost.overlaps[1];
    assert_eq!((done.spares, done.holders[1].taken_from.clone()), (0, Some(name("one"))));
    // Who is not asked for is not shown.
    assert_eq!(made.cost(&["idle"]).unwrap().overlaps, []);
}

#[test]
fn dropping_names_who_would_build_and_who_could_not_be_used() {
    let made = Made::new();
    made.add("one", &Build { milliseconds: Some(50), ..build("c/a-1", "-O2") });
    made.add("two", &Build { from: Some("one"), milliseconds: None, ..build("c/a-1", "-O3") });
    let dropping = made.of("one").dropping;
    let lent = Lent { cpv: "c/a-1".parse().unwrap(), profile: name("two"), milliseconds: Some(50) };
    assert_eq!((dropping.lent, dropping.needed_by, dropping.cpu_milliseconds), (vec![lent], vec![name("two")], 100));
    let dropping = made.of("two").dropping;
    assert_eq!((dropping.lent, dropping.needed_by, dropping.cpu_milliseconds), (vec![], vec![], 0));
}

#[test]
fn nothing_costs_nothing_and_an_unknown_profile_is_refused() {
    let made = Made::new();
    assert_eq!(made.cost(&[]).unwrap().profiles, []);
    let idle = made.of("idle");
    assert_eq!((idle.disk, idle.packages, idle.history.clone()), (Disk::default(), 0, History::default()));
    let error = made.cost(&["ilde"]).unwrap_err();
    assert_eq!(error.to_string(), "there is no profile `ilde`");
    // One whose definition is gone still takes its place.
    made.add("gone", &build("c/a-1", "-O2"));
    let gone = made.cost(&["gone"]).unwrap().profiles.remove(0);
    assert!(!gone.defined && gone.disk.bytes > 100);
    assert_eq!(made.cost(&[]).unwrap().profiles.len(), 1);
}

#[test]
fn a_damaged_record_is_named() {
    let made = Made::new();
    let entry = made.add("one", &build("c/a-1", "-O2"));
    let record = entry.file.with_file_name("a-1-1.json");
    fs::remove_file(&record).unwrap();
    fs::write(&record, "{\"version\": 4").unwrap();
    let error = made.cost(&[]).unwrap_err().to_string();
    assert!(error.contains("a-1-1.json` is damaged"), "{error}");
}

#[test]
fn the_json_is_as_documented() {
    let made = Made::new();
    made.add("one", &compiled("c/a-1", "-O2"));
    made.add("two", &compiled("c/a-1", "-O3"));
    let json = serde_json::to_value(made.cost(&[]).unwrap()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "overlaps profiles version");
    let profile = &json["profiles"][0];
    assert_eq!(keys(profile), "adding defined disk dropping history packages pool profile");
    assert_eq!(keys(&profile["history"]), "all recent runs since unrecorded");
    assert_eq!(keys(&profile["history"]["all"]), "cpu-milliseconds failed finished milliseconds without-cpu");
    assert_eq!(keys(&profile["dropping"]), "bytes cpu-milliseconds lent needed-by");
    assert_eq!(keys(&profile["adding"]), "build bytes cpu-milliseconds milliseconds take-over unknown");
    assert_eq!(keys(&json["overlaps"][0]), "cpv holders sharing spares");
    assert_eq!(json["overlaps"][0]["sharing"], "code");
    let holder = "build-id content could-take-from milliseconds profile taken-from";
    assert_eq!(keys(&json["overlaps"][0]["holders"][0]), holder);
}
