//! Who refers to what in a space: calls and jumps, addresses taken, pointers in data.

use std::collections::{BTreeSet, HashMap};

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::space::Space;
use super::sweep;

/// A function, or a piece of data: what lies between two addresses that are referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Node {
    Function(usize),
    Data(u64),
}

/// How something is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It is called, or jumped to.
    Runs,
    /// Its address is taken.
    Takes,
}

/// A reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    pub(super) from: Node,
    /// The address of the instruction, or of the cell.
    pub(super) at: u64,
    pub(super) to: Node,
    pub(super) how: How,
}

/// All references.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) sites: Vec<Site>,
    /// Sites by what they refer to.
    pub(super) of: HashMap<Node, Vec<usize>>,
    /// Sites by whose they are.
    pub(super) by: HashMap<Node, Vec<usize>>,
    /// Functions that ask the processor what it can do (CPUID, XGETBV).
    pub(super) asking: BTreeSet<usize>,
    /// Which functions have an instruction with an address in data or elsewhere, by that address.
    pub(super) uses: HashMap<u64, BTreeSet<usize>>,
}

impl Graph {
    /// Reads all code of a space.
    pub(super) fn of(space: &Space<'_>) -> Self {
        let mut graph = Self::default();
        let mut raw: Vec<(usize, u64, u64, How)> = Vec::new();
        for number in 0..space.functions.len() {
            let body = body(space, number);
            // What a gap with data in it seems to refer to says nothing.
            if space.functions[number].is_gap && body.iter().any(Instruction::is_invalid) {
                continue;
            }
            for instruction in &body {
                if matches!(instruction.code(), Code::Cpuid | Code::Xgetbv) {
                    graph.asking.insert(number);
                }
                targets(space, number, instruction, &mut |to, how| raw.push((number, instruction.ip(), to, how)));
            }
            if let Some(last) = body.last()
                && matches!(last.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch)
                && !is_padding(last)
                && space.function_at(last.next_ip()).is_some()
            {
                raw.push((number, last.ip(), last.next_ip(), How::Runs));
            }
        }
        let mut borders: BTreeSet<u64> = raw.iter().map(|(_, _, to, _)| *to).filter(|to| space.is_data(*to)).collect();
        borders.extend(space.names.values().filter(|address| space.is_data(**address)));
        borders.extend(space.cells.values().filter(|address| space.is_data(**address)));
        let sections: BTreeSet<u64> = space.data.iter().map(|(start, _)| *start).collect();
        let piece = |address: u64| {
            let start = borders.range(..=address).next_back().copied()?;
            // Not one of another section.
            (sections.range(..=address).next_back().is_none_or(|section| *section <= start))
                .then_some(Node::Data(start))
        };
        let node = |address: u64| match space.function(address) {
            Some(function) => Some(Node::Function(function)),
            None if space.is_data(address) => piece(address),
            None => None,
        };
        for (from, at, to, how) in raw {
            match node(to) {
                Some(to) if to != Node::Function(from) => graph.add(Site { from: Node::Function(from), at, to, how }),
                Some(_) => {}
                None => {}
            }
            if space.function(to).is_none() {
                graph.uses.entry(to).or_default().insert(from);
            }
        }
        for (cell, to) in space.cells.iter().filter(|(cell, _)| !space.is_in_table(**cell)) {
            if let Some(to) = node(*to) {
                // A cell before everything that is referred to is nobody's: only the system can find it.
                let from = piece(*cell).unwrap_or(Node::Data(*cell));
                graph.add(Site { from, at: *cell, to, how: How::Takes });
            }
        }
        graph
    }

    fn add(&mut self, site: Site) {
        if site.from == site.to {
            return;
        }
        self.of.entry(site.to).or_default().push(self.sites.len());
        self.by.entry(site.from).or_default().push(self.sites.len());
        self.sites.push(site);
    }

    /// Returns the sites that refer to something.
    pub(super) fn to(&self, node: Node) -> impl Iterator<Item = &Site> {
        self.of.get(&node).into_iter().flatten().filter_map(|at| self.sites.get(*at))
    }

    /// Returns the sites of something.
    pub(super) fn from(&self, node: Node) -> impl Iterator<Item = &Site> {
        self.by.get(&node).into_iter().flatten().filter_map(|at| self.sites.get(*at))
    }
}

/// The longest function that is looked into, in bytes.
const LONGEST: u64 = 4 << 20;

/// Returns the instructions of a function; none of tables of jumps, which are looked through.
pub(super) fn body(space: &Space<'_>, number: usize) -> Vec<Instruction> {
    let place = &space.functions[number];
    let Some((bytes, stretch)) = space.code_at(place.start).filter(|_| place.end - place.start <= LONGEST) else {
        return Vec::new();
    };
    if stretch.is_plt {
        return Vec::new();
    }
    let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX).min(bytes.len());
    decode(space, bytes.get(..length).unwrap_or_default(), place.start)
}

fn decode(space: &Space<'_>, bytes: &[u8], start: u64) -> Vec<Instruction> {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    sweep::decoder(bytes, start, space.is_64).into_iter().collect()
}

/// Returns whether an instruction is what assemblers fill up with.
pub(super) fn is_padding(instruction: &Instruction) -> bool {
    instruction.code() == Code::Int3 || instruction.mnemonic() == Mnemonic::Nop
}

/// Returns the address that a memory operand names by itself, where it does.
pub(super) fn address(space: &Space<'_>, function: usize, instruction: &Instruction) -> Option<u64> {
    if !instruction.op_kinds().any(|kind| kind == OpKind::Memory) {
        return None;
    }
    // Of a thread's own memory, or a kernel's of a processor.
    if matches!(instruction.memory_segment(), Register::FS | Register::GS) {
        return None;
    }
    if instruction.is_ip_rel_memory_operand() {
        return Some(instruction.ip_rel_memory_address());
    }
    let displacement = instruction.memory_displacement64();
    match instruction.memory_base() {
        Register::None => Some(displacement),
        // 32-bit code that can be anywhere counts from its global offset table.
        base if !space.is_64 && !matches!(base, Register::ESP | Register::EBP) => {
            let origin = space.origins.get(space.functions[function].object)?;
            let address = origin.wrapping_add(displacement) & 0xffff_ffff;
            let is_there = space.function_at(address).is_some() || space.cells.contains_key(&address);
            is_there.then_some(address)
        }
        _ if !space.has_addresses => None,
        _ => (space.is_data(displacement) || space.function_at(displacement).is_some()).then_some(displacement),
    }
}

/// Tells all addresses that an instruction refers to.
pub(super) fn targets(space: &Space<'_>, function: usize, instruction: &Instruction, tell: &mut dyn FnMut(u64, How)) {
    let flow = instruction.flow_control();
    let runs = matches!(flow, FlowControl::Call | FlowControl::IndirectCall | FlowControl::IndirectBranch);
    match instruction.op_kinds().next() {
        Some(OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64) => {
            let target = instruction.near_branch_target();
            return tell(through_plt(space, function, target).unwrap_or(target), How::Runs);
        }
        None => return,
        _ => {}
    }
    if let Some(address) = address(space, function, instruction) {
        let is_plain = instruction.memory_index() == Register::None
            && instruction.code() != Code::Lea_r64_m
            && instruction.code() != Code::Lea_r32_m;
        match space.cells.get(&address).filter(|_| is_plain) {
            Some(target) => tell(*target, if runs { How::Runs } else { How::Takes }),
            None => tell(address, How::Takes),
        }
        // What is read or written there is a variable, too.
        if is_plain && space.cells.contains_key(&address) && !runs {
            tell(address, How::Takes);
        }
    }
    for operand in 0..instruction.op_count() {
        if space.has_addresses
            && matches!(
                instruction.op_kind(operand),
                OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64
            )
        {
            let value = instruction.immediate(operand);
            if space.function_at(value).is_some_and(|at| !space.functions[at].is_gap) || space.is_data(value) {
                tell(value, How::Takes);
            }
        }
    }
}

/// Returns where a call into a table of jumps goes.
fn through_plt(space: &Space<'_>, function: usize, target: u64) -> Option<u64> {
    let (bytes, stretch) = space.code_at(target)?;
    if !stretch.is_plt {
        return None;
    }
    let jump = decode(space, bytes.get(..bytes.len().min(24))?, target)
        .into_iter()
        .take(3)
        .find(|instruction| instruction.flow_control() == FlowControl::IndirectBranch)?;
    let cell = address(space, function, &jump)?;
    space.cells.get(&cell).copied()
}
