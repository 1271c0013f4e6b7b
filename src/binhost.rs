//! Pool, index and generations: what clients install from.
//!
//! ```text
//! profiles/NAME/lock                                          one process builds for and publishes a profile at a time
//!               pool/CATEGORY/PACKAGE/PF-BUILD_ID.gpkg.tar    never changed once written (0444)
//!               pool/CATEGORY/PACKAGE/PF-BUILD_ID.json        the record beside it, written last
//!               generations/N/Packages, Packages.gz           the index that Portage reads
//!               generations/N/statement.json                  serial, validity, digests of all of it
//!               generations/N/statement.json.asc, key.asc     the signature of the statement, and the key it is of
//!               generations/N/CATEGORY/PACKAGE/…              hard links into the pool
//!               current -> generations/N                      the one thing that changes, by rename(2)
//! ```
//!
//! Whoever writes holds the profile's lock and shows it; readers need none, because nothing that has its final name
//! ever changes.

pub mod facts;
pub mod generation;
pub mod index;
pub mod path;
pub mod pool;
pub mod soname;
pub mod statement;
