//! Shared libraries that packages say they need and give: Portage's `REQUIRES` and `PROVIDES`.
//!
//! Both have the form `x86_64: libfoo.so.1 libbar.so.2 x86_32: libfoo.so.1`: the architecture, then sonames.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Cpv;

/// A shared library that packages need and no package of the set gives. The image may have it: a libc that is not built
/// from an ebuild is always among these.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Missing {
    /// Architecture and soname, as `x86_64: libc.so.6`.
    pub soname: String,
    /// The packages that need it.
    pub needed_by: Vec<Cpv>,
}

/// Returns what the packages, given with their `REQUIRES` and `PROVIDES`, need and do not give each other.
pub fn missing<'a>(packages: impl Iterator<Item = (&'a Cpv, &'a str, &'a str)>) -> Vec<Missing> {
    let mut provided = BTreeSet::new();
    let mut required: BTreeMap<_, BTreeSet<&Cpv>> = BTreeMap::new();
    for (cpv, requires, provides) in packages {
        provided.extend(split(provides));
        for soname in split(requires) {
            required.entry(soname).or_default().insert(cpv);
        }
    }
    required
        .into_iter()
        .filter(|(soname, _)| !provided.contains(soname))
        .map(|((arch, soname), by)| Missing {
            soname: format!("{arch}: {soname}"),
            needed_by: by.into_iter().cloned().collect(),
        })
        .collect()
}

fn split(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut arch = "";
    text.split_ascii_whitespace().filter_map(move |word| match word.strip_suffix(':') {
        Some(name) => {
            arch = name;
            None
        }
        None => Some((arch, word)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_package_of_the_set_gives_is_named_with_who_needs_it() {
        let hello: Cpv = "app-misc/hello-1".parse().unwrap();
        let foo: Cpv = "dev-libs/foo-1".parse().unwrap();
        let found = missing(
            [
                (&hello, "x86_64: libc.so.6 libfoo.so.1 x86_32: libfoo.so.1", ""),
                (&foo, "x86_64: libc.so.6", "x86_64: libfoo.so.1"),
            ]
            .into_iter(),
        );
        assert_eq!(
            found,
            [
                Missing { soname: "x86_32: libfoo.so.1".into(), needed_by: vec![hello.clone()] },
                Missing { soname: "x86_64: libc.so.6".into(), needed_by: vec![hello, foo] },
            ]
        );
    }
}
