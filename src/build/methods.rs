//! Which methods a package was not built by, remembered: the next run begins with the one that may work.
//!
//! ```text
//! profiles/NAME/methods/CATEGORY/PF    JSON: the methods that failed, each with why and in which image
//! ```
//!
//! A new image has another compiler, or another emulator, and a changed ebuild may be mended: what was not possible before is
//! then tried again.

use std::path::{Path, PathBuf};

use crate::atom::Cpv;
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::image::Image;
use crate::plan::Request;
use crate::profile::Method;
use crate::state::ProfileDir;

/// The version of the format.
const VERSION: u32 = 1;
/// The longest file that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// What is remembered of a package.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    version: u32,
    failed: Vec<Failure>,
}

/// What a memory is of: any change is another matter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    image: Digest,
    ebuild: String,
}

impl Of {
    /// Returns what counts of an image, and of a package's request.
    pub(super) fn new(image: &Image, request: &Request) -> Self {
        Self { image: image.ground.clone(), ebuild: request.ebuild().to_string() }
    }
}

/// A method that a package was not built by.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    method: Method,
    of: Of,
    why: String,
}

/// Returns why a package could not be built by a method, if that is remembered.
pub(super) fn failed(home: &ProfileDir, cpv: &Cpv, method: Method, of: &Of) -> Option<String> {
    let memory = read(&path(home, cpv))?;
    memory.failed.into_iter().find(|failure| failure.method == method && failure.of == *of).map(|found| found.why)
}

/// Remembers that a package could not be built by a method.
pub(super) fn note(home: &ProfileDir, cpv: &Cpv, method: Method, of: &Of, why: &str) -> Result<(), PathError> {
    let path = path(home, cpv);
    let mut memory = read(&path).unwrap_or(Memory { version: VERSION, failed: Vec::new() });
    memory.failed.retain(|failure| failure.method != method);
    memory.failed.push(Failure { method, of: of.clone(), why: why.to_string() });
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    let text = serde_json::to_string_pretty(&memory).expect("plain data");
    fs::write_atomic(&path, text + "\n", 0o644)
}

fn path(home: &ProfileDir, cpv: &Cpv) -> PathBuf {
    home.methods().join(cpv.to_string())
}

/// Returns what is remembered: nothing where that cannot be read, which costs an attempt.
fn read(path: &Path) -> Option<Memory> {
    let bytes = fs::read_at_most(path, LONGEST).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|memory: &Memory| memory.version == VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn what_failed_is_remembered_by_method_and_image_and_what_is_no_memory_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        let home = state.profile(&"arm64".parse().unwrap());
        let cpv = "c/p-1".parse().unwrap();
        let of = |image: &str, ebuild: &str| Of { image: Digest::of(image), ebuild: ebuild.to_string() };
        let (one, two) = (of("one", "e"), of("two", "e"));
        let known = |method, of: &Of| failed(&home, &cpv, method, of);
        assert_eq!(known(Method::Cross, &one), None);
        note(&home, &cpv, Method::Cross, &one, "it does not").unwrap();
        note(&home, &cpv, Method::Native, &two, "it hangs").unwrap();
        assert_eq!(known(Method::Cross, &one).unwrap(), "it does not");
        assert_eq!(known(Method::Native, &two).unwrap(), "it hangs");
        // Another image, or another ebuild, is another matter, and then the only one.
        assert_eq!((known(Method::Cross, &two), known(Method::Cross, &of("one", "f"))), (None, None));
        note(&home, &cpv, Method::Cross, &two, "neither").unwrap();
        assert_eq!((known(Method::Cross, &one), known(Method::Cross, &two)), (None, Some("neither".to_string())));
        for text in ["", "under qemu-aarch64 a program was ended\n", "{\"version\":2,\"failed\":[]}"] {
            crate::fs::write(&path(&home, &cpv), text).unwrap();
            assert_eq!(known(Method::Native, &two), None, "{text}");
        }
    }
}
