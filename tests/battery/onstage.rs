//! The parts of tests that need a stage: each runs in a process that `stage::perform` has prepared.

use crate::{ablation, outside, peers};

#[test]
#[ignore = "is run by another test"]
fn each_mechanism_in_turn() {
    ablation::run();
}

#[test]
#[ignore = "is killed by another test"]
fn a_sandbox_that_sleeps() {
    outside::sleep();
}

#[test]
#[ignore = "is run by another test"]
fn every_peer() {
    peers::run();
}
