//! Looks for files in a finished package, by how their paths end. A job of the id range: a package is read nowhere else.

use std::io;
use std::os::fd::AsFd as _;

use crate::fs;
use crate::layer::{self, LayerError, derive};
use crate::package::{Identity, OpenError, Opened};
use crate::sandbox::IdRange;
use crate::state::State;

/// The most paths that are of use to anybody.
const MOST: usize = 1000;

/// What is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::layer) struct Task {
    identity: Identity,
    ends: Vec<String>,
}

/// Returns the files and links of a package whose paths, from the root and with a slash at the beginning, end like one of
/// these; not all, where they are very many.
pub fn list(
    state: &State,
    ids: &IdRange,
    package: &derive::Package<'_>,
    ends: Vec<String>,
) -> Result<Vec<String>, LayerError> {
    let job = layer::Job::List(Box::new(Task { identity: Identity::from(package.facts), ends }));
    layer::answer(layer::run(ids, state.state(), &job, fs::open(package.file)?.into())?)
}

/// Does the job.
pub(in crate::layer) fn job(task: &Task) -> Result<Vec<String>, OpenError> {
    let file = io::stdin().as_fd().try_clone_to_owned().map_err(crate::package::archive::ArchiveError::Io)?;
    let mut package = Opened::open(fs::File::from(file), task.identity.clone())?;
    let mut found = Vec::new();
    package.walk(&mut |entry, _| {
        // A folder's ends with a slash.
        let path = entry.name.strip_prefix(b"image").and_then(|path| std::str::from_utf8(path).ok());
        if let Some(path) = path.filter(|path| found.len() < MOST && task.ends.iter().any(|end| path.ends_with(end))) {
            found.push(path.to_string());
        }
        Ok(())
    })?;
    Ok(found)
}
