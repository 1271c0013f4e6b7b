//! What signals do. SIGINT, SIGTERM, SIGHUP and SIGQUIT ask for an orderly end; a second one ends bindery at once. While
//! `run` or `shell` has a command running, the first SIGINT, and SIGTSTP, are the command's: it may have sent them
//! itself, so to speak, and have its own idea of Ctrl-C.
//!
//! The signals are blocked in every thread and one thread waits for them: that needs no handler, so no `unsafe`, and
//! nothing is ever interrupted half-way. Programs started from here begin with nothing blocked (std sees to that). An
//! abrupt end is safe, too: whatever was leased is found and removed by the next command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::sandbox::{self, Keys};

/// The signal that asked for the end.
static CAUSE: AtomicU8 = AtomicU8::new(0);

/// What signals ask for.
#[derive(Debug, Default, Clone)]
pub(super) struct Asked {
    /// Whether an end was asked for.
    pub(super) cancel: Arc<AtomicBool>,
    /// What is meant for a running command.
    pub(super) keys: Arc<Keys>,
}

/// Returns the exit status of a command that a signal stopped: 128 and its number.
pub(super) fn status() -> u8 {
    match CAUSE.load(Ordering::SeqCst) {
        0 => 130,
        number => 128_u8.saturating_add(number),
    }
}

/// Blocks the signals and starts to wait for them; must be called before any other thread is started.
pub(super) fn catch() -> nix::Result<Asked> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP] {
        set.add(signal);
    }
    set.thread_block()?;
    let asked = Asked::default();
    let told = asked.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut passed_on = false;
            while let Ok(signal) = set.wait() {
                match signal {
                    Signal::SIGTSTP if told.keys.suspend() => {}
                    Signal::SIGTSTP => sandbox::stop_here(),
                    Signal::SIGINT if !passed_on && told.keys.interrupt() => passed_on = true,
                    signal => end(signal, &told),
                }
            }
        })
        .map_err(|_| nix::errno::Errno::EAGAIN)?;
    Ok(asked)
}

fn end(signal: Signal, asked: &Asked) {
    if asked.cancel.load(Ordering::SeqCst) {
        sandbox::restore_terminal();
        std::process::exit(130);
    }
    // Whoever sees that an end is asked for may ask why.
    CAUSE.store(u8::try_from(signal as i32).unwrap_or(0), Ordering::SeqCst);
    asked.cancel.store(true, Ordering::SeqCst);
    super::report::say("bindery: stopping (once more to stop at once)");
}
