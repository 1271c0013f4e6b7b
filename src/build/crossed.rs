//! Signs in a failed cross build's log that this was why: another method may do.
//!
//! None is proof. Without a fallback they only explain; with one, what is wrong with the package itself fails there, too.

use std::path::Path;

use crate::build::emulated;
use crate::build::foreign::{Foreign, TRIED};
use crate::fs::PathError;
use crate::sandbox::Exit;

/// What is said where this machine's files are taken for the other one's or the other way round: by the image's compiler, the
/// linker (bfd) and the loader; and by configure scripts that give up. Beside what is said of programs that do not run ([`TRIED`]).
const SIGNS: [&str; 8] = [
    "is this machine's and not ",
    ": file format not recognized",
    ": file in wrong format",
    "Relocations in generic ELF",
    "Unable to recognise the format of the input file",
    ": wrong ELF class",
    "when cross compiling",
    "while cross compiling",
];
/// Likewise where both are in one line: the compiler's, the linker's, and this machine's compiler's with the other one's flags.
const PAIRS: [(&str, &str); 7] = [
    // A header of this machine's that is of no use to the other one.
    ("/usr/include/", "error: "),
    ("architecture of input file", "is incompatible with "),
    ("skipping incompatible ", " when searching for "),
    ("cc1: error: bad value ", " for "),
    ("cc1plus: error: bad value ", " for "),
    ("gcc: error: unrecognized command-line option ", "-m"),
    ("g++: error: unrecognized command-line option ", "-m"),
];
/// How a complaint about cross building is told from a mention: both are in one line, in any case.
const COMPLAINTS: [&str; 4] = ["error", "cannot", "can't", "not supported"];
const MENTIONS: [&str; 3] = ["cross compil", "cross-compil", "crosscompil"];

/// Returns what of a failure is, or may be, due to cross building, as a sentence; nothing where there is no sign of it.
pub(super) fn fault(foreign: Option<&Foreign>, exit: &Exit, log: &Path) -> Result<Option<String>, PathError> {
    if let Some(fault) = foreign.map(|foreign| foreign.fault(exit, log)).transpose()?.flatten() {
        return Ok(Some(fault));
    }
    Ok(read(&emulated::end(log)?))
}

fn read(log: &str) -> Option<String> {
    let is_sign = |line: &&str| {
        let lower = line.to_lowercase();
        let complains = || COMPLAINTS.iter().any(|text| lower.contains(text));
        let own = ["[bindery: ", "checking ", "configure: WARNING: "].iter().any(|text| line.starts_with(text));
        !own && (SIGNS.iter().chain(&TRIED).any(|sign| line.contains(sign))
            || PAIRS.iter().any(|(one, other)| line.contains(one) && line.contains(other))
            || (MENTIONS.iter().any(|text| lower.contains(text)) && complains()))
    };
    // The first: what comes after follows from it.
    let line = log.lines().map(str::trim).find(is_sign)?;
    let shown: String = line.chars().take(200).flat_map(char::escape_debug).collect();
    Some(format!("that may be because it is cross built: `{shown}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_package_that_does_not_cross_build_are_told_with_the_line() {
        for line in [
            "gcc: error: `/usr/include/zlib.h` is this machine's and not /usr/sparc64-linux-gnu's: a cross build must not read it",
            "/usr/bin/aarch64-linux-gnu-ld: gen.o: file format not recognized",
            "ld: gen.o: error adding symbols: file in wrong format",
            "cc1: error: bad value \u{2018}armv8-a\u{2019} for \u{2018}-march=\u{2019} switch",
            "ld: i386:x86-64 architecture of input file `x.o' is incompatible with aarch64 output",
            "ld: skipping incompatible /usr/lib/libz.so when searching for -lz",
            "/usr/include/python3.13/pyconfig.h:91:12: fatal error: s390x-linux-gnu/python3.13/pyconfig.h: No such file or directory",
            "strip: Unable to recognise the format of the input file `/x/usr/bin/lspci'",
            "./gen: 1: Exec format error",
            "configure: error: cannot run test program while cross compiling",
            "Error: Cross-compiling is not supported by this build system",
            "checking.c:3:2: error: #error cross compilation",
        ] {
            let said =
                read(&format!("checking whether we are cross compiling... yes\nmake\n{line}\nmake: *** [x] Error 1\n"));
            let said = said.unwrap_or_else(|| panic!("{line}"));
            assert!(said.contains(&line.chars().take(30).collect::<String>()), "{said}");
        }
    }

    #[test]
    fn an_ordinary_failure_is_none() {
        for line in [
            "checking whether we are cross compiling... yes",
            "x.c:1:10: error: unknown type name 'foo'",
            "configure: cross compiling for aarch64",
            "configure: WARNING: using cross tools not prefixed with host triplet, which cannot be right when cross compiling",
            "x.c:3:1: error: initialization of 'int' is incompatible with 'char *'",
            "aarch64-linux-gnu-gcc: error: unrecognized command-line option '-fno-such-thing'",
            "[bindery: programs will fail: Exec format error]",
        ] {
            assert_eq!(read(&format!("{line}\nmake: *** [x] Error 1\n")), None, "{line}");
        }
    }
}
