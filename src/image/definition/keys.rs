//! Which keys of a definition mean nothing for its kind: they are refused, with their place where they stand in its own text.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{Kind, Recipe};

/// Of images that are installed.
const OF_DEBIAN: [&str; 6] = ["base", "cross", "emulator", "environment", "native-tools", "wheel"];
/// Of images of files.
const OF_FILES: [&str; 3] = ["keep", "moves", "string"];

/// Returns why a key means nothing for a kind, if it does not.
fn meaningless(key: &str, kind: Kind) -> Option<String> {
    let (of, only) = match kind {
        Kind::Debian => (OF_FILES.as_slice(), "debian-files"),
        Kind::DebianFiles => (OF_DEBIAN.as_slice(), "debian"),
    };
    of.contains(&key).then(|| format!("`{key}` is for images of kind `{only}`, and means nothing here"))
}

/// Refuses a definition's text that has a key which means nothing for its kind; the error has the place.
pub(super) fn check(text: &str, kind: Kind) -> Result<(), toml::de::Error> {
    Table(kind).deserialize(toml::de::Deserializer::parse(text)?)
}

/// Likewise what a recipe has of others' texts.
pub(super) fn check_all(recipe: &Recipe) -> Result<(), String> {
    let there = [
        ("base", recipe.base.is_some()),
        ("cross", recipe.cross.is_some()),
        ("emulator", recipe.emulator.is_some()),
        ("environment", !recipe.environment.is_empty()),
        ("native-tools", recipe.native_tools.is_some()),
        ("wheel", !recipe.wheels.is_empty()),
        ("keep", !recipe.keep.is_empty()),
        ("moves", !recipe.moves.is_empty()),
        ("string", !recipe.strings.is_empty()),
    ];
    let found = there.iter().filter(|(_, there)| *there).find_map(|(key, _)| meaningless(key, recipe.kind));
    found.map_or(Ok(()), |why| Err(format!("{why}: what it inherits has it")))
}

struct Table(Kind);

impl<'de> DeserializeSeed<'de> for Table {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Table {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(Value(meaningless(&key, self.0)))?;
        }
        Ok(())
    }
}

/// A value that is refused, which gives the error its place, or passed over.
struct Value(Option<String>);

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            Some(why) => Err(D::Error::custom(why)),
            None => IgnoredAny::deserialize(deserializer).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::atom::Name;
    use crate::fs;
    use crate::image::Definition;

    fn said(texts: &[(&str, &str)]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in texts {
            fs::write(&dir.path().join(format!("{name}.toml")), text).unwrap();
        }
        let name: Name = texts[0].0.parse().unwrap();
        let found = Definition::find(&name, &[dir.path().to_path_buf()]);
        found.map(drop).map_err(|error| error.to_string())
    }

    const HEAD: &str = "version = 1\narchitecture = \"amd64\"\nsuite = \"s\"\ncomponents = [\"main\"]\n\
                        source-date = \"2025-08-09T00:00:00Z\"\npackages = [\"x\"]\n";
    const ARCHIVE: &str = "[[archive]]\nlabel = \"Debian\"\nsuites = [\"s\"]\nkeyring = \"/k\"\n";

    #[test]
    fn a_key_of_the_other_kind_is_refused_where_it_stands() {
        let files = format!("{HEAD}kind = \"debian-files\"\nkeep = [\"/x\"]\n");
        let debian = format!("{HEAD}kind = \"debian\"\n");
        for (head, more, key, line) in [
            (&debian, "[moves]\n\"/a\" = \"/b\"\n", "moves", "line 8"),
            (&debian, "keep = [\"/a\"]\n", "keep", "line 8"),
            (&files, "emulator = \"qemu-user\"\n", "emulator", "line 9"),
            (&files, "[environment]\nA = \"b\"\n", "environment", "line 9"),
            (&files, "[base]\npackages = [\"x\"]\n", "base", "line 9"),
        ] {
            assert_eq!(said(&[("own", &format!("{head}{ARCHIVE}"))]), Ok(()));
            let text = format!("{head}{more}{ARCHIVE}");
            let error = said(&[("own", &text)]).unwrap_err();
            assert!(error.contains(&format!("`{key}` is for images of kind")) && error.contains(line), "{error}");
        }
    }

    #[test]
    fn so_is_one_that_is_inherited_by_another_kind() {
        let base = format!("{HEAD}kind = \"debian\"\n[environment]\nA = \"b\"\n{ARCHIVE}");
        let own = "inherits = \"base\"\nkind = \"debian-files\"\nkeep = [\"/x\"]\n";
        let error = said(&[("own", own), ("base", &base)]).unwrap_err();
        assert!(error.contains("`environment` is for images of kind `debian`"), "{error}");
        assert!(error.contains("what it inherits has it"), "{error}");
        let own = "inherits = \"base\"\n[moves]\n\"/a\" = \"/b\"\n";
        let error = said(&[("own", own), ("base", &base)]).unwrap_err();
        assert!(error.contains("`moves`") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn what_an_architecture_needs_is_not_another_ones() {
        let base = format!("{HEAD}kind = \"debian\"\nemulator = \"qemu-user\"\nnative-tools = \"tools\"\n{ARCHIVE}");
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("base.toml"), base).unwrap();
        let recipe = |own: &str| {
            fs::write(&dir.path().join("own.toml"), format!("inherits = \"base\"\n{own}")).unwrap();
            let found = Definition::find(&"own".parse().unwrap(), &[dir.path().to_path_buf()]).unwrap().recipe;
            (found.emulator.is_some(), found.native_tools.map(|name| name.to_string()))
        };
        assert_eq!(recipe("suite = \"t\"\n"), (true, Some("tools".to_string())));
        assert_eq!(recipe("architecture = \"amd64\"\n"), (true, Some("tools".to_string())));
        assert_eq!(recipe("architecture = \"riscv64\"\n"), (false, None));
        let own = "architecture = \"riscv64\"\nemulator = \"mine\"\nnative-tools = \"others\"\n";
        assert_eq!(recipe(own), (true, Some("others".to_string())));
    }
}
