//! Where in the root each entry of a package goes, by the rules of Portage's merge (portage/dbapi/vartree.py, 3.0.83,
//! `mergeme`). Pure: what the root has already is asked of a [`Ground`].
//!
//! * A folder that the root has keeps the root's owner, mode and time. In an overlay the topmost layer's folder is what
//!   is seen, so a layer repeats them.
//! * A folder where the root has a link to a folder (`/lib` of a merged /usr) is that folder: what is below it lands where
//!   the link leads. A folder in the layer would hide the link.
//! * Everything else replaces what the root has, unless that is a folder, or a link to one.
//! * What INSTALL_MASK names is left out; a folder that it names is there if something in it is.
//! * A package may be merged into a folder of the root (ROOT in a cross build): all its paths are below that.
//! * The database records each entry under the path that the package has for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Component, Path, PathBuf};

use super::merge::Merge;
use super::reason::Reason;
use crate::fs::PathError;
use crate::layer::archive::{Kind, Member};
use crate::package::header::{self, Header};

/// The most links on one way, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// Owner, mode and time of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layer) struct Attributes {
    pub(in crate::layer) mode: u32,
    pub(in crate::layer) uid: u32,
    pub(in crate::layer) gid: u32,
    /// Seconds since 1970.
    pub(in crate::layer) mtime: u64,
}

/// What the root has somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layer) enum Found {
    Folder(Attributes),
    Link(PathBuf),
    /// Anything else.
    File,
}

/// What the root has, before the package comes.
pub(in crate::layer) trait Ground {
    /// Returns what is at a path, relative to the root, whose folders are all folders and no links.
    fn look(&self, path: &Path) -> Result<Option<Found>, PathError>;

    /// Returns the folder that a link in `folder` leads to, if there is one.
    fn follow(&self, folder: &Path, target: &Path) -> Result<Option<(PathBuf, Attributes)>, PathError> {
        let mut at = folder.to_path_buf();
        let mut ahead: VecDeque<PathBuf> = VecDeque::from([target.to_path_buf()]);
        let mut links = 0;
        while let Some(path) = ahead.pop_front() {
            let mut parts = path.components();
            let Some(first) = parts.next() else { continue };
            ahead.push_front(parts.as_path().to_path_buf());
            match first {
                Component::RootDir | Component::Prefix(_) => at = PathBuf::new(),
                Component::CurDir => {}
                Component::ParentDir => drop(at.pop()),
                Component::Normal(name) => match self.look(&at.join(name))? {
                    Some(Found::Folder(_)) => at.push(name),
                    Some(Found::Link(target)) if links < LINKS => {
                        links += 1;
                        ahead.push_front(target);
                    }
                    _ => return Ok(None),
                },
            }
        }
        Ok(match self.look(&at)? {
            Some(Found::Folder(attributes)) => Some((at, attributes)),
            _ => None,
        })
    }
}

/// A folder of the package's.
#[derive(Debug)]
struct Folder {
    /// Where it is in the root.
    at: PathBuf,
    /// Whether the root has it already.
    old: bool,
    /// What is to be made and recorded once something needs it.
    waiting: Option<(Attributes, bool)>,
}

/// What one entry of a package comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::layer) struct Placed {
    /// Folders to be made, in this order.
    pub(in crate::layer) folders: Vec<Member>,
    /// Folders to be recorded, by their paths in the package.
    pub(in crate::layer) recorded: Vec<String>,
    /// What is no folder, to be made then.
    pub(in crate::layer) entry: Option<Member>,
}

/// Places the entries of one package, which come in the order that an image has.
#[derive(Debug)]
pub(in crate::layer) struct Placer<'a, G> {
    ground: &'a G,
    merge: &'a Merge,
    /// By their paths in the package, from the root and without a slash at the beginning.
    folders: HashMap<String, Folder>,
    /// What hard links may name: from the path in the package to that in the root.
    files: HashMap<String, PathBuf>,
    /// What is in the layer: whether it is a folder.
    placed: BTreeMap<PathBuf, bool>,
}

impl<'a, G: Ground> Placer<'a, G> {
    pub(in crate::layer) fn new(ground: &'a G, merge: &'a Merge) -> Self {
        Self { ground, merge, folders: HashMap::new(), files: HashMap::new(), placed: BTreeMap::new() }
    }

    /// Places an entry of the image, whose paths start with `image`.
    pub(in crate::layer) fn place(&mut self, header: &Header) -> Result<Placed, PlaceError> {
        let path = inside(&header.name)?;
        let Header { mode, uid, gid, mtime, .. } = *header;
        let attributes = Attributes { mode, uid, gid, mtime };
        let mut placed = Placed::default();
        match header.kind {
            header::Kind::Folder => {
                self.folder(path, attributes, true)?;
                if !self.merge.masks_folder(path) {
                    self.need(path, &mut placed)?;
                }
            }
            _ if self.merge.masks(path) => {}
            _ => {
                let kind = match header.kind {
                    header::Kind::SymLink => Kind::Symlink(PathBuf::from(text(&header.target)?)),
                    header::Kind::HardLink => {
                        let target = inside(&header.target)?;
                        let masked = || Reason::MaskedLink { path: path.to_string(), target: target.to_string() };
                        Kind::HardLink(self.files.get(target).ok_or_else(masked)?.clone())
                    }
                    _ => Kind::File(header.size),
                };
                self.other(path, attributes, kind, &mut placed)?;
            }
        }
        Ok(placed)
    }

    /// Places a file that the package does not have: of its entry in the database, or generated. Folders that nobody has
    /// are root's, with mode 0755 and the file's time. Nothing is recorded.
    pub(in crate::layer) fn add(&mut self, path: &str, size: u64, mtime: u64) -> Result<Placed, PlaceError> {
        self.add_with(path, size, Attributes { mode: 0o644, uid: 0, gid: 0, mtime })
    }

    /// Likewise, with an owner and mode of its own.
    pub(in crate::layer) fn add_with(&mut self, path: &str, size: u64, own: Attributes) -> Result<Placed, PlaceError> {
        let mut placed = Placed::default();
        let above: Vec<&str> = path.match_indices('/').filter_map(|(at, _)| path.get(..at)).collect();
        for folder in [""].into_iter().chain(above) {
            if !self.folders.contains_key(folder) {
                self.folder(folder, Attributes { mode: 0o755, uid: 0, gid: 0, mtime: own.mtime }, false)?;
            }
        }
        self.other(path, own, Kind::File(size), &mut placed)?;
        Ok(placed)
    }

    /// Returns what is in the layer: folders, then everything else.
    pub(in crate::layer) fn contents(&self) -> [BTreeSet<String>; 2] {
        let of = |folder: bool| {
            let all = self.placed.iter().filter(|(_, is_folder)| **is_folder == folder);
            all.map(|(path, _)| path.to_string_lossy().into_owned()).collect()
        };
        [of(true), of(false)]
    }

    fn folder(&mut self, path: &str, own: Attributes, recorded: bool) -> Result<(), PlaceError> {
        if path.is_empty() {
            let at = PathBuf::from(self.merge.below());
            let attributes = match self.ground.look(&at)? {
                Some(Found::Folder(attributes)) => attributes,
                _ => own,
            };
            let root = Folder { at, old: true, waiting: Some((attributes, false)) };
            self.folders.insert(String::new(), root);
            return Ok(());
        }
        let (above, at) = self.whereabouts(path)?;
        let found = if above.old { self.ground.look(&at)? } else { None };
        let (at, attributes, old) = match found {
            None => (at, own, false),
            Some(Found::Folder(attributes)) => (at, attributes, true),
            Some(Found::Link(target)) => {
                let led = self.ground.follow(&above.at, &target)?;
                let (at, attributes) = led.ok_or_else(|| Reason::FolderOverFile { path: path.to_string() })?;
                (at, attributes, true)
            }
            Some(Found::File) => return Err(Reason::FolderOverFile { path: path.to_string() }.into()),
        };
        if self.placed.get(&at) == Some(&false) {
            return Err(Reason::Twice { path: path.to_string() }.into());
        }
        self.folders.insert(path.to_string(), Folder { at, old, waiting: Some((attributes, recorded)) });
        Ok(())
    }

    /// Has a folder and all above it made, where they are not yet.
    fn need(&mut self, path: &str, placed: &mut Placed) -> Result<(), PlaceError> {
        let mut waiting = Vec::new();
        let mut next = Some(path);
        while let Some(path) = next {
            if self.folders.get(path).is_none_or(|folder| folder.waiting.is_none()) {
                break;
            }
            waiting.push(path);
            next = (!path.is_empty()).then(|| path.rsplit_once('/').map_or("", |(above, _)| above));
        }
        for path in waiting.into_iter().rev() {
            let Some(folder) = self.folders.get_mut(path) else { continue };
            let Some((attributes, recorded)) = folder.waiting.take() else { continue };
            let at = folder.at.clone();
            // Where a link led elsewhere, or the package is merged into a folder, what is above that is the root's.
            let above: Vec<&Path> = at.ancestors().skip(1).collect();
            let below = !self.merge.below().is_empty();
            for above in above.into_iter().rev().filter(|above| below || !above.as_os_str().is_empty()) {
                if let (false, Some(Found::Folder(attributes))) =
                    (self.placed.contains_key(above), self.ground.look(above)?)
                {
                    self.make_folder(above, attributes, placed);
                }
            }
            if !self.placed.contains_key(&at) {
                self.make_folder(&at, attributes, placed);
            }
            if recorded {
                placed.recorded.push(path.to_string());
            }
        }
        Ok(())
    }

    fn make_folder(&mut self, at: &Path, attributes: Attributes, placed: &mut Placed) {
        self.placed.insert(at.to_path_buf(), true);
        placed.folders.push(member(at, attributes, Kind::Folder));
    }

    fn other(&mut self, path: &str, attributes: Attributes, kind: Kind, placed: &mut Placed) -> Result<(), PlaceError> {
        let (above, at) = self.whereabouts(path)?;
        let found = if above.old { self.ground.look(&at)? } else { None };
        let here = || path.to_string();
        match &found {
            Some(Found::Folder(_)) => return Err(Reason::OverFolder { path: here() }.into()),
            // Other packages' files went, or will go, where this link leads.
            Some(Found::Link(target))
                if kind != Kind::Symlink(target.clone()) && self.ground.follow(&above.at, target)?.is_some() =>
            {
                return Err(Reason::OverLink { path: here(), target: target.display().to_string() }.into());
            }
            _ => {}
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let placeholder = kind == Kind::File(0) && name.starts_with(".keep");
        if found.is_some() && !placeholder && self.merge.protects(path) {
            return Err(Reason::Protected { path: here() }.into());
        }
        if self.placed.contains_key(&at) {
            return Err(Reason::Twice { path: here() }.into());
        }
        let folder = path.rsplit_once('/').map_or("", |(above, _)| above);
        self.need(folder, placed)?;
        self.placed.insert(at.clone(), false);
        if matches!(kind, Kind::File(_)) {
            self.files.insert(here(), at.clone());
        }
        placed.entry = Some(member(&at, attributes, kind));
        Ok(())
    }

    /// Returns the folder that a path of the package is in, and where in the root the path is.
    fn whereabouts(&self, path: &str) -> Result<(&Folder, PathBuf), PlaceError> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.folders.get(above).ok_or(PlaceError::Form)?;
        Ok((folder, folder.at.join(name)))
    }
}

fn member(at: &Path, attributes: Attributes, kind: Kind) -> Member {
    let Attributes { mode, uid, gid, mtime } = attributes;
    Member { path: at.to_path_buf(), kind, mode, uid, gid, mtime, xattrs: Vec::new() }
}

/// Returns a path of the image without `image/`, and without a slash at the end.
fn inside(name: &[u8]) -> Result<&str, PlaceError> {
    let name = text(name)?;
    let name = name.strip_suffix('/').unwrap_or(name);
    match name.strip_prefix("image") {
        Some("") => Ok(""),
        Some(rest) => rest.strip_prefix('/').ok_or(PlaceError::Form),
        None => Err(PlaceError::Form),
    }
}

fn text(bytes: &[u8]) -> Result<&str, PlaceError> {
    std::str::from_utf8(bytes).map_err(|_| PlaceError::Form)
}

/// An entry has no place.
#[derive(Debug, thiserror::Error)]
pub(in crate::layer) enum PlaceError {
    /// The package cannot be a layer.
    #[error(transparent)]
    Reason(#[from] Reason),
    /// The root could not be looked at.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Reading the package does not let this through.
    #[error("the image's entries are not in the order and form that a package has")]
    Form,
}

#[cfg(test)]
mod tests;
