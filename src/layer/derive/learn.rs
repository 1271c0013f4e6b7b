//! Layers of packages whose phases do something: they are merged once, and what the merge left says what the phases did.
//!
//! 1. The caller merges the package in a sandbox whose root is the image, the layers of what the package needs to run, and
//!    what a stack of these needs; nothing else.
//! 2. A job of the range makes the layer that copying gives, compares it with what the merge wrote (`compare`), and takes
//!    what the phases did into it: files into the layer, users and groups into its record.
//!
//! What came of it is kept by package, image, settings, and the layers that it was merged on.

use std::path::Path;

use super::{Context, DeriveError, Derived, Layer, Package, answers, compare, key, known, make, save};
use crate::layer::{self, collect};
use crate::state::Lease;

/// What a merge has left.
#[derive(Debug, Clone, Copy)]
pub struct Merged<'a> {
    /// The layers that it needs to run, in the order in which they were merged.
    pub on: &'a [Layer],
    /// The root's layers, top first, the image's last; relative to [`crate::state::State::state`].
    pub lower: &'a [std::path::PathBuf],
    /// The folder that holds what was written.
    pub upper: &'a Path,
}

impl Merged<'_> {
    pub(super) fn task(&self, cx: &Context<'_>, base: &Path) -> compare::Merged {
        let packages = self.lower.len().saturating_sub(cx.image.len());
        compare::Merged {
            upper: self.upper.strip_prefix(base).unwrap_or(self.upper).to_path_buf(),
            below: self.lower.iter().take(packages).cloned().collect(),
        }
    }
}

/// Returns what is on record of a package that was merged on these layers.
pub fn learned(cx: &Context<'_>, package: &Package<'_>, on: &[Layer]) -> Result<Option<Derived>, DeriveError> {
    known(cx, &package.facts.cpv, &key(cx, package, Some(on)))
}

/// Derives the layer of a package from what a merge of it has left, and keeps it.
pub fn learn(cx: &Context<'_>, package: &Package<'_>, merged: &Merged<'_>) -> Result<Derived, DeriveError> {
    let key = key(cx, package, Some(merged.on));
    let _in_use = collect::in_use(cx.state)?;
    let lease = Lease::take(cx.state, "deriving a layer from a merge")?;
    let done = (|| {
        layer::close(cx.ids, &cx.state.layers())?;
        layer::close(cx.ids, lease.root())?;
        let outcome = make(cx, package, &lease.root().join("0"), Some(merged))?;
        save(cx, answers(cx, package, &key, outcome), lease.root())
    })();
    layer::remove(cx.ids, lease.root())?;
    lease.release()?;
    done?;
    known(cx, &package.facts.cpv, &key)?.ok_or_else(|| DeriveError::Gone(Some(package.facts.cpv.clone())))
}
