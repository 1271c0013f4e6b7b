//! What an ebuild repository says of itself: `profiles/repo_name` and `metadata/layout.conf` (PMS 4.4, portage(5)).

use std::io;
use std::path::Path;

use super::TreeError;
use crate::atom::Name;
use crate::fs::{self, PathError};

/// The longest of these files that is read.
pub(super) const LONGEST: u64 = 1 << 20;

/// What an ebuild repository says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) name: Name,
    /// The repositories whose eclasses and profiles it builds on; nothing where it does not say, which Portage takes for
    /// the main repository.
    pub(super) masters: Option<Vec<Name>>,
}

impl Layout {
    pub(super) fn read(path: &Path) -> Result<Self, TreeError> {
        let file = path.join("profiles/repo_name");
        let text = read(&file)?.ok_or_else(|| TreeError::NotATree { path: path.to_path_buf() })?;
        let name = text.trim().parse().map_err(|source| TreeError::Name { file, source })?;
        let file = path.join("metadata/layout.conf");
        let masters = match read(&file)?.as_deref().and_then(masters) {
            None => None,
            Some(names) => {
                let names = names.iter().map(|name| name.parse()).collect::<Result<_, _>>();
                Some(names.map_err(|source| TreeError::Name { file, source })?)
            }
        };
        Ok(Self { name, masters })
    }
}

/// Reads a small file; nothing where there is none.
pub(super) fn read(file: &Path) -> Result<Option<String>, PathError> {
    let bytes = match fs::read_at_most(file, LONGEST) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|e| PathError::on("read", file)(io::Error::new(io::ErrorKind::InvalidData, e)))
}

/// Returns the words of the last `masters =` line.
fn masters(text: &str) -> Option<Vec<&str>> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.rev().find(|(key, _)| key.trim() == "masters").map(|(_, value)| value.split_ascii_whitespace().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_none_or_some_or_not_said() {
        assert_eq!(masters("# masters = x\nthin-manifests = true\n"), None);
        assert_eq!(masters("masters =\n"), Some(vec![]));
        assert_eq!(masters("a = b\n masters = gentoo  other\n"), Some(vec!["gentoo", "other"]));
    }
}
