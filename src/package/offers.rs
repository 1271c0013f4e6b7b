//! The output digest: what a package offers those who are built with it, in parts, so that a package that is built again
//! and offers the same rebuilds nobody. Which part counts for whom, and why that is sound, is in `docs/keys.md`.
//!
//! ```text
//! link      what compiling and linking can see: every file by its content, but for
//!             programs and shared libraries, of which only the ABI counts (`offers/abi.rs`)
//!             static archives and objects, which are a part of their own
//! archives  static archives and objects, by their content
//! tools     what running its programs can see: every file by its content
//! ```
//!
//! Documentation (`/usr/share/{doc,info,man}`) and split debug information (`/usr/lib/debug`) are in no part. No part holds
//! times. A header's comments and white space count: its lines have numbers, and some generators read comments. Of a
//! package that runs code of its own when it is merged, `link` and `tools` hold its saved environment, too.
//!
//! Each part is the SHA-256 of lines, fields separated by tabs, in the order of the image:
//!
//! ```text
//! offers VERSION PART
//! environment SHA256                      only with phases that run at merging
//! folder  MODE UID GID PATH
//! symlink PATH TARGET
//! file    MODE UID GID SHA256 PATH        a hard link is a file like any other
//! abi     MODE UID GID SHA256 PATH        in `link` only
//! ```
//!
//! With them goes the proof that a package holds no compiled code (`offers/code.rs`). All of this reads hostile bytes, and runs
//! where the package is read: in a sandbox. What cannot be understood counts by its content and as code.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write as _};

use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, hex};

use super::archive::ArchiveError;
use super::environment::{self, EnvironmentError};
use super::header::{Header, Kind};
use super::metadata::{self, ENVIRONMENT, Metadata};

pub(super) mod abi;
mod code;

pub use code::{Code, Why, names_flags};

/// Changes whenever the same package would get other digests.
const VERSION: u32 = 1;
/// Changes whenever a package that was proven to hold no code might not be any more.
const PROOF: u32 = 1;
/// The longest ELF file that is parsed, in bytes: it has to be in memory. Longer ones count by their content.
const LONGEST: u64 = 256 << 20;
/// How much is read at a time, in bytes.
const CHUNK: usize = 1 << 16;
/// What is of no use to any build.
const DOCUMENTATION: [&str; 4] = ["/usr/lib/debug", "/usr/share/doc", "/usr/share/info", "/usr/share/man"];
/// Phases that run when a package is merged, as `DEFINED_PHASES` names them.
const MERGING: [&str; 4] = ["postinst", "preinst", "pretend", "setup"];

/// The output digest of a package.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offers {
    version: u32,
    /// What compiling and linking against it can see.
    pub link: Digest,
    /// What linking statically takes over.
    pub archives: Digest,
    /// What running its programs can see.
    pub tools: Digest,
    /// What shows that it may hold compiled code; nothing where it is proven to hold none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<Code>,
    /// The rules of the proof; records of earlier binderies have none.
    #[serde(default)]
    proof: u32,
}

impl Offers {
    /// Returns whether the digests were made by the rules that this bindery has, and can be compared with its own.
    pub fn is_current(&self) -> bool {
        self.version == VERSION
    }

    /// Returns why the package may hold compiled code, or otherwise depend on the flags for the compiler; nothing where it
    /// is proven that it does not, by the rules that this bindery has: then it serves for other flags, too.
    pub fn not_proven(&self) -> Option<String> {
        match &self.code {
            Some(code) => Some(code.to_string()),
            None => (self.proof != PROOF).then(|| "an earlier bindery looked at it".to_string()),
        }
    }
}

/// Takes a package's entries in the order of its image.
pub struct Collector {
    link: Sha256,
    archives: Sha256,
    tools: Sha256,
    /// What hard links may name.
    files: HashMap<Vec<u8>, Item>,
    /// What no text may have.
    options: Vec<Vec<u8>>,
    code: Option<Code>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// What is known of a file.
struct Item {
    content: [u8; 32],
    form: Form,
}

/// What a linker can see of a file.
enum Form {
    /// All of it.
    Plain,
    /// All of it, and it becomes a part of what is linked with it.
    Archive,
    /// Its ABI: the digest.
    Dynamic([u8; 32]),
}

impl Collector {
    /// Starts with a package's canonical metadata.
    pub fn new(metadata: &Metadata) -> Result<Self, EnvironmentError> {
        let [mut link, archives, mut tools] = ["link", "archives", "tools"].map(|part| {
            let mut hash = Sha256::new();
            line(&mut hash, format_args!("offers {VERSION} {part}"));
            hash
        });
        let phases = metadata.get("DEFINED_PHASES").map(|value| String::from_utf8_lossy(value)).unwrap_or_default();
        let merges = phases.split_whitespace().any(|phase| MERGING.contains(&phase));
        if let Some(packed) = metadata.get(ENVIRONMENT).filter(|_| merges) {
            let text = environment::unpack(packed, metadata::LIMIT)?;
            for hash in [&mut link, &mut tools] {
                line(hash, format_args!("environment\t{}", Digest::of(&text).hex()));
            }
        }
        let (options, code) = (code::options(metadata), code::later(metadata)?);
        Ok(Self { link, archives, tools, files: HashMap::new(), options, code })
    }

    /// Takes an entry, whose path was checked, and reads its data to the end.
    pub fn entry(&mut self, entry: &Header, data: &mut dyn Read) -> Result<(), ArchiveError> {
        let name = entry.name.strip_suffix(b"/").unwrap_or(&entry.name);
        let path = String::from_utf8_lossy(name.strip_prefix(b"image").unwrap_or(name)).into_owned();
        let idle = is_documentation(&path);
        let Header { mode, uid, gid, .. } = entry;
        match entry.kind {
            Kind::Folder if !idle => self.both(format_args!("folder\t{mode:o}\t{uid}\t{gid}\t{path}")),
            Kind::SymLink if !idle => {
                self.both(format_args!("symlink\t{path}\t{}", String::from_utf8_lossy(&entry.target)));
            }
            Kind::HardLink => {
                // That it is there was checked; without it, nothing is offered.
                if let Some(item) = self.files.remove(&entry.target) {
                    self.file(entry, &path, &item);
                    self.files.insert(entry.target.clone(), item);
                }
            }
            Kind::File => {
                let item = self.read(entry, &path, data)?;
                self.file(entry, &path, &item);
                self.files.insert(entry.name.clone(), item);
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the digests of all that was taken.
    pub fn finish(self) -> Offers {
        let [link, archives, tools] =
            [self.link, self.archives, self.tools].map(|hash| Digest::from(<[u8; 32]>::from(hash.finalize())));
        Offers { version: VERSION, link, archives, tools, code: self.code, proof: PROOF }
    }

    fn both(&mut self, text: fmt::Arguments<'_>) {
        line(&mut self.link, text);
        line(&mut self.tools, text);
    }

    fn file(&mut self, entry: &Header, path: &str, item: &Item) {
        if is_documentation(path) {
            return;
        }
        let Header { mode, uid, gid, .. } = entry;
        let content = hex(&item.content);
        let text = format_args!("file\t{mode:o}\t{uid}\t{gid}\t{content}\t{path}");
        line(&mut self.tools, text);
        match &item.form {
            Form::Plain => line(&mut self.link, text),
            Form::Archive => line(&mut self.archives, text),
            Form::Dynamic(abi) => {
                line(&mut self.link, format_args!("abi\t{mode:o}\t{uid}\t{gid}\t{}\t{path}", hex(abi)));
            }
        }
    }

    fn read(&mut self, entry: &Header, path: &str, data: &mut dyn Read) -> Result<Item, ArchiveError> {
        let mut hash = Sha256::new();
        let mut scan = self.code.is_none().then(|| code::Scan::new(&self.options));
        let (mut elf, mut archive) = (None, false);
        let mut chunk = vec![0; CHUNK];
        let mut first = true;
        loop {
            let length = fill(data, &mut chunk)?;
            let bytes = chunk.get(..length).unwrap_or_default();
            if std::mem::take(&mut first) {
                archive = code::is_archive(bytes);
                let length = usize::try_from(entry.size).unwrap_or(usize::MAX);
                elf = (code::is_elf(bytes) && entry.size <= LONGEST).then(|| Vec::with_capacity(length));
            }
            hash.update(bytes);
            if let Some(scan) = &mut scan {
                scan.take(bytes);
            }
            if let Some(elf) = &mut elf {
                elf.extend_from_slice(bytes);
            }
            if length < chunk.len() {
                break;
            }
        }
        if let Some(why) = scan.and_then(|scan| scan.finish(is_documentation(path))) {
            self.code = Some(Code { path: path.to_string(), why });
        }
        let form = match elf.map(|elf| abi::of(&elf)) {
            Some(Some(abi::Elf::Dynamic(digest))) => Form::Dynamic(digest),
            Some(Some(abi::Elf::Object)) => Form::Archive,
            None if archive => Form::Archive,
            Some(None) | None => Form::Plain,
        };
        Ok(Item { content: hash.finalize().into(), form })
    }
}

/// What a linker, or who runs it, sees of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its content.
    Plain([u8; 32]),
    /// Its content, which becomes a part of what is linked with it.
    Archive([u8; 32]),
    /// A program or library.
    Dynamic {
        /// Its content.
        content: [u8; 32],
        /// What makes its ABI.
        abi: Vec<Vec<u8>>,
    },
}

/// Reads a file's data to the end, and returns what is seen of it.
pub(super) fn see(entry: &Header, data: &mut dyn Read) -> Result<Seen, ArchiveError> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let (mut elf, mut archive, mut first) = (None, false, true);
    loop {
        let length = fill(data, &mut chunk)?;
        let bytes = chunk.get(..length).unwrap_or_default();
        if std::mem::take(&mut first) {
            archive = code::is_archive(bytes);
            elf = (code::is_elf(bytes) && entry.size <= LONGEST).then(Vec::new);
        }
        hash.update(bytes);
        if let Some(elf) = &mut elf {
            elf.extend_from_slice(bytes);
        }
        if length < chunk.len() {
            break;
        }
    }
    let content = hash.finalize().into();
    let described = elf.as_deref().and_then(abi::described);
    Ok(match described {
        Some(Some(abi)) => Seen::Dynamic { content, abi },
        Some(None) => Seen::Archive(content),
        None if archive => Seen::Archive(content),
        None => Seen::Plain(content),
    })
}

pub(super) fn is_documentation(path: &str) -> bool {
    let below = |folder: &&str| path.strip_prefix(*folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    DOCUMENTATION.iter().any(below)
}

/// Reads until the buffer is full or nothing is left.
fn fill(data: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match data.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

fn line(hash: &mut Sha256, text: fmt::Arguments<'_>) {
    // Hashing cannot fail.
    let _ = writeln!(hash, "{text}");
}

#[cfg(test)]
mod tests;
