//! Source archives: fetched and verified by the host before a build.
