//! Source archives: fetched and verified by the host before a build, which has no network.
//!
//! For each archive, a few at a time:
//!
//! 1. One that is there is verified by size, BLAKE2B and SHA512, every time; a wrong one is fetched again.
//! 2. Mirrors are tried, then the ebuild's own addresses, until one yields the archive. Bytes are counted and hashed as
//!    they arrive, and never more are taken than the Manifest says there are.
//! 3. The archive is written beside (`.part/NAME`, locked, so that two processes fetch it once), fsynced, renamed.
//!
//! An archive that cannot be had is an error that says everything that was tried; the others are fetched all the same.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};

use crate::config::Mirror;
use crate::event::{Event, Sink};
use crate::fs::{self, PathError};
use crate::tree::Dist;

mod download;
mod layout;
mod mirror;
mod part;

pub use mirror::{Failure, ThirdParty, addresses};
pub use ureq::Proxy;

use download::Unsuccessful;
use layout::Layout;
use part::Part;
pub use part::sweep;

/// How many archives are fetched at one time.
const AT_ONCE: usize = 4;

/// One archive and where it may be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Distfile {
    /// What it must be, from the Manifest.
    #[serde(flatten)]
    pub dist: Dist,
    /// Its addresses, from the ebuild's `SRC_URI`.
    pub uris: Vec<String>,
    /// Whether the ebuild forbids to fetch it.
    #[serde(default)]
    pub restrict: Restrict,
}

/// What an ebuild's `RESTRICT` says about fetching (PMS 7.3.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Restrict {
    /// Only people may fetch it.
    pub fetch: bool,
    /// It may not be taken from mirrors.
    pub mirror: bool,
}

/// What is to be fetched, from where, to where.
#[derive(Debug)]
pub struct Request<'a> {
    /// The archives.
    pub files: &'a [Distfile],
    /// The user's mirrors, best first; folders are absolute.
    pub mirrors: &'a [Mirror],
    /// What `mirror://` stands for.
    pub third_party: &'a ThirdParty,
    /// Where they go: `State::distfiles()`.
    pub folder: &'a Path,
    /// Through which proxy.
    pub proxy: Option<Proxy>,
    /// Set when the user does not want it any more.
    pub cancel: &'a AtomicBool,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many archives were there already.
    pub present: usize,
    /// How many were fetched.
    pub fetched: usize,
}

/// Makes sure that every archive is among the distfiles.
pub fn fetch(request: &Request<'_>, on: Sink<'_>) -> Result<Summary, FetchError> {
    let mut files: Vec<&Distfile> = Vec::new();
    for file in request.files {
        match files.iter().find(|other| other.dist.name == file.dist.name) {
            None => files.push(file),
            Some(other) if other.dist == file.dist => {}
            Some(_) => return Err(FetchError::Conflict { name: file.dist.name.to_string() }),
        }
    }
    fs::create_dir_all(request.folder)?;
    sweep(request.folder)?;
    let work = Work {
        request,
        agent: OnceLock::new(),
        layouts: request.mirrors.iter().map(|_| OnceLock::new()).collect(),
        next: AtomicUsize::new(0),
    };
    let (events, happened) = mpsc::channel();
    let mut outcomes = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE.min(files.len()))
            .map(|_| {
                let events = events.clone();
                scope.spawn(|| work.run(&files, &events_to(events)))
            })
            .collect();
        drop(events);
        for event in happened {
            on(event);
        }
        for thread in threads {
            outcomes.extend(thread.join().expect("a fetching thread does not panic"));
        }
    });
    let mut summary = Summary::default();
    let mut missing = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(Outcome::Present) => summary.present += 1,
            Ok(Outcome::Fetched) => summary.fetched += 1,
            Ok(Outcome::Missing(file)) => missing.push(*file),
            Err(error) => return Err(error),
        }
    }
    missing.sort_by(|a, b| a.dist.name.cmp(&b.dist.name));
    if missing.is_empty() { Ok(summary) } else { Err(FetchError::Missing(missing)) }
}

fn events_to(events: mpsc::Sender<Event>) -> impl Fn(Event) {
    // Nobody listens any more only when the call is being given up.
    move |event| drop(events.send(event))
}

enum Outcome {
    Present,
    Fetched,
    Missing(Box<Missing>),
}

/// What the fetching threads share.
struct Work<'a> {
    request: &'a Request<'a>,
    agent: OnceLock<ureq::Agent>,
    /// For each mirror how it keeps archives, asked for once, or why it cannot be used.
    layouts: Vec<OnceLock<Result<Layout, String>>>,
    next: AtomicUsize,
}

impl Work<'_> {
    /// Fetches one archive after the other until none is left.
    fn run(&self, files: &[&Distfile], on: &impl Fn(Event)) -> Vec<Result<Outcome, FetchError>> {
        std::iter::from_fn(|| files.get(self.next.fetch_add(1, Ordering::Relaxed)))
            .map(|file| self.one(file, on))
            .collect()
    }

    fn one(&self, file: &Distfile, on: &impl Fn(Event)) -> Result<Outcome, FetchError> {
        let dist = &file.dist;
        let target = self.request.folder.join(dist.name.as_str());
        if self.present(&target, dist)?.is_ok() {
            return Ok(Outcome::Present);
        }
        let part = Part::take(self.request.folder, dist.name.as_str(), self.request.cancel)?;
        let mut part = part.ok_or(FetchError::Cancelled)?;
        // Another process may have fetched it while this one waited.
        let altered = match self.present(&target, dist)? {
            Ok(()) => {
                part.discard()?;
                return Ok(Outcome::Present);
            }
            Err(altered) => altered,
        };
        if let Some(why) = &altered {
            let what =
                format!("`{}` is not the archive that the Manifest lists ({why}); fetching it again", target.display());
            on(Event::Warning { what });
        }
        let mut failures = Vec::new();
        for attempt in self.attempts(file) {
            let (uri, result) = match attempt {
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
                Ok(From::Folder(path)) => {
                    let uri = path.display().to_string();
                    (uri, download::file(&path, dist, &mut part, self.request.cancel))
                }
                Ok(From::Web(uri)) => {
                    on(Event::Fetching { file: dist.name.to_string(), uri: uri.clone() });
                    let result = download::http(self.agent(), &uri, dist, &mut part, self.request.cancel);
                    (uri, result)
                }
            };
            match result {
                Ok(()) => {
                    part.keep(&target)?;
                    on(Event::Fetched { file: dist.name.to_string(), size: dist.size });
                    return Ok(Outcome::Fetched);
                }
                Err(Unsuccessful::Remote(why)) => failures.push(Failure { uri, why }),
                Err(Unsuccessful::Local(error)) => {
                    // The disk may be full: what was written must not stay. The first error is the one to tell.
                    let _ = part.discard();
                    return Err(error.into());
                }
                Err(Unsuccessful::Cancelled) => {
                    part.discard()?;
                    return Err(FetchError::Cancelled);
                }
            }
        }
        part.discard()?;
        let missing = Missing { dist: dist.clone(), restricted: file.restrict.fetch, failures, altered, target };
        Ok(Outcome::Missing(Box::new(missing)))
    }

    /// Returns whether the archive is there; if not, what is wrong with the file that has its name.
    fn present(&self, target: &Path, dist: &Dist) -> Result<Result<(), Option<String>>, PathError> {
        match download::verify(target, dist) {
            Ok(None) => Ok(Ok(())),
            Ok(wrong) => Ok(Err(wrong)),
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(Err(None)),
            Err(error) => Err(error),
        }
    }

    /// Returns where to look, in order: the user's mirrors, then the ebuild's addresses. Lazily, because a mirror is asked
    /// for its layout only when it is needed.
    fn attempts<'s>(&'s self, file: &'s Distfile) -> impl Iterator<Item = Result<From, Failure>> + 's {
        let restrict = file.restrict;
        let mirrors =
            self.request.mirrors.iter().zip(&self.layouts).filter_map(move |(mirror, layout)| match mirror.folder() {
                Some(folder) => Some(self.in_folder(folder, layout, file)),
                None if restrict.fetch || restrict.mirror => None,
                None => Some(self.on_mirror(mirror, layout, file)),
            });
        let own = addresses(&file.uris, self.request.third_party, restrict).into_iter().map(|a| a.map(From::Web));
        mirrors.chain(own)
    }

    /// A folder may be a copy of a mirror, with its layout, or just hold archives.
    fn in_folder(
        &self,
        folder: &Path,
        layout: &OnceLock<Result<Layout, String>>,
        file: &Distfile,
    ) -> Result<From, Failure> {
        let layout = layout.get_or_init(|| {
            let text = fs::read_if_exists(&folder.join("layout.conf")).map_err(|e| e.source.to_string())?;
            Ok(text.map_or(Layout::Flat, |text| Layout::parse(&text)))
        });
        match layout {
            Ok(layout) => Ok(From::Folder(folder.join(layout.path(file.dist.name.as_str())))),
            Err(why) => Err(Failure { uri: folder.display().to_string(), why: why.clone() }),
        }
    }

    fn on_mirror(
        &self,
        mirror: &Mirror,
        layout: &OnceLock<Result<Layout, String>>,
        file: &Distfile,
    ) -> Result<From, Failure> {
        let folder = format!("{}/distfiles", mirror.as_str().trim_end_matches('/'));
        match layout.get_or_init(|| download::layout(self.agent(), &folder)) {
            Ok(layout) => Ok(From::Web(format!("{folder}/{}", mirror::encoded(&layout.path(file.dist.name.as_str()))))),
            Err(why) => Err(Failure { uri: folder, why: why.clone() }),
        }
    }

    /// What makes requests is made when the first is needed: often everything is there.
    fn agent(&self) -> &ureq::Agent {
        self.agent.get_or_init(|| download::agent(self.request.proxy.clone()))
    }
}

/// Where an archive may be.
enum From {
    Folder(PathBuf),
    Web(String),
}

/// An archive that could not be had. `Display` says, on several lines, what was tried, what the archive must be, and
/// where to put it by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it must be.
    pub dist: Dist,
    /// Whether its ebuild says that only people may fetch it.
    pub restricted: bool,
    /// Every address that was tried.
    pub failures: Vec<Failure>,
    /// What is wrong with the file that has its name among the distfiles.
    pub altered: Option<String>,
    /// Where it belongs.
    pub target: PathBuf,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Dist { name, size, blake2b, sha512 } = &self.dist;
        let target = self.target.display();
        match (self.restricted, self.failures.is_empty()) {
            (true, _) => writeln!(f, "`{name}` may not be fetched by programs (RESTRICT=fetch of its ebuild)")?,
            (false, true) => writeln!(f, "`{name}` cannot be fetched: its ebuild and the profile name no address")?,
            (false, false) => writeln!(f, "`{name}` cannot be fetched:")?,
        }
        for Failure { uri, why } in &self.failures {
            writeln!(f, "  {uri}: {why}")?;
        }
        if let Some(why) = &self.altered {
            writeln!(f, "  `{target}` is there, but {why}")?;
        }
        writeln!(f, "  expected: {size} bytes")?;
        writeln!(f, "    BLAKE2B {blake2b}")?;
        writeln!(f, "    SHA512 {sha512}")?;
        write!(f, "  get it by hand and put it at `{target}`")
    }
}

/// Source archives cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Some archives are nowhere to be had; the others were fetched.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Missing(Vec<Missing>),
    /// Two ebuilds mean different archives by one name.
    #[error("two Manifests list different archives called `{name}`; a build of both needs the trees to agree")]
    Conflict {
        /// The name.
        name: String,
    },
    /// The user does not want it any more.
    #[error("fetching was cancelled")]
    Cancelled,
}

#[cfg(test)]
mod tests;
