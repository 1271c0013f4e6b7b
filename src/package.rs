//! Binary packages: what comes out of a sandbox is read as hostile, put into one canonical form, signed, verified.
pub mod archive;
pub mod contents;
pub mod environment;
pub mod facts;
pub mod gpkg;
pub mod header;
pub mod listing;
pub mod manifest;
pub mod metadata;
pub mod stream;
