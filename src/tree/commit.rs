//! The git commit a tree is at, for information: read from git's files, because running git in somebody else's
//! repository runs what its configuration says.

use std::path::{Path, PathBuf};

use super::layout::read;

/// Returns the commit that the working tree at `path` has checked out, 40 or 64 hexadecimal digits; nothing where there
/// is no git or its files are not understood. Says nothing about changes since.
pub(super) fn commit(path: &Path) -> Option<String> {
    let git = path.join(".git");
    let git = if git.is_dir() { git } else { linked(path, &git)? };
    let head = read(&git.join("HEAD")).ok()??;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return hash(head.trim()) };
    if !name.starts_with("refs/") || name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return None;
    }
    // A linked working tree keeps its branches with the main one.
    let common = read(&git.join("commondir")).ok()?.map_or(git.clone(), |dir| git.join(dir.trim()));
    if let Some(text) = read(&common.join(name)).ok()? {
        return hash(text.trim());
    }
    let packed = read(&common.join("packed-refs")).ok()??;
    packed.lines().find_map(|line| line.split_once(' ').filter(|(_, found)| *found == name)).and_then(|(h, _)| hash(h))
}

/// Returns where a linked working tree's `.git` file points.
fn linked(path: &Path, file: &Path) -> Option<PathBuf> {
    let text = read(file).ok()??;
    Some(path.join(text.trim().strip_prefix("gitdir: ")?))
}

fn hash(text: &str) -> Option<String> {
    let good = [40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    fn git(files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        }
        commit(dir.path())
    }

    #[test]
    fn the_commit_is_found_where_git_keeps_it() {
        let hash = Some(HASH.to_string());
        let line = format!("{HASH}\n");
        assert_eq!(git(&[(".git/HEAD", &line)]), hash);
        assert_eq!(git(&[(".git/HEAD", "ref: refs/heads/a/b\n"), (".git/refs/heads/a/b", &line)]), hash);
        let packed = format!("# pack-refs\n{HASH} refs/heads/x\n");
        assert_eq!(git(&[(".git/HEAD", "ref: refs/heads/x\n"), (".git/packed-refs", &packed)]), hash);
        let linked = [
            (".git", "gitdir: m/w\n"),
            ("m/w/HEAD", "ref: refs/heads/x\n"),
            ("m/w/commondir", "..\n"),
            ("m/refs/heads/x", &line),
        ];
        assert_eq!(git(&linked), hash);
    }

    #[test]
    fn what_is_not_understood_is_no_commit() {
        assert_eq!(git(&[]), None);
        assert_eq!(git(&[(".git/HEAD", "ref: ../../secret\n"), ("secret", HASH)]), None);
        assert_eq!(git(&[(".git/HEAD", "ref: refs/../../secret\n"), ("secret", HASH)]), None);
        assert_eq!(git(&[(".git/HEAD", "root:x:0:0\n")]), None);
    }
}
