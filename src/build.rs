//! Builds a plan's packages, each in a root of its own.
