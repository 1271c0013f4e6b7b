//! The comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use bindery::layer::derive::Merge;
use bindery::layer::stack::stack;
use bindery::process::chain;

use crate::accepted::{self, Database};
use crate::bench::{merging, shop};

/// What a root has at a path: kind, mode, owner, group, time, digest or target.
type Tree = BTreeMap<String, Vec<String>>;

const LIST: &str = include_str!("list.py");

/// Returns a script that prints what is in the root, then the database, after a merge.
fn looked_at(command: &str) -> String {
    let show = |script: &str| format!("python3 - <<'EOF'\n{script}\nEOF\n");
    format!("{command}\n{}echo\n{}", show(LIST), show(Database::SHOW))
}

fn tree(text: &str) -> (Tree, Database) {
    let (list, database) = text.split_once("\n\n").unwrap();
    let line = |line: &str| {
        let mut fields = line.split('\t').map(str::to_string);
        (fields.next().unwrap(), fields.collect())
    };
    (list.lines().map(line).collect(), serde_json::from_str(database).unwrap())
}

#[test]
fn image_and_layers_are_what_a_merge_leaves() {
    let shop = shop();
    let packages: Vec<_> = shop.entries.iter().map(|entry| entry.facts.cpv.clone()).collect();
    let merged = shop.run(shop.image.layers.clone(), &looked_at(&merging(&packages))).works();
    let merge = Merge::default();
    let lower = stack(&shop.context(&merge), &shop.layers(), &AtomicBool::new(false));
    let stacked = shop.run(lower.unwrap_or_else(|e| panic!("{}", chain(&e))), &looked_at("")).works();
    let ((merged, merged_database), (stacked, stacked_database)) = (tree(&merged.out), tree(&stacked.out));
    assert!(merged.contains_key("/usr/bin/s3cmd") && merged.len() > 10_000, "{}", merged.len());

    let mut differences = BTreeSet::new();
    for path in merged.keys().chain(stacked.keys()) {
        let found = match (merged.get(path), stacked.get(path)) {
            (Some(_), None) => vec!["missing"],
            (None, Some(_)) => vec!["extra"],
            (Some(merged), Some(stacked)) => {
                let names = ["kind", "mode", "owner", "group", "time", "content"];
                let pairs = names.into_iter().zip(merged.iter().zip(stacked));
                pairs.filter(|(_, (merged, stacked))| merged != stacked).map(|(name, _)| name).collect()
            }
            (None, None) => unreachable!("it is in one of them"),
        };
        let kind = merged.get(path).or(stacked.get(path)).and_then(|fields| fields.first()).unwrap();
        differences.extend(found.into_iter().map(|what| (path.clone(), kind.clone(), what)));
    }
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for (path, kind, what) in &differences {
        match accepted::row_of(path, kind, what) {
            Some(row) => drop(used.insert(row)),
            None => wrong.push(format!("{what}: {path}: {:?} / {:?}", merged.get(path), stacked.get(path))),
        }
    }
    wrong.extend(merged_database.differences(&stacked_database));
    assert!(wrong.is_empty(), "{} differences that nothing accepts:\n{}", wrong.len(), wrong.join("\n"));
    // A row that nothing needs any more is no longer true.
    let unused: Vec<_> = accepted::ACCEPTED.iter().enumerate().filter(|(row, _)| !used.contains(row)).collect();
    assert!(unused.is_empty(), "{unused:#?}");
}
