//! What exactly changed in a dependency, for the event that says why its user is built again: which symbol, which file.
//!
//! The pool still has the build that the user was built with; it is compared with the new one in a sandbox. This is for
//! people: where it cannot be had, the event says less.

use std::collections::BTreeMap;

use crate::atom::Cpv;
use crate::binhost::pool::Entry;
use crate::build::finish::read_apart;
use crate::build::one::Shop;
use crate::build::room::path;
use crate::package::compare::{CompareOptions, Part};
use crate::package::entry::COMPARE;
use crate::package::opened::Identity;
use crate::plan::{Moved, Planned};
use crate::root::Bind;

/// Of how many dependencies it is said.
const MOST: usize = 3;
/// The longest text that is believed, in bytes.
const LONGEST: usize = 1000;

/// Returns what changed in the dependencies that a package is built again for, each by itself.
pub(super) fn detail(shop: &Shop<'_>, planned: &Planned, ready: &BTreeMap<Cpv, Entry>) -> Vec<String> {
    let moved = planned.moved(&shop.prepared.stock);
    moved.iter().take(MOST).filter_map(|moved| of(shop, moved, ready)).flatten().collect()
}

fn of(shop: &Shop<'_>, moved: &Moved, ready: &BTreeMap<Cpv, Entry>) -> Option<Vec<String>> {
    let (before, build_id) = &moved.was;
    let (old, new) = (shop.pool.find(before, *build_id).ok()??, ready.get(&moved.cpv)?);
    let part = match moved.part.as_str() {
        "archives" => Part::Archives,
        "tools" => Part::Tools,
        _ => Part::Link,
    };
    let of = |place: &str, entry: &Entry| (place.into(), Identity::from(&entry.facts));
    let options = CompareOptions { old: of("/old", &old), new: of("/new", new), part };
    let bind = |entry: &Entry, to| Bind { from: entry.file.clone(), to: path(to), writable: false };
    let binds = [bind(&old, "/old"), bind(new, "/new")];
    let json = serde_json::to_string(&options).expect("options are plain data");
    let answer = read_apart(shop, &format!("comparing builds of {}", moved.cpv), &binds, COMPARE, json).ok()?.ok()?;
    let said: Vec<String> = serde_json::from_slice(&answer).ok()?;
    let plain = |text: &String| text.len() <= LONGEST && !text.chars().any(char::is_control);
    let name = moved.cpv.cp();
    Some(said.into_iter().filter(plain).map(|text| format!("`{name}`: {text}")).collect())
}
