//! Resolutions made up for tests: packages `c/NAME-1` of the tree `tree`.

use crate::backend::Resolution;
use crate::backend::resolution::{Distfile, Kind};

/// Returns a resolution of packages named in the order of building, and what needs what.
pub(crate) fn resolution(packages: &str, edges: &[(&str, &str, &[Kind])]) -> Resolution {
    let packages: Vec<serde_json::Value> = packages
        .split(' ')
        .map(|name| {
            serde_json::json!({
                "cpv": format!("c/{name}-1"), "repo": "tree", "ebuild": format!("c/{name}/{name}-1.ebuild"),
                "eclasses": [], "eapi": "8", "slot": "0", "sub_slot": "0", "iuse": [], "use": [], "keywords": ["amd64"],
                "license": "MIT",
                "depend": {"bdepend": "", "depend": "", "rdepend": "", "pdepend": "", "idepend": ""},
                "properties": [], "restrict": [], "distfiles": [], "features": [], "env": {}, "env_unset": [],
            })
        })
        .collect();
    let edges: Vec<serde_json::Value> = edges
        .iter()
        .map(|(from, to, kinds)| {
            serde_json::json!({"from": format!("c/{from}-1"), "to": format!("c/{to}-1"), "kinds": kinds})
        })
        .collect();
    let json = serde_json::json!({
        "version": 1, "ok": true, "problems": [], "packages": packages, "edges": edges, "env": {"ARCH": "amd64"},
    });
    Resolution::parse(json.to_string().as_bytes()).unwrap()
}

/// Returns a source archive with digests.
pub(crate) fn distfile(name: &str) -> Distfile {
    let hashes = serde_json::json!({"BLAKE2B": "ab".repeat(64), "SHA512": "cd".repeat(64)});
    let json = serde_json::json!({"name": name, "uris": [], "size": 1, "hashes": hashes});
    serde_json::from_value(json).unwrap()
}
