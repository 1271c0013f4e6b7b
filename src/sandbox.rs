//! Runs one command in a root, as an OCI runtime spec says.
