//! The program: everything is in the library.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = bindery::sandbox::entry(&args) {
        return code;
    }
    ExitCode::SUCCESS
}
