//! Checks a generation as a suspicious client would: everything the statement says against what is there.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::{Believe, Generation, GenerationError, INDEX, INDEX_GZ, KEY};
use crate::binhost::index;
use crate::binhost::statement::{FILE, File, SIGNATURE};
use crate::digest::Hashes;
use crate::fs;

/// The longest index that is read: a whole distribution's has some tens of megabytes.
const INDEX_LIMIT: u64 = 512 << 20;
const SIGNATURE_LIMIT: u64 = 1 << 20;

/// How thoroughly packages are checked; index and key always are, to the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// That they are there, and their length.
    Sizes,
    /// Every byte.
    Content,
}

/// Checks that a generation is complete and consistent; the signature is not looked at.
pub fn check(generation: &Generation, depth: Depth) -> Result<(), GenerationError> {
    let (folder, statement) = (&generation.path, &generation.statement);
    let disagree = |what: String| GenerationError::Disagree { folder: folder.clone(), what };
    for name in [INDEX, INDEX_GZ, KEY] {
        let said = statement.files.get(name).ok_or_else(|| disagree(format!("`{name}`, which is not listed")))?;
        let file = folder.join(name);
        if File::of(&fs::read_at_most(&file, INDEX_LIMIT)?) != *said {
            return Err(GenerationError::Altered { file, why: "is not the file that was published" });
        }
    }
    let file = folder.join(INDEX);
    let text = String::from_utf8_lossy(&fs::read_at_most(&file, INDEX_LIMIT)?).into_owned();
    if gunzip(&folder.join(INDEX_GZ))? != text.as_bytes() {
        return Err(disagree(format!("`{INDEX_GZ}`, which has another content than `{INDEX}`")));
    }
    let index = index::parse(&text).map_err(|source| GenerationError::Index { file, source })?;
    if index.timestamp != statement.created {
        return Err(disagree("the time".into()));
    }
    let mut listed: BTreeMap<_, _> = index.packages.iter().map(|package| (&package.path, package)).collect();
    for package in &statement.packages {
        let in_index = listed
            .remove(&package.path)
            .filter(|in_index| in_index.size == package.size)
            .ok_or_else(|| disagree(format!("`{}`", package.path)))?;
        let file = folder.join(package.path.to_string());
        let meta = fs::symlink_metadata(&file)?;
        if !meta.is_file() || meta.len() != package.size {
            return Err(GenerationError::Altered { file, why: "has not the length that was published" });
        }
        if depth == Depth::Content {
            let hashes = Hashes::of_file(&file)?;
            if hashes.sha256 != package.sha256 {
                return Err(GenerationError::Altered { file, why: "is not the file that was published" });
            }
            if hashes.md5 != in_index.md5 || hashes.sha1 != in_index.sha1 {
                return Err(disagree(format!("the digests of `{}`", package.path)));
            }
        }
    }
    match listed.into_keys().next() {
        Some(path) => Err(disagree(format!("`{path}`"))),
        None => Ok(()),
    }
}

/// Checks a generation with everything in it, its signature first.
pub fn verify(generation: &Generation, believe: &Believe<'_>) -> Result<(), GenerationError> {
    let file = generation.path.join(SIGNATURE);
    let signature = fs::read_at_most(&file, SIGNATURE_LIMIT)?;
    // The statement was read from this file, and is written the same way again.
    let text = generation.statement.render();
    let signed = fs::read_at_most(&generation.path.join(FILE), crate::binhost::statement::LIMIT)?;
    if text.as_bytes() != signed {
        let file = generation.path.join(FILE);
        return Err(GenerationError::Altered { file, why: "is not written as bindery writes it" });
    }
    believe(&signed, &String::from_utf8_lossy(&signature))
        .map_err(|source| GenerationError::Signature { file, source })?;
    check(generation, Depth::Content)
}

fn gunzip(path: &Path) -> Result<Vec<u8>, GenerationError> {
    let mut text = Vec::new();
    let reader = flate2::read::GzDecoder::new(fs::open(path)?);
    match reader.take(INDEX_LIMIT).read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(_) => Err(GenerationError::Altered { file: path.to_path_buf(), why: "is not compressed as it should be" }),
    }
}
