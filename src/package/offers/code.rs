//! The proof that a package holds no compiled code: every file is looked at, and each must be something that is known not
//! to be code and not to depend on the compiler's flags for one processor or another. What is unknown may be code.
//!
//! A file is harmless if it is text (no zero byte) that names no such flag, or begins like a data format of the list
//! below. Compressed files and archives may hold anything; only documentation may be compressed, as Portage does it.
//! Python's and Java's byte code is the same for every processor; Java's begins like a program for another system, so it
//! is not on the list.

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

/// Texts that say for which processor something was compiled, or would be.
const FLAGS: [&[u8]; 8] =
    [b"-march=", b"-mcpu=", b"-mtune=", b"-mfpu=", b"-mavx", b"-msse", b"-target-cpu", b"-C target-"];
/// One less than the longest of them: what must be kept of the bytes before.
const KEPT: usize = 10;

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
    /// It is text that names a processor's flags.
    Flags,
}

/// Returns whether a file that begins so is ELF.
pub(super) fn is_elf(beginning: &[u8]) -> bool {
    beginning.starts_with(ELF)
}

/// Returns whether a file that begins so is an archive of objects.
pub(super) fn is_archive(beginning: &[u8]) -> bool {
    beginning.starts_with(ARCHIVE) || beginning.starts_with(THIN)
}

/// Looks at one file.
#[derive(Debug, Default)]
pub(super) struct Scan {
    begun: bool,
    compiled: bool,
    packed: bool,
    data: bool,
    zero: bool,
    flags: bool,
    /// The last bytes, where a flag may begin that the next ones end.
    last: Vec<u8>,
}

impl Scan {
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
            let over = [&self.last, bytes.get(..KEPT).unwrap_or(bytes)].concat();
            self.flags = has_flag(&over) || has_flag(bytes);
            let kept = [self.last.as_slice(), bytes.get(bytes.len().saturating_sub(KEPT)..).unwrap_or(bytes)].concat();
            self.last = kept.get(kept.len().saturating_sub(KEPT)..).unwrap_or_default().to_vec();
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
    while let Some(at) = rest.iter().position(|byte| *byte == b'-') {
        rest = &rest[at..];
        if FLAGS.iter().any(|flag| rest.starts_with(flag)) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}
