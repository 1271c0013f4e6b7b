//! What a merge by the package manager has left, compared with what copying the package leaves: the phases' part.
//!
//! Every path that the merge wrote is one of these:
//!
//! ```text
//! as predicted        nothing to do
//! drop                state and caches of Portage's, temporary files, back-ups of account files, byte code
//! regenerate          ld.so.cache, environment, index of info pages: made anew in every stack (`stack/refresh.rs`)
//! merge by record     passwd, group, shadow, gshadow: what is added to them ([`Accounts`])
//! keep                the package's own files, changed or removed; new files, and the image's where no package has them
//! else                a reason, which names the path
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::ground::{self, Layers};
use super::inside::DeriveJobError;
use super::place::Attributes;
use super::reason::Reason;
use crate::fs::{self, PathError};
use crate::layer::accounts::{Accounts, FORMS, Form};
use crate::layer::archive::{Kind, Member};
use crate::layer::beneath::Beneath;

/// The longest file of accounts, in bytes.
const ACCOUNTS: u64 = 16 << 20;

/// What no layer holds: each of these, and all below it.
const LEFT_OUT: [&str; 30] = [
    // Portage's own state and caches
    "var/cache/edb",
    "var/lib/portage",
    "var/lib/gentoo/news",
    "var/log/emerge.log",
    "var/log/emerge-fetch.log",
    "var/log/portage",
    "var/log/sandbox",
    "run",
    "tmp",
    "var/tmp",
    // of account files and of the dynamic linker
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/.pwd.lock",
    "var/cache/ldconfig",
    // made anew in every stack
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/profile.env",
    "etc/csh.env",
    "etc/environment.d/10-gentoo-env.conf",
    "usr/share/info/dir",
    "usr/share/info/dir.old",
    // where something is mounted in the root, or made for it
    "dev",
    "proc",
    "sys",
    "etc/portage",
    "var/cache/bindery",
    "var/cache/distfiles",
    "var/db/repos",
];
const DATABASE: &str = "var/db/pkg";

/// What a merge has left. Paths are relative to the working folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Merged {
    /// What it wrote.
    pub(super) upper: PathBuf,
    /// What it ran on, above the image: layers, top first.
    pub(super) below: Vec<PathBuf>,
}

/// What is predicted, and what it is compared with.
pub(super) struct Comparison<'a> {
    /// The layer so far.
    layer: &'a Beneath,
    upper: Beneath,
    ground: Layers,
    /// How many of the ground's layers are packages'.
    packages: usize,
    /// The package's entry in the database.
    entry: PathBuf,
    /// What stands for the time of the merge, in seconds since 1970.
    time: u64,
    found: Found,
}

/// What came of the comparison.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files and links to be taken from what the merge wrote, and new folders; in the order in which they are made.
    pub(super) kept: Vec<Member>,
    /// Folders of the package's that have another owner or mode.
    pub(super) folders: Vec<Member>,
    /// Paths of the package's that are gone, what is in a folder before the folder.
    pub(super) removed: Vec<PathBuf>,
    pub(super) accounts: Accounts,
    pub(super) reasons: Vec<Reason>,
}

impl<'a> Comparison<'a> {
    /// Opens what is compared; `image` is the ground that the layer was predicted for, `entry` the package's in the database.
    pub(super) fn open(
        layer: &'a Beneath,
        merged: &Merged,
        image: &[PathBuf],
        entry: &Path,
        time: u64,
    ) -> Result<Self, PathError> {
        let all: Vec<PathBuf> = merged.below.iter().chain(image).cloned().collect();
        Ok(Self {
            layer,
            upper: Beneath::open(&merged.upper)?,
            ground: Layers::open(&all)?,
            packages: merged.below.len(),
            entry: entry.to_path_buf(),
            time,
            found: Found::default(),
        })
    }

    /// Compares everything; `placed` are the folders and then everything else that was predicted.
    pub(super) fn run(mut self, placed: &[BTreeSet<String>; 2]) -> Result<Found, DeriveJobError> {
        let mut waiting = vec![PathBuf::new()];
        while let Some(folder) = waiting.pop() {
            let open = self.upper.folder(&folder).map_err(self.upper.fail("open", &folder))?;
            let mut names = fs::names(&open).map_err(self.upper.fail("list", &folder))?;
            names.sort();
            for name in names {
                let path = folder.join(OsStr::from_bytes(name.as_bytes()));
                if self.look(&path)? {
                    waiting.push(path);
                }
            }
        }
        // Folders come before what is in them, whatever came first here.
        self.found.kept.sort_by(|one, other| one.path.cmp(&other.path));
        for path in placed.iter().flatten().collect::<BTreeSet<_>>().into_iter().rev() {
            self.still_there(Path::new(path))?;
        }
        Ok(self.found)
    }

    /// Looks at one path that the merge wrote; returns whether to look at what is below.
    fn look(&mut self, path: &Path) -> Result<bool, DeriveJobError> {
        let Some(now) = ground::stat(&self.upper, path)? else { return Ok(false) };
        if path == self.entry {
            return Ok(false);
        }
        let (own, before) = (ground::stat(self.layer, path)?, self.ground.find(path)?);
        let left_out = own.is_none() && is_left_out(path);
        match FileType::from_raw_mode(now.st_mode) {
            // An overlay's mark for what is deleted.
            FileType::CharacterDevice if now.st_rdev == 0 => {
                if before.is_some() && !left_out {
                    self.refuse(path, |path| Reason::Removed { path });
                }
                Ok(false)
            }
            FileType::Directory => {
                if !left_out {
                    self.folder(path, &now, own.as_ref(), before.as_ref().map(|(_, stat)| stat))?;
                }
                Ok(true)
            }
            kind @ (FileType::RegularFile | FileType::Symlink) => {
                match FORMS.iter().find(|form| Path::new(form.path) == path) {
                    Some(form) if own.is_none() && kind == FileType::RegularFile => self.accounts(form)?,
                    _ if left_out => {}
                    _ => self.file(path, &now, own.as_ref(), before)?,
                }
                Ok(false)
            }
            _ => {
                if !left_out {
                    self.refuse(path, |path| Reason::Odd { path });
                }
                Ok(false)
            }
        }
    }

    fn folder(
        &mut self,
        path: &Path,
        now: &Stat,
        own: Option<&Stat>,
        before: Option<&Stat>,
    ) -> Result<(), DeriveJobError> {
        let opaque = self.attributes(path)?;
        match (before, own) {
            (Some(before), _) if is_folder(before) && !opaque && same_owner(before, now) => {}
            (Some(_), _) => self.refuse(path, |path| Reason::Changed { path }),
            (None, Some(own)) if is_folder(own) && same_owner(own, now) => {}
            (None, Some(own)) if is_folder(own) => {
                let member = self.member(path, Kind::Folder, now);
                self.found.folders.push(member);
            }
            (None, Some(_)) => self.refuse(path, |path| Reason::Changed { path }),
            (None, None) if path.starts_with(DATABASE) => self.refuse(path, |path| Reason::Changed { path }),
            (None, None) => self.keep(path, Kind::Folder, now),
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        now: &Stat,
        own: Option<&Stat>,
        before: Option<(usize, Stat)>,
    ) -> Result<(), DeriveJobError> {
        if let Some(own) = own {
            if is_folder(own) {
                self.refuse(path, |path| Reason::Changed { path });
            } else if !same(self.layer, own, &self.upper, now, path)? {
                self.keep_file(path, now)?;
            }
            return Ok(());
        }
        let Some((number, before)) = before else {
            if path.starts_with(DATABASE) {
                self.refuse(path, |path| Reason::Changed { path });
                return Ok(());
            }
            return self.keep_file(path, now);
        };
        let layer = self.ground.layer(number).expect("it was found there");
        if same(layer, &before, &self.upper, now, path)? {
            return Ok(());
        }
        // What the image has belongs to no package.
        if number < self.packages || is_folder(&before) {
            self.refuse(path, |path| Reason::Changed { path });
            return Ok(());
        }
        self.keep_file(path, now)
    }

    fn keep_file(&mut self, path: &Path, now: &Stat) -> Result<(), DeriveJobError> {
        self.attributes(path)?;
        let kind = match FileType::from_raw_mode(now.st_mode) {
            FileType::Symlink => Kind::Symlink(ground::target(&self.upper, path)?),
            _ => Kind::File(u64::try_from(now.st_size).unwrap_or_default()),
        };
        self.keep(path, kind, now);
        Ok(())
    }

    fn keep(&mut self, path: &Path, kind: Kind, now: &Stat) {
        if is_plain(path) {
            let member = self.member(path, kind, now);
            self.found.kept.push(member);
        } else {
            self.refuse(path, |path| Reason::Odd { path });
        }
    }

    fn member(&self, path: &Path, kind: Kind, now: &Stat) -> Member {
        let Attributes { mode, uid, gid, .. } = Attributes::from(now);
        Member { path: path.to_path_buf(), kind, mode, uid, gid, mtime: self.time, xattrs: Vec::new() }
    }

    /// Refuses attributes that a layer would lose; returns whether a folder hides what is below.
    fn attributes(&mut self, path: &Path) -> Result<bool, DeriveJobError> {
        let mut opaque = false;
        for name in ground::attributes(&self.upper, path)? {
            match name.as_slice() {
                b"user.overlay.opaque" => opaque = true,
                // The overlay's own notes, and the host's labels.
                name if name.starts_with(b"user.overlay.") || name == b"security.selinux" => {}
                name => {
                    let name = String::from_utf8_lossy(name).escape_debug().to_string();
                    self.refuse(path, |path| Reason::Attribute { path, name });
                }
            }
        }
        Ok(opaque)
    }

    fn accounts(&mut self, form: &Form) -> Result<(), DeriveJobError> {
        let path = Path::new(form.path);
        let text =
            |bytes: Option<(Vec<u8>, Stat)>| bytes.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned());
        let after = text(ground::regular(&self.upper, path, ACCOUNTS)?).unwrap_or_default();
        let before = match self.ground.find(path)? {
            Some((number, _)) => {
                let layer = self.ground.layer(number).expect("it was found there");
                text(ground::regular(layer, path, ACCOUNTS)?).unwrap_or_default()
            }
            None => String::new(),
        };
        if let Err(name) = self.found.accounts.add(form, &before, &after, self.time / (24 * 60 * 60)) {
            self.found.reasons.push(Reason::Account { path: form.path.to_string(), name });
        }
        Ok(())
    }

    /// Notes what was predicted and is not there.
    fn still_there(&mut self, path: &Path) -> Result<(), DeriveJobError> {
        if path.starts_with(&self.entry) || ground::stat(&self.upper, path)?.is_some() {
            return Ok(());
        }
        let own = ground::stat(self.layer, path)?;
        match (own, self.ground.find(path)?) {
            (Some(_), None) if !path.as_os_str().is_empty() => self.found.removed.push(path.to_path_buf()),
            (Some(own), Some((_, before))) if is_folder(&own) && is_folder(&before) => {}
            (Some(own), Some((number, before))) => {
                let layer = self.ground.layer(number).expect("it was found there");
                if !same(self.layer, &own, layer, &before, path)? {
                    self.refuse(path, |path| Reason::Changed { path });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn refuse(&mut self, path: &Path, reason: impl FnOnce(String) -> Reason) {
        let shown = path.to_string_lossy();
        let shown = if is_plain(path) { shown.into_owned() } else { shown.escape_debug().to_string() };
        self.found.reasons.push(reason(shown));
    }
}

/// Returns whether no layer holds a path, unless the package has it.
fn is_left_out(path: &Path) -> bool {
    let lock = |name: &OsStr| name.as_bytes().ends_with(b".portage_lockfile");
    LEFT_OUT.iter().any(|known| path.starts_with(known))
        // The folder of one of these, which not every image has.
        || path == Path::new("etc/environment.d")
        || path.components().any(|part| part.as_os_str() == "__pycache__")
        || path.file_name().is_some_and(lock)
}

fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.chars().any(char::is_control))
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Returns whether kind, mode and owner are the same.
fn same_owner(one: &Stat, other: &Stat) -> bool {
    (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
}

/// Returns whether two layers have the same at a path, but for times.
fn same(one: &Beneath, a: &Stat, other: &Beneath, b: &Stat, path: &Path) -> Result<bool, DeriveJobError> {
    if !same_owner(a, b) {
        return Ok(false);
    }
    match FileType::from_raw_mode(a.st_mode) {
        FileType::Symlink => Ok(ground::target(one, path)? == ground::target(other, path)?),
        FileType::RegularFile if a.st_size == b.st_size => {
            let (mut one, mut other) = (ground::open(one, path)?, ground::open(other, path)?);
            let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            loop {
                let n = one.read(&mut a).map_err(PathError::on("read", path))?;
                let part = b.get_mut(..n).unwrap_or_default();
                match other.read_exact(part) {
                    Ok(()) if n == 0 => return Ok(true),
                    Ok(()) if a.get(..n) == Some(&*part) => {}
                    _ => return Ok(false),
                }
            }
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests;
