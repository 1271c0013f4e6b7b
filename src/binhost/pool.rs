//! The pool: all package files of a profile, never changed once written.
//!
//! ```text
//! pool/CATEGORY/PACKAGE/PF-BUILD_ID.gpkg.tar    mode 0444, modification time = BUILD_TIME
//! pool/CATEGORY/PACKAGE/PF-BUILD_ID.json        the record (version 4): facts, hashes, where it came from
//! pool/CATEGORY/PACKAGE/.new-…                  being written, or left behind
//! pool/CATEGORY/PACKAGE/.altered-…              no longer what was put there, and set aside
//! checked.json                                  which packages were found good (`pool/checked.rs`)
//! ```
//!
//! The package is copied beside its place, synced, renamed; then its record likewise. A package without a record does
//! not exist: whatever a process that was killed left of it is ignored and removed by the next [`Pool::clean`]. A record
//! without a package says that its number was given: the package was removed, and the number is not given again.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::atom::{BuildId, Cpv, Name};
use crate::binhost::path::PackagePath;
use crate::digest::{Digest, Hasher, Hashes};
use crate::fs::{self, PathError};
use crate::package::facts::Facts;
use crate::state::{Lock, ProfileDir};

mod checked;

pub use checked::Checked;

const VERSION: u32 = 4;
/// The first version, which is read, too: its facts have no output digest. The second knows nothing of sharing,
/// the third of audits.
const FIRST: u32 = 1;
/// No record comes near: the longest field is a dependency list of some tens of kilobytes.
const RECORD_LIMIT: u64 = 16 << 20;
const NEW: &str = ".new-";

/// The pool of one profile.
#[derive(Debug, Clone)]
pub struct Pool {
    dir: PathBuf,
}

/// One package of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies below the pool, and what it is.
    pub path: PackagePath,
    /// Where it lies on the host.
    pub file: PathBuf,
    /// Digests and length of the signed file.
    pub hashes: Hashes,
    /// What its metadata says.
    pub facts: Facts,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a package came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Origin {
    /// The request key it was built for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<Digest>,
    /// What went into the request key, each part by its name; for telling later why it changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub inputs: BTreeMap<String, String>,
    /// The run that built it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<String>,
    /// When that was, in seconds since 1970.
    pub built: u64,
    /// How long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub milliseconds: Option<u64>,
    /// The processor time of that, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_milliseconds: Option<u64>,
    /// The build of another profile that it was taken over from, instead of being built.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shared: Option<Shared>,
    /// What its programs were checked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audited: Option<Audited>,
}

/// A good audit of what a package's programs need of processors.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Audited {
    /// What it was checked for, and by which rules.
    pub wanted: Digest,
    /// How many ELF files it has.
    pub files: u64,
    /// How many bytes of code were read.
    pub code: u64,
    /// How many functions are beyond the level, and only reached where the processor has what they need.
    pub dispatched: u64,
    /// What each exception of the profile let pass, in their order.
    pub excepted: Vec<u64>,
}

impl Audited {
    /// Returns whether it has code beyond the level.
    pub fn has_more(&self) -> bool {
        self.dispatched > 0 || self.excepted.iter().any(|count| *count > 0)
    }
}

/// A build of another profile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Shared {
    /// The profile.
    pub profile: Name,
    /// The build's number there.
    pub build_id: BuildId,
}

/// What the next build of a package gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// The smallest number above all that were ever given.
    pub build_id: BuildId,
    /// Clients take the build with the highest BUILD_TIME: a new one must be above this, where there is one.
    pub newest: Option<u64>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Record {
    version: u32,
    facts: Facts,
    hashes: Hashes,
    origin: Origin,
}

#[derive(serde::Deserialize)]
struct Header {
    version: u32,
}

impl Pool {
    /// Returns the pool of a profile, which need not exist yet.
    pub fn open(profile: &ProfileDir) -> Self {
        Self { dir: profile.pool() }
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes a copy of a signed package into the pool. `_held` is the profile's lock.
    ///
    /// It is a copy and not a rename, so that nobody still has the pool's file open for writing; the hashes are computed
    /// from the very bytes that are written.
    pub fn add(&self, _held: &Lock, signed: &Path, facts: &Facts, origin: &Origin) -> Result<Entry, PoolError> {
        let path = PackagePath::new(&facts.cpv, facts.build_id);
        let (file, record) = (self.dir.join(path.to_string()), self.dir.join(path.record()));
        if record.exists() {
            return Err(PoolError::Taken { path });
        }
        if let Some(newest) = self.next(&facts.cpv)?.newest.filter(|newest| *newest >= facts.build_time) {
            return Err(PoolError::Older { path, newest });
        }
        let folder = self.dir.join(path.folder());
        fs::create_dir_all(&folder)?;
        let hashes = copy(signed, &folder, &file, facts.build_time)?;
        fs::sync_dir(&folder)?;
        for dir in folder.ancestors().skip(1).take(3) {
            fs::sync_dir(dir)?;
        }
        let content = Record { version: VERSION, facts: facts.clone(), hashes: hashes.clone(), origin: origin.clone() };
        let text = serde_json::to_string_pretty(&content).expect("a record has only plain fields");
        fs::write_atomic(&record, text + "\n", 0o444)?;
        Ok(Entry { path, file, hashes, facts: facts.clone(), origin: origin.clone() })
    }

    /// Notes that a package, which came out the same again, is also what this request makes, and what is known of it now:
    /// `entry` with the facts of today. Only the record changes.
    pub fn note(&self, _held: &Lock, entry: &Entry, origin: &Origin) -> Result<Entry, PoolError> {
        let (facts, hashes) = (entry.facts.clone(), entry.hashes.clone());
        let content = Record { version: VERSION, facts, hashes, origin: origin.clone() };
        let text = serde_json::to_string_pretty(&content).expect("a record has only plain fields");
        fs::write_atomic(&self.dir.join(entry.path.record()), text + "\n", 0o444)?;
        Ok(Entry { origin: origin.clone(), ..entry.clone() })
    }

    /// Removes what a process that was killed left: files half written, and packages without a record. Returns their
    /// paths. `_held` is the profile's lock.
    pub fn clean(&self, _held: &Lock) -> Result<Vec<PathBuf>, PoolError> {
        let mut removed = Vec::new();
        for file in self.files()? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let orphan = || {
                let path = self.relative(&file).and_then(|text| text.parse::<PackagePath>().ok());
                path.is_some_and(|path| !self.dir.join(path.record()).exists())
            };
            if name.starts_with(NEW) || orphan() {
                fs::remove_file(&file)?;
                removed.push(file);
            }
        }
        Ok(removed)
    }

    /// Returns all packages, sorted by category, name, version (as text) and build number.
    ///
    /// A record that does not parse, contradicts its own name, or whose package has another length is an error that
    /// names it.
    pub fn entries(&self) -> Result<Vec<Entry>, PoolError> {
        self.all()?.into_iter().map(whole).collect()
    }

    /// Returns all packages, sorted, with the length that each has.
    fn all(&self) -> Result<Vec<(Entry, u64)>, PoolError> {
        let mut entries = Vec::new();
        for file in self.files()? {
            if file.extension().is_some_and(|e| e == "json") {
                entries.extend(self.read(&file)?);
            }
        }
        entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Returns the builds of one package, oldest number first.
    pub fn builds(&self, cpv: &Cpv) -> Result<Vec<Entry>, PoolError> {
        let mut entries = Vec::new();
        for (path, file) in self.records(cpv)? {
            if path.cpv == *cpv {
                entries.extend(self.load(&file)?);
            }
        }
        entries.sort_by_key(|entry| entry.path.build_id);
        Ok(entries)
    }

    /// Returns one build of a package.
    pub fn find(&self, cpv: &Cpv, build_id: BuildId) -> Result<Option<Entry>, PoolError> {
        let record = self.dir.join(PackagePath::new(cpv, build_id).record());
        if record.exists() { self.load(&record) } else { Ok(None) }
    }

    /// Returns the newest build of a package that was made for a request.
    pub fn find_request(&self, cpv: &Cpv, request: &Digest) -> Result<Option<Entry>, PoolError> {
        Ok(self.builds(cpv)?.into_iter().rfind(|entry| entry.origin.request.as_ref() == Some(request)))
    }

    /// Returns content digest and number of each build of a package: content that is known needs no new build.
    pub fn known(&self, cpv: &Cpv) -> Result<Vec<(Digest, BuildId)>, PoolError> {
        Ok(self.builds(cpv)?.into_iter().map(|entry| (entry.facts.content, entry.path.build_id)).collect())
    }

    /// Returns what the next build of a package gets.
    pub fn next(&self, cpv: &Cpv) -> Result<Next, PoolError> {
        let given = self.records(cpv)?.into_iter().filter(|(path, _)| path.cpv == *cpv);
        let last = given.map(|(path, _)| path.build_id.0).max().unwrap_or(0);
        let builds = self.builds(cpv)?;
        let build_id = last.checked_add(1).ok_or_else(|| PoolError::Full { cpv: cpv.clone() })?;
        Ok(Next { build_id: BuildId(build_id), newest: builds.iter().map(|entry| entry.facts.build_time).max() })
    }

    /// Reads a package again and compares it with its record.
    pub fn verify(&self, entry: &Entry) -> Result<(), PoolError> {
        if Hashes::of_file(&entry.file)? == entry.hashes {
            Ok(())
        } else {
            Err(PoolError::Altered { file: entry.file.clone() })
        }
    }

    /// Returns the package of a record; nothing where the package was removed.
    fn load(&self, file: &Path) -> Result<Option<Entry>, PoolError> {
        self.read(file)?.map(whole).transpose()
    }

    /// Returns the package of a record and the length of its file; nothing where the package was removed.
    fn read(&self, file: &Path) -> Result<Option<(Entry, u64)>, PoolError> {
        let damaged = |why: String| PoolError::Damaged { file: file.to_path_buf(), why };
        let bytes = fs::read_at_most(file, RECORD_LIMIT)?;
        let header: Header = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if !(FIRST..=VERSION).contains(&header.version) {
            return Err(PoolError::OtherVersion { file: file.to_path_buf(), found: header.version });
        }
        let Record { facts, hashes, origin, .. } =
            serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        let path = PackagePath::new(&facts.cpv, facts.build_id);
        if self.dir.join(path.record()) != file {
            return Err(damaged(format!("it is about `{path}`")));
        }
        let package = self.dir.join(path.to_string());
        match fs::symlink_metadata(&package) {
            Ok(meta) if meta.is_file() => Ok(Some((Entry { path, file: package, hashes, facts, origin }, meta.len()))),
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Ok(_) => Err(PoolError::Altered { file: package }),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the records in a package's folder.
    fn records(&self, cpv: &Cpv) -> Result<Vec<(PackagePath, PathBuf)>, PoolError> {
        let files = fs::read_dir_if_exists(&self.dir.join(cpv.cp()))?;
        let known = |file: PathBuf| Some((PackagePath::of_record(&self.relative(&file)?).ok()?, file));
        Ok(files.into_iter().filter_map(known).collect())
    }

    fn files(&self) -> Result<Vec<PathBuf>, PathError> {
        let mut files = Vec::new();
        for category in fs::read_dir_if_exists(&self.dir)? {
            for package in fs::read_dir_if_exists(&category)? {
                files.extend(fs::read_dir_if_exists(&package)?);
            }
        }
        Ok(files)
    }

    fn relative(&self, file: &Path) -> Option<String> {
        Some(file.strip_prefix(&self.dir).ok()?.to_str()?.to_string())
    }
}

/// Returns a package whose file has the length that its record says.
fn whole((entry, length): (Entry, u64)) -> Result<Entry, PoolError> {
    if length == entry.hashes.size { Ok(entry) } else { Err(PoolError::Altered { file: entry.file }) }
}

fn copy(from: &Path, folder: &Path, to: &Path, mtime: u64) -> Result<Hashes, PathError> {
    let mut reader = fs::open(from)?;
    let write = || PathError::on("write", to);
    let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(folder).map_err(write())?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 17]);
    loop {
        match reader.read(&mut buffer).map_err(PathError::on("read", from))? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                file.as_file_mut().write_all(&buffer[..n]).map_err(write())?;
            }
        }
    }
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(mtime)).unwrap_or(SystemTime::UNIX_EPOCH);
    file.as_file().set_modified(time).map_err(write())?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o444)).map_err(write())?;
    file.as_file().sync_all().map_err(write())?;
    file.persist(to).map_err(|e| write()(e.error))?;
    Ok(hasher.finish())
}

/// The pool cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A record does not parse.
    #[error("the record `{}` is damaged: {why}; remove it, and the package is built again", file.display())]
    Damaged {
        /// The record.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another bindery wrote a record.
    #[error("`{}` says format {found}, this bindery reads {FIRST} to {VERSION}; use the bindery that wrote it, or another --state", file.display())]
    OtherVersion {
        /// The record.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A package is not what it was when it was added.
    #[error("`{}` is not the file that was put into the pool; remove it, and the package is built again", file.display())]
    Altered {
        /// The package.
        file: PathBuf,
    },
    /// There is such a build already.
    #[error("`{path}` is in the pool already; the next build needs the next number")]
    Taken {
        /// The build.
        path: PackagePath,
    },
    /// Clients would go on taking an earlier build.
    #[error("`{path}` must have a later BUILD_TIME than {newest}, which an earlier build has; raise the source date")]
    Older {
        /// The build.
        path: PackagePath,
        /// The greatest BUILD_TIME in the pool.
        newest: u64,
    },
    /// All build numbers are used.
    #[error("there is no build number left for `{cpv}`")]
    Full {
        /// The package.
        cpv: Cpv,
    },
}

#[cfg(test)]
pub(crate) mod tests;
