//! Everything in a tree, in one order, and whether it can be part of a snapshot.

use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::TreeError;
use crate::digest::Digest;
use crate::fs;

/// More entries than any tree has (Gentoo's has about 160,000).
const MOST_ENTRIES: usize = 2_000_000;
/// More bytes than any tree has (Gentoo's has about half a GiB).
const MOST_BYTES: u64 = 8 << 30;

/// One file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// From the tree's top, with `/`.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Whatever changes when the entry does: inode, size, times of modification and change in nanoseconds, mode.
    stat: [i128; 5],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File { executable: bool },
    Link { target: PathBuf },
}

/// Returns all entries, parents before children, otherwise sorted by path. Version control's own folder is not part of
/// the tree.
pub(super) fn walk(top: &Path) -> Result<Vec<Entry>, TreeError> {
    let mut entries = Vec::new();
    let mut folders = vec![String::new()];
    let mut bytes = 0_u64;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&top.join(&folder))? {
            let refuse = |why| TreeError::Refused { path: path.clone(), why };
            let name =
                path.file_name().and_then(|name| name.to_str()).ok_or_else(|| refuse("its name is not UTF-8"))?;
            if name == ".git" {
                continue;
            }
            if name.chars().any(char::is_control) {
                return Err(refuse("its name holds control characters"));
            }
            let relative = if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
            let metadata = fs::symlink_metadata(&path)?;
            let kind = if metadata.is_dir() {
                folders.push(relative.clone());
                Kind::Folder
            } else if metadata.is_file() {
                bytes = bytes.saturating_add(metadata.len());
                Kind::File { executable: metadata.permissions().mode() & 0o111 != 0 }
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path)?;
                if !stays(&relative, &target) {
                    return Err(refuse("it is a link that leads out of the tree"));
                }
                Kind::Link { target }
            } else {
                return Err(refuse("it is neither a file nor a folder nor a link"));
            };
            // A folder's own size and times change with what is in it, which is listed anyway.
            let stat = if kind == Kind::Folder { [0; 5] } else { stat(&metadata) };
            entries.push(Entry { path: relative, kind, stat });
            if entries.len() > MOST_ENTRIES || bytes > MOST_BYTES {
                return Err(TreeError::TooLarge { path: top.to_path_buf() });
            }
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn stat(metadata: &fs::Metadata) -> [i128; 5] {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    [
        metadata.ino().into(),
        metadata.size().into(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        metadata.mode().into(),
    ]
}

/// Returns whether a link's target lies in the tree. `..` counts at its beginning only, where what is above the link is
/// known to be folders: after the name of another link it could lead anywhere.
fn stays(link: &str, target: &Path) -> bool {
    let mut above = link.matches('/').count();
    let mut named = false;
    target.components().all(|part| match part {
        Component::Normal(_) => {
            named = true;
            true
        }
        Component::CurDir => true,
        Component::ParentDir if above > 0 && !named => {
            above -= 1;
            true
        }
        _ => false,
    })
}

/// Returns a digest that changes whenever an entry does, from the file system's records alone.
pub(super) fn records(top: &Path, entries: &[Entry]) -> Digest {
    let mut text = format!("{}\n", top.display());
    for entry in entries {
        let _ = writeln!(text, "{} {:?} {:?}", entry.path, entry.kind, entry.stat);
    }
    Digest::of(text)
}

/// Returns whether everything last changed so long before `time`, when the listing began, that a change after it leaves
/// other records: file systems keep times in ticks, some in whole seconds.
pub(super) fn settled(entries: &[Entry], time: SystemTime) -> bool {
    const TICK: Duration = Duration::from_secs(2);
    let latest = time.checked_sub(TICK).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let latest = latest.and_then(|time| i128::try_from(time.as_nanos()).ok()).unwrap_or(0);
    entries.iter().all(|entry| entry.stat[2] < latest && entry.stat[3] < latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_point_anywhere_inside_and_nowhere_outside() {
        for (link, target) in [("a", "b"), ("a/b/c", "../../d"), ("a/b", "./c"), ("a/b", "../a/c")] {
            assert!(stays(link, Path::new(target)), "{link} -> {target}");
        }
        for (link, target) in
            [("a", "/etc/passwd"), ("a", "../x"), ("a/b", "../../x"), ("a/b", "../../tree/x"), ("a/b", "up/../x")]
        {
            assert!(!stays(link, Path::new(target)), "{link} -> {target}");
        }
    }
}
