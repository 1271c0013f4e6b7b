//! Hardware profiles: read, inherited, checked.
