//! What a profile's folder takes on the disk.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::fs::{self, PathError};

/// What a folder takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Disk {
    /// The bytes of its files. A file with several names (hard links) counts once.
    pub bytes: u64,
    /// Those of files without a name elsewhere, which become free with the folder.
    #[serde(skip)]
    pub(super) frees: u64,
}

impl Disk {
    /// Measures a folder; one that is not there takes nothing.
    pub(super) fn of(dir: &Path) -> Result<Self, PathError> {
        /// Of each file: its bytes, its names, and how many of them were seen.
        type Seen = HashMap<(u64, u64), (u64, u64, u64)>;
        let mut seen = Seen::new();
        fs::walk::<PathError>(dir, Path::new(""), &mut |_, path, found| {
            if found == fs::Found::File {
                let metadata = match fs::symlink_metadata(path) {
                    // It was removed meanwhile, as what is being written is.
                    Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(()),
                    found => found?,
                };
                let file =
                    seen.entry((metadata.dev(), metadata.ino())).or_insert((metadata.len(), metadata.nlink(), 0));
                file.2 += 1;
            }
            Ok(())
        })?;
        let bytes = seen.values().map(|(bytes, ..)| bytes).sum();
        let frees = seen.values().filter(|(_, names, found)| names == found).map(|(bytes, ..)| bytes).sum();
        Ok(Self { bytes, frees })
    }
}
