//! Hides what an image holds beyond its base: one layer of whiteouts, right above the image (`docs/rooms.md`).
//!
//! ```text
//! layers/KEY/            whiteouts (character devices 0:0), and the folders they are in, like the image's
//! layers/KEY.json        like every layer's record
//! layers/KEY.base.json   which packages are seen, and what is hidden of which package
//! layers/KEY.dirs.json   all folders that the image has
//! ```
//!
//! KEY is a digest over image, base and id range. Made as a job of `__range` (`hide/inside.rs`), because the image belongs to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::fs;
use crate::layer::derive::{Context, DeriveError, record, save_record};
use crate::layer::{self, collect, short_name};
use crate::state::Lease;

mod debian;
mod inside;

pub(in crate::layer) use inside::{Task, hide as job};

/// The version of the records, and of what is made.
const VERSION: u32 = 1;

/// What of an image builds see.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Packages of the image, which are seen with all that they depend on.
    pub packages: Vec<String>,
    /// Packages that are hidden although others depend on them.
    pub without: Vec<String>,
}

/// What an image hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// The layer's short name, relative to [`crate::state::State::state`].
    pub layer: PathBuf,
    /// Names image and layer together.
    pub digest: Digest,
    /// The image's packages that are seen.
    pub seen: BTreeSet<String>,
    /// The paths that are hidden, by package; relative to the root.
    pub hidden: BTreeMap<String, BTreeSet<String>>,
}

/// What the job found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Made {
    version: u32,
    seen: BTreeSet<String>,
    hidden: BTreeMap<String, BTreeSet<String>>,
    /// All that the image has.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    all_folders: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    folders: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    whiteouts: BTreeSet<String>,
}

/// Returns what an image hides beyond its base, made now where it is not there yet; how packages are merged does not count.
pub fn hide(cx: &Context<'_>, base: &Base) -> Result<Hidden, DeriveError> {
    let parts = ("hidden", VERSION, base, cx.image_digest, (cx.ids.uid(), cx.ids.gid()));
    let key = Digest::of(serde_json::to_vec(&parts).expect("these have only plain fields"));
    let _in_use = collect::in_use(cx.state)?;
    if known(cx, &key)?.is_none() {
        let lease = Lease::take(cx.state, "hiding what an image holds beyond its base")?;
        let done = make(cx, base, &key, &lease);
        layer::remove(cx.ids, lease.root())?;
        lease.release()?;
        done?;
    }
    let Made { seen, hidden, .. } = known(cx, &key)?.ok_or(DeriveError::Gone(None))?;
    let layer = short_name(cx.state, &key, &Path::new("layers").join(key.hex()))?;
    Ok(Hidden { layer, digest: key, seen, hidden })
}

/// Returns all folders that the image has, relative to the root; nothing where that is not on record any more.
pub fn folders(cx: &Context<'_>, hidden: &Hidden) -> Option<BTreeSet<String>> {
    serde_json::from_str(&fs::read_if_exists(&file(cx, &hidden.digest, "dirs")).ok()??).ok()
}

fn known(cx: &Context<'_>, key: &Digest) -> Result<Option<Made>, DeriveError> {
    if record(cx, key)?.is_none() || !file(cx, key, "dirs").exists() {
        return Ok(None);
    }
    ["base", "dirs"].iter().for_each(|what| collect::used(&file(cx, key, what)));
    let made = fs::read_if_exists(&file(cx, key, "base"))?.and_then(|text| serde_json::from_str::<Made>(&text).ok());
    Ok(made.filter(|made| made.version == VERSION))
}

fn make(cx: &Context<'_>, base: &Base, key: &Digest, lease: &Lease) -> Result<(), DeriveError> {
    layer::close(cx.ids, &cx.state.layers())?;
    layer::close(cx.ids, lease.root())?;
    let below = |path: &Path| path.strip_prefix(cx.state.state()).unwrap_or(path).to_path_buf();
    let task = Task {
        base: base.clone(),
        image: cx.image.to_vec(),
        scratch: below(lease.root()).join("hidden"),
        place: Path::new("layers").join(key.hex()),
    };
    let job = layer::Job::Hide(Box::new(task));
    let run = layer::run(cx.ids, cx.state.state(), &job, std::process::Stdio::null());
    let mut made: Made = layer::answer(run?)?;
    let (folders, whiteouts) = (std::mem::take(&mut made.folders), std::mem::take(&mut made.whiteouts));
    let all = std::mem::take(&mut made.all_folders);
    // Before the record, without which they count for nothing.
    fs::write_atomic(&file(cx, key, "dirs"), serde_json::to_vec(&all).expect("it has only text"), 0o644)?;
    fs::write_atomic(&file(cx, key, "base"), serde_json::to_vec(&made).expect("it has only plain fields"), 0o644)?;
    save_record(cx, key, folders, whiteouts, lease.root())
}

fn file(cx: &Context<'_>, key: &Digest, what: &str) -> PathBuf {
    cx.state.layers().join(format!("{}.{what}.json", key.hex()))
}
