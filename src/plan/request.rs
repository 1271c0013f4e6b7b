//! Request keys: what can change a package, known before it is built. Pure.
//!
//! A request is a list of named parts, not only their digest, so that a difference can be named. It is kept beside the
//! package in the pool; a package is used again exactly if its request equals the new one.
//!
//! ```text
//! use  features                                  as the package manager says
//! env NAME                                       every variable that configuration sets, ARCH and CHOST among them
//! toolchain ROLE                                 packages of the image and their versions ([`super::toolchain`])
//! image                                          a digest of what the image's definition sets up beside packages
//! ebuild  files  eclass NAME  bashrc  patches    digests of what the tree and the configuration have
//! method                                         `emulated`, where others of the run are cross built
//! asks                                           the ebuild may ask for versions and flags of what is installed
//! distfile NAME                                  the Manifest's digest
//! dependency CATEGORY/NAME:SLOT                  what was in the build root, with its sub-slot, and of its output digest
//! link  archives  tools …                          the parts that count for the role it was there in
//! … CATEGORY/NAME:SLOT on the build side         in a cross build, likewise
//! interface …                                      of what ran, `link`: for profiles where code does not count
//! installed …                                      version and flags, where the ebuild may ask for them
//! ```
//!
//! Which change has whom built again, and why that is enough, is in `docs/keys.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Cpv;
use crate::backend::resolution::Word;
use crate::digest::Digest;

use super::{Policy, Role};

mod change;
pub use change::Change;

/// Changes whenever bindery itself makes different packages of the same inputs.
const VERSION: u32 = 1;

/// The name of the version among the parts that are kept.
const VERSION_PART: &str = "version";

/// The part that says that an ebuild may ask what is installed.
pub(super) const ASKS: &str = "asks";
/// The parts that say what was in the build root, each with a name after it.
const DEPENDENCIES: [&str; 6] = ["dependency", "link", "archives", "tools", "interface", "installed"];

/// What follows the name of what ran on the build side of a cross build.
const SIDE: &str = " on the build side";

/// What a package offers those that are built with it: the parts of its output digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What compiling and linking against it can see.
    pub link: Digest,
    /// What linking statically takes over.
    pub archives: Digest,
    /// What running its programs can see.
    pub tools: Digest,
}

/// What a package is once it is installed, beside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    slot: Word,
    sub_slot: Word,
    use_flags: BTreeSet<Word>,
}

impl Identity {
    /// Returns the identity of a package with these flags on, of those it knows.
    pub fn new(slot: &Word, sub_slot: &Word, use_flags: &BTreeSet<Word>) -> Self {
        Self { slot: slot.clone(), sub_slot: sub_slot.clone(), use_flags: use_flags.clone() }
    }
}

/// What a package is built from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub(super) version: u32,
    pub(super) parts: BTreeMap<String, String>,
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

    /// Sets what of the image counts: the toolchain by role, and a digest of what its definition sets up.
    pub fn set_image(&mut self, toolchain: &BTreeMap<String, String>, setup: &Digest) {
        self.parts.retain(|part, _| !part.starts_with("toolchain "));
        for (role, packages) in toolchain {
            self.set(format!("toolchain {role}"), packages);
        }
        self.set("image", setup.to_string());
    }

    /// Returns the ebuild's digest.
    pub fn ebuild(&self) -> &str {
        self.parts.get("ebuild").map(String::as_str).unwrap_or_default()
    }

    /// Returns a part that says from which sources and with which flags a package is built, and that is another one in `other`.
    pub fn differs_in_source<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        const SOURCES: [&str; 6] = ["use", "ebuild", "files", "eclass", "distfile", "patches"];
        let kind = |part: &str| part.split(' ').next().unwrap_or_default().to_string();
        self.differences(other).into_iter().find(|part| SOURCES.contains(&kind(part).as_str())).map(String::as_str)
    }

    /// Adds what ran on the build side of a cross build.
    pub fn set_tool(&mut self, cpv: &Cpv, identity: &Identity, output: &Output) {
        let name = format!("{}{SIDE}", dependency_name(cpv, identity.slot.as_str()));
        self.set_named(&name, cpv, identity, &[Role::Tool].into(), output);
    }

    /// Adds what was in the build root for these roles: as much of it as can be seen.
    pub fn set_dependency(&mut self, cpv: &Cpv, identity: &Identity, roles: &BTreeSet<Role>, output: &Output) {
        self.set_named(&dependency_name(cpv, identity.slot.as_str()), cpv, identity, roles, output);
    }

    fn set_named(&mut self, name: &str, cpv: &Cpv, identity: &Identity, roles: &BTreeSet<Role>, output: &Output) {
        let Identity { sub_slot, use_flags, .. } = identity;
        self.set(format!("dependency {name}"), sub_slot.as_str());
        // What is there for no reason that is known may be there for any.
        let has = |role| roles.is_empty() || roles.contains(&role);
        if has(Role::Link) {
            self.set(format!("link {name}"), output.link.to_string());
            self.set(format!("archives {name}"), output.archives.to_string());
        }
        if has(Role::Tool) {
            self.set(format!("tools {name}"), output.tools.to_string());
            self.set(format!("interface {name}"), output.link.to_string());
        }
        if self.parts.contains_key(ASKS) {
            let words = std::iter::once(cpv.to_string()).chain(use_flags.iter().map(Word::to_string));
            self.set(format!("installed {name}"), words.collect::<Vec<_>>().join(" "));
        }
    }

    /// Returns the request without what was in the build root.
    pub(super) fn without_dependencies(&self) -> Self {
        let kind = |part: &str| part.split(' ').next().unwrap_or_default().to_string();
        let parts = self.parts.iter().filter(|(part, _)| !DEPENDENCIES.contains(&kind(part).as_str()));
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

    /// Returns whether what was built for an earlier request does for this one.
    pub fn is_met_by(&self, earlier: &Self, policy: Policy) -> bool {
        self.version == earlier.version && policy.differences(&earlier.parts, &self.parts).is_empty()
    }

    /// Returns how this request differs from an earlier one as far as that counts, most telling first; nothing if that is
    /// enough.
    pub fn changes_since(&self, earlier: &Self, policy: Policy) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.version != earlier.version {
            changes.push(Change::version());
        }
        changes.extend(change::between(&earlier.parts, &self.parts, policy));
        changes
    }

    /// Returns the names of all parts that differ.
    pub(super) fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a String> {
        let names = self.parts.keys().chain(other.parts.keys().filter(|name| !self.parts.contains_key(*name)));
        names.filter(|name| self.parts.get(*name) != other.parts.get(*name)).collect()
    }
}

/// Returns how requests name a dependency.
pub(super) fn dependency_name(cpv: &Cpv, slot: &str) -> String {
    format!("{}:{slot}", cpv.cp())
}

#[cfg(test)]
mod tests;
