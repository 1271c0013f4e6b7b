//! `process` of a bundle: what runs, as whom, with what.

use serde_json::{Map, Value, json};

use crate::root::bundle::Around;
use crate::root::bundle::take::Object;
use crate::root::{CAPABILITIES, OOM_SCORE_ADJ};

/// Beside the ones a build has: one that runc's and crun's templates ask for, and that has no power in a user namespace.
const HARMLESS: &str = "CAP_AUDIT_WRITE";
/// What is passed on as it is.
const AS_IT_IS: [&str; 4] = ["args", "env", "cwd", "user"];

pub(super) fn read(process: &mut Object, around: &Around<'_>) -> Value {
    let mut out = Map::new();
    for name in AS_IT_IS {
        out.extend(process.take(name).map(|value| (name.to_string(), value)));
    }
    let uid = out.get("user").and_then(|user| user["uid"].as_u64()).unwrap_or(0);
    let terminal = process.flag("terminal").unwrap_or(false);
    if terminal && !around.terminal {
        process.refuse("terminal", "standard input and output are no terminal", "set it to false, or run it on one");
    }
    out.insert("terminal".into(), terminal.into());
    out.insert("capabilities".into(), capabilities(process, uid == 0));
    let mut rlimits = process.list("rlimits");
    // As everywhere: nobody wants a core in a root that is thrown away.
    if !rlimits.iter().any(|limit| limit["type"] == "RLIMIT_CORE") {
        rlimits.push(json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0}));
    }
    out.insert("rlimits".into(), rlimits.into());
    let score = process.take("oomScoreAdj").unwrap_or_else(|| OOM_SCORE_ADJ.into());
    out.insert("oomScoreAdj".into(), score);
    // Stricter where it is not asked for.
    process.take("noNewPrivileges");
    out.insert("noNewPrivileges".into(), true.into());
    out.into()
}

/// Returns one set for bounding, permitted and effective: what root is to have, nothing for anyone else.
fn capabilities(process: &mut Object, root: bool) -> Value {
    let mut sets = process.object("capabilities");
    let allowed: Vec<String> = CAPABILITIES.iter().map(|known| format!("CAP_{known}")).collect();
    let mut bounding = sets.texts("bounding");
    bounding.sort_unstable();
    bounding.dedup();
    let mut strange: Vec<_> =
        bounding.iter().filter(|name| !allowed.contains(name) && *name != HARMLESS).cloned().collect();
    for name in ["permitted", "effective"] {
        let mut set = sets.texts(name);
        set.sort_unstable();
        set.dedup();
        strange.extend(set.iter().filter(|name| !bounding.contains(name)).cloned());
        if root && set != bounding && set.iter().all(|name| bounding.contains(name)) {
            sets.refuse(
                name,
                "it is smaller than the bounding set, to which a program of root's comes by starting another",
                "make it, and the bounding set, the same",
            );
        }
        if !root && !set.is_empty() {
            sets.refuse(name, "only root has capabilities here", "remove it, or run as uid 0");
        }
    }
    for name in ["inheritable", "ambient"] {
        let set = sets.texts(name);
        // Root has all of the bounding set with every program it starts: these add nothing to it.
        if !set.is_empty() && !root {
            sets.refuse(name, "only root has capabilities here", "remove it, or run as uid 0");
        }
        strange.extend(set.into_iter().filter(|name| !bounding.contains(name)));
    }
    strange.sort_unstable();
    strange.dedup();
    if !strange.is_empty() {
        sets.refuse(
            "bounding",
            format!("nothing here can be done with {}", strange.join(", ")),
            "remove them from all sets",
        );
    }
    for reason in sets.end() {
        let name = reason.field.strip_prefix("process.").unwrap_or(&reason.field).to_string();
        process.refuse(&name, reason.why, reason.instead);
    }
    json!({"bounding": bounding, "permitted": bounding, "effective": bounding, "inheritable": [], "ambient": []})
}
