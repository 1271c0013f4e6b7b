//! What a function does only after it has looked at what the processor can do.
//!
//! 1. Values are followed through registers, flags and the stack, in the order of the code: what CPUID and XGETBV answer, what
//!    a function returns that asks them, what a *feature variable* holds.
//! 2. A conditional jump on such a value is a **guard**. A place is **guarded** where no way leads to it but through a guard, and
//!    each guard that leads to it does so on one side only: what follows the branches of an `if` is not guarded by it.
//! 3. A guard with instructions beyond the level on each of its sides leaves none for a processor without: it guards nothing.
//!
//! This is a check of what compilers make, not a proof: code is taken as lying in the order in which it runs, and variables
//! that are written through pointers are not seen.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};

use super::graph::{self, How};
use super::space::Space;
use super::sweep;

/// How much work one function may be: instructions times guards.
const WORK: usize = 1 << 28;
/// How far after its address a variable is written where that is handed to a function that asks the processor.
const HANDED: u64 = 64;

/// Where it is known what the processor can do.
#[derive(Debug, Default, Clone)]
pub(super) struct Sources {
    /// Feature variables: start and end.
    variables: BTreeMap<u64, u64>,
    /// Functions that are handed it, in these registers.
    pub(super) handed: HashMap<usize, u32>,
    /// Addresses of functions that ask the processor, or answer for one that did.
    pub(super) answering: HashSet<u64>,
}

impl Sources {
    /// Adds a variable; says whether it is new.
    pub(super) fn add(&mut self, start: u64, size: u64) -> bool {
        let end = start.saturating_add(size.max(1));
        let known = self.variables.entry(start).or_insert(start);
        let new = *known < end;
        *known = end.max(*known);
        new
    }

    /// Returns whether an access touches a variable.
    pub(super) fn touches(&self, start: u64, size: u64) -> bool {
        let before = self.variables.range(..start.saturating_add(size.max(1))).next_back();
        before.is_some_and(|(_, end)| *end > start)
    }
}

/// What looking into a function told.
#[derive(Default)]
pub(super) struct Guards {
    index: HashMap<u64, usize>,
    /// Places that are reached without a guard.
    open: Places,
    /// What each guard leads to, by side, without passing another one.
    sides: Vec<Vec<Places>>,
    /// Guards themselves.
    places: BTreeSet<usize>,
    /// Instructions that take addresses of which a `cmov` chooses one by what the processor can do.
    pub(super) choices: Vec<BTreeSet<u64>>,
    /// Variables that are written with what it can do.
    pub(super) written: Vec<(u64, u64)>,
    /// Functions that are handed it, by address, in these registers.
    pub(super) hands: Vec<(u64, u32)>,
    /// It returns what the processor can do.
    pub(super) answers: bool,
}

/// A set of instructions by number.
#[derive(Default, Clone)]
struct Places(Vec<u64>);

impl Places {
    fn new(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }

    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Adds one; says whether it is new.
    fn add(&mut self, at: usize) -> bool {
        let Some(word) = self.0.get_mut(at / 64) else { return false };
        let new = *word >> (at % 64) & 1 == 0;
        *word |= 1 << (at % 64);
        new
    }
}

impl Guards {
    /// Returns whether the instruction at an address is guarded; `beyond` are the addresses of all that execute something
    /// beyond the level, directly or by a call.
    pub(super) fn guard(&self, address: u64, beyond: &[u64]) -> bool {
        let Some(at) = self.index.get(&address).copied() else { return false };
        // The jump out of the function that is a guard itself.
        if self.places.contains(&at) {
            return true;
        }
        if self.sides.is_empty() || self.open.has(at) {
            return false;
        }
        let beyond: Vec<usize> = beyond.iter().filter_map(|address| self.index.get(address).copied()).collect();
        let mut guarded = false;
        for sides in &self.sides {
            let leading = sides.iter().filter(|side| side.has(at)).count();
            if leading == 0 {
                continue;
            }
            let is_free = |side: &Places| !beyond.iter().any(|at| side.has(*at));
            if leading == sides.len() || !sides.iter().any(is_free) {
                return false;
            }
            guarded = true;
        }
        guarded
    }
}

/// Looks into a function.
pub(super) fn look(space: &Space<'_>, number: usize, sources: &Sources, asks: bool) -> Guards {
    let body = graph::body(space, number);
    let mut flow = Flow::new(space, number, sources);
    let mut guards =
        Guards { index: body.iter().enumerate().map(|(at, i)| (i.ip(), at)).collect(), ..Guards::default() };
    for (at, instruction) in body.iter().enumerate() {
        if flow.step(instruction) {
            guards.places.insert(at);
        }
    }
    guards.choices = flow.choices;
    guards.answers = flow.answers || asks;
    (guards.written, guards.hands) = (flow.written, flow.hands);
    guards.search(&body);
    // What is written by who asks, or only after a guard, depends on the answer.
    for (address, size, at) in flow.stores {
        if asks || guards.guard(at, &[]) {
            guards.written.push((address, size));
        }
    }
    guards.answers |= flow.results.iter().any(|at| guards.guard(*at, &[]));
    guards
}

impl Guards {
    fn search(&mut self, body: &[Instruction]) {
        if self.places.is_empty() || body.len().saturating_mul(self.places.len()) > WORK {
            return;
        }
        let next = |at: usize| -> Vec<Option<usize>> {
            let instruction = &body[at];
            let target = || self.index.get(&instruction.near_branch_target()).copied();
            match instruction.flow_control() {
                FlowControl::ConditionalBranch => vec![target(), self.index.get(&instruction.next_ip()).copied()],
                FlowControl::UnconditionalBranch => vec![target()],
                _ if sweep::is_end(instruction) => Vec::new(),
                _ => vec![self.index.get(&instruction.next_ip()).copied()],
            }
        };
        let reach = |from: &[usize], stop: bool| {
            let (mut places, mut todo) = (Places::new(body.len()), from.to_vec());
            while let Some(at) = todo.pop() {
                if places.add(at) && !(stop && self.places.contains(&at)) {
                    todo.extend(next(at).into_iter().flatten());
                }
            }
            places
        };
        // What only tables of jumps and exceptions lead to is reached by something unknown.
        let (mut roots, mut tables) = (vec![0], Vec::new());
        let mut all = reach(&roots, false);
        let jumps = body.iter().enumerate().filter(|(_, i)| i.flow_control() == FlowControl::IndirectBranch);
        let jumps: Vec<usize> = jumps.map(|(at, _)| at).collect();
        let by_guard = !jumps.is_empty() && jumps.iter().all(|at| self.places.contains(at));
        for (at, instruction) in body.iter().enumerate() {
            if !all.has(at) && !graph::is_padding(instruction) {
                let list = if by_guard { &mut tables } else { &mut roots };
                list.push(at);
                let more = reach(&[at], false);
                all.0.iter_mut().zip(more.0).for_each(|(a, b)| *a |= b);
            }
        }
        let open = reach(&roots, true);
        let side = |at: Option<usize>| at.map_or_else(|| Places::new(body.len()), |at| reach(&[at], true));
        let sides = |at: &usize| match body[*at].flow_control() {
            FlowControl::IndirectBranch => tables.iter().map(|at| side(Some(*at))).collect(),
            _ => next(*at).into_iter().map(side).collect(),
        };
        let sides = self.places.iter().map(sides).collect();
        (self.open, self.sides) = (open, sides);
    }
}

/// Follows what the processor can do through a function.
struct Flow<'a> {
    space: &'a Space<'a>,
    number: usize,
    sources: &'a Sources,
    factory: InstructionInfoFactory,
    /// Registers that hold it, by number.
    registers: u32,
    flags: bool,
    /// Places of the stack, by base and distance.
    stack: HashSet<(Register, u64)>,
    /// Which instructions took the addresses that registers hold.
    addresses: HashMap<usize, BTreeSet<u64>>,
    /// Addresses that registers hold.
    bases: HashMap<usize, u64>,
    /// Addresses of the stack and of variables that were taken since the last call.
    handed_stack: Vec<(Register, u64)>,
    handed: Vec<u64>,
    choices: Vec<BTreeSet<u64>>,
    written: Vec<(u64, u64)>,
    hands: Vec<(u64, u32)>,
    /// All writing to variables: address, size, instruction.
    stores: Vec<(u64, u64, u64)>,
    /// Where constants become what is returned.
    results: Vec<u64>,
    answers: bool,
    /// Nothing comes here from the instruction before.
    apart: bool,
    /// What is known where jumps lead to that lie ahead.
    ahead: HashMap<u64, Known>,
}

/// What is known of registers at a place.
#[derive(Clone)]
struct Known {
    registers: u32,
    flags: bool,
    addresses: HashMap<usize, BTreeSet<u64>>,
    bases: HashMap<usize, u64>,
}

const RAX: usize = 0;
const RDX: usize = 2;
/// What a call may change: rax, rcx, rdx, rsi, rdi, r8 to r11.
const VOLATILE: u32 = 0b1111_1100_0111;
/// In which a function is handed something: rdi, rsi, rdx, rcx, r8, r9.
const PARAMETERS: u32 = 0b11_1100_0110;

impl<'a> Flow<'a> {
    fn new(space: &'a Space<'a>, number: usize, sources: &'a Sources) -> Self {
        Self {
            space,
            number,
            sources,
            factory: InstructionInfoFactory::new(),
            registers: sources.handed.get(&number).copied().unwrap_or_default(),
            flags: false,
            stack: HashSet::new(),
            addresses: HashMap::new(),
            bases: HashMap::new(),
            handed_stack: Vec::new(),
            handed: Vec::new(),
            choices: Vec::new(),
            written: Vec::new(),
            hands: Vec::new(),
            stores: Vec::new(),
            results: Vec::new(),
            answers: false,
            apart: false,
            ahead: HashMap::new(),
        }
    }

    /// Takes the next instruction; says whether it is a guard.
    fn step(&mut self, instruction: &Instruction) -> bool {
        // What lies behind a return knows nothing of registers that this has put back, and all that was known where a jump leads
        // there.
        let known = self.ahead.remove(&instruction.ip()).filter(|_| self.apart);
        if let Some(known) = known {
            (self.registers, self.flags, self.addresses, self.bases) =
                (known.registers, known.flags, known.addresses, known.bases);
        }
        let is_guard = self.follow(instruction);
        self.apart = sweep::is_end(instruction);
        let is_jump =
            matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch);
        if is_jump && instruction.near_branch_target() > instruction.ip() {
            self.leave(instruction.near_branch_target());
        }
        is_guard
    }

    /// Notes what is known where a jump leads to: what is known wherever one does.
    fn leave(&mut self, to: u64) {
        match self.ahead.entry(to) {
            Entry::Vacant(place) => {
                place.insert(Known {
                    registers: self.registers,
                    flags: self.flags,
                    addresses: self.addresses.clone(),
                    bases: self.bases.clone(),
                });
            }
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                known.registers &= self.registers;
                known.flags &= self.flags;
                known.addresses.retain(|number, taken| self.addresses.get(number) == Some(taken));
                known.bases.retain(|number, base| self.bases.get(number) == Some(base));
            }
        }
    }

    fn follow(&mut self, instruction: &Instruction) -> bool {
        match instruction.code() {
            Code::Cpuid => {
                self.registers |= 0b1111;
                return false;
            }
            Code::Xgetbv => {
                self.registers |= 0b101;
                return false;
            }
            _ => {}
        }
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                self.call(instruction);
                return false;
            }
            FlowControl::Return => self.answers |= self.registers & 1 << RAX != 0,
            // A call whose caller is not come back to.
            FlowControl::UnconditionalBranch => self.answers |= self.hand(instruction),
            FlowControl::ConditionalBranch => {
                self.hand(instruction);
                // JRCXZ and LOOP look at a register.
                return if instruction.rflags_read() == 0 { self.registers & 2 != 0 } else { self.flags };
            }
            _ => {}
        }
        let info = self.factory.info(instruction).clone();
        let known = |register: Register| gpr(register).is_some_and(|number| self.registers & 1 << number != 0);
        let mut told = self.flags && instruction.rflags_read() != 0;
        for used in info.used_registers() {
            told |= reads(used.access()) && known(used.register());
        }
        let named = graph::address(self.space, self.number, instruction);
        let fixed = named.or_else(|| self.based(instruction));
        for memory in info.used_memory() {
            let size = memory.memory_size().size() as u64;
            told |= reads(memory.access()) && slot(memory).is_some_and(|slot| self.stack.contains(&slot));
            told |= reads(memory.access()) && fixed.is_some_and(|address| self.sources.touches(address, size));
        }
        let took = self.took(instruction, &info);
        for memory in info.used_memory().iter().filter(|memory| writes(memory.access())) {
            let size = memory.memory_size().size() as u64;
            match (slot(memory), fixed) {
                (Some(slot), _) if told => drop(self.stack.insert(slot)),
                (Some(slot), _) => drop(self.stack.remove(&slot)),
                (None, Some(address)) => {
                    self.stores.push((address, size, instruction.ip()));
                    if told {
                        self.written.push((address, size));
                    }
                }
                (None, None) => {}
            }
        }
        for used in info.used_registers().iter().filter(|used| writes(used.access())) {
            let Some(number) = gpr(used.register()) else { continue };
            let maybe = matches!(used.access(), OpAccess::CondWrite | OpAccess::ReadCondWrite);
            if told {
                self.registers |= 1 << number;
            } else if !maybe {
                self.registers &= !(1 << number);
                if number == RAX {
                    self.results.push(instruction.ip());
                }
            }
            match self.base(instruction, fixed).filter(|_| !maybe) {
                Some(base) => drop(self.bases.insert(number, base)),
                None => drop(self.bases.remove(&number)),
            }
            match &took {
                Some(took) if maybe => self.addresses.entry(number).or_default().extend(took),
                Some(took) => drop(self.addresses.insert(number, took.clone())),
                None if !maybe => drop(self.addresses.remove(&number)),
                None => {}
            }
            if maybe && self.flags && instruction.rflags_read() != 0 {
                let chosen = self.addresses.get(&number).cloned().unwrap_or_default();
                if chosen.len() > 1 {
                    self.choices.push(chosen);
                }
            }
        }
        if instruction.rflags_modified() != 0 {
            self.flags = told;
        }
        instruction.flow_control() == FlowControl::IndirectBranch && told
    }

    /// Returns the address that a memory operand means by a register that holds one.
    fn based(&self, instruction: &Instruction) -> Option<u64> {
        let base = self.bases.get(&gpr(instruction.memory_base())?)?;
        let is_memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
        (is_memory && instruction.memory_index() == Register::None)
            .then(|| base.wrapping_add(instruction.memory_displacement64()))
    }

    /// Returns the address that an instruction leaves in the register that it writes.
    fn base(&self, instruction: &Instruction, fixed: Option<u64>) -> Option<u64> {
        match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Lea, _) => fixed,
            // From the global offset table.
            (Mnemonic::Mov, OpKind::Memory) => self.space.cells.get(&fixed?).copied(),
            (Mnemonic::Mov, OpKind::Register) => self.bases.get(&gpr(instruction.op1_register())?).copied(),
            (Mnemonic::Mov, OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64) => {
                Some(instruction.immediate(1))
                    .filter(|address| self.space.has_addresses && self.space.is_data(*address))
            }
            _ => None,
        }
    }

    /// Returns which instructions took the addresses that one hands on.
    fn took(&mut self, instruction: &Instruction, info: &iced_x86::InstructionInfo) -> Option<BTreeSet<u64>> {
        let mut takes = false;
        graph::targets(self.space, self.number, instruction, &mut |_, how| takes |= how == How::Takes);
        if matches!(instruction.code(), Code::Lea_r64_m | Code::Lea_r32_m) {
            let base = instruction.memory_base();
            let is_stack = matches!(base, Register::RSP | Register::RBP | Register::ESP | Register::EBP);
            if is_stack && instruction.memory_index() == Register::None {
                self.handed_stack.push((base, instruction.memory_displacement64()));
            } else if let Some(address) = graph::address(self.space, self.number, instruction)
                && self.space.is_data(address)
            {
                self.handed.push(address);
            }
        }
        if takes {
            return Some([instruction.ip()].into());
        }
        let is_move = instruction.mnemonic() == Mnemonic::Mov || instruction.rflags_read() != 0;
        let read = info.used_registers().iter().filter(|used| is_move && reads(used.access()));
        let read: Vec<usize> = read.filter_map(|used| gpr(used.register())).collect();
        let all: BTreeSet<u64> =
            read.iter().filter_map(|number| self.addresses.get(number)).flatten().copied().collect();
        (!all.is_empty()).then_some(all)
    }

    /// Notes what a function is handed that is called, or jumped to; says whether it answers what the processor can do.
    fn hand(&mut self, instruction: &Instruction) -> bool {
        let mut answering = false;
        graph::targets(self.space, self.number, instruction, &mut |to, how| {
            answering |= how == How::Runs && self.sources.answering.contains(&to);
            if how == How::Runs && self.registers & PARAMETERS != 0 {
                self.hands.push((to, self.registers & PARAMETERS));
            }
        });
        answering
    }

    fn call(&mut self, instruction: &Instruction) {
        let answering = self.hand(instruction);
        self.registers &= !VOLATILE;
        self.flags = false;
        self.addresses.retain(|number, _| VOLATILE >> number & 1 == 0);
        self.bases.retain(|number, _| VOLATILE >> number & 1 == 0);
        let (stack, variables) = (std::mem::take(&mut self.handed_stack), std::mem::take(&mut self.handed));
        if answering {
            self.registers |= 1 << RAX | 1 << RDX;
            let slots =
                stack.into_iter().flat_map(|(base, at)| (0..4).map(move |word| (base, at.wrapping_add(4 * word))));
            self.stack.extend(slots);
            self.written.extend(variables.into_iter().map(|address| (address, HANDED)));
        }
    }
}

/// Returns a place of the stack that an operand names.
fn slot(memory: &UsedMemory) -> Option<(Register, u64)> {
    let base = memory.base();
    let is_stack = matches!(base, Register::RSP | Register::RBP | Register::ESP | Register::EBP);
    (is_stack && memory.index() == Register::None).then_some((base, memory.displacement()))
}

/// Returns the number of a general register, whatever part of it is named.
fn gpr(register: Register) -> Option<usize> {
    let full = register.full_register();
    if full.is_gpr64() && full != Register::RSP { Some(full.number()) } else { None }
}

fn reads(access: OpAccess) -> bool {
    matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}
