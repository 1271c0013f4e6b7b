//! Serves generations over HTTP.
