//! bindery turns ebuilds into signed binary packages, one isolated root per hardware profile, and publishes them as
//! binary hosts that unmodified clients install from.
//!
//! ```text
//! CLI args ─► profile ─► image ─► plan ─► distfiles ─► root ─► sandbox ─► package ─► pool ─► generation ─► serve
//! ```
//!
//! Every stage is a module; a stage may use earlier ones and the base. `ARCHITECTURE.md` has the whole table, and a test
//! holds the code to it.

pub mod cli;

// Base: nothing of ours but each other.
pub mod atom;
pub mod digest;
pub mod event;
pub mod fs;
pub mod process;
pub mod state;

// Stages; their order is the picture above.
pub mod backend;
pub mod binhost;
pub mod build;
pub mod client;
pub mod config;
pub mod cost;
pub mod distfiles;
pub mod doctor;
pub mod image;
pub mod isa;
pub mod layer;
pub mod package;
pub mod plan;
pub mod profile;
pub mod root;
pub mod sandbox;
pub mod serve;
pub mod tree;
