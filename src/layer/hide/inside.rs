//! The job that makes the layer, as uid 0 of the id range.
//!
//! 1. What is seen is computed from dpkg's status.
//! 2. The lists of files (`/var/lib/dpkg/info`) say what belongs to whom. What only packages have that are not seen is
//!    hidden; with it go links of update-alternatives(1) that lead to it, and Python's byte code of it.
//! 3. A folder is hidden as a whole where only such packages have it, and nothing else is in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::debian::Packages;
use super::{Base, Made, VERSION};
use crate::fs::{self, PathError};
use crate::layer::archive::{Kind, Member};
use crate::layer::derive::{Found, Ground as _, Layers, settle};
use crate::layer::unpack::{Filling, UnpackError};

const STATUS: &str = "var/lib/dpkg/status";
const LISTS: &str = "var/lib/dpkg/info";
const ALTERNATIVES: &str = "var/lib/dpkg/alternatives";
/// The longest file of the database that is read, in bytes: a full desktop's status has 5 MiB.
const LONGEST: u64 = 256 << 20;

/// What is to be done. Paths are relative to the working folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Task {
    pub(super) base: Base,
    /// The image's layers, top first.
    pub(super) image: Vec<PathBuf>,
    /// Where the layer grows.
    pub(in crate::layer) scratch: PathBuf,
    /// Where it will be.
    pub(super) place: PathBuf,
}

/// Does the job.
pub(in crate::layer) fn hide(task: &Task) -> Result<Made, HideJobError> {
    let image = Image { ground: Layers::open(&task.image)?, folders: HashMap::new() };
    let all_folders = image.all_folders()?;
    let (seen, hidden) = Search::new(image).run(&task.base)?;
    let ground = Layers::open(&task.image)?;
    let paths: BTreeSet<&PathBuf> = hidden.keys().collect();
    // What lies in a hidden folder needs no whiteout of its own.
    let inner = |path: &Path| path.ancestors().skip(1).any(|above| hidden.contains_key(above));
    let tops: Vec<&PathBuf> = paths.into_iter().filter(|path| !inner(path)).collect();
    let (mut folders, mut whiteouts) = (BTreeSet::new(), BTreeSet::new());
    let mut layer = Filling::new(&task.scratch)?;
    let mut like_images = |layer: &mut Filling, folder: &Path| -> Result<(), HideJobError> {
        if !folders.insert(folder.to_path_buf()) {
            return Ok(());
        }
        let Some(Found::Folder(like)) = ground.look(folder)? else {
            return Err(HideJobError::NoFolder(folder.to_path_buf()));
        };
        let (mode, uid, gid, mtime) = (like.mode, like.uid, like.gid, like.mtime);
        let member = Member { path: folder.into(), kind: Kind::Folder, mode, uid, gid, mtime, xattrs: Vec::new() };
        Ok(layer.add(&member, &mut std::io::empty())?)
    };
    // Of a folder, an overlay shows what the topmost layer says, also of the root.
    like_images(&mut layer, Path::new(""))?;
    for path in tops {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.into_iter().rev().try_for_each(|folder| like_images(&mut layer, folder))?;
        layer.whiteout(path)?;
        whiteouts.insert(path.clone());
    }
    layer.finish()?;
    settle(&task.scratch, &task.place)?;
    let text = |paths: BTreeSet<PathBuf>| paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let mut by_package: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, package) in hidden {
        by_package.entry(package).or_default().insert(path.to_string_lossy().into_owned());
    }
    let (folders, whiteouts) = (text(folders), text(whiteouts));
    Ok(Made { version: VERSION, seen, hidden: by_package, all_folders: text(all_folders), folders, whiteouts })
}

/// The image, whose packages name their files through links (`/bin/sh` on a merged /usr).
struct Image {
    ground: Layers,
    /// Where folders of the lists really are.
    folders: HashMap<PathBuf, Option<PathBuf>>,
}

impl Image {
    /// Returns where a path of a list is, relative to the root.
    fn place(&mut self, path: &str) -> Result<Option<PathBuf>, PathError> {
        let path = Path::new(path.trim_start_matches('/'));
        let (Some(name), above) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else { return Ok(None) };
        if !self.folders.contains_key(above) {
            let found = self.ground.follow(Path::new(""), above)?.map(|(folder, _)| folder);
            self.folders.insert(above.to_path_buf(), found);
        }
        Ok(self.folders.get(above).and_then(Option::as_ref).map(|folder| folder.join(name)))
    }

    /// Returns the names in a folder of any layer's; nothing where there is none.
    fn names(&self, folder: &Path) -> Result<BTreeSet<std::ffi::OsString>, PathError> {
        let mut all = BTreeSet::new();
        for layer in self.ground.each() {
            let opened = match layer.folder(folder) {
                Ok(opened) => opened,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(layer.fail("open", folder)(e)),
            };
            let names = fs::names(&opened).map_err(layer.fail("list", folder))?;
            all.extend(names.iter().map(|name| std::ffi::OsStr::from_bytes(name.to_bytes()).to_os_string()));
        }
        Ok(all)
    }

    /// Returns every folder there is.
    fn all_folders(&self) -> Result<BTreeSet<PathBuf>, PathError> {
        let mut all = BTreeSet::new();
        for layer in self.ground.each() {
            let mut waiting = vec![PathBuf::new()];
            while let Some(path) = waiting.pop() {
                let folder = layer.folder(&path).map_err(layer.fail("open", &path))?;
                for entry in rustix::fs::Dir::read_from(&folder).map_err(layer.fail("list", &path))? {
                    let entry = entry.map_err(layer.fail("list", &path))?;
                    let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
                    let is_folder = match entry.file_type() {
                        FileType::Directory => true,
                        // Some file systems do not say.
                        FileType::Unknown => {
                            let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
                            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
                        }
                        _ => false,
                    };
                    if is_folder && name != "." && name != ".." {
                        waiting.push(path.join(name));
                    }
                }
                all.insert(path);
            }
        }
        Ok(all)
    }

    /// Returns the text of a file of the database.
    fn read(&self, path: &Path) -> Result<Option<String>, PathError> {
        for layer in self.ground.each() {
            let (above, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
            if let Some(bytes) = layer.read(above, name, LONGEST)? {
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        Ok(None)
    }
}

/// Looks for what is to be hidden.
struct Search {
    image: Image,
    /// What packages have that are seen.
    kept: HashSet<PathBuf>,
    /// What is hidden, and whose it is.
    hidden: BTreeMap<PathBuf, String>,
    /// Folders that only hidden packages have, likewise.
    folders: BTreeMap<PathBuf, String>,
}

/// Which packages are seen; what is hidden, and whose it is.
type Outcome = (BTreeSet<String>, BTreeMap<PathBuf, String>);

impl Search {
    fn new(image: Image) -> Self {
        Self { image, kept: HashSet::new(), hidden: BTreeMap::new(), folders: BTreeMap::new() }
    }

    fn run(mut self, base: &Base) -> Result<Outcome, HideJobError> {
        let status = self.image.read(Path::new(STATUS))?.ok_or(HideJobError::NoDatabase)?;
        let packages = Packages::parse(&status);
        let seen = packages.seen(base).map_err(HideJobError::NotInstalled)?;
        let mut lists: Vec<(String, bool, String)> = Vec::new();
        for name in self.image.names(Path::new(LISTS))? {
            let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".list")) else { continue };
            let package = stem.split(':').next().unwrap_or(stem);
            if let Some(list) = self.image.read(&Path::new(LISTS).join(&name))? {
                lists.push((package.to_string(), seen.contains(package), list));
            }
        }
        // What of the database has no list is no reason to hide anything, and what has a list and is gone, neither.
        let known: HashSet<&str> = packages.names().collect();
        lists.retain(|(package, ..)| known.contains(package.as_str()));
        for (_, _, list) in lists.iter().filter(|(_, seen, _)| *seen) {
            for path in list.lines() {
                let place = self.image.place(path)?;
                self.kept.extend(place);
            }
        }
        for (package, _, list) in lists.iter().filter(|(_, seen, _)| !*seen) {
            for path in list.lines() {
                let place = self.image.place(path)?;
                self.take(place, package)?;
            }
        }
        self.alternatives()?;
        self.whole_folders()?;
        Ok((seen, self.hidden))
    }

    fn take(&mut self, place: Option<PathBuf>, package: &str) -> Result<(), PathError> {
        let Some(path) = place.filter(|path| !self.kept.contains(path)) else { return Ok(()) };
        match self.image.ground.look(&path)? {
            None => {}
            Some(Found::Folder(_)) => drop(self.folders.insert(path, package.to_string())),
            Some(_) => {
                if path.extension().is_some_and(|extension| extension == "py") {
                    self.byte_code(&path, package)?;
                }
                self.hidden.insert(path, package.to_string());
            }
        }
        Ok(())
    }

    /// Hides `__pycache__/NAME.*` beside `NAME.py`, which no list has.
    fn byte_code(&mut self, path: &Path, package: &str) -> Result<(), PathError> {
        let (Some(stem), Some(above)) = (path.file_stem(), path.parent()) else { return Ok(()) };
        let folder = above.join("__pycache__");
        let start = [stem.as_bytes(), b"."].concat();
        for name in self.image.names(&folder)? {
            if name.as_bytes().starts_with(&start) {
                self.hidden.insert(folder.join(&name), package.to_string());
            }
        }
        if !self.kept.contains(&folder) && matches!(self.image.ground.look(&folder)?, Some(Found::Folder(_))) {
            self.folders.insert(folder, package.to_string());
        }
        Ok(())
    }

    /// Hides links that would lead to what is hidden: `/usr/bin/NAME` → `/etc/alternatives/NAME` → the file.
    fn alternatives(&mut self) -> Result<(), HideJobError> {
        for name in self.image.names(Path::new(ALTERNATIVES))? {
            let text = self.image.read(&Path::new(ALTERNATIVES).join(&name))?.unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with('/')) {
                let Some(link) = self.image.place(line)? else { continue };
                let Some(Found::Link(through)) = self.image.ground.look(&link)? else { continue };
                if !through.starts_with("/etc/alternatives") {
                    continue;
                }
                let Some(through) = self.image.place(&through.to_string_lossy())? else { continue };
                let Some(Found::Link(target)) = self.image.ground.look(&through)? else { continue };
                let target = self.image.place(&target.to_string_lossy())?;
                if let Some(package) = target.and_then(|target| self.hidden.get(&target).cloned()) {
                    self.hidden.insert(link, package.clone());
                    self.hidden.insert(through, package);
                }
            }
        }
        Ok(())
    }

    fn whole_folders(&mut self) -> Result<(), PathError> {
        // What is in a folder comes after it.
        for (folder, package) in std::mem::take(&mut self.folders).into_iter().rev() {
            let names = self.image.names(&folder)?;
            if names.iter().all(|name| self.hidden.contains_key(&folder.join(name))) {
                self.hidden.insert(folder, package);
            }
        }
        Ok(())
    }
}

/// The layer cannot be made.
#[derive(Debug, thiserror::Error)]
pub(in crate::layer) enum HideJobError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Likewise.
    #[error(transparent)]
    Write(#[from] UnpackError),
    /// The image is none of Debian's.
    #[error(
        "the image's definition has a base, and the image no `/{STATUS}`, which says what belongs to it; remove `[base]`"
    )]
    NoDatabase,
    /// The base is wrong.
    #[error("the base of the image's definition names `{0}`, which is not installed in the image")]
    NotInstalled(String),
    /// The image has changed.
    #[error("`/{}` of the image is no folder any more", .0.display())]
    NoFolder(PathBuf),
}

#[cfg(test)]
mod tests;
