//! Puts programs where tests start them.

use std::path::Path;

/// Copies a program, by a process of its own.
///
/// Tests run in threads of one process: while this one had the copy open for writing, whatever another thread starts
/// would inherit it, and the copy could not be executed (ETXTBSY, execve(2)) until that has become its program.
pub(crate) fn copy(from: &Path, to: &Path) {
    bindery::process::run(bindery::process::command("cp").arg("--").args([from, to])).unwrap();
}
