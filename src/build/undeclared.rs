//! Who would provide what a build did not find: packages that were built for this profile, what the image hides, or, by
//! their names, packages of the trees.
//!
//! Looked for only when a package has failed and its log named something ([`Missing`]). First in what the clean room had:
//! what is there is not undeclared, whatever the log says.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Cpv;
use crate::backend::Missing;
use crate::binhost::pool::Entry;
use crate::build::BuildError;
use crate::build::one::Shop;
use crate::layer::{self, derive};
use crate::plan::Planned;
use crate::tree;

/// How many bytes of packages are read at most, and how many of them: a failure must not take longer than a build.
const BYTES: u64 = 1 << 30;
const PACKAGES: usize = 500;

/// Something that was not found, and who would provide it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Undeclared {
    missing: Missing,
    /// Packages of the profile's pool that have it.
    providers: Vec<Cpv>,
    /// Packages of the image that have it and are hidden.
    image: Vec<String>,
    /// Packages of the trees that are called so and were not built yet, as `category/name`.
    perhaps: Vec<String>,
    /// In what was declared: who has the program that needs it.
    needed_by: Option<Cpv>,
}

/// Returns what of it nobody declared and somebody would provide.
pub(super) fn find(
    shop: &Shop<'_>,
    planned: &Planned,
    ready: &BTreeMap<Cpv, Entry>,
    missing: &[Missing],
) -> Result<Vec<Undeclared>, BuildError> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader { shop, missing, bytes: BYTES, packages: PACKAGES };
    let needs: BTreeSet<&Cpv> = planned.needs.iter().collect();
    let mut there: BTreeSet<&Missing> = BTreeSet::new();
    let mut owners: BTreeMap<String, Cpv> = BTreeMap::new();
    for (cpv, entry) in ready.iter().filter(|(cpv, _)| needs.contains(cpv)) {
        for path in reader.paths(entry)? {
            there.extend(missing.iter().filter(|missing| missing.is_at(&path)));
            for program in missing.iter().filter_map(program).filter(|tool| tool.is_at(&path)) {
                owners.insert(program.name().to_string(), cpv.clone());
            }
        }
    }
    let mut found: Vec<Undeclared> = missing
        .iter()
        .filter(|missing| !there.contains(missing))
        .map(|missing| Undeclared::new(missing, &owners))
        .collect();
    let plan = ready.iter().filter(|(cpv, _)| !needs.contains(cpv)).map(|(_, entry)| entry.clone());
    let plan: Vec<Entry> = plan.collect();
    let known: BTreeSet<String> = ready.keys().chain([&planned.cpv]).map(Cpv::cp).collect();
    // Of the rest of the pool, what was built last.
    let mut rest: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in shop.pool.entries()?.into_iter().filter(|entry| !known.contains(&entry.facts.cpv.cp())) {
        rest.insert(entry.facts.cpv.cp(), entry);
    }
    for entry in plan.into_iter().chain(rest.into_values()) {
        if found.iter().all(|found| !found.providers.is_empty()) {
            break;
        }
        let paths = reader.paths(&entry)?;
        for found in found.iter_mut().filter(|found| paths.iter().any(|path| found.missing.is_at(path))) {
            found.providers.push(entry.facts.cpv.clone());
        }
    }
    for found in &mut found {
        found.look_elsewhere(shop, planned)?;
    }
    found.retain(|found| !(found.providers.is_empty() && found.image.is_empty() && found.perhaps.is_empty()));
    Ok(found)
}

/// Reads packages, as long as that does not take too long.
struct Reader<'a> {
    shop: &'a Shop<'a>,
    missing: &'a [Missing],
    bytes: u64,
    packages: usize,
}

impl Reader<'_> {
    fn paths(&mut self, entry: &Entry) -> Result<Vec<String>, BuildError> {
        let size = entry.hashes.size;
        if size > self.bytes || self.packages == 0 {
            return Ok(Vec::new());
        }
        self.bytes -= size;
        self.packages -= 1;
        let programs = self.missing.iter().filter_map(program);
        let ends = self.missing.iter().flat_map(Missing::ends).chain(programs.flat_map(|program| program.ends()));
        let package = derive::Package { file: &entry.file, facts: &entry.facts };
        let (state, ids) = (self.shop.host.state, self.shop.host.ids);
        // What cannot be read now is told where it is used.
        Ok(layer::list(state, ids, &package, ends.collect()).unwrap_or_default())
    }
}

/// Returns the program that lacks a shared library.
fn program(missing: &Missing) -> Option<Missing> {
    match missing {
        Missing::Shared(_, Some(program)) => Some(Missing::Tool(program.clone())),
        _ => None,
    }
}

impl Undeclared {
    fn new(missing: &Missing, owners: &BTreeMap<String, Cpv>) -> Self {
        let needed_by = program(missing).and_then(|program| owners.get(program.name()).cloned());
        let missing = missing.clone();
        Self { missing, providers: Vec::new(), image: Vec::new(), perhaps: Vec::new(), needed_by }
    }

    /// Looks in what the image hides and, if that is all, among the names in the trees.
    fn look_elsewhere(&mut self, shop: &Shop<'_>, planned: &Planned) -> Result<(), BuildError> {
        for (package, paths) in shop.prepared.hidden.iter().flat_map(|hidden| &hidden.hidden) {
            if paths.iter().any(|path| self.missing.is_at(&format!("/{path}"))) {
                self.image.push(package.clone());
            }
        }
        if !self.providers.is_empty() {
            return Ok(());
        }
        let names = names(&self.missing);
        let declared: BTreeSet<String> = planned.needs.iter().chain([&planned.cpv]).map(Cpv::cp).collect();
        for tree in &shop.prepared.trees {
            let called =
                tree::ebuilds(&tree.path)?.into_iter().filter(|cpv| names.contains(&folded(cpv.package.as_str())));
            self.perhaps.extend(called.map(|cpv| cpv.cp()).filter(|cp| !declared.contains(cp)));
        }
        self.perhaps.sort();
        self.perhaps.dedup();
        Ok(())
    }
}

/// Returns what a package with that in it may be called.
fn names(missing: &Missing) -> BTreeSet<String> {
    let name = missing.name();
    let first = |separators: &[char]| name.split(separators).next().unwrap_or_default().to_string();
    let bare = match missing {
        Missing::Header(_) => first(&['/', '.']),
        Missing::Shared(..) | Missing::Module(_) => first(&['.']),
        Missing::PkgConfig(_) => {
            name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').trim_end_matches('-').into()
        }
        Missing::Library(_) | Missing::Tool(_) | Missing::Cmake(_) => name.to_string(),
    };
    let bare = folded(&bare);
    let without = bare.strip_prefix("lib").unwrap_or(&bare).to_string();
    match missing {
        Missing::Tool(_) => [bare].into(),
        Missing::Module(_) => [format!("python-{bare}"), bare].into(),
        _ => [format!("lib{without}"), without, bare].into(),
    }
}

/// Names that differ only in what one system or another makes of them.
fn folded(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

impl std::fmt::Display for Undeclared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: Vec<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        let (name, tool) = (self.missing.name(), matches!(self.missing, Missing::Tool(_) | Missing::Module(_)));
        let what = match &self.missing {
            Missing::Header(_) | Missing::Tool(_) => format!("`{name}`"),
            Missing::Library(_) => format!("the library `{name}` (`-l{name}`)"),
            Missing::Shared(_, Some(program)) => format!("`{name}`, which `{program}` needs to run,"),
            Missing::Shared(_, None) => format!("`{name}`, which something needs to run,"),
            Missing::Module(_) => format!("Python's module `{name}`"),
            Missing::PkgConfig(_) => format!("pkg-config's module `{name}`"),
            Missing::Cmake(_) => format!("CMake's package `{name}`"),
        };
        write!(f, "{what} is not in the clean room: ")?;
        let place = match (&self.missing, &self.needed_by) {
            (Missing::Shared(..), Some(cpv)) => format!("RDEPEND of `{}`", cpv.cp()),
            (Missing::Shared(..), None) => "DEPEND, or to RDEPEND of what it was needed by".to_string(),
            _ if tool => "BDEPEND".to_string(),
            _ => "DEPEND".to_string(),
        };
        if !self.providers.is_empty() {
            let providers = list(self.providers.iter().map(ToString::to_string).collect());
            return write!(f, "{providers} would provide it; add it to {place}");
        }
        let perhaps = list(self.perhaps.clone());
        if self.image.is_empty() {
            return write!(f, "perhaps {perhaps} would provide it, by its name; then add it to {place}");
        }
        let image = list(self.image.clone());
        write!(f, "the image has it in {image}, beyond its base, which no build sees; add what provides it")?;
        if !self.perhaps.is_empty() {
            write!(f, " (perhaps {perhaps})")?;
        }
        write!(f, " to {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(missing: Missing, providers: &[&str], image: &[&str], perhaps: &[&str], by: Option<&str>) -> String {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let (image, perhaps, needed_by) = (own(image), own(perhaps), by.map(|cpv| cpv.parse().unwrap()));
        let providers = providers.iter().map(|cpv| cpv.parse().unwrap()).collect();
        Undeclared { missing, providers, image, perhaps, needed_by }.to_string()
    }

    #[test]
    fn the_provider_is_named_with_where_to_add_it() {
        let bzip2 = ["app-arch/bzip2-1.0.8"];
        assert_eq!(
            said(Missing::Header("bzlib.h".into()), &bzip2, &[], &[], None),
            "`bzlib.h` is not in the clean room: `app-arch/bzip2-1.0.8` would provide it; add it to DEPEND"
        );
        assert_eq!(
            said(Missing::Shared("libx.so.1".into(), Some("app".into())), &["c/x-1"], &[], &[], Some("c/app-1")),
            "`libx.so.1`, which `app` needs to run, is not in the clean room: `c/x-1` would provide it; add it to RDEPEND \
             of `c/app`"
        );
        assert_eq!(
            said(Missing::Tool("wget".into()), &[], &["wget"], &["net-misc/wget"], None),
            "`wget` is not in the clean room: the image has it in `wget`, beyond its base, which no build sees; add what \
             provides it (perhaps `net-misc/wget`) to BDEPEND"
        );
        assert_eq!(
            said(Missing::Module("six".into()), &[], &[], &["dev-python/six"], None),
            "Python's module `six` is not in the clean room: perhaps `dev-python/six` would provide it, by its name; then \
             add it to BDEPEND"
        );
    }

    #[test]
    fn names_are_guessed_modestly() {
        let guessed = |missing| names(&missing).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(guessed(Missing::Header("zlib.h".into())), "libzlib zlib");
        assert_eq!(guessed(Missing::Library("bsd".into())), "bsd libbsd");
        assert_eq!(guessed(Missing::Shared("libbsd.so.0".into(), None)), "bsd libbsd");
        assert_eq!(guessed(Missing::PkgConfig("serd-0".into())), "libserd serd");
        assert_eq!(guessed(Missing::Module("flit_core.wheel".into())), "flit-core python-flit-core");
        assert_eq!(guessed(Missing::Tool("ninja".into())), "ninja");
    }
}
