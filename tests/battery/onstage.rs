//! The parts of tests that need a stage: each runs in a process that `stage::perform` has prepared.

use crate::{ablation, endings, peers, places};

#[test]
#[ignore = "is run by another test"]
fn each_mechanism_in_turn() {
    ablation::run();
}

#[test]
#[ignore = "is killed by another test"]
fn a_sandbox_that_sleeps() {
    endings::sleep();
}

#[test]
#[ignore = "is run by another test"]
fn a_mount_in_a_bind() {
    places::mount_in_a_bind();
}

#[test]
#[ignore = "is run by another test"]
fn everything_on() {
    ablation::everything_on();
}

#[test]
#[ignore = "is run by another test"]
fn each_grant_missing() {
    ablation::each_grant_missing();
}

#[test]
#[ignore = "is run by another test"]
fn every_peer() {
    peers::run();
}
