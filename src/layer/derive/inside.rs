//! The job that derives a layer, as uid 0 of the id range: the package is its standard input.
//!
//! 1. The metadata are read, and whether anything but copying is to be done is decided.
//! 2. Each entry of the image is placed and written below `scratch`; what turns up that is no layer's ends the writing.
//! 3. Only now it is known that all that was read is the package it must be: content, number and time are compared.
//! 4. The entry in the database is written.
//! 5. Where a merge has run the package's phases, what it left is compared with this ([`super::compare`]), and what the
//!    phases did comes into the layer.
//! 6. `scratch` is renamed to the layer's place, unless that is there: the name is a digest of all that is in the layer, so
//!    what is there is the same.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use rustix::fs::{CWD, RenameFlags};
use sha2::digest::Update;

use super::compare::{Comparison, Merged};
use super::database::{self, Contents};
use super::ground::{self, Layers};
use super::merge::Merge;
use super::name::Name;
use super::place::{Attributes, PlaceError, Placed, Placer};
use super::reason::Reason;
use super::{Outcome, phases};
use crate::atom::Cpv;
use crate::digest::hex;
use crate::fs::{self, File, PathError};
use crate::layer::accounts::Accounts;
use crate::layer::archive::{Kind, Member};
use crate::layer::beneath::Beneath;
use crate::layer::unpack::{Filling, UnpackError};
use crate::package::archive::ArchiveError;
use crate::package::header::Header;
use crate::package::{Identity, OpenError, Opened};

/// The longest CONTENTS, in bytes.
const CONTENTS: u64 = 1 << 30;

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
    /// What a merge has left, where one has run the package's phases.
    pub(super) merged: Option<Merged>,
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
    let mut reasons = [task.merge.reasons(), phases::reasons(package.metadata())].concat();
    reasons.retain(|reason| task.merged.is_none() || !reason.is_phase());
    let mut work = Work {
        placer: Placer::new(&ground, &task.merge),
        layer: Filling::new(&task.scratch)?,
        contents: Contents::default(),
        name: Name::new(&task.identity),
        md5s: std::collections::HashMap::new(),
        reasons,
        failed: None,
        accounts: Accounts::default(),
        phases: [BTreeSet::new(), BTreeSet::new()],
        removed: BTreeSet::new(),
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
    if let Some(merged) = &task.merged {
        work.merged(task, merged)?;
        if !work.reasons.is_empty() {
            return Ok(Outcome::NotStackable(work.reasons));
        }
    }
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
    /// What the phases did: accounts; folders and then everything else that they added; what they removed.
    accounts: Accounts,
    phases: [BTreeSet<String>; 2],
    removed: BTreeSet<String>,
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
        let folder = entry(cpv);
        for (name, value) in files {
            let placed = self.placer.add(&format!("{folder}/{name}"), value.len() as u64, *build_time)?;
            self.name.value(&value);
            self.make(&placed, &mut value.as_slice())?;
        }
        Ok(())
    }

    /// Takes what phases did into the layer.
    fn merged(&mut self, task: &Task, merged: &Merged) -> Result<(), DeriveJobError> {
        let time = task.identity.build_time;
        let contents = PathBuf::from(entry(&task.identity.cpv)).join("CONTENTS");
        let upper = Beneath::open(&merged.upper)?;
        let comparison =
            Comparison::open(self.layer.root(), merged, &task.ground, contents.parent().unwrap_or(&contents), time)?;
        let found = comparison.run(&self.placer.contents())?;
        if !found.reasons.is_empty() {
            self.reasons = found.reasons;
            return Ok(());
        }
        for path in &found.removed {
            self.name.value(format!("removed {}", path.display()).as_bytes());
            self.layer.remove(path)?;
            self.removed.insert(path.to_string_lossy().into_owned());
        }
        for member in &found.folders {
            self.name.member(member);
            self.layer.change_folder(member)?;
        }
        for member in &found.kept {
            self.above(&member.path, &upper, time)?;
            self.take(member, &upper)?;
        }
        let lines = |layer: &Beneath| -> Result<Vec<u8>, PathError> {
            Ok(ground::regular(layer, &contents, CONTENTS)?.map(|(bytes, _)| bytes).unwrap_or_default())
        };
        let [ours, theirs] =
            [lines(self.layer.root())?, lines(&upper)?].map(|b| String::from_utf8_lossy(&b).into_owned());
        if let Some(text) = database::merged_contents(&ours, &theirs, time) {
            let size = text.len() as u64;
            let member = Member {
                path: contents,
                kind: Kind::File(size),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: time,
                xattrs: vec![],
            };
            self.name.value(text.as_bytes());
            self.layer.remove(&member.path)?;
            self.layer.add(&member, &mut text.as_bytes())?;
        }
        if !found.accounts.is_empty() {
            self.name.value(&serde_json::to_vec(&found.accounts).expect("it has only plain fields"));
            self.accounts = found.accounts;
        }
        Ok(())
    }

    /// Makes the folders above a path that the layer has not yet, as the merged root has them.
    fn above(&mut self, path: &Path, upper: &Beneath, time: u64) -> Result<(), DeriveJobError> {
        let missing: Vec<&Path> = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
        for above in missing.into_iter().rev() {
            if ground::stat(self.layer.root(), above)?.is_some() {
                continue;
            }
            let Some(stat) = ground::stat(upper, above)? else { continue };
            let Attributes { mode, uid, gid, .. } = Attributes::from(&stat);
            let member =
                Member { path: above.to_path_buf(), kind: Kind::Folder, mode, uid, gid, mtime: time, xattrs: vec![] };
            self.take(&member, upper)?;
        }
        Ok(())
    }

    /// Takes a file, link or new folder from what a merge wrote, in place of what the layer has there.
    fn take(&mut self, member: &Member, upper: &Beneath) -> Result<(), DeriveJobError> {
        let there = ground::stat(self.layer.root(), &member.path)?.is_some();
        let [folders, files] = &mut self.phases;
        let all = if member.kind == Kind::Folder { folders } else { files };
        all.insert(member.path.to_string_lossy().into_owned());
        if there && member.kind == Kind::Folder {
            return Ok(());
        }
        if there {
            self.layer.remove(&member.path)?;
        }
        self.name.member(member);
        if !matches!(member.kind, Kind::File(_)) {
            return Ok(self.layer.add(member, &mut io::empty())?);
        }
        let mut file = ground::open(upper, &member.path)?;
        let mut hashing = Hashing { inner: &mut file, hash: sha2::Sha256::new() };
        self.layer.add(member, &mut hashing)?;
        self.name.value(&hashing.hash.finalize());
        Ok(())
    }

    fn finish(self, task: &Task) -> Result<Outcome, DeriveJobError> {
        let [mut folders, mut files] = self.placer.contents();
        let [more_folders, more_files] = self.phases;
        for (all, more) in [(&mut folders, more_folders), (&mut files, more_files)] {
            all.retain(|path| !self.removed.contains(path));
            all.extend(more);
        }
        self.layer.finish()?;
        let digest = self.name.finish();
        let place = task.layers.join(digest.hex());
        settle(&task.scratch, &place)?;
        Ok(Outcome::Layer { digest, folders, files, accounts: self.accounts })
    }
}

/// Returns where a package's entry in the database is.
fn entry(cpv: &Cpv) -> String {
    format!("var/db/pkg/{}/{}", cpv.category, cpv.pf())
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

struct Hashing<'a, H> {
    inner: &'a mut dyn Read,
    hash: H,
}

impl<H: Update> Read for Hashing<'_, H> {
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
