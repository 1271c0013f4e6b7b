//! Publishing: decides what the next generation says, and makes it current.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Depth, Generation, GenerationError, INDEX, INDEX_GZ, KEY, NEW, Sign, assemble, check, verify};
use crate::atom::Name;
use crate::binhost::index::{self, Index};
use crate::binhost::pool::Entry;
use crate::binhost::soname::{self, Missing};
use crate::binhost::statement::{File, Package, Statement, Tree, VERSION};
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::package::certificate::Certificate;
use crate::state::{Lock, ProfileDir};

/// Portage asks with `If-Modified-Since: TIMESTAMP + 5 seconds` (util/_urlopen.py): an index that is less than this
/// newer than the one a client has would never reach it.
const STEP: u64 = 6;
/// Clients that read an index come for its packages for as long as this after the next one was published.
const GRACE: u64 = 24 * 60 * 60;

/// What a generation says beside its packages.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The profile.
    pub profile: Name,
    /// `ARCH`.
    pub arch: String,
    /// `CHOST`: clients take only packages whose CHOST they accept.
    pub chost: String,
    /// The Portage profile below its tree's `profiles/`, where there is one.
    pub portage_profile: Option<String>,
    /// Further keys for the header of `Packages`, such as `ACCEPT_KEYWORDS` and `IUSE_IMPLICIT`.
    pub settings: BTreeMap<String, String>,
    /// The ebuild repositories.
    pub trees: Vec<Tree>,
    /// The image.
    pub image: Option<Digest>,
    /// For how long the statement is to be believed.
    pub validity: Duration,
}

/// Signs statements. The library hands it bytes and never sees a secret key.
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub struct Signer<'a> {
    /// What clients believe it with: published beside the statement.
    pub certificate: &'a Certificate,
    /// Makes a signature.
    pub sign: &'a Sign<'a>,
}

/// What publishing came to.
#[derive(Debug, Clone)]
pub struct Published {
    /// The generation that is current now.
    pub generation: Generation,
    /// Whether it was made just now; else nothing had changed.
    pub new: bool,
    /// Shared libraries that no package of the set gives.
    pub missing: Vec<Missing>,
}

/// Publishes a set of packages. `held` is the profile's lock, `now` the present time.
pub fn publish(
    profile: &ProfileDir,
    held: &Lock,
    entries: &[Entry],
    meta: &Meta,
    signer: &Signer<'_>,
    now: SystemTime,
) -> Result<Published, GenerationError> {
    let generations = profile.generations();
    fs::create_dir_all(&generations)?;
    clean(held, profile)?;
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let missing =
        soname::missing(entries.iter().map(|e| (&e.facts.cpv, e.facts.requires.as_str(), e.facts.provides.as_str())));
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let current = Generation::current(profile)?;
    if let Some(generation) = current
        && unchanged(&generation, &entries, meta, signer, now)?
        && check(&generation, Depth::Sizes).is_ok()
    {
        return Ok(Published { generation, new: false, missing });
    }

    let earlier = super::numbers(profile)?;
    let last = earlier.last().map(|number| Generation::load(profile, *number)).transpose()?;
    let number = last.as_ref().map_or(1, |last| last.number.saturating_add(1));
    let created = last.as_ref().map_or(now, |last| now.max(last.statement.created.saturating_add(STEP)));
    let draft = Draft::new(number, created, &entries, meta, signer, &generations)?;
    let new = generations.join(format!("{NEW}{number}"));
    assemble::assemble(&new, &draft, &entries, &still_wanted(profile, &earlier, now), signer)?;
    let path = generations.join(number.to_string());
    let mut generation = Generation { number, path: new.clone(), statement: draft.statement };
    // A clock that jumped back is no reason to doubt what was signed for the time after the last generation's.
    let when = UNIX_EPOCH.checked_add(Duration::from_secs(created.max(now))).unwrap_or(UNIX_EPOCH);
    verify(&generation, std::slice::from_ref(signer.certificate), when)?;
    fs::rename(&new, &path)?;
    fs::sync_dir(&generations)?;
    fs::replace_symlink(&Path::new("generations").join(number.to_string()), &profile.current())?;
    generation.path = path;
    Ok(Published { generation, new: true, missing })
}

/// Removes what a publisher that was killed left: a generation being assembled, a link not yet in its place. `_held` is
/// the profile's lock.
pub fn clean(_held: &Lock, profile: &ProfileDir) -> Result<(), PathError> {
    let generations = fs::read_dir_if_exists(&profile.generations())?;
    for path in generations.into_iter().chain(fs::read_dir_if_exists(profile.path())?) {
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NEW)) {
            continue;
        }
        if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    Ok(())
}

/// The files of a generation that are not packages.
pub(super) struct Draft {
    pub(super) index: String,
    pub(super) index_gz: Vec<u8>,
    pub(super) statement: Statement,
}

impl Draft {
    fn new(
        number: u64,
        created: u64,
        entries: &[&Entry],
        meta: &Meta,
        signer: &Signer<'_>,
        folder: &Path,
    ) -> Result<Self, GenerationError> {
        for pair in entries.windows(2) {
            if let [a, b] = pair
                && a.path == b.path
            {
                return Err(GenerationError::Twice { path: a.path.clone() });
            }
        }
        let index = Index {
            timestamp: created,
            header: header(meta),
            packages: entries.iter().map(|entry| index::Package::of(entry)).collect(),
        };
        let text = index::render(&index)
            .map_err(|source| GenerationError::Index { file: folder.join(number.to_string()).join(INDEX), source })?;
        let gz = index::gzip(&text);
        let files = [
            (INDEX.to_string(), File::of(text.as_bytes())),
            (INDEX_GZ.to_string(), File::of(&gz)),
            (KEY.to_string(), File::of(signer.certificate.armored().as_bytes())),
        ];
        let packages = entries.iter().map(|entry| Package {
            path: entry.path.clone(),
            size: entry.hashes.size,
            sha256: entry.hashes.sha256.clone(),
            content: entry.facts.content.clone(),
        });
        let statement = Statement {
            version: VERSION,
            profile: meta.profile.clone(),
            serial: number,
            created,
            valid_until: created.saturating_add(meta.validity.as_secs()),
            generator: concat!("bindery ", env!("CARGO_PKG_VERSION")).to_string(),
            trees: meta.trees.clone(),
            image: meta.image.clone(),
            files: files.into(),
            packages: packages.collect(),
        };
        Ok(Self { index: text, index_gz: gz, statement })
    }
}

fn header(meta: &Meta) -> BTreeMap<String, String> {
    let mut header = meta.settings.clone();
    header.insert("ARCH".into(), meta.arch.clone());
    header.insert("CHOST".into(), meta.chost.clone());
    header.extend(meta.portage_profile.clone().map(|profile| ("PROFILE".to_string(), profile)));
    let revisions: BTreeMap<&str, &str> =
        meta.trees.iter().map(|tree| (tree.name.as_str(), tree.revision.as_str())).collect();
    if !revisions.is_empty() {
        let json = serde_json::to_string(&revisions).expect("two strings are JSON");
        header.insert("REPO_REVISIONS".into(), json);
    }
    header
}

/// Returns whether a generation made now would say what this one says, and this one is to be believed for at least half
/// its time: the statement is renewed although nothing changed, before it runs out.
fn unchanged(
    generation: &Generation,
    entries: &[&Entry],
    meta: &Meta,
    signer: &Signer<'_>,
    now: u64,
) -> Result<bool, GenerationError> {
    let said = &generation.statement;
    let again = Draft::new(generation.number, said.created, entries, meta, signer, &generation.path)?;
    let left = said.valid_until.saturating_sub(now);
    Ok(left >= meta.validity.as_secs() / 2 && again.statement == *said)
}

/// Returns the generations whose packages clients may still come for: the last one, and those that were current until
/// less than [`GRACE`] ago.
fn still_wanted(profile: &ProfileDir, earlier: &[u64], now: u64) -> Vec<Generation> {
    let mut wanted = Vec::new();
    for number in earlier.iter().rev() {
        // A damaged one is no reason not to publish a good one.
        let Ok(generation) = Generation::load(profile, *number) else { break };
        let replaced = generation.statement.created;
        wanted.push(generation);
        // The one before this was current until this one was made.
        if replaced.saturating_add(GRACE) < now {
            break;
        }
    }
    wanted
}
