//! Reads an index as strictly as only its own writer can.

use std::collections::BTreeMap;

use super::{Index, IndexError, KEYS, Package, render};

/// Returns the index that some text says, if [`render`] gives exactly this text for it.
pub fn parse(text: &str) -> Result<Index, IndexError> {
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    let (_, mut header) = block(&mut lines)?;
    let timestamp = number(1, "TIMESTAMP", header.remove("TIMESTAMP"))?;
    header.remove("VERSION");
    header.remove("PACKAGES");
    let header: BTreeMap<_, _> = header.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let mut packages = Vec::new();
    loop {
        let (line, fields) = block(&mut lines)?;
        if fields.is_empty() {
            break;
        }
        packages.push(package(line, fields, &header)?);
    }
    let index = Index { timestamp, header, packages };
    // Everything else that can be wrong (order, defaults spelt out, wrong counts, odd spaces) shows here.
    let again = render(&index)?;
    if again == text {
        return Ok(index);
    }
    let same = again.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
    let expected = again.lines().nth(same).map_or("nothing more".to_string(), |line| format!("`{line}`"));
    Err(IndexError::Line { line: same + 1, why: format!("expected {expected}") })
}

/// Returns the lines up to the next empty one, and the number of the first.
fn block<'a>(
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
) -> Result<(usize, BTreeMap<&'a str, &'a str>), IndexError> {
    let mut fields = BTreeMap::new();
    let mut first = 0;
    for (line, text) in lines {
        if text.is_empty() {
            break;
        }
        first = if first == 0 { line } else { first };
        let error = |why: &str| IndexError::Line { line, why: why.to_string() };
        let (key, value) = text.split_once(": ").ok_or_else(|| error("expected `KEY: value`"))?;
        if fields.insert(key, value).is_some() {
            return Err(error("the key is there twice"));
        }
    }
    Ok((first, fields))
}

fn package(
    line: usize,
    mut fields: BTreeMap<&str, &str>,
    header: &BTreeMap<String, String>,
) -> Result<Package, IndexError> {
    let error = |why: String| IndexError::Line { line, why };
    let mut text = |key: &str| fields.remove(key).ok_or_else(|| error(format!("the package has no `{key}`")));
    let path = text("PATH")?.parse().map_err(|e| error(format!("{e}")))?;
    let (md5, sha1) = (text("MD5")?.to_string(), text("SHA1")?.to_string());
    for (name, value, digits) in [("MD5", &md5, 32), ("SHA1", &sha1, 40)] {
        if value.len() != digits || !value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error(format!("`{name}` is not {digits} hexadecimal digits")));
        }
    }
    let size = number(line, "SIZE", fields.remove("SIZE"))?;
    let build_time = number(line, "BUILD_TIME", fields.remove("BUILD_TIME"))?;
    let given = ["CPV", "BUILD_ID", "MTIME"];
    let mut rest: BTreeMap<&'static str, String> = BTreeMap::new();
    for (key, value) in fields.into_iter().filter(|(key, _)| !given.contains(key)) {
        let (key, _) = KEYS
            .into_iter()
            .find(|(known, _)| *known == key)
            .ok_or_else(|| error(format!("`{}` is no key of a package", key.escape_debug())))?;
        rest.insert(key, value.to_string());
    }
    if let Some(chost) = header.get("CHOST") {
        rest.entry("CHOST").or_insert_with(|| chost.clone());
    }
    Ok(Package { path, size, build_time, md5, sha1, fields: rest })
}

fn number(line: usize, key: &str, text: Option<&str>) -> Result<u64, IndexError> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| IndexError::Line { line, why: format!("there is no number `{key}`") })
}
