//! The name of a layer: a digest over what is in it.
//!
//! The package's content digest stands for the bytes of its files; then there is a line for each member of the layer in
//! the order in which it is made, and the files that the package does not have.

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::layer::archive::{Kind, Member};
use crate::package::Identity;

/// To be raised with every change of what a layer holds.
const FORMAT: u32 = 1;

/// A digest that is being taken.
#[derive(Debug)]
pub(in crate::layer) struct Name(Sha256);

impl Name {
    /// Starts with the package.
    pub(super) fn new(identity: &Identity) -> Self {
        let mut name = Self(Sha256::new());
        let Identity { cpv, build_id, build_time, content } = identity;
        name.field(format!("layer {FORMAT}").as_bytes());
        for field in [cpv.to_string(), build_id.to_string(), build_time.to_string(), content.to_string()] {
            name.field(field.as_bytes());
        }
        name
    }

    /// Adds a member of the layer.
    pub(super) fn member(&mut self, member: &Member) {
        let Member { path, kind, mode, uid, gid, mtime, xattrs: _ } = member;
        let kind = match kind {
            Kind::Folder => "folder".to_string(),
            Kind::File(size) => format!("file {size}"),
            Kind::Symlink(target) => format!("symlink {}", target.display()),
            Kind::HardLink(target) => format!("link {}", target.display()),
        };
        self.field(format!("{mode:o} {uid} {gid} {mtime}").as_bytes());
        self.field(kind.as_bytes());
        self.field(path.as_os_str().as_encoded_bytes());
    }

    /// Adds what a file holds that the package does not have.
    pub(super) fn value(&mut self, value: &[u8]) {
        self.field(value);
    }

    pub(super) fn finish(self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.0.finalize()))
    }

    /// Adds a text with its length, so that no two lists of texts are one.
    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}
