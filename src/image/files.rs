//! Images of files: what some Debian packages and those that they depend on consist of, unpacked over each other. Nothing is
//! installed and nothing of theirs is run, so that it does not matter for which machine they are.
//!
//! Runs inside the id range, in the scratch folder, like [`super::inside`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::customise::{Root, customise, matches};
use super::definition::{Recipe, Replacement};
use super::{ImageError, inside};
use crate::atom::{Name, RootPath};
use crate::fs;
use crate::process::chain;

impl Recipe {
    /// Refuses an image of files, of this name, that does not keep the emulator for a machine, in qemu's words.
    pub fn check_emulator(&self, name: &Name, machine: &str) -> Result<(), ImageError> {
        let program = format!("/usr/bin/qemu-{machine}");
        let keeps = |pattern: &RootPath| {
            let (pattern, path) = (pattern.as_path().iter(), Path::new(&program).iter());
            // What is below a path that is kept is kept as well.
            pattern.clone().count() <= path.clone().count()
                && pattern.zip(path).all(|(part, name)| matches(part.as_bytes(), name.as_bytes()))
        };
        if self.keep.iter().any(keeps) {
            return Ok(());
        }
        let kept = self.keep.iter().map(ToString::to_string);
        let has = kept.filter_map(|path| path.strip_prefix("/usr/bin/qemu-").map(|name| format!("qemu-{name}")));
        let has = has.collect::<Vec<_>>().join(", ");
        Err(ImageError::NoEmulator { image: name.clone(), program, has })
    }
}

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
    alter(root, &recipe.strings, &recipe.moves)?;
    customise(root, recipe).map_err(|e| chain(&e))
}

/// Changes strings of programs, then moves what is to be somewhere else. No link of a package's is followed: it may lead to the
/// host's files.
fn alter(root: &Path, strings: &[Replacement], moves: &BTreeMap<RootPath, RootPath>) -> Result<(), String> {
    let root = Root::open(root).map_err(|e| chain(&e))?;
    strings.iter().try_for_each(|change| replace(&root, change))?;
    moves.iter().try_for_each(|(from, to)| root.rename(from, to)).map_err(|e| chain(&e))
}

/// Changes every string of a program that is `text`, and nothing else; what is shorter ends earlier.
fn replace(root: &Root, Replacement { path, text, with }: &Replacement) -> Result<(), String> {
    let failed = |why: &str| format!("cannot change `{text}` in `{path}`: {why}");
    let mut file = root.file(path).map_err(|e| chain(&e))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| failed(&e.to_string()))?;
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
    file.write_all_at(&bytes, 0).map_err(|e| failed(&e.to_string()))
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
        let root = Root::open(dir.path()).unwrap();
        replace(&root, &change("/old/path", "/new")).unwrap();
        let wanted = b"\0/new\0\0\0\0\0\0\0/old/path/more\0very/old/path\0\0/new\0\0\0\0\0\0";
        assert_eq!(fs::read(&file).unwrap(), wanted);
        assert!(replace(&root, &change("/old/path", "/new")).unwrap_err().contains("no such string"));
        assert!(replace(&root, &change("/new", "/longer")).unwrap_err().contains("longer"));
    }

    #[test]
    fn an_image_of_emulators_that_lacks_one_is_refused_with_the_way_to_have_it() {
        let name: Name = "qemu-user".parse().unwrap();
        let mut recipe = crate::image::Definition::find(&name, &[]).unwrap().recipe;
        assert!(recipe.check_emulator(&name, "sparc64").is_ok());
        let error = recipe.check_emulator(&name, "loongarch64").unwrap_err().to_string();
        for part in ["no `/usr/bin/qemu-loongarch64`", "qemu-sparc64", "`inherits = \"qemu-user\"`", "`keep = [\""] {
            assert!(error.contains(part), "{part}: {error}");
        }
        for pattern in ["/usr/bin/qemu-*", "/usr/bin", "/usr/*/qemu-loongarch64"] {
            recipe.keep = vec![pattern.parse().unwrap()];
            assert!(recipe.check_emulator(&name, "loongarch64").is_ok(), "{pattern}");
        }
        recipe.keep = vec!["/usr/bin/qemu-loongarch64/x".parse().unwrap()];
        assert!(recipe.check_emulator(&name, "loongarch64").is_err());
    }

    #[test]
    fn no_link_of_a_package_leads_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let [root, outside] = ["root", "outside"].map(|name| dir.path().join(name));
        for folder in [&root.join("usr"), &outside] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(&outside.join("tool"), b"\0/old\0").unwrap();
        fs::write(&root.join("usr/own"), b"\0/old\0").unwrap();
        fs::symlink(&outside, &root.join("usr/bin")).unwrap();
        fs::symlink(&outside.join("tool"), &root.join("usr/tool")).unwrap();
        let path = |path: &str| path.parse::<RootPath>().unwrap();
        let change = |at: &str| Replacement { path: path(at), text: "/old".into(), with: "/new".into() };
        let moved = |from: &str, to: &str| BTreeMap::from([(path(from), path(to))]);
        for at in ["/usr/bin/tool", "/usr/tool"] {
            let said = alter(&root, &[change(at)], &BTreeMap::new()).unwrap_err();
            assert!(said.contains("leads through a link"), "{said}");
        }
        for (from, to) in [("/usr/bin/tool", "/usr/mine"), ("/usr/own", "/usr/bin/own")] {
            assert!(alter(&root, &[], &moved(from, to)).unwrap_err().contains("leads through a link"), "{from} {to}");
        }
        assert_eq!(fs::read(&outside.join("tool")).unwrap(), b"\0/old\0");
        assert_eq!(fs::read_dir(&outside).unwrap().len(), 1);
        // A link itself may be moved, as any file.
        alter(&root, &[change("/usr/own")], &moved("/usr/tool", "/usr/lib/x/link")).unwrap();
        assert_eq!(fs::read(&root.join("usr/own")).unwrap(), b"\0/new\0");
        assert!(fs::symlink_metadata(&root.join("usr/lib/x/link")).unwrap().is_symlink());
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
