//! `bindery key`: signing keys.

use crate::atom::Name;
use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, say, table};
use crate::package::{KeyError, key};

/// `bindery key …`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key that packages are signed with
    New {
        /// What profiles call it
        name: Name,
        /// The user id that clients see
        #[arg(long, value_name = "TEXT")]
        user_id: Option<String>,
    },
    /// Show a key's fingerprint and public part; without a name, list the keys
    Show {
        /// The key
        name: Option<Name>,
    },
}

/// Runs `bindery key`.
pub(super) fn key(cx: &Context, command: Command) -> Outcome {
    cx.prepare_state()?;
    let dir = cx.state.keys();
    match command {
        Command::New { name, user_id } => {
            let user_id = user_id.unwrap_or_else(|| format!("bindery {name}"));
            let public = key::new(&dir, &name, &user_id)?;
            let secret = key::secret_file(&dir, &name);
            if cx.json {
                return report::print_json(&serde_json::json!({
                    "name": name, "fingerprint": public.fingerprint(), "secret": secret
                }));
            }
            say(&format!("made key {name}: {}", public.fingerprint()));
            say(&format!("  the secret part, which nobody else may read: {}", secret.display()));
            Ok(())
        }
        Command::Show { name: Some(name) } => {
            let public = key::public(&dir, &name)?;
            if cx.json {
                return report::print_json(&serde_json::json!({
                    "name": name, "fingerprint": public.fingerprint(), "public": public.armored()
                }));
            }
            report::print(&format!("{name} {}\n{}", public.fingerprint(), public.armored()))
        }
        Command::Show { name: None } => {
            let mut rows = Vec::new();
            for name in key::list(&dir)? {
                rows.push([name.to_string(), key::public(&dir, &name)?.fingerprint()]);
            }
            if cx.json {
                let list: Vec<_> =
                    rows.iter().map(|[name, f]| serde_json::json!({"name": name, "fingerprint": f})).collect();
                return report::print_json(&list);
            }
            report::print(&table(["key", "fingerprint"], &rows))
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(Kind::User, error)
    }
}
