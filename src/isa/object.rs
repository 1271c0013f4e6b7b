//! One x86 object, program or library: its code, and where its functions are.
//!
//! Functions are known by symbols (`.symtab`, `.dynsym`) and, in what was linked, by `.eh_frame`, which is all that strip(1)
//! leaves of most. What lies between them is a *gap*: padding, data, or code that nobody described.

use std::collections::BTreeMap;

use elf::ElfBytes;
use elf::abi as consts;
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::section::SectionHeader;

use super::frames;
use super::machine::Machine;

/// The most symbols and sections.
const SYMBOLS: usize = 1 << 22;
const SECTIONS: usize = 1 << 20;
/// The longest name that is kept, in bytes.
const NAME: usize = 4096;

/// A file, parsed as far as the audit needs it.
pub(super) struct Object<'a> {
    pub(super) data: &'a [u8],
    pub(super) machine: Machine,
    pub(super) class: Class,
    /// It is to be linked still: addresses are places in sections.
    pub(super) is_relocatable: bool,
    /// It runs at the addresses that it says, and nowhere else.
    pub(super) is_fixed: bool,
    pub(super) sections: Vec<Section<'a>>,
    pub(super) symbols: Vec<Symbol<'a>>,
    /// By section and place, sorted; they do not overlap.
    pub(super) functions: Vec<Function<'a>>,
}

/// A section, or a segment of a file that has no sections.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) link: usize,
    pub(super) info: usize,
    /// Nothing where it has no place in the file.
    pub(super) bytes: &'a [u8],
}

impl Section<'_> {
    pub(super) fn is_code(&self) -> bool {
        self.flags & u64::from(consts::SHF_EXECINSTR) != 0 && !self.bytes.is_empty()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.flags & u64::from(consts::SHF_ALLOC) != 0
    }

    fn holds(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|at| at < self.size)
    }
}

/// A symbol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol<'a> {
    pub(super) name: &'a str,
    pub(super) value: u64,
    pub(super) size: u64,
    pub(super) kind: u8,
    pub(super) is_local: bool,
    /// The section's number, `SHN_UNDEF` where it is somebody else's.
    pub(super) section: usize,
    /// It is of `.dynsym`.
    pub(super) is_dynamic: bool,
}

/// A stretch of code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function<'a> {
    pub(super) section: usize,
    /// Its place in the section.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) name: Option<&'a str>,
    /// It chooses the code for a symbol when the program starts (`STT_GNU_IFUNC`).
    pub(super) is_resolver: bool,
    /// Nobody says that there is code here.
    pub(super) is_gap: bool,
}

impl<'a> Object<'a> {
    /// Parses a file whose machine is known; an error says what is wrong with it.
    pub(super) fn read(data: &'a [u8], machine: Machine) -> Result<Self, &'static str> {
        let file = ElfBytes::<AnyEndian>::minimal_parse(data).map_err(|_| "its headers are damaged")?;
        let mut object = Self {
            data,
            machine,
            class: file.ehdr.class,
            is_relocatable: file.ehdr.e_type == consts::ET_REL,
            is_fixed: file.ehdr.e_type == consts::ET_EXEC,
            sections: Vec::new(),
            symbols: Vec::new(),
            functions: Vec::new(),
        };
        object.read_sections(&file)?;
        object.read_symbols(&file)?;
        object.functions = object.find_functions();
        Ok(object)
    }

    fn read_sections(&mut self, file: &ElfBytes<'a, AnyEndian>) -> Result<(), &'static str> {
        let (headers, names) = file.section_headers_with_strtab().map_err(|_| "its table of sections is damaged")?;
        let headers: Vec<SectionHeader> =
            headers.map(|table| table.iter().take(SECTIONS + 1).collect()).unwrap_or_default();
        if headers.len() > SECTIONS {
            return Err("it has too many sections");
        }
        for header in &headers {
            let name = names.and_then(|names| names.get(usize::try_from(header.sh_name).ok()?).ok());
            let code = header.sh_flags & u64::from(consts::SHF_EXECINSTR) != 0;
            let bytes = match header.sh_type {
                consts::SHT_NOBITS | consts::SHT_NULL => Some(&[][..]),
                _ => part(self.data, header.sh_offset, header.sh_size),
            };
            let bytes = match bytes {
                Some(bytes) => bytes,
                None if code => return Err("a section of code lies outside the file"),
                None => &[],
            };
            self.sections.push(Section {
                name: name.unwrap_or_default(),
                kind: header.sh_type,
                flags: header.sh_flags,
                address: header.sh_addr,
                size: header.sh_size,
                link: usize::try_from(header.sh_link).unwrap_or(usize::MAX),
                info: usize::try_from(header.sh_info).unwrap_or(usize::MAX),
                bytes,
            });
        }
        if self.is_relocatable || self.sections.iter().any(Section::is_code) {
            return Ok(());
        }
        // Without a table of sections, what is loaded to be executed is code.
        for header in file.segments().into_iter().flat_map(|table| table.iter()) {
            if header.p_type == consts::PT_LOAD && header.p_flags & consts::PF_X != 0 {
                let bytes = part(self.data, header.p_offset, header.p_filesz);
                self.sections.push(Section {
                    name: "",
                    kind: consts::SHT_PROGBITS,
                    flags: u64::from(consts::SHF_EXECINSTR | consts::SHF_ALLOC),
                    address: header.p_vaddr,
                    size: header.p_filesz,
                    link: 0,
                    info: 0,
                    bytes: bytes.ok_or("a segment of code lies outside the file")?,
                });
            }
        }
        Ok(())
    }

    fn read_symbols(&mut self, file: &ElfBytes<'a, AnyEndian>) -> Result<(), &'static str> {
        for kind in [consts::SHT_SYMTAB, consts::SHT_DYNSYM] {
            let Some(section) = self.sections.iter().find(|section| section.kind == kind) else { continue };
            let names = self.sections.get(section.link).map_or(&[][..], |names| names.bytes);
            let table = elf::symbol::SymbolTable::new(file.ehdr.endianness, self.class, section.bytes);
            if table.len() > SYMBOLS {
                return Err("it has too many symbols");
            }
            let symbols = table.iter().map(|symbol| Symbol {
                name: usize::try_from(symbol.st_name).ok().and_then(|at| text(names, at)).unwrap_or_default(),
                value: symbol.st_value,
                size: symbol.st_size,
                kind: symbol.st_symtype(),
                is_local: symbol.st_bind() == consts::STB_LOCAL,
                section: usize::from(symbol.st_shndx),
                is_dynamic: kind == consts::SHT_DYNSYM,
            });
            let symbols: Vec<Symbol<'a>> = symbols.collect();
            self.symbols.extend(symbols);
        }
        Ok(())
    }

    /// Returns section and place of an address; of a place in a section where this is to be linked still.
    pub(super) fn place(&self, symbol: &Symbol<'_>) -> Option<(usize, usize)> {
        if self.is_relocatable {
            let section = self.sections.get(symbol.section).filter(|_| symbol.section != 0)?;
            return (symbol.value < section.size).then_some((symbol.section, usize::try_from(symbol.value).ok()?));
        }
        (symbol.section != 0).then(|| self.find(symbol.value)).flatten()
    }

    /// Returns section and place of an address in what is linked.
    pub(super) fn find(&self, address: u64) -> Option<(usize, usize)> {
        let loaded = |section: &Section<'_>| section.is_loaded() && section.holds(address);
        let at = self.sections.iter().position(loaded)?;
        Some((at, usize::try_from(address - self.sections[at].address).ok()?))
    }

    fn find_functions(&self) -> Vec<Function<'a>> {
        let is_code = |at: &usize| self.sections.get(*at).is_some_and(Section::is_code);
        let mut all = Vec::new();
        let mut starts: BTreeMap<(usize, usize), Start<'a>> = BTreeMap::new();
        for symbol in &self.symbols {
            let is_function = matches!(symbol.kind, consts::STT_FUNC | consts::STT_GNU_IFUNC);
            // Labels of hand-written code often have no type.
            let is_label = symbol.kind == consts::STT_NOTYPE && !symbol.is_local && !symbol.name.is_empty();
            if !is_function && !is_label {
                continue;
            }
            let Some((section, at)) = self.place(symbol).filter(|(section, _)| is_code(section)) else { continue };
            let start = starts.entry((section, at)).or_default();
            let size = usize::try_from(symbol.size).unwrap_or(usize::MAX);
            start.size = start.size.max(size);
            start.is_resolver |= symbol.kind == consts::STT_GNU_IFUNC;
            // The name that others use is better than one of its own, and the first one as good as any other.
            let rank = u8::from(is_function) + u8::from(!symbol.is_local) + 1;
            if rank > start.rank && !symbol.name.is_empty() {
                (start.rank, start.name) = (rank, Some(symbol.name));
            }
        }
        for (address, size) in self.frames() {
            if let Some(place) = self.find(address).filter(|(section, _)| is_code(section)) {
                let start = starts.entry(place).or_default();
                start.size = start.size.max(usize::try_from(size).unwrap_or(usize::MAX));
            }
        }
        for section in (0..self.sections.len()).filter(is_code) {
            let length = self.sections[section].bytes.len();
            let mut gap = 0;
            let mut within = starts.range((section, 0)..(section + 1, 0)).peekable();
            while let Some(((_, at), start)) = within.next() {
                let next = within.peek().map_or(length, |((_, next), _)| *next).min(length);
                if *at >= length {
                    break;
                }
                if gap < *at {
                    all.push(Function::gap(section, gap, *at));
                }
                // Without a size, it goes on to the next one.
                let end = if start.size == 0 { next } else { at.saturating_add(start.size).min(next) };
                let (name, is_resolver) = (start.name, start.is_resolver);
                all.push(Function { section, start: *at, end, name, is_resolver, is_gap: false });
                gap = end;
            }
            if gap < length {
                all.push(Function::gap(section, gap, length));
            }
        }
        all
    }

    /// Returns the functions that `.eh_frame` has.
    fn frames(&self) -> Vec<(u64, u64)> {
        let frames = self.sections.iter().find(|section| section.name == ".eh_frame" && !self.is_relocatable);
        let is_64 = self.class == Class::ELF64;
        frames.map(|section| frames::ranges(section.bytes, section.address, is_64)).unwrap_or_default()
    }
}

impl Function<'_> {
    fn gap(section: usize, start: usize, end: usize) -> Self {
        Self { section, start, end, name: None, is_resolver: false, is_gap: true }
    }
}

/// What is known of a place where a function starts.
#[derive(Default)]
struct Start<'a> {
    size: usize,
    name: Option<&'a str>,
    rank: u8,
    is_resolver: bool,
}

fn part(data: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    data.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

/// Returns the text at a place of a table of names.
fn text(names: &[u8], at: usize) -> Option<&str> {
    let rest = names.get(at..)?;
    let length = rest.iter().take(NAME).position(|byte| *byte == 0)?;
    std::str::from_utf8(rest.get(..length)?).ok()
}
