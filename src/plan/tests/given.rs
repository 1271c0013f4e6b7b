//! Packages that are used whatever they were built from.

use super::*;

#[test]
fn what_is_given_is_used_whatever_it_was_built_from() {
    let mut world = World::new();
    world.build();
    world.cflags = "-O3";
    world.share = false;
    assert!(world.plan().packages.iter().all(|planned| matches!(planned.action, Action::Build(_))));
    world.given = BTreeMap::from([(cpv("lib"), BuildId(1))]);
    let plan = world.plan();
    let reused = plan.packages.iter().filter(|planned| matches!(planned.action, Action::Reuse(_)));
    assert_eq!(reused.map(|planned| &planned.cpv).collect::<Vec<_>>(), [&cpv("lib")]);
    // One that is not there cannot be.
    world.given = BTreeMap::from([(cpv("lib"), BuildId(2))]);
    assert!(world.plan().packages.iter().all(|planned| matches!(planned.action, Action::Build(_))));
}
