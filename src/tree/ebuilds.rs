//! Which packages a tree has, for answers such as "did you mean": planning is the package manager's.

use std::path::Path;

use crate::atom::{Atom, Category, Cpv, PackageName};
use crate::config::closest;
use crate::fs::{self, PathError};

/// Returns every ebuild `CAT/PN/PN-PV.ebuild` of a tree; what has another name is passed over.
pub fn ebuilds(tree: &Path) -> Result<Vec<Cpv>, PathError> {
    let mut all = Vec::new();
    for category in fs::read_dir(tree)? {
        let Some(Ok(_)) = name(&category).map(str::parse::<Category>) else { continue };
        for package in fs::read_dir_if_exists(&category).into_iter().flatten() {
            let Some(Ok(_)) = name(&package).map(str::parse::<PackageName>) else { continue };
            for file in fs::read_dir_if_exists(&package).into_iter().flatten() {
                let (Some(category), Some(package)) = (name(&category), name(&package)) else { continue };
                let Some(pf) = name(&file).and_then(|name| name.strip_suffix(".ebuild")) else { continue };
                match format!("{category}/{pf}").parse::<Cpv>() {
                    Ok(cpv) if cpv.package.as_str() == package => all.push(cpv),
                    _ => {}
                }
            }
        }
    }
    Ok(all)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// Returns the package, as `category/name` or `name`, that an atom is about.
pub fn named(atom: &Atom) -> String {
    let text = atom.as_str();
    let bare = text.trim_start_matches(['!', '<', '>', '=', '~']);
    let bare = bare.split([':', '[']).next().unwrap_or_default();
    match bare.parse::<Cpv>() {
        Ok(cpv) if text != bare => cpv.cp(),
        _ => bare.to_string(),
    }
}

/// Returns the package, as `category/name`, that was probably meant by an atom that matches none.
pub fn meant(known: &[Cpv], atom: &Atom) -> Option<String> {
    let bare = named(atom);
    let names: Vec<String> = known.iter().map(Cpv::cp).collect();
    // A package that is there, and cannot be had, is not misspelt.
    if names.contains(&bare) {
        return None;
    }
    if bare.contains('/') {
        // The right name in the wrong category is what was meant more surely than a similar text.
        let package = bare.rsplit('/').next().unwrap_or_default();
        let moved = names.iter().find(|cp| cp.rsplit('/').next() == Some(package));
        return moved.cloned().or_else(|| closest(&bare, names.iter().map(String::as_str)).map(String::from));
    }
    let package = closest(&bare, known.iter().map(|cpv| cpv.package.as_str()))?.to_string();
    known.iter().find(|cpv| cpv.package.as_str() == package).map(Cpv::cp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ebuilds_are_found_by_their_place_and_name() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "app-misc/hello/hello-2.10.ebuild",
            "app-misc/hello/hello-2.11-r1.ebuild",
            "app-misc/hello/other-1.ebuild",
            "app-misc/hello/Manifest",
            "app-misc/hello/files/hello-3.ebuild",
            "eclass/x.eclass",
            "README",
        ] {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
        }
        let all: Vec<String> = ebuilds(dir.path()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["app-misc/hello-2.10", "app-misc/hello-2.11-r1"]);
    }

    #[test]
    fn a_slip_in_an_atom_finds_the_package() {
        let known: Vec<Cpv> = ["app-misc/hello-2.10", "dev-libs/serd-0.30", "sys-apps/which-2"]
            .iter()
            .map(|t| t.parse().unwrap())
            .collect();
        for (asked, found) in [
            ("helo", Some("app-misc/hello")),
            ("app-misc/helo", Some("app-misc/hello")),
            ("=app-misc/hallo-2.10", Some("app-misc/hello")),
            ("dev-util/serd:0[x]", Some("dev-libs/serd")),
            ("firefox", None),
            ("app-misc/hello", None),
            ("=app-misc/hello-2.11", None),
            ("@world", None),
        ] {
            assert_eq!(meant(&known, &asked.parse().unwrap()).as_deref(), found, "{asked}");
        }
    }
}
