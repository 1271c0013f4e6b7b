//! Makes the topmost layer of a stack: what Portage makes anew after a merge, from all that is there then.
//!
//! 1. A job of the range reads `/etc/env.d` of the stack, and writes what `env-update` would ([`super::environment`]); and
//!    the files of users and groups, where packages bring some ([`accounts`]).
//! 2. On top of that, the root's own `ldconfig -X` runs in a sandbox, as Portage runs it, and leaves `/etc/ld.so.cache`.
//! 3. The job again, which now takes that one file from what the sandbox wrote, and moves the layer to its place.
//!
//! The layer is named by the digest of the list of layers it follows from and kept like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::{StackError, environment};
use crate::digest::Digest;
use crate::fs::{self, File, PathError};
use crate::layer::accounts::{self, Accounts, FORMS};
use crate::layer::derive::{
    Attributes, Context, DeriveError, Found, Ground as _, Layer, Layers, Merge, PlaceError, Placer, regular,
    save_record, settle,
};
use crate::layer::unpack::{Filling, UnpackError};
use crate::layer::{self, beneath::Beneath};
use crate::package::DEFAULT_SOURCE_DATE;
use crate::process;
use crate::root::{self, Command, Limits, Network, Root};
use crate::sandbox::{self, Request, Status, Stdio};
use crate::state::Lease;

/// To be raised with every change of what is made.
const VERSION: u32 = 2;
const ENVIRONMENT: &str = "etc/env.d";
const LD_SO_CONF: &str = "etc/ld.so.conf";
const CACHE: &str = "etc/ld.so.cache";
/// The longest file of /etc/env.d and its like, in bytes.
const SMALL: u64 = 1 << 20;
/// The longest file of accounts, and the longest list of what comes into them, in bytes.
const ACCOUNTS: u64 = 16 << 20;
/// The longest cache: one of a full desktop has 200 KiB.
const CACHE_LIMIT: u64 = 64 << 20;
/// From how many bytes on nothing more is kept of what `ldconfig` says.
const SAID: usize = 64 << 10;
/// The most links on one way, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// What is to be done. Paths are relative to the working folder. Standard input is a list of what packages bring to the
/// files of users and groups.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Task {
    /// The stack, top first.
    layers: Vec<PathBuf>,
    /// Where the layer grows.
    pub(in crate::layer) scratch: PathBuf,
    /// What a sandbox wrote, and the layer's place: the second time.
    last: Option<(PathBuf, PathBuf)>,
}

/// What the job found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Made {
    folders: BTreeSet<String>,
    files: BTreeSet<String>,
    /// Whether the root has an `ldconfig`.
    ldconfig: bool,
}

/// A file that is made: its path, what it holds, and its owner, mode and time.
type Generated = (&'static str, Vec<u8>, Attributes);

/// Returns the name of the layer for a stack.
pub(super) fn key(cx: &Context<'_>, layers: &[Layer]) -> Digest {
    let layers: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
    let parts = ("refresh", VERSION, layers, cx.image_digest, (cx.ids.uid(), cx.ids.gid()));
    Digest::of(serde_json::to_vec(&parts).expect("these have only plain fields"))
}

/// Makes the layer; `accounts` is what packages bring, in their order.
pub(super) fn make(
    cx: &Context<'_>,
    layers: &[Layer],
    accounts: &[&Accounts],
    digest: &Digest,
    cancel: &AtomicBool,
) -> Result<(), StackError> {
    let mut lease = Lease::take(cx.state, "making what a stack of layers needs")?;
    let done = make_in(cx, layers, accounts, digest, &mut lease, cancel);
    layer::remove(cx.ids, lease.root())?;
    lease.release()?;
    done
}

fn make_in(
    cx: &Context<'_>,
    layers: &[Layer],
    accounts: &[&Accounts],
    digest: &Digest,
    lease: &mut Lease,
    cancel: &AtomicBool,
) -> Result<(), StackError> {
    let base = cx.state.state();
    layer::close(cx.ids, lease.root()).map_err(DeriveError::from)?;
    let folder = lease.root().strip_prefix(base).unwrap_or(lease.root()).to_path_buf();
    let stack: Vec<PathBuf> = layers.iter().map(|layer| &layer.folder).chain(cx.image).cloned().collect();
    let input = lease.root().join("accounts.json");
    let text = serde_json::to_vec(accounts).expect("these have only plain fields");
    fs::write(&input, text).map_err(DeriveError::from)?;
    let run = |task: Task| -> Result<Made, StackError> {
        let job = layer::Job::Refresh(Box::new(task));
        let input = fs::open(&input).map_err(DeriveError::from)?;
        Ok(layer::answer(layer::run(cx.ids, base, &job, input.into())?)?)
    };
    let scratch = folder.join("environment");
    let first = run(Task { layers: stack.clone(), scratch: scratch.clone(), last: None })?;
    if first.ldconfig {
        let lower = [scratch].into_iter().chain(stack.iter().cloned()).collect();
        ldconfig(cx, Root { lower, upper: Some(folder.clone()) }, lease, cancel)?;
    }
    let place = Path::new("layers").join(digest.hex());
    let last = Some((folder.join("upper"), place));
    let made = run(Task { layers: stack, scratch: folder.join("refresh"), last })?;
    Ok(save_record(cx, digest, made.folders, made.files, lease.root())?)
}

fn ldconfig(cx: &Context<'_>, root: Root, lease: &mut Lease, cancel: &AtomicBool) -> Result<(), StackError> {
    let command = Command {
        args: ["/sbin/ldconfig", "-X"].map(str::to_string).to_vec(),
        env: vec![("PATH".to_string(), "/usr/sbin:/usr/bin:/sbin:/bin".to_string())],
        cwd: "/".parse().expect("it is an absolute path"),
        terminal: false,
    };
    let mut spec = root::spec(&root, &[], &[], &command, &Limits::default(), Network::None);
    if let Some(emulator) = cx.emulator {
        root::emulate(&mut spec, &emulator.machine, &emulator.program);
    }
    let mut said = Vec::new();
    let mut sink = |_, bytes: &[u8]| {
        if said.len() < SAID {
            said.extend_from_slice(bytes);
        }
    };
    let (ids, base, stdio) = (cx.ids, cx.state.state(), Stdio::Capture(&mut sink));
    let exit = sandbox::run(Request { spec: &spec, ids, base, lease, stdio, cancel })?;
    match exit.status {
        Status::Code(0) if exit.stopped.is_none() => Ok(()),
        status => Err(StackError::Ldconfig(format!("ended with {status:?}: {}", process::tail(&said)))),
    }
}

/// Does the job.
pub(in crate::layer) fn job(task: &Task) -> Result<Made, RefreshJobError> {
    let ground = Layers::open(&task.layers)?;
    let mut files = BTreeMap::new();
    for name in names(&ground)? {
        if let Some(bytes) = read(&ground, &Path::new(ENVIRONMENT).join(&name))? {
            files.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    let conf = read(&ground, Path::new(LD_SO_CONF))?.unwrap_or_default();
    let made = environment::generate(&files, &String::from_utf8_lossy(&conf)).map_err(RefreshJobError::Environment)?;
    let mut made: BTreeMap<_, _> = made.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
    if let Some((upper, _)) = &task.last
        && let Some(bytes) = open(&Beneath::open(upper)?, Path::new(CACHE), CACHE_LIMIT)?
    {
        made.insert(CACHE, bytes);
    }
    let usual = Attributes { mode: 0o644, uid: 0, gid: 0, mtime: DEFAULT_SOURCE_DATE };
    let mut made: Vec<Generated> = made.into_iter().map(|(path, bytes)| (path, bytes, usual)).collect();
    made.extend(account_files(&ground)?);
    made.sort_by_key(|(path, ..)| *path);
    let merge = Merge::default();
    let mut placer = Placer::new(&ground, &merge);
    let mut layer = Filling::new(&task.scratch)?;
    for (path, bytes, attributes) in &made {
        let placed = placer.add_with(path, bytes.len() as u64, *attributes)?;
        for member in placed.folders.iter().chain(&placed.entry) {
            layer.add(member, &mut bytes.as_slice())?;
        }
    }
    layer.finish()?;
    if let Some((_, place)) = &task.last {
        settle(&task.scratch, place)?;
    }
    let ldconfig = match ground.follow(Path::new(""), Path::new("sbin"))? {
        Some((sbin, _)) => ground.look(&sbin.join("ldconfig"))?.is_some(),
        None => false,
    };
    let [folders, files] = placer.contents();
    Ok(Made { folders, files, ldconfig })
}

/// Returns the files of users and groups that packages add something to.
fn account_files(ground: &Layers) -> Result<Vec<Generated>, RefreshJobError> {
    let mut text = Vec::new();
    io::stdin().lock().take(ACCOUNTS).read_to_end(&mut text).map_err(RefreshJobError::Input)?;
    let records: Vec<Accounts> = serde_json::from_slice(&text).map_err(|e| RefreshJobError::Input(e.into()))?;
    let mut made = Vec::new();
    for form in &FORMS {
        let path = Path::new(form.path);
        let there = match ground.find(path)? {
            Some((number, _)) => {
                ground.layer(number).map(|layer| regular(layer, path, ACCOUNTS)).transpose()?.flatten()
            }
            None => None,
        };
        let (text, attributes) = match there {
            Some((bytes, stat)) => (String::from_utf8_lossy(&bytes).into_owned(), Attributes::from(&stat)),
            None => (String::new(), Attributes { mode: form.mode, uid: 0, gid: 0, mtime: DEFAULT_SOURCE_DATE }),
        };
        if let Some(text) = accounts::merged(form, &text, &records) {
            let attributes = Attributes { mtime: DEFAULT_SOURCE_DATE, ..attributes };
            made.push((form.path, text.into_bytes(), attributes));
        }
    }
    Ok(made)
}

/// Returns the names of the files in /etc/env.d that count.
fn names(ground: &Layers) -> Result<BTreeSet<String>, PathError> {
    let mut names = BTreeSet::new();
    for layer in ground.each() {
        let Some(folder) = folder(layer, Path::new(ENVIRONMENT))? else { continue };
        let found = fs::names(&folder).map_err(layer.fail("list", Path::new(ENVIRONMENT)))?;
        let found = found.iter().filter_map(|name| name.to_str().ok().map(str::to_string));
        names.extend(found.filter(|name| environment::counts(name)));
    }
    Ok(names)
}

/// Returns what a file of the stack holds, following links.
fn read(ground: &Layers, path: &Path) -> Result<Option<Vec<u8>>, RefreshJobError> {
    let mut at = path.to_path_buf();
    for _ in 0..LINKS {
        let above = at.parent().unwrap_or(Path::new("")).to_path_buf();
        match ground.look(&at)? {
            Some(Found::File) => {
                for layer in ground.each() {
                    if let Some(bytes) = open(layer, &at, SMALL)? {
                        return Ok(Some(bytes));
                    }
                }
                return Ok(None);
            }
            Some(Found::Link(target)) => {
                let Some(name) = target.file_name() else { return Ok(None) };
                let folder = match target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    Some(parent) => ground.follow(&above, parent)?.map(|(folder, _)| folder),
                    None => Some(above),
                };
                let Some(folder) = folder else { return Ok(None) };
                at = folder.join(name);
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Returns what a regular file of one layer holds.
fn open(layer: &Beneath, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RefreshJobError> {
    let Some(folder) = folder(layer, path.parent().unwrap_or(Path::new("")))? else { return Ok(None) };
    let name = path.file_name().unwrap_or(OsStr::from_bytes(b"."));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(layer.fail("open", path)(e).into()),
    };
    let stat = fstat(&file).map_err(layer.fail("look at", path))?;
    let mut bytes = Vec::new();
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let read = File::from(file).take(limit + 1).read_to_end(&mut bytes);
    read.map_err(layer.fail::<io::Error>("read", path))?;
    if !regular || bytes.len() as u64 > limit {
        return Err(RefreshJobError::Odd { path: path.to_path_buf(), limit });
    }
    Ok(Some(bytes))
}

fn folder(layer: &Beneath, path: &Path) -> Result<Option<std::os::fd::OwnedFd>, PathError> {
    match layer.folder(path) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(layer.fail("open", path)(e)),
    }
}

/// The layer cannot be made.
#[derive(Debug, thiserror::Error)]
pub(in crate::layer) enum RefreshJobError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file has no place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] UnpackError),
    /// What packages bring is not there.
    #[error("cannot take users and groups from standard input")]
    Input(#[source] io::Error),
    /// Portage would end with an exception.
    #[error("`/etc/env.d/{0}` cannot be read as settings: a quote or backslash is left open; mend the ebuild")]
    Environment(String),
    /// Not a file of a reasonable length.
    #[error("`/{}` is no regular file of at most {limit} bytes", path.display())]
    Odd {
        /// Which.
        path: PathBuf,
        /// In bytes.
        limit: u64,
    },
}
