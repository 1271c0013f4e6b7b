//! `bindery profile`: hardware profiles.

use crate::atom::Name;
use crate::cli::context::Context;
use crate::cli::cost;
use crate::cli::report::{self, Failure, Kind, Outcome, say, table};
use crate::process;
use crate::profile::host::Processor;
use crate::profile::new::{self, NewError, Start};
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
    /// Say what profiles cost: time, disk, what they share, and what adding or dropping one would mean
    Cost {
        /// The profiles; all that something was built for where none is named
        names: Vec<Name>,
    },
    /// Write a new profile, for this machine's processor or like another profile; nothing is overwritten
    New {
        /// Its name
        name: Name,
        #[command(flatten)]
        from: Basis,
    },
}

/// What a new profile starts from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Basis {
    /// This machine's processor: its level, and CPU_FLAGS_X86 and its like
    #[arg(long)]
    from_host: bool,
    /// Another profile: the new one inherits from it, and has what one usually changes as comments
    #[arg(long, value_name = "PROFILE")]
    like: Option<Name>,
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
        Command::Cost { names } => cost::cost(cx, &names),
        Command::New { name, from } => new(cx, &name, from.like),
    }
}

fn new(cx: &Context, name: &Name, like: Option<Name>) -> Outcome {
    let start = match like {
        Some(other) => Start::Like(other),
        None => Start::Host(Processor::here().map_err(NewError::Host)?),
    };
    let new = new::write(&cx.config, &cx.own, name, &start)?;
    if cx.json {
        return report::print_json(&serde_json::json!({ "name": name, "path": new.path, "inherits": new.inherits }));
    }
    say(&format!("wrote profile {name}, which inherits {}: {}", new.inherits, new.path.display()));
    say(&format!("  `bindery profile show {name}` shows what it comes to"));
    Ok(())
}

impl From<NewError> for Failure {
    fn from(error: NewError) -> Self {
        let hints = error.hints();
        match error {
            NewError::Base(error) => error.into(),
            NewError::Path(_) => Self::new(Kind::System, error),
            NewError::Exists { .. } | NewError::Host(_) => Self { hints, ..Self::new(Kind::User, error) },
        }
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
