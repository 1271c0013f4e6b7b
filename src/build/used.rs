//! Which of the declared dependencies a build really opened something of.
//!
//! Only what the ebuild names itself counts, and only where all files by which it would show could be watched: nothing is
//! called unused on a guess.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::atom::Cpv;
use crate::build::ground::{self, Ground};
use crate::build::prepare::Prepared;
use crate::build::{BuildError, Host};
use crate::layer::derive::Merge;
use crate::layer::hide;
use crate::layer::traces::{Traces, traces};
use crate::plan::Planned;
use crate::sandbox::Seen;

/// What to watch in a build.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Of which packages.
    cpvs: Vec<Cpv>,
    /// By which files of each, in the root.
    pub(super) groups: Vec<Vec<PathBuf>>,
    /// What cannot be watched, and why.
    unknown: BTreeMap<Cpv, String>,
}

/// What a build used of what was declared.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Used {
    /// Something of it was opened.
    used: Vec<Cpv>,
    /// Nothing of it was.
    pub(super) unused: Vec<Cpv>,
    /// Nobody knows, for this reason.
    unknown: BTreeMap<Cpv, String>,
}

/// Returns what to watch in a package's clean room.
pub(super) fn watch(
    host: &Host<'_>,
    prepared: &Prepared,
    planned: &Planned,
    ground: &Ground,
) -> Result<Watch, BuildError> {
    let mut watch = Watch::default();
    let mut all_unknown = |why: &str| {
        watch.unknown = planned.declared.iter().map(|cpv| (cpv.clone(), why.to_string())).collect();
    };
    if !ground.install.is_empty() || !ground.tools.is_empty() {
        all_unknown("some of what the package needs was installed into its room, which opens everything");
        return Ok(watch);
    }
    let usual = Merge::default();
    let context = ground::context(host, prepared, ground::merge(prepared, &usual));
    let Some(image) = prepared.hidden.as_ref().and_then(|hidden| hide::folders(&context, hidden)) else {
        all_unknown("it is not known which folders the image has: its definition has no base");
        return Ok(watch);
    };
    for (cpv, traces) in traces(&context, &ground.layers, &planned.declared, &image)? {
        match traces {
            Traces::In(paths) if paths.is_empty() => {}
            Traces::In(paths) => {
                watch.cpvs.push(cpv);
                watch.groups.push(paths.iter().map(|path| Path::new("/").join(path)).collect());
            }
            Traces::TooMany => drop(watch.unknown.insert(cpv, "it has too many files to watch".to_string())),
        }
    }
    Ok(watch)
}

impl Watch {
    /// Returns what was used, by what was seen of each group.
    pub(super) fn tell(self, seen: Vec<Seen>) -> Used {
        let mut used = Used { unknown: self.unknown, ..Used::default() };
        let none = Seen::Unknown("the sandbox did not say".to_string());
        let seen = seen.into_iter().chain(std::iter::repeat(none));
        for (cpv, seen) in self.cpvs.into_iter().zip(seen) {
            match seen {
                Seen::Opened => used.used.push(cpv),
                Seen::NotOpened => used.unused.push(cpv),
                Seen::Nothing => {}
                Seen::Unknown(why) => drop(used.unknown.insert(cpv, why)),
            }
        }
        used
    }
}

impl Used {
    /// Returns whether there is anything to say.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_watched_and_not_opened_is_unused() {
        let cpvs: Vec<Cpv> = ["c/a-1", "c/b-1", "c/c-1", "c/d-1", "c/e-1"].map(|cpv| cpv.parse().unwrap()).to_vec();
        let groups = vec![Vec::new(); cpvs.len()];
        let unknown = [("c/f-1".parse().unwrap(), "many".to_string())].into();
        let watch = Watch { cpvs: cpvs.clone(), groups, unknown };
        // One word too few: what is not told is not known.
        let used = watch.tell(vec![Seen::Opened, Seen::NotOpened, Seen::Nothing, Seen::Unknown("why".into())]);
        assert_eq!((used.used, used.unused), (cpvs[..1].to_vec(), cpvs[1..2].to_vec()));
        let unknown: Vec<_> = used.unknown.iter().map(|(cpv, why)| format!("{cpv} {why}")).collect();
        assert_eq!(unknown, ["c/d-1 why", "c/e-1 the sandbox did not say", "c/f-1 many"]);
    }
}
