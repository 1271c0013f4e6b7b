//! Assembles a generation's folder, under a name that nobody reads.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::publish::{Draft, Signer};
use super::{Generation, GenerationError, INDEX, INDEX_GZ, KEY};
use crate::binhost::path::PackagePath;
use crate::binhost::pool::Entry;
use crate::binhost::statement::{FILE, SIGNATURE};
use crate::fs::{self, PathError};

/// Fills the folder `new` and writes it through to the disk.
pub(super) fn assemble(
    new: &Path,
    draft: &Draft,
    entries: &[&Entry],
    still_wanted: &[Generation],
    signer: &Signer<'_>,
) -> Result<(), GenerationError> {
    let statement = &draft.statement;
    fs::create_dir_new(new, 0o755)?;
    let mut folders = BTreeSet::from([new.to_path_buf()]);
    for entry in entries {
        link(&entry.file, new, &entry.path, &mut folders)?;
    }
    for generation in still_wanted {
        for package in &generation.statement.packages {
            let from = generation.path.join(package.path.to_string());
            match link(&from, new, &package.path, &mut folders) {
                // Linked already, or lost: the earlier generation does not have to be whole for this one to be.
                Err(GenerationError::Path(e))
                    if matches!(e.source.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                result => result?,
            }
        }
    }
    let text = statement.render();
    let signature =
        (signer.sign)(text.as_bytes()).map_err(|source| GenerationError::Sign { number: statement.serial, source })?;
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(statement.created)).unwrap_or(UNIX_EPOCH);
    for (name, bytes) in [
        (INDEX, draft.index.as_bytes()),
        (INDEX_GZ, &draft.index_gz),
        (KEY, signer.public_key.as_bytes()),
        (FILE, text.as_bytes()),
        (SIGNATURE, signature.as_bytes()),
    ] {
        write(&new.join(name), bytes, time)?;
    }
    for folder in folders {
        fs::sync_dir(&folder)?;
    }
    Ok(())
}

fn link(from: &Path, new: &Path, path: &PackagePath, folders: &mut BTreeSet<PathBuf>) -> Result<(), GenerationError> {
    let folder = new.join(path.folder());
    fs::create_dir_all(&folder)?;
    folders.extend(folder.ancestors().take_while(|dir| dir.starts_with(new)).map(Path::to_path_buf));
    let to = new.join(path.to_string());
    match fs::hard_link(from, &to) {
        Err(error) if error.source.kind() == ErrorKind::CrossesDevices => Err(GenerationError::OtherFileSystem { to }),
        result => Ok(result?),
    }
}

fn write(path: &Path, bytes: &[u8], time: SystemTime) -> Result<(), PathError> {
    let mut file = fs::create_new(path, 0o444)?;
    file.write_all(bytes)
        .and_then(|()| file.set_permissions(PermissionsExt::from_mode(0o444)))
        .and_then(|()| file.set_modified(time))
        .and_then(|()| file.sync_all())
        .map_err(PathError::on("write", path))
}
