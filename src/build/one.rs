//! Builds one package: a fresh root with what it needs, the package manager under a watchdog, then [`finish`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::atom::{Cpv, NameError};
use crate::backend::{self, Backend, Build, PackageFile};
use crate::binhost::pool::{Entry, Origin, Pool};
use crate::build::finish;
use crate::build::ground::{self, Ground};
use crate::build::prepare::Prepared;
use crate::build::record::Record;
use crate::build::room::{Room, describe, full, interrupted, no_room, path};
use crate::build::{BuildError, Host};
use crate::event::{Event, Sink};
use crate::fs::{self, File, PathError};
use crate::package::SigningKey;
use crate::plan::Planned;
use crate::profile::Profile;
use crate::root::{Bind, Limits};
use crate::sandbox::{self, Change, Exit, Status, Stopped, range};
use crate::state::Lock;

/// The longest log that is kept, in bytes; a build that prints for ever would fill the disk.
const LOG: u64 = 256 << 20;

/// Where less than this is free, in bytes, a build is believed that says there was no space left.
const LITTLE: u64 = 1 << 30;

/// What every package of a run is built with.
#[derive(Debug)]
pub(super) struct Shop<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) profile: &'a Profile,
    pub(super) prepared: &'a Prepared,
    pub(super) pool: &'a Pool,
    pub(super) held: &'a Lock,
    pub(super) key: &'a SigningKey,
    pub(super) source_date: u64,
    /// What each build may use: the profile's, until somebody changes it.
    pub(super) limits: RefCell<Limits>,
}

impl Shop<'_> {
    /// Takes what was changed while a package was built: it holds for those that follow, too.
    fn change(&self, change: &Change) {
        let mut limits = self.limits.borrow_mut();
        limits.cpus = change.cpu.map(|(quota, period)| quota as f64 / period as f64).or(limits.cpus);
        limits.cpuset = change.cpuset.clone().or(limits.cpuset.take());
        limits.memory = change.memory.or(limits.memory);
        limits.swap = change.swap.or(limits.swap);
        limits.pids = change.pids.or(limits.pids);
        limits.io_weight = change.io_weight.or(limits.io_weight);
    }
}

/// Why there is no package.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: String,
    pub(super) telling: Vec<String>,
    pub(super) log: PathBuf,
}

/// Builds a package whose dependencies are all in the pool; `ready` says which build of each. An error is the host's
/// fault, `Failed` the package's.
pub(super) fn build(
    shop: &Shop<'_>,
    planned: &Planned,
    ready: &BTreeMap<Cpv, Entry>,
    record: &mut Record,
    number: (usize, usize),
    on: Sink<'_>,
) -> Result<Result<Entry, Failed>, BuildError> {
    let dir = record.package(&planned.cpv)?;
    let log = dir.join("log");
    let started = Instant::now();
    let event = Event::BuildStarted { cpv: planned.cpv.clone(), log: log.clone(), number: number.0, of: number.1 };
    record.tell(event, on);
    let mut room = Room::new(shop.host, &format!("building {} for {}", planned.cpv, shop.profile.name))?;
    let ground = ground::ground(shop.host, shop.prepared, planned, ready, &mut |event| record.tell(event, on));
    let result = ground.and_then(|ground| build_in(shop, planned, &ground, ready, record, &mut room, &dir));
    let closed = room.close();
    let result = result?;
    closed?;
    match result {
        Ok(entry) => {
            let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let event = Event::BuildFinished {
                cpv: planned.cpv.clone(),
                build_id: entry.facts.build_id,
                content: entry.facts.content.clone(),
                milliseconds,
            };
            record.tell(event, on);
            Ok(Ok(entry))
        }
        Err(reason) => Ok(Err(Failed { reason: reason.0, telling: reason.1, log })),
    }
}

type Telling = (String, Vec<String>);

fn build_in(
    shop: &Shop<'_>,
    planned: &Planned,
    ground: &Ground,
    ready: &BTreeMap<Cpv, Entry>,
    record: &Record,
    room: &mut Room<'_>,
    dir: &Path,
) -> Result<Result<Entry, Telling>, BuildError> {
    let (host, backend, started) = (shop.host, shop.prepared.backend, Instant::now());
    // Of this user's, and nobody else's: what lies below may be open to all.
    let scratch = dir.join("scratch");
    room.lease().owns_path(scratch.clone())?;
    fs::create_dir_new(&scratch, 0o700)?;
    range::admit(host.ids, &scratch)?;
    let packages = scratch.join("packages");
    lay_out(shop.pool, backend, &ground.install, ready, &packages, fs::hard_link)?;

    let mut binds = shop.prepared.mounts.binds();
    binds.push(Bind { from: packages, to: path(backend::PACKAGES), writable: false });
    let build = Build { cpv: &planned.cpv, needs: &ground.install, source_date: shop.source_date };
    let mut log = Log::new(&dir.join("log"))?;
    let exit = room.run(
        &shop.prepared.image,
        &ground.lower,
        &binds,
        &backend.build(&build),
        &shop.limits.borrow().clone(),
        Some(&dir.join("config.json")),
        &mut |_, bytes| log.take(bytes),
    )?;
    if let Some(reached) = exit.reached() {
        log.take(format!("\n[bindery: {reached}]\n").as_bytes());
    }
    log.end()?;
    keep(dir, &exit)?;
    shop.change(&exit.changed);
    interrupted(host.cancel)?;
    full(host, &exit, &format!("building {}", planned.cpv))?;
    if exit.status != Status::Code(0) || exit.stopped.is_some() {
        return Ok(Err(telling(shop, &planned.cpv, &exit, &dir.join("log"))?));
    }
    let origin = Origin {
        request: Some(planned.request.key()),
        inputs: planned.request.to_parts(),
        run: Some(record.status.id.clone()),
        built: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        milliseconds: u64::try_from(started.elapsed().as_millis()).ok(),
    };
    match finish::finish(shop, &planned.cpv, &room.upper(), &scratch, &origin) {
        Ok(entry) => Ok(Ok(entry)),
        Err(BuildError::Odd(why)) => Ok(Err((format!("its package was refused: {why}"), Vec::new()))),
        Err(error) => Err(error),
    }
}

/// Lays out the packages that are installed into the root, each placed there from the pool by `place`, with their index.
pub(super) fn lay_out(
    pool: &Pool,
    backend: &dyn Backend,
    install: &[Cpv],
    ready: &BTreeMap<Cpv, Entry>,
    dir: &Path,
    place: impl Fn(&Path, &Path) -> Result<(), PathError>,
) -> Result<(), BuildError> {
    fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    for (cpv, entry) in install.iter().filter_map(|cpv| Some((cpv, ready.get(cpv)?))) {
        pool.verify(entry)?;
        let facts = &entry.facts;
        let file = dir.join(backend::package_path(cpv, facts.build_id));
        fs::create_dir_all(file.parent().unwrap_or(dir))?;
        place(&entry.file, &file)?;
        files.push(PackageFile {
            cpv: cpv.clone(),
            build_id: facts.build_id,
            build_time: facts.build_time,
            slot: facts.slot.clone(),
            eapi: facts.eapi.clone(),
            size: entry.hashes.size,
            provides: facts.provides.clone(),
            requires: facts.requires.clone(),
            defined_phases: facts.defined_phases.join(" "),
            repo: facts.repo.parse().map_err(|e: NameError| BuildError::Odd(e.to_string()))?,
        });
    }
    // Of use to nobody but this build, which is not there yet.
    Ok(fs::write(&dir.join("Packages"), backend.index(&files))?)
}

/// Says why a build failed.
fn telling(shop: &Shop<'_>, cpv: &Cpv, exit: &Exit, log: &Path) -> Result<Telling, BuildError> {
    let file = fs::open(log)?;
    let failure = shop
        .prepared
        .backend
        .failure(&mut std::io::BufReader::new(file))
        .map_err(|e| BuildError::Path(PathError::on("read", log)(e)))?;
    // What fails for want of space and cleans up is over before anybody looks at what is free.
    let no_space = failure.no_space && exit.stopped.is_none();
    let limited = shop.limits.borrow().disk.is_some();
    if no_space && !limited && sandbox::free_space(shop.host.state.state()).is_some_and(|free| free < LITTLE) {
        return Err(no_room(shop.host, &format!("building {cpv}")));
    }
    let mut reason = match (&exit.stopped, failure.reason) {
        (None, Some(reason)) => reason,
        _ => describe(exit),
    };
    if let Some(phase) = failure.phase {
        reason.push_str(&format!(" (in {phase})"));
    }
    if let Some(limit) = exit.stopped.and_then(limit).or((no_space && limited).then_some("limits.disk")) {
        reason.push_str(&format!("; if it needs more, raise `{limit}` in the profile"));
    }
    Ok((reason, failure.telling))
}

/// Returns the profile's setting that stopped a build.
fn limit(stopped: Stopped) -> Option<&'static str> {
    match stopped {
        Stopped::Time => Some("limits.time"),
        Stopped::Silence => Some("limits.silence"),
        Stopped::Disk => Some("limits.disk"),
        Stopped::Memory => Some("limits.memory"),
        Stopped::Processes => Some("limits.pids"),
        Stopped::Full | Stopped::Cancelled => None,
    }
}

/// Keeps how the build ended and what isolation it really had.
fn keep(dir: &Path, exit: &Exit) -> Result<(), BuildError> {
    let text = serde_json::to_string_pretty(exit).expect("plain data");
    Ok(fs::write_atomic(&dir.join("status.json"), text + "\n", 0o644)?)
}

/// A log being written, bounded.
#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
    written: u64,
    failed: Option<std::io::Error>,
}

impl Log {
    fn new(path: &Path) -> Result<Self, PathError> {
        Ok(Self { file: fs::append(path, 0o644)?, path: path.to_path_buf(), written: 0, failed: None })
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.written >= LOG || self.failed.is_some() {
            return;
        }
        self.written += bytes.len() as u64;
        let mut result = self.file.write_all(bytes);
        if result.is_ok() && self.written >= LOG {
            result = self.file.write_all(b"\n[bindery: the log is cut here]\n");
        }
        self.failed = result.err();
    }

    fn end(self) -> Result<(), PathError> {
        self.failed.map_or(Ok(()), |e| Err(PathError::on("write", &self.path)(e)))
    }
}
