//! What differs between two requests, in words.

use std::collections::BTreeMap;
use std::fmt;

use super::Policy;

/// One difference between two requests, as a sentence fragment: `USE changed: +nls`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Change(String);

impl Change {
    /// Returns the change that bindery itself is.
    pub(super) fn version() -> Self {
        Self("bindery's way of building changed".to_string())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Parts = BTreeMap<String, String>;

/// Returns all changes, most telling first.
pub(super) fn between(old: &Parts, new: &Parts, policy: Policy) -> Vec<Change> {
    let mut names = policy.differences(old, new);
    names.sort_by_key(|name| (rank(name), *name));
    let stays = |name: &str| {
        let dependency = format!("dependency {name}");
        old.contains_key(&dependency) && new.contains_key(&dependency)
    };
    // Of a dependency that comes or goes, nothing more has to be said.
    names.retain(|part| match part.split_once(' ') {
        Some(("link" | "archives" | "tools" | "interface" | "installed", name)) => stays(name),
        _ => true,
    });
    let change =
        |name: &String| Change(describe(name, old.get(name).map(String::as_str), new.get(name).map(String::as_str)));
    names.into_iter().map(change).collect()
}

/// What a person changes comes first, what follows from something else last.
fn rank(part: &str) -> usize {
    const ORDER: &[&str] = &["ebuild", "files", "patches", "use", "env", "eclass", "distfile", "bashrc", "features"];
    const LAST: &[&str] =
        &["toolchain", "image", "dependency", "link", "archives", "tools", "interface", "installed", "asks"];
    let kind = part.split(' ').next().unwrap_or_default();
    let at = |list: &[&str]| list.iter().position(|known| *known == kind);
    at(ORDER).or_else(|| Some(ORDER.len() + 1 + at(LAST)?)).unwrap_or(ORDER.len())
}

fn describe(part: &str, old: Option<&str>, new: Option<&str>) -> String {
    let (kind, name) = part.split_once(' ').unwrap_or((part, ""));
    let package = &name.replace(":0 on", " on");
    let package = package.strip_suffix(":0").unwrap_or(package);
    let set = |name: &str| match (old, new) {
        (None, Some(new)) => format!("{name} is now set: `{new}`"),
        (Some(old), None) => format!("{name} is no longer set (it was `{old}`)"),
        _ => format!("{name} changed: `{}` to `{}`", old.unwrap_or_default(), new.unwrap_or_default()),
    };
    let thing = |name: &str| match (old, new) {
        (None, _) => format!("{name} is new"),
        (_, None) => format!("{name} is gone"),
        _ => format!("{name} changed"),
    };
    let role = |changed: String, is: &str| match (old, new) {
        (None, _) => format!("it is now built {is} `{package}`"),
        (_, None) => format!("it is no longer built {is} `{package}`"),
        _ => changed,
    };
    match kind {
        "use" => format!("USE changed: {}", words(old, new)),
        "features" => format!("FEATURES changed: {}", words(old, new)),
        "env" => set(name),
        "toolchain" => toolchain(name, old.unwrap_or_default(), new.unwrap_or_default()),
        "dependency" => {
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            role(format!("`{package}`'s sub-slot changed: {old} → {new}"), "with")
        }
        "link" => role(format!("`{package}`'s ABI changed"), "against"),
        "archives" => role(format!("`{package}`'s static archives changed"), "against"),
        "tools" => role(format!("`{package}` changed, which runs while it is built"), "with the tool"),
        "interface" => role(format!("`{package}`'s ABI changed, which runs while it is built"), "with the tool"),
        "installed" => installed(package, old.unwrap_or_default(), new.unwrap_or_default()),
        "asks" => "whether the ebuild may ask what is installed changed".to_string(),
        "eclass" => thing(&format!("eclass `{name}`")),
        "distfile" => thing(&format!("distfile `{name}`")),
        "files" => thing("a file beside the ebuild"),
        "patches" => thing("a user patch"),
        "method" => match new {
            Some(new) => format!("it is now built {new}, and not cross built"),
            None => "it is now cross built".to_string(),
        },
        "image" => thing("what the image's definition sets up"),
        _ => thing(&format!("the {kind}")),
    }
}

/// Returns `+new -old` of two lists of words.
fn words(old: Option<&str>, new: Option<&str>) -> String {
    let list = |text: Option<&str>| text.unwrap_or_default().split_whitespace().map(str::to_string).collect::<Vec<_>>();
    let (old, new) = (list(old), list(new));
    let added = new.iter().filter(|word| !old.contains(word)).map(|word| format!("+{word}"));
    let gone = old.iter().filter(|word| !new.contains(word)).map(|word| format!("-{word}"));
    added.chain(gone).collect::<Vec<_>>().join(" ")
}

/// Returns how version and flags of an installed package changed: its name and version, then its flags.
fn installed(package: &str, old: &str, new: &str) -> String {
    let split = |text| str::split_once(text, ' ').unwrap_or((text, ""));
    let ((old, before), (new, after)) = (split(old), split(new));
    if old == new {
        format!("`{package}`'s USE changed: {}, and the ebuild may ask for that", words(Some(before), Some(after)))
    } else {
        format!("`{new}` is there instead of `{old}`, and the ebuild may ask for that")
    }
}

/// Returns how the packages of one role changed: the first that did, and how many more.
fn toolchain(role: &str, old: &str, new: &str) -> String {
    let list = |text: &str| -> Vec<(String, String)> {
        let pairs = text.split(' ').filter_map(|word| word.split_once('='));
        pairs.map(|(name, version)| (name.to_string(), version.to_string())).collect()
    };
    let (old, new) = (list(old), list(new));
    let version = |list: &[(String, String)], name: &str| {
        let found = list.iter().find(|(known, _)| known == name);
        found.map_or("none".to_string(), |(_, version)| version.clone())
    };
    let mut names: Vec<&String> = new.iter().map(|(name, _)| name).collect();
    names.extend(old.iter().map(|(name, _)| name).filter(|name| !new.iter().any(|(known, _)| known == *name)));
    names.retain(|name| version(&old, name) != version(&new, name));
    let more = match names.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let first = names.first().map(|name| format!("{name} {} → {}", version(&old, name), version(&new, name)));
    format!("{role} changed: {}{more}", first.unwrap_or_default())
}
