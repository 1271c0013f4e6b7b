//! Fetches wheels from PyPI with the host's own pip, which knows its proxies and mirrors, and checks them by SHA-256.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::definition::Wheel;
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::process::{self, ProcessError};

/// Downloads a wheel into the empty folder `into` and returns its file. pip runs nothing of it: source packages, whose
/// building would, are not accepted.
pub(super) fn download(wheel: &Wheel, into: &Path, cancel: &AtomicBool) -> Result<PathBuf, WheelError> {
    let Wheel { name, version, sha256 } = wheel;
    let shown = || format!("{name} {version}");
    let requirements = into.join("requirements.txt");
    fs::write(&requirements, format!("{name}=={version} --hash=sha256:{}\n", sha256.hex()))?;
    let mut command = process::command(python()?);
    command.args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]);
    command.args(["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest"]).arg(into).arg("-r");
    process::run_until(command.arg(&requirements), cancel)
        .map_err(|source| WheelError::Download { wheel: shown(), source })?;
    fs::remove_file(&requirements)?;
    let files = fs::read_dir(into)?;
    let [file] = files.as_slice() else { return Err(WheelError::Unexpected(shown())) };
    let found = Digest::of_file(file)?;
    if found != *sha256 {
        return Err(WheelError::Digest { wheel: shown(), found, wanted: sha256.clone() });
    }
    Ok(file.clone())
}

/// Returns a python3 that has pip: the first in PATH may be one without.
fn python() -> Result<PathBuf, WheelError> {
    let candidates = process::find("python3").into_iter().chain(Some(PathBuf::from("/usr/bin/python3")));
    let has_pip = |python: &PathBuf| process::run(process::command(python).args(["-m", "pip", "--version"])).is_ok();
    candidates.into_iter().find(has_pip).ok_or(WheelError::NoPip)
}

/// A wheel could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No pip.
    #[error("pip is not installed; on Debian: `apt install python3-pip`")]
    NoPip,
    /// pip failed.
    #[error("cannot download the wheel of {wheel}")]
    Download {
        /// Which.
        wheel: String,
        /// What pip said.
        source: ProcessError,
    },
    /// pip left something else.
    #[error("pip did not leave exactly one file for {0}")]
    Unexpected(String),
    /// Another file of that version.
    #[error("the wheel of {wheel} has the digest {found}, not {wanted}")]
    Digest {
        /// Which.
        wheel: String,
        /// What it has.
        found: Digest,
        /// What the definition says.
        wanted: Digest,
    },
}
