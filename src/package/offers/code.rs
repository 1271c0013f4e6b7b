//! The proof that a package holds no compiled code: every file is looked at, and each must be something that is known not
//! to be code and not to depend on the compiler's flags for one processor or another. What is unknown may be code.
//!
//! A file is harmless if it is text (no zero byte) that names no such flag, or begins like a data format of the list
//! below. Compressed files and archives may hold anything; only documentation may be compressed, as Portage does it.
//! Python's and Java's byte code is the same for every processor; Java's begins like a program for another system, so it
//! is not on the list. Nor may a text have the options that the package was compiled with (`CFLAGS` and its like, as a
//! whole), nor the saved environment compile when the package is merged or removed.

use std::fmt;

use crate::package::environment::{self, EnvironmentError};
use crate::package::metadata::{self, ENVIRONMENT, Metadata};

/// Beginnings of executable formats, of objects, and of what compilers keep: ELF, static archives (also thin ones), PE and
/// DOS, Mach-O, LLVM bit code, WebAssembly, precompiled headers of GCC and Clang, Rust's metadata.
const COMPILED: [&[u8]; 15] = [
    ELF,
    ARCHIVE,
    THIN,
    b"MZ",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"BC\xc0\xde",
    b"\xde\xc0\x17\x0b",
    b"\0asm",
    b"gpch",
    b"CPCH",
    b"rust",
];
const ELF: &[u8] = b"\x7fELF";
const ARCHIVE: &[u8] = b"!<arch>\n";
const THIN: &[u8] = b"!<thin>\n";

/// Beginnings of what may hold other files: gzip, bzip2, xz, zstandard, lz4, lzip, zip.
const PACKED: [&[u8]; 7] =
    [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"LZIP", b"PK\x03\x04"];

/// Beginnings of data: PNG, GIF, JPEG, message catalogues of both byte orders, time zones, TrueType and OpenType, WOFF,
/// Ogg, RIFF.
const DATA: [&[u8]; 12] = [
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"\xff\xd8\xff",
    b"\xde\x12\x04\x95",
    b"\x95\x04\x12\xde",
    b"TZif",
    b"\0\x01\0\0",
    b"OTTO",
    b"wOFF",
    b"wOF2",
    b"OggS",
    b"RIFF",
];

/// Texts that say for which processor something was compiled, or would be: options of compilers, the names of variables
/// that say it, and what configured headers call instruction sets. What profiles that share packages may differ in is
/// among these (`plan/share.rs`, a test compares them).
const FLAGS: [&[u8]; 33] = [
    b"-march=",
    b"-mcpu=",
    b"-mtune=",
    b"-mfpu=",
    b"-mavx",
    b"-msse",
    b"-mssse",
    b"-mmmx",
    b"-mfma",
    b"-mbmi",
    b"-mf16c",
    b"-mpopcnt",
    b"-maes",
    b"-target-cpu",
    b"-C target-",
    b"-Ctarget-",
    b"_FLAGS_X86",
    b"_FLAGS_ARM",
    b"_FLAGS_PPC",
    b"_AVX",
    b"_SSE",
    b"_SSSE",
    b"_MMX",
    b"_NEON",
    b"_ALTIVEC",
    b"_VSX",
    b"GOAMD64",
    b"GO386",
    b"GOARM",
    b"GOMIPS",
    b"GOPPC64",
    b"GORISCV64",
    b"GOLOONG64",
];
/// The longest value of a variable that is looked for, in bytes.
const LONGEST: usize = 1 << 12;
/// One less than the longest of [`FLAGS`]: what must be kept of the bytes before, where nothing longer is looked for.
const KEPT: usize = 10;
/// Variables that hold options for the compiler and that Portage keeps with each package.
const VARIABLES: [&str; 3] = ["CFLAGS", "CXXFLAGS", "LDFLAGS"];
/// Phases in which the saved environment is used.
const LATER: [&str; 6] = ["config", "postinst", "postrm", "preinst", "prerm", "setup"];
/// What in the saved environment says that a phase may compile.
const COMPILING: [&str; 5] = ["FLAGS}", "FLAGS ", "FLAGS\"", "tc-getCC", "tc-getCXX"];

/// Shows that a package may hold compiled code.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// The first file that does.
    pub path: String,
    /// What it is.
    pub why: Why,
}

/// Why a file may hold, or depend on, compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A program, a library, an object, an archive of objects, or what a compiler keeps.
    Compiled,
    /// It is compressed, or an archive: what is in it is not looked at.
    Packed,
    /// It is neither text nor data of a known kind.
    Unknown,
    /// It is text that names a processor's flags, or has the options that it was compiled with.
    Flags,
    /// It runs code when it is merged or removed, which may compile with the options that it was built with.
    Phases,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.why {
            Why::Compiled => write!(f, "`{path}` is compiled"),
            Why::Packed => write!(f, "nobody knows what is packed in `{path}`"),
            Why::Unknown => write!(f, "`{path}` is of no known kind"),
            Why::Flags => write!(f, "`{path}` names flags for the compiler"),
            Why::Phases => write!(f, "code of its `{path}` that runs later may compile"),
        }
    }
}

/// Returns the values that no text of a package may have: the options that it was compiled with.
pub(super) fn options(metadata: &Metadata) -> Vec<Vec<u8>> {
    let value = |name: &&str| metadata.get(*name).map(|value| value.trim_ascii().to_vec());
    let mut values: Vec<_> = VARIABLES.iter().filter_map(value).filter(|value| !value.is_empty()).collect();
    // What is absurdly long is in no text.
    values.iter_mut().for_each(|value| value.truncate(LONGEST));
    values.sort();
    values.dedup();
    values
}

/// Returns what shows that a package may compile after it was built, where something does.
pub(super) fn later(metadata: &Metadata) -> Result<Option<Code>, EnvironmentError> {
    let phases = metadata.get("DEFINED_PHASES").map(|value| String::from_utf8_lossy(value)).unwrap_or_default();
    if !phases.split_whitespace().any(|phase| LATER.contains(&phase)) {
        return Ok(None);
    }
    let text = match metadata.get(ENVIRONMENT) {
        Some(packed) => environment::unpack(packed, metadata::LIMIT)?,
        None => return Ok(None),
    };
    // Declarations say what the options are, functions and commands use them.
    let text = String::from_utf8_lossy(&text);
    let uses = |line: &str| !line.starts_with("declare ") && COMPILING.iter().any(|word| line.contains(word));
    let why = Why::Phases;
    Ok(text.lines().any(uses).then(|| Code { path: ENVIRONMENT.to_string(), why }))
}

/// Returns whether a file that begins so is ELF.
pub(super) fn is_elf(beginning: &[u8]) -> bool {
    beginning.starts_with(ELF)
}

/// Returns whether a file that begins so is an archive of objects.
pub(super) fn is_archive(beginning: &[u8]) -> bool {
    beginning.starts_with(ARCHIVE) || beginning.starts_with(THIN)
}

/// Returns whether a text names a processor's flags.
pub fn names_flags(text: &[u8]) -> bool {
    has_flag(text)
}

/// Looks at one file.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    /// What it must not have, see [`options`].
    options: &'a [Vec<u8>],
    begun: bool,
    compiled: bool,
    packed: bool,
    data: bool,
    zero: bool,
    flags: bool,
    /// The last bytes, where a flag may begin that the next ones end.
    last: Vec<u8>,
}

impl<'a> Scan<'a> {
    /// Starts with a file's first byte.
    pub(super) fn new(options: &'a [Vec<u8>]) -> Self {
        Self {
            options,
            begun: false,
            compiled: false,
            packed: false,
            data: false,
            zero: false,
            flags: false,
            last: Vec::new(),
        }
    }

    /// Takes the next bytes; the first ones must be at least as many as a format's beginning has, or all.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if !std::mem::replace(&mut self.begun, true) {
            let is = |known: &[&[u8]]| known.iter().any(|beginning| bytes.starts_with(beginning));
            self.compiled = is(&COMPILED);
            self.packed = is(&PACKED) || bytes.get(257..262) == Some(b"ustar");
            self.data = is(&DATA) || is_python(bytes);
        }
        self.zero = self.zero || bytes.contains(&0);
        if !self.flags {
            // A byte before and one after an option tell whether it is one.
            let kept = self.options.iter().map(|option| option.len() + 2).fold(KEPT, usize::max);
            let over = [&self.last, bytes.get(..kept).unwrap_or(bytes)].concat();
            self.flags = [&over, bytes].iter().any(|bytes| has_flag(bytes) || has_option(bytes, self.options));
            let rest = [self.last.as_slice(), bytes.get(bytes.len().saturating_sub(kept)..).unwrap_or(bytes)].concat();
            self.last = rest.get(rest.len().saturating_sub(kept)..).unwrap_or_default().to_vec();
        }
    }

    /// Returns why the file may be code, if it may.
    pub(super) fn finish(self, documentation: bool) -> Option<Why> {
        match () {
            () if self.compiled => Some(Why::Compiled),
            () if self.packed && !documentation => Some(Why::Packed),
            () if self.packed || self.data => None,
            () if self.zero => Some(Why::Unknown),
            () if self.flags && !documentation => Some(Why::Flags),
            () => None,
        }
    }
}

/// Returns whether a file begins like Python's byte code: a number, `\r\n`, and flags of which two bits are known
/// (PEP 552).
fn is_python(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, b'\r', b'\n', 0..=3, 0, 0, 0, ..])
}

fn has_flag(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'-' | b'_' | b'G')) {
        rest = &rest[at..];
        if FLAGS.iter().any(|flag| rest.starts_with(flag)) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Returns whether one of the options is there, and is no part of a longer word.
fn has_option(bytes: &[u8], options: &[Vec<u8>]) -> bool {
    let in_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(byte));
    options.iter().filter_map(|option| Some((option, option.first()?))).any(|(option, first)| {
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
            let at = from + at;
            let around = (at.checked_sub(1).and_then(|before| bytes.get(before)), bytes.get(at + option.len()));
            if bytes[at..].starts_with(option) && !in_word(around.0) && !in_word(around.1) {
                return true;
            }
            from = at + 1;
        }
        false
    })
}
