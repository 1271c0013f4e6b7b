//! What can be seen of a program or shared library without running it: what ld(1) reads when something is linked with it.
//! Code bytes, build id, addresses and debug information are not among that.
//!
//! ```text
//! elf      CLASS ORDER OSABI ABIVERSION MACHINE FLAGS   and whether it is a program
//! soname, needed, runpath, rpath, auxiliary, filter     in the file's order: ld searches in it
//! version  NAME [PARENT…]                               versions that are defined
//! symbol   NAME VERSION TYPE BINDING OTHER …            exported: sorted, each
//!            data    SIZE ALIGNMENT WRITABLE ALIAS        ld copies data into programs, together with all names of it
//!            other   SIZE                                 without a type
//! wants    NAME BINDING                                 needed from anyone, without a version: ld exports it from a
//!                                                       program that has it
//! ```
//!
//! Sources: gABI, chapters 4 and 5; LSB, Symbol Versioning; bfd/elflink.c. A file that is not as these say has no ABI.

use std::collections::BTreeMap;

use elf::ElfBytes;
use elf::abi as consts;
use elf::endian::{AnyEndian, EndianParse as _};
use elf::file::Class;
use elf::gnu_symver::{VerDefIterator, VersionIndexTable};
use elf::section::{SectionHeader, SectionHeaderTable};
use elf::symbol::Symbol;
use sha2::{Digest as _, Sha256};

/// The most bytes that all names together may have; far more than any library's.
const NAMES: usize = 64 << 20;
/// The most symbols.
const SYMBOLS: usize = 1 << 21;
/// The most versions: their numbers have 15 bits.
const VERSIONS: usize = 1 << 15;
/// The most entries of the dynamic section.
const ENTRIES: usize = 1 << 16;
/// The most bytes of an alignment that matter: a page of the largest size.
const ALIGNMENT: u64 = 1 << 21;

/// What an ELF file is to a linker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Elf {
    /// An object: its content becomes a part of what is linked.
    Object,
    /// A program or shared library, with the digest of its ABI.
    Dynamic([u8; 32]),
}

/// Returns what an ELF file is; nothing where it cannot be understood.
pub(super) fn of(data: &[u8]) -> Option<Elf> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(data).ok()?;
    match file.ehdr.e_type {
        consts::ET_REL => Some(Elf::Object),
        consts::ET_DYN | consts::ET_EXEC => Some(Elf::Dynamic(digest(&lines(data, &file)?))),
        _ => None,
    }
}

/// Returns the lines that make the ABI of a program or library, and nothing in place of them for an object; nothing at all
/// where it cannot be understood.
pub(super) fn described(data: &[u8]) -> Option<Option<Vec<Vec<u8>>>> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(data).ok()?;
    match file.ehdr.e_type {
        consts::ET_REL => Some(None),
        consts::ET_DYN | consts::ET_EXEC => Some(Some(lines(data, &file)?)),
        _ => None,
    }
}

/// Returns the digest of lines, in this order.
fn digest(lines: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for line in lines {
        // A name may hold anything but a zero byte: lengths tell where each line ends.
        hash.update((line.len() as u64).to_le_bytes());
        hash.update(line);
    }
    hash.finalize().into()
}

/// Returns the lines that make the ABI.
pub(super) fn lines(data: &[u8], file: &ElfBytes<'_, AnyEndian>) -> Option<Vec<Vec<u8>>> {
    let reader =
        Reader { data, order: file.ehdr.endianness, class: file.ehdr.class, sections: file.section_headers()? };
    let mut budget = NAMES;
    let (entries, is_program) = reader.dynamic(&mut budget)?;
    let mut lines = vec![reader.header(file, is_program)];
    lines.extend(entries);
    let versions = reader.versions(&mut budget)?;
    lines.extend(versions.values().map(|names| fields("version", names)));
    let mut symbols = reader.symbols(&versions, &mut budget)?;
    symbols.sort();
    lines.extend(symbols);
    Some(lines)
}

/// Returns a line of fields.
fn fields(kind: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut line = kind.as_bytes().to_vec();
    for field in fields {
        line.push(0);
        line.extend_from_slice(field);
    }
    line
}

struct Reader<'a> {
    data: &'a [u8],
    order: AnyEndian,
    class: Class,
    sections: SectionHeaderTable<'a, AnyEndian>,
}

/// The names of each defined version: its own, then its parents'.
type Versions<'a> = BTreeMap<u16, Vec<&'a [u8]>>;

impl<'a> Reader<'a> {
    fn header(&self, file: &ElfBytes<'_, AnyEndian>, is_program: bool) -> Vec<u8> {
        let header = &file.ehdr;
        let class = if self.class == Class::ELF64 { 64 } else { 32 };
        let order = if self.order.is_little() { "little" } else { "big" };
        let kind = if is_program || header.e_type == consts::ET_EXEC { "program" } else { "library" };
        let (os, abi, machine, flags) = (header.osabi, header.abiversion, header.e_machine, header.e_flags);
        format!("elf {class} {order} {os} {abi} {machine} {flags} {kind}").into_bytes()
    }

    /// Returns the first section of a kind.
    fn section(&self, kind: u32) -> Option<SectionHeader> {
        self.sections.iter().find(|section| section.sh_type == kind)
    }

    fn bytes(&self, section: &SectionHeader) -> Option<&'a [u8]> {
        let start = usize::try_from(section.sh_offset).ok()?;
        let end = start.checked_add(usize::try_from(section.sh_size).ok()?)?;
        self.data.get(start..end)
    }

    /// Returns the table of names that a section uses.
    fn names(&self, section: &SectionHeader) -> Option<&'a [u8]> {
        let names = self.sections.get(usize::try_from(section.sh_link).ok()?).ok()?;
        if names.sh_type == consts::SHT_STRTAB { self.bytes(&names) } else { None }
    }

    /// Returns what the dynamic section says that a linker heeds, and whether it says that this is a program.
    fn dynamic(&self, budget: &mut usize) -> Option<(Vec<Vec<u8>>, bool)> {
        // A program that is linked statically has none.
        let Some(section) = self.section(consts::SHT_DYNAMIC) else { return Some((Vec::new(), false)) };
        let (names, bytes) = (self.names(&section)?, self.bytes(&section)?);
        let (mut lines, mut is_program) = (Vec::new(), false);
        let table = elf::dynamic::DynamicTable::new(self.order, self.class, bytes);
        for (number, entry) in table.iter().enumerate() {
            if number > ENTRIES {
                return None;
            }
            let kind = match entry.d_tag {
                consts::DT_NULL => break,
                consts::DT_SONAME => "soname",
                consts::DT_NEEDED => "needed",
                consts::DT_RUNPATH => "runpath",
                consts::DT_RPATH => "rpath",
                DT_AUXILIARY => "auxiliary",
                DT_FILTER => "filter",
                consts::DT_FLAGS_1 => {
                    is_program = entry.d_val() & DF_1_PIE != 0;
                    continue;
                }
                _ => continue,
            };
            lines.push(fields(kind, &[name(names, entry.d_val(), budget)?]));
        }
        Some((lines, is_program))
    }

    fn versions(&self, budget: &mut usize) -> Option<Versions<'a>> {
        let mut versions = Versions::new();
        let Some(section) = self.section(consts::SHT_GNU_VERDEF) else { return Some(versions) };
        let (names, bytes) = (self.names(&section)?, self.bytes(&section)?);
        let count = u64::from(section.sh_info).min(VERSIONS as u64);
        for (definition, parts) in VerDefIterator::new(self.order, self.class, count, 0, bytes) {
            let mut own = Vec::new();
            for part in parts {
                own.push(name(names, u64::from(part.vda_name), budget)?);
            }
            versions.insert(definition.vd_ndx, own);
        }
        Some(versions)
    }

    fn symbols(&self, versions: &Versions<'a>, budget: &mut usize) -> Option<Vec<Vec<u8>>> {
        let Some(section) = self.section(consts::SHT_DYNSYM) else { return Some(Vec::new()) };
        let (names, bytes) = (self.names(&section)?, self.bytes(&section)?);
        let table = elf::symbol::SymbolTable::new(self.order, self.class, bytes);
        let numbers = match self.section(consts::SHT_GNU_VERSYM) {
            Some(section) => Some(VersionIndexTable::new(self.order, self.class, self.bytes(&section)?)),
            None => None,
        };
        if table.len() > SYMBOLS {
            return None;
        }
        let mut known = Vec::new();
        for (number, symbol) in table.iter().enumerate() {
            if symbol.st_bind() != consts::STB_LOCAL {
                let version = numbers.as_ref().map(|numbers| numbers.get(number)).transpose().ok()?;
                known.push((name(names, u64::from(symbol.st_name), budget)?, symbol, version.map(|version| version.0)));
            }
        }
        // Names of the same data belong together.
        let mut aliases: BTreeMap<(u16, u64), &[u8]> = BTreeMap::new();
        for (name, symbol, _) in known.iter().filter(|(_, symbol, _)| is_data(symbol)) {
            let first = aliases.entry((symbol.st_shndx, symbol.st_value)).or_insert(name);
            *first = (*name).min(*first);
        }
        let line = |(name, symbol, version): &(&'a [u8], Symbol, Option<u16>)| {
            let index = version.map(|version| version & consts::VER_NDX_VERSION);
            if symbol.is_undefined() {
                let anyone = index.is_none_or(|index| index <= consts::VER_NDX_GLOBAL);
                return anyone.then(|| fields("wants", &[name, symbol.st_bind().to_string().as_bytes()]));
            }
            let of = index.and_then(|index| versions.get(&index)?.first().copied()).unwrap_or_default();
            let hidden = version.is_some_and(|version| version & consts::VER_NDX_HIDDEN != 0);
            let alias = aliases.get(&(symbol.st_shndx, symbol.st_value)).copied().unwrap_or_default();
            let (kind, binding, other) = (symbol.st_symtype(), symbol.st_bind(), symbol.st_other);
            let about = format!("{kind} {binding} {other} {hidden}{}", self.about(symbol));
            Some(if is_data(symbol) {
                fields("symbol", &[name, of, about.as_bytes(), alias])
            } else {
                fields("symbol", &[name, of, about.as_bytes()])
            })
        };
        Some(known.iter().filter_map(line).collect())
    }

    /// Returns what else a linker heeds of a symbol that is defined.
    fn about(&self, symbol: &Symbol) -> String {
        let size = symbol.st_size;
        if symbol.st_shndx == consts::SHN_ABS {
            return format!(" absolute {size} {}", symbol.st_value);
        }
        if !is_data(symbol) {
            return if symbol.st_symtype() == consts::STT_NOTYPE { format!(" {size}") } else { String::new() };
        }
        let section = self.sections.get(usize::from(symbol.st_shndx)).ok();
        let (flags, align) = section.map_or((0, 1), |section| (section.sh_flags, section.sh_addralign));
        // As ld guesses it: what the section has, as far as the address keeps to it.
        let address = 1_u64.checked_shl(symbol.st_value.trailing_zeros()).unwrap_or(ALIGNMENT);
        let (alignment, writable) =
            (align.max(1).min(address).min(ALIGNMENT), flags & u64::from(consts::SHF_WRITE) != 0);
        format!(" {size} {alignment} {writable}")
    }
}

/// `DT_AUXILIARY` and `DT_FILTER`, and the flag of a program that can be loaded anywhere (elf.h).
const DT_AUXILIARY: i64 = 0x7fff_fffd;
const DT_FILTER: i64 = 0x7fff_ffff;
const DF_1_PIE: u64 = 0x0800_0000;

/// Returns whether a symbol names data, which ld may copy.
fn is_data(symbol: &Symbol) -> bool {
    matches!(symbol.st_symtype(), consts::STT_OBJECT | consts::STT_TLS | consts::STT_COMMON) && !symbol.is_undefined()
}

/// Returns the name at a place of a table, and takes its length from what all names may have.
fn name<'a>(table: &'a [u8], at: u64, budget: &mut usize) -> Option<&'a [u8]> {
    let rest = table.get(usize::try_from(at).ok()?..)?;
    let length = rest.iter().take(*budget).position(|byte| *byte == 0)?;
    // Empty names take time, too.
    *budget = budget.checked_sub(length + 1)?;
    rest.get(..length)
}

#[cfg(test)]
pub(in crate::package) mod tests;
