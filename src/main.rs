//! The program. Everything is in the library; here, only the hidden entry points come before the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    bindery::cli::main(std::env::args_os().collect())
}
