//! The graph of packages to build or reuse, each with its reason.
