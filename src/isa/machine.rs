//! Which machine, class, byte order and ABI flags the ELF files of a CHOST have.
//!
//! Sources: gABI, chapter 4; the processor supplements of ARM (IHI 0044), RISC-V, PowerPC64 (ELFv2), SPARC V9; binutils'
//! `include/elf`. More than one machine is accepted where the same processor runs both: 32-bit programs of amd64, ppc64, s390x
//! and sparc64 (multilib), not those of arm64, which many such processors cannot run. Programs for the kernel's own machine
//! (BPF) are accepted everywhere.

use elf::abi;

use super::Target;

/// What an ELF header says of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) number: u16,
    pub(super) is_64: bool,
    pub(super) is_little: bool,
    pub(super) flags: u32,
}

impl Machine {
    /// Reads a header; nothing where it is not even one.
    pub(super) fn of(data: &[u8]) -> Option<Self> {
        let (class, order) = (*data.get(4)?, *data.get(5)?);
        let is_64 = match class {
            1 => false,
            2 => true,
            _ => return None,
        };
        let is_little = match order {
            1 => true,
            2 => false,
            _ => return None,
        };
        let number = number_of(data.get(18..20)?, is_little);
        let at = if is_64 { 48 } else { 36 };
        let flags = number_of(data.get(at..at + 4)?, is_little);
        Some(Self { number: u16::try_from(number).ok()?, is_64, is_little, flags })
    }

    pub(super) fn is_x86(&self) -> bool {
        matches!(self.number, abi::EM_386 | abi::EM_X86_64)
    }
}

fn number_of(bytes: &[u8], is_little: bool) -> u32 {
    let add = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
    if is_little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = NAMES.iter().find(|(number, _)| *number == self.number);
        match name {
            Some((_, name)) => f.write_str(name)?,
            None => write!(f, "machine {}", self.number)?,
        }
        let (class, order) = (if self.is_64 { 64 } else { 32 }, if self.is_little { "little" } else { "big" });
        write!(f, ", {class}-bit, {order}-endian")
    }
}

const EM_LOONGARCH: u16 = 258;
const EM_ALPHA: u16 = 0x9026;

const NAMES: [(u16, &str); 18] = [
    (abi::EM_386, "i386"),
    (abi::EM_X86_64, "x86-64"),
    (abi::EM_ARM, "ARM"),
    (abi::EM_AARCH64, "AArch64"),
    (abi::EM_PPC, "PowerPC"),
    (abi::EM_PPC64, "PowerPC64"),
    (abi::EM_RISCV, "RISC-V"),
    (abi::EM_S390, "S/390"),
    (abi::EM_SPARC, "SPARC"),
    (abi::EM_SPARC32PLUS, "SPARC v8+"),
    (abi::EM_SPARCV9, "SPARC v9"),
    (abi::EM_MIPS, "MIPS"),
    (abi::EM_PARISC, "PA-RISC"),
    (abi::EM_68K, "m68k"),
    (EM_LOONGARCH, "LoongArch"),
    (EM_ALPHA, "Alpha"),
    (abi::EM_BPF, "BPF"),
    (abi::EM_IA_64, "IA-64"),
];

/// Machine, whether 64-bit, whether little-endian.
type Kind = (u16, bool, bool);

/// Returns what a CHOST's processor runs, its own kind first.
fn kinds(chost: &str) -> Vec<Kind> {
    let cpu = chost.split('-').next().unwrap_or_default();
    let starts = |text: &str| cpu.starts_with(text);
    match cpu {
        "x86_64" if chost.ends_with("x32") => {
            vec![(abi::EM_X86_64, false, true), (abi::EM_X86_64, true, true), (abi::EM_386, false, true)]
        }
        "x86_64" => vec![(abi::EM_X86_64, true, true), (abi::EM_386, false, true)],
        "i386" | "i486" | "i586" | "i686" | "x86" => vec![(abi::EM_386, false, true)],
        _ if starts("aarch64") => vec![(abi::EM_AARCH64, true, !starts("aarch64_be"))],
        _ if starts("arm") => vec![(abi::EM_ARM, false, !(starts("armeb") || cpu.ends_with('b')))],
        "powerpc64le" | "ppc64le" => vec![(abi::EM_PPC64, true, true)],
        _ if starts("powerpc64") || starts("ppc64") => vec![(abi::EM_PPC64, true, false), (abi::EM_PPC, false, false)],
        _ if starts("powerpc") || starts("ppc") => vec![(abi::EM_PPC, false, cpu.ends_with("le"))],
        _ if starts("riscv64") => vec![(abi::EM_RISCV, true, true)],
        _ if starts("riscv32") => vec![(abi::EM_RISCV, false, true)],
        "s390x" => vec![(abi::EM_S390, true, false), (abi::EM_S390, false, false)],
        _ if starts("s390") => vec![(abi::EM_S390, false, false)],
        _ if starts("sparc64") || starts("sparcv9") => {
            vec![(abi::EM_SPARCV9, true, false), (abi::EM_SPARC, false, false), (abi::EM_SPARC32PLUS, false, false)]
        }
        _ if starts("sparc") => vec![(abi::EM_SPARC, false, false), (abi::EM_SPARC32PLUS, false, false)],
        _ if starts("mips64") => {
            let little = cpu.contains("el");
            vec![(abi::EM_MIPS, true, little), (abi::EM_MIPS, false, little)]
        }
        _ if starts("mips") => vec![(abi::EM_MIPS, false, cpu.contains("el"))],
        _ if starts("loongarch64") => vec![(EM_LOONGARCH, true, true)],
        _ if starts("alpha") => vec![(EM_ALPHA, true, true)],
        _ if starts("hppa64") => vec![(abi::EM_PARISC, true, false)],
        _ if starts("hppa") => vec![(abi::EM_PARISC, false, false)],
        _ if starts("m68k") => vec![(abi::EM_68K, false, false)],
        _ => Vec::new(),
    }
}

/// Returns what is wrong with a file's machine for a target.
pub(super) fn wrong(machine: &Machine, target: &Target) -> Option<String> {
    let kinds = kinds(&target.chost);
    let Some((_, _, is_little)) = kinds.first() else {
        return Some(format!("it is for {machine}, and nobody knows what `{}` runs", target.chost));
    };
    if machine.number == abi::EM_BPF && machine.is_little == *is_little {
        return None;
    }
    let same = |kind: &&Kind| **kind == (machine.number, machine.is_64, machine.is_little);
    if !kinds.iter().any(|kind| same(&kind)) {
        let expected = kinds.first().map(|(number, is_64, is_little)| Machine {
            number: *number,
            is_64: *is_64,
            is_little: *is_little,
            flags: 0,
        });
        let expected = expected.map(|machine| machine.to_string()).unwrap_or_default();
        return Some(format!("it is for {machine}; `{}` is {expected}", target.chost));
    }
    flags(machine, target)
}

/// Returns what is wrong with the flags of a machine that fits.
fn flags(machine: &Machine, target: &Target) -> Option<String> {
    let (flags, chost) = (machine.flags, target.chost.as_str());
    let option = |name: &str| target.options.iter().rev().find_map(|word| word.strip_prefix(name));
    let say = |what: &str| Some(format!("its ELF flags {flags:#x} {what}"));
    match machine.number {
        abi::EM_ARM => {
            let (eabi, hard) = (flags >> 24, chost.ends_with("hf") || chost.contains("hardfloat"));
            match (flags & 0x200 != 0, flags & 0x400 != 0) {
                _ if eabi != 5 && chost.contains("eabi") => say("say that it is not of the EABI, version 5"),
                (true, _) if hard => say("say that it passes numbers in general registers; this CHOST does not"),
                (_, true) if !hard => {
                    say("say that it passes numbers in floating-point registers; this CHOST does not")
                }
                _ => None,
            }
        }
        abi::EM_RISCV => {
            let usual = if machine.is_64 { "lp64d" } else { "ilp32d" };
            let abi = option("-mabi=").unwrap_or(usual);
            let float = if abi.ends_with('d') {
                4
            } else if abi.ends_with('f') {
                2
            } else {
                0
            };
            match () {
                () if flags & 6 != float => say(&format!("are of another floating-point ABI than {abi}")),
                () if (flags & 8 != 0) != abi.ends_with('e') => say("disagree about RVE, the ABI of 16 registers"),
                () => None,
            }
        }
        abi::EM_PPC64 => match (flags & 3, machine.is_little) {
            (1, true) => say("are of the ABI ELFv1; little-endian machines have ELFv2"),
            (3, _) => say("name no ABI that there is"),
            _ => None,
        },
        EM_LOONGARCH => {
            let float = match option("-mabi=").unwrap_or("lp64d") {
                abi if abi.ends_with('d') => 3,
                abi if abi.ends_with('f') => 2,
                _ => 1,
            };
            if flags & 7 == float { None } else { say("are of another floating-point ABI") }
        }
        // Only binutils writes these, from the instructions that it assembled: VIS 2 and 3 (Sun), and HAL's own.
        abi::EM_SPARCV9 | abi::EM_SPARC32PLUS => {
            let later =
                option("-mcpu=").is_some_and(|cpu| cpu.starts_with("ultrasparc3") || cpu.starts_with("niagara"));
            match () {
                () if flags & 0x400 != 0 => say("say that it needs HAL R1's own instructions"),
                () if flags & 0x800 != 0 && !later => say("say that it needs UltraSPARC III's own instructions"),
                () => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u16, is_64: bool, is_little: bool, flags: u32) -> Machine {
        let mut data = vec![0_u8; 64];
        data[..4].copy_from_slice(b"\x7fELF");
        (data[4], data[5]) = (1 + u8::from(is_64), 2 - u8::from(is_little));
        let at = if is_64 { 48 } else { 36 };
        if is_little {
            data[18..20].copy_from_slice(&number.to_le_bytes());
            data[at..at + 4].copy_from_slice(&flags.to_le_bytes());
        } else {
            data[18..20].copy_from_slice(&number.to_be_bytes());
            data[at..at + 4].copy_from_slice(&flags.to_be_bytes());
        }
        Machine::of(&data).unwrap()
    }

    fn target(chost: &str, options: &[&str]) -> Target {
        Target { chost: chost.into(), options: options.iter().map(ToString::to_string).collect(), ..Target::default() }
    }

    #[test]
    fn every_chost_has_its_machine_and_what_its_processor_runs_too() {
        for (chost, number, is_64, is_little, flags) in [
            ("x86_64-pc-linux-gnu", abi::EM_X86_64, true, true, 0),
            ("x86_64-pc-linux-gnu", abi::EM_386, false, true, 0),
            ("i686-pc-linux-gnu", abi::EM_386, false, true, 0),
            ("aarch64-unknown-linux-gnu", abi::EM_AARCH64, true, true, 0),
            ("armv7a-hardfloat-linux-gnueabihf", abi::EM_ARM, false, true, 0x500_0400),
            ("armv5tel-softfloat-linux-gnueabi", abi::EM_ARM, false, true, 0x500_0200),
            ("powerpc64le-unknown-linux-gnu", abi::EM_PPC64, true, true, 2),
            ("riscv64-unknown-linux-gnu", abi::EM_RISCV, true, true, 5),
            ("s390x-ibm-linux-gnu", abi::EM_S390, true, false, 0),
            ("sparc64-unknown-linux-gnu", abi::EM_SPARCV9, true, false, 0x202),
            ("loongarch64-unknown-linux-gnu", EM_LOONGARCH, true, true, 0x43),
            ("x86_64-pc-linux-gnu", abi::EM_BPF, true, true, 0),
        ] {
            let wrong = wrong(&header(number, is_64, is_little, flags), &target(chost, &[]));
            assert_eq!(wrong, None, "{chost}");
        }
    }

    #[test]
    fn another_machine_class_order_or_abi_is_said() {
        let x86 = "x86_64-pc-linux-gnu";
        for (chost, number, is_64, is_little, flags, said) in [
            (
                x86,
                abi::EM_SPARCV9,
                true,
                false,
                0,
                "it is for SPARC v9, 64-bit, big-endian; `x86_64-pc-linux-gnu` is x86-64",
            ),
            (x86, abi::EM_X86_64, true, false, 0, "big-endian"),
            (x86, abi::EM_X86_64, false, true, 0, "x86-64, 32-bit"),
            (x86, abi::EM_BPF, true, false, 0, "BPF, 64-bit, big-endian"),
            (x86, 4711, true, true, 0, "machine 4711"),
            ("aarch64-unknown-linux-gnu", abi::EM_ARM, false, true, 0x500_0400, "ARM"),
            ("armv7a-hardfloat-linux-gnueabihf", abi::EM_ARM, false, true, 0x500_0200, "0x5000200 say that it passes"),
            ("armv7a-unknown-linux-gnueabi", abi::EM_ARM, false, true, 0x500_0400, "in floating-point registers"),
            ("armv7a-unknown-linux-gnueabi", abi::EM_ARM, false, true, 0x400_0000, "EABI"),
            ("riscv64-unknown-linux-gnu", abi::EM_RISCV, true, true, 1, "floating-point ABI than lp64d"),
            ("powerpc64le-unknown-linux-gnu", abi::EM_PPC64, true, true, 1, "ELFv1"),
            ("sparc64-unknown-linux-gnu", abi::EM_SPARCV9, true, false, 0x800, "UltraSPARC III"),
            ("vax-dec-ultrix", abi::EM_386, false, true, 0, "nobody knows what `vax-dec-ultrix` runs"),
        ] {
            let wrong = wrong(&header(number, is_64, is_little, flags), &target(chost, &[])).unwrap();
            assert!(wrong.contains(said), "{wrong}");
        }
        let soft = header(abi::EM_RISCV, true, true, 1);
        assert_eq!(wrong(&soft, &target("riscv64-unknown-linux-gnu", &["-mabi=lp64"])), None);
        assert_eq!(Machine::of(b"\x7fELF\x02\x01"), None);
        assert_eq!(Machine::of(&[0x7f; 64]), None);
    }
}
