//! Images: where a root filesystem starts.
