//! What Debian's package database says: packages, and what they depend on (deb-control(5)). Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Base;

/// The installed packages.
#[derive(Debug, Default)]
pub(super) struct Packages {
    /// By name: what each depends on, as groups of alternatives.
    depends: BTreeMap<String, Vec<Vec<String>>>,
    /// By the name of a virtual package: who provides it.
    provided: BTreeMap<String, BTreeSet<String>>,
}

impl Packages {
    /// Reads `/var/lib/dpkg/status`.
    pub(super) fn parse(status: &str) -> Self {
        let mut packages = Self::default();
        for stanza in status.split("\n\n") {
            let fields: BTreeMap<&str, &str> = stanza
                .lines()
                .filter(|line| !line.starts_with([' ', '\t']))
                .filter_map(|line| line.split_once(':').map(|(name, value)| (name, value.trim())))
                .collect();
            let Some(name) = fields.get("Package") else { continue };
            if fields.get("Status").is_none_or(|status| !status.ends_with(" installed")) {
                continue;
            }
            for provided in fields.get("Provides").iter().flat_map(|text| text.split(',')).filter_map(bare) {
                packages.provided.entry(provided).or_default().insert((*name).to_string());
            }
            let groups = ["Pre-Depends", "Depends"].into_iter().filter_map(|field| fields.get(field));
            let groups = groups.flat_map(|text| text.split(','));
            let groups = groups.map(|group| group.split('|').filter_map(bare).collect()).collect();
            packages.depends.insert((*name).to_string(), groups);
        }
        packages
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.depends.keys().map(String::as_str)
    }

    /// Returns the base with all that it depends on; of alternatives, all that are installed. Fails with what the base names
    /// and the image does not have.
    pub(super) fn seen(&self, base: &Base) -> Result<BTreeSet<String>, String> {
        if let Some(missing) = base.packages.iter().find(|name| !self.depends.contains_key(*name)) {
            return Err(missing.clone());
        }
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&str> = base.packages.iter().map(String::as_str).collect();
        while let Some(name) = waiting.pop() {
            if base.without.iter().any(|without| without == name) || !seen.insert(name.to_string()) {
                continue;
            }
            for wanted in self.depends.get(name).into_iter().flatten().flatten() {
                let real = self.depends.contains_key(wanted).then_some(wanted);
                let provided = self.provided.get(wanted).into_iter().flatten();
                waiting.extend(real.into_iter().chain(provided).map(String::as_str));
            }
        }
        Ok(seen)
    }
}

/// Returns the name in `name:any (>= 1) [amd64]`.
fn bare(text: &str) -> Option<String> {
    let end = |c: char| c.is_whitespace() || matches!(c, '(' | ':' | '[' | '<');
    text.trim().split(end).next().filter(|name| !name.is_empty()).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Package: gcc
Status: install ok installed
Depends: cpp (>= 4:14), libc6-dev | libc-dev, installer
Description: x
 Depends: nothing

Package: cpp
Status: install ok installed
Pre-Depends: libc6:any (>= 2)

Package: musl-dev
Status: install ok installed
Provides: libc-dev (= 1), other

Package: libc6
Status: install ok installed

Package: gone
Status: deinstall ok config-files

Package: installer
Status: install ok installed
Depends: perl

Package: perl
Status: install ok installed
";

    fn seen(packages: &[&str], without: &[&str]) -> Result<String, String> {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let base = Base { packages: own(packages), without: own(without) };
        let seen = Packages::parse(STATUS).seen(&base)?;
        Ok(seen.into_iter().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_base_brings_what_it_depends_on() {
        assert_eq!(seen(&["gcc"], &[]).unwrap(), "cpp gcc installer libc6 musl-dev perl");
        assert_eq!(seen(&["cpp"], &[]).unwrap(), "cpp libc6");
    }

    #[test]
    fn what_is_left_out_brings_nothing() {
        assert_eq!(seen(&["gcc"], &["installer"]).unwrap(), "cpp gcc libc6 musl-dev");
    }

    #[test]
    fn what_is_not_installed_is_named() {
        assert_eq!(seen(&["gcc", "gone"], &[]), Err("gone".to_string()));
        assert_eq!(Packages::parse("nonsense\n\n\n:").names().count(), 0);
    }
}
