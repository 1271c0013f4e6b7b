//! Which limit a command ran into, as a sentence.

use crate::sandbox::cgroup::bytes;
use crate::sandbox::{Exit, Stopped};

impl Exit {
    /// Returns why the command was stopped or could not go on, with the limit and, where memory was short, who was
    /// killed; none if it ended by itself.
    pub fn reached(&self) -> Option<String> {
        let stopped = self.stopped?;
        Some(match (stopped, self.memory_limit, self.pids_limit) {
            (Stopped::Memory, Some(limit), _) => {
                format!("out of memory: the limit of {} was reached, {}", bytes(limit), self.victims())
            }
            (Stopped::Processes, _, Some(limit)) => {
                format!("could not start a process: the limit of {limit} was reached")
            }
            _ => stopped.to_string(),
        })
    }

    fn victims(&self) -> String {
        let names: Vec<_> = self.oom_killed.iter().map(|k| format!("{} (process {})", k.name, k.pid)).collect();
        // Several jobs at a time may have been hit.
        match names.as_slice() {
            [] => "and the kernel killed a process".to_string(),
            [one] => format!("{one} was killed"),
            [first, second] => format!("{first} and {second} were killed"),
            [first, .., last] => format!("{first}, {} others and {last} were killed", names.len() - 2),
        }
    }
}
