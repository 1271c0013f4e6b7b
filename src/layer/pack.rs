//! Packs a folder into the one archive that its content has: the same files give the same bytes.
//!
//! Sorted by name, folder before content; owners as numbers only; times no later than a given one; a second name of a
//! file as a hard link to the first in that order; ustar headers, and pax headers only where ustar has no room.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::archive::BLOCK;
use crate::fs::{self, Metadata, PathError};

const BLOCK_LENGTH: usize = 512;

/// Writes the archive of what is in `from`; times after `newest`, in seconds since 1970, become `newest`.
pub(super) fn pack(from: &Path, newest: u64, mut writer: impl Write) -> Result<(), PackError> {
    let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    // A stack, not recursion: the depth is somebody else's choice. Pushed in reverse, so popped in order.
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        let full = from.join(&path);
        let metadata = fs::symlink_metadata(&full)?;
        check_attributes(&full)?;
        let kind = metadata.file_type();
        let mut member =
            Entry { name: name(&path, kind.is_dir()), link: Vec::new(), kind: EntryType::Regular, size: 0 };
        if kind.is_dir() {
            member.kind = EntryType::Directory;
            let children = fs::read_dir(&full)?;
            let names = children.iter().rev().filter_map(|child| child.file_name());
            stack.extend(names.map(|name| path.join(name)));
        } else if kind.is_symlink() {
            member.kind = EntryType::Symlink;
            member.link = fs::read_link(&full)?.as_os_str().as_bytes().to_vec();
        } else if kind.is_file() {
            let first = (metadata.nlink() > 1)
                .then(|| first_names.insert((metadata.dev(), metadata.ino()), path.clone()))
                .flatten();
            match first {
                Some(first) => {
                    member.kind = EntryType::Link;
                    member.link = name(&first, false);
                    first_names.insert((metadata.dev(), metadata.ino()), first);
                }
                None => member.size = metadata.len(),
            }
        } else {
            return Err(PackError::Kind { path: full, fifo: kind.is_fifo() });
        }
        member.write(&metadata, newest, &mut writer)?;
        if member.size > 0 {
            copy(&full, member.size, &mut writer)?;
        }
    }
    writer.write_all(&[0; 2 * BLOCK_LENGTH]).map_err(PackError::Write)?;
    writer.flush().map_err(PackError::Write)
}

struct Entry {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: EntryType,
    size: u64,
}

impl Entry {
    fn write(&self, metadata: &Metadata, newest: u64, writer: &mut impl Write) -> Result<(), PackError> {
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        let old = header.as_old_mut();
        put(&mut old.name, &self.name, "path", &mut records);
        put(&mut old.linkname, &self.link, "linkpath", &mut records);
        header.set_entry_type(self.kind);
        header.set_mode(metadata.permissions().mode() & 0o7777);
        // Ids below 65536, times below 2^33 and sizes below 8 GiB fit into ustar's octal digits.
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0).min(newest));
        if self.size >= 1 << 33 {
            return Err(PackError::TooLarge(String::from_utf8_lossy(&self.name).into_owned()));
        }
        header.set_size(self.size);
        header.set_cksum();
        if !records.is_empty() {
            let mut extension = Header::new_ustar();
            extension.as_old_mut().name[..3].copy_from_slice(b"pax");
            extension.set_entry_type(EntryType::XHeader);
            extension.set_mode(0o644);
            extension.set_uid(0);
            extension.set_gid(0);
            extension.set_mtime(0);
            extension.set_size(records.len() as u64);
            extension.set_cksum();
            writer.write_all(extension.as_bytes()).map_err(PackError::Write)?;
            records.resize(records.len().next_multiple_of(BLOCK_LENGTH), 0);
            writer.write_all(&records).map_err(PackError::Write)?;
        }
        writer.write_all(header.as_bytes()).map_err(PackError::Write)
    }
}

/// Puts a name into its header field, and the whole of it into a pax record where the field is too short.
fn put(field: &mut [u8; 100], name: &[u8], key: &str, records: &mut Vec<u8>) {
    let fitting = name.len().min(field.len());
    field[..fitting].copy_from_slice(&name[..fitting]);
    if name.len() > field.len() {
        // The length counts itself: LENGTH SPACE KEY = NAME NEWLINE.
        let rest = key.len() + name.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        records.extend_from_slice(format!("{length} {key}=").as_bytes());
        records.extend_from_slice(name);
        records.push(b'\n');
    }
}

fn name(path: &Path, folder: bool) -> Vec<u8> {
    let mut name = b"./".to_vec();
    name.extend_from_slice(path.as_os_str().as_bytes());
    if folder && name != b"./" {
        name.push(b'/');
    }
    name
}

fn copy(path: &Path, size: u64, writer: &mut impl Write) -> Result<(), PackError> {
    let mut file = io::Read::take(fs::open(path)?, size);
    let copied = io::copy(&mut file, writer).map_err(PackError::Write)?;
    if copied != size {
        return Err(PackError::Changed(path.to_path_buf()));
    }
    let padding = usize::try_from(size.next_multiple_of(BLOCK) - size).expect("less than a block");
    writer.write_all(&vec![0; padding]).map_err(PackError::Write)
}

/// Refuses what the archive would lose, such as a file's capabilities. The label that SELinux gives every file is not
/// the folder's but the host's.
pub(super) fn check_attributes(path: &Path) -> Result<(), PackError> {
    let mut list = vec![0_u8; 1 << 16];
    let length = match rustix::fs::llistxattr(path, list.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(PathError::on("list the attributes of", path)(e.into()).into()),
    };
    let mut names = list[..length].split(|b| *b == 0).filter(|name| !name.is_empty() && *name != b"security.selinux");
    match names.next() {
        None => Ok(()),
        Some(name) => Err(PackError::Attribute {
            path: path.to_path_buf(),
            name: String::from_utf8_lossy(name).escape_debug().to_string(),
        }),
    }
}

/// A folder could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Nobody takes the archive.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// Something no layer may hold.
    #[error("`{}` is a {}; a layer holds files, folders and links only", path.display(), if *fifo { "named pipe" } else { "device or socket" })]
    Kind {
        /// What.
        path: PathBuf,
        /// Whether it is a pipe.
        fifo: bool,
    },
    /// Something a layer would lose.
    #[error("`{}` has the extended attribute `{name}`, which a layer cannot carry", path.display())]
    Attribute {
        /// On what.
        path: PathBuf,
        /// The attribute.
        name: String,
    },
    /// More than ustar can say.
    #[error("`{0}` has more than 8 GiB")]
    TooLarge(String),
    /// Somebody is still writing.
    #[error("`{}` changed while it was being packed", .0.display())]
    Changed(PathBuf),
}

#[cfg(test)]
mod tests;
