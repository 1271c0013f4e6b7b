//! Definitions that several others share: what differs from one to the next is a parameter, and stands in them as `@NAME@`.
//!
//! ```toml
//! # shared.toml, by itself no image
//! parameters = ["triplet"]
//! packages = ["gcc-@triplet@"]
//!
//! # one.toml
//! inherits = "shared"
//! [with]
//! triplet = "riscv64-linux-gnu"
//! ```
//!
//! 1. whoever inherits it says exactly its parameters;
//! 2. they are put into every text of that one file, keys of tables included, before anything is laid over it.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

/// What a definition says of the parameters of the one that it inherits.
pub(super) type With = BTreeMap<String, String>;

/// What begins and ends a parameter's name in a text, as autoconf has it: shells and TOML mean nothing by it.
const MARK: char = '@';

/// Takes `with` out of a definition's table.
pub(super) fn with(table: &mut Table) -> Result<Option<With>, toml::de::Error> {
    table.remove("with").map(Value::try_into).transpose()
}

/// Takes `parameters` out of a definition's table and puts what `with` gives into the rest; returns whether there were some.
/// Without `with` it is nobody's parent.
pub(super) fn fill(table: &mut Table, with: Option<&With>) -> Result<bool, toml::de::Error> {
    let wrong = <toml::de::Error as serde::de::Error>::custom::<String>;
    let parameters: Option<BTreeSet<String>> = table.remove("parameters").map(Value::try_into).transpose()?;
    let Some(parameters) = parameters else {
        return match with {
            Some(_) => Err(wrong("what it inherits has no `parameters` for its `[with]`".to_string())),
            None => Ok(false),
        };
    };
    if let Some(bad) = parameters.iter().find(|name| !is_name(name)) {
        return Err(wrong(format!("`{}` is no parameter: small letters and `-`", bad.escape_debug())));
    }
    if parameters.is_empty() {
        return Err(wrong("`parameters` names none".to_string()));
    }
    let names = |names: Vec<&String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let none = With::new();
    let given = with.unwrap_or(&none);
    let missing: Vec<&String> = parameters.iter().filter(|name| !given.contains_key(*name)).collect();
    if with.is_none() {
        let missing = names(missing);
        return Err(wrong(format!(
            "it is no image by itself: another definition inherits it and says {missing} in its `[with]`"
        )));
    }
    if !missing.is_empty() {
        return Err(wrong(format!("what it inherits needs {} in its `[with]`", names(missing))));
    }
    if let Some(unknown) = given.keys().find(|name| !parameters.contains(*name)) {
        let known = names(parameters.iter().collect());
        return Err(wrong(format!("what it inherits has no parameter `{}`, only {known}", unknown.escape_debug())));
    }
    let mut used = BTreeSet::new();
    let filled = put(Value::Table(std::mem::take(table)), given, &mut used).map_err(wrong)?;
    if let Some(unused) = parameters.iter().find(|name| !used.contains(*name)) {
        return Err(wrong(format!("the parameter `{unused}` stands nowhere in what names it")));
    }
    if let Value::Table(filled) = filled {
        *table = filled;
    }
    Ok(true)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// Puts the parameters into every text of a value.
fn put(value: Value, with: &With, used: &mut BTreeSet<String>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(replaced(&text, with, used)?),
        Value::Array(list) => {
            Value::Array(list.into_iter().map(|item| put(item, with, used)).collect::<Result<_, _>>()?)
        }
        Value::Table(table) => {
            let mut filled = Table::new();
            for (key, value) in table {
                let key = replaced(&key, with, used)?;
                if filled.insert(key.clone(), put(value, with, used)?).is_some() {
                    return Err(format!("with its parameters put in, it has `{}` twice", key.escape_debug()));
                }
            }
            Value::Table(filled)
        }
        other => other,
    })
}

/// Puts the parameters into a text. What only looks like one is refused.
fn replaced(text: &str, with: &With, used: &mut BTreeSet<String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        rest = match after.split_once(MARK).filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                let value = with.get(name).ok_or_else(|| format!("`@{name}@` is none of its `parameters`"))?;
                used.insert(name.to_string());
                out.push_str(value);
                after
            }
            // A mark like any other.
            None => {
                out.push(MARK);
                after
            }
        };
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, with: &[(&str, &str)]) -> Result<String, String> {
        let mut table: Table = toml::from_str(text).unwrap();
        let with = with.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        fill(&mut table, Some(&with)).map_err(|e| e.to_string().trim().to_string())?;
        Ok(table.to_string().trim().to_string())
    }

    #[test]
    fn they_stand_in_every_text_and_key() {
        let text = "parameters = [\"a-b\", \"c\"]\nlist = [\"x-@a-b@\", \"@c@@c@\"]\n[links]\n\"/@c@/y\" = \"$@ @ @@ a@b.c @c@\"\n";
        let wanted = "list = [\"x-1\", \"22\"]\n\n[links]\n\"/2/y\" = \"$@ @ @@ a@b.c 2\"";
        assert_eq!(filled(text, &[("a-b", "1"), ("c", "2")]).unwrap(), wanted);
    }

    #[test]
    fn what_is_put_in_is_not_looked_at_again() {
        let text = "parameters = [\"a\", \"b\"]\nx = \"@a@@b@\"\n";
        assert_eq!(filled(text, &[("a", "@b@"), ("b", "1")]).unwrap(), "x = \"@b@1\"");
    }

    #[test]
    fn too_many_and_too_few_are_refused_by_name() {
        let text = "parameters = [\"a\"]\nx = \"@a@\"\n";
        for (text, with, said) in [
            (text, &[][..], "needs `a` in its `[with]`"),
            (text, &[("a", "1"), ("b", "2")][..], "has no parameter `b`, only `a`"),
            ("x = 1", &[("a", "1")][..], "has no `parameters`"),
            ("parameters = [\"a\"]\nx = \"@b@\"", &[("a", "1")][..], "`@b@` is none of its `parameters`"),
            ("parameters = [\"a\"]\nx = \"\"", &[("a", "1")][..], "`a` stands nowhere"),
            ("parameters = [\"A\"]", &[("A", "1")][..], "`A` is no parameter"),
            ("parameters = []", &[][..], "names none"),
            ("parameters = [\"a\", \"b\"]\n\"@a@\" = 1\n\"@b@\" = 2", &[("a", "x"), ("b", "x")][..], "`x` twice"),
        ] {
            let error = filled(text, with).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn one_by_itself_is_no_image() {
        let mut table: Table = toml::from_str("parameters = [\"a\", \"b\"]\nx = \"@a@@b@\"\n").unwrap();
        let error = fill(&mut table, None).unwrap_err().to_string();
        assert!(error.contains("no image by itself: another definition inherits it and says `a`, `b`"), "{error}");
    }
}
