//! Tests: packages as Portage writes them and as we do, and each way they can be wrong.
//!
//! What Portage itself refuses or tolerates of signed packages was found by experiment; a signed package is refused
//! here in both cases, because nothing signs what Portage tolerates.

mod fixture;
mod mutated;
mod signed;
mod unsigned;
