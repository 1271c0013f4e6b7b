//! Builds one package: a fresh root with what it needs, the package manager under a watchdog, then [`finish`].

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::atom::{Cpv, NameError};
use crate::backend::{self, Backend, Build, PackageFile};
use crate::binhost::pool::{Entry, Origin, Pool};
use crate::build::finish::{self, Artefact};
use crate::build::foreign::Foreign;
use crate::build::ground::{self, Ground};
use crate::build::prepare::Prepared;
use crate::build::record;
use crate::build::room::{Room, describe, full, interrupted, no_room, path};
use crate::build::undeclared::{self, Undeclared};
use crate::build::used::{self, Used};
use crate::build::{BuildError, Host, crossed, emulated, fallback};
use crate::event::{Event, Sink};
use crate::fs::{self, File, PathError};
use crate::layer::stack::StackError;
use crate::package::SigningKey;
use crate::plan::Planned;
use crate::profile::Profile;
use crate::root::{Bind, Limits};
use crate::sandbox::{self, Change, Exit, Status, Stopped, Together, range};
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
    /// What builds may use: the profile's, until somebody changes it.
    pub(super) limits: Arc<Mutex<Limits>>,
    pub(super) run: Run,
    /// What limits the builds that run side by side.
    pub(super) together: Option<&'a Together>,
}

/// The run that a package is built in.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) dir: PathBuf,
}

/// What is to be built.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) planned: Planned,
    /// Which build of each package that it needs.
    pub(super) ready: BTreeMap<Cpv, Entry>,
    /// How many jobs it may run at a time.
    pub(super) jobs: u32,
}

impl Shop<'_> {
    /// Takes what was changed while a package was built: it holds for those that follow, too.
    fn change(&self, change: &Change) {
        let mut limits = self.limits();
        limits.cpus = change.cpu.map(|(quota, period)| quota as f64 / period as f64).or(limits.cpus);
        limits.cpuset = change.cpuset.clone().or(limits.cpuset.take());
        limits.memory = change.memory.or(limits.memory);
        limits.swap = change.swap.or(limits.swap);
        limits.pids = change.pids.or(limits.pids);
        limits.io_weight = change.io_weight.or(limits.io_weight);
    }

    /// Returns what builds may use now. Each limit is set by itself: what is there is good whoever panicked.
    pub(super) fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no package.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: String,
    pub(super) telling: Vec<String>,
    pub(super) log: PathBuf,
    /// Whether the kernel killed for want of memory.
    pub(super) by_memory: bool,
    /// What of it is, or may be, the fault of how it was built.
    pub(super) by_method: Option<String>,
}

/// Builds a package whose dependencies are all in the pool, by the method that is right for it. An error is the host's fault,
/// `Failed` the package's.
pub(super) fn build(shop: &Shop<'_>, task: &Task, on: Sink<'_>) -> Result<Result<Entry, Failed>, BuildError> {
    let once: &emulated::Once<'_> = &|shop, on| build_once(shop, task, on);
    match &shop.prepared.fallback {
        Some(fallback) => fallback::build(shop, fallback, task, on, once),
        None => emulated::down(shop, task, on, once),
    }
}

fn build_once(shop: &Shop<'_>, task: &Task, on: Sink<'_>) -> Result<Result<Entry, Failed>, BuildError> {
    let planned = &task.planned;
    let dir = record::dir_of(&shop.run.dir, &planned.cpv);
    fs::create_dir_all(&dir)?;
    let log = dir.join("log");
    if let Some(tool) = shop.prepared.across.as_ref().and_then(|across| across.lacks(&planned.tools)) {
        let reason = format!("`{tool}`, which runs while it is built, could not be built");
        fs::write_atomic(&log, format!("[bindery: {reason}]\n"), 0o644)?;
        return Ok(Err(Failed { reason, telling: Vec::new(), log, by_memory: false, by_method: None }));
    }
    let started = Instant::now();
    let purpose = format!("building {} for {}", planned.cpv, shop.profile.name);
    let mut room = Room::beside(shop.host, &purpose, shop.together)?;
    room = room.emulating(foreign(shop).and_then(Foreign::emulator));
    let result = match ground::ground(shop.host, shop.prepared, planned, &task.ready, on) {
        Ok(ground) => build_in(shop, task, &ground, &mut room, &dir, on),
        // What the package needs cannot be in one root: that is no fault of the host's.
        Err(BuildError::Stack(error @ StackError::Accounts { .. })) => {
            fs::write_atomic(&log, format!("[bindery: {error}]\n"), 0o644)?;
            Ok(Err(Telling::of(error.to_string())))
        }
        Err(error) => Err(error),
    };
    let closed = room.close();
    let result = result?;
    closed?;
    match result {
        Ok((entry, used)) => {
            let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let event = Event::BuildFinished {
                cpv: planned.cpv.clone(),
                build_id: entry.facts.build_id,
                content: entry.facts.content.clone(),
                milliseconds,
            };
            on(event);
            if let Some(audited) = entry.origin.audited.as_ref().filter(|audited| audited.has_more()) {
                let (dispatched, excepted) = (audited.dispatched, audited.excepted.iter().sum());
                on(Event::Audited { cpv: planned.cpv.clone(), dispatched, excepted });
            }
            if !used.unused.is_empty() {
                on(Event::Unused { cpv: planned.cpv.clone(), dependencies: used.unused });
            }
            Ok(Ok(entry))
        }
        Err(Telling { reason, lines, by_memory, by_method }) => {
            Ok(Err(Failed { reason, telling: lines, log, by_memory, by_method }))
        }
    }
}

/// Returns what runs programs of the other side, in a cross build whose image says something of it.
fn foreign<'a>(shop: &Shop<'a>) -> Option<&'a Foreign> {
    shop.prepared.across.as_ref()?.foreign.as_ref()
}

/// What a failed build's log tells.
struct Telling {
    reason: String,
    lines: Vec<String>,
    by_memory: bool,
    by_method: Option<String>,
}

impl Telling {
    fn of(reason: String) -> Self {
        Self { reason, lines: Vec::new(), by_memory: false, by_method: None }
    }
}

fn build_in(
    shop: &Shop<'_>,
    task: &Task,
    ground: &Ground,
    room: &mut Room<'_>,
    dir: &Path,
    on: Sink<'_>,
) -> Result<Result<(Entry, Used), Telling>, BuildError> {
    let Task { planned, ready, jobs } = task;
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
    binds.extend(with_jobs(shop, *jobs, &scratch)?);
    let across = shop.prepared.across.as_ref();
    if let Some(across) = across {
        binds.extend(across.lay_out(&ground.tools, &scratch, fs::hard_link)?);
    }
    let cross = across.map(|across| (&across.cross, ground.tools.as_slice()));
    let build = Build { cpv: &planned.cpv, needs: &ground.install, source_date: shop.source_date, cross };
    let mut log = Log::new(&dir.join("log"))?;
    let lacking = foreign(shop).and_then(Foreign::lacking);
    if let Some(lacking) = &lacking {
        log.take(format!("[bindery: {lacking}]\n").as_bytes());
    }
    let limits = shop.limits().clone();
    let watch = used::watch(host, shop.prepared, planned, ground)?;
    let (mut exit, seen) = room.run_and_watch(
        &shop.prepared.image,
        &ground.lower,
        &binds,
        &backend.build(&build),
        &limits,
        Some(&dir.join("config.json")),
        watch.groups.clone(),
        &mut |_, bytes| log.take(bytes),
    )?;
    exit.achieved.not_given.extend(lacking);
    if let Some(reached) = exit.reached() {
        log.take(format!("\n[bindery: {reached}]\n").as_bytes());
    }
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    on(Event::Spent { cpv: planned.cpv.clone(), milliseconds, cpu_milliseconds: exit.cpu_milliseconds });
    let good = exit.status == Status::Code(0) && exit.stopped.is_none();
    // What failed may have failed before it came to use it.
    let used = if good { watch.tell(seen) } else { Used::default() };
    if !used.unused.is_empty() {
        log.take(format!("\n[bindery: declared and not used: {}]\n", names(&used.unused)).as_bytes());
    }
    log.end()?;
    keep(dir, &Ended { exit: &exit, undeclared: &[], dependencies: &used })?;
    shop.change(&exit.changed);
    interrupted(host.cancel)?;
    full(host, &exit, &format!("building {}", planned.cpv))?;
    if !good {
        return Ok(Err(telling(shop, planned, ready, &exit, dir)?));
    }
    let origin = Origin {
        request: Some(planned.request.key()),
        inputs: planned.request.to_parts(),
        run: Some(shop.run.id.clone()),
        built: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        milliseconds: Some(milliseconds),
        cpu_milliseconds: Some(exit.cpu_milliseconds),
        shared: None,
        audited: None,
    };
    match finish::finish(shop, &planned.cpv, Artefact::Built(&room.upper()), &scratch, &origin) {
        Ok(entry) => Ok(Ok((entry, used))),
        Err(BuildError::Odd(why)) => Ok(Err(Telling::of(format!("its package was refused: {why}")))),
        Err(BuildError::Beyond(beyond)) => {
            let (reason, log) = (format!("its package was refused: {}", beyond.reason()), dir.join("log"));
            let lines = beyond.told(&log)?;
            let text: String = lines.iter().map(|line| format!("[bindery: {line}]\n")).collect();
            let text = format!("\n[bindery: {reason}]\n{text}");
            fs::append(&log, 0o644)?.write_all(text.as_bytes()).map_err(PathError::on("write", &log))?;
            // A build that has used this machine's compiler.
            let by_method = (across.is_some() && beyond.is_of_machine()).then(|| reason.clone());
            Ok(Err(Telling { lines, by_method, ..Telling::of(reason) }))
        }
        Err(error) => Err(error),
    }
}

/// Returns what is mounted over the file that says how many jobs a build runs, where that is another number for this one.
fn with_jobs(shop: &Shop<'_>, jobs: u32, scratch: &Path) -> Result<Option<Bind>, BuildError> {
    if jobs == shop.prepared.jobs {
        return Ok(None);
    }
    let (at, configuration) = &shop.prepared.mounts.configuration;
    let Some((name, text)) = shop.prepared.backend.with_jobs(configuration, jobs)? else { return Ok(None) };
    let from = scratch.join("jobs");
    fs::write(&from, text)?;
    fs::set_mode(&from, 0o644)?;
    let to = format!("{at}/{}", name.display());
    Ok(Some(Bind { from, to: path(&to), writable: false }))
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

/// Says why a build failed, and in its record who would provide what it did not find.
fn telling(
    shop: &Shop<'_>,
    planned: &Planned,
    ready: &BTreeMap<Cpv, Entry>,
    exit: &Exit,
    dir: &Path,
) -> Result<Telling, BuildError> {
    let (cpv, log) = (&planned.cpv, &dir.join("log"));
    let file = fs::open(log)?;
    let mut failure = shop
        .prepared
        .backend
        .failure(&mut std::io::BufReader::new(file))
        .map_err(|e| BuildError::Path(PathError::on("read", log)(e)))?;
    // What fails for want of space and cleans up is over before anybody looks at what is free.
    let no_space = failure.no_space && exit.stopped.is_none();
    let limited = shop.limits().disk.is_some();
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
    let by_method = match &shop.prepared.across {
        Some(_) => crossed::fault(foreign(shop), exit, log)?,
        None => emulated::fault(shop.prepared.image.emulator.as_ref(), exit, log)?,
    };
    if let Some(fault) = &by_method {
        reason.push_str(&format!("; {fault}"));
    }
    // Another method takes longer still, and no less memory or disk.
    let by_method = by_method.filter(|_| matches!(exit.stopped, None | Some(Stopped::Idle | Stopped::Silence)));
    let by_memory = exit.stopped == Some(Stopped::Memory);
    let undeclared = undeclared::find(shop, planned, ready, &failure.missing)?;
    if !undeclared.is_empty() {
        let lines: Vec<String> = undeclared.iter().map(|one| format!("[bindery: {one}]")).collect();
        let text = format!("\n{}\n", lines.join("\n"));
        fs::append(log, 0o644)?.write_all(text.as_bytes()).map_err(PathError::on("write", log))?;
        keep(dir, &Ended { exit, undeclared: &undeclared, dependencies: &Used::default() })?;
        failure.telling.extend(lines);
    }
    Ok(Telling { reason, lines: failure.telling, by_memory, by_method })
}

/// `status.json` of a package's build.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ended<'a> {
    #[serde(flatten)]
    exit: &'a Exit,
    /// What it did not find, and who would provide that.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    undeclared: &'a [Undeclared],
    /// What was used of what it declared.
    #[serde(skip_serializing_if = "Used::is_empty")]
    dependencies: &'a Used,
}

fn names(cpvs: &[Cpv]) -> String {
    cpvs.iter().map(Cpv::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the profile's setting that stopped a build.
fn limit(stopped: Stopped) -> Option<&'static str> {
    match stopped {
        Stopped::Time => Some("limits.time"),
        Stopped::Silence => Some("limits.silence"),
        Stopped::Idle => Some("limits.idle"),
        Stopped::Disk => Some("limits.disk"),
        Stopped::Memory => Some("limits.memory"),
        Stopped::Processes => Some("limits.pids"),
        Stopped::Full | Stopped::Cancelled => None,
    }
}

/// Keeps how the build ended and what isolation it really had.
fn keep(dir: &Path, ended: &Ended<'_>) -> Result<(), BuildError> {
    let text = serde_json::to_string_pretty(ended).expect("plain data");
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
