//! What bindery refuses to build, before anything is built: ebuilds whose wishes it cannot honour. Pure.

use std::fmt;

use crate::atom::Cpv;
use crate::backend::Resolution;
use crate::backend::resolution::{Distfile, Package, Word};

/// A package that is not going to be built, and why. Shown, it says the way out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// The package.
    pub cpv: Cpv,
    /// Why.
    pub why: Why,
}

/// Why a package is refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// PROPERTIES=interactive: it asks questions while it is built.
    Interactive,
    /// PROPERTIES=live, or a version that says so: what it builds from changes at any time and is fetched while
    /// building.
    Live,
    /// RESTRICT=network-sandbox: it wants the network while it is built.
    Network,
    /// RESTRICT=fetch: its source archives have to be put there by hand, and are not.
    Fetch(Vec<String>),
    /// The Manifest lacks a source archive, or the digests that are checked.
    Manifest(Vec<String>),
}

/// Returns every package of a resolution that is refused; `present` says whether a source archive is there already.
pub fn refusals(resolution: &Resolution, present: &dyn Fn(&Distfile) -> bool) -> Vec<Refusal> {
    resolution.packages.iter().flat_map(|package| refused(package, present)).collect()
}

fn refused(package: &Package, present: &dyn Fn(&Distfile) -> bool) -> Vec<Refusal> {
    let has = |words: &[Word], word: &str| words.iter().any(|known| known.as_str() == word);
    let refusal = |why: Why| Refusal { cpv: package.cpv.clone(), why };
    let names = |wanted: &dyn Fn(&&Distfile) -> bool| -> Vec<String> {
        package.distfiles.iter().filter(wanted).map(|file| file.name.to_string()).collect()
    };
    let mut found = Vec::new();
    if has(&package.properties, "interactive") {
        found.push(refusal(Why::Interactive));
    }
    if has(&package.properties, "live") || is_live(package) {
        found.push(refusal(Why::Live));
    }
    if has(&package.restrict, "network-sandbox") {
        found.push(refusal(Why::Network));
    }
    if package.sources().is_none() {
        found.push(Refusal::incomplete_manifest(package));
    }
    let absent = names(&|file| !present(file));
    if has(&package.restrict, "fetch") && !absent.is_empty() {
        found.push(refusal(Why::Fetch(absent)));
    }
    found
}

impl Refusal {
    /// Returns the refusal of a package whose source archives could not be checked.
    pub(super) fn incomplete_manifest(package: &Package) -> Self {
        let complete = |file: &&Distfile| file.size.is_some() && file.blake2b().is_some() && file.sha512().is_some();
        let files = package.distfiles.iter().filter(|file| !complete(file)).map(|file| file.name.to_string());
        Self { cpv: package.cpv.clone(), why: Why::Manifest(files.collect()) }
    }
}

/// Returns whether the version is what live ebuilds use by convention (`9999`, `2.9999`, `99999999`), or an eclass
/// fetches from a repository.
fn is_live(package: &Package) -> bool {
    const FETCHING: &[&str] = &["bzr", "cvs", "darcs", "git-r3", "golang-vcs", "mercurial", "subversion"];
    let number = package.cpv.version.as_str();
    let number = number.split(['_', '-']).next().unwrap_or_default();
    let last = number.rsplit('.').next().unwrap_or_default();
    (last.len() >= 4 && last.bytes().all(|b| b == b'9'))
        || package.eclasses.iter().any(|eclass| FETCHING.contains(&eclass.name.as_str()))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpv = &self.cpv;
        match &self.why {
            Why::Interactive => write!(
                f,
                "`{cpv}` asks questions while it is built (PROPERTIES=interactive), and nobody is there to answer; \
                 take another version, or leave it out"
            ),
            Why::Live => write!(
                f,
                "`{cpv}` is a live ebuild: what it builds from changes at any time and is fetched while building; take \
                 a released version"
            ),
            Why::Network => write!(
                f,
                "`{cpv}` wants the network while it is built (RESTRICT=network-sandbox), which no build has; have \
                 its ebuild name all it needs in SRC_URI"
            ),
            Why::Fetch(files) => write!(
                f,
                "`{cpv}` may not be fetched automatically (RESTRICT=fetch): get {} as its ebuild says and put them into \
                 the folder of distfiles",
                list(files)
            ),
            Why::Manifest(files) => write!(
                f,
                "the Manifest of `{}` lacks size, BLAKE2B or SHA512 of {}: `ebuild … manifest` in the tree adds them",
                cpv.cp(),
                list(files)
            ),
        }
    }
}

fn list(files: &[String]) -> String {
    files.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::{distfile, resolution};

    fn why(change: impl Fn(&mut Package)) -> Vec<Why> {
        why_with(change, false)
    }

    fn why_with(change: impl Fn(&mut Package), present: bool) -> Vec<Why> {
        let mut resolution = resolution("app", &[]);
        change(&mut resolution.packages[0]);
        refusals(&resolution, &|_| present).into_iter().map(|refusal| refusal.why).collect()
    }

    fn words(text: &str) -> Vec<Word> {
        text.split(' ').map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn an_ordinary_package_is_not_refused() {
        assert_eq!(why(|p| p.restrict = words("test mirror strip")), []);
        assert_eq!(why(|p| p.distfiles = vec![distfile("a-1.tar.gz")]), []);
    }

    #[test]
    fn an_interactive_package_is_refused() {
        assert_eq!(why(|p| p.properties = words("interactive")), [Why::Interactive]);
    }

    #[test]
    fn a_live_package_is_refused_whichever_way_it_says_so() {
        assert_eq!(why(|p| p.properties = words("live")), [Why::Live]);
        for (version, live) in
            [("9999", true), ("2.9999-r1", true), ("99999999", true), ("1.999", false), ("20199999", false)]
        {
            let live = if live { vec![Why::Live] } else { vec![] };
            assert_eq!(why(|p| p.cpv.version = version.parse().unwrap()), live, "{version}");
        }
    }

    #[test]
    fn a_package_that_wants_the_network_is_refused() {
        assert_eq!(why(|p| p.restrict = words("network-sandbox")), [Why::Network]);
    }

    #[test]
    fn what_may_not_be_fetched_has_to_be_there() {
        let restricted = |p: &mut Package| {
            p.restrict = words("fetch");
            p.distfiles = vec![distfile("a-1.tar.gz")];
        };
        assert_eq!(why_with(restricted, false), [Why::Fetch(vec!["a-1.tar.gz".to_string()])]);
        assert_eq!(why_with(restricted, true), []);
    }

    #[test]
    fn a_source_archive_without_digests_is_refused() {
        let weak = |p: &mut Package| {
            let mut file = distfile("a-1.tar.gz");
            file.hashes.clear();
            p.distfiles = vec![file];
        };
        assert_eq!(why(weak), [Why::Manifest(vec!["a-1.tar.gz".to_string()])]);
    }

    #[test]
    fn a_refusal_names_the_package_and_the_way_out() {
        let refusal = Refusal { cpv: "a/b-1".parse().unwrap(), why: Why::Fetch(vec!["b.tar".to_string()]) };
        assert!(
            refusal.to_string().starts_with("`a/b-1` may not be fetched automatically (RESTRICT=fetch): get `b.tar`")
        );
    }
}
