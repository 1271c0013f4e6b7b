//! Derives layers from finished packages: what a merge by Portage would have put into the root, without a merge.
//!
//! A layer is the package's image, placed by the rules of a merge (`place`), and its entry in Portage's database
//! (`database`). It depends on the package, on what the image that it will lie on has at the same places, and on a few
//! settings ([`Merge`]). What cannot be a layer says why ([`Reason`]) and is installed by Portage.
//!
//! ```text
//! layers/DIGEST/        the layer, never changed; DIGEST is taken over what is in it
//! layers/DIGEST.json    for which id range, and the paths in it: without this file the folder counts for nothing
//! layers/KEY.json       what came of one request (package, image, settings): a layer's digest, or the reasons
//! ```
//!
//! A package whose phases do something is derived from what one merge of it has left ([`learn()`]); its request has the layers
//! that it was merged on, too.
//!
//! Written as a job of `__range` in a folder of the lease's, renamed; once all of a call's layers are there the file
//! system is told to write, and only then their records come to their places. Two processes that derive one layer make
//! the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::atom::Cpv;
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::layer::accounts::Accounts;
use crate::layer::{self, LayerError, collect};
use crate::package::{Facts, Identity};
use crate::sandbox::{Emulator, IdRange};
use crate::state::{Lease, State, StateError};

mod compare;
mod database;
mod ground;
mod inside;
mod learn;
mod mask;
mod merge;
mod name;
mod phases;
mod place;
mod reason;

pub(in crate::layer) use ground::{Layers, regular};
pub(in crate::layer) use inside::{Task, derive as job, settle};
pub use learn::{Merged, learn, learned};
pub use merge::{Merge, NEEDED, Settings};
pub(in crate::layer) use place::{Attributes, Found, Ground, PlaceError, Placer};
pub use reason::Reason;

/// The version of the records, and of what is made.
const VERSION: u32 = 2;

/// Where layers are kept, for whom, and on what they will lie.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Where layers are kept.
    pub state: &'a State,
    /// Who owns what is in them.
    pub ids: &'a IdRange,
    /// The image's layers, top first and relative to [`State::state`].
    pub image: &'a [PathBuf],
    /// What names the image's content: [its digest](crate::digest).
    pub image_digest: &'a Digest,
    /// How packages are merged.
    pub merge: &'a Merge,
    /// What runs the image's programs, where this machine cannot by itself.
    pub emulator: Option<&'a Emulator>,
}

/// A finished package.
#[derive(Debug, Clone, Copy)]
pub struct Package<'a> {
    /// Its file.
    pub file: &'a Path,
    /// What is known of it.
    pub facts: &'a Facts,
}

/// What came of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Derived {
    /// It is a layer.
    Layer(Layer),
    /// It must be installed by Portage; not empty.
    NotStackable(Vec<Reason>),
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The package.
    pub cpv: Cpv,
    /// Over what is in it.
    pub digest: Digest,
    /// Its short name, relative to [`State::state`].
    pub folder: PathBuf,
}

/// What the job found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(in crate::layer) enum Outcome {
    /// The layer is in its place.
    Layer {
        digest: Digest,
        folders: BTreeSet<String>,
        files: BTreeSet<String>,
        accounts: Accounts,
    },
    NotStackable(Vec<Reason>),
}

/// `layers/DIGEST.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Record {
    version: u32,
    /// The first ids of the range that owns it.
    uid: u32,
    gid: u32,
    /// Paths of folders in it.
    pub(in crate::layer) folders: BTreeSet<String>,
    /// Paths of everything else.
    pub(in crate::layer) files: BTreeSet<String>,
    /// Users and groups that it brings.
    #[serde(default, skip_serializing_if = "Accounts::is_empty")]
    pub(in crate::layer) accounts: Accounts,
}

impl Record {
    /// Returns the record of what a range owns.
    pub(in crate::layer) fn of((uid, gid): (u32, u32), folders: BTreeSet<String>, files: BTreeSet<String>) -> Self {
        Self { version: VERSION, uid, gid, folders, files, accounts: Accounts::default() }
    }
}

/// `layers/KEY.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    version: u32,
    /// For people: of what package.
    cpv: Cpv,
    came: Came,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Came {
    Layer(Digest),
    NotStackable(Vec<Reason>),
}

/// Returns what each package is: a layer, made now where it is not there yet, or why not.
pub fn derive(cx: &Context<'_>, packages: &[Package<'_>]) -> Result<Vec<Derived>, DeriveError> {
    let mut derived = Vec::new();
    let mut missing = Vec::new();
    for package in packages {
        let key = key(cx, package, None);
        let known = known(cx, &package.facts.cpv, &key)?;
        if known.is_none() {
            missing.push((derived.len(), key));
        }
        derived.push(known);
    }
    if !missing.is_empty() {
        let _in_use = collect::in_use(cx.state)?;
        let lease = Lease::take(cx.state, "deriving layers")?;
        let done = make_all(cx, packages, &missing, lease.root());
        layer::remove(cx.ids, lease.root())?;
        lease.release()?;
        done?;
        for (index, key) in &missing {
            let Some((slot, package)) = derived.get_mut(*index).zip(packages.get(*index)) else { continue };
            *slot = known(cx, &package.facts.cpv, key)?;
        }
    }
    let cpv = |index: usize| packages.get(index).map(|package| package.facts.cpv.clone());
    let all = derived.into_iter().enumerate();
    all.map(|(index, known)| known.ok_or_else(|| DeriveError::Gone(cpv(index)))).collect()
}

fn make_all(
    cx: &Context<'_>,
    packages: &[Package<'_>],
    missing: &[(usize, Digest)],
    scratch: &Path,
) -> Result<(), DeriveError> {
    layer::close(cx.ids, &cx.state.layers())?;
    layer::close(cx.ids, scratch)?;
    let mut records = Vec::new();
    for (index, key) in missing {
        let Some(package) = packages.get(*index) else { continue };
        let name = scratch.join(index.to_string());
        let outcome = make(cx, package, &name, None)?;
        records.extend(answers(cx, package, key, outcome));
    }
    save(cx, records, scratch)
}

/// Returns what is to be put on record of an outcome.
fn answers(cx: &Context<'_>, package: &Package<'_>, key: &Digest, outcome: Outcome) -> Vec<(Digest, Vec<u8>)> {
    let mut records = Vec::new();
    let came = match outcome {
        Outcome::Layer { digest, folders, files, accounts } => {
            let record = Record { accounts, ..Record::of((cx.ids.uid(), cx.ids.gid()), folders, files) };
            records.push((digest.clone(), json(&record)));
            Came::Layer(digest)
        }
        Outcome::NotStackable(reasons) => Came::NotStackable(reasons),
    };
    let answer = Answer { version: VERSION, cpv: package.facts.cpv.clone(), came };
    records.push((key.clone(), json(&answer)));
    records
}

/// Has everything so far written to the disk, and only then puts records in their places; they grow in `scratch`. One
/// request for all of them: each costs as much as a package.
fn save(cx: &Context<'_>, records: Vec<(Digest, Vec<u8>)>, scratch: &Path) -> Result<(), DeriveError> {
    let layers = cx.state.layers();
    let mut new = Vec::new();
    for (number, (digest, bytes)) in records.into_iter().enumerate() {
        let path = scratch.join(format!("{number}.json"));
        fs::write(&path, bytes)?;
        new.push((path, file(cx.state, &digest)));
    }
    sync(&layers)?;
    for (path, place) in new {
        fs::rename(&path, &place)?;
    }
    Ok(fs::sync_dir(&layers)?)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a record has only plain fields")
}

fn make(
    cx: &Context<'_>,
    package: &Package<'_>,
    scratch: &Path,
    merged: Option<&Merged<'_>>,
) -> Result<Outcome, DeriveError> {
    let base = cx.state.state();
    let below = |path: &Path| path.strip_prefix(base).unwrap_or(path).to_path_buf();
    let task = Task {
        identity: Identity::from(package.facts),
        merge: cx.merge.clone(),
        ground: cx.image.to_vec(),
        scratch: below(scratch),
        layers: below(&cx.state.layers()),
        merged: merged.map(|merged| merged.task(cx, base)),
    };
    let job = layer::Job::Derive(Box::new(task));
    let input = fs::open(package.file)?;
    let done = layer::run(cx.ids, base, &job, input.into()).and_then(layer::answer);
    // What was not moved to its place is of no use to anybody.
    layer::remove(cx.ids, scratch)?;
    done.map_err(|source| DeriveError::Package { file: package.file.to_path_buf(), source })
}

/// Returns what is on record.
fn known(cx: &Context<'_>, cpv: &Cpv, key: &Digest) -> Result<Option<Derived>, DeriveError> {
    let answer = fs::read_if_exists(&file(cx.state, key))?.and_then(|text| serde_json::from_str::<Answer>(&text).ok());
    Ok(match answer.filter(|answer| answer.version == VERSION && answer.cpv == *cpv).map(|answer| answer.came) {
        Some(Came::NotStackable(reasons)) => {
            collect::used(&file(cx.state, key));
            Some(Derived::NotStackable(reasons))
        }
        Some(Came::Layer(digest)) if record(cx, &digest)?.is_some() => {
            collect::used(&file(cx.state, key));
            let below = Path::new("layers").join(digest.hex());
            let folder = layer::short_name(cx.state, &digest, &below)?;
            Some(Derived::Layer(Layer { cpv: cpv.clone(), digest, folder }))
        }
        _ => None,
    })
}

/// Returns the record of a layer that is there.
pub(in crate::layer) fn record(cx: &Context<'_>, digest: &Digest) -> Result<Option<Record>, DeriveError> {
    let folder = cx.state.layers().join(digest.hex());
    let record = fs::read_if_exists(&file(cx.state, digest))?;
    let record = record.and_then(|text| serde_json::from_str::<Record>(&text).ok());
    match record.filter(|record| record.version == VERSION && folder.is_dir()) {
        Some(record) if (record.uid, record.gid) != (cx.ids.uid(), cx.ids.gid()) => {
            Err(DeriveError::OtherRange { folder, uid: record.uid, now: cx.ids.uid() })
        }
        Some(record) => {
            collect::used(&file(cx.state, digest));
            Ok(Some(record))
        }
        None => Ok(None),
    }
}

/// Writes the record of a layer that is in its place; `scratch` is a folder of the lease's.
pub(in crate::layer) fn save_record(
    cx: &Context<'_>,
    digest: &Digest,
    folders: BTreeSet<String>,
    files: BTreeSet<String>,
    scratch: &Path,
) -> Result<(), DeriveError> {
    let record = Record::of((cx.ids.uid(), cx.ids.gid()), folders, files);
    save(cx, vec![(digest.clone(), json(&record))], scratch)
}

fn file(state: &State, digest: &Digest) -> PathBuf {
    state.layers().join(format!("{}.json", digest.hex()))
}

/// Has the file system write what is in a folder.
fn sync(dir: &Path) -> Result<(), PathError> {
    let folder = fs::open(dir)?;
    rustix::fs::syncfs(&folder).map_err(|e| PathError::on("write to the disk what is in", dir)(e.into()))
}

/// Returns what names a request; `on` are the layers that the package's phases run on.
fn key(cx: &Context<'_>, package: &Package<'_>, on: Option<&[Layer]>) -> Digest {
    let range = (cx.ids.uid(), cx.ids.gid());
    let on = on.map(|on| on.iter().map(|layer| &layer.digest).collect::<Vec<_>>());
    let parts = (VERSION, Identity::from(package.facts), cx.image_digest, cx.merge, range, on);
    Digest::of(serde_json::to_vec(&parts).expect("these have only plain fields"))
}

/// Layers cannot be derived.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The lease could not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// Something could not be removed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The package is damaged, or there is no room.
    #[error("cannot derive a layer from `{}`", file.display())]
    Package {
        /// The package's file.
        file: PathBuf,
        /// Why.
        source: LayerError,
    },
    /// Somebody removed it at once.
    #[error("the layer of {} was removed while it was made; is somebody clearing the state?", .0.as_ref().map_or_else(String::new, ToString::to_string))]
    Gone(Option<Cpv>),
    /// The id range is another now.
    #[error("`{}` belongs to the id range from {uid}, and bindery now uses the one from {now}; use the former again, or another --state", folder.display())]
    OtherRange {
        /// The layer.
        folder: PathBuf,
        /// Whose it is.
        uid: u32,
        /// The range in use.
        now: u32,
    },
}
