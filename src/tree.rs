//! Ebuild repositories at one revision.
//!
//! A build must not see a tree change under it, so it uses a copy, made once for each content:
//!
//! ```text
//! trees/NAME/lock            held while a snapshot is made
//! trees/NAME/.new            one being made; left behind by a process that was killed, removed by the next
//! trees/NAME/seen.json       what the source's files looked like when REVISION was made of them
//! trees/NAME/REVISION/       64 hexadecimal digits: the digest of paths, executable bits, contents and links
//! ```
//!
//! 1. List the source; when nothing looks changed since the last time, the snapshot made then is the one.
//! 2. Copy, computing the revision of what is written.
//! 3. List the source again; when it changed meanwhile, start over.
//! 4. Rename into place.
//!
//! Snapshots hold nothing of git, and no times of the source: a file's time follows from its content (`tree/copy.rs`).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::atom::{Name, NameError};
use crate::config::{PortageProfile, closest, listed};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::fs::{self, PathError};

mod commit;
mod copy;
mod ebuilds;
mod layout;
pub mod manifest;
mod walk;

pub use ebuilds::{ebuilds, meant, named};
pub use manifest::{Dist, FileName, ManifestError};

use layout::Layout;

/// How often a source that changes while it is copied is copied again.
const ATTEMPTS: usize = 3;

/// A snapshot of an ebuild repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tree {
    /// Its name, the one in its `profiles/repo_name`.
    pub name: Name,
    /// The snapshot: never changes.
    pub path: PathBuf,
    /// The digest of what is in it.
    pub revision: Digest,
    /// The git commit that the source had checked out, changed or not.
    pub commit: Option<String>,
    /// The trees it builds on; nothing where it does not say, which Portage takes for the first tree.
    pub masters: Option<Vec<Name>>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Seen {
    version: u32,
    records: Digest,
    revision: Digest,
}

/// Returns the snapshot of the tree at `source`, made below `trees` (`State::trees()`) if there is none of its present
/// content. `name` is what `bindery.toml` calls it, which must be its own name.
pub fn snapshot(name: &Name, source: &Path, trees: &Path, on: Sink<'_>) -> Result<Tree, TreeError> {
    snapshot_at(SystemTime::now, name, source, trees, on)
}

fn snapshot_at(
    now: fn() -> SystemTime,
    name: &Name,
    source: &Path,
    trees: &Path,
    on: Sink<'_>,
) -> Result<Tree, TreeError> {
    if !source.is_dir() {
        return Err(TreeError::Missing { name: name.clone(), path: source.to_path_buf() });
    }
    let layout = Layout::read(source)?;
    if layout.name != *name {
        return Err(TreeError::OtherName { name: name.clone(), found: layout.name, path: source.to_path_buf() });
    }
    let home = trees.join(name.as_str());
    fs::create_dir_all(&home)?;
    // Waited for: another process that makes a snapshot does so for a short time, and this one may then use it.
    let file = home.join("lock");
    let _lock = fs::Locked::wait(fs::open_lock(&file)?).map_err(PathError::on("lock", &file))?;
    let revision = current(now, source, &home, name, on)?;
    let path = home.join(revision.hex());
    Ok(Tree { name: name.clone(), path, revision, commit: commit::commit(source), masters: layout.masters })
}

fn current(
    now: fn() -> SystemTime,
    source: &Path,
    home: &Path,
    name: &Name,
    on: Sink<'_>,
) -> Result<Digest, TreeError> {
    let mut entries = walk::walk(source)?;
    let seen = home.join("seen.json");
    // Damaged or of another version, it is only slower.
    let known = layout::read(&seen)?.and_then(|text| serde_json::from_str::<Seen>(&text).ok());
    if let Some(known) = known
        && known.version == 1
        && known.records == walk::records(source, &entries)
        && home.join(known.revision.hex()).is_dir()
    {
        return Ok(known.revision);
    }
    on(Event::Step { what: format!("copying tree `{name}` ({} entries)", entries.len()) });
    let new = home.join(".new");
    for _ in 0..ATTEMPTS {
        fs::remove_dir_all(&new)?;
        fs::create_dir_new(&new, 0o755)?;
        // What changes or vanishes under the copy is found by the second listing.
        let copied = copy::copy(source, &new, &entries);
        let time = now();
        let again = walk::walk(source)?;
        if again != entries {
            entries = again;
            continue;
        }
        let revision = copied?;
        let path = home.join(revision.hex());
        if path.is_dir() {
            fs::remove_dir_all(&new)?;
        } else {
            // One call for all files: a snapshot that has its name is complete, also after the machine stopped.
            let folder = fs::open(&new)?;
            rustix::fs::syncfs(&folder).map_err(|e| PathError::on("sync", &new)(e.into()))?;
            fs::rename(&new, &path)?;
            fs::sync_dir(home)?;
        }
        if walk::settled(&entries, time) {
            let records = walk::records(source, &entries);
            let text = serde_json::to_string(&Seen { version: 1, records, revision: revision.clone() });
            fs::write_atomic(&seen, text.expect("it has only plain fields") + "\n", 0o644)?;
        }
        return Ok(revision);
    }
    fs::remove_dir_all(&new)?;
    Err(TreeError::Changing { path: source.to_path_buf() })
}

impl Tree {
    /// Returns the text of `profiles/thirdpartymirrors`; empty where there is none.
    pub fn third_party_mirrors(&self) -> Result<String, PathError> {
        Ok(layout::read(&self.path.join("profiles/thirdpartymirrors"))?.unwrap_or_default())
    }

    /// Returns the Portage profiles that the tree lists in `profiles/profiles.desc`.
    pub fn portage_profiles(&self) -> Result<Vec<String>, PathError> {
        let text = layout::read(&self.path.join("profiles/profiles.desc"))?.unwrap_or_default();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        Ok(lines.filter_map(|line| line.split_ascii_whitespace().nth(1)).map(String::from).collect())
    }
}

/// Checks a profile's trees against each other and the Portage profile against them: every tree's masters come before
/// it, and the Portage profile is there. Returns the tree that has the Portage profile.
pub fn check<'a>(trees: &'a [Tree], portage_profile: &PortageProfile) -> Result<&'a Tree, TreeError> {
    for (i, tree) in trees.iter().enumerate() {
        let before: Vec<&str> = trees.iter().take(i).map(|tree| tree.name.as_str()).collect();
        for master in tree.masters.iter().flatten() {
            if !before.contains(&master.as_str()) {
                return Err(TreeError::Master { name: tree.name.clone(), master: master.clone() });
            }
        }
    }
    let name = portage_profile.tree.as_ref();
    let tree = trees.iter().find(|tree| name.is_none_or(|name| tree.name == *name));
    let found = tree.filter(|tree| tree.path.join("profiles").join(&portage_profile.path).is_dir());
    if let Some(tree) = found {
        return Ok(tree);
    }
    let known = tree.map_or(Ok(Vec::new()), Tree::portage_profiles)?;
    Err(TreeError::PortageProfile {
        wanted: portage_profile.path.clone(),
        tree: tree.map(|tree| tree.name.clone()).or(name.cloned()),
        known,
    })
}

/// A tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is nothing at its path.
    #[error("tree `{name}` is not at `{}`; get it there, or correct the path of [trees.{name}] in `bindery.toml`", path.display())]
    Missing {
        /// The tree.
        name: Name,
        /// Where it should be.
        path: PathBuf,
    },
    /// It is not an ebuild repository.
    #[error("`{}` is not an ebuild repository: it has no `profiles/repo_name`", path.display())]
    NotATree {
        /// The folder.
        path: PathBuf,
    },
    /// A name in one of its files is none.
    #[error("`{}` holds a name that is none", file.display())]
    Name {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: NameError,
    },
    /// `bindery.toml` calls it otherwise than it calls itself.
    #[error("tree `{name}` at `{}` calls itself `{found}`; write [trees.{found}] in `bindery.toml`", path.display())]
    OtherName {
        /// Its name in `bindery.toml`.
        name: Name,
        /// Its name in `profiles/repo_name`.
        found: Name,
        /// Where it is.
        path: PathBuf,
    },
    /// Something in it cannot be part of a snapshot.
    #[error("tree refused because of `{}`: {why}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is larger than any tree.
    #[error("`{}` has more files than an ebuild repository can have; is it the right folder?", path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
    /// It does not hold still.
    #[error("the tree at `{}` keeps changing while it is copied; try again when its update is done", path.display())]
    Changing {
        /// Where it is.
        path: PathBuf,
    },
    /// A tree that it builds on is missing or comes too late.
    #[error(
        "tree `{name}` builds on tree `{master}` (`masters` in its `metadata/layout.conf`); list `{master}` before it in the profile's `trees`"
    )]
    Master {
        /// The tree.
        name: Name,
        /// What it needs.
        master: Name,
    },
    /// No tree has the Portage profile.
    #[error("there is no Portage profile `{wanted}`{}{}", tree.as_ref().map(|tree| format!(" in tree `{tree}`")).unwrap_or_default(), meant_profile(wanted, known))]
    PortageProfile {
        /// The profile.
        wanted: String,
        /// Where it was looked for.
        tree: Option<Name>,
        /// The ones it lists.
        known: Vec<String>,
    },
}

fn meant_profile(wanted: &str, known: &[String]) -> String {
    /// How many are worth reading in a message.
    const SHOWN: usize = 10;
    match closest(wanted, known.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; it has {}", listed(known.iter().map(String::as_str).take(SHOWN))),
    }
}

#[cfg(test)]
mod tests;
