//! One archive from one address, checked while its bytes arrive.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::layout::{self, Layout};
use super::part::Part;
use crate::digest::hex;
use crate::fs::{self, PathError};
use crate::tree::Dist;

/// How long to wait for a connection, for an answer, and for the next bytes of one.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that sends fewer bytes than this in [`PACE`] is given up: each of its answers may come in time, and the
/// archive never.
const SLOWEST: u64 = 64 * 1024;
const PACE: Duration = Duration::from_secs(120);

/// Where distributions keep the certificates that their programs trust, an administrator's own ones among them.
const CERTIFICATES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why an address did not do.
#[derive(Debug)]
pub(super) enum Unsuccessful {
    /// The address is to blame; another may do.
    Remote(String),
    /// This machine is to blame.
    Local(PathError),
    /// The user does not want it any more.
    Cancelled,
}

impl From<PathError> for Unsuccessful {
    fn from(error: PathError) -> Self {
        Self::Local(error)
    }
}

/// Returns what makes requests.
pub(super) fn agent(proxy: Option<ureq::Proxy>) -> ureq::Agent {
    let bundle = CERTIFICATES.iter().find_map(|path| fs::read(Path::new(path)).ok());
    let certificates: Vec<_> = bundle
        .iter()
        .flat_map(|text| parse_pem(text))
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let roots = if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::from(certificates) };
    ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .proxy(proxy)
        .user_agent(concat!("bindery/", env!("CARGO_PKG_VERSION")))
        // The archive's own compression must arrive untouched.
        .accept_encoding("identity")
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .build()
        .new_agent()
}

/// Returns a mirror's layout; an error where the mirror cannot be reached at all.
pub(super) fn layout(agent: &ureq::Agent, folder: &str) -> Result<Layout, String> {
    match agent.get(format!("{folder}/layout.conf")).call() {
        Ok(mut answer) => {
            let mut text = Vec::new();
            // Half an answer would be another layout: without the whole file the mirror cannot be used.
            answer.body_mut().as_reader().take(layout::LONGEST).read_to_end(&mut text).map_err(|e| e.to_string())?;
            Ok(Layout::parse(&String::from_utf8_lossy(&text)))
        }
        Err(ureq::Error::StatusCode(_)) => Ok(Layout::Flat),
        Err(error) => Err(error.to_string()),
    }
}

/// Fetches an archive over HTTP.
pub(super) fn http(
    agent: &ureq::Agent,
    address: &str,
    dist: &Dist,
    part: &mut Part,
    cancel: &AtomicBool,
) -> Result<(), Unsuccessful> {
    let mut answer = agent.get(address).call().map_err(|error| Unsuccessful::Remote(error.to_string()))?;
    let body = answer.body_mut();
    if let Some(length) = body.content_length().filter(|length| *length != dist.size) {
        return Err(Unsuccessful::Remote(format!("it has {length} bytes there, not {}", dist.size)));
    }
    take(body.as_reader(), dist, part, cancel)
}

/// Takes an archive from a folder of this machine.
pub(super) fn file(path: &Path, dist: &Dist, part: &mut Part, cancel: &AtomicBool) -> Result<(), Unsuccessful> {
    let metadata = fs::metadata(path).map_err(|e| Unsuccessful::Remote(e.source.to_string()))?;
    if !metadata.is_file() {
        return Err(Unsuccessful::Remote("it is not a file".into()));
    }
    let file = fs::open(path).map_err(|e| Unsuccessful::Remote(e.source.to_string()))?;
    take(file, dist, part, cancel)
}

fn take(mut from: impl Read, dist: &Dist, part: &mut Part, cancel: &AtomicBool) -> Result<(), Unsuccessful> {
    part.restart()?;
    let mut check = Check::default();
    let mut buffer = vec![0; 1 << 16];
    let mut pace = (Instant::now(), 0);
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(Unsuccessful::Cancelled);
        }
        let n = match from.read(&mut buffer) {
            Ok(0) => return check.finish(dist).map_err(Unsuccessful::Remote),
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Unsuccessful::Remote(format!("after {} bytes: {error}", check.size))),
        };
        let bytes = buffer.get(..n).unwrap_or_default();
        check.update(bytes);
        if check.size > dist.size {
            return Err(Unsuccessful::Remote(format!("it has more than the expected {} bytes", dist.size)));
        }
        part.write(bytes)?;
        if pace.0.elapsed() > PACE {
            if check.size - pace.1 < SLOWEST {
                return Err(Unsuccessful::Remote(format!(
                    "too slow: {} bytes in the last {PACE:?}",
                    check.size - pace.1
                )));
            }
            pace = (Instant::now(), check.size);
        }
    }
}

/// Computes what a [`Dist`] says of a file.
#[derive(Default)]
struct Check {
    size: u64,
    blake2b: Blake2b512,
    sha512: Sha512,
}

impl Check {
    fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.blake2b.update(bytes);
        self.sha512.update(bytes);
    }

    fn finish(self, dist: &Dist) -> Result<(), String> {
        if self.size != dist.size {
            return Err(format!("it has {} bytes, not {}", self.size, dist.size));
        }
        for (what, found, expected) in [
            ("BLAKE2B", hex(&self.blake2b.finalize()), &dist.blake2b),
            ("SHA512", hex(&self.sha512.finalize()), &dist.sha512),
        ] {
            if found != *expected {
                return Err(format!("its {what} is {found}"));
            }
        }
        Ok(())
    }
}

/// Returns what is wrong with a file that is there; nothing when it is the archive.
pub(super) fn verify(path: &Path, dist: &Dist) -> Result<Option<String>, PathError> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Ok(Some("it is not a regular file".into()));
    }
    if metadata.len() != dist.size {
        return Ok(Some(format!("it has {} bytes, not {}", metadata.len(), dist.size)));
    }
    let mut file = fs::open(path)?;
    let mut check = Check::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(PathError::on("read", path))? {
            0 => return Ok(check.finish(dist).err()),
            n => check.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}
