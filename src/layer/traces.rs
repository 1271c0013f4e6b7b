//! By which files it shows that a package is used: those of its layer that nothing else has a reason to open.
//!
//! Not the package's entry in Portage's database, which Portage reads, its documentation, and what every shell reads
//! (`/etc/env.d`). A folder that no other package and not the image has stands for all files directly in it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::atom::Cpv;
use crate::layer::derive::{Context, DeriveError, Layer, record};

/// The most paths for one package, and for all: each costs the kernel about a kilobyte, and the start of a build some
/// microseconds.
const EACH: usize = 256;
const ALL: usize = 2048;

/// What says nothing.
const SILENT: [&str; 9] = [
    "var/db/pkg/",
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/licenses/",
    "usr/share/gtk-doc/",
    "usr/lib/debug/",
    "etc/env.d/",
];

/// Where it shows that a package is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traces {
    /// In these files and folders, relative to the root; none, where it has nothing to be used.
    In(Vec<String>),
    /// In more than can be looked after.
    TooMany,
}

/// Returns where it shows that some packages of a stack are used, by package; `image` are all folders that the image has. The
/// packages are merged as the context says, which may be below a folder.
pub fn traces(
    cx: &Context<'_>,
    layers: &[Layer],
    of: &[Cpv],
    image: &BTreeSet<String>,
) -> Result<BTreeMap<Cpv, Traces>, DeriveError> {
    let mut seen: HashSet<String> = HashSet::new();
    let mut shared: HashSet<String> = HashSet::new();
    let mut files: Vec<(&Cpv, BTreeSet<String>)> = Vec::new();
    for layer in layers {
        let record = record(cx, &layer.digest)?.ok_or_else(|| DeriveError::Gone(Some(layer.cpv.clone())))?;
        shared.extend(record.folders.iter().filter(|folder| seen.contains(*folder)).cloned());
        seen.extend(record.folders);
        if of.contains(&layer.cpv) {
            files.push((&layer.cpv, record.files));
        }
    }
    let own = |folder: &str| !folder.is_empty() && !image.contains(folder) && !shared.contains(folder);
    let mut all: Vec<(&Cpv, BTreeSet<String>)> =
        files.into_iter().map(|(cpv, files)| (cpv, select(&files, cx.merge.below(), own))).collect();
    // As many packages as can be.
    all.sort_by_key(|(_, traces)| traces.len());
    let mut left = ALL;
    let mut fit = |(cpv, traces): (&Cpv, BTreeSet<String>)| {
        if traces.len() > EACH.min(left) {
            return (cpv.clone(), Traces::TooMany);
        }
        left -= traces.len();
        (cpv.clone(), Traces::In(traces.into_iter().collect()))
    };
    Ok(all.into_iter().map(&mut fit).collect())
}

/// Returns folders of a package's own, and its files elsewhere; it was merged `below` a folder.
fn select(files: &BTreeSet<String>, below: &str, own: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_string();
    let telling = files
        .iter()
        .filter(|path| !SILENT.iter().any(|folder| within(path, below).starts_with(folder)))
        .filter(|path| !name(path).starts_with(".keep"));
    let trace = |path: &String| match path.rsplit_once('/') {
        Some((folder, _)) if own(folder) => folder.to_string(),
        _ => path.clone(),
    };
    telling.map(trace).collect()
}

/// Returns a path in the folder that packages are merged below, or as it is where it is not there.
pub(in crate::layer) fn within<'a>(path: &'a str, below: &str) -> &'a str {
    if below.is_empty() {
        return path;
    }
    path.strip_prefix(below).and_then(|path| path.strip_prefix('/')).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_its_own_stands_for_its_files() {
        let files = [
            "usr/bin/tool",
            "usr/include/own/a.h",
            "usr/include/own/b.h",
            "usr/include/own/deep/c.h",
            "usr/include/shared/d.h",
            "usr/share/doc/tool/README",
            "var/db/pkg/c/tool-1/CONTENTS",
            "usr/share/own/.keep_c_tool-0",
            "etc/env.d/50tool",
            "file",
        ];
        let files: BTreeSet<String> = files.map(str::to_string).into();
        let found = select(&files, "", |folder| folder.contains("/own"));
        let expected = ["file", "usr/bin/tool", "usr/include/own", "usr/include/own/deep", "usr/include/shared/d.h"];
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        assert!(select(&["usr/share/doc/x/y".to_string()].into(), "", |_| true).is_empty());
    }

    #[test]
    fn below_a_sysroot_it_is_the_same_files_that_say_nothing() {
        let files = ["usr/s/var/db/pkg/c/lib-1/CONTENTS", "usr/s/usr/share/doc/lib/README", "usr/s/usr/include/lib.h"];
        let files: BTreeSet<String> = files.map(str::to_string).into();
        let found = |below| select(&files, below, |_| false).into_iter().collect::<Vec<_>>();
        assert_eq!(found("usr/s"), ["usr/s/usr/include/lib.h"]);
        assert_eq!(found("usr/other").len(), 3);
        assert_eq!(["usr/s/x", "usr/sx", "x"].map(|path| within(path, "usr/s")), ["x", "usr/sx", "x"]);
    }
}
