//! How image and layers may differ from a merge: the one table, which docs/layers.md explains.

use std::collections::{BTreeMap, BTreeSet};

/// One kind of difference.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// A path; `*` stands for anything within a component, at its end for anything at all below.
    path: &'static str,
    /// `folder`, `file` or any kind.
    kind: &'static str,
    what: &'static str,
    why: &'static str,
}

const fn row(path: &'static str, kind: &'static str, what: &'static str, why: &'static str) -> Accepted {
    Accepted { path, kind, what, why }
}

const OF_PHASES: &str = "what a phase writes has the time of the merge; here it has the package's";

/// What may differ; everything else may not.
pub(crate) const ACCEPTED: &[Accepted] = &[
    row("/*", "folder", "time", "a merge makes and changes folders when it runs"),
    row(
        "/*",
        "link",
        "time",
        "Portage gives links the time at which it unpacks them, we the package's; the database likewise",
    ),
    row("/var/db/pkg/*/*/*", "file", "time", "Portage writes its database when it merges; we give it the build's time"),
    row("/etc/profile.env", "file", "time", "generated"),
    row("/etc/csh.env", "file", "time", "generated"),
    row("/etc/environment.d/10-gentoo-env.conf", "file", "time", "generated"),
    row("/etc/ld.so.conf", "file", "time", "generated"),
    row("/etc/ld.so.cache", "file", "time", "generated; the bytes are the same"),
    row("/etc/passwd", "file", "time", "generated"),
    row("/etc/group", "file", "time", "generated"),
    row("/etc/shells", "file", "time", OF_PHASES),
    row("/etc/cron.allow", "file", "time", OF_PHASES),
    row("/var/cache/phases/index", "file", "time", OF_PHASES),
    row("/usr/share/phases/changed", "file", "time", OF_PHASES),
    row("/usr/share/phases/added/four", "file", "time", OF_PHASES),
    row("/var/db/pkg/*/*/BINPKGMD5", "file", "missing", "changes with the signature, and nothing reads it"),
    row(
        "/var/db/pkg/*/*/COUNTER",
        "file",
        "content",
        "layers are made in no order; compared: it is a number of its own",
    ),
    row("/var/db/pkg/*/*/metadata", "file", "content", "repeats COUNTER and the folder's time; the rest is compared"),
    row(
        "/var/db/pkg/*/*/CONTENTS",
        "file",
        "content",
        "the order of lines, which is a folder's in a merge; lines are compared",
    ),
    row(
        "/var/db/pkg/*/*/environment.bz2",
        "file",
        "content",
        "Portage adds how this merge was run; all other lines are compared",
    ),
    row("/var/cache/edb", "folder", "missing", "Portage's caches and counter"),
    row("/var/cache/edb/*", "", "missing", "Portage's caches and counter"),
    row("/var/cache/ldconfig/aux-cache", "file", "missing", "makes the next ldconfig quicker, with inode numbers"),
    row("/var/cache/phases/__pycache__", "folder", "missing", "byte code that a phase writes"),
    row("/var/cache/phases/__pycache__/*", "file", "missing", "byte code that a phase writes"),
    row("/var/lib/portage", "folder", "mode", "Portage sets it whenever it runs"),
    row("/var/lib/portage", "folder", "group", "Portage sets it whenever it runs"),
    row("/var/lib/portage/config", "file", "missing", "empty: what was done about protected files"),
    row("/var/lib/portage/preserved_libs_registry", "file", "missing", "empty: what was kept of replaced packages"),
    row("/var/log/emerge.log", "file", "missing", "a log"),
    row("/var/tmp/phases", "folder", "missing", "temporary files of a phase's"),
    row("/var/tmp/phases/*", "file", "missing", "temporary files of a phase's"),
    row("/var/tmp/portage", "folder", "missing", "where Portage unpacked packages"),
];

/// Variables of a saved environment that tell how a merge was run, and one that a loop of Portage's leaves behind.
const OF_THE_RUN: [&str; 5] = ["FEATURES", "LANG", "PORTAGE_COMPRESSION_COMMAND", "PORTAGE_FEATURES", "x"];

/// Returns the row that accepts a difference.
pub(crate) fn row_of(path: &str, kind: &str, what: &str) -> Option<usize> {
    let of = |row: &Accepted| row.what == what && (row.kind.is_empty() || row.kind == kind) && matches(row.path, path);
    ACCEPTED.iter().position(of)
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    let below = pattern.last() == Some(&"*");
    let long_enough = if below { path.len() >= pattern.len() } else { path.len() == pattern.len() };
    long_enough && pattern.iter().zip(&path).all(|(one, other)| *one == "*" || one == other)
}

/// The database: package, file, lines.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Database(BTreeMap<String, BTreeMap<String, Vec<String>>>);

impl Database {
    /// Prints it, as a script of Python's.
    pub(crate) const SHOW: &str = include_str!("database.py");

    /// Returns what differs from a merge's database and may not; what is missing as a whole is in the list of paths.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (package, merged, file) in self.0.iter().flat_map(|(p, files)| files.keys().map(move |f| (p, files, f))) {
            let Some(stacked) = other.0.get(package).and_then(|files| files.get(file)) else { continue };
            let lines = |lines: &Vec<String>| -> BTreeSet<String> {
                lines.iter().filter(|line| !may_differ(file, line)).map(|line| without_time(file, line)).collect()
            };
            let (merged, stacked) = (lines(&merged[file]), lines(stacked));
            wrong.extend(merged.symmetric_difference(&stacked).map(|line| format!("{package}/{file}: {line}")));
        }
        wrong
    }
}

/// Returns whether a line of a file in the database may be another one.
fn may_differ(file: &str, line: &str) -> bool {
    match file {
        "COUNTER" => true,
        "metadata" => line.starts_with("COUNTER=") || line.starts_with("#dir_mtime="),
        "environment.bz2" => {
            let name = line.strip_prefix("declare -x ").or_else(|| line.strip_prefix("declare -- "));
            name.and_then(|rest| rest.split('=').next()).is_some_and(|name| OF_THE_RUN.contains(&name))
        }
        _ => false,
    }
}

/// Returns a line of CONTENTS without the time, where it is a link's or that of what a phase wrote.
fn without_time(file: &str, line: &str) -> String {
    let written = |path: &str| matches!(row_of(path, "file", "time"), Some(row) if ACCEPTED[row].why == OF_PHASES);
    let path = line.strip_prefix("obj ").and_then(|rest| rest.split(' ').next());
    let without = file == "CONTENTS" && (line.starts_with("sym ") || path.is_some_and(written));
    line.rsplit_once(' ').filter(|_| without).map_or(line, |(rest, _)| rest).to_string()
}
