//! Images are made one at a time; whoever comes second waits.

use super::{Context, ImageError};
use crate::atom::Name;
use crate::event::{Event, Sink};
use crate::state::Lock;

/// The right to make images.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "is held")] Lock);

/// Waits until no other process makes images; says so where one does.
pub fn turn(cx: &Context<'_>, name: &Name, events: Sink<'_>) -> Result<Turn, ImageError> {
    let lock = Lock::wait(&cx.state.images().join(".lock"), cx.cancel, |holder| {
        let what = format!("image {name} waits for process {holder}: another bindery is making an image");
        events(Event::Step { what });
    })?;
    lock.map(Turn).ok_or(ImageError::Cancelled)
}
