//! What happened, as values: modules emit events, `cli` shows them, a run keeps them as JSON lines.

use std::path::PathBuf;

use crate::atom::{BuildId, Cpv, Name};
use crate::digest::Digest;

/// Takes events as they happen. Modules call it and know nothing of terminals or files.
pub type Sink<'a> = &'a mut dyn FnMut(Event);

/// What becomes of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is built.
    Build,
    /// The one in the pool is used again.
    Reuse,
    /// It is taken over from another profile.
    Share,
}

/// One thing that happened. The JSON form is an object with the event's name under `event`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// A run started.
    RunStarted {
        /// The run's id.
        run: String,
        /// For which profile.
        profile: Name,
    },
    /// An image is being made; this takes a while.
    ImageStarted {
        /// The image.
        image: Name,
    },
    /// A step of a longer operation, for people who wait.
    Step {
        /// What is being done, as a sentence fragment.
        what: String,
    },
    /// An image is ready.
    ImageReady {
        /// The image.
        image: Name,
        /// Its manifest's digest.
        digest: Digest,
        /// Whether it was there already.
        cached: bool,
    },
    /// The plan is known.
    Planned {
        /// How many packages are to be built.
        build: usize,
        /// How many are taken from the pool.
        reuse: usize,
        /// How many are taken over from other profiles.
        #[serde(default)]
        share: usize,
    },
    /// What becomes of a package that is built with some that were built again in this run.
    Settled {
        /// The package.
        cpv: Cpv,
        /// What becomes of it.
        verdict: Verdict,
        /// Why, each reason by itself.
        because: Vec<String>,
    },
    /// A package without compiled code was taken over from another profile.
    Shared {
        /// The package.
        cpv: Cpv,
        /// Its number in the pool.
        build_id: BuildId,
        /// The profile that it is from.
        profile: Name,
        /// Its content digest.
        content: Digest,
    },
    /// A source archive is being fetched.
    Fetching {
        /// The archive's name.
        file: String,
        /// From where.
        uri: String,
    },
    /// A source archive is there and verified.
    Fetched {
        /// The archive's name.
        file: String,
        /// Its length in bytes.
        size: u64,
    },
    /// A package's build started.
    BuildStarted {
        /// The package.
        cpv: Cpv,
        /// Where its log is being written.
        log: PathBuf,
        /// Which of the packages to build this is, from 1.
        number: usize,
        /// How many are to be built.
        of: usize,
    },
    /// Somebody changed the limits of what is being built.
    LimitsChanged {
        /// Each limit with what gives it now.
        limits: std::collections::BTreeMap<String, String>,
    },
    /// What building a package took, whatever became of it; again for each attempt.
    Spent {
        /// The package.
        cpv: Cpv,
        /// Wall time in milliseconds.
        milliseconds: u64,
        /// Processor time in milliseconds.
        cpu_milliseconds: u64,
    },
    /// A package was built, checked, signed and put into the pool.
    BuildFinished {
        /// The package.
        cpv: Cpv,
        /// Its number in the pool.
        build_id: BuildId,
        /// Its content digest.
        content: Digest,
        /// Wall time in milliseconds.
        milliseconds: u64,
    },
    /// A package was built, and of some that it declares it needs to be built, nothing was opened.
    Unused {
        /// The package that declares them.
        cpv: Cpv,
        /// The packages that were not used.
        dependencies: Vec<Cpv>,
    },
    /// A package holds code beyond the profile's level that was let pass.
    Audited {
        /// The package.
        cpv: Cpv,
        /// How many functions are only reached where the processor has what they need.
        dispatched: u64,
        /// How many the profile's exceptions let pass.
        excepted: u64,
    },
    /// What the profile's exceptions from its level came to, of all that is published.
    Excepted {
        /// How many of them let something pass.
        exceptions: u64,
        /// How much.
        passed: u64,
        /// Those that let nothing pass of the packages they name.
        unused: Vec<String>,
    },
    /// A package could not be built.
    BuildFailed {
        /// The package.
        cpv: Cpv,
        /// Why, in one sentence.
        reason: String,
        /// The lines of the log that tell it.
        telling: Vec<String>,
        /// Where the whole log is.
        log: PathBuf,
    },
    /// A package was not tried, because one it needs failed.
    BuildSkipped {
        /// The package.
        cpv: Cpv,
        /// The package that failed.
        because: Cpv,
    },
    /// A generation became current.
    Published {
        /// The generation's number.
        generation: u64,
        /// Its folder.
        path: PathBuf,
        /// How many packages it holds.
        packages: usize,
    },
    /// Something a dead process left behind was removed.
    Reaped {
        /// What.
        what: String,
    },
    /// Something that went well, but not as asked for, or not for long.
    Warning {
        /// What, as a sentence fragment.
        what: String,
    },
}
