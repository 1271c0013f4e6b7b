//! Why an image cannot be made or used.

use std::path::PathBuf;

use super::{AptError, DefinitionError, LayoutError, LockError, SPACE, WheelError, Word};
use crate::atom::Name;
use crate::digest::Digest;
use crate::fs::PathError;
use crate::layer::LayerError;
use crate::process::ProcessError;
use crate::sandbox;
use crate::state::{self, StateError};

/// An image cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Somebody else is making one.
    #[error(transparent)]
    Busy(#[from] state::LockError),
    /// The definition cannot be used.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The lock cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Debian packages cannot be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// Python packages cannot be had.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// The store of images is not as it should be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A layer cannot be worked on.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A program is missing.
    #[error(
        "`{program}` is not installed, and images of kind `debian` are made with it; on Debian: `apt install {package}`"
    )]
    NoProgram {
        /// Which.
        program: &'static str,
        /// What has it.
        package: &'static str,
    },
    /// Too little space.
    #[error("`{}` has {free} MiB free, and making an image takes {}; free some, or use another --state", dir.display(), SPACE >> 20)]
    Space {
        /// Where.
        dir: PathBuf,
        /// MiB.
        free: u64,
    },
    /// A package cannot be read.
    #[error("cannot read what a package says of itself")]
    Field(#[source] ProcessError),
    /// A download is not what it should be.
    #[error("the file of {what} has the digest {found}, not {wanted}")]
    Digest {
        /// Of what.
        what: String,
        /// What it has.
        found: Digest,
        /// What the index or the lock says.
        wanted: Digest,
    },
    /// Putting the root together failed.
    #[error("cannot put the image's root together: {0}")]
    Inside(String),
    /// Other packages were installed than were fetched.
    #[error("the image's root is not what was fetched; missing: {}; added: {}", or_none(missing), or_none(extra))]
    NotAsFetched {
        /// Fetched and not installed.
        missing: String,
        /// Installed and not fetched.
        extra: String,
    },
    /// Nobody says what runs its programs.
    #[error(
        "the image `{name}` is for {architecture}, whose programs this machine cannot run, and its definition names no image of kind `debian-files` \
         as its `emulator`; say `emulator = \"qemu-user\"` in it"
    )]
    Foreign {
        /// The image.
        name: Name,
        /// Debian's name of its architecture.
        architecture: Word,
    },
    /// Nobody runs its programs.
    #[error(
        "the image `{name}` is for {architecture}, whose programs neither this machine nor any emulator that bindery knows of can \
         run; images can be for {}; for another machine, cross build (docs/cross.md)",
        sandbox::architectures().collect::<Vec<_>>().join(", ")
    )]
    NoMachine {
        /// The image.
        name: Name,
        /// Debian's name of its architecture.
        architecture: Word,
    },
    /// The emulators do not have that one.
    #[error(
        "the image `{image}` has no `{program}`: of emulators it keeps {}; write one that has `inherits = \"{image}\"` and \
         `keep = [\"{program}\"]`, and name that as `emulator`",
        or_none(has)
    )]
    NoEmulator {
        /// The image of emulators.
        image: Name,
        /// What it lacks.
        program: String,
        /// Those it has.
        has: String,
    },
    /// What is named as native tools is none.
    #[error(
        "image `{image}` has `native-tools = \"{tools}\"`, and that is no image of kind `debian-files` of this machine's architecture; \
         name one, or leave `native-tools` out: then everything is emulated"
    )]
    NoTools {
        /// The image.
        image: Name,
        /// What it names.
        tools: Name,
    },
    /// Tools that would make something else.
    #[error(
        "the native tools `{tools}` are of other versions than the image `{image}`: {differing}; `bindery image make {tools}` and \
         `bindery image make {image}` make both of the newest"
    )]
    OtherTools {
        /// The image.
        image: Name,
        /// The tools.
        tools: Name,
        /// Packages, with both versions.
        differing: String,
    },
    /// What was built in one image is not for another.
    #[error(
        "what was built in the image `{other}` may not run in the image `{image}`, which was made of other packages: {differing}; \
         `bindery image make {other}` and `bindery image make {image}` make both of the newest"
    )]
    OtherGround {
        /// The image.
        image: Name,
        /// The one that it was built in.
        other: Name,
        /// Packages, with both versions.
        differing: String,
    },
    /// The user wants no more of it.
    #[error("making the image was cancelled")]
    Cancelled,
    /// There is nothing to make it again from.
    #[error("there is no lock for the image `{0}`; `bindery image make {0}` without --locked writes one")]
    NoLock(Name),
    /// The definition has changed since.
    #[error(
        "the lock of the image `{name}` was made from another definition; `bindery image make {name}` without --locked makes a new one"
    )]
    OtherDefinition {
        /// The image.
        name: Name,
    },
    /// Packages are no longer there.
    #[error(
        "the image `{name}` cannot be made as its lock says, because Debian's index has changed:\n  {}\n`bindery image \
         make {name}` without --locked takes the newest versions",
        objections.join("\n  ")
    )]
    Gone {
        /// The image.
        name: Name,
        /// What is missing, one line each.
        objections: Vec<String>,
    },
    /// The same packages made something else.
    #[error(
        "the image `{name}` was made of what its lock names and is not the same: its layer is {found}, not {}",
        wanted.as_ref().map_or("any".to_string(), Digest::to_string)
    )]
    Different {
        /// The image.
        name: Name,
        /// What came out.
        found: Digest,
        /// What the lock says.
        wanted: Option<Digest>,
    },
    /// It is not there.
    #[error("the image `{0}` is not made yet; `bindery image make {0}` makes it")]
    NotMade(Name),
    /// Its files in the store are damaged.
    #[error("the image `{name}` is damaged; `bindery image make {name}` makes it again")]
    Damaged {
        /// The image.
        name: Name,
        /// Which file, and how.
        source: LayoutError,
    },
    /// It cannot be unpacked.
    #[error("the image `{name}` cannot be unpacked from `{}`; `bindery image make {name}` makes it again", file.display())]
    Unpack {
        /// The image.
        name: Name,
        /// The blob.
        file: PathBuf,
        /// What is wrong.
        source: LayerError,
    },
    /// Its unpacked files were changed.
    #[error("the image `{name}` is damaged: files in `{}` were changed; remove that folder and it is unpacked again", folder.display())]
    Changed {
        /// The image.
        name: Name,
        /// Where it is unpacked.
        folder: PathBuf,
    },
    /// The id range is another now.
    #[error("`{}` belongs to the id range from {uid}, and bindery now uses the one from {now}; use the former again, or another --state", folder.display())]
    OtherRange {
        /// Where it is unpacked.
        folder: PathBuf,
        /// Whose it is.
        uid: u32,
        /// The range in use.
        now: u32,
    },
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

impl ImageError {
    /// Returns whether it is about this host, whatever image is made.
    pub fn is_of_host(&self) -> bool {
        matches!(
            self,
            Self::Path(_) | Self::State(_) | Self::Busy(_) | Self::Layer(_) | Self::Space { .. } | Self::Field(_)
        )
    }
}
