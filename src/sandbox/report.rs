//! What the processes of a sandbox tell each other on their channels.

use std::path::PathBuf;

use serde_json::value::RawValue;

use crate::sandbox::plan::{Plan, Process};
use crate::sandbox::watch::Seen;
use crate::sandbox::without::Without;

/// Supervisor to enter, before anything is known of the root.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Begin {
    /// The supervisor's process id.
    pub(super) parent: i32,
    pub(super) base: PathBuf,
    /// The host's network instead of a namespace.
    pub(super) host_network: bool,
    /// Whether a limit counts processes, and with them threads.
    pub(super) counted: bool,
    pub(super) without: Without,
}

/// Supervisor to enter, with the payload's standard streams unless it gets a terminal, then layers and binds if they are
/// opened.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Start<P = Plan> {
    /// The lease's folder, relative to the base folder.
    pub(super) folder: PathBuf,
    /// Whether that is to be emptied at the end.
    pub(super) discard: bool,
    /// Whether the supervisor, as root, has opened what is to be bound.
    pub(super) opened: bool,
    /// As text for enter, which passes it on.
    pub(super) plan: P,
}

/// Enter to init, with a descriptor of itself: the maps are written, and these namespaces are enter's own by now.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Join {
    pub(super) network: bool,
    pub(super) ipc: bool,
    /// Whether a limit counts threads.
    pub(super) counted: bool,
}

/// Enter to init, with the channel to the supervisor, the payload's streams, and the binds.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct StartInit<P = Plan<Box<RawValue>>> {
    pub(super) folder: PathBuf,
    pub(super) plan: P,
}

/// Init to payload, with the root and its standard streams.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct StartPayload<P = Process> {
    pub(super) process: P,
    /// Whether its standard streams are a terminal of its own.
    pub(super) terminal: bool,
    /// Whether it shares the host's network, with the abstract sockets in it.
    pub(super) host_network: bool,
    pub(super) without: Without,
}

/// Go on: the maps are written.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Mapped;

/// Supervisor to init: the terminal has its size and somebody who reads it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Connected;

/// Payload to init, before it becomes the command.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum PayloadReport {
    /// It waits for its maps.
    Unshared,
    /// It cannot go on.
    Failed(Failure),
}

/// Enter and init to the supervisor.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Report {
    /// Enter waits for its maps.
    Unshared,
    /// Init has this process id on the host.
    Started(i32),
    /// The payload's terminal comes along.
    Terminal,
    /// The command is about to run; a descriptor of its process comes along.
    Running,
    /// What was seen of the files that are watched; the command has ended.
    Watched(Vec<Seen>),
    /// The command has ended.
    Exited(Status),
    /// Init ended without a word: this is how.
    Lost(String),
    /// A step failed.
    Failed(Failure),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Status {
    /// It ended by itself with this exit code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl Status {
    /// Returns whether the command succeeded.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Why there is no running command.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Failure {
    /// A step of the set-up failed.
    Setup(String),
    /// The kernel refuses user namespaces.
    Refused(String),
    /// The command cannot be started; whether it was not found.
    Command {
        /// Its name and what the kernel said.
        message: String,
        missing: bool,
    },
}
