//! The step that merges one package into a root, for what its phases do there.

use crate::atom::Cpv;
use crate::backend::{PACKAGES, Step};

/// Returns the step: as [`super::build`] puts a dependency into a root. Times that phases write are `source_date`.
pub(super) fn step(cpv: &Cpv, source_date: u64) -> Step {
    let args = ["emerge", "--usepkgonly", "--nodeps", "--oneshot", "--quiet", "--color=n"].map(str::to_string);
    let mut env = super::environment();
    let source_date = source_date.to_string();
    let more = [
        ("SOURCE_DATE_EPOCH", source_date.as_str()),
        ("ACCEPT_KEYWORDS", "**"),
        ("ACCEPT_LICENSE", "*"),
        // Its signature was verified outside.
        ("FEATURES", "binpkg-ignore-signature"),
        ("PKGDIR", PACKAGES),
    ];
    env.extend(more.map(|(name, value)| (name.to_string(), value.to_string())));
    Step { args: args.into_iter().chain([format!("={cpv}")]).collect(), env }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_package_is_merged_and_nothing_is_resolved() {
        let step = step(&"app-misc/hello-2.10".parse().unwrap(), 7);
        assert_eq!(step.args.last().map(String::as_str), Some("=app-misc/hello-2.10"));
        assert!(step.args.contains(&"--nodeps".to_string()));
        assert!(step.env.contains(&("PKGDIR".to_string(), PACKAGES.to_string())));
    }
}
