//! The job that derives a layer, as uid 0 of the id range: the package is its standard input.
//!
//! 1. The metadata are read, and whether anything but copying is to be done is decided.
//! 2. Each entry of the image is placed and written below `scratch`; what turns up that is no layer's ends the writing.
//! 3. Only now it is known that all that was read is the package it must be: content, number and time are compared.
//! 4. The entry in the database is written, and `scratch` renamed to the layer's place, unless that is there: the name is a
//!    digest of all that is in the layer, so what is there is the same.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use rustix::fs::{CWD, RenameFlags};

use super::database::{self, Contents};
use super::ground::Layers;
use super::merge::Merge;
use super::name::Name;
use super::place::{PlaceError, Placed, Placer};
use super::reason::Reason;
use super::{Outcome, phases};
use crate::digest::hex;
use crate::fs::{self, File, PathError};
use crate::layer::archive::Kind;
use crate::layer::unpack::{Filling, UnpackError};
use crate::package::archive::ArchiveError;
use crate::package::header::Header;
use crate::package::{Identity, OpenError, Opened};

/// What is to be done. Paths are relative to the working folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Task {
    /// The package.
    pub(super) identity: Identity,
    /// How it is merged.
    pub(super) merge: Merge,
    /// What it is merged into: layers, top first.
    pub(super) ground: Vec<PathBuf>,
    /// Where the layer grows.
    pub(super) scratch: PathBuf,
    /// The folder that it is moved to.
    pub(super) layers: PathBuf,
}

impl Task {
    /// Returns where the layer will be.
    pub(in crate::layer) fn place(&self) -> &PathBuf {
        &self.layers
    }
}

/// Derives a layer from the package that standard input is.
pub(in crate::layer) fn derive(task: &Task) -> Result<Outcome, DeriveJobError> {
    let file = io::stdin().as_fd().try_clone_to_owned().map_err(DeriveJobError::Input)?;
    let mut package = Opened::open(File::from(file), task.identity.clone())?;
    let ground = Layers::open(&task.ground)?;
    let reasons = [task.merge.reasons(), phases::reasons(package.metadata())].concat();
    let mut work = Work {
        placer: Placer::new(&ground, &task.merge),
        layer: Filling::new(&task.scratch)?,
        contents: Contents::default(),
        name: Name::new(&task.identity),
        md5s: std::collections::HashMap::new(),
        reasons,
        failed: None,
    };
    let walked = package.walk(&mut |entry, data| work.entry(entry, data));
    if let Some(error) = work.failed.take() {
        return Err(error);
    }
    walked?;
    if !work.reasons.is_empty() {
        return Ok(Outcome::NotStackable(work.reasons));
    }
    work.database(task, &package)?;
    work.finish(task)
}

struct Work<'a> {
    placer: Placer<'a, Layers>,
    layer: Filling,
    contents: Contents,
    name: Name,
    /// Of files that hard links may name, by their places in the layer.
    md5s: std::collections::HashMap<PathBuf, String>,
    reasons: Vec<Reason>,
    failed: Option<DeriveJobError>,
}

impl Work<'_> {
    /// Writes one entry. The package is read to its end in any case: only then it is known that it is the right one.
    fn entry(&mut self, entry: &Header, data: &mut dyn Read) -> Result<(), ArchiveError> {
        if !self.reasons.is_empty() {
            return Ok(());
        }
        match self.write(entry, data) {
            Ok(()) => Ok(()),
            Err(DeriveJobError::Place(PlaceError::Reason(reason))) => {
                self.reasons.push(reason);
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("the layer could not be written").into())
            }
        }
    }

    fn write(&mut self, entry: &Header, data: &mut dyn Read) -> Result<(), DeriveJobError> {
        let placed = self.placer.place(entry)?;
        for path in &placed.recorded {
            self.contents.folder(path);
        }
        let md5 = self.make(&placed, data)?;
        let Some(member) = placed.entry else { return Ok(()) };
        // Checked when it was placed: UTF-8, and below `image/`.
        let path = String::from_utf8_lossy(entry.name.strip_prefix(b"image/").unwrap_or(&entry.name));
        match (&member.kind, md5) {
            (Kind::Symlink(target), _) => self.contents.link(&path, &target.to_string_lossy(), member.mtime),
            (_, Some(md5)) => self.contents.file(&path, &md5, member.mtime),
            _ => {}
        }
        Ok(())
    }

    /// Makes what was placed; returns a file's MD5.
    fn make(&mut self, placed: &Placed, data: &mut dyn Read) -> Result<Option<String>, DeriveJobError> {
        for member in &placed.folders {
            self.name.member(member);
            self.layer.add(member, &mut io::empty())?;
        }
        let Some(member) = &placed.entry else { return Ok(None) };
        self.name.member(member);
        let mut hashing = Hashing { inner: data, hash: Md5::new() };
        self.layer.add(member, &mut hashing)?;
        let md5 = match &member.kind {
            Kind::HardLink(target) => self.md5s.get(target).cloned(),
            _ => Some(hex(&hashing.hash.finalize())),
        };
        if let (Kind::File(_), Some(md5)) = (&member.kind, &md5) {
            self.md5s.insert(member.path.clone(), md5.clone());
        }
        Ok(md5)
    }

    fn database(&mut self, task: &Task, package: &Opened<File>) -> Result<(), DeriveJobError> {
        let Identity { cpv, build_time, .. } = &task.identity;
        let contents = std::mem::take(&mut self.contents);
        let mask = task.merge.install_mask();
        let files = database::files(&task.identity, package.metadata(), contents, mask, *build_time);
        let folder = format!("var/db/pkg/{}/{}", cpv.category, cpv.pf());
        for (name, value) in files {
            let placed = self.placer.add(&format!("{folder}/{name}"), value.len() as u64, *build_time)?;
            self.name.value(&value);
            self.make(&placed, &mut value.as_slice())?;
        }
        Ok(())
    }

    fn finish(self, task: &Task) -> Result<Outcome, DeriveJobError> {
        let [folders, files] = self.placer.contents();
        self.layer.finish()?;
        let digest = self.name.finish();
        let place = task.layers.join(digest.hex());
        settle(&task.scratch, &place)?;
        Ok(Outcome::Layer { digest, folders, files })
    }
}

/// Moves a layer to its place. What is there already is the same, if it has a record; else it may be what a machine
/// that lost its power has left, and this comes instead of it.
pub(in crate::layer) fn settle(scratch: &Path, place: &Path) -> Result<(), PathError> {
    match fs::rename(scratch, place) {
        Err(e) if is_taken(&e) && !place.with_extension("json").exists() => {
            rustix::fs::renameat_with(CWD, scratch, CWD, place, RenameFlags::EXCHANGE)
                .map_err(|e| PathError::on("exchange", place)(e.into()))
        }
        Err(e) if is_taken(&e) => Ok(()),
        other => other,
    }
}

/// Returns whether a folder could not be renamed because there is one with something in it.
fn is_taken(error: &PathError) -> bool {
    matches!(error.source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

struct Hashing<'a> {
    inner: &'a mut dyn Read,
    hash: Md5,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// A layer cannot be derived.
#[derive(Debug, thiserror::Error)]
pub(in crate::layer) enum DeriveJobError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no package.
    #[error("cannot take the package from standard input")]
    Input(#[source] io::Error),
    /// The package cannot be read.
    #[error("the package cannot be read, or is not the one it must be")]
    Package(#[from] OpenError),
    /// An entry has no place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// An entry cannot be written.
    #[error(transparent)]
    Write(#[from] UnpackError),
}
