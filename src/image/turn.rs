//! Images are made one at a time; whoever comes second waits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Context, ImageError};
use crate::atom::Name;
use crate::event::{Event, Sink};
use crate::state::{Lock, LockError};

/// How often it is looked whether the other is ready: making an image takes minutes.
const PAUSE: Duration = Duration::from_millis(100);

/// The right to make images.
#[derive(Debug)]
pub struct Turn {
    _lock: Lock,
    /// Whether another process has made images meanwhile: it may have been this one.
    pub waited: bool,
}

/// Waits until no other process makes images; says so where one does.
pub fn turn(cx: &Context<'_>, name: &Name, events: Sink<'_>) -> Result<Turn, ImageError> {
    let file = cx.state.images().join(".lock");
    let mut waited = false;
    loop {
        match Lock::take(&file) {
            Ok(lock) => return Ok(Turn { _lock: lock, waited }),
            Err(LockError::Held { .. }) if cx.cancel.load(Ordering::Relaxed) => return Err(ImageError::Cancelled),
            Err(LockError::Held { holder, .. }) if !waited => {
                waited = true;
                let what = format!("image {name} waits for process {holder}: another bindery is making an image");
                events(Event::Step { what });
            }
            Err(LockError::Held { .. }) => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}
