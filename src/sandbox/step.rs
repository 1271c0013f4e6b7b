//! Errors of the steps that set a sandbox up: what was tried, on what, and what the kernel said.

use std::io;

/// One step failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub(super) struct StepError {
    what: String,
    pub(super) source: io::Error,
}

/// Says of a failed call what it was for.
pub(super) trait Doing<T> {
    /// `what` reads after "cannot".
    fn doing(self, what: impl Into<String>) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, StepError> {
        self.map_err(|e| StepError { what: what.into(), source: e.into() })
    }
}

impl StepError {
    /// Returns the failure of a step that the kernel was not asked for.
    pub(super) fn refused(what: impl Into<String>, why: &str) -> Self {
        Self { what: what.into(), source: io::Error::other(why.to_string()) }
    }
}
