//! Packages that serve for other flags than those that they were built with: those proven to hold no compiled code. Pure.
//!
//! Two requests are **alike** where they differ in nothing but flags for the compiler:
//!
//! ```text
//! env CFLAGS, CXXFLAGS, LDFLAGS        any value: the proof looks for the package's own in its texts
//! env FFLAGS, RUSTFLAGS …              words that say for which processor, or that those three have, too
//! env CPU_FLAGS_*, GOAMD64 …           any value
//! tools, interface, archives …         where those dependencies' own requests are alike, and what they offer is what
//!                                       the record says: such a tool does the same, compiled with other flags
//! ```
//!
//! Everything else is the same: USE (with `cpu_flags_*` that the ebuild knows), CHOST, ARCH, image, trees, and what is
//! linked with. Of all builds of like requests, the newest of each profile must be proven: one that holds code shows that
//! the flags matter after all.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::atom::{BuildId, Cpv, Name};

use super::{Pool, Pooled, Request, Settled, Stock};

/// Variables whose value the proof looks for.
const WHOLE: [&str; 3] = ["CFLAGS", "CXXFLAGS", "LDFLAGS"];
/// Variables of which words may differ.
const WORDS: [&str; 8] =
    ["ASFLAGS", "CCASFLAGS", "FCFLAGS", "FFLAGS", "GOFLAGS", "OBJCFLAGS", "OBJCXXFLAGS", "RUSTFLAGS"];
/// Variables, or their beginnings, that say nothing but for which processor.
const PROCESSOR: [&str; 8] = ["CPU_FLAGS_", "GO386", "GOAMD64", "GOARM", "GOLOONG64", "GOMIPS", "GOPPC64", "GORISCV64"];

/// Words, or their beginnings, that say for which processor something is compiled.
pub const PROCESSOR_OPTIONS: [&str; 14] = [
    "-march=",
    "-mcpu=",
    "-mtune=",
    "-mfpu=",
    "-mavx",
    "-msse",
    "-mssse",
    "-mmmx",
    "-mfma",
    "-mbmi",
    "-mf16c",
    "-mpopcnt",
    "-maes",
    "-Ctarget-",
];

/// A build in another profile's pool that is used, too.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Share {
    /// The profile.
    pub profile: Name,
    /// The build's number there.
    pub build_id: BuildId,
    /// Its content digest.
    pub content: crate::digest::Digest,
}

/// What the pools have for a request that was built for other flags.
#[derive(Debug)]
pub(super) enum Alike<'a> {
    /// Nothing that may be used.
    Nothing,
    /// A build that holds code, or may: where it is, none for the profile's own pool, and why.
    Code(Option<&'a Name>, &'a str),
    /// One that is proven to hold none: of the profile's own pool, or of the profile that is named.
    Proven(Option<&'a Name>, &'a Pooled),
}

/// Looks for builds of like requests.
pub(super) fn find<'a>(cpv: &Cpv, request: &Request, stock: &'a Stock, settled: &Settled) -> Alike<'a> {
    if !stock.share {
        return Alike::Nothing;
    }
    let mut found = Alike::Nothing;
    let others = stock.others.iter().map(|(name, pool)| (Some(name), pool));
    for (profile, pool) in std::iter::once((None, &stock.own)).chain(others) {
        let like = Like { pool, settled, known: RefCell::default() };
        // A record of an earlier bindery says nothing, neither way.
        let mut builds = pool.get(cpv).into_iter().flatten().rev().filter(|build| !build.unproven);
        let newest = builds.find(|build| like.requests(&build.request, request));
        match newest.map(|build| (build, build.code.as_deref())) {
            Some((_, Some(why))) => return Alike::Code(profile, why),
            Some((build, None)) if matches!(found, Alike::Nothing) && build.is_usable() => {
                found = Alike::Proven(profile, build);
            }
            _ => {}
        }
    }
    found
}

/// Returns the build that would be taken over for a request from the other pools of a stock, if its own pool had nothing.
pub fn shared(cpv: &Cpv, request: &Request, stock: &Stock, settled: &Settled) -> Option<Share> {
    match find(cpv, request, stock, settled) {
        Alike::Proven(Some(profile), build) => {
            let (build_id, content) = (build.build_id, build.content.clone());
            Some(Share { profile: profile.clone(), build_id, content })
        }
        Alike::Proven(None, _) | Alike::Code(..) | Alike::Nothing => None,
    }
}

/// Compares requests of one pool with those of this plan.
struct Like<'a> {
    pool: &'a Pool,
    settled: &'a Settled,
    /// Dependencies that were compared.
    known: RefCell<BTreeMap<(Cpv, BuildId), bool>>,
}

impl Like<'_> {
    fn requests(&self, theirs: &Request, ours: &Request) -> bool {
        let differences = theirs.differences(ours);
        theirs.version == ours.version && differences.iter().all(|part| self.part(part, theirs, ours))
    }

    fn part(&self, part: &str, theirs: &Request, ours: &Request) -> bool {
        match part.split_once(' ') {
            Some(("env", name)) => value(name, theirs) == value(name, ours),
            Some(("archives" | "tools" | "interface", dependency)) => self.dependency(dependency, theirs),
            _ => false,
        }
    }

    /// Returns whether a dependency, as the plan has it, is like one that `theirs` was built with.
    fn dependency(&self, name: &str, theirs: &Request) -> bool {
        let Some((cpv, request)) = self.settled.requests.get(name) else { return false };
        self.pool.get(cpv).into_iter().flatten().any(|build| {
            let Some(output) = &build.output else { return false };
            let offered = [
                ("link", &output.link),
                ("archives", &output.archives),
                ("tools", &output.tools),
                ("interface", &output.link),
            ];
            let is = |(kind, digest): &(&str, &crate::digest::Digest)| {
                theirs.parts.get(&format!("{kind} {name}")).is_none_or(|known| *known == digest.to_string())
            };
            offered.iter().all(is) && self.build(cpv, build, request)
        })
    }

    fn build(&self, cpv: &Cpv, build: &Pooled, ours: &Request) -> bool {
        let key = (cpv.clone(), build.build_id);
        if let Some(known) = self.known.borrow().get(&key) {
            return *known;
        }
        let like = self.requests(&build.request, ours);
        self.known.borrow_mut().insert(key, like);
        like
    }
}

/// Returns what is left of a variable without what may differ.
fn value(name: &str, request: &Request) -> Vec<String> {
    let get = |name: &str| request.parts.get(&format!("env {name}")).map_or("", String::as_str);
    if WHOLE.contains(&name) || PROCESSOR.iter().any(|beginning| name.starts_with(beginning)) {
        return Vec::new();
    }
    if !WORDS.contains(&name) {
        return vec![get(name).to_string()];
    }
    let looked_for: Vec<&str> = WHOLE.iter().flat_map(|name| get(name).split_whitespace()).collect();
    let may_differ = |word: &str| {
        looked_for.contains(&word) || PROCESSOR_OPTIONS.iter().any(|beginning| word.starts_with(beginning))
    };
    // As rustc takes it in two words.
    let text = get(name).replace("-C target-", "-Ctarget-");
    text.split_whitespace().filter(|word| !may_differ(word)).map(str::to_string).collect()
}
