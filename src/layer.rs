//! Immutable folders that roots are stacked from: packing, unpacking, measuring and removing them.
//!
//! Everything in a layer belongs to the id range, so the work is done by a *job*: this same program, started again as
//! uid 0 of the range ([`crate::sandbox::range`]), where it may touch what the range owns and nothing else of the host.
//! A job is one JSON object in its command line; archives come and go through its standard streams; it prints its
//! result as JSON, or fails with one line on standard error.
//!
//! ```text
//! folder ──pack──► tar (canonical: one archive for one content) ──zstd──► blob
//! blob ──zstd──► tar ──unpack, strict──► STATE/roots/LEASE/… ──rename──► its place
//! ```
//!
//! Folders that layers lie in are closed to everyone else ([`close`]): a layer may hold set-user-id programs, which must
//! not be within reach of the host's other users.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::fs::{self, File, PathError};
use crate::process;
use crate::sandbox::{self, IdRange, range};

mod accounts;
mod archive;
mod beneath;
pub mod collect;
mod copy;
pub mod derive;
pub mod hide;
mod list;
mod pack;
mod pax;
mod short;
pub mod stack;
pub mod traces;
mod unpack;
mod usage;

pub use archive::{Archive, ArchiveError, Kind, Limits, Member};
pub(crate) use beneath::Beneath;
pub use list::list;
pub use pack::PackError;
pub use short::short_name;
pub use unpack::{UnpackError, Unpacked};

/// The largest window a compressed layer may ask for, as a power of two: what zstd accepts by default.
const WINDOW_LOG_MAX: u32 = 27;

/// What is to be done as uid 0 of the range. Paths are relative to the job's working folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case", deny_unknown_fields)]
enum Job {
    /// Unpacks standard input into `scratch`, checks its digest, and renames it to `into`.
    Unpack {
        scratch: PathBuf,
        into: PathBuf,
        zstd: bool,
        diff_id: Digest,
        limits: Limits,
    },
    /// Packs `from` onto standard output.
    Pack {
        from: PathBuf,
        newest: u64,
    },
    /// Copies `layers`, relative to the folder that is standard input, into the working folder.
    Copy {
        layers: Vec<PathBuf>,
    },
    Remove {
        path: PathBuf,
    },
    Usage {
        path: PathBuf,
    },
    /// Derives a layer from the package that is standard input.
    Derive(Box<derive::Task>),
    /// Makes what a stack of layers needs beside them.
    Refresh(Box<stack::refresh::Task>),
    /// Makes the layer that hides what an image holds beyond its base.
    Hide(Box<hide::Task>),
    /// Looks for files in the package that is standard input.
    List(Box<list::Task>),
}

/// An archive to unpack.
#[derive(Debug)]
pub struct Source {
    /// The archive, from its first byte.
    pub file: File,
    /// Whether it is compressed.
    pub zstd: bool,
    /// The SHA-256 of the archive when it is not compressed.
    pub diff_id: Digest,
}

/// Unpacks an archive into the new folder `into`; `scratch`, on the same file system, is where it grows, and is the
/// caller's to remove after a failure. Both folders' parents belong to the range ([`close`]), and both paths are
/// relative to `base`.
pub fn unpack(
    ids: &IdRange,
    source: Source,
    base: &Path,
    scratch: &Path,
    into: &Path,
    limits: Limits,
) -> Result<Unpacked, LayerError> {
    let Source { file, zstd, diff_id } = source;
    let job = Job::Unpack { scratch: scratch.into(), into: into.into(), zstd, diff_id, limits };
    answer(run(ids, base, &job, file.into())?)
}

/// Packs a folder: `sink` gets the archive. Times after `newest`, in seconds since 1970, become `newest`.
pub fn pack(
    ids: &IdRange,
    from: &Path,
    newest: u64,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), LayerError> {
    let (base, name) = split(from)?;
    let job = Job::Pack { from: name, newest };
    let mut command = range::command(ids, base, &json(&job));
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(LayerError::start("pack", from))?;
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut buffer = vec![0; 1 << 17];
    let taken = loop {
        match stdout.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => {
                if let Err(e) = sink(&buffer[..n]) {
                    break Err(e);
                }
            }
            Err(e) => break Err(e),
        }
    };
    // Whoever is still writing gets EPIPE, so waiting ends.
    drop(stdout);
    let output = child.wait_with_output().map_err(LayerError::start("pack", from))?;
    taken.map_err(LayerError::Sink)?;
    if output.status.success() {
        return Ok(());
    }
    Err(LayerError::Job { what: "pack", path: from.to_path_buf(), message: process::tail(&output.stderr) })
}

/// Copies layers, the top one first and relative to `base`, into the new folder `name` of the folder `dir`, which is the
/// caller's or the range's.
pub fn flatten(ids: &IdRange, base: &Path, layers: &[PathBuf], dir: &Path, name: &str) -> Result<(), LayerError> {
    // Only this folder, made here, is the range's to write in: root's own stay root's.
    let made = dir.join(name);
    fs::create_dir_new(&made, 0o700)?;
    open_to_range(ids, &made)?;
    answer(run(ids, &made, &Job::Copy { layers: layers.to_vec() }, fs::open(base)?.into())?)
}

/// Removes a file or a whole folder that the range owns, and a file system of its own with it; what is not there is no
/// error.
pub fn remove(ids: &IdRange, path: &Path) -> Result<(), LayerError> {
    let (base, name) = split(path)?;
    if fs::symlink_metadata(path).is_err_and(|e| e.source.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    // What a sandbox has emptied itself needs no other process.
    if fs::remove_if_empty(path) {
        return Ok(());
    }
    sandbox::unmount(path);
    answer::<()>(run(ids, base, &Job::Remove { path: name }, Stdio::null())?)?;
    // The folder above may be ours: then what is empty now is left to us.
    Ok(fs::remove_dir_all(path)?)
}

/// Removes a file or a whole folder of this user's, with what the range may have put into it; what is not there is no
/// error.
pub fn clear(ids: &IdRange, path: &Path) -> Result<(), LayerError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.source.kind() == io::ErrorKind::NotADirectory => Ok(fs::remove_file(path)?),
        // Of the range's folders an ordinary user may not remove what is in them.
        Err(e) if e.source.kind() == io::ErrorKind::PermissionDenied && !ids.is_roots() => remove(ids, path),
        other => Ok(other?),
    }
}

/// Returns how many bytes of disk a folder that the range owns takes.
pub fn usage(ids: &IdRange, path: &Path) -> Result<u64, LayerError> {
    let (base, name) = split(path)?;
    answer(run(ids, base, &Job::Usage { path: name }, Stdio::null())?)
}

/// Closes a folder that layers are to lie in to everyone but the range and, for an ordinary user, that user.
pub fn close(ids: &IdRange, dir: &Path) -> Result<(), PathError> {
    fs::create_dir_all(dir)?;
    fs::set_mode(dir, 0o700)?;
    open_to_range(ids, dir)
}

/// Lets the range write in a folder. An ordinary user's it may anyway, and so may the user still.
pub fn open_to_range(ids: &IdRange, dir: &Path) -> Result<(), PathError> {
    if ids.is_roots() { range::give(ids, dir) } else { Ok(()) }
}

/// Does a job, when the text is one of this module's: what `__range` calls, inside the range.
pub fn job(text: &str) -> Option<Result<(), String>> {
    let job = serde_json::from_str(text).ok()?;
    Some(perform(job))
}

fn perform(job: Job) -> Result<(), String> {
    match job {
        Job::Unpack { scratch, into, zstd, diff_id, limits } => {
            let stdin = io::stdin().lock();
            let mut reader =
                Hashing { reader: decoder(stdin, zstd).map_err(|e| process::chain(&e))?, hash: Sha256::new() };
            let unpacked = unpack::unpack(&mut reader, &scratch, limits).map_err(|e| process::chain(&e))?;
            let found = Digest::from(<[u8; 32]>::from(reader.hash.finalize()));
            if found != diff_id {
                return Err(format!("the archive has the digest {found}, not {diff_id}"));
            }
            let parent = into.parent().unwrap_or(Path::new("."));
            fs::rename(&scratch, &into).and_then(|()| fs::sync_dir(parent)).map_err(|e| process::chain(&e))?;
            print(&unpacked)
        }
        Job::Pack { from, newest } => {
            let out = io::BufWriter::with_capacity(1 << 17, io::stdout().lock());
            pack::pack(&from, newest, out).map_err(|e| process::chain(&e))
        }
        Job::Copy { layers } => {
            // The one path to what standard input is that passes no folder above it.
            let layers: Vec<_> = layers.iter().map(|layer| Path::new("/proc/self/fd/0").join(layer)).collect();
            print(&copy::copy(&layers, Path::new(".")).map_err(|e| process::chain(&e))?)
        }
        Job::Remove { path } => print(&fs::remove_tree(&path).map_err(|e| process::chain(&e))?),
        Job::Derive(task) => print(&derive::job(&task).map_err(|e| process::chain(&e))?),
        Job::Refresh(task) => print(&stack::refresh::job(&task).map_err(|e| process::chain(&e))?),
        Job::Hide(task) => print(&hide::job(&task).map_err(|e| process::chain(&e))?),
        Job::List(task) => print(&list::job(&task).map_err(|e| process::chain(&e))?),
        Job::Usage { path } => print(&usage::usage(&path).map_err(|e| process::chain(&e))?),
    }
}

fn decoder<'a>(stream: impl Read + 'a, zstd: bool) -> io::Result<Box<dyn Read + 'a>> {
    if !zstd {
        return Ok(Box::new(stream));
    }
    let mut decoder = zstd::stream::read::Decoder::new(stream)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(Box::new(decoder))
}

struct Hashing<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Prints a job's result for [`answer`].
pub(crate) fn print(value: &impl serde::Serialize) -> Result<(), String> {
    let text = serde_json::to_string(value).map_err(|e| e.to_string())?;
    io::stdout().write_all(text.as_bytes()).map_err(|e| e.to_string())
}

struct Answer {
    what: &'static str,
    path: PathBuf,
    output: std::process::Output,
}

fn run(ids: &IdRange, base: &Path, job: &Job, stdin: Stdio) -> Result<Answer, LayerError> {
    let here = PathBuf::from(".");
    let (what, path) = match job {
        Job::Unpack { into, .. } => ("unpack", into),
        Job::Pack { from, .. } => ("pack", from),
        Job::Copy { .. } => ("copy layers to", &here),
        Job::Remove { path } => ("remove", path),
        Job::Usage { path } => ("measure", path),
        Job::Derive(task) => ("derive a layer in", task.place()),
        Job::Refresh(task) => ("make a layer in", &task.scratch),
        Job::List(_) => ("look into a package, from", &here),
        Job::Hide(task) => ("hide what the image holds beyond its base, in", &task.scratch),
    };
    let path = base.join(path);
    let mut command = range::command(ids, base, &json(job));
    let output = command.stdin(stdin).output().map_err(LayerError::start(what, &path))?;
    Ok(Answer { what, path, output })
}

fn answer<T: serde::de::DeserializeOwned>(Answer { what, path, output }: Answer) -> Result<T, LayerError> {
    let value = output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten();
    value.ok_or_else(|| LayerError::Job { what, path, message: failure(&output) })
}

fn failure(output: &std::process::Output) -> String {
    let text = process::tail(&output.stderr);
    if text.is_empty() { format!("it ended with {}", output.status) } else { text }
}

fn split(path: &Path) -> Result<(&Path, PathBuf), LayerError> {
    match (path.parent().filter(|parent| parent.is_absolute()), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name.into())),
        _ => Err(LayerError::Path(path.to_path_buf())),
    }
}

fn json(job: &Job) -> String {
    serde_json::to_string(job).expect("a job has only plain fields, and its paths are UTF-8 names of ours")
}

/// A layer could not be worked on.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] PathError),
    /// A path that no job can be given.
    #[error("`{}` is not the absolute path of a file", .0.display())]
    Path(PathBuf),
    /// The job could not be started.
    #[error("cannot start the process that is to {what} `{}`", path.display())]
    Start {
        /// What was to be done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The job failed.
    #[error("cannot {what} `{}`: {message}", path.display())]
    Job {
        /// What was to be done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the job said.
        message: String,
    },
    /// What was packed could not be stored.
    #[error("cannot store the archive")]
    Sink(#[source] io::Error),
}

impl LayerError {
    fn start(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Start { what, path, source }
    }
}
