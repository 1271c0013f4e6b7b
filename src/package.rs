//! Binary packages: what comes out of a sandbox is read as hostile, put into one canonical form, signed, verified.
//!
//! ```text
//! Portage's package ─► normalise (confined) ─► unsigned canonical package ─► sign (own process) ─► signed ─► verify
//! ```
//!
//! # Which build it is
//!
//! A package's *content digest* ([`listing`]) is known before its number is. Content that the pool has already for that
//! version keeps its package, and nothing new is made. Other content gets the next number:
//!
//! * `BUILD_ID` is 1 for the first content of a version in a pool, then 2, and so on. One process at a time gives
//!   numbers: the one that holds the profile's lock.
//! * `BUILD_TIME` is the source date + (`BUILD_ID` − 1) seconds. Clients prefer the build with the greatest time, so a
//!   later build must have a greater one; and a clock would make it differ from builder to builder.
//! * The source date is `SOURCE_DATE_EPOCH` of the environment, else the profile's `source-date-epoch`, else
//!   [`DEFAULT_SOURCE_DATE`]. It must lie in the past, and putting it back makes later builds look older than earlier
//!   ones. Later times in the image become this one; all times in the metadata are this one.
//! * All times in the outer layer are `BUILD_TIME`. Signatures have that time, or that of the key's making if it is
//!   later.
//!
//! So every byte follows from the inputs, the numbers given before, and the key: two builders that agree on these write
//! the same file.
//!
//! # Trust
//!
//! A build writes whatever it likes. [`normalise`](normalise::normalise) is the only code that reads it, in a sandbox
//! with neither network nor keys. The host takes its answer as hostile, too ([`parse_result`]). [`sign`](sign::sign)
//! sees the result as opaque bytes in a frame whose every byte is known. Nothing signs that frame, so
//! [`verify`](verify::verify) accepts just one.

pub mod apart;
pub mod archive;
mod audited;
pub mod certificate;
pub mod compare;
pub mod contents;
pub mod entry;
pub mod environment;
pub mod facts;
pub mod gpkg;
pub mod header;
pub mod key;
pub mod listing;
pub mod manifest;
pub mod metadata;
pub mod normalise;
pub mod offers;
pub mod opened;
pub mod sign;
pub mod signature;
pub mod stream;
pub mod verify;

#[cfg(test)]
mod variants;

pub use apart::{SigningKey, SigningKeyError};
pub use certificate::{Certificate, CertificateError};
pub use entry::entry;
pub use facts::{Elf, Facts, Privileged};
pub use key::{KeyError, SecretKey};
pub use normalise::{NormaliseError, NormaliseOptions, Normalised, build_time, normalise, parse_result};
pub use offers::Offers;
pub use opened::{Identity, OpenError, Opened};
pub use sign::{SignFileError, SignOptions, sign};
pub use signature::{SignError, SignatureError, Signed, verify_cleartext, verify_detached};
pub use verify::{Verified, VerifyError, verify};

/// The source date when nobody gives one: 2025-01-01T00:00:00Z, seconds since 1970.
pub const DEFAULT_SOURCE_DATE: u64 = 1_735_689_600;
