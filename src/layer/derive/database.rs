//! A package's entry in Portage's database, `/var/db/pkg/CATEGORY/PF/`, as a merge of it writes it (portage(5), and
//! portage/dbapi/vartree.py, 3.0.83).
//!
//! ```text
//! KEY…            each key of the package's metadata
//! CONTENTS        dir PATH | obj PATH MD5 MTIME | sym PATH -> TARGET MTIME
//! COUNTER         a number of its own; a merge counts, and layers are made in no order
//! INSTALL_MASK    what was in force, if anything
//! metadata        short values once more, one line each, with the folder's time, to which they hold
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::digest::Digest;
use crate::package::Identity;
use crate::package::metadata::Metadata;

/// The values that Portage keeps in `metadata` (`_METADATA_FILE_FIELDS`).
const SHORT: [&str; 23] = [
    "BDEPEND",
    "BUILD_ID",
    "BUILD_TIME",
    "CHOST",
    "COUNTER",
    "DEFINED_PHASES",
    "DEPEND",
    "DESCRIPTION",
    "EAPI",
    "HOMEPAGE",
    "IDEPEND",
    "IUSE",
    "KEYWORDS",
    "LICENSE",
    "PDEPEND",
    "PROPERTIES",
    "PROVIDES",
    "RDEPEND",
    "REQUIRES",
    "RESTRICT",
    "SLOT",
    "USE",
    "repository",
];

/// The lines of CONTENTS, in the order in which things are installed.
#[derive(Debug, Default)]
pub(super) struct Contents(String);

impl Contents {
    /// Records a folder; paths have no slash at the beginning.
    pub(super) fn folder(&mut self, path: &str) {
        self.line(format_args!("dir /{path}"));
    }

    /// Records a file with its MD5 and time.
    pub(super) fn file(&mut self, path: &str, md5: &str, mtime: u64) {
        self.line(format_args!("obj /{path} {md5} {mtime}"));
    }

    /// Records a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str, mtime: u64) {
        self.line(format_args!("sym /{path} -> {target} {mtime}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// Returns the files of an entry. Its folder must have the time `mtime`, in seconds since 1970.
pub(super) fn files(
    identity: &Identity,
    metadata: &Metadata,
    contents: Contents,
    install_mask: Option<String>,
    mtime: u64,
) -> BTreeMap<String, Vec<u8>> {
    let mut files = metadata.clone();
    files.insert("CONTENTS".to_string(), contents.0.into_bytes());
    files.insert("COUNTER".to_string(), counter(identity).to_string().into_bytes());
    if let Some(mask) = install_mask {
        files.insert("INSTALL_MASK".to_string(), mask.into_bytes());
    }
    let mut text = "#format=1\n".to_string();
    for (key, value) in files.iter().filter(|(key, _)| SHORT.contains(&key.as_str())) {
        let value = String::from_utf8_lossy(value);
        let words: Vec<&str> = value.split_whitespace().collect();
        let _ = writeln!(text, "{key}={}", words.join(" "));
    }
    // Portage compares nanoseconds.
    let _ = writeln!(text, "#dir_mtime={mtime}000000000");
    files.insert("metadata".to_string(), text.into_bytes());
    files
}

/// Returns CONTENTS after a merge, where its phases changed what is in it: what is as predicted keeps its line; all else has
/// the time `mtime`. Lines are `KIND PATH…`, in the order of their paths.
pub(super) fn merged_contents(predicted: &str, merged: &str, mtime: u64) -> Option<String> {
    // What a line says but for the time; the order of a merge's lines is that of a folder on disk.
    fn split(line: &str) -> (&str, Option<&str>) {
        match line.rsplit_once(' ') {
            Some((rest, time)) if !line.starts_with("dir ") => (rest, Some(time)),
            _ => (line, None),
        }
    }
    let known: BTreeMap<&str, &str> = predicted.lines().map(|line| (split(line).0, line)).collect();
    let mut lines: BTreeMap<Vec<&str>, String> = BTreeMap::new();
    let mut changed = known.len() != merged.lines().count();
    for line in merged.lines() {
        let (rest, time) = split(line);
        let text = match (known.get(rest), time) {
            (Some(line), _) => (*line).to_string(),
            (None, None) => line.to_string(),
            (None, Some(_)) => format!("{rest} {mtime}"),
        };
        changed |= !known.contains_key(rest);
        // Folders come before what is in them.
        let path = rest.split_once(' ').map_or(rest, |(_, path)| path);
        lines.insert(path.split('/').collect(), text);
    }
    changed.then(|| lines.into_values().map(|line| line + "\n").collect())
}

/// Returns a number that no two packages of a root are likely to share, and that leaves room for those that Portage counts
/// on from it. Portage needs different ones only for a package in two slots that become one.
fn counter(identity: &Identity) -> u32 {
    let digest = Digest::of(format!("{} {} {}", identity.cpv, identity.build_id, identity.content));
    u32::from_str_radix(digest.hex().get(..7).unwrap_or_default(), 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom::BuildId;

    #[test]
    fn an_entry_has_what_portage_reads() {
        let identity = Identity {
            cpv: "app-misc/hello-1".parse().unwrap(),
            build_id: BuildId(2),
            build_time: 7,
            content: Digest::of("x"),
        };
        let metadata = Metadata::from([
            ("SLOT".into(), b"0\n".to_vec()),
            ("DEPEND".into(), b"a/b\n  c/d\n".to_vec()),
            ("CFLAGS".into(), b"-O2\n".to_vec()),
        ]);
        let mut contents = Contents::default();
        contents.folder("usr");
        contents.file("usr/a b", "0123", 5);
        contents.link("usr/c", "a b", 6);
        let files = files(&identity, &metadata, contents, Some("/usr/share/doc\n".into()), 9);
        let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
        assert_eq!(text("CONTENTS"), "dir /usr\nobj /usr/a b 0123 5\nsym /usr/c -> a b 6\n");
        let counter = text("COUNTER");
        assert!(counter.parse::<u32>().unwrap() < 1 << 28);
        assert_eq!(
            text("metadata"),
            format!("#format=1\nCOUNTER={counter}\nDEPEND=a/b c/d\nSLOT=0\n#dir_mtime=9000000000\n")
        );
        assert_eq!((text("CFLAGS"), text("INSTALL_MASK")), ("-O2\n".to_string(), "/usr/share/doc\n".to_string()));
    }

    #[test]
    fn contents_follow_what_a_phase_changed_before_the_merge() {
        let predicted = "dir /usr\nobj /usr/a 0a 5\nsym /usr/b -> a 5\nobj /usr/gone 00 5\n";
        let same = "sym /usr/b -> a 99\nobj /usr/gone 00 5\ndir /usr\nobj /usr/a 0a 5\n";
        assert_eq!(merged_contents(predicted, same, 7), None);
        let merged = "obj /usr/new/x 0b 99\ndir /usr/new\nsym /usr/b -> a 99\ndir /usr\nobj /usr/a 0c 99\n";
        let expected = "dir /usr\nobj /usr/a 0c 7\nsym /usr/b -> a 5\ndir /usr/new\nobj /usr/new/x 0b 7\n";
        assert_eq!(merged_contents(predicted, merged, 7).unwrap(), expected);
    }
}
