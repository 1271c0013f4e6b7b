//! The whole chain with real Portage: what users do, and what goes wrong.
//!
//! The image is made once for each user and kept below the build folder's `tmp` (root) or `/var/tmp/bindery-test-USER`; every
//! test has a profile, and so a pool, of its own.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on panics")]

mod audit;
mod bench;
mod bundle;
mod chain;
mod client;
mod cross;
mod emulated;
mod everywhere;
#[path = "../common/executable.rs"]
mod executable;
mod explained;
mod failures;
mod fallback;
mod hosts;
mod keys;
mod kills;
mod limits;
mod matrix;
mod nothing;
mod refusals;
mod rooms;
mod share;
mod side_by_side;
mod started;
mod tracer;
