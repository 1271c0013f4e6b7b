//! What unpacked layers have, seen as the root they are stacked to. Runs as uid 0 of the id range.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::place::{Attributes, Found, Ground};
use crate::fs::{File, PathError};
use crate::layer::beneath::Beneath;

/// Layers, top first.
#[derive(Debug)]
pub(in crate::layer) struct Layers(Vec<Beneath>);

impl Layers {
    /// Opens layers by their folders, which may be named by links.
    pub(in crate::layer) fn open(folders: &[PathBuf]) -> Result<Self, PathError> {
        // With a dot behind, a link is followed here, and nowhere below.
        let open = |folder: &PathBuf| Beneath::open(&folder.join("."));
        folders.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Returns each layer, top first.
    pub(in crate::layer) fn each(&self) -> impl DoubleEndedIterator<Item = &Beneath> {
        self.0.iter()
    }

    /// Returns which layer a path of the root comes from, counted from the top, and what is there.
    pub(in crate::layer) fn find(&self, path: &Path) -> Result<Option<(usize, Stat)>, PathError> {
        for (number, layer) in self.0.iter().enumerate() {
            match stat(layer, path)? {
                Some(stat) if whiteout(&stat) => return Ok(None),
                Some(stat) => return Ok(Some((number, stat))),
                // A folder that is hidden here is hidden with all that is in it, whatever lies below.
                None if hides(layer, path)? => return Ok(None),
                None => {}
            }
        }
        Ok(None)
    }

    /// Returns a layer by its number from the top.
    pub(in crate::layer) fn layer(&self, number: usize) -> Option<&Beneath> {
        self.0.get(number)
    }
}

/// Returns what one layer has at a path; below what is no folder there is nothing.
pub(in crate::layer) fn stat(layer: &Beneath, path: &Path) -> Result<Option<Stat>, PathError> {
    let (above, name) = match path.file_name() {
        Some(name) => (path.parent().unwrap_or(Path::new("")), name.as_ref()),
        None => (Path::new(""), Path::new(".")),
    };
    let folder = match layer.folder(above) {
        Ok(folder) => folder,
        // What is no folder in this layer is hidden, if the root has a folder there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(e) => return Err(layer.fail("look at", path)(e)),
    };
    match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(layer.fail("look at", path)(e)),
    }
}

/// Returns whether this stands for what is hidden (overlayfs: a character device 0:0).
fn whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Returns whether a layer hides a folder that a path is in.
fn hides(layer: &Beneath, path: &Path) -> Result<bool, PathError> {
    let above = path.parent().unwrap_or(Path::new(""));
    match layer.folder(above) {
        Err(Errno::NOTDIR) => {}
        _ => return Ok(false),
    }
    for folder in above.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
        if let Some(stat) = stat(layer, folder)? {
            return Ok(whiteout(&stat));
        }
    }
    Ok(false)
}

/// Returns where a link of one layer leads.
pub(in crate::layer) fn target(layer: &Beneath, path: &Path) -> Result<PathBuf, PathError> {
    let folder = layer.folder(path.parent().unwrap_or(Path::new(""))).map_err(layer.fail("open", path))?;
    let name = path.file_name().unwrap_or_default();
    let target = readlinkat(&folder, name, Vec::new()).map_err(layer.fail("read the link", path))?;
    Ok(PathBuf::from(String::from_utf8_lossy(target.to_bytes()).into_owned()))
}

/// Opens a regular file of one layer.
pub(in crate::layer) fn open(layer: &Beneath, path: &Path) -> Result<File, PathError> {
    let folder = layer.folder(path.parent().unwrap_or(Path::new(""))).map_err(layer.fail("open", path))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&folder, path.file_name().unwrap_or_default(), flags, Mode::empty());
    let file = File::from(file.map_err(layer.fail("open", path))?);
    if file.metadata().is_ok_and(|found| found.is_file()) {
        return Ok(file);
    }
    Err(layer.fail::<io::Error>("read", path)(io::Error::other("it is no regular file")))
}

/// Returns what a regular file of one layer holds, if it is there.
pub(in crate::layer) fn regular(
    layer: &Beneath,
    path: &Path,
    limit: u64,
) -> Result<Option<(Vec<u8>, Stat)>, PathError> {
    let Some(stat) = stat(layer, path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = open(layer, path)?.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(layer.fail::<io::Error>("read", path))?;
    if bytes.len() as u64 > limit {
        let odd = io::Error::other(format!("it is longer than {limit} bytes"));
        return Err(layer.fail::<io::Error>("read", path)(odd));
    }
    Ok(Some((bytes, stat)))
}

/// Returns the names of the extended attributes of a file or folder of one layer; a link has none.
pub(in crate::layer) fn attributes(layer: &Beneath, path: &Path) -> Result<Vec<Vec<u8>>, PathError> {
    let folder = layer.folder(path.parent().unwrap_or(Path::new(""))).map_err(layer.fail("open", path))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&folder, path.file_name().unwrap_or_default(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::LOOP) => return Ok(Vec::new()),
        Err(e) => return Err(layer.fail("open", path)(e)),
    };
    let mut list = vec![0_u8; 1 << 16];
    let length = match rustix::fs::flistxattr(&file, list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(layer.fail("list the attributes of", path)(e)),
    };
    let names = list.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

impl From<&Stat> for Attributes {
    fn from(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: u64::try_from(stat.st_mtime).unwrap_or_default(),
        }
    }
}

impl Ground for Layers {
    fn look(&self, path: &Path) -> Result<Option<Found>, PathError> {
        let Some((number, stat)) = self.find(path)? else { return Ok(None) };
        Ok(Some(match (FileType::from_raw_mode(stat.st_mode), self.layer(number)) {
            (FileType::Directory, _) => Found::Folder(Attributes::from(&stat)),
            (FileType::Symlink, Some(layer)) => Found::Link(target(layer, path)?),
            _ => Found::File,
        }))
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, mknodat};

    use super::*;
    use crate::fs;

    #[test]
    fn what_a_layer_hides_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["low/usr/bin", "low/usr/share/gone/deep", "top/usr/bin", "top/usr/share"] {
            fs::create_dir_all(&dir.path().join(folder)).unwrap();
        }
        for file in ["low/usr/bin/kept", "low/usr/bin/gone", "low/usr/share/gone/deep/x"] {
            fs::write(&dir.path().join(file), "").unwrap();
        }
        for path in ["top/usr/bin/gone", "top/usr/share/gone"] {
            mknodat(CWD, dir.path().join(path), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        }
        let layers = Layers::open(&[dir.path().join("top"), dir.path().join("low")]).unwrap();
        let look = |path: &str| layers.look(Path::new(path)).unwrap();
        assert_eq!(look("usr/bin/kept"), Some(Found::File));
        for gone in ["usr/bin/gone", "usr/share/gone", "usr/share/gone/deep", "usr/share/gone/deep/x"] {
            assert_eq!(look(gone), None, "{gone}");
        }
    }
}
