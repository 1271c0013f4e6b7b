//! The images that builds start from, and what these name: made where they are not there, or made from another definition.

use crate::atom::Name;
use crate::config::{self, Search};
use crate::event::{Event, Sink};
use crate::image::{self, Definition, Image, ImageError};
use crate::sandbox::{self, EmulationError, Emulator};

/// Returns an image that is made from the definition as it is now: the one there is, or a new one.
pub fn image(cx: &image::Context<'_>, search: &Search, name: &Name, on: Sink<'_>) -> Result<Image, ImageError> {
    let definition = image::Definition::find(name, &search.folders_of(config::Kind::Image))?;
    let emulator = emulator(cx, search, &definition, on)?;
    let is_current = |image: &Image| image.origin.definition == definition.digest();
    let mut found = image::find(cx, name)?;
    if !found.as_ref().is_some_and(is_current) {
        let turn = image::turn(cx, name, on)?;
        // Another command may have made it meanwhile.
        found = image::find(cx, name)?;
        if found.is_some() && !found.as_ref().is_some_and(is_current) {
            on(Event::Step { what: format!("the definition of image {name} has changed since it was made") });
        }
        if !found.as_ref().is_some_and(is_current) {
            found = Some(image::make(cx, turn, &definition, &image::Mode::Newest, emulator.as_ref(), on)?);
        }
    }
    let image = found.expect("it was made where there was none");
    with_tools(cx, search, &definition, Image { emulator, ..image }, on)
}

/// Lays the image's native tools on top of it, where it is emulated and has some that serve; they are made if need be.
fn with_tools(
    cx: &image::Context<'_>,
    search: &Search,
    definition: &Definition,
    made: Image,
    on: Sink<'_>,
) -> Result<Image, ImageError> {
    let name = definition.recipe.native_tools.as_ref().filter(|_| made.emulator.is_some());
    let Some(name) = name else { return Ok(made) };
    let recipe = Definition::find(name, &search.folders_of(config::Kind::Image))?.recipe;
    if recipe.kind != image::Kind::DebianFiles || sandbox::foreign(recipe.architecture.as_str()).is_some() {
        return Err(ImageError::NoTools { image: made.name, tools: name.clone() });
    }
    let tools = image(cx, search, name, on)?;
    made.clone().with_tools(&tools).or_else(|error| {
        on(Event::Warning { what: format!("everything is emulated: {error}") });
        Ok(made)
    })
}

/// Returns what runs the programs of an image that is for another machine, of an image that is made if need be; nothing
/// where this machine does by itself.
pub fn emulator(
    cx: &image::Context<'_>,
    search: &Search,
    definition: &Definition,
    on: Sink<'_>,
) -> Result<Option<Emulator>, ImageError> {
    let recipe = &definition.recipe;
    let foreign = sandbox::foreign(recipe.architecture.as_str()).filter(|_| recipe.kind == image::Kind::Debian);
    let Some(machine) = foreign else { return Ok(None) };
    let none = || ImageError::Foreign { name: definition.name.clone(), architecture: recipe.architecture.clone() };
    let name = recipe.emulator.as_ref().ok_or_else(none)?;
    program(cx, search, name, machine, on)?.ok_or_else(none).map(Some)
}

/// How the programs run that an image cross builds.
pub(super) struct Emulation {
    /// Qemu's name of their machine.
    pub(super) machine: &'static str,
    /// What runs them, or why none can be registered.
    pub(super) emulator: Result<Emulator, EmulationError>,
}

/// Returns what runs the programs that an image cross builds; nothing where the image names none, or they need none. It is made if need be.
pub(super) fn emulation_of_cross(
    cx: &image::Context<'_>,
    search: &Search,
    definition: &Definition,
    on: Sink<'_>,
) -> Result<Option<Emulation>, ImageError> {
    let Some(cross) = &definition.recipe.cross else { return Ok(None) };
    let machine = sandbox::foreign(cross.architecture.as_str());
    let Some((machine, name)) = machine.zip(cross.emulator.as_ref()) else { return Ok(None) };
    if let Err(error) = sandbox::can_emulate(machine) {
        return Ok(Some(Emulation { machine, emulator: Err(error) }));
    }
    let none = || ImageError::Foreign { name: definition.name.clone(), architecture: cross.architecture.clone() };
    let found = program(cx, search, name, machine, on)?.ok_or_else(none)?;
    Ok(Some(Emulation { machine, emulator: Ok(found) }))
}

/// Returns what runs the programs that an image of this name cross builds, where there is something and this machine can
/// register it.
pub fn emulator_of_cross(
    cx: &image::Context<'_>,
    search: &Search,
    name: &Name,
    on: Sink<'_>,
) -> Result<Option<Emulator>, ImageError> {
    let definition = Definition::find(name, &search.folders_of(config::Kind::Image))?;
    Ok(emulation_of_cross(cx, search, &definition, on)?.and_then(|emulation| emulation.emulator.ok()))
}

/// Returns what runs a machine's programs, of the image of this name, which is made if need be; nothing where that is not one
/// of files alone.
pub(super) fn program(
    cx: &image::Context<'_>,
    search: &Search,
    name: &Name,
    machine: &str,
    on: Sink<'_>,
) -> Result<Option<Emulator>, ImageError> {
    let recipe = Definition::find(name, &search.folders_of(config::Kind::Image))?.recipe;
    if recipe.kind != image::Kind::DebianFiles {
        return Ok(None);
    }
    recipe.check_emulator(name, machine)?;
    let image = image(cx, search, name, on)?;
    let program = image.layers.first().map(|layer| layer.join(format!("usr/bin/qemu-{machine}")));
    Ok(program.map(|program| Emulator { machine: machine.to_string(), program }))
}
