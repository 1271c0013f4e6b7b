//! Compiles the spec's `linux.seccomp` to a program for the kernel (seccomp(2)).
//!
//! Written here and not left to libseccomp, because what matters is how *unlisted* numbers are treated: a system call
//! that the tables do not know (newer than they are, or of the x32 ABI) fails with ENOSYS, so that C libraries fall
//! back to older calls; one they know and the spec does not list gets the default action. Both instruction sets an x86-64
//! kernel runs, x86-64 and i386, are covered by the same rules by name; a process of an architecture the spec does not
//! name is killed. Of several rules for one call the first that matches wins.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction};
use syscalls::{x86, x86_64};

use crate::sandbox::plan::Unsupported;
use crate::sandbox::without::{Mechanism, Without};
use bpf::{Decision, Instruction, Rule};

mod bpf;
pub(super) mod text;

pub(super) use bpf::install;
/// A compiled filter, to be installed by the process it shall bind.
pub(super) type Program = Vec<Instruction>;

/// One architecture: AUDIT_ARCH value (linux/audit.h) and the calls it knows.
struct Table {
    audit: u32,
    number: fn(&str) -> Option<u32>,
    knows: fn(u32) -> bool,
    last: u32,
}

const X86_64: Table = Table {
    audit: 0xc000_003e,
    number: |name| name.parse::<x86_64::Sysno>().ok().and_then(|call| u32::try_from(call.id()).ok()),
    knows: |number| usize::try_from(number).is_ok_and(|number| x86_64::Sysno::new(number).is_some()),
    last: x86_64::Sysno::last().id().cast_unsigned(),
};
const I386: Table = Table {
    audit: 0x4000_0003,
    number: |name| name.parse::<x86::Sysno>().ok().and_then(|call| u32::try_from(call.id()).ok()),
    knows: |number| usize::try_from(number).is_ok_and(|number| x86::Sysno::new(number).is_some()),
    last: x86::Sysno::last().id().cast_unsigned(),
};

/// Returns the filter that the spec describes.
pub(super) fn compile(seccomp: &LinuxSeccomp, without: &Without) -> Result<Program, Unsupported> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let mut tables = Vec::new();
    for arch in seccomp.architectures().as_deref().unwrap_or_default() {
        match arch {
            Arch::ScmpArchX86_64 => tables.push(X86_64),
            Arch::ScmpArchX86 => tables.push(I386),
            // Its calls come with the x86-64 architecture and numbers from 2^30: never known.
            Arch::ScmpArchX32 => {}
            other => return Err(Unsupported::value("linux.seccomp.architectures", other)),
        }
    }
    let mut rules = Vec::new();
    for rule in seccomp.syscalls().as_deref().unwrap_or_default() {
        let compiled = Rule {
            action: action(rule.action(), rule.errno_ret())?,
            conditions: rule.args().iter().flatten().map(bpf::condition).collect::<Result<_, _>>()?,
        };
        for name in rule.names() {
            let numbers = [X86_64, I386].map(|table| (table.number)(name));
            if numbers == [None, None] {
                return Err(Unsupported::value("linux.seccomp.syscalls.names", name));
            }
            rules.push((numbers, compiled.clone()));
        }
    }
    let parts = tables.iter().map(|table| {
        let is_i386 = table.audit == I386.audit;
        if is_i386 && !without.keeps(Mechanism::I386Filter) {
            return (table.audit, vec![(0, Decision::Always(bpf::ALLOW))]);
        }
        let unknown = if without.keeps(Mechanism::UnknownCalls) { bpf::ENOSYS } else { default };
        let listed = rules.iter().filter_map(|(numbers, rule)| Some((numbers[usize::from(is_i386)]?, rule)));
        (table.audit, decisions(table, listed.collect(), default, unknown))
    });
    let program = bpf::program(&parts.collect::<Vec<_>>());
    program.ok_or_else(|| Unsupported::value("linux.seccomp", "more rules than a filter can hold"))
}

/// Returns the first number of each run of calls that are decided alike; `listed` are the rules in the spec's order, each
/// with the number of a call.
fn decisions(table: &Table, mut listed: Vec<(u32, &Rule)>, default: u32, unknown: u32) -> Vec<(u32, Decision)> {
    // Of rules for the same call the order stays.
    listed.sort_by_key(|(number, _)| *number);
    let mut rest = &listed[..];
    let mut runs: Vec<(u32, Decision)> = Vec::new();
    for number in 0..=table.last + 1 {
        let (of, after) = rest.split_at(rest.iter().take_while(|(listed, _)| *listed == number).count());
        rest = after;
        let decision = match of {
            [] if (table.knows)(number) => Decision::Always(default),
            [] => Decision::Always(unknown),
            rules => Decision::of(rules.iter().map(|(_, rule)| *rule), default),
        };
        if runs.last().is_none_or(|(_, last)| *last != decision) {
            runs.push((number, decision));
        }
    }
    runs
}

/// Returns the value a filter returns for an action.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Unsupported> {
    match action {
        LinuxSeccompAction::ScmpActAllow => Ok(bpf::ALLOW),
        LinuxSeccompAction::ScmpActErrno => Ok(bpf::ERRNO | (errno.unwrap_or(1) & 0xfff)),
        LinuxSeccompAction::ScmpActKillProcess => Ok(bpf::KILL_PROCESS),
        other => Err(Unsupported::value("linux.seccomp.syscalls.action", other)),
    }
}
