//! Where things live on disk, and who is using them.
//!
//! ```text
//! etc     profiles/ images/ bindery.toml keys/ (0700)
//! cache   distfiles/  downloads/SHA256  trees/NAME/REVISION/  resolutions/KEY      rebuildable
//! state   state.json                                              format version
//!         images/ blobs/sha256/ unpacked/DIGEST/                  OCI layout; unpacked once, never changed
//!         layers/DIGEST/  layers.lock  l/SHORT -> ../layers/DIGEST             short names: mount(2) takes 4096 bytes of options
//!         roots/LEASE/                                            upper and work directories while a sandbox runs
//!         runs/ID/                                                request, plan, status, events, logs
//!         commands.jsonl                                          what `run` and `shell` ran
//!         profiles/NAME/{lock,pool/,generations/N/,current}
//! run     leases/ID.json                                          locked by the process that holds the lease
//! ```
//!
//! Root has these four in `/etc`, `/var/cache`, `/var/lib` and `/run`, everyone else in the XDG folders; `--state DIR`
//! (`BINDERY_STATE`) puts all four below one folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::atom::Name;
use crate::digest::Digest;
use crate::fs::{self, PathError};

mod held;
mod lease;
mod lock;
mod tidy;

pub use held::{HeldLease, held_leases};
pub use lease::{Lease, LeaseRecord, StaleLease, holder_is_dead, stale_leases, start_time};
pub use lock::{Lock, LockError};
pub use tidy::{Tidied, tidy, tidy_below};

/// The version of the layout that this program reads and writes.
const VERSION: u32 = 1;

/// The folders of one user's, or one `--state`'s, bindery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    etc: PathBuf,
    cache: PathBuf,
    state: PathBuf,
    run: PathBuf,
}

impl State {
    /// Returns the layout with everything below one folder, which need not exist yet.
    pub fn below(dir: &Path) -> Self {
        Self { etc: dir.join("etc"), cache: dir.join("cache"), state: dir.join("state"), run: dir.join("run") }
    }

    /// Returns the layout for root, in the folders the Filesystem Hierarchy Standard names.
    pub fn system() -> Self {
        Self {
            etc: "/etc/bindery".into(),
            cache: "/var/cache/bindery".into(),
            state: "/var/lib/bindery".into(),
            run: "/run/bindery".into(),
        }
    }

    /// Returns the layout for an ordinary user from the XDG base folders.
    pub fn user(config: &Path, cache: &Path, state: &Path, runtime: Option<&Path>) -> Self {
        let state = state.join("bindery");
        let run = runtime.map_or_else(|| state.join("run"), |dir| dir.join("bindery"));
        Self { etc: config.join("bindery"), cache: cache.join("bindery"), state, run }
    }

    /// Creates the folders, and refuses a layout that a newer bindery wrote.
    pub fn prepare(&self) -> Result<(), StateError> {
        for dir in [
            self.distfiles(),
            self.downloads(),
            self.trees(),
            self.resolutions(),
            self.blobs(),
            self.unpacked(),
            self.runs(),
            self.leases(),
        ] {
            fs::create_dir_all(&dir)?;
        }
        for dir in [self.images(), self.layers(), self.short_layers(), self.profiles()] {
            fs::create_dir_all(&dir)?;
        }
        let roots = self.roots();
        if !roots.exists() {
            fs::create_dir_all(&roots)?;
            fs::spread(&roots);
        }
        fs::create_dir_all(&self.etc)?;
        fs::create_dir(&self.keys(), 0o700)?;
        let file = self.state.join("state.json");
        match fs::read_if_exists(&file)? {
            None => fs::write_atomic(&file, format!("{{\"version\": {VERSION}}}\n"), 0o644)?,
            Some(text) => {
                let found = serde_json::from_str::<Header>(&text)
                    .map_err(|source| StateError::Damaged { file: file.clone(), source })?;
                if found.version != VERSION {
                    return Err(StateError::OtherVersion { file, found: found.version });
                }
            }
        }
        Ok(())
    }

    /// Returns the first folder whose path is not UTF-8.
    pub fn not_utf8(&self) -> Option<&Path> {
        let dirs = [&self.etc, &self.cache, &self.state, &self.run];
        dirs.into_iter().map(PathBuf::as_path).find(|dir| dir.to_str().is_none())
    }

    /// Where configuration is looked for after the current folder's.
    pub fn etc(&self) -> &Path {
        &self.etc
    }
    /// Secret keys; only the host side ever looks in.
    pub fn keys(&self) -> PathBuf {
        self.etc.join("keys")
    }
    /// Verified source archives, shared by everything.
    pub fn distfiles(&self) -> PathBuf {
        self.cache.join("distfiles")
    }
    /// Snapshots of ebuild repositories.
    pub fn trees(&self) -> PathBuf {
        self.cache.join("trees")
    }
    /// What resolvers answered before.
    pub fn resolutions(&self) -> PathBuf {
        self.cache.join("resolutions")
    }
    /// What is not cache: the folder that layers, roots and short names lie below.
    pub fn state(&self) -> &Path {
        &self.state
    }
    /// Image names and locks.
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }
    /// Blobs of the OCI image layout, named by SHA-256.
    pub fn blobs(&self) -> PathBuf {
        self.state.join("images/blobs/sha256")
    }
    /// Unpacked images; files belong to the id range.
    pub fn unpacked(&self) -> PathBuf {
        self.state.join("images/unpacked")
    }
    /// Layers of finished packages.
    pub fn layers(&self) -> PathBuf {
        self.state.join("layers")
    }
    /// The lock of those who use layers, and of who removes some.
    pub fn layers_lock(&self) -> PathBuf {
        self.state.join("layers.lock")
    }
    /// Short names of layers and unpacked images, for mount options.
    pub fn short_layers(&self) -> PathBuf {
        self.state.join("l")
    }
    /// Upper and work directories, one folder for each lease.
    pub fn roots(&self) -> PathBuf {
        self.state.join("roots")
    }
    /// Runs: plans, events, logs.
    pub fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }
    /// What was built, for each profile.
    pub fn profiles(&self) -> PathBuf {
        self.state.join("profiles")
    }
    /// What was built for one profile.
    pub fn profile(&self, name: &Name) -> ProfileDir {
        ProfileDir(self.profiles().join(name.as_str()))
    }
    /// Leases.
    pub fn leases(&self) -> PathBuf {
        self.run.join("leases")
    }
    /// Packages and wheels that images are made of, named by SHA-256.
    pub fn downloads(&self) -> PathBuf {
        self.cache.join("downloads")
    }
    /// Returns the file of a download.
    pub fn download(&self, digest: &Digest) -> PathBuf {
        self.downloads().join(digest.hex())
    }
    /// Returns the file of a blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }
}

/// The folder of one profile's packages and generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileDir(PathBuf);

impl ProfileDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// All package files, never changed once written.
    pub fn pool(&self) -> PathBuf {
        self.0.join("pool")
    }
    /// Published sets, one folder a number.
    pub fn generations(&self) -> PathBuf {
        self.0.join("generations")
    }
    /// The link to the published generation.
    pub fn current(&self) -> PathBuf {
        self.0.join("current")
    }
    /// By which methods packages were not built, and why.
    pub fn methods(&self) -> PathBuf {
        self.0.join("methods")
    }
    /// Likewise of what runs, of the profile's architecture, while others of its packages are built: a pool that nobody else uses.
    pub fn emulated(&self) -> Self {
        Self(self.0.join("emulated"))
    }
    /// Takes the lock that lets one process build for and publish this profile.
    pub fn lock(&self) -> Result<Lock, LockError> {
        fs::create_dir_all(&self.0)?;
        Lock::take(&self.0.join("lock"))
    }
    /// Takes it as soon as nobody has it, as [`Lock::wait`] does.
    pub fn wait(&self, cancel: &AtomicBool, told: impl FnMut(&str)) -> Result<Option<Lock>, LockError> {
        fs::create_dir_all(&self.0)?;
        Lock::wait(&self.0.join("lock"), cancel, told)
    }
}

#[derive(serde::Deserialize)]
struct Header {
    version: u32,
}

/// The state on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file of ours does not parse.
    #[error("`{}` is damaged", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another bindery wrote it.
    #[error("`{}` says format {found}, this bindery reads {VERSION}; use the bindery that wrote it, or another --state", file.display())]
    OtherVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_state_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        state.prepare().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&state.keys()).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o700);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        fs::write(&state.state().join("state.json"), "{\"version\": 99}").unwrap();
        let error = state.prepare().unwrap_err().to_string();
        assert!(error.contains("says format 99, this bindery reads 1"), "{error}");
    }
}
