//! What unpacked layers have, seen as the root they are stacked to. Runs as uid 0 of the id range.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat, readlinkat, statat};
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
                // A folder that is hidden here is hidden with all that is in it, whatever lies below.
                Err(Errno::NOTDIR) if above.ancestors().any(|path| is_whiteout(layer, path)) => return Ok(None),
                // What is no folder in this layer is hidden, if the root has a folder there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(fail()(e)),
            };
            let stat = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(fail()(e)),
            };
            if whiteout(&stat) {
                return Ok(None);
            }
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

/// Returns whether this stands for what is hidden (overlayfs: a character device 0:0).
fn whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_whiteout(layer: &Beneath, path: &Path) -> bool {
    let (Some(name), Some(above)) = (path.file_name(), path.parent()) else { return false };
    let stat = layer.folder(above).and_then(|folder| statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW));
    stat.is_ok_and(|stat| whiteout(&stat))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mknodat};

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
