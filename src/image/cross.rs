//! What an image cross builds for, beside its own architecture; and definitions that stand on others.
//!
//! ```toml
//! version = 1
//! inherits = "debian-portage"       # lists and tables continue what that one says, everything else replaces it
//! packages = ["gcc-sparc64-linux-gnu"]
//! [cross]
//! chost = "sparc64-unknown-linux-gnu"
//! architecture = "sparc64"
//! cbuild = "x86_64-pc-linux-gnu"
//! sysroot = "/usr/sparc64-linux-gnu"
//! emulator = "qemu-user"
//! ```

use super::definition::Word;
use crate::atom::{Name, RootPath};

/// The most definitions that stand on each other.
const DEEPEST: usize = 8;

/// What an image cross builds for (`docs/cross.md`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cross {
    /// The CHOST of profiles that it builds for: what the compiler's programs are called by.
    pub chost: Word,
    /// Debian's name of that architecture.
    pub architecture: Word,
    /// The CHOST of what runs in the image: CBUILD.
    pub cbuild: Word,
    /// Where the compiler finds the C library of that architecture, and where what is linked with is put: SYSROOT.
    pub sysroot: RootPath,
    /// The image that has, as `/usr/bin/qemu-MACHINE`, what runs programs of that architecture while others are built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulator: Option<Name>,
}

/// Returns a definition's table and, if it stands on others, the nearest one's name; what those say is in the table then.
/// `find` returns the text of a definition by its name.
pub(super) fn inherited<E: From<toml::de::Error>>(
    text: &str,
    find: &dyn Fn(&Name) -> Result<String, E>,
) -> Result<(toml::Table, Option<Name>), E> {
    follow(text, find, 0)
}

fn follow<E: From<toml::de::Error>>(
    text: &str,
    find: &dyn Fn(&Name) -> Result<String, E>,
    depth: usize,
) -> Result<(toml::Table, Option<Name>), E> {
    let wrong = |what: String| E::from(serde::de::Error::custom(what));
    let mut own: toml::Table = toml::from_str(text)?;
    let Some(parent) = own.remove("inherits") else { return Ok((own, None)) };
    let parent: Name = parent.try_into()?;
    if depth >= DEEPEST {
        return Err(wrong(format!("more than {DEEPEST} definitions inherit each other, at `{parent}`")));
    }
    let (mut table, _) = follow(&find(&parent)?, find, depth + 1)?;
    lay_over(&mut table, own);
    Ok((table, Some(parent)))
}

fn lay_over(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Array(list)), toml::Value::Array(more)) => list.extend(more),
            (Some(toml::Value::Table(table)), toml::Value::Table(more)) => lay_over(table, more),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[(&str, &str)]) -> Result<(toml::Table, Option<Name>), toml::de::Error> {
        let find = |name: &Name| {
            let found = texts.iter().find(|(known, _)| *known == name.as_str());
            found.map(|(_, text)| (*text).to_string()).ok_or_else(|| serde::de::Error::custom("there is none"))
        };
        inherited(texts[0].1, &find)
    }

    #[test]
    fn lists_and_tables_are_continued_and_all_else_is_replaced() {
        let (table, parent) = of(&[
            ("own", "inherits = \"base\"\nsuite = \"b\"\npackages = [\"y\"]\n[base]\npackages = [\"z\"]\n[links]\n\"/b\" = \"c\""),
            ("base", "suite = \"a\"\nkind = \"k\"\npackages = [\"x\"]\n[base]\npackages = [\"x\"]\nwithout = [\"w\"]\n[links]\n\"/a\" = \"b\""),
        ])
        .unwrap();
        let expected = "suite = \"b\"\nkind = \"k\"\npackages = [\"x\", \"y\"]\n[base]\npackages = [\"x\", \"z\"]\nwithout = \
                        [\"w\"]\n[links]\n\"/a\" = \"b\"\n\"/b\" = \"c\"";
        assert_eq!(table, toml::from_str(expected).unwrap());
        assert_eq!(parent.unwrap().as_str(), "base");
    }

    #[test]
    fn one_that_inherits_itself_or_what_is_not_there_is_refused() {
        let error = of(&[("a", "inherits = \"b\""), ("b", "inherits = \"a\"")]).unwrap_err().to_string();
        assert!(error.contains("more than 8 definitions inherit each other"), "{error}");
        assert!(of(&[("a", "inherits = \"c\"")]).is_err());
        assert!(of(&[("a", "inherits = 1")]).is_err());
    }
}
