//! The hidden entry points: this program, started again as a process that does one of the two risky jobs and ends.
//!
//! `__normalise` runs as the payload of a sandbox and touches hostile bytes; `__sign` runs beside the host process and
//! touches the secret key. Both take their options as JSON, as the only argument or on standard input, print one line
//! of JSON on standard output, and on failure one line on standard error and status 1.

use std::io::{self, Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::SystemTime;

use crate::process;

use super::normalise::{NormaliseOptions, normalise, refusal};
use super::sign::{SignOptions, sign};
use super::signature::Signed;

/// Makes a package canonical: [`NormaliseOptions`] in, [`super::Normalised`] out.
pub const NORMALISE: &str = "__normalise";
/// Signs a package: [`SignOptions`] in, [`Signed`] out.
pub const SIGN: &str = "__sign";

/// The longest options, in bytes.
const LIMIT: u64 = 1 << 24;

/// Runs the hidden entry point `name` with its arguments; nothing where it is not one of this module's.
pub fn entry(name: &str, args: &[String]) -> Option<ExitCode> {
    let answer = match name {
        NORMALISE => options(args).and_then(|options: NormaliseOptions| {
            let result = normalise(&options).map_err(|source| one_line(&refusal(&options.input, source)))?;
            Ok(serde_json::to_string(&result).expect("facts are plain data"))
        }),
        SIGN => options(args).and_then(|options: SignOptions| {
            let result = sign(&options, SystemTime::now()).map_err(|error| one_line(&error))?;
            Ok(serde_json::to_string(&result).expect("two plain fields"))
        }),
        _ => return None,
    };
    let (mut to, text, code): (Box<dyn Write>, _, _) = match answer {
        Ok(json) => (Box::new(io::stdout()), json, ExitCode::SUCCESS),
        Err(error) => (Box::new(io::stderr()), error, ExitCode::FAILURE),
    };
    let written = writeln!(to, "{text}").and_then(|()| to.flush());
    Some(if written.is_ok() { code } else { ExitCode::FAILURE })
}

fn options<T: serde::de::DeserializeOwned>(args: &[String]) -> Result<T, String> {
    let parsed = match args {
        [json] => serde_json::from_str(json),
        [] => serde_json::from_reader(io::stdin().take(LIMIT)),
        _ => return Err("options are one JSON text, as the only argument or on standard input".to_string()),
    };
    parsed.map_err(|error| format!("cannot use the options: {error}"))
}

/// Returns what is printed of an error: one line, whatever a hostile package's names hold.
fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    process::chain(error).replace('\n', " ")
}

/// Signs a package in a process of its own, so that no process that reads what is in a package signs it.
pub fn sign_apart(options: &SignOptions) -> Result<Signed, SignApartError> {
    let json = serde_json::to_string(options).expect("three paths");
    let mut command = process::this_program_apart();
    let output = process::run(command.args([SIGN, &json]).stdin(Stdio::null()))?;
    serde_json::from_slice(&output.stdout).map_err(SignApartError::Answer)
}

/// The signing process failed.
#[derive(Debug, thiserror::Error)]
pub enum SignApartError {
    /// It could not be started, or refused; its standard error says why.
    #[error("cannot sign the package")]
    Process(#[from] process::ProcessError),
    /// It answered nonsense.
    #[error("the signing process's answer cannot be used")]
    Answer(#[source] serde_json::Error),
}
