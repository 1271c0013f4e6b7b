//! The `Packages` index that Portage's clients read, as pure text.
//!
//! ```text
//! header          KEY: value lines, keys sorted; VERSION, TIMESTAMP and PACKAGES are ours, the rest is given
//! (empty line)
//! one block for each package, sorted by path; keys in Portage's order, what equals a default is left out
//! (empty line)
//! ```
//!
//! Keys, their order and their defaults are those of Portage 3.0.83, `portage/dbapi/bintree.py` (`_pkgindex_*`) and
//! `portage/getbinpkg.py` (`PackageIndex`). A client believes all of it, so nothing that a package's metadata says may
//! begin a line: white space becomes one space each, as Portage itself does it, and other control characters are
//! refused. Portage reads its cached copy with universal newlines, where a bare carriage return ends a line, too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use crate::atom::Cpv;
use crate::binhost::path::PackagePath;
use crate::binhost::pool::Entry;

mod parse;

pub use parse::parse;

/// The version of the format, as Portage counts.
const VERSION: &str = "0";

/// The keys of a package in the order Portage writes them (`_mtime_` and `repository`, which it calls `MTIME` and `REPO`
/// in the file, come last; `DESCRIPTION` becomes `DESC`), each with the value that is left out.
const KEYS: [(&str, &str); 27] = [
    ("BDEPEND", ""),
    ("BUILD_ID", ""),
    ("BUILD_TIME", ""),
    ("CHOST", ""),
    ("CPV", ""),
    ("DEFINED_PHASES", ""),
    ("DEPEND", ""),
    ("DESC", ""),
    ("EAPI", "0"),
    ("IDEPEND", ""),
    ("IUSE", ""),
    ("KEYWORDS", ""),
    ("LICENSE", ""),
    ("MD5", ""),
    ("PATH", ""),
    ("PDEPEND", ""),
    ("PROPERTIES", ""),
    ("PROVIDES", ""),
    ("RDEPEND", ""),
    ("REQUIRES", ""),
    ("RESTRICT", ""),
    ("SHA1", ""),
    ("SIZE", ""),
    ("SLOT", "0"),
    ("USE", ""),
    ("MTIME", ""),
    ("REPO", ""),
];

/// Keys of the header that are ours, and those that would send clients elsewhere or make them stop asking.
const RESERVED: [&str; 8] =
    ["VERSION", "TIMESTAMP", "PACKAGES", "URI", "TTL", "DOWNLOAD_TIMESTAMP", "FETCHCOMMAND", "RESUMECOMMAND"];

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Seconds since 1970; the modification time of the file is the same.
    pub timestamp: u64,
    /// The other keys of the header, such as `ARCH`, `CHOST` and `PROFILE`.
    pub header: BTreeMap<String, String>,
    /// The packages.
    pub packages: Vec<Package>,
}

/// One package of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Where it lies below the index, and what it is.
    pub path: PackagePath,
    /// Length in bytes.
    pub size: u64,
    /// When it was built, in seconds since 1970: clients take the newest. Also the file's modification time.
    pub build_time: u64,
    /// Hexadecimal.
    pub md5: String,
    /// Hexadecimal.
    pub sha1: String,
    /// The other keys, such as `SLOT` and `RDEPEND`. A missing key has its default.
    pub fields: BTreeMap<&'static str, String>,
}

impl Package {
    /// Returns what an index says of a package in a pool.
    pub fn of(entry: &Entry) -> Self {
        let facts = &entry.facts;
        let fields = [
            ("BDEPEND", &facts.bdepend),
            ("CHOST", &facts.chost),
            ("DEFINED_PHASES", &facts.defined_phases),
            ("DEPEND", &facts.depend),
            ("DESC", &facts.description),
            ("EAPI", &facts.eapi),
            ("IDEPEND", &facts.idepend),
            ("IUSE", &facts.iuse),
            ("KEYWORDS", &facts.keywords),
            ("LICENSE", &facts.license),
            ("PDEPEND", &facts.pdepend),
            ("PROPERTIES", &facts.properties),
            ("PROVIDES", &facts.provides),
            ("RDEPEND", &facts.rdepend),
            ("REPO", &facts.repo),
            ("REQUIRES", &facts.requires),
            ("RESTRICT", &facts.restrict),
            ("SLOT", &facts.slot),
            ("USE", &facts.use_),
        ];
        Self {
            path: entry.path.clone(),
            size: entry.hashes.size,
            build_time: facts.build_time,
            md5: entry.hashes.md5.clone(),
            sha1: entry.hashes.sha1.clone(),
            fields: fields.into_iter().map(|(key, value)| (key, value.clone())).collect(),
        }
    }

    /// Returns the value of a key as it stands in the file, whether or not it is left out there.
    fn value(&self, key: &str) -> String {
        match key {
            "BUILD_ID" => self.path.build_id.to_string(),
            "BUILD_TIME" | "MTIME" => self.build_time.to_string(),
            "CPV" => self.path.cpv.to_string(),
            "MD5" => self.md5.clone(),
            "PATH" => self.path.to_string(),
            "SHA1" => self.sha1.clone(),
            "SIZE" => self.size.to_string(),
            key => self.fields.get(key).cloned().unwrap_or_default(),
        }
    }
}

/// Returns an index as text. The same index gives the same text, in whatever order the packages are.
pub fn render(index: &Index) -> Result<String, IndexError> {
    let mut header = BTreeMap::new();
    for (key, value) in &index.header {
        if RESERVED.contains(&key.as_str()) || !is_key(key) {
            return Err(IndexError::Key { key: key.chars().take(80).flat_map(char::escape_debug).collect() });
        }
        header.insert(key.as_str(), plain(value).ok_or_else(|| IndexError::Control { key: key.clone(), of: None })?);
    }
    header.insert("VERSION", VERSION.into());
    header.insert("TIMESTAMP", index.timestamp.to_string());
    header.insert("PACKAGES", index.packages.len().to_string());
    let mut text = String::new();
    for (key, value) in header.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{key}: {value}");
    }
    let mut packages: Vec<_> = index.packages.iter().collect();
    packages.sort_by(|a, b| a.path.cmp(&b.path));
    for pair in packages.windows(2) {
        if let [a, b] = pair
            && a.path == b.path
        {
            return Err(IndexError::Twice { path: a.path.clone() });
        }
    }
    for package in packages {
        text.push('\n');
        for (key, default) in KEYS {
            let value = plain(&package.value(key))
                .ok_or_else(|| IndexError::Control { key: key.into(), of: Some(package.path.cpv.clone()) })?;
            let inherited = key == "CHOST" && header.get(key) == Some(&value);
            if !value.is_empty() && value != default && !inherited {
                let _ = writeln!(text, "{key}: {value}");
            }
        }
    }
    text.push('\n');
    Ok(text)
}

/// Returns text compressed as `Packages.gz`, without time and system, so that the same text gives the same bytes.
pub fn gzip(text: &str) -> Vec<u8> {
    let mut encoder =
        flate2::GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("a Vec takes every byte")
}

fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_uppercase())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && key.len() <= 100
}

/// Returns a value with each run of white space as one space; nothing where it has other control characters.
fn plain(value: &str) -> Option<String> {
    let text = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let ends_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    (!text.contains(ends_line)).then_some(text)
}

/// An index cannot be written or is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A value could begin a line of its own.
    #[error("`{key}`{} has a control character, which the index cannot hold", of.as_ref().map(|cpv| format!(" of `{cpv}`")).unwrap_or_default())]
    Control {
        /// The key.
        key: String,
        /// The package, where it is not the header.
        of: Option<Cpv>,
    },
    /// A key of the header is not one that may be given.
    #[error("`{key}` cannot be a key of the header of `Packages`")]
    Key {
        /// The key.
        key: String,
    },
    /// A build is listed twice.
    #[error("`{path}` is listed twice")]
    Twice {
        /// The build.
        path: PackagePath,
    },
    /// The text is not as we write it.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

#[cfg(test)]
mod tests;
