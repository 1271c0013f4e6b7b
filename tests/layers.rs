//! Layers derived from packages, against what Portage leaves when it merges the same packages.
//!
//! The packages of `tests/tree` are built once. Then two roots are compared, path by path: the image with all of them
//! merged by Portage, and the image with their layers stacked on it. What may differ is in one table
//! (`layers/accepted.rs`); everything else fails. What Portage does in the second root is looked at, too.
//!
//! Everything runs as whoever runs the tests; when that is root, a second time as the user that `BINDERY_TEST_USER` names.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "what fails is the test")]

#[path = "layers/accepted.rs"]
mod accepted;
#[path = "layers/bench.rs"]
mod bench;
#[expect(dead_code, reason = "the tests of the chain use the rest")]
#[path = "chain/bench.rs"]
mod chain_bench;
#[path = "layers/collection.rs"]
mod collection;
#[path = "layers/comparison.rs"]
mod comparison;
#[path = "common/executable.rs"]
mod executable;
#[path = "layers/phases.rs"]
mod phases;
#[path = "layers/portage.rs"]
mod portage;
#[path = "layers/refusals.rs"]
mod refusals;
#[path = "layers/shared.rs"]
mod shared;
#[path = "layers/user.rs"]
mod user;
