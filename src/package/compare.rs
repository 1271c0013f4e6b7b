//! What differs in what two builds of a package offer, in words: which symbol, which file. For people who ask why something
//! is built again; nothing is decided by it.
//!
//! Both are packages of ours, and were made by builds: they are read in a sandbox (`__compare`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use crate::fs::{self, PathError};

use super::archive::ArchiveError;
use super::header::{Header, Kind};
use super::offers::{Seen, is_documentation, see};
use super::opened::{Identity, OpenError, Opened};

/// More differences than these say no more.
const SHOWN: usize = 3;

/// What is to be compared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareOptions {
    /// The earlier package.
    pub old: (PathBuf, Identity),
    /// The later one.
    pub new: (PathBuf, Identity),
    /// Which part of what they offer.
    pub part: Part,
}

/// A part of an output digest, see [`super::offers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// What compiling and linking can see.
    Link,
    /// What is linked statically.
    Archives,
    /// What running can see.
    Tools,
}

/// What a package has at a path.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    /// Mode, owner, or where it links to.
    about: String,
    seen: Option<Seen>,
}

type Items = BTreeMap<String, Item>;

/// Returns what differs, the most telling first, and that there is more where there is.
pub fn compare(options: &CompareOptions) -> Result<Vec<String>, CompareError> {
    let mut found = differences(&items(&options.old)?, &items(&options.new)?, options.part);
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    Ok(found)
}

fn items((file, identity): &(PathBuf, Identity)) -> Result<Items, CompareError> {
    let mut items = Items::new();
    let mut opened = Opened::open(fs::open_regular(file)?, identity.clone())?;
    opened.walk(&mut |entry, data| take(&mut items, entry, data))?;
    Ok(items)
}

fn take(items: &mut Items, entry: &Header, data: &mut dyn Read) -> Result<(), ArchiveError> {
    let path = |name: &[u8]| {
        let name = name.strip_suffix(b"/").unwrap_or(name);
        String::from_utf8_lossy(name.strip_prefix(b"image").unwrap_or(name)).into_owned()
    };
    let (name, Header { mode, uid, gid, .. }) = (path(&entry.name), entry);
    let about = match entry.kind {
        Kind::SymLink | Kind::HardLink => path(&entry.target),
        _ => format!("{mode:o} {uid} {gid}"),
    };
    let seen = if entry.kind == Kind::File { Some(see(entry, data)?) } else { None };
    if !is_documentation(&name) {
        items.insert(name, Item { about, seen });
    }
    Ok(())
}

fn differences(old: &Items, new: &Items, part: Part) -> Vec<String> {
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut symbols = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        let shown = shown(path);
        let counts = |item: &&Item| match (part, &item.seen) {
            (Part::Tools, _) => true,
            (Part::Archives, seen) => matches!(seen, Some(Seen::Archive(_))),
            (Part::Link, seen) => !matches!(seen, Some(Seen::Archive(_))),
        };
        match (old.get(path).filter(counts), new.get(path).filter(counts)) {
            (None, None) => {}
            (None, Some(_)) => files.push(format!("`{shown}` is new")),
            (Some(_), None) => files.push(format!("`{shown}` is gone")),
            (Some(Item { about: before, seen: a }), Some(Item { about: after, seen: b })) => match (a, b) {
                (Some(Seen::Dynamic { abi: old, .. }), Some(Seen::Dynamic { abi: new, .. }))
                    if part == Part::Link && before == after =>
                {
                    symbols.extend(of_abi(old, new).into_iter().map(|what| format!("{what} in `{shown}`")));
                }
                _ if before != after => files.push(format!("what `{shown}` is, or its mode or owner, changed")),
                _ if a != b => files.push(format!("`{shown}` changed")),
                _ => {}
            },
        }
    }
    symbols.extend(files);
    symbols
}

/// Returns what differs between the lines of two ABIs, by what they are about.
fn of_abi(old: &[Vec<u8>], new: &[Vec<u8>]) -> Vec<String> {
    let named = |lines: &[Vec<u8>]| {
        let mut about: BTreeMap<(String, String), BTreeSet<Vec<u8>>> = BTreeMap::new();
        for line in lines {
            let mut fields = line.split(|byte| *byte == 0);
            let mut field = || String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
            let kind = field();
            let kind = kind.split(' ').next().unwrap_or_default().to_string();
            // Of what there is one of a kind, the value is not its name.
            let name = if kind == "symbol" || kind == "wants" || kind == "version" { field() } else { String::new() };
            about.entry((kind, name)).or_default().insert(line.clone());
        }
        about
    };
    let (old, new) = (named(old), named(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(key) != new.get(key));
    let mut said: Vec<(bool, String)> = changed
        .map(|key @ (kind, name)| {
            let what = match kind.as_str() {
                "symbol" => format!("symbol `{}`", shown(name)),
                "wants" => format!("the need of symbol `{}`", shown(name)),
                "version" => format!("symbol version `{}`", shown(name)),
                "soname" => "the SONAME".to_string(),
                kind => format!("the ELF file's `{}`", shown(kind)),
            };
            let how = match (old.get(key), new.get(key)) {
                (None, _) => "is new",
                (_, None) => "is gone",
                _ => "changed",
            };
            (how == "is new", format!("{what} {how}"))
        })
        .collect();
    // What is gone or changed breaks users; what is new does not.
    said.sort();
    said.into_iter().map(|(_, said)| said).collect()
}

/// Returns a name of a build's as it may be shown.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// Two packages cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A package cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::offers::abi::tests::compiled;

    fn items(files: &[(&str, &[u8])]) -> Items {
        let mut items = Items::new();
        for (path, data) in files {
            let header = Header::file(&format!("image{path}"), data.len() as u64, 7);
            take(&mut items, &header, &mut &data[..]).unwrap();
        }
        items
    }

    fn library(text: &str) -> Vec<u8> {
        compiled(&["-shared", "-fPIC", "-Wl,-soname,liba.so.1"], text)
    }

    #[test]
    fn symbols_are_named_before_files() {
        let package = |text: &str, header: &str| {
            let (library, archive) = (library(text), [b"!<arch>\n", text.as_bytes()].concat());
            items(&[
                ("/usr/lib64/liba.so.1", &library),
                ("/usr/lib64/liba.a", &archive),
                ("/usr/include/a.h", header.as_bytes()),
                ("/usr/share/man/man3/a.3", text.as_bytes()),
            ])
        };
        let old = package("int f(void) { return 1; } int g(void) { return 1; } int data = 1;", "a");
        let new = package("int f(void) { return 2; } int h(void) { return 1; } long data = 1;", "b");
        assert_eq!(
            differences(&old, &new, Part::Link),
            [
                "symbol `data` changed in `/usr/lib64/liba.so.1`",
                "symbol `g` is gone in `/usr/lib64/liba.so.1`",
                "symbol `h` is new in `/usr/lib64/liba.so.1`",
                "`/usr/include/a.h` changed",
            ]
        );
        assert_eq!(differences(&old, &new, Part::Archives), ["`/usr/lib64/liba.a` changed"]);
        assert_eq!(differences(&old, &new, Part::Tools).len(), 3);
        assert_eq!(differences(&old, &old, Part::Tools), [""; 0]);
    }

    #[test]
    fn files_that_come_and_go_are_named_and_names_are_escaped() {
        let (old, new) = (items(&[("/usr/a\u{1b}", b"x")]), items(&[("/usr/b", b"x")]));
        assert_eq!(differences(&old, &new, Part::Link), ["`/usr/a\\u{1b}` is gone", "`/usr/b` is new"]);
    }
}
