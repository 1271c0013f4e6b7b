//! The code of a seccomp filter: for each architecture a search tree over call numbers whose leaves compare arguments.

use std::io;

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};
use seccompiler::{BpfProgram, apply_filter, sock_filter};

use crate::sandbox::plan::Unsupported;

/// Return values (linux/seccomp.h).
pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const ENOSYS: u32 = ERRNO | 38;

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// The kernel takes no longer program (BPF_MAXINSNS).
const MAX_LENGTH: usize = 4096;

/// One instruction of classic BPF (linux/filter.h): code, jump if true, jump if false, operand.
pub(in crate::sandbox) type Instruction = (u16, u8, u8, u32);

const fn load(offset: u32) -> Instruction {
    (0x20, 0, 0, offset)
}
const fn and(mask: u32) -> Instruction {
    (0x54, 0, 0, mask)
}
const fn jump(over: u32) -> Instruction {
    (0x05, 0, 0, over)
}
const fn if_equal(value: u32, yes: u8, no: u8) -> Instruction {
    (0x15, yes, no, value)
}
const fn if_at_least(value: u32, yes: u8, no: u8) -> Instruction {
    (0x35, yes, no, value)
}
const fn give(value: u32) -> Instruction {
    (0x06, 0, 0, value)
}

/// What happens with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// One action whatever the arguments.
    Always(u32),
    /// The first rule that matches, else the second field.
    First(Vec<Rule>, u32),
}

/// An action for calls all of whose conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) action: u32,
    pub(super) conditions: Vec<Condition>,
}

/// `(argument & mask == value) == wanted`, on 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    argument: u32,
    mask: u64,
    value: u64,
    wanted: bool,
}

/// Returns the condition that the spec describes: `SCMP_CMP_MASKED_EQ` has the mask in `value`, the datum in `valueTwo`.
pub(super) fn condition(arg: &LinuxSeccompArg) -> Result<Condition, Unsupported> {
    let argument = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument = argument.ok_or_else(|| Unsupported::value("linux.seccomp.syscalls.args.index", arg.index()))?;
    let (mask, value, wanted) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => (u64::MAX, arg.value(), true),
        LinuxSeccompOperator::ScmpCmpNe => (u64::MAX, arg.value(), false),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0), true),
        other => return Err(Unsupported::value("linux.seccomp.syscalls.args.op", other)),
    };
    Ok(Condition { argument, mask, value, wanted })
}

impl Decision {
    pub(super) fn of<'a>(rules: impl IntoIterator<Item = &'a Rule>, default: u32) -> Self {
        let mut reached: Vec<Rule> = Vec::new();
        for rule in rules {
            let always = rule.conditions.is_empty();
            if always && reached.is_empty() {
                return Self::Always(rule.action);
            }
            reached.push(rule.clone());
            // Nothing after a rule without conditions is ever reached.
            if always {
                break;
            }
        }
        if reached.is_empty() { Self::Always(default) } else { Self::First(reached, default) }
    }

    fn code(&self) -> Vec<Instruction> {
        match self {
            Self::Always(action) => vec![give(*action)],
            Self::First(rules, default) => {
                let mut code: Vec<_> = rules.iter().flat_map(Rule::code).collect();
                code.push(give(*default));
                code
            }
        }
    }
}

impl Rule {
    fn code(&self) -> Vec<Instruction> {
        // Built from its end, because failing jumps over what follows.
        let mut code = vec![give(self.action)];
        for condition in self.conditions.iter().rev() {
            let mut whole = condition.code(code.len());
            whole.append(&mut code);
            code = whole;
        }
        code
    }
}

impl Condition {
    /// Returns code that falls through when the condition holds and else skips `rest` instructions after it.
    fn code(&self, rest: usize) -> Vec<Instruction> {
        let rest = u8::try_from(rest).expect("a rule has at most six conditions of at most six instructions");
        let low = ARGUMENTS + 8 * self.argument;
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 64-bit number")]
        let halves = [
            (low, self.mask as u32, self.value as u32),
            (low + 4, (self.mask >> 32) as u32, (self.value >> 32) as u32),
        ];
        let compared: Vec<_> = halves.into_iter().filter(|(_, mask, value)| *mask != 0 || *value != 0).collect();
        let mut code: Vec<Instruction> = Vec::new();
        let count = compared.len();
        for (at, (offset, mask, value)) in compared.into_iter().enumerate().rev() {
            let after = u8::try_from(code.len()).expect("at most three instructions");
            let (yes, no) = match (self.wanted, at + 1 == count) {
                (true, _) => (0, after + rest),
                (false, true) => (rest, 0),
                (false, false) => (0, after),
            };
            let mut half = vec![load(offset), if_equal(value, yes, no)];
            if mask != u32::MAX {
                half.insert(1, and(mask));
            }
            half.append(&mut code);
            code = half;
        }
        code
    }
}

/// Returns the whole filter, or nothing if it would be too long: AUDIT_ARCH value and, ascending from 0, the first call
/// number of each run with what happens to it.
pub(super) fn program(architectures: &[(u32, Vec<(u32, Decision)>)]) -> Option<Vec<Instruction>> {
    let mut program = Vec::new();
    for (audit, runs) in architectures {
        let tree = tree(runs);
        program.push(load(ARCHITECTURE));
        program.push(if_equal(*audit, 1, 0));
        program.push(jump(u32::try_from(tree.len() + 1).ok()?));
        program.push(load(NUMBER));
        program.extend(tree);
    }
    program.push(give(KILL_PROCESS));
    (program.len() <= MAX_LENGTH).then_some(program)
}

fn tree(runs: &[(u32, Decision)]) -> Vec<Instruction> {
    match runs {
        [] => vec![give(KILL_PROCESS)],
        [(_, decision)] => decision.code(),
        _ => {
            let (below, above) = runs.split_at(runs.len() / 2);
            let (first, below, above) = (above[0].0, tree(below), tree(above));
            let mut code = match u8::try_from(below.len()) {
                Ok(over) => vec![if_at_least(first, over, 0)],
                Err(_) => {
                    let over = u32::try_from(below.len()).expect("checked against the longest program afterwards");
                    vec![if_at_least(first, 0, 1), jump(over)]
                }
            };
            code.extend(below);
            code.extend(above);
            code
        }
    }
}

/// Binds the calling process, and all it starts, to a filter.
pub(in crate::sandbox) fn install(program: &[Instruction]) -> io::Result<()> {
    let program: BpfProgram = program.iter().map(|&(code, jt, jf, k)| sock_filter { code, jt, jf, k }).collect();
    apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a filter as the kernel would.
    pub(in crate::sandbox::seccomp) fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = [0; 64];
        data[..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (at, arg) in args.iter().enumerate() {
            data[16 + 8 * at..24 + 8 * at].copy_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let (code, yes, no, k) = program[at];
            let branch = |taken: bool| usize::from(if taken { yes } else { no });
            at += 1;
            match code {
                0x20 => a = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += branch(a == k),
                0x35 => at += branch(a >= k),
                0x06 => return k,
                other => panic!("{other:x}"),
            }
        }
    }

    fn decide(conditions: Vec<Condition>, arg: u64) -> bool {
        let rule = Rule { action: ALLOW, conditions };
        let program = program(&[(7, vec![(0, Decision::of([&rule], ENOSYS))])]).unwrap();
        run(&program, 7, 0, [arg, 1, 0, 0, 0, 0]) == ALLOW
    }

    #[test]
    fn conditions_compare_all_bits_that_they_name() {
        let condition = |mask, value, wanted| vec![Condition { argument: 0, mask, value, wanted }];
        let high = 1 << 32;
        assert!(decide(condition(u64::MAX, 5, true), 5) && !decide(condition(u64::MAX, 5, true), high | 5));
        assert!(!decide(condition(u64::MAX, 5, false), 5) && decide(condition(u64::MAX, 5, false), high | 5));
        assert!(decide(condition(u64::MAX, 5, false), 6) && decide(condition(u64::MAX, high | 5, true), high | 5));
        assert!(decide(condition(0xffff_ffff, 5, true), high | 5) && !decide(condition(0xf0, 0x10, true), 0x25));
        assert!(decide(condition(0xf0, 0x10, true), 0x1f));
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let condition = |argument, value| Condition { argument, mask: u64::MAX, value, wanted: true };
        assert!(decide(vec![condition(0, 9), condition(1, 1)], 9));
        assert!(
            !decide(vec![condition(0, 9), condition(1, 2)], 9) && !decide(vec![condition(0, 8), condition(1, 1)], 9)
        );
    }

    #[test]
    fn a_tree_finds_every_number_however_long_its_branches() {
        let runs: Vec<_> = (0..900).map(|n| (n * 2, Decision::Always(n))).collect();
        let program = program(&[(7, runs)]).unwrap();
        for number in 0..1800 {
            assert_eq!(run(&program, 7, number, [0; 6]), number / 2);
        }
        assert_eq!(run(&program, 7, u32::MAX, [0; 6]), 899);
        assert_eq!(run(&program, 8, 0, [0; 6]), KILL_PROCESS);
    }

    #[test]
    fn a_program_that_the_kernel_would_refuse_is_not_made() {
        let runs: Vec<_> = (0..5000).map(|n| (n, Decision::Always(n))).collect();
        assert!(program(&[(7, runs)]).is_none());
    }
}
