//! A signing key as the process that builds has it: its certificate, and the name of a file that it never opens.
//!
//! What builds and publishes also hears what sandboxes say. So each signature is made by this program started again for
//! that alone, which reads nothing but the key and the bytes to be signed.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::atom::Name;
use crate::process::{self, ProcessError};

use super::certificate::{Certificate, CertificateError};
use super::entry::{CERTIFICATE, DETACH, DetachOptions, SIGN};
use super::key::{self, KeyError};
use super::sign::SignOptions;
use super::signature::Signed;

/// A secret key, used through processes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    file: PathBuf,
    certificate: Certificate,
}

impl SigningKey {
    /// Finds a key by its name and checks that it can sign; an unknown one is an error that lists those there are.
    pub fn open(dir: &Path, name: &Name) -> Result<Self, SigningKeyError> {
        let file = key::find(dir, name)?;
        let json = serde_json::to_string(&file).expect("the state folder's path is text");
        let output = process::run(process::this_program_apart().args([CERTIFICATE, &json]))?;
        let armored: String = serde_json::from_slice(&output.stdout).map_err(SigningKeyError::Answer)?;
        Ok(Self { certificate: Certificate::parse(&armored)?, file })
    }

    /// Returns the public part.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs the unsigned canonical package `input`; `output` must not exist.
    pub fn sign(&self, input: PathBuf, output: PathBuf) -> Result<Signed, SigningKeyError> {
        let options = SignOptions { key: self.file.clone(), input, output };
        let json = serde_json::to_string(&options).expect("three paths");
        let output = process::run(process::this_program_apart().args([SIGN, &json]))?;
        serde_json::from_slice(&output.stdout).map_err(SigningKeyError::Answer)
    }

    /// Returns an armored detached signature of some bytes, made at `time` (seconds since 1970) or when the key was made,
    /// if that is later.
    pub fn detached(&self, bytes: &[u8], time: u64) -> Result<String, SigningKeyError> {
        let json = serde_json::to_string(&DetachOptions { key: self.file.clone(), time }).expect("a path and a number");
        let input = in_memory(bytes).map_err(SigningKeyError::Memory)?;
        let output = process::run(process::this_program_apart().args([DETACH, &json]).stdin(Stdio::from(input)))?;
        serde_json::from_slice(&output.stdout).map_err(SigningKeyError::Answer)
    }
}

/// Returns a file without a name that holds some bytes.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("to-be-signed", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// There is no such key, or others may read it.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The process that has it could not be started, or refused; its standard error says why.
    #[error("the signing process failed")]
    Process(#[from] ProcessError),
    /// It answered nonsense.
    #[error("the signing process's answer cannot be used")]
    Answer(#[source] serde_json::Error),
    /// Its certificate cannot be used.
    #[error("the signing process's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// What is to be signed cannot be handed over.
    #[error("cannot hand over what is to be signed")]
    Memory(#[source] std::io::Error),
}
