//! Ebuild repositories at one revision.
