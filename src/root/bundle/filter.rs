//! Our system call filter for runtimes that use libseccomp, which knows no order of rules: of two that match, none is the
//! first, and it refuses a rule without conditions beside others for the same call.
//!
//! Calls with several rules are written so that only what is allowed is listed, each value by one rule; everything else
//! fails with the default. That allows the same; only what fails with an error of its own (sockets of other families)
//! fails with EPERM instead.

use serde_json::{Value, json};

const ALLOW: &str = "SCMP_ACT_ALLOW";
/// The low 32 bits, which are all of an int.
const INT: u64 = 0xffff_ffff;

/// Returns the filter with the same meaning for libseccomp.
pub(super) fn portable(ours: &Value) -> Value {
    let rules = ours["syscalls"].as_array().cloned().unwrap_or_default();
    let of = |name: &Value| -> Vec<&Value> { rules.iter().filter(|rule| has(rule, name)).collect() };
    let mut out = Vec::new();
    let mut done: Vec<&Value> = Vec::new();
    for rule in &rules {
        let names = rule["names"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (alone, several): (Vec<_>, Vec<_>) = names.iter().partition(|name| of(name).len() == 1);
        if !alone.is_empty() {
            let mut rule = rule.clone();
            rule["names"] = json!(alone);
            out.push(rule);
        }
        for name in several {
            if !done.contains(&name) {
                done.push(name);
                out.extend(allowed(name, &of(name)));
            }
        }
    }
    let mut filter = ours.clone();
    filter["syscalls"] = out.into();
    filter
}

fn has(rule: &Value, name: &Value) -> bool {
    rule["names"].as_array().is_some_and(|names| names.contains(name))
}

/// Returns rules, no two of which match at once, for what the rules of one call allow.
fn allowed(name: &Value, rules: &[&Value]) -> Vec<Value> {
    let allow = |args: &Value| json!({"names": [name], "action": ALLOW, "args": args});
    let conditions = |rule: &Value| rule["args"].as_array().map_or(0, Vec::len);
    let Some(all) = rules.iter().position(|rule| conditions(rule) == 0 && rule["action"] == ALLOW) else {
        return rules.iter().filter(|rule| rule["action"] == ALLOW).map(|rule| allow(&rule["args"])).collect();
    };
    // All but what earlier rules refuse, each by one value of one argument.
    let refused: Vec<u32> = rules[..all]
        .iter()
        .filter_map(|rule| rule["args"][0]["valueTwo"].as_u64().and_then(|value| u32::try_from(value).ok()))
        .collect();
    let index = rules.first().map_or(json!(0), |rule| rule["args"][0]["index"].clone());
    let others = others(&refused).into_iter();
    let condition = |(mask, value): (u32, u32)| json!([{"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": u64::from(mask) & INT, "valueTwo": value}]);
    others.map(|part| allow(&condition(part))).collect()
}

/// Returns masks and values that each number but the given ones matches one of: it shares some leading bits with one of
/// those, and differs from all in the next.
fn others(excluded: &[u32]) -> Vec<(u32, u32)> {
    let mut parts = Vec::new();
    let mut open = vec![(0_u32, 0_u32)];
    for bit in (0..u32::BITS).rev().map(|bit| 1_u32 << bit) {
        let halves = std::mem::take(&mut open)
            .into_iter()
            .flat_map(|(mask, value)| [(mask | bit, value), (mask | bit, value | bit)]);
        for (mask, value) in halves {
            let holds_one = excluded.iter().any(|number| number & mask == value);
            if holds_one { open.push((mask, value)) } else { parts.push((mask, value)) }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(parts: &[(u32, u32)], number: u32) -> usize {
        parts.iter().filter(|(mask, value)| number & mask == *value).count()
    }

    #[test]
    fn every_number_but_the_excluded_matches_one_part() {
        let parts = others(&[0x5412, 0x541c]);
        assert_eq!((matches(&parts, 0x5412), matches(&parts, 0x541c)), (0, 0));
        let near = (0x5400..0x5430).chain([0, 1, u32::MAX, 0x8000_0000, 0x1_5412]);
        for number in near.filter(|number| ![0x5412, 0x541c].contains(number)) {
            assert_eq!(matches(&parts, number), 1, "{number:#x}");
        }
        assert!(parts.len() < 40, "{}", parts.len());
    }

    #[test]
    fn calls_with_several_rules_list_what_is_allowed() {
        let ours = serde_json::to_value(crate::root::seccomp::profile()).unwrap();
        let theirs = portable(&ours);
        let rules = theirs["syscalls"].as_array().unwrap();
        let of = |name: &str| rules.iter().filter(|rule| has(rule, &json!(name))).collect::<Vec<_>>();
        assert!(of("socket").iter().all(|rule| rule["action"] == ALLOW && rule["args"][0]["index"] == 0));
        assert_eq!(of("socketpair").len(), 1);
        assert!(of("ioctl").iter().all(|rule| rule["args"][0]["index"] == 1));
        assert_eq!(of("clone3")[0]["errnoRet"], 38);
        assert_eq!(of("read").len(), 1);
        assert_eq!(theirs["defaultAction"], ours["defaultAction"]);
    }
}
