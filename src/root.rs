//! Roots: layers stacked under one writable directory, and the OCI runtime spec that describes them.
