//! `bindery profile`: hardware profiles.

use crate::atom::Name;
use crate::cli::context::Context;
use crate::cli::report::{self, Failure, Kind, Outcome, table};
use crate::process;
use crate::profile::{self, Profile};

/// `bindery profile …`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the profiles there are
    List,
    /// Show what a profile comes to, and from which file each value is
    Show {
        /// The profile
        name: Name,
    },
    /// Check profiles, and say what is wrong with file and line
    Check {
        /// The profiles; all of them where none is named
        names: Vec<Name>,
    },
}

/// Runs `bindery profile`.
pub(super) fn profile(cx: &Context, command: Command) -> Outcome {
    match command {
        Command::List => list(cx),
        Command::Show { name } => {
            let profile = Profile::load(&cx.config, &name)?;
            if cx.json { report::print_json(&profile) } else { report::print(&profile.to_toml()) }
        }
        Command::Check { names } => check(cx, names),
    }
}

fn list(cx: &Context) -> Outcome {
    let listed = profile::list(&cx.config).map_err(|e| Failure::new(Kind::System, e))?;
    let describe = |listed: &profile::Listed| match &listed.description {
        Ok(description) => description.as_ref().map(ToString::to_string).unwrap_or_default(),
        Err(error) => format!("cannot be used: {error}"),
    };
    if cx.json {
        let list: Vec<_> = listed
            .iter()
            .map(|l| serde_json::json!({"name": l.name, "path": l.path, "description": describe(l), "usable": l.description.is_ok()}))
            .collect();
        return report::print_json(&list);
    }
    let rows: Vec<_> = listed.iter().map(|l| [l.name.to_string(), describe(l), l.path.display().to_string()]).collect();
    report::print(&table(["profile", "description", "file"], &rows))
}

fn check(cx: &Context, names: Vec<Name>) -> Outcome {
    let names = match names.is_empty() {
        false => names,
        true => {
            let listed = profile::list(&cx.config).map_err(|e| Failure::new(Kind::System, e))?;
            listed.into_iter().map(|l| l.name).collect()
        }
    };
    let (mut wrong, mut all) = (0, Vec::new());
    for name in &names {
        match Profile::load(&cx.config, name) {
            Ok(_) => {
                all.push(serde_json::json!({ "name": name, "good": true }));
                if !cx.json {
                    report::print(&format!("{name}: good"))?;
                }
            }
            Err(error) => {
                wrong += 1;
                all.push(serde_json::json!({ "name": name, "good": false, "error": process::chain(&error) }));
                Failure::from(error).show();
            }
        }
    }
    if cx.json {
        report::print_json(&all)?;
    }
    if wrong == 0 { Ok(()) } else { Err(Failure::silent(Kind::User)) }
}
