//! Stacks layers of packages on an image: the folders of one overlay.
//!
//! ```text
//! refresh    what Portage makes anew after every merge, and the users and groups that packages bring, made once for all lists
//!            that have the same layers it follows from (`stack/matters.rs`, `stack/refresh.rs`)
//! first      the package that would be merged first
//! …
//! last
//! image
//! ```
//!
//! Of a folder that several packages have, a merge keeps the owner and mode that the first gave it, and an overlay shows
//! those of the topmost layer: so the first lies on top. What is no folder may be in one layer only, which is checked: one
//! would hide the other. (A second file is refused by Portage, too; a folder where another package has a link to one is not.)

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::atom::Cpv;
use crate::layer::derive::{Context, DeriveError, Layer, Record, record};
use crate::layer::{LayerError, collect, short_name};
use crate::sandbox::SandboxError;
use crate::state::StateError;

pub(in crate::layer) mod environment;
mod matters;
pub(in crate::layer) mod refresh;

/// The most layers of packages: mount(2) takes 4096 bytes of options, and this many were tried.
pub const MOST: usize = 320;

/// Returns the layers of a root, top first and relative to [`crate::state::State::state`], that has packages on the
/// image: `layers` in the order in which they would be merged. What has to be made for them is made, if it is not there yet. Where
/// the context's packages are merged below a folder, some of the layers are.
pub fn stack(cx: &Context<'_>, layers: &[Layer], cancel: &AtomicBool) -> Result<Vec<PathBuf>, StackError> {
    if layers.len() > MOST {
        return Err(StackError::TooMany { count: layers.len() });
    }
    if layers.is_empty() {
        return Ok(cx.image.to_vec());
    }
    let _in_use = collect::in_use(cx.state).map_err(DeriveError::from)?;
    let mut records = Vec::new();
    for layer in layers {
        records.push((&layer.cpv, record(cx, &layer.digest)?.ok_or_else(|| StackError::Gone(layer.cpv.clone()))?));
    }
    check(&records)?;
    // Those it follows from, and no others, so that many stacks share one.
    let of = layers.iter().zip(&records).filter(|(_, (_, record))| matters::matters(record, cx.merge.below()));
    let (of, accounts): (Vec<Layer>, Vec<_>) = of.map(|(layer, (_, record))| (layer.clone(), &record.accounts)).unzip();
    let refresh = refresh::key(cx, &of);
    if record(cx, &refresh)?.is_none() {
        refresh::make(cx, &of, &accounts, &refresh, cancel)?;
    }
    let below = std::path::Path::new("layers").join(refresh.hex());
    let top = short_name(cx.state, &refresh, &below).map_err(DeriveError::from)?;
    let packages = layers.iter().map(|layer| layer.folder.clone());
    Ok([top].into_iter().chain(packages).chain(cx.image.iter().cloned()).collect())
}

/// Refuses layers that hide each other's files.
fn check(records: &[(&Cpv, Record)]) -> Result<(), StackError> {
    let mut owners: HashMap<&str, &Cpv> = HashMap::new();
    let clash = |path: &str, one: &Cpv, other: &Cpv| {
        Err(StackError::Collision { path: path.to_string(), one: one.clone(), other: Box::new(other.clone()) })
    };
    for (cpv, record) in records {
        for path in &record.files {
            if let Some(other) = owners.insert(path, cpv) {
                return clash(path, other, cpv);
            }
        }
    }
    for (number, (other, theirs)) in records.iter().enumerate() {
        for (one, record) in records.iter().take(number) {
            if let Some(what) = record.accounts.conflict(&theirs.accounts) {
                return Err(StackError::Accounts { what, one: (*one).clone(), other: Box::new((*other).clone()) });
            }
        }
    }
    for (cpv, record) in records {
        let both = record.folders.iter().find_map(|path| Some((path, owners.get(path.as_str())?)));
        if let Some((path, other)) = both {
            return clash(path, other, cpv);
        }
    }
    Ok(())
}

/// Layers cannot be stacked.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Records or folders are not as they should be.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// The lease could not be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is generated could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The linker's cache could not be made.
    #[error("cannot make the dynamic linker's cache")]
    Sandbox(#[from] SandboxError),
    /// Likewise.
    #[error("cannot make the dynamic linker's cache: `ldconfig` of the root {0}")]
    Ldconfig(String),
    /// Two packages own one path.
    #[error(
        "{one} and {other} both have `/{path}`: Portage would refuse to install the second; they must block each other"
    )]
    Collision {
        /// Without a slash at the beginning.
        path: String,
        /// One package.
        one: Cpv,
        /// The other.
        other: Box<Cpv>,
    },
    /// Two packages give one name two meanings, or one id two names.
    #[error(
        "{one} and {other} disagree on {what}; the ids of a tree's users and groups must be fixed, each for one name"
    )]
    Accounts {
        /// What.
        what: String,
        /// One package.
        one: Cpv,
        /// The other.
        other: Box<Cpv>,
    },
    /// More than a mount takes.
    #[error("a root of {count} packages' layers was asked for, and at most {MOST} can be mounted")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A layer was removed.
    #[error("the layer of {0} is gone; derive it again")]
    Gone(Cpv),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::accounts::FORMS;

    fn record(folders: &[&str], files: &[&str]) -> Record {
        let set = |paths: &[&str]| paths.iter().map(ToString::to_string).collect();
        Record::of((0, 0), set(folders), set(files))
    }

    #[test]
    fn a_path_belongs_to_one_package_unless_it_is_a_folder() {
        let [one, two]: [Cpv; 2] = ["a/one-1", "a/two-1"].map(|cpv| cpv.parse().unwrap());
        let of = |a: Record, b: Record| check(&[(&one, a), (&two, b)]).map_err(|e| e.to_string());
        assert_eq!(of(record(&["usr"], &["usr/a"]), record(&["usr"], &["usr/b"])), Ok(()));
        let said = of(record(&["usr"], &["usr/a"]), record(&["usr"], &["usr/a"])).unwrap_err();
        assert!(said.starts_with("a/one-1 and a/two-1 both have `/usr/a`"), "{said}");
        let said = of(record(&["usr", "usr/a"], &[]), record(&["usr"], &["usr/a"])).unwrap_err();
        assert!(said.contains("both have `/usr/a`"), "{said}");
        let said = of(record(&["usr"], &["usr/a"]), record(&["usr", "usr/a"], &[])).unwrap_err();
        assert!(said.contains("both have `/usr/a`"), "{said}");
    }

    #[test]
    fn packages_that_disagree_on_an_id_are_both_named() {
        let cpvs: [Cpv; 3] = ["a/none-1", "a/one-1", "a/two-1"].map(|cpv| cpv.parse().unwrap());
        let of = |line: &str| {
            let mut record = record(&[], &[]);
            record.accounts.add(&FORMS[0], "", line, 0).unwrap();
            record
        };
        let said = |lines: [&str; 3]| {
            let records: Vec<_> = cpvs.iter().zip(lines.map(of)).collect();
            check(&records).map_err(|e| e.to_string())
        };
        assert_eq!(said(["", "cron:x:16:\n", "cron:x:16:\n"]), Ok(()));
        let same = said(["", "cron:x:16:\n", "at:x:16:\n"]).unwrap_err();
        assert!(
            same.starts_with("a/one-1 and a/two-1 disagree on the id 16 of `cron` and `at` in `/etc/group`"),
            "{same}"
        );
    }
}
