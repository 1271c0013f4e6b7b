//! Definitions that inherit another: `inherits = "NAME"`, and only what is different. What is said replaces what the other says of
//! the same key, as a whole.

use std::path::Path;

use serde::de::Error as _;
use toml::{Table, Value, de::Error};

use super::SHIPPED;
use crate::atom::Name;
use crate::fs;

/// The key that names the other definition.
const LIKE: &str = "inherits";
/// How far definitions may inherit.
const DEEP: usize = 8;

/// Returns the definition with what it takes from others; nothing for one that is like none.
pub(super) fn whole(text: &str, beside: Option<&Path>) -> Result<Option<Table>, Error> {
    let mut table: Table = toml::from_str(text)?;
    if !table.contains_key(LIKE) {
        return Ok(None);
    }
    for _ in 0..DEEP {
        let Some(name) = table.remove(LIKE) else { return Ok(Some(table)) };
        let name: Name = match &name {
            Value::String(name) => name.parse().map_err(|e| Error::custom(format!("`{LIKE}`: {e}")))?,
            other => return Err(Error::custom(format!("`{LIKE}` is {}, not the name of an image", other.type_str()))),
        };
        let other: Table = toml::from_str(&read(&name, beside)?)
            .map_err(|e| Error::custom(format!("`{name}`, which it inherits, is wrong: {e}")))?;
        for (key, value) in other {
            table.entry(key).or_insert(value);
        }
    }
    Err(Error::custom(format!("it inherits from another that does, {DEEP} times and more")))
}

fn read(name: &Name, beside: Option<&Path>) -> Result<String, Error> {
    let file = beside.map(|folder| folder.join(format!("{name}.toml")));
    let found = file.map(|file| fs::read_if_exists(&file)).transpose().map_err(Error::custom)?.flatten();
    let shipped = || SHIPPED.iter().find(|(shipped, _)| *shipped == name.as_str()).map(|(_, text)| (*text).to_string());
    let unknown = || Error::custom(format!("it inherits `{name}`, which is neither beside it nor built in"));
    found.or_else(shipped).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_replaces_what_the_other_says() {
        let table =
            whole("inherits = \"debian-portage\"\narchitecture = \"arm64\"\npackages = []\n", None).unwrap().unwrap();
        assert_eq!(table["architecture"].as_str(), Some("arm64"));
        assert_eq!(table["packages"].as_array().map(Vec::len), Some(0));
        assert_eq!(table["suite"].as_str(), Some("trixie"));
        assert!(!table.contains_key(LIKE));
        assert_eq!(whole("version = 1", None).unwrap(), None);
    }

    #[test]
    fn the_other_is_looked_for_beside_it_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("debian-portage.toml"), "suite = \"mine\"").unwrap();
        let table = whole("inherits = \"debian-portage\"", Some(dir.path())).unwrap().unwrap();
        assert_eq!(table["suite"].as_str(), Some("mine"));
    }

    #[test]
    fn one_that_is_not_there_or_leads_in_a_circle_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("me.toml"), "inherits = \"me\"").unwrap();
        for (text, why) in [
            ("inherits = \"nobody\"", "`nobody`, which is neither beside it nor built in"),
            ("inherits = \"me\"", "8 times and more"),
            ("inherits = 1", "is integer, not the name"),
            ("inherits = \"../x\"", "`inherits`: "),
        ] {
            let error = whole(text, Some(dir.path())).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
