//! What assemblers note about the objects of ARM and RISC-V: how arguments are passed, and which extensions are used.
//!
//! Sources: Addenda to the ABI for the ARM Architecture (IHI 0045), "Build attributes"; RISC-V psABI, "Attributes". ARM's
//! other notes are maxima over hand-written code that is chosen at run time, too, and say nothing about what is reached.

use std::collections::BTreeSet;

use elf::ElfBytes;
use elf::abi as consts;
use elf::endian::AnyEndian;

use super::Target;
use super::machine::Machine;

/// `SHT_ARM_ATTRIBUTES` and `SHT_RISCV_ATTRIBUTES`.
const ATTRIBUTES: u32 = 0x7000_0003;
const ARM_VFP_ARGS: u64 = 28;
const RISCV_ARCH: u64 = 5;
/// What is meant where a profile names no `-march`: what distributions for RISC-V are compiled for.
const USUAL: &str = "gc";

/// Returns what is wrong with the attributes of a file whose machine fits; an error where it cannot be read.
pub(super) fn wrong(data: &[u8], machine: &Machine, target: &Target) -> Result<Option<String>, &'static str> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(data).map_err(|_| "its headers are damaged")?;
    let vendor: &[u8] = match machine.number {
        consts::EM_ARM => b"aeabi",
        consts::EM_RISCV => b"riscv",
        _ => return Ok(None),
    };
    let mut sections = file.section_headers().into_iter().flat_map(|table| table.iter());
    let Some(section) = sections.find(|section| section.sh_type == ATTRIBUTES) else { return Ok(None) };
    let bytes = usize::try_from(section.sh_offset).ok().zip(usize::try_from(section.sh_size).ok());
    let bytes = bytes.and_then(|(start, size)| data.get(start..start.checked_add(size)?));
    let Some(attributes) = bytes.and_then(|bytes| read(bytes, vendor, machine)) else {
        return Err("its attributes are damaged");
    };
    Ok(if machine.number == consts::EM_ARM { arm(&attributes, target) } else { riscv(&attributes, target) })
}

/// An attribute's tag, and its value as a number or text.
type Attribute<'a> = (u64, u64, &'a [u8]);

/// Returns the attributes of a whole file.
fn read<'a>(bytes: &'a [u8], vendor: &[u8], machine: &Machine) -> Option<Vec<Attribute<'a>>> {
    let mut rest = bytes.strip_prefix(b"A")?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (section, after) = rest.split_at_checked(length(rest, machine)?)?;
        rest = after;
        let Some(section) = section.get(4..)?.strip_prefix(vendor).and_then(|rest| rest.strip_prefix(b"\0")) else {
            continue;
        };
        let mut section = section;
        while let Some((tag, body)) = section.split_first() {
            let size = length(body, machine)?.checked_sub(1)?;
            let (body, after) = body.split_at_checked(size)?;
            section = after;
            // Of the whole file; others are of single sections and symbols, and nobody writes them.
            if *tag == 1 {
                list(body.get(4..)?, machine, &mut all)?;
            }
        }
    }
    Some(all)
}

fn list<'a>(mut rest: &'a [u8], machine: &Machine, all: &mut Vec<Attribute<'a>>) -> Option<()> {
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        let is_text = match machine.number {
            consts::EM_ARM => matches!(tag, 4 | 5) || (tag > 32 && tag % 2 == 1),
            _ => tag % 2 == 1,
        };
        let both = machine.number == consts::EM_ARM && tag == 32;
        let value = if is_text { 0 } else { number(&mut rest)? };
        let mut text: &[u8] = &[];
        if is_text || both {
            let end = rest.iter().position(|byte| *byte == 0)?;
            text = rest.get(..end)?;
            rest = rest.get(end + 1..)?;
        }
        all.push((tag, value, text));
    }
    Some(())
}

/// Returns the length that begins a part, itself included.
fn length(bytes: &[u8], machine: &Machine) -> Option<usize> {
    let word: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let length = if machine.is_little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) };
    usize::try_from(length).ok().filter(|length| *length >= 4)
}

/// Splits off a number (ULEB128).
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0_u64, 0_u32);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

fn arm(attributes: &[Attribute<'_>], target: &Target) -> Option<String> {
    let hard = target.chost.ends_with("hf") || target.chost.contains("hardfloat");
    let args = attributes.iter().find(|(tag, ..)| *tag == ARM_VFP_ARGS).map(|(_, value, _)| *value);
    (args == Some(1) && !hard).then(|| {
        format!(
            "its attributes say that it passes numbers in floating-point registers, which `{}` does not",
            target.chost
        )
    })
}

fn riscv(attributes: &[Attribute<'_>], target: &Target) -> Option<String> {
    let (.., text) = attributes.iter().find(|(tag, ..)| *tag == RISCV_ARCH)?;
    let text = String::from_utf8_lossy(text).into_owned();
    let march = target.options.iter().rev().find_map(|word| word.strip_prefix("-march=rv"));
    let allowed = extensions(march.map_or(USUAL, |march| march.trim_start_matches(|c: char| c.is_ascii_digit())));
    let used = extensions(text.strip_prefix("rv")?.trim_start_matches(|c: char| c.is_ascii_digit()));
    let is_vector = |name: &str| allowed.contains("v") && (name.starts_with("zve") || name.starts_with("zvl"));
    let more: Vec<&str> =
        used.iter().map(String::as_str).filter(|name| !allowed.contains(*name) && !is_vector(name)).collect();
    let march = march.map_or_else(|| format!("rv64{USUAL}"), |march| format!("rv{march}"));
    let shown = more.iter().map(|name| name.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>());
    let shown = shown.take(8).collect::<Vec<_>>().join(", ");
    (!more.is_empty()).then(|| format!("its attributes say that it uses {shown}, which {march} does not have"))
}

/// What extensions have in them (RISC-V ISA manual; Zc* and Zaamo were split off later).
const HOLD: [(&str, &str); 8] = [
    ("g", "i m a f d zicsr zifencei"),
    ("m", "zmmul"),
    ("a", "zaamo zalrsc"),
    ("f", "zicsr"),
    ("d", "f"),
    ("c", "zca zcd zcf"),
    ("b", "zba zbb zbs"),
    ("v", "zve64d zvl128b d"),
];

/// Returns the extensions that a text such as `i2p1_m2p0_zicsr2p0` or `gc` names, with what they hold.
fn extensions(text: &str) -> BTreeSet<String> {
    let mut todo = Vec::new();
    for word in text.split('_') {
        if word.starts_with(['z', 's', 'x']) {
            let name = word.trim_end_matches(|c: char| c.is_ascii_digit());
            // A version is two numbers with a `p` between them; a number at the end may be of the name (`zvl128b`, `zve32x`).
            let name = name
                .strip_suffix('p')
                .filter(|name| name.ends_with(|c: char| c.is_ascii_digit()))
                .map_or(word, |name| name.trim_end_matches(|c: char| c.is_ascii_digit()));
            todo.push(name.to_string());
            continue;
        }
        let mut after_digit = false;
        for c in word.chars() {
            if c.is_ascii_alphabetic() && !(c == 'p' && after_digit) {
                todo.push(c.to_string());
            }
            after_digit = c.is_ascii_digit();
        }
    }
    let mut all = BTreeSet::new();
    while let Some(name) = todo.pop() {
        let holds = HOLD.iter().filter(|(whole, _)| *whole == name).flat_map(|(_, parts)| parts.split(' '));
        todo.extend(holds.map(str::to_string).filter(|part| !all.contains(part)));
        all.insert(name);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object with nothing but attributes.
    fn object(number: u16, vendor: &str, attributes: &[u8]) -> Vec<u8> {
        let word = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
        let mut part = vec![1];
        part.extend(word(5 + attributes.len()));
        part.extend(attributes);
        let mut bytes = b"A".to_vec();
        bytes.extend(word(4 + vendor.len() + 1 + part.len()));
        bytes.extend(vendor.as_bytes());
        bytes.push(0);
        bytes.extend(part);
        let mut data = vec![0_u8; 64];
        data[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        data[16] = 1;
        data[18..20].copy_from_slice(&number.to_le_bytes());
        data[20] = 1;
        let table = 64 + bytes.len();
        data[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        (data[52], data[58], data[60]) = (64, 64, 2);
        let size = bytes.len() as u64;
        data.extend(bytes);
        data.extend([0; 64]);
        let mut section = [0_u8; 64];
        section[4..8].copy_from_slice(&ATTRIBUTES.to_le_bytes());
        section[24..32].copy_from_slice(&64_u64.to_le_bytes());
        section[32..40].copy_from_slice(&size.to_le_bytes());
        data.extend(section);
        data
    }

    fn said(data: &[u8], chost: &str, options: &str) -> Result<Option<String>, &'static str> {
        wrong(data, &Machine::of(data).unwrap(), &Target::derive(chost, options, &[]))
    }

    #[test]
    fn extensions_that_the_profile_does_not_name_are_told() {
        let chost = "riscv64-unknown-linux-gnu";
        let arch = |text: &str| [&[4, 16, 5], text.as_bytes(), &[0]].concat();
        let usual = "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zmmul1p0_zaamo1p0_zalrsc1p0_zca1p0_zcd1p0";
        let usual = object(consts::EM_RISCV, "riscv", &arch(usual));
        assert_eq!(said(&usual, chost, "-O2"), Ok(None));
        assert_eq!(said(&usual, chost, "-march=rv64gc"), Ok(None));
        let vector = "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_v1p0_zicsr2p0_zve32f1p0_zve64d1p0_zvl128b1p0_zba1p0";
        let vector = object(consts::EM_RISCV, "riscv", &arch(vector));
        let wrong = said(&vector, chost, "-O2").unwrap().unwrap();
        assert!(wrong.contains("uses v, zba, zve32f") && wrong.ends_with("which rv64gc does not have"), "{wrong}");
        assert_eq!(said(&vector, chost, "-march=rv64gcv_zba"), Ok(None));
    }

    #[test]
    fn arguments_in_other_registers_are_told() {
        let hard = object(consts::EM_ARM, "aeabi", &[5, b'7', 0, 6, 10, 28, 1]);
        assert_eq!(said(&hard, "armv7a-hardfloat-linux-gnueabihf", ""), Ok(None));
        assert!(said(&hard, "armv7a-unknown-linux-gnueabi", "").unwrap().unwrap().contains("floating-point registers"));
    }

    #[test]
    fn damaged_attributes_are_told_and_harm_nobody() {
        let good = object(consts::EM_ARM, "aeabi", &[5, b'7', 0, 6, 10, 28, 1]);
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let mut turned = good.clone();
                turned[at] = value;
                if let Some(machine) = Machine::of(&turned) {
                    let _ = wrong(&turned, &machine, &Target::derive("armv7a-unknown-linux-gnueabi", "", &[]));
                }
            }
            if let Some(machine) = Machine::of(&good[..at]) {
                let _ = wrong(&good[..at], &machine, &Target::derive("armv7a-unknown-linux-gnueabi", "", &[]));
            }
        }
        let cut = object(consts::EM_ARM, "aeabi", &[5, b'7']);
        assert_eq!(said(&cut, "armv7a-unknown-linux-gnueabi", ""), Err("its attributes are damaged"));
    }
}
