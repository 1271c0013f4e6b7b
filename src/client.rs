//! What a client needs to install from a profile.
