//! Which command of a build's log asked the compiler for instructions beyond the level.
//!
//! The log is the build's, and hostile: read line by line, bounded, and shown without what moves a terminal.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use crate::fs::{self, PathError};
use crate::isa;

/// Bytes of one line that are looked at.
const LINE: u64 = 1 << 16;
/// Characters of one command that are shown.
const SHOWN: usize = 200;
/// How many commands are shown.
const COMMANDS: usize = 3;

/// Returns lines that say which commands ask for one of these features, or that none does.
pub(super) fn of(needs: &[String], log: &Path) -> Result<Vec<String>, PathError> {
    let read = || PathError::on("read", log);
    let mut log = BufReader::new(fs::open(log)?);
    let (mut lines, mut seen, mut more, mut bytes) = (Vec::new(), BTreeSet::new(), 0_u64, Vec::new());
    loop {
        bytes.clear();
        if (&mut log).take(LINE).read_until(b'\n', &mut bytes).map_err(read())? == 0 {
            break;
        }
        if bytes.last() != Some(&b'\n') {
            log.skip_until(b'\n').map_err(read())?;
        }
        let line = String::from_utf8_lossy(&bytes);
        // A command that compiles, not a report of flags.
        let compiles = line.split_whitespace().any(|word| word == "-c" || word == "-o" || is_source(word));
        let flags = if compiles { isa::granted(&line, needs) } else { Vec::new() };
        let (Some(flag), true) = (flags.last(), seen.insert(line.trim().to_string())) else { continue };
        if lines.len() < COMMANDS {
            lines.push(format!("`{}` is in the log: {}", clean(flag, SHOWN), around(&line, flag)));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        lines.push(format!("and {more} more commands of the log"));
    }
    if lines.is_empty() {
        let why = "no command of the log asks for that: it is in the source (assembler, a `target` attribute or pragma), or \
                   the log shows no commands (make's V=1, ninja's -v)";
        lines.push(why.to_string());
    }
    Ok(lines)
}

fn is_source(word: &str) -> bool {
    [".c", ".cc", ".cpp", ".cxx", ".S", ".s", ".f90", ".rs"].iter().any(|end| word.len() > 2 && word.ends_with(end))
}

/// Returns the part of a command that shows a flag, and the end of it, where the file is.
fn around(line: &str, flag: &str) -> String {
    let line = line.trim();
    if line.chars().count() <= SHOWN {
        return clean(line, SHOWN);
    }
    let begin: String = line.chars().take(SHOWN / 3).collect();
    let end: String = line.chars().skip(line.chars().count().saturating_sub(SHOWN / 3)).collect();
    clean(&format!("{begin} … {flag} … {end}"), 2 * SHOWN)
}

fn clean(text: &str, most: usize) -> String {
    let is_odd =
        |c: char| c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{2028}'..='\u{202e}').contains(&c);
    text.chars().filter(|c| !is_odd(*c)).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, needs: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, text).unwrap();
        of(&needs.iter().map(ToString::to_string).collect::<Vec<_>>(), &log).unwrap()
    }

    #[test]
    fn the_command_that_asks_for_it_is_shown_with_its_flag() {
        let text = "checking whether gcc takes -mavx2... yes\ngcc -O2 -c -o b.o b.c\ngcc -O2 -mavx2 -c -o a.o a.c\n";
        assert_eq!(told(text, &["avx2"]), ["`-mavx2` is in the log: gcc -O2 -mavx2 -c -o a.o a.c"]);
        assert!(told(text, &["avx512f"])[0].starts_with("no command of the log asks for that"));
        let march = "x86_64-pc-linux-gnu-g++ -march=native a.cpp\n";
        assert!(told(march, &["bmi2"])[0].starts_with("`-march=native` is in the log"));
    }

    #[test]
    fn a_hostile_log_is_bounded_and_moves_no_terminal() {
        let long = format!("gcc \u{1b}[2J -mavx2 -c {}.c\n", "x".repeat(100_000));
        let text = format!("{}\0\u{ff}{long}", long.repeat(3));
        let told = told(&text, &["avx2"]);
        assert!(told.iter().all(|line| line.len() < 1000 && !line.contains(char::is_control)), "{told:?}");
        let many: String = (0..9).map(|n| format!("gcc -mavx2 -c {n}.c\n")).collect();
        assert_eq!(super::tests::told(&many, &["avx2"]).last().unwrap(), "and 6 more commands of the log");
    }
}
