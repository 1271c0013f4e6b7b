//! Request keys: what can change a package, known before it is built. Pure.
//!
//! A request is a list of named parts, not only their digest, so that a difference can be named. It is kept beside the
//! package in the pool; a package is used again exactly if its request equals the new one.
//!
//! ```text
//! use  features                                  as the package manager says
//! env NAME                                       every variable that configuration sets, ARCH and CHOST among them
//! image                                          the image's list of packages
//! ebuild  files  eclass NAME  bashrc  patches    digests of what the tree and the configuration have
//! distfile NAME                                  the Manifest's digest
//! dependency CATEGORY/NAME:SLOT                  what was in the build root, with its content digest
//! ```

use std::collections::BTreeMap;
use std::fmt;

use crate::atom::Cpv;
use crate::digest::Digest;

/// Changes whenever bindery itself makes different packages of the same inputs.
const VERSION: u32 = 1;

/// The name of the version among the parts that are kept.
const VERSION_PART: &str = "version";

/// What a package is built from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    version: u32,
    parts: BTreeMap<String, String>,
}

impl Default for Request {
    fn default() -> Self {
        Self { version: VERSION, parts: BTreeMap::new() }
    }
}

impl Request {
    /// Adds a part.
    pub fn set(&mut self, part: impl Into<String>, value: impl Into<String>) {
        self.parts.insert(part.into(), value.into());
    }

    /// Adds what was in the build root.
    pub fn set_dependency(&mut self, cpv: &Cpv, slot: &str, content: &Digest) {
        self.set(format!("dependency {}:{slot}", cpv.cp()), format!("{cpv} {content}"));
    }

    /// Returns the request without what was in the build root.
    pub(super) fn without_dependencies(&self) -> Self {
        let parts = self.parts.iter().filter(|(part, _)| !part.starts_with("dependency "));
        Self { version: self.version, parts: parts.map(|(part, value)| (part.clone(), value.clone())).collect() }
    }

    /// Returns the parts as they are kept beside a package; [`Request::from_parts`] reads them.
    pub fn to_parts(&self) -> BTreeMap<String, String> {
        let version = (VERSION_PART.to_string(), self.version.to_string());
        self.parts.clone().into_iter().chain([version]).collect()
    }

    /// Returns the request that was kept beside a package; nothing where that is none.
    pub fn from_parts(parts: &BTreeMap<String, String>) -> Option<Self> {
        let mut parts = parts.clone();
        let version = parts.remove(VERSION_PART)?.parse().ok()?;
        Some(Self { version, parts })
    }

    /// Returns the request key.
    pub fn key(&self) -> Digest {
        // A map of strings is always the same JSON.
        Digest::of(serde_json::to_vec(self).expect("strings are JSON"))
    }

    /// Returns how this request differs from an earlier one, most telling first; nothing if they are equal.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.version != earlier.version {
            changes.push(Change("bindery's way of building changed".to_string()));
        }
        let mut names: Vec<&String> = self.parts.keys().chain(earlier.parts.keys()).collect();
        names.sort_by_key(|name| (rank(name), (*name).clone()));
        names.dedup();
        for name in names {
            let (new, old) = (self.parts.get(name), earlier.parts.get(name));
            if new != old {
                changes.push(Change(describe(name, old.map(String::as_str), new.map(String::as_str))));
            }
        }
        changes
    }
}

/// One difference between two requests, as a sentence fragment: `USE changed: +nls`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Change(String);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person changes comes first, what follows from something else last.
fn rank(part: &str) -> usize {
    const ORDER: &[&str] = &["ebuild", "files", "patches", "use", "env", "eclass", "distfile", "bashrc", "features"];
    let kind = part.split(' ').next().unwrap_or_default();
    match kind {
        "image" => ORDER.len() + 1,
        "dependency" => ORDER.len() + 2,
        kind => ORDER.iter().position(|known| *known == kind).unwrap_or(ORDER.len()),
    }
}

fn describe(part: &str, old: Option<&str>, new: Option<&str>) -> String {
    let (kind, name) = part.split_once(' ').unwrap_or((part, ""));
    let set = |name: &str| match (old, new) {
        (None, Some(new)) => format!("{name} is now set: `{new}`"),
        (Some(old), None) => format!("{name} is no longer set (it was `{old}`)"),
        _ => format!("{name} changed: `{}` to `{}`", old.unwrap_or_default(), new.unwrap_or_default()),
    };
    let thing = |name: &str| match (old, new) {
        (None, _) => format!("{name} is new"),
        (_, None) => format!("{name} is gone"),
        _ => format!("{name} changed"),
    };
    match kind {
        "use" => format!("USE changed: {}", words(old, new)),
        "features" => format!("FEATURES changed: {}", words(old, new)),
        "env" => set(name),
        "dependency" => dependency(old, new),
        "eclass" => thing(&format!("eclass `{name}`")),
        "distfile" => thing(&format!("distfile `{name}`")),
        "files" => thing("a file beside the ebuild"),
        "patches" => thing("a user patch"),
        "image" => "the image changed".to_string(),
        _ => thing(&format!("the {kind}")),
    }
}

/// Returns `+new -old` of two lists of words.
fn words(old: Option<&str>, new: Option<&str>) -> String {
    let list = |text: Option<&str>| text.unwrap_or_default().split_whitespace().map(str::to_string).collect::<Vec<_>>();
    let (old, new) = (list(old), list(new));
    let added = new.iter().filter(|word| !old.contains(word)).map(|word| format!("+{word}"));
    let gone = old.iter().filter(|word| !new.contains(word)).map(|word| format!("-{word}"));
    added.chain(gone).collect::<Vec<_>>().join(" ")
}

fn dependency(old: Option<&str>, new: Option<&str>) -> String {
    let cpv = |text: Option<&str>| text.unwrap_or_default().split(' ').next().unwrap_or_default().to_string();
    match (old, new) {
        (None, new) => format!("it is now built with `{}`", cpv(new)),
        (old, None) => format!("it is no longer built with `{}`", cpv(old)),
        (old, new) if cpv(old) != cpv(new) => format!("it is now built with `{}` instead of `{}`", cpv(new), cpv(old)),
        (_, new) => format!("`{}` changed, which it is built with", cpv(new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(parts: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        for (part, value) in parts {
            request.set(*part, *value);
        }
        request
    }

    #[test]
    fn equal_requests_have_equal_keys_and_no_changes() {
        let (a, b) = (request(&[("use", "nls"), ("ebuild", "x")]), request(&[("ebuild", "x"), ("use", "nls")]));
        assert_eq!(a.key(), b.key());
        assert_eq!(a.changes_since(&b), []);
        assert_ne!(a.key(), request(&[("use", "nls")]).key());
    }

    #[test]
    fn a_change_is_named() {
        let digest = |text: &str| Digest::of(text);
        let with = |cpv: &str, text: &str| {
            let mut request = Request::default();
            request.set_dependency(&cpv.parse().unwrap(), "0", &digest(text));
            request
        };
        for (old, new, said) in [
            (request(&[("use", "a b")]), request(&[("use", "b nls")]), "USE changed: +nls -a"),
            (request(&[("env CFLAGS", "-O2")]), request(&[("env CFLAGS", "-O3")]), "CFLAGS changed: `-O2` to `-O3`"),
            (request(&[]), request(&[("env LDFLAGS", "-s")]), "LDFLAGS is now set: `-s`"),
            (request(&[("env LDFLAGS", "-s")]), request(&[]), "LDFLAGS is no longer set (it was `-s`)"),
            (request(&[("ebuild", "1")]), request(&[("ebuild", "2")]), "the ebuild changed"),
            (request(&[("files", "1")]), request(&[]), "a file beside the ebuild is gone"),
            (request(&[("eclass x", "1")]), request(&[("eclass x", "2")]), "eclass `x` changed"),
            (request(&[]), request(&[("patches", "2")]), "a user patch is new"),
            (request(&[("image", "1")]), request(&[("image", "2")]), "the image changed"),
            (with("a/zlib-1", "x"), with("a/zlib-1", "y"), "`a/zlib-1` changed, which it is built with"),
            (with("a/zlib-1", "x"), with("a/zlib-2", "y"), "it is now built with `a/zlib-2` instead of `a/zlib-1`"),
            (request(&[]), with("a/zlib-2", "y"), "it is now built with `a/zlib-2`"),
        ] {
            let changes: Vec<String> = new.changes_since(&old).iter().map(Change::to_string).collect();
            assert_eq!(changes, [said]);
        }
    }

    #[test]
    fn what_a_person_changed_is_named_before_what_follows_from_it() {
        let old = request(&[("image", "1"), ("dependency a/b:0", "a/b-1 x"), ("use", "a"), ("ebuild", "1")]);
        let new = request(&[("image", "2"), ("dependency a/b:0", "a/b-1 y"), ("use", "b"), ("ebuild", "2")]);
        let changes: Vec<String> = new.changes_since(&old).iter().map(Change::to_string).collect();
        assert_eq!(changes[0], "the ebuild changed");
        assert_eq!(changes[3], "`a/b-1` changed, which it is built with");
    }

    #[test]
    fn another_version_of_bindery_builds_again() {
        let old: Request = serde_json::from_str(r#"{"version":0,"parts":{}}"#).unwrap();
        assert_eq!(Request::default().changes_since(&old).len(), 1);
    }
}
