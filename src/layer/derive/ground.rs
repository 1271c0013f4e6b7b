//! What unpacked layers have, seen as the root they are stacked to. Runs as uid 0 of the id range.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, readlinkat, statat};
use rustix::io::Errno;

use super::place::{Attributes, Found, Ground};
use crate::fs::PathError;
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
}

impl Ground for Layers {
    fn look(&self, path: &Path) -> Result<Option<Found>, PathError> {
        for layer in &self.0 {
            let fail = || layer.fail::<Errno>("look at", path);
            let (above, name) = match path.file_name() {
                Some(name) => (path.parent().unwrap_or(Path::new("")), name.as_ref()),
                None => (Path::new(""), Path::new(".")),
            };
            let folder = match layer.folder(above) {
                Ok(folder) => folder,
                // What is no folder in this layer is hidden, if the root has a folder there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(fail()(e)),
            };
            let stat = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(fail()(e)),
            };
            return Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Found::Folder(Attributes {
                    mode: stat.st_mode & 0o7777,
                    uid: stat.st_uid,
                    gid: stat.st_gid,
                    mtime: u64::try_from(stat.st_mtime).unwrap_or_default(),
                }),
                FileType::Symlink => {
                    let target = readlinkat(&folder, name, Vec::new()).map_err(fail())?;
                    Found::Link(PathBuf::from(std::ffi::OsString::from(
                        String::from_utf8_lossy(target.to_bytes()).into_owned(),
                    )))
                }
                _ => Found::File,
            }));
        }
        Ok(None)
    }
}
