//! Binary package files: read, checked, normalised, signed, verified.
