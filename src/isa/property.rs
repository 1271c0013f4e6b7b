//! GNU property notes: what the linker wrote down that a file needs (x86-64 psABI, "Program Property").
//!
//! `GNU_PROPERTY_X86_ISA_1_NEEDED` is asked by ld.so, which starts nothing on a processor below it. `…_USED` only says what
//! is in there somewhere, dispatched or not, and is no violation.

use elf::abi as consts;
use elf::file::Class;

use super::object::Object;

const NT_GNU_PROPERTY_TYPE_0: u64 = 5;
const ISA_1_NEEDED: u64 = 0xc000_8002;
/// The levels of its bits.
const LEVELS: [&str; 4] = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"];

/// Returns the highest level that a file says it needs.
pub(super) fn needed(object: &Object<'_>) -> Option<&'static str> {
    let align = if object.class == Class::ELF64 { 8 } else { 4 };
    let notes = object.sections.iter().filter(|section| section.kind == consts::SHT_NOTE);
    let bits = notes.filter_map(|section| bits(section.bytes, align)).fold(0, |all, bits| all | bits);
    LEVELS.iter().enumerate().rev().find(|(bit, _)| bits >> bit & 1 == 1).map(|(_, level)| *level)
}

/// Returns the bits of the first such property among a section's notes.
fn bits(mut notes: &[u8], align: usize) -> Option<u64> {
    while let Some((name, kind, content, rest)) = note(notes, align) {
        let mut properties = if name == b"GNU\0" && kind == NT_GNU_PROPERTY_TYPE_0 { content } else { &[] };
        while let (Some(kind), Some(length)) = (word(properties, 0), word(properties, 4)) {
            let length = usize::try_from(length).ok()?;
            let value = properties.get(8..8_usize.checked_add(length)?)?;
            if kind == ISA_1_NEEDED {
                return word(value, 0);
            }
            properties = properties.get(8 + length.checked_next_multiple_of(align)?..).unwrap_or_default();
        }
        notes = rest;
    }
    None
}

type Note<'a> = (&'a [u8], u64, &'a [u8], &'a [u8]);

/// Splits off the first note: name, type, content, what follows.
fn note(notes: &[u8], align: usize) -> Option<Note<'_>> {
    let length = |at| usize::try_from(word(notes, at)?).ok();
    let (name, content, kind) = (length(0)?, length(4)?, word(notes, 8)?);
    let start = 12_usize.checked_add(name)?.checked_next_multiple_of(align)?;
    let end = start.checked_add(content)?;
    let next = notes.get(end.checked_next_multiple_of(align)?..).unwrap_or_default();
    Some((notes.get(12..12 + name)?, kind, notes.get(start..end)?, next))
}

/// Returns a little-endian word: this is asked of x86 only.
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 4)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}
