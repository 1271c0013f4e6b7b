//! `bindery image`: where roots start.

use std::path::PathBuf;

use crate::atom::Name;
use crate::build;
use crate::cli::context::Context;
use crate::cli::events::shower;
use crate::cli::report::{self, Failure, Kind, Outcome, say, table};
use crate::config;
use crate::image::{self, Definition, DefinitionError, ImageError, Mode};
use crate::sandbox::IdRange;

/// `bindery image …`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the images there are definitions of, and which are made
    List,
    /// Make an image of the newest packages; one that is made already is made anew
    Make {
        /// The image
        name: Name,
        /// Make exactly what the lock says, or say what cannot be had any more
        #[arg(long)]
        locked: bool,
    },
    /// Check every byte of an image that is made, and show what is in it
    Show {
        /// The image
        name: Name,
    },
}

/// Runs `bindery image`.
pub(super) fn image(cx: &Context, command: Command) -> Outcome {
    match command {
        Command::List => list(cx),
        Command::Make { name, locked } => {
            let definition = Definition::find(&name, &folders(cx))?;
            let ids = cx.prepare()?;
            let mode = if locked { Mode::Locked(image::find_lock(&cx.state, &definition)?) } else { Mode::Newest };
            let (context, mut on) = (context(cx, &ids), shower(cx.json));
            let emulator = build::emulator(&context, &cx.config.search, &definition, &mut on)?;
            let turn = image::turn(&context, &name, &mut on)?;
            let image = image::make(&context, turn, &definition, &mode, emulator.as_ref(), &mut on)?;
            say(&format!("the lock, for `--locked`: {}", image::lock_file(&cx.state, &image.name).display()));
            Ok(())
        }
        Command::Show { name } => show(cx, &name),
    }
}

fn folders(cx: &Context) -> Vec<PathBuf> {
    cx.config.search.folders_of(config::Kind::Image)
}

fn context<'a>(cx: &'a Context, ids: &'a IdRange) -> image::Context<'a> {
    image::Context { state: &cx.state, ids, archives: &cx.config.archives, cancel: &cx.cancel }
}

fn list(cx: &Context) -> Outcome {
    let made = image::list(&cx.state)?;
    let names = Definition::names(&folders(cx))?;
    let mut all: Vec<_> = names.iter().chain(&made).collect();
    all.sort();
    all.dedup();
    if cx.json {
        let list: Vec<_> = all
            .iter()
            .map(|n| serde_json::json!({"name": n, "defined": names.contains(n), "made": made.contains(n)}))
            .collect();
        return report::print_json(&list);
    }
    let rows: Vec<_> = all
        .iter()
        .map(|name| {
            let made = if made.contains(name) { "made" } else { "not made" };
            let from = Definition::find(name, &folders(cx)).ok().and_then(|d| d.file);
            [name.to_string(), made.to_string(), from.map_or("built in".to_string(), |f| f.display().to_string())]
        })
        .collect();
    report::print(&table(["image", "state", "definition"], &rows))
}

fn show(cx: &Context, name: &Name) -> Outcome {
    let definition = Definition::find(name, &folders(cx))?;
    let ids = cx.prepare()?;
    let cx_image = context(cx, &ids);
    let image = image::find(&cx_image, name)?.ok_or_else(|| ImageError::NotMade(name.clone()))?;
    image::verify(&cx_image, name)?;
    let current = image.origin.definition == definition.digest();
    if cx.json {
        return report::print_json(&serde_json::json!({
            "name": name, "digest": image.digest, "layers": image.layers, "env": image.env,
            "definition-current": current, "debs": image.origin.debs, "wheels": image.origin.wheels,
        }));
    }
    let mut text = format!("{name} {}\n", image.digest);
    if !current {
        text.push_str("its definition has changed since it was made\n");
    }
    let debs = image.origin.debs.iter().map(|d| [d.name.to_string(), d.version.to_string(), d.sha256.to_string()]);
    let wheels = image.origin.wheels.iter().map(|w| [w.name.to_string(), w.version.to_string(), w.sha256.to_string()]);
    text.push_str(&table(["package", "version", "digest"], &debs.chain(wheels).collect::<Vec<_>>()));
    report::print(&text)
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let kind = match &error {
            ImageError::Definition(_) | ImageError::NotMade(_) | ImageError::NoLock(_) => Kind::User,
            ImageError::Cancelled => Kind::Interrupted,
            _ => Kind::System,
        };
        Self::new(kind, error)
    }
}

impl From<DefinitionError> for Failure {
    fn from(error: DefinitionError) -> Self {
        Self::new(Kind::User, error)
    }
}
