//! Generations: complete published sets of packages, numbered, immutable; `current` names one.
//!
//! Publishing, each step leaving nothing that the next attempt does not clean up:
//!
//! 1. remove `.new-*`, which a process that was killed left;
//! 2. if the current generation says the same and is to be believed long enough, return it;
//! 3. choose number and TIMESTAMP, both above all earlier ones;
//! 4. assemble `generations/.new-N`: hard links, index, statement, signature, key;
//! 5. check it as a suspicious client would; sync it; rename it to `generations/N`;
//! 6. replace the link `current`.
//!
//! Beside its own packages a generation has links, in no index, to those of the generations before it that were current
//! within the last day: a client that read the earlier index still finds what it comes for.

use std::path::PathBuf;

use crate::atom::Name;
use crate::binhost::index::IndexError;
use crate::binhost::path::PackagePath;
use crate::binhost::statement::{self, Statement, StatementError};
use crate::fs::{self, PathError};
use crate::package::signature::SignatureError;
use crate::state::{ProfileDir, State};

mod assemble;
mod check;
mod publish;

pub use check::{Depth, check, verify};
pub use publish::{Meta, Published, Signer, clean, publish};

/// Returns an armored detached signature of some bytes, made at a time in seconds since 1970; or why there is none.
pub type Sign<'a> = dyn Fn(&[u8], u64) -> Result<String, Box<dyn std::error::Error + Send + Sync>> + 'a;

const INDEX: &str = "Packages";
const INDEX_GZ: &str = "Packages.gz";
const KEY: &str = "key.asc";
const NEW: &str = ".new-";

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number: the statement's serial.
    pub number: u64,
    /// Its folder.
    pub path: PathBuf,
    /// What it says.
    pub statement: Statement,
}

impl Generation {
    /// Reads a generation's statement; whether its files are as it says is [`check()`]'s question.
    pub fn load(profile: &ProfileDir, number: u64) -> Result<Self, GenerationError> {
        let path = profile.generations().join(number.to_string());
        let file = path.join(statement::FILE);
        let bytes = fs::read_at_most(&file, statement::LIMIT)?;
        let statement = Statement::parse(&bytes)
            .map_err(|source| GenerationError::Statement { file: file.clone(), source: Box::new(source) })?;
        if statement.serial != number {
            return Err(GenerationError::Serial { file, serial: statement.serial });
        }
        Ok(Self { number, path, statement })
    }

    /// Returns the published generation; nothing before the first.
    pub fn current(profile: &ProfileDir) -> Result<Option<Self>, GenerationError> {
        current_number(profile)?.map(|number| Self::load(profile, number)).transpose()
    }
}

/// Returns the profiles that have a generation, by name, and its number; what cannot be read is left out.
pub fn published(state: &State) -> Vec<(Name, u64)> {
    let folders = fs::read_dir_if_exists(&state.profiles()).unwrap_or_default();
    let published = folders.iter().filter_map(|folder| {
        let profile: Name = folder.file_name()?.to_str()?.parse().ok()?;
        let number = current_number(&state.profile(&profile)).ok()??;
        Some((profile, number))
    });
    published.collect()
}

/// Returns the number that the link `current` names; nothing before the first generation.
pub fn current_number(profile: &ProfileDir) -> Result<Option<u64>, GenerationError> {
    let link = profile.current();
    let target = match fs::read_link(&link) {
        Ok(target) => target,
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = target.to_str().and_then(|text| text.strip_prefix("generations/")).and_then(number);
    number.map(Some).ok_or(GenerationError::Link { link, target })
}

/// Returns the numbers of all generations, ascending.
pub fn numbers(profile: &ProfileDir) -> Result<Vec<u64>, GenerationError> {
    let folders = fs::read_dir_if_exists(&profile.generations())?;
    let mut numbers: Vec<u64> = folders.iter().filter_map(|folder| number(folder.file_name()?.to_str()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| *number > 0 && number.to_string() == text)
}

/// A generation cannot be read, made or published.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A statement does not parse.
    #[error("`{}` is damaged; remove its folder (and the link `current`, if it names it), and publish again", file.display())]
    Statement {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<StatementError>,
    },
    /// A statement lies in another generation's folder.
    #[error("`{}` is the statement of generation {serial}; remove its folder, and publish again", file.display())]
    Serial {
        /// The file.
        file: PathBuf,
        /// What it says.
        serial: u64,
    },
    /// The link `current` is not one of ours.
    #[error("`{}` points to `{}`, which is no generation; remove the link, and publish again", link.display(), target.display())]
    Link {
        /// The link.
        link: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// The index cannot be written, or is not what we would write.
    #[error("the index `{}` is not right", file.display())]
    Index {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: IndexError,
    },
    /// Two packages are the same build.
    #[error("`{path}` is given twice")]
    Twice {
        /// The build.
        path: PackagePath,
    },
    /// A file is not what the statement says.
    #[error("`{}` {why}", file.display())]
    Altered {
        /// The file.
        file: PathBuf,
        /// How it differs.
        why: &'static str,
    },
    /// Index and statement contradict each other.
    #[error("index and statement in `{}` disagree about {what}", folder.display())]
    Disagree {
        /// The generation.
        folder: PathBuf,
        /// About what.
        what: String,
    },
    /// Pool and generations are on different file systems.
    #[error("`{}` cannot be linked from the pool: pool and generations must be on one file system", to.display())]
    OtherFileSystem {
        /// The link that could not be made.
        to: PathBuf,
    },
    /// The statement could not be signed.
    #[error("cannot sign the statement of generation {number}")]
    Sign {
        /// The generation.
        number: u64,
        /// What the signer says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The statement's signature is not believed.
    #[error("the signature `{}` is not good", file.display())]
    Signature {
        /// The signature.
        file: PathBuf,
        /// Why.
        source: Box<SignatureError>,
    },
}

#[cfg(test)]
mod tests;
