//! The hidden entry points: this program, started again as a process that does one risky job and ends.
//!
//! ```text
//! __normalise  payload of a sandbox, touches hostile bytes   NormaliseOptions in, Normalised out
//! __verify     payload of a sandbox, touches hostile bytes   VerifyOptions in, Verified out
//! __compare    payload of a sandbox, touches hostile bytes   CompareOptions in, what differs out
//! __sign       beside the host process, opens the key        SignOptions in, Signed out
//! __detach     beside the host process, opens the key        DetachOptions in, armored signature of its input out
//! __certificate  beside the host process, opens the key      the key's file in, armored certificate out
//! ```
//!
//! All take their options as JSON, as the only argument or (but for `__detach`) on standard input, print one line of JSON
//! on standard output, and on failure one line on standard error and status 1. So no process that reads what a build left
//! ever has a key in its memory, and none that has reads more than bytes to be hashed ([`super::apart`] starts them).

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::process;

use super::certificate::Certificate;
use super::compare::{CompareOptions, compare};
use super::key;
use super::normalise::{NormaliseOptions, normalise, refusal};
use super::sign::{SignOptions, sign};
use super::verify::verify;

/// Makes a package canonical: [`NormaliseOptions`] in, [`super::Normalised`] out.
pub const NORMALISE: &str = "__normalise";
/// Verifies a signed package: [`VerifyOptions`] in, [`super::Verified`] out.
pub const VERIFY: &str = "__verify";
/// Says what differs between two packages: [`CompareOptions`] in, texts out.
pub const COMPARE: &str = "__compare";
/// Signs a package: [`SignOptions`] in, [`super::Signed`] out.
pub(super) const SIGN: &str = "__sign";
/// Signs its standard input: [`DetachOptions`] in, the armored signature out.
pub(super) const DETACH: &str = "__detach";
/// Tells a secret key's certificate: the key's file in, the armored certificate out.
pub(super) const CERTIFICATE: &str = "__certificate";

/// Which package is to be verified, and by what.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyOptions {
    /// The signed package.
    pub file: PathBuf,
    /// The armored certificate of the key that must have signed it.
    pub certificate: String,
    /// When the certificate must be valid, in seconds since 1970.
    pub now: u64,
}

/// What standard input is signed with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DetachOptions {
    /// The file of the secret key.
    pub(super) key: PathBuf,
    /// When it is signed, in seconds since 1970.
    pub(super) time: u64,
}

/// The longest options, in bytes.
const LIMIT: u64 = 1 << 24;

/// Runs the hidden entry point `name` with its arguments; nothing where it is not one of this module's.
pub fn entry(name: &str, args: &[String]) -> Option<ExitCode> {
    let answer = match name {
        NORMALISE => options(args).and_then(|options: NormaliseOptions| {
            let result = normalise(&options).map_err(|source| one_line(&refusal(&options.input, source)))?;
            Ok(serde_json::to_string(&result).expect("facts are plain data"))
        }),
        VERIFY => options(args).and_then(|options: VerifyOptions| {
            let certificate = Certificate::parse(&options.certificate).map_err(|error| one_line(&error))?;
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(options.now);
            let result = verify(&options.file, &[certificate], now).map_err(|error| one_line(&error))?;
            Ok(serde_json::to_string(&result).expect("facts are plain data"))
        }),
        COMPARE => options(args).and_then(|options: CompareOptions| {
            let found = compare(&options).map_err(|error| one_line(&error))?;
            Ok(serde_json::to_string(&found).expect("texts"))
        }),
        SIGN => options(args).and_then(|options: SignOptions| {
            let result = sign(&options, SystemTime::now()).map_err(|error| one_line(&error))?;
            Ok(serde_json::to_string(&result).expect("two plain fields"))
        }),
        DETACH => options(args).and_then(|options: DetachOptions| {
            let key = key::load_file(&options.key).map_err(|error| one_line(&error))?;
            let armored = key.detached(io::stdin(), options.time).map_err(|error| one_line(&error))?;
            Ok(serde_json::to_string(&armored).expect("a text"))
        }),
        CERTIFICATE => options(args).and_then(|file: PathBuf| {
            let key = key::load_file(&file).map_err(|error| one_line(&error))?;
            Ok(serde_json::to_string(&key.certificate().armored()).expect("a text"))
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
