//! `bindery verify`: package files.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::atom::Name;
use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome};
use crate::package::{self, Certificate, key};
use crate::profile::Profile;
use crate::{fs, process};

/// Arguments of `bindery verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The package files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// They must be signed by this profile's key
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    profile: Option<Name>,
    /// They must be signed by one of the public keys in this file; without it, by any key of `bindery key show`
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Verifies files; all of them, and says of each what is wrong.
pub(super) fn verify(cx: &Context, args: &Args) -> Outcome {
    let keys = keys(cx, args)?;
    let (mut bad, mut all) = (0, Vec::new());
    for file in &args.files {
        match package::verify(file, &keys, SystemTime::now()) {
            Ok(verified) => {
                let facts = verified.facts;
                if !cx.json {
                    report::print(&format!("{}: good, {} build {}", file.display(), facts.cpv, facts.build_id))?;
                }
                all.push(serde_json::json!({ "file": file, "good": true, "facts": facts }));
            }
            Err(error) => {
                bad += 1;
                let why = process::chain(&error);
                if !cx.json {
                    report::print(&format!("{}: refused: {why}", file.display()))?;
                }
                all.push(serde_json::json!({ "file": file, "good": false, "error": why }));
            }
        }
    }
    if cx.json {
        report::print_json(&all)?;
    }
    match bad {
        0 => Ok(()),
        n => Err(Failure::new(Kind::Build, anyhow::anyhow!("{n} of {} files refused", args.files.len()))),
    }
}

fn keys(cx: &Context, args: &Args) -> Result<Vec<Certificate>, Failure> {
    if let Some(file) = &args.key {
        let text = fs::read_to_string(file).map_err(|e| Failure::new(Kind::User, e))?;
        return Ok(vec![Certificate::parse(&text).map_err(|e| Failure::new(Kind::User, e))?]);
    }
    let dir = cx.state.keys();
    if let Some(name) = &args.profile {
        return Ok(vec![key::public(&dir, &Profile::load(&cx.config, name)?.key)?]);
    }
    let mut keys = Vec::new();
    for name in key::list(&dir)? {
        keys.push(key::public(&dir, &name)?);
    }
    if keys.is_empty() {
        return Err(Failure::user("there is no key to check signatures with")
            .hint("`--key FILE` names a public key; `bindery key new default` makes one"));
    }
    Ok(keys)
}
