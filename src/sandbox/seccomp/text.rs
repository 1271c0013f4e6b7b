//! A filter as text, for the messages between a sandbox's processes: sixteen hexadecimal digits for each instruction.
//!
//! As numbers in JSON it would be nine tenths of what each of the processes writes and reads.

use serde::de::{Deserialize as _, Deserializer, Error as _};
use serde::ser::Serializer;

use super::Program;
use super::bpf::Instruction;

/// How many digits an instruction has: code, two jumps, operand.
const DIGITS: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";

pub(in crate::sandbox) fn serialize<S: Serializer>(program: &Program, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(program.len() * DIGITS);
    for &(code, yes, no, operand) in program {
        let value = u64::from(code) << 48 | u64::from(yes) << 40 | u64::from(no) << 32 | u64::from(operand);
        // By hand: formatting takes ten times as long, and this is a good part of a sandbox's start.
        let digits = value.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        text.extend(digits.map(|digit| char::from(HEX[usize::from(digit)])));
    }
    serializer.serialize_str(&text)
}

pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Program, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (instructions, rest) = text.as_bytes().as_chunks::<DIGITS>();
    if !rest.is_empty() {
        return Err(D::Error::custom("a filter that ends within an instruction"));
    }
    let parsed = instructions.iter().map(instruction);
    parsed.collect::<Option<_>>().ok_or_else(|| D::Error::custom("a filter of other digits than hexadecimal"))
}

fn instruction(digits: &[u8; DIGITS]) -> Option<Instruction> {
    let mut value = 0_u64;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    let [a, b, yes, no, operand @ ..] = value.to_be_bytes();
    Some((u16::from_be_bytes([a, b]), yes, no, u32::from_be_bytes(operand)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Message(#[serde(with = "super")] Program);

    #[test]
    fn a_filter_is_read_as_it_was_written() {
        let message = Message(vec![(0x20, 0, 0, 4), (0x15, 1, 255, u32::MAX), (0xffff, 0, 7, 0x7fff_0000)]);
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(text.len(), 2 + 3 * DIGITS);
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
        assert_eq!(serde_json::from_str::<Message>("\"\"").unwrap(), Message(Vec::new()));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["\"0\"", "\"000000000000000\"", "\"000000000000000g\"", "\"00000000000000é\"", "7"] {
            serde_json::from_str::<Message>(text).unwrap_err();
        }
    }
}
