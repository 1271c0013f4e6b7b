//! The first processes of a sandbox, started while what they shall run is still being found out.
//!
//! What needs neither root nor command takes half of a sandbox's start: a process of our own, its user namespace and the
//! maps of that (for an ordinary user two setuid programs), all other namespaces, and init. Here it is done beside the
//! caller's own work: [`first`] starts the process, which needs nothing at all, [`First::begin`] has it go on once the ids
//! are known; a thread writes the maps.

use std::path::Path;
use std::thread::JoinHandle;

use crate::sandbox::plan::Plan;
use crate::sandbox::report::Begin;
use crate::sandbox::supervise::Sandbox;
use crate::sandbox::without::Without;
use crate::sandbox::{IdRange, SandboxError};

/// A sandbox that waits for something to run. Dropping it ends it.
#[derive(Debug)]
pub struct Early {
    mapping: JoinHandle<Result<Sandbox, SandboxError>>,
    base: std::path::PathBuf,
    host_network: bool,
}

/// A sandbox's first process, which waits to be told where to begin. Dropping it ends it.
#[derive(Debug)]
pub struct First(Sandbox);

/// Starts the first process of a sandbox without limits: those need control groups, or a file system, that must be there
/// before. Must be called by the thread that runs it afterwards, whose end is also the sandbox's.
pub fn first() -> Result<First, SandboxError> {
    Ok(First(Sandbox::new(&Without::default(), None)?))
}

impl First {
    /// Goes on for a request with these ids, this base folder, which is there, and this network.
    pub fn begin(self, ids: &IdRange, base: &Path, host_network: bool) -> Result<Early, SandboxError> {
        let Self(mut sandbox) = self;
        sandbox.begin(&begin(base, host_network, false, Without::default()))?;
        let ids = ids.clone();
        let mapping = std::thread::spawn(move || sandbox.map(&ids).map(|()| sandbox));
        Ok(Early { mapping, base: base.to_path_buf(), host_network })
    }
}

/// Returns what to tell enter first.
pub(super) fn begin(base: &Path, host_network: bool, counted: bool, without: Without) -> Begin {
    let parent = i32::try_from(std::process::id()).expect("Linux process ids are below 2^22");
    Begin { parent, base: base.to_path_buf(), host_network, counted, without }
}

impl Early {
    /// Returns whether it is what a plan without limits needs.
    pub(super) fn serves(&self, plan: &Plan, base: &Path) -> bool {
        self.base == base
            && self.host_network == plan.host_network
            && plan.limits.disk.is_none()
            && plan.without.args().is_none()
    }

    /// Returns the sandbox once its ids are mapped.
    pub(super) fn ready(self) -> Result<Sandbox, SandboxError> {
        self.mapping.join().expect("mapping the ids does not panic")
    }
}
