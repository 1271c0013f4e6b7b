//! Where everything of some objects lies when they run: one linked file as it says itself, or the members of a static archive
//! one after the other, linked here as far as references among them and within them go. Then both are looked at alike.
//!
//! A *cell* is a pointer in data whose content is known: by a relocation, or in programs with fixed addresses because it is
//! the address of a function.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use elf::abi as consts;
use elf::endian::AnyEndian;
use elf::relocation::{Rel, RelIterator, Rela, RelaIterator};

use super::object::{Object, Section};

/// Where archives' members are laid, and where what they lack is: within what 32-bit distances reach.
const BASE: u64 = 0x0100_0000;
const FOREIGN: u64 = 0x7000_0000;
/// Where pointers are that a linker would put into the global offset table.
const SLOTS: u64 = 0x6000_0000;
/// What of `FOREIGN` each name has.
const ROOM: u64 = 64;
/// The most relocations of one file.
const RELOCATIONS: usize = 1 << 24;

/// Sections whose pointers to code say nothing about who calls it.
const DESCRIPTIONS: [&str; 10] = [
    ".eh_frame",
    ".gcc_except_table",
    ".altinstructions",
    ".orc_unwind",
    ".smp_locks",
    ".stapsdt",
    "__ex_table",
    "__mcount_loc",
    "__patchable_function_entries",
    ".ARM.exidx",
];

/// Some code.
pub(super) struct Stretch<'a> {
    pub(super) start: u64,
    pub(super) bytes: Cow<'a, [u8]>,
    /// It is a table of jumps to what other files have (`.plt`).
    pub(super) is_plt: bool,
}

/// A function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) object: usize,
    pub(super) function: usize,
    pub(super) is_gap: bool,
}

/// Everything.
#[derive(Default)]
pub(super) struct Space<'a> {
    pub(super) is_64: bool,
    /// Code may have addresses in it, and not only distances.
    pub(super) has_addresses: bool,
    /// Sorted.
    pub(super) code: Vec<Stretch<'a>>,
    /// Start and end of loaded sections without code, sorted.
    pub(super) data: Vec<(u64, u64)>,
    /// Sorted.
    pub(super) functions: Vec<Place>,
    pub(super) cells: BTreeMap<u64, u64>,
    /// Start and end of global offset tables: code that goes through one is seen itself.
    tables: Vec<(u64, u64)>,
    /// Pointers to what code reaches through the global offset table, by what they point to.
    slots: HashMap<u64, u64>,
    /// Where what is not here is taken to be, by name.
    foreign: HashMap<&'a str, u64>,
    /// Places of what is known by name.
    pub(super) names: HashMap<&'a str, u64>,
    /// Where functions start that choose the code for a symbol when the program starts.
    pub(super) resolvers: BTreeSet<u64>,
    /// What addresses are counted from in 32-bit code that can be anywhere, for each object.
    pub(super) origins: Vec<u64>,
}

impl<'a> Space<'a> {
    /// Lays out a linked file, or what is to be linked.
    pub(super) fn of(objects: &[Object<'a>]) -> Self {
        let mut space =
            Self { is_64: objects.iter().any(|object| object.class == elf::file::Class::ELF64), ..Self::default() };
        space.has_addresses = objects.iter().any(|object| object.is_fixed || object.is_relocatable);
        let mut next = BASE;
        let mut bases: Vec<Vec<u64>> = Vec::new();
        for object in objects {
            let base = |section: &Section<'_>| {
                if !object.is_relocatable {
                    return section.address;
                }
                let base = next;
                if section.is_loaded() {
                    next = (next + section.size.min(1 << 30)).next_multiple_of(64) + 64;
                }
                base
            };
            bases.push(object.sections.iter().map(base).collect());
        }
        for (number, object) in objects.iter().enumerate() {
            space.lay(number, object, &bases[number]);
        }
        for (number, object) in objects.iter().enumerate() {
            space.relocate(object, &bases[number], space.origins[number]);
        }
        space.code.sort_by_key(|stretch| stretch.start);
        space.data.sort_unstable();
        space.functions.sort_by_key(|place| (place.start, place.end));
        for object in objects.iter().filter(|object| object.is_fixed) {
            space.scan(object);
        }
        space
    }

    /// Returns the function that holds an address.
    pub(super) fn function(&self, address: u64) -> Option<usize> {
        let at = self.functions.partition_point(|place| place.start <= address).checked_sub(1)?;
        (address < self.functions[at].end).then_some(at)
    }

    /// Returns the function that starts at an address.
    pub(super) fn function_at(&self, address: u64) -> Option<usize> {
        self.function(address).filter(|at| self.functions[*at].start == address)
    }

    /// Returns the code from an address on.
    pub(super) fn code_at(&self, address: u64) -> Option<(&[u8], &Stretch<'a>)> {
        let at = self.code.partition_point(|stretch| stretch.start <= address).checked_sub(1)?;
        let stretch = &self.code[at];
        Some((stretch.bytes.get(usize::try_from(address - stretch.start).ok()?..)?, stretch))
    }

    /// Returns whether an address is in loaded data, or foreign.
    pub(super) fn is_data(&self, address: u64) -> bool {
        let at = self.data.partition_point(|(start, _)| *start <= address);
        at.checked_sub(1).is_some_and(|at| address < self.data[at].1)
    }

    /// Returns whether a pointer is one of a global offset table.
    pub(super) fn is_in_table(&self, cell: u64) -> bool {
        (SLOTS..FOREIGN).contains(&cell) || self.tables.iter().any(|(start, end)| (*start..*end).contains(&cell))
    }

    fn lay(&mut self, number: usize, object: &Object<'a>, bases: &[u64]) {
        let mut origin = bases.first().copied().unwrap_or(BASE);
        for (section, base) in object.sections.iter().zip(bases).filter(|(section, _)| section.is_loaded()) {
            if section.is_code() {
                let is_plt = section.name.starts_with(".plt") || section.name == ".iplt";
                self.code.push(Stretch { start: *base, bytes: Cow::Borrowed(section.bytes), is_plt });
            } else {
                self.data.push((*base, base.saturating_add(section.size)));
                if section.name.starts_with(".got") {
                    self.tables.push((*base, base.saturating_add(section.size)));
                }
            }
            if section.name == ".got.plt"
                || (section.name == ".got" && !object.sections.iter().any(|s| s.name == ".got.plt"))
            {
                origin = *base;
            }
        }
        self.origins.push(origin);
        for (at, function) in object.functions.iter().enumerate() {
            let base = bases.get(function.section).copied().unwrap_or_default();
            let (start, end) = (base + function.start as u64, base + function.end as u64);
            self.functions.push(Place { start, end, object: number, function: at, is_gap: function.is_gap });
            if function.is_resolver {
                self.resolvers.insert(start);
            }
        }
        for symbol in object.symbols.iter().filter(|symbol| !symbol.name.is_empty() && symbol.section != 0) {
            let address = match object.place(symbol) {
                Some((section, at)) => bases.get(section).map(|base| base + at as u64),
                None => None,
            };
            if let Some(address) = address.filter(|_| !symbol.is_local || !object.is_relocatable) {
                self.names.entry(symbol.name).or_insert(address);
            }
        }
    }

    /// Returns where a symbol is.
    fn symbol(&mut self, object: &Object<'a>, bases: &[u64], number: usize) -> Option<u64> {
        let symbol = object.symbols.get(number)?;
        if symbol.kind == consts::STT_SECTION && object.is_relocatable {
            return bases.get(symbol.section).copied();
        }
        if let Some((section, at)) = object.place(symbol) {
            return bases.get(section).map(|base| base + at as u64);
        }
        // The end of a section is no place in it, and a symbol all the same.
        if object.is_relocatable && symbol.section != 0 && symbol.section < object.sections.len() {
            return bases.get(symbol.section).map(|base| base + symbol.value);
        }
        if symbol.name.is_empty() {
            return None;
        }
        Some(self.named(symbol.name))
    }

    fn named(&mut self, name: &'a str) -> u64 {
        if let Some(address) = self.names.get(name) {
            return *address;
        }
        let number = self.foreign.len() as u64;
        *self.foreign.entry(name).or_insert(FOREIGN + number.min(1 << 22) * ROOM)
    }

    /// Returns where a name is, here or elsewhere, if anything refers to it.
    pub(super) fn known(&self, name: &str) -> Option<u64> {
        self.names.get(name).or_else(|| self.foreign.get(name)).copied()
    }

    fn relocate(&mut self, object: &Object<'a>, bases: &[u64], origin: u64) {
        let dynamic = object.symbols.iter().position(|symbol| symbol.is_dynamic).unwrap_or(0);
        for section in &object.sections {
            let is_with = section.kind == consts::SHT_RELA;
            if section.kind == SHT_RELR {
                self.relative(section, object, bases);
            }
            if !is_with && section.kind != consts::SHT_REL {
                continue;
            }
            let target = if object.is_relocatable {
                object.sections.get(section.info).zip(bases.get(section.info))
            } else {
                None
            };
            if object.is_relocatable {
                let describes = |name: &str| DESCRIPTIONS.iter().any(|known| name.starts_with(known));
                if target.is_none_or(|(target, _)| !target.is_loaded() || describes(target.name)) {
                    continue;
                }
            } else if !section.is_loaded() {
                continue;
            }
            let first = if object.is_relocatable { 0 } else { dynamic };
            let target_base = target.map_or(0, |(_, base)| *base);
            let order = if object.machine.is_little { AnyEndian::Little } else { AnyEndian::Big };
            let all: Vec<Relocation> = if is_with {
                RelaIterator::new(order, object.class, section.bytes).take(RELOCATIONS).map(Into::into).collect()
            } else {
                RelIterator::new(order, object.class, section.bytes).take(RELOCATIONS).map(Into::into).collect()
            };
            for relocation in all {
                let place = target_base.wrapping_add(relocation.offset);
                let addend = relocation.addend.unwrap_or_else(|| self.content(place, object, bases, 4));
                let symbol =
                    (relocation.symbol != 0).then(|| self.symbol(object, bases, first + relocation.symbol)).flatten();
                self.apply(&relocation, place, symbol, addend, (object.is_relocatable, origin));
            }
        }
    }

    /// Returns what a file has at an address.
    fn content(&self, address: u64, object: &Object<'a>, bases: &[u64], size: usize) -> i64 {
        let within = |(section, base): &(&Section<'a>, &u64)| {
            section.is_loaded() && address.checked_sub(**base).is_some_and(|at| at < section.bytes.len() as u64)
        };
        let Some((section, base)) = object.sections.iter().zip(bases).find(within) else { return 0 };
        let at = usize::try_from(address - base).unwrap_or(usize::MAX);
        let bytes = section.bytes.get(at..at.saturating_add(size)).unwrap_or_default();
        let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        // With its sign, where it is shorter.
        let shift = 64 - 8 * u32::try_from(size.min(8)).unwrap_or(8);
        (value.wrapping_shl(shift) as i64).wrapping_shr(shift)
    }

    fn apply(&mut self, relocation: &Relocation, place: u64, symbol: Option<u64>, addend: i64, how: (bool, u64)) {
        let (is_relocatable, origin) = how;
        let kind = if self.is_64 { Kind::of_64(relocation.kind) } else { Kind::of_32(relocation.kind) };
        let (kind, symbol) = match (kind, symbol) {
            (Some(Kind::Pointer), Some(symbol)) => (Some(Kind::Distance), Some(self.slot(symbol))),
            (Some(Kind::PointerFromOrigin), Some(symbol)) => (Some(Kind::FromOrigin), Some(self.slot(symbol))),
            known => known,
        };
        let target = symbol.unwrap_or(0).wrapping_add_signed(addend);
        match kind {
            Some(Kind::Resolver) => {
                let resolver = addend as u64;
                self.resolvers.insert(resolver);
                self.cells.insert(place, resolver);
            }
            Some(Kind::Base) => self.cells.extend([(place, addend as u64)]),
            Some(Kind::Address) if !is_relocatable => {
                // Of a symbol, in 32-bit files the addend is in place.
                self.cells.extend(symbol.map(|symbol| (place, symbol.wrapping_add_signed(addend))));
            }
            Some(Kind::Slot) => self.cells.extend(symbol.map(|symbol| (place, symbol))),
            Some(kind) if is_relocatable && symbol.is_some() => {
                let value = match kind {
                    Kind::Distance => target.wrapping_sub(place),
                    Kind::FromOrigin => target.wrapping_sub(origin),
                    Kind::Origin => origin.wrapping_add_signed(addend).wrapping_sub(place),
                    _ => target,
                };
                let size = if kind == Kind::Address && self.is_64 && relocation.kind == 1 { 8 } else { 4 };
                if !self.write(place, value, size) && kind == Kind::Address {
                    self.cells.insert(place, target);
                }
            }
            _ => {}
        }
    }

    /// Returns where a pointer to a symbol is.
    fn slot(&mut self, symbol: u64) -> u64 {
        let next = SLOTS + 8 * (self.slots.len() as u64).min(1 << 24);
        let slot = *self.slots.entry(symbol).or_insert(next);
        self.cells.insert(slot, symbol);
        slot
    }

    /// Writes a number into code; says whether there is code.
    fn write(&mut self, place: u64, value: u64, size: usize) -> bool {
        let within = |stretch: &&mut Stretch<'a>| {
            place.checked_sub(stretch.start).is_some_and(|at| at < stretch.bytes.len() as u64)
        };
        // Sorted as they were laid.
        let at = self.code.partition_point(|stretch| stretch.start <= place);
        let Some(stretch) = at.checked_sub(1).and_then(|at| self.code.get_mut(at)).filter(within) else { return false };
        let at = usize::try_from(place - stretch.start).unwrap_or(usize::MAX);
        if let Some(bytes) = stretch.bytes.to_mut().get_mut(at..at.saturating_add(size)) {
            bytes.copy_from_slice(&value.to_le_bytes()[..size]);
        }
        true
    }

    /// Takes packed relative relocations (gABI, `SHT_RELR`).
    fn relative(&mut self, section: &Section<'a>, object: &Object<'a>, bases: &[u64]) {
        let size = if self.is_64 { 8 } else { 4 };
        let mut place = 0_u64;
        for entry in section.bytes.chunks_exact(size) {
            let entry = entry.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            if entry & 1 == 0 {
                self.take(entry, object, bases, size);
                place = entry.wrapping_add(size as u64);
                continue;
            }
            for bit in (1..8 * size as u64).filter(|bit| entry >> bit & 1 == 1) {
                self.take(place.wrapping_add((bit - 1) * size as u64), object, bases, size);
            }
            place = place.wrapping_add((8 * size as u64 - 1) * size as u64);
        }
    }

    fn take(&mut self, place: u64, object: &Object<'a>, bases: &[u64], size: usize) {
        let value = self.content(place, object, bases, size);
        self.cells.insert(place, value as u64 & if size == 8 { u64::MAX } else { 0xffff_ffff });
    }

    /// Takes every word of data that is the address of a function.
    fn scan(&mut self, object: &Object<'a>) {
        let size = if self.is_64 { 8 } else { 4 };
        for section in object.sections.iter().filter(|section| section.is_loaded() && !section.is_code()) {
            if section.name.starts_with(".eh_frame") || section.kind == consts::SHT_NOTE {
                continue;
            }
            for (number, word) in section.bytes.chunks_exact(size).enumerate() {
                let value = word.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                if self.function_at(value).is_some_and(|at| !self.functions[at].is_gap) {
                    self.cells.entry(section.address + (number * size) as u64).or_insert(value);
                }
            }
        }
    }
}

const SHT_RELR: u32 = 19;

/// A relocation.
struct Relocation {
    offset: u64,
    kind: u32,
    symbol: usize,
    /// Nothing where it is in place.
    addend: Option<i64>,
}

impl From<Rela> for Relocation {
    fn from(rela: Rela) -> Self {
        Self { offset: rela.r_offset, kind: rela.r_type, symbol: rela.r_sym as usize, addend: Some(rela.r_addend) }
    }
}

impl From<Rel> for Relocation {
    fn from(rel: Rel) -> Self {
        Self { offset: rel.r_offset, kind: rel.r_type, symbol: rel.r_sym as usize, addend: None }
    }
}

/// What a relocation writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The address of a symbol.
    Address,
    /// Its distance from the place.
    Distance,
    /// The distance of a pointer to it from the place.
    Pointer,
    /// Its distance from the global offset table.
    FromOrigin,
    /// The distance of a pointer to it from the table.
    PointerFromOrigin,
    /// The table's distance from the place.
    Origin,
    /// The address of a symbol, for the dynamic linker.
    Slot,
    /// An address in the file.
    Base,
    /// What the function at that address returns.
    Resolver,
}

impl Kind {
    /// x86-64 psABI, table 4.9.
    fn of_64(kind: u32) -> Option<Self> {
        match kind {
            1 | 10 | 11 => Some(Self::Address),
            2 | 4 => Some(Self::Distance),
            9 | 41 | 42 => Some(Self::Pointer),
            6 | 7 => Some(Self::Slot),
            8 => Some(Self::Base),
            37 => Some(Self::Resolver),
            _ => None,
        }
    }

    /// i386 psABI, table 4.9.
    fn of_32(kind: u32) -> Option<Self> {
        match kind {
            1 => Some(Self::Address),
            2 | 4 => Some(Self::Distance),
            9 => Some(Self::FromOrigin),
            3 | 43 => Some(Self::PointerFromOrigin),
            10 => Some(Self::Origin),
            6 | 7 => Some(Self::Slot),
            8 => Some(Self::Base),
            42 => Some(Self::Resolver),
            _ => None,
        }
    }
}
