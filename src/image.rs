//! Images: where a root filesystem starts.
//!
//! A definition ([`Definition`]) says what an image is made of; [`make`] makes it, with a lock ([`Lock`]) of what exactly
//! went in; it is kept as an OCI image layout (`layout`), and its one layer is unpacked once, into a folder that the
//! id range owns and nobody ever changes.
//!
//! ```text
//! definition ──apt, pip──► downloads ──in the id range──► root ──pack──► layer ──► image NAME + NAME.lock
//!                                                                           └─unpack──► unpacked/HEX ◄── l/SHORT
//! ```
//!
//! The manifest's digest is a function of the definition, the packages and this program: nothing in the image says when,
//! where or by whom it was made. All times are at most the definition's `source-date`, which is also when the image
//! says it was created.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::atom::Name;
use crate::config::Uri;
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::fs::{self, PathError};
use crate::layer::{self, Limits, Source};
use crate::process;
use crate::sandbox::{Emulator, IdRange, architectures, foreign, range};
use crate::state::{Lease, State};
use places::Places;

mod apt;
mod cross;
mod customise;
mod debian;
mod definition;
mod error;
mod files;
mod inside;
mod layout;
mod lock;
mod parameters;
mod places;
mod tools;
mod turn;
mod wheel;

pub use apt::AptError;
pub use cross::Cross;
pub use definition::{
    Archive, Base, Definition, DefinitionError, Folder, Group, Kind, Recipe, Replacement, SourceDate, Text, User,
    Wheel, Word,
};
pub use error::ImageError;
pub use layout::{LayoutError, Origin};
pub use lock::{Deb, Lock, LockError};
pub use tools::FOLDER as TOOLS;
pub use turn::{Turn, turn};
pub use wheel::WheelError;

/// Free space that making an image must find: downloads, the root, and the same once more unpacked.
const SPACE: u64 = 2 << 30;

/// What everything here needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Where images are kept.
    pub state: &'a State,
    /// Who owns what is unpacked.
    pub ids: &'a IdRange,
    /// Where archives are served, by label; for others the host's own apt is asked.
    pub archives: &'a BTreeMap<String, Uri>,
    /// Set when the user wants no more of it.
    pub cancel: &'a AtomicBool,
}

/// Which packages an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The newest there are.
    Newest,
    /// Exactly those of a lock.
    Locked(Lock),
}

/// An image that is made and unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: Name,
    /// The digest of its OCI manifest.
    pub digest: Digest,
    /// What names the content of its layers: the same, unless native tools lie on top of the image's own.
    pub ground: Digest,
    /// The image without these, where they do.
    pub plain: Option<Box<Image>>,
    /// Its layers' folders, the top one first, relative to [`State::state`].
    pub layers: Vec<PathBuf>,
    /// Environment of every command in it.
    pub env: Vec<(String, String)>,
    /// What it was made of.
    pub origin: Origin,
    /// What runs its programs, where this machine cannot by itself and whoever asked for the image saw to it.
    pub emulator: Option<Emulator>,
}

/// Written beside an unpacked layer once all of it is there.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Marker {
    version: u32,
    /// The host's ids of the range's 0: files belong to them and those above.
    uid: u32,
    gid: u32,
}

/// Makes an image, in place of the one that had its name. Folders of earlier ones stay: a build may be using them. One for
/// another machine takes an emulator.
pub fn make(
    cx: &Context<'_>,
    turn: Turn,
    definition: &Definition,
    mode: &Mode,
    emulator: Option<&Emulator>,
    events: Sink<'_>,
) -> Result<Image, ImageError> {
    let name = &definition.name;
    for (program, package) in [("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("setpriv", "util-linux")] {
        process::find(program).ok_or(ImageError::NoProgram { program, package })?;
    }
    let architecture = &definition.recipe.architecture;
    if definition.recipe.kind == Kind::Debian && emulator.is_none() && foreign(architecture.as_str()).is_some() {
        return Err(ImageError::Foreign { name: name.clone(), architecture: architecture.clone() });
    }
    if !architectures().any(|known| known == architecture.as_str()) {
        return Err(ImageError::NoMachine { name: name.clone(), architecture: architecture.clone() });
    }
    check_space(cx.state.state())?;
    events(Event::ImageStarted { image: name.clone() });
    let mut lease = Lease::take(cx.state, &format!("making the image {name}"))?;
    let tmp = cx.state.downloads().join(format!(".{}", lease.id()));
    let blob = cx.state.blobs().join(format!(".{}", lease.id()));
    let places = Places { tmp, blob, scratch: lease.root().to_path_buf() };
    let made = places.open(cx, &mut lease).and_then(|()| make_in(cx, definition, mode, emulator, &places, events));
    // The first failure is the one to tell of; what is left then, the lease's reaper removes.
    let cleared = places.clear(cx).and_then(|()| Ok(lease.release()?));
    // What was stopped in the midst says something else.
    let stopped = |error| if cx.cancel.load(Ordering::Relaxed) { ImageError::Cancelled } else { error };
    let image = made.map_err(stopped)?;
    cleared?;
    events(Event::ImageReady { image: name.clone(), digest: image.digest.clone(), cached: false });
    drop(turn);
    Ok(image)
}

fn make_in(
    cx: &Context<'_>,
    definition: &Definition,
    mode: &Mode,
    emulator: Option<&Emulator>,
    Places { tmp, blob, scratch }: &Places,
    events: Sink<'_>,
) -> Result<Image, ImageError> {
    let Definition { name, recipe, .. } = definition;
    let apt = apt::Apt::new(&tmp.join("apt"), recipe, cx)?;
    let parts = match mode {
        Mode::Newest => debian::newest(recipe, &apt, events)?,
        Mode::Locked(lock) => debian::locked(cx, definition, lock, &apt, events)?,
    };
    go_on(cx)?;
    debian::fetch(cx, &parts, &apt, tmp, events)?;
    go_on(cx)?;
    let root = debian::assemble(cx, recipe, &parts, scratch, emulator, events)?;
    debian::step(events, "packing the image");
    let mut writer = layout::LayerWriter::new(blob)?;
    layer::pack(cx.ids, &root, recipe.source_date.seconds(), &mut |bytes| writer.take(bytes))?;
    let blob = writer.finish()?;
    go_on(cx)?;
    let debian::Parts { debs, wheels } = parts;
    let definition = definition.digest();
    let mut lock =
        Lock::new(name.clone(), definition.clone(), definition.clone(), vec![blob.diff_id.clone()], &debs, &wheels);
    if let Mode::Locked(wanted) = mode
        && wanted.layers != lock.layers
    {
        let (found, wanted) = (blob.diff_id, wanted.layers.first().cloned());
        return Err(ImageError::Different { name: name.clone(), found, wanted });
    }
    let about = layout::About {
        architecture: recipe.architecture.as_str(),
        created: recipe.source_date.as_str(),
        origin: &Origin { definition, debs: lock.debs.clone(), wheels: lock.wheels.clone() },
        env: recipe.environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
    };
    let stored = layout::store(cx.state, &about, vec![blob])?;
    if let Mode::Locked(wanted) = mode
        && wanted.manifest != stored.manifest
    {
        let what =
            format!("`{name}` has the content that its lock names and another digest: this bindery packs differently");
        events(Event::Warning { what });
    }
    debian::step(events, "unpacking the image");
    let mut image = ready(cx, name, stored, Some(scratch))?;
    image.emulator = emulator.cloned();
    lock.manifest = image.digest.clone();
    layout::name(cx.state, name, &image.digest)?;
    lock.save(&lock_file(cx.state, name))?;
    Ok(image)
}

/// Finds a made image by its name. Its documents are checked, and that its layers are unpacked; where one is not, it is
/// unpacked again.
pub fn find(cx: &Context<'_>, name: &Name) -> Result<Option<Image>, ImageError> {
    let damaged = |source| ImageError::Damaged { name: name.clone(), source };
    let Some(stored) = layout::find(cx.state, name).map_err(damaged)? else { return Ok(None) };
    ready(cx, name, stored, None).map(Some)
}

/// Returns the names of all made images.
pub fn list(state: &State) -> Result<Vec<Name>, ImageError> {
    Ok(layout::list(state)?)
}

/// Reads everything of a made image and compares its digests: the blobs, and the unpacked layers packed again.
pub fn verify(cx: &Context<'_>, name: &Name) -> Result<(), ImageError> {
    let damaged = |source| ImageError::Damaged { name: name.clone(), source };
    let stored = layout::find(cx.state, name).map_err(damaged)?.ok_or_else(|| ImageError::NotMade(name.clone()))?;
    for layer in &stored.layers {
        layout::verify(cx.state, &layer.digest).map_err(damaged)?;
        let folder = cx.state.unpacked().join(layer.diff_id.hex());
        if folder.exists() {
            let mut hash = <sha2::Sha256 as sha2::Digest>::new();
            layer::pack(cx.ids, &folder, u64::MAX, &mut |bytes| {
                sha2::Digest::update(&mut hash, bytes);
                Ok(())
            })?;
            if Digest::from(<[u8; 32]>::from(sha2::Digest::finalize(hash))) != layer.diff_id {
                return Err(ImageError::Changed { name: name.clone(), folder });
            }
        }
    }
    Ok(())
}

/// Returns where the lock of a made image is kept.
pub fn lock_file(state: &State, name: &Name) -> PathBuf {
    state.images().join(format!("{name}.lock"))
}

/// Finds the lock for making an image again: beside its definition, else that of the last making.
pub fn find_lock(state: &State, definition: &Definition) -> Result<Lock, ImageError> {
    let beside = definition.file.as_ref().map(|file| file.with_extension("lock"));
    for file in beside.into_iter().chain([lock_file(state, &definition.name)]) {
        if let Some(lock) = Lock::load(&file)? {
            return Ok(lock);
        }
    }
    Err(ImageError::NoLock(definition.name.clone()))
}

/// Runs a hidden entry point (`__range JOB`), when the program's arguments (its name first) ask for one: the jobs of this
/// module and of [`layer`]. Must be called before anything else, while there is one thread.
pub fn entry(args: &[OsString]) -> Option<ExitCode> {
    let done = range::enter(args)?.map_err(|e| process::chain(&e)).and_then(|job| match job.as_str() {
        inside::NAME => debian::job(),
        text => layer::job(text).unwrap_or_else(|| Err("this is no job".to_string())),
    });
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // This is the channel to the process that started the job, not to people.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    })
}

/// Has the layers unpacked, and returns the image.
fn ready(cx: &Context<'_>, name: &Name, stored: layout::Stored, scratch: Option<&Path>) -> Result<Image, ImageError> {
    let mut layers = Vec::new();
    for layer in &stored.layers {
        let folder = Path::new("images/unpacked").join(layer.diff_id.hex());
        unpack(cx, name, layer, &folder, scratch)?;
        layers.push(layer::short_name(cx.state, &layer.diff_id, &folder)?);
    }
    // The archive's order is from the bottom up.
    layers.reverse();
    let (digest, env, origin) = (stored.manifest, stored.env, stored.origin);
    let (name, ground) = (name.clone(), digest.clone());
    Ok(Image { name, digest, ground, plain: None, layers, env, origin, emulator: None })
}

fn unpack(
    cx: &Context<'_>,
    name: &Name,
    blob: &layout::LayerBlob,
    folder: &Path,
    scratch: Option<&Path>,
) -> Result<(), ImageError> {
    let full = cx.state.state().join(folder);
    let file = full.with_extension("json");
    let wanted = Marker { version: 1, uid: cx.ids.uid(), gid: cx.ids.gid() };
    let marker = fs::read_if_exists(&file)?.and_then(|text| serde_json::from_str::<Marker>(&text).ok());
    match marker {
        Some(marker) if full.is_dir() && marker == wanted => return Ok(()),
        Some(marker) if full.is_dir() => {
            return Err(ImageError::OtherRange { folder: full, uid: marker.uid, now: cx.ids.uid() });
        }
        // Without its marker nobody knows whether all of it is there. Nobody can be using it either.
        _ if full.exists() => layer::remove(cx.ids, &full)?,
        _ => {}
    }
    layer::close(cx.ids, &cx.state.unpacked())?;
    let lease = match scratch {
        Some(_) => None,
        None => Some(Lease::take(cx.state, &format!("unpacking the image {name}"))?),
    };
    let dir = lease.as_ref().map_or(scratch, |lease| Some(lease.root())).unwrap_or(cx.state.state()).to_path_buf();
    layer::close(cx.ids, &dir)?;
    let path = cx.state.blob(&blob.digest);
    let source = Source { file: fs::open(&path)?, zstd: true, diff_id: blob.diff_id.clone() };
    let below = dir.strip_prefix(cx.state.state()).unwrap_or(&dir).join("unpacked");
    let done = layer::unpack(cx.ids, source, cx.state.state(), &below, folder, Limits::default());
    if let Some(lease) = lease {
        layer::remove(cx.ids, &dir)?;
        lease.release()?;
    }
    done.map_err(|source| ImageError::Unpack { name: name.clone(), file: path, source })?;
    Ok(fs::write_atomic(&file, serde_json::to_vec(&wanted).expect("a marker has only plain fields"), 0o644)?)
}

fn go_on(cx: &Context<'_>) -> Result<(), ImageError> {
    if cx.cancel.load(Ordering::Relaxed) { Err(ImageError::Cancelled) } else { Ok(()) }
}

fn check_space(dir: &Path) -> Result<(), ImageError> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| PathError::on("look at the disk of", dir)(e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < SPACE { Err(ImageError::Space { dir: dir.to_path_buf(), free: free >> 20 }) } else { Ok(()) }
}
