//! Images of files: what some Debian packages and those that they depend on consist of, unpacked over each other. Nothing is
//! installed and nothing of theirs is run, so that it does not matter for which machine they are.
//!
//! Runs inside the id range, in the scratch folder, like [`super::inside`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::customise::{customise, matches};
use super::definition::{Recipe, Replacement};
use super::inside;
use crate::fs;
use crate::process::chain;

/// Makes `root` in the working folder of the packages in `repo/`, and keeps of it what the definition says.
pub(super) fn unpack(recipe: &Recipe) -> Result<(), String> {
    let root = Path::new("root");
    fs::create_dir(root, 0o755).map_err(|e| chain(&e))?;
    let mut packages = fs::read_dir(Path::new("repo")).map_err(|e| chain(&e))?;
    packages.retain(|file| file.extension() == Some(OsStr::new("deb")));
    packages.sort();
    for file in &packages {
        let mut command = inside::contained();
        command.args(["--", "dpkg-deb", "--extract"]).arg(file).arg(root);
        inside::run(&format!("unpacking `{}`", file.display()), &mut command, "")?;
    }
    let patterns: Vec<Vec<&OsStr>> = recipe.keep.iter().map(|path| path.as_path().iter().skip(1).collect()).collect();
    let kept = retain(root, &patterns.iter().map(Vec::as_slice).collect::<Vec<_>>()).map_err(|e| chain(&e))?;
    if let Some(missing) = (0..patterns.len()).find(|number| !kept.contains(number)) {
        return Err(format!("none of the packages has `{}`, which the definition keeps", recipe.keep[missing]));
    }
    for change in &recipe.strings {
        replace(root, change)?;
    }
    for (from, to) in &recipe.moves {
        let [from, to] = [from, to].map(|path| path.on(root));
        fs::create_dir_all(to.parent().unwrap_or(root)).and_then(|()| fs::rename(&from, &to)).map_err(|e| chain(&e))?;
    }
    customise(root, recipe).map_err(|e| chain(&e))
}

/// Changes every string of a program that is `text`, and nothing else; what is shorter ends earlier.
fn replace(root: &Path, Replacement { path, text, with }: &Replacement) -> Result<(), String> {
    let failed = |why: &str| format!("cannot change `{text}` in `{path}`: {why}");
    let file = path.on(root);
    let mut bytes = fs::read(&file).map_err(|e| chain(&e))?;
    if text.is_empty() || with.len() > text.len() || [text, with].iter().any(|text| text.contains('\0')) {
        return Err(failed("what is to stand there is longer"));
    }
    let (mut found, mut at) = (Vec::new(), 0);
    for string in bytes.split(|byte| *byte == 0) {
        if string == text.as_bytes() {
            found.push(at);
        }
        at += string.len() + 1;
    }
    if found.is_empty() {
        return Err(failed("it has no such string"));
    }
    for at in found {
        let place = &mut bytes[at..at + text.len()];
        place.fill(0);
        place[..with.len()].copy_from_slice(with.as_bytes());
    }
    fs::write(&file, bytes).map_err(|e| chain(&e))
}

/// Removes from a folder what no pattern leads to; returns which patterns led to something.
fn retain(folder: &Path, patterns: &[&[&OsStr]]) -> Result<Vec<usize>, fs::PathError> {
    let mut kept = Vec::new();
    for path in fs::read_dir(folder)? {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let fits = |pattern: &&[&OsStr]| pattern.first().is_some_and(|first| matches(first.as_bytes(), name));
        let (ends, leads): (Vec<usize>, Vec<usize>) = (0..patterns.len())
            .filter(|number| fits(&patterns[*number]))
            .partition(|number| patterns[*number].len() == 1);
        if !ends.is_empty() {
            kept.extend(ends);
            continue;
        }
        let is_folder = fs::symlink_metadata(&path)?.is_dir();
        if is_folder && !leads.is_empty() {
            let inner: Vec<&[&OsStr]> = leads.iter().map(|number| &patterns[*number][1..]).collect();
            let found = retain(&path, &inner)?;
            if !found.is_empty() {
                kept.extend(found.into_iter().map(|number| leads[number]));
                continue;
            }
        }
        remove(&path, is_folder)?;
    }
    Ok(kept)
}

fn remove(path: &Path, is_folder: bool) -> Result<(), fs::PathError> {
    if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_changed_where_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        fs::write(&file, b"\0/old/path\0\0/old/path/more\0very/old/path\0\0/old/path\0").unwrap();
        let change = |text: &str, with: &str| Replacement {
            path: "/x".parse().unwrap(),
            text: text.to_string(),
            with: with.to_string(),
        };
        replace(dir.path(), &change("/old/path", "/new")).unwrap();
        let wanted = b"\0/new\0\0\0\0\0\0\0/old/path/more\0very/old/path\0\0/new\0\0\0\0\0\0";
        assert_eq!(fs::read(&file).unwrap(), wanted);
        assert!(replace(dir.path(), &change("/old/path", "/new")).unwrap_err().contains("no such string"));
        assert!(replace(dir.path(), &change("/new", "/longer")).unwrap_err().contains("longer"));
    }

    #[test]
    fn only_what_patterns_lead_to_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["usr/bin/qemu-a", "usr/bin/qemu-b", "usr/bin/x/deep", "usr/share/doc/y", "etc/z", "usr/lib/w/v"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(&root.join(name), "").unwrap();
        }
        fs::symlink(Path::new("usr/bin"), &root.join("bin")).unwrap();
        let patterns: Vec<Vec<&OsStr>> = ["usr/bin/qemu-*", "usr/lib", "usr/none/x", "bin/qemu-a"]
            .iter()
            .map(|path| Path::new(path).iter().collect())
            .collect();
        let mut kept = retain(root, &patterns.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        kept.sort_unstable();
        kept.dedup();
        // A link is no folder.
        assert_eq!(kept, [0, 1]);
        let there = |name: &str| fs::symlink_metadata(&root.join(name)).is_ok();
        assert!(there("usr/bin/qemu-a") && there("usr/bin/qemu-b") && there("usr/lib/w/v"));
        assert!(!["usr/bin/x", "usr/share", "etc", "bin"].iter().any(|name| there(name)));
    }
}
