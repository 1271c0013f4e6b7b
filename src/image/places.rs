//! Where things lie while an image is made.

use std::path::PathBuf;

use super::{Context, ImageError};
use crate::fs;
use crate::layer;
use crate::state::Lease;

/// Where things lie while an image is made; the lease owns them all.
#[derive(Debug)]
pub(super) struct Places {
    /// Downloads and apt's folder.
    pub(super) tmp: PathBuf,
    /// The layer.
    pub(super) blob: PathBuf,
    /// What the range writes.
    pub(super) scratch: PathBuf,
}

impl Places {
    pub(super) fn open(&self, cx: &Context<'_>, lease: &mut Lease) -> Result<(), ImageError> {
        lease.owns_path(self.tmp.clone())?;
        lease.owns_path(self.blob.clone())?;
        fs::create_dir_all(&self.tmp)?;
        Ok(layer::close(cx.ids, &self.scratch)?)
    }

    pub(super) fn clear(&self, cx: &Context<'_>) -> Result<(), ImageError> {
        fs::remove_dir_all(&self.tmp)?;
        fs::remove_file(&self.blob)?;
        Ok(layer::remove(cx.ids, &self.scratch)?)
    }
}
