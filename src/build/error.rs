//! Why a run could not go on, whose fault it is, and what to do.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::atom::{Atom, Cpv};
use crate::backend::{ResolutionError, SettingsError, UnknownBackend};
use crate::binhost::generation::GenerationError;
use crate::binhost::pool::PoolError;
use crate::build::audit::Beyond;
use crate::build::explain::{self, Explanation};
use crate::build::method::MethodError;
use crate::distfiles::FetchError;
use crate::fs::PathError;
use crate::image::ImageError;
use crate::layer::LayerError;
use crate::layer::derive::DeriveError;
use crate::layer::stack::StackError;
use crate::package::{NormaliseError, SigningKeyError};
use crate::plan::{GraphError, InputsError, Refusal, Why};
use crate::sandbox::SandboxError;
use crate::state::{LockError, StateError};
use crate::tree::TreeError;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// What was asked for, or configured, is wrong.
    User,
    /// A package is.
    Package,
    /// The host cannot do it.
    Host,
    /// A signal stopped it.
    Signal,
}

/// A run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A signal asked for an end.
    #[error("stopped")]
    Interrupted,
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another bindery is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no image.
    #[error(transparent)]
    Image(Box<ImageError>),
    /// Packages cannot be built in the way that is asked for.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A tree cannot be used.
    #[error(transparent)]
    Tree(Box<TreeError>),
    /// The profile names a backend that is none.
    #[error(transparent)]
    Backend(#[from] UnknownBackend),
    /// The profile says something that cannot be written down.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The resolver failed.
    #[error("the package manager's resolver failed: {exit}")]
    Resolver {
        /// How it ended.
        exit: String,
    },
    /// The resolver's answer is none.
    #[error(transparent)]
    Resolution(#[from] ResolutionError),
    /// There is no plan for what was asked.
    #[error("cannot plan this:{}", explain::show(problems, *more))]
    Unsolvable {
        /// What stands in the way, and what to change.
        problems: Vec<Explanation>,
        /// How many more such things there are.
        more: u32,
    },
    /// Some packages cannot be built here.
    #[error("cannot build this:{}", refusals.iter().map(|r| format!("\n  {r}")).collect::<String>())]
    Refused {
        /// Which, and why.
        refusals: Vec<Refusal>,
        /// Where archives are put by hand.
        distfiles: PathBuf,
    },
    /// The resolver's plan contradicts itself.
    #[error(transparent)]
    Graph(Box<GraphError>),
    /// What a package is built from cannot be read.
    #[error(transparent)]
    Inputs(#[from] InputsError),
    /// Source archives cannot be had.
    #[error(transparent)]
    Fetch(Box<FetchError>),
    /// The signing key cannot be used.
    #[error(transparent)]
    Key(SigningKeyError),
    /// A sandbox could not be set up.
    #[error(transparent)]
    Sandbox(Box<SandboxError>),
    /// Something in the id range could not be done.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A package's layer could not be made.
    #[error("cannot make the layer of a package")]
    Derive(#[from] DeriveError),
    /// Layers could not be stacked.
    #[error("cannot stack the layers of packages")]
    Stack(#[from] StackError),
    /// A package could not be signed.
    #[error("cannot sign the package")]
    Sign(#[source] SigningKeyError),
    /// A package is not right after it was signed.
    #[error("the package that was just signed is not right: {0}")]
    Unverified(String),
    /// What the sandbox says of a package cannot be.
    #[error(transparent)]
    Normalise(#[from] NormaliseError),
    /// The pool cannot be used.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The generation could not be published.
    #[error(transparent)]
    Generation(Box<GenerationError>),
    /// A build left something that is no package.
    #[error("its package is refused: {0}")]
    Odd(String),
    /// A package needs more of processors than its profile's have.
    #[error("its package is refused: {0}")]
    Beyond(Box<Beyond>),
    /// A package of the plan is not there when it is its turn.
    #[error("`{cpv}` is no longer in the pool; start again")]
    Vanished {
        /// The package.
        cpv: Cpv,
    },
    /// The host's disk is full.
    #[error("the disk that `{}` is on is full, and {what} was stopped", folder.display())]
    Full {
        /// What was being done.
        what: String,
        /// The state's folder.
        folder: PathBuf,
        /// What a write says.
        source: std::io::Error,
    },
    /// There is nothing to be run for what was asked.
    #[error("no package is meant by `{atom}`, so there is no step to make a bundle of; name a package")]
    NoStep {
        /// What was asked for.
        atom: Atom,
    },
    /// A bundle is to be made of a step that needs what is not built.
    #[error("`{cpv}` needs `{needed}`, which is not built as it would be now; build it first")]
    NotBuilt {
        /// The package.
        cpv: Cpv,
        /// What it needs.
        needed: Box<Cpv>,
    },
    /// The plan's order is wrong.
    #[error("`{cpv}` is to be built before `{needed}`, which it needs; this is a bug")]
    Order {
        /// The package.
        cpv: Cpv,
        /// What it needs.
        needed: Box<Cpv>,
    },
}

/// The larger ones are boxed: every function that may fail carries the room for the largest.
macro_rules! boxed {
    ($($variant:ident($error:ty)),*) => {$(
        impl From<$error> for BuildError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        }
    )*};
}

boxed!(
    Fetch(FetchError),
    Generation(GenerationError),
    Graph(GraphError),
    Image(ImageError),
    Sandbox(SandboxError),
    Tree(TreeError)
);

impl BuildError {
    /// Returns that a signal asked for an end where one did: what was stopped in the midst says something else.
    #[must_use]
    pub fn or_interrupted(self, cancel: &AtomicBool) -> Self {
        if cancel.load(Ordering::SeqCst) { Self::Interrupted } else { self }
    }

    /// Returns whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Interrupted => Blame::Signal,
            Self::Tree(_)
            | Self::Method(_)
            | Self::Backend(_)
            | Self::Settings(_)
            | Self::Unsolvable { .. }
            | Self::Refused { .. }
            | Self::Inputs(_)
            | Self::Fetch(_)
            | Self::Key(_)
            | Self::NoStep { .. }
            | Self::NotBuilt { .. }
            | Self::Lock(LockError::Held { .. }) => Blame::User,
            Self::Odd(_) | Self::Beyond(_) | Self::Resolver { .. } | Self::Resolution(_) | Self::Graph(_) => {
                Blame::Package
            }
            _ => Blame::Host,
        }
    }

    /// Returns what to do about it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused { refusals, distfiles } if refusals.iter().any(|r| matches!(r.why, Why::Fetch(_))) => {
                vec![format!("the folder of distfiles is `{}`", distfiles.display())]
            }
            Self::Method(error) => error.hints(),
            _ => Vec::new(),
        }
    }
}
