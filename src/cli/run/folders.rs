//! Folders of the host's as a root.

use std::path::{Path, PathBuf};

use crate::cli::report::{Failure, Kind};
use crate::fs;
use crate::state::State;

/// What separates layers, options, and what the kernel takes for itself.
const SEPARATORS: [char; 4] = [':', ',', '\\', '\0'];

/// Returns the layers that folders are, top first.
pub(super) fn layers(folders: &[PathBuf], state: &State) -> Result<Vec<PathBuf>, Failure> {
    let layers: Vec<_> = folders.iter().map(|folder| layer(folder, state)).collect::<Result<_, _>>()?;
    for (number, one) in layers.iter().enumerate() {
        let others = layers.iter().enumerate().filter(|(other, _)| *other != number);
        if let Some((_, other)) = others.into_iter().find(|(_, other)| one.starts_with(other)) {
            return Err(Failure::user(format!(
                "`{}` is `{}` or lies in it; layers must lie apart",
                one.display(),
                other.display()
            )));
        }
    }
    Ok(layers)
}

fn layer(folder: &Path, state: &State) -> Result<PathBuf, Failure> {
    // The user means what a link points to.
    let path = fs::canonicalize(folder).map_err(|e| Failure::new(Kind::User, e))?;
    let shown = path.display();
    if !path.is_dir() {
        return Err(Failure::user(format!("`{shown}` is no folder")));
    }
    if path.to_str().is_none_or(|text| text.contains(SEPARATORS)) {
        return Err(Failure::user(format!(
            "`{shown}` has a colon, a comma, a backslash or no UTF-8 in its name, which layers cannot have; rename it, or \
             bind it elsewhere"
        )));
    }
    // The kernel refuses a root that holds its own writable folder, with words that nobody understands.
    if state.state().starts_with(&path) || fs::canonicalize(state.state()).is_ok_and(|state| state.starts_with(&path)) {
        return Err(Failure::user(format!(
            "`{shown}` holds the state folder `{}`, where what is written in a root goes; give another with `--state DIR`",
            state.state().display()
        )));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(folder: &Path, state: &Path) -> String {
        let failure = layers(&[folder.to_path_buf()], &State::below(state)).unwrap_err();
        crate::process::chain(failure.error.unwrap().as_ref())
    }

    #[test]
    fn a_folder_that_cannot_be_a_layer_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (odd, file, state) = (dir.path().join("a:b"), dir.path().join("file"), dir.path().join("state"));
        fs::create_dir_all(&odd).unwrap();
        fs::write(&file, "").unwrap();
        assert!(refusal(&odd, &state).contains("a colon, a comma"));
        assert!(refusal(&file, &state).contains("is no folder"));
        assert!(refusal(&dir.path().join("none"), &state).contains("none"));
        assert!(refusal(dir.path(), &state).contains("holds the state folder"));
    }

    #[test]
    fn folders_that_lie_in_each_other_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("one/two"));
        fs::create_dir_all(&two).unwrap();
        let state = State::below(&dir.path().join("state"));
        for folders in [[one.clone(), one.clone()], [one.clone(), two.clone()], [two.clone(), one.clone()]] {
            let failure = layers(&folders, &state).unwrap_err();
            assert!(failure.error.unwrap().to_string().contains("layers must lie apart"));
        }
    }

    #[test]
    fn a_link_is_what_it_points_to() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
        fs::create_dir_all(&folder).unwrap();
        fs::symlink(&folder, &link).unwrap();
        let layers = layers(&[link], &State::below(&dir.path().join("state"))).unwrap();
        assert_eq!(layers, [fs::canonicalize(&folder).unwrap()]);
    }
}
