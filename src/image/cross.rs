//! What an image cross builds for, beside its own architecture; and definitions that stand on others.
//!
//! ```toml
//! version = 1
//! inherits = "debian-portage"       # lists and tables continue what that one says, everything else replaces it; `emulator`
//!                                   # and `native-tools` are not inherited by one of another `architecture`
//! packages = ["gcc-sparc64-linux-gnu"]
//! [cross]
//! chost = "sparc64-unknown-linux-gnu"
//! architecture = "sparc64"
//! cbuild = "x86_64-pc-linux-gnu"
//! sysroot = "/usr/sparc64-linux-gnu"
//! emulator = "qemu-user"
//! ```

use super::definition::Word;
use super::parameters::{self, With};
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

/// Returns a definition's table and, if it stands on others, the name of the nearest one that is an image by itself; what those
/// say is in the table then. `find` returns the text of a definition by its name.
pub(super) fn inherited<E: From<toml::de::Error>>(
    text: &str,
    find: &dyn Fn(&Name) -> Result<String, E>,
) -> Result<(toml::Table, Option<Name>), E> {
    let Followed { table, nearest, .. } = follow(text, find, None, 0)?;
    Ok((table, nearest))
}

/// A definition with all that it stands on.
struct Followed {
    table: toml::Table,
    /// The nearest one below that is an image by itself.
    nearest: Option<Name>,
    /// Whether it is shared by others, and no image by itself.
    is_shared: bool,
}

/// Returns whether a definition is shared by others, and no image by itself.
pub(super) fn is_shared(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_ok_and(|table| table.contains_key("parameters"))
}

fn follow<E: From<toml::de::Error>>(
    text: &str,
    find: &dyn Fn(&Name) -> Result<String, E>,
    given: Option<&With>,
    depth: usize,
) -> Result<Followed, E> {
    let wrong = |what: String| E::from(serde::de::Error::custom(what));
    let mut own: toml::Table = toml::from_str(text)?;
    let filled = parameters::fill(&mut own, given)?;
    let with = parameters::with(&mut own)?;
    let Some(parent) = own.remove("inherits") else {
        return match with {
            Some(_) => Err(wrong("its `[with]` is for what it inherits, and it inherits nothing".to_string())),
            None => Ok(Followed { table: own, nearest: None, is_shared: filled }),
        };
    };
    let parent: Name = parent.try_into()?;
    if depth >= DEEPEST {
        return Err(wrong(format!("more than {DEEPEST} definitions inherit each other, at `{parent}`")));
    }
    // None given is no less than nothing given: whoever inherits it says so.
    let none = With::new();
    let text = find(&parent)?;
    let below = follow(&text, find, with.as_ref().or(is_shared(&text).then_some(&none)), depth + 1)?;
    let nearest = if below.is_shared { below.nearest } else { Some(parent) };
    let mut table = below.table;
    disown(&mut table, &own);
    lay_over(&mut table, own);
    Ok(Followed { table, nearest, is_shared: filled })
}

/// Removes what is for the architecture of the one below, where the one above has another.
fn disown(below: &mut toml::Table, above: &toml::Table) {
    if above.get("architecture").is_some_and(|own| below.get("architecture") != Some(own)) {
        for key in ["emulator", "native-tools"] {
            below.remove(key);
        }
    }
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
    fn one_that_is_shared_has_what_each_says_and_is_no_image() {
        let shared = (
            "shared",
            "inherits = \"base\"\nparameters = [\"t\"]\npackages = [\"gcc-@t@\"]\n[links]\n\"/@t@\" = \"@t@/b\"",
        );
        let base = ("base", "suite = \"@t@\"\npackages = [\"x\"]");
        let (table, nearest) = of(&[
            ("own", "inherits = \"shared\"\npackages = [\"@t@\"]\n[with]\nt = \"arm\"\n[links]\n\"/c\" = \"d\""),
            shared,
            base,
        ])
        .unwrap();
        let expected =
            "suite = \"@t@\"\npackages = [\"x\", \"gcc-arm\", \"@t@\"]\n[links]\n\"/arm\" = \"arm/b\"\n\"/c\" = \"d\"";
        assert_eq!(table, toml::from_str(expected).unwrap());
        assert_eq!(nearest.unwrap().as_str(), "base");
        let error = of(&[shared, base]).unwrap_err().to_string();
        assert!(error.contains("no image by itself"), "{error}");
        let error = of(&[("own", "inherits = \"shared\""), shared, base]).unwrap_err().to_string();
        assert!(error.contains("what it inherits needs `t`"), "{error}");
        assert!(of(&[("own", "inherits = \"base\"\n[with]\nt = \"1\""), base]).is_err());
        let error = of(&[("own", "x = 1\n[with]\nt = \"1\"")]).unwrap_err().to_string();
        assert!(error.contains("inherits nothing"), "{error}");
    }

    #[test]
    fn one_that_inherits_itself_or_what_is_not_there_is_refused() {
        let error = of(&[("a", "inherits = \"b\""), ("b", "inherits = \"a\"")]).unwrap_err().to_string();
        assert!(error.contains("more than 8 definitions inherit each other"), "{error}");
        assert!(of(&[("a", "inherits = \"c\"")]).is_err());
        assert!(of(&[("a", "inherits = 1")]).is_err());
    }
}
