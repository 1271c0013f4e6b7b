//! The hidden entry points: bindery started again by itself, with one thread, in a namespace or without what it must not
//! reach. None of them is for people.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{doctor, image, package, sandbox};

/// Runs a hidden entry point, when the program's arguments (its name first) ask for one.
pub(super) fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    if let Some(code) = sandbox::entry(args) {
        return Some(code);
    }
    if let Some(code) = image::entry(args) {
        return Some(code);
    }
    if let Some(code) = doctor::entry(args) {
        return Some(code);
    }
    let mut words = args.get(1..)?.iter().map(|arg| arg.to_str().map(str::to_string));
    let name = words.next()??;
    // Options are JSON, so text; whatever else came would not be ours.
    package::entry(&name, &words.collect::<Option<Vec<_>>>()?)
}
