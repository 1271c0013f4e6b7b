//! Short names for layers: mount(2) takes 4096 bytes of options, and a stack may have hundreds of layers.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::state::State;

/// How many digits of a digest are tried first: two in 16^8 layers collide hardly ever, and then one digit more is taken.
const DIGITS: usize = 8;

/// Returns the short name `l/…`, relative to [`State::state`], of a layer's folder, which is relative to it as well.
pub fn short_name(state: &State, digest: &Digest, layer: &Path) -> Result<PathBuf, PathError> {
    let hex = digest.hex();
    let target = Path::new("..").join(layer);
    for digits in DIGITS..=hex.len() {
        let Some(name) = hex.get(..digits) else { continue };
        let link = state.short_layers().join(name);
        match fs::read_link(&link) {
            Ok(found) if found == target => return Ok(Path::new("l").join(name)),
            Ok(_) if link.exists() => continue,
            Ok(_) => {}
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        // Also where the layer that had the name is gone.
        fs::replace_symlink(&target, &link)?;
        return Ok(Path::new("l").join(name));
    }
    unreachable!("no two layers have one digest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_layers_with_the_same_first_digits_get_two_names() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        fs::create_dir(&state.layers().join("one"), 0o755).unwrap();
        let first = Digest::from_hex(&"ab".repeat(32)).unwrap();
        let second = Digest::from_hex(&("ab".repeat(31) + "cd")).unwrap();
        let one = short_name(&state, &first, Path::new("layers/one")).unwrap();
        assert_eq!(one, Path::new("l/abababab"));
        assert_eq!(short_name(&state, &first, Path::new("layers/one")).unwrap(), one);
        assert_eq!(short_name(&state, &second, Path::new("layers/two")).unwrap(), Path::new("l/ababababa"));
        assert_eq!(fs::read_link(&state.state().join("l/ababababa")).unwrap(), Path::new("../layers/two"));
    }
}
