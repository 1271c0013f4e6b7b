//! Signs a package. Runs in a process of its own, which alone opens the secret key; it decompresses nothing and parses
//! nothing but the outer layer, whose one accepted form is a few hundred bytes of headers that we wrote ourselves.
//!
//! The result is what Portage's own `gpkg-sign` makes: an armored detached signature after the metadata and the image,
//! listed in the Manifest, which is signed in cleartext. All signatures have the same time: the package's `BUILD_TIME`,
//! or the time the key was made where that is later. So the same package and key give the same bytes.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::fs::{self, File, PathError};

use super::archive::ArchiveError;
use super::gpkg::{self, Build, Container, GpkgError, IMAGE, IMAGE_SIG, MANIFEST, METADATA, METADATA_SIG};
use super::key::{self, KeyError, SecretKey};
use super::manifest;
use super::signature::{SignError, Signed};

/// What is to be signed, and with what.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOptions {
    /// The file of the secret key, see [`key::secret_file`].
    pub key: PathBuf,
    /// The unsigned canonical package.
    pub input: PathBuf,
    /// Where the signed one goes; must not exist. Written through to the disk.
    pub output: PathBuf,
}

/// Signs one package. On an error no output remains.
pub fn sign(options: &SignOptions, now: SystemTime) -> Result<Signed, SignFileError> {
    let key = key::load_file(&options.key)?;
    let mut input = fs::open_regular(&options.input)?;
    let output = fs::create_new(&options.output, 0o644)?;
    let signed = sign_to(&key, &mut input, output, now);
    if signed.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&options.output);
    }
    signed
}

/// Signs from one file to another, empty one.
fn sign_to(key: &SecretKey, input: &mut File, output: File, now: SystemTime) -> Result<Signed, SignFileError> {
    let container = gpkg::read(input, &gpkg::UNSIGNED)?;
    let build_time = container.canonical_mtime()?;
    let manifest = container.require(MANIFEST)?.bytes(input).map_err(ArchiveError::Io)?;
    if manifest != manifest::write(container.listed()).as_bytes() {
        return Err(SignFileError::Manifest);
    }
    let time = key.signature_time(build_time);
    if time > now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()) {
        return Err(SignFileError::Future(time));
    }
    let mut build = Build::new(output, &container.prefix, build_time);
    copy(&mut build, &container, gpkg::FORMAT, input)?;
    for (member, signature) in [(METADATA, METADATA_SIG), (IMAGE, IMAGE_SIG)] {
        copy(&mut build, &container, member, input)?;
        let data = container.require(member)?.open(input).map_err(ArchiveError::Io)?;
        let armored = key.detached(data, time)?;
        write(&mut build, signature, &armored)?;
    }
    let manifest = key.cleartext(&manifest::write(build.members()), time)?;
    write(&mut build, MANIFEST, &manifest)?;
    build.finish()?.sync_all().map_err(ArchiveError::Io)?;
    Ok(Signed { fingerprint: key.certificate().fingerprint(), time })
}

fn copy(build: &mut Build<File>, container: &Container, name: &str, input: &mut File) -> Result<(), SignFileError> {
    let member = container.require(name)?;
    let copied = build.member::<SignFileError>(name, |to| {
        let mut data = member.open(input).map_err(ArchiveError::Io)?;
        io::copy(&mut data, to).map_err(ArchiveError::Io)?;
        Ok(())
    })?;
    // The bytes that are signed are those that were checked.
    if (&copied.sha512, &copied.blake2b) == (&member.sha512, &member.blake2b) {
        Ok(())
    } else {
        Err(SignFileError::Changed)
    }
}

fn write(build: &mut Build<File>, name: &str, text: &str) -> Result<(), SignFileError> {
    build.member::<SignFileError>(name, |to| {
        to.write_all(text.as_bytes()).map_err(ArchiveError::Io)?;
        Ok(())
    })?;
    Ok(())
}

/// A package cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignFileError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The package is not in canonical form.
    #[error("the package to sign is not in canonical form")]
    Gpkg(#[from] GpkgError),
    /// Reading or writing failed.
    #[error("the package to sign cannot be copied")]
    Archive(#[from] ArchiveError),
    /// Its Manifest is not ours.
    #[error("the Manifest of the package to sign is not in canonical form")]
    Manifest,
    /// The file changed while it was read.
    #[error("the package to sign was changed while it was read")]
    Changed,
    /// Verifiers, ours too, refuse signatures from the future.
    #[error("the signature's time ({0} seconds since 1970) lies in the future; check the clock and the source date")]
    Future(u64),
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}
