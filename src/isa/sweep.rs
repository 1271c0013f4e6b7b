//! Reads all code of an object and finds the instructions beyond a level, as fast as it can be decoded: an instruction is
//! looked up in a table of one byte each, and nothing is formatted.
//!
//! A function is read from its start to its end. Where that meets bytes that are no instruction, there is data in it (tables
//! of hand-written code): then only stretches count that are decoded up to a jump or return. A gap between functions is read
//! likewise, so that code counts that nobody described, and data mostly does not.

use iced_x86::{Code, CodeSize, Decoder, DecoderOptions, FlowControl, Instruction};

use super::feature::{self, Features};
use super::object::{Function, Object};

/// What a table says of an instruction.
const FINE: u8 = 0;
const BEYOND: u8 = 1;
const INVALID: u8 = 2;

/// Where code begins that nobody describes: compilers and assemblers align it so.
const ALIGNMENT: usize = 16;

/// Which instructions are beyond a level.
#[derive(Debug)]
pub(super) struct Rules {
    tables: [Vec<u8>; 2],
}

impl Rules {
    pub(super) fn new(allowed: Features) -> Self {
        let table = |is_64: bool| {
            let verdict = |code: Code| match code {
                Code::INVALID => INVALID,
                code if feature::is_neutral(code) || allowed.has_all(feature::needs(code, is_64)) => FINE,
                _ => BEYOND,
            };
            Code::values().map(verdict).collect()
        };
        Self { tables: [table(false), table(true)] }
    }
}

/// A function with instructions beyond the level.
pub(super) struct Hit {
    /// Its number in the object.
    pub(super) function: usize,
    /// Where these are in its section, at least one, sorted.
    pub(super) places: Vec<usize>,
}

/// Returns the functions of an object that hold instructions beyond the level, and how many bytes of code were read.
pub(super) fn sweep(object: &Object<'_>, rules: &Rules) -> (Vec<Hit>, u64) {
    let (mut hits, mut read) = (Vec::new(), 0);
    let mut reader = Reader { rules, is_64: object.machine.number == elf::abi::EM_X86_64, places: Vec::new() };
    for (number, function) in object.functions.iter().enumerate() {
        let Some(section) = object.sections.get(function.section) else { continue };
        read += (function.end - function.start) as u64;
        reader.function(section.bytes, function);
        if !reader.places.is_empty() {
            hits.push(Hit { function: number, places: std::mem::take(&mut reader.places) });
        }
    }
    (hits, read)
}

struct Reader<'a> {
    rules: &'a Rules,
    is_64: bool,
    places: Vec<usize>,
}

impl Reader<'_> {
    fn function(&mut self, section: &[u8], function: &Function<'_>) {
        let Some(bytes) = section.get(function.start..function.end) else { return };
        let table = &self.rules.tables[usize::from(self.is_64)];
        let mut decoder = decoder(bytes, function.start, self.is_64);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            match table.get(instruction.code() as usize).copied().unwrap_or(INVALID) {
                FINE => {}
                BEYOND => self.places.push(place(&instruction)),
                _ => {
                    self.places.clear();
                    self.carefully(bytes, function);
                    return;
                }
            }
        }
    }

    /// Reads a function or gap that holds data, too.
    fn carefully(&mut self, bytes: &[u8], function: &Function<'_>) {
        let table = &self.rules.tables[usize::from(self.is_64)];
        let (mut at, mut first) = (0, !function.is_gap);
        while at < bytes.len() {
            let mut decoder = decoder(&bytes[at..], function.start + at, self.is_64);
            let mut found = Vec::new();
            let mut instruction = Instruction::default();
            loop {
                if !decoder.can_decode() {
                    // What runs to the end without a jump is what a call that never returns leaves, or padding.
                    self.places.append(&mut found);
                    return;
                }
                let position = at + decoder.position();
                decoder.decode_out(&mut instruction);
                match table.get(instruction.code() as usize).copied().unwrap_or(INVALID) {
                    FINE => {}
                    BEYOND => found.push(place(&instruction)),
                    _ => {
                        if std::mem::take(&mut first) {
                            // It is reached from the function's start.
                            self.places.append(&mut found);
                            if is_unknown(&bytes[position..]) {
                                self.places.push(function.start + position);
                            }
                        }
                        at = (function.start + position + 1).next_multiple_of(ALIGNMENT) - function.start;
                        break;
                    }
                }
                if is_end(&instruction) {
                    self.places.append(&mut found);
                    first = false;
                    at += decoder.position();
                    break;
                }
            }
        }
    }
}

/// Returns a decoder of code at a place.
pub(super) fn decoder(bytes: &[u8], ip: usize, is_64: bool) -> Decoder<'_> {
    Decoder::with_ip(if is_64 { 64 } else { 32 }, bytes, ip as u64, DecoderOptions::NONE)
}

fn place(instruction: &Instruction) -> usize {
    debug_assert!(instruction.code_size() != CodeSize::Code16);
    usize::try_from(instruction.ip()).unwrap_or(usize::MAX)
}

/// Returns whether nothing is executed after an instruction but what is jumped to.
pub(super) fn is_end(instruction: &Instruction) -> bool {
    let code = instruction.code();
    matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return | FlowControl::Exception
    ) || code == Code::Hlt
}

/// Returns whether bytes that are no instruction begin like one of a later processor than the disassembler knows: REX2, EVEX,
/// VEX.
fn is_unknown(bytes: &[u8]) -> bool {
    matches!(bytes, [0xd5 | 0x62 | 0xc4 | 0xc5, ..])
}
