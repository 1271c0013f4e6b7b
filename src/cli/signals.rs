//! SIGINT, SIGTERM and SIGHUP ask for an orderly end; a second one ends bindery at once.
//!
//! The signals are blocked in every thread and one thread waits for them: that needs no handler, so no `unsafe`, and
//! nothing is ever interrupted half-way. Programs started from here begin with nothing blocked (std sees to that). An
//! abrupt end is safe, too: whatever was leased is found and removed by the next command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

/// Blocks the signals and starts to wait for them; must be called before any other thread is started. Returns the flag
/// that the first signal sets.
pub(super) fn catch() -> nix::Result<Arc<AtomicBool>> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    let asked = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&asked);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            while set.wait().is_ok() {
                if flag.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
                super::report::say("bindery: stopping (once more to stop at once)");
            }
        })
        .map_err(|_| nix::errno::Errno::EAGAIN)?;
    Ok(asked)
}
