//! Package managers: how they plan and build.
