//! Immutable directories inside the id range: unpack, measure, remove.
