//! How fast programs are audited: `just bench-audit [LEVEL] [FILE…]`.
//!
//! Without files, it looks at this machine's shell, C library and compiler, as far as they are there. Each file is audited
//! as often as two seconds allow, and the fastest time counts: bytes of code for each second, on one core. `dispatched` says
//! that there was code beyond the level, which is looked at once more, and slower.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench that cannot go on panics"
)]

use std::time::{Duration, Instant};

use bindery::isa::{Audit, Report, Target, Wanted};

const USUAL: [&str; 5] =
    ["/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/ld.bfd", "/usr/bin/python3", "/usr/bin/git"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (levels, mut files): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| !word.contains('/'));
    let level = levels.first().map_or("x86-64-v2", String::as_str);
    if files.is_empty() {
        files = USUAL.iter().map(ToString::to_string).filter(|file| std::path::Path::new(file).exists()).collect();
    }
    let target = Target::new("x86_64-pc-linux-gnu", level, &[]).unwrap();
    let wanted = Wanted { target, exceptions: Vec::new() };
    println!("{:>10} {:>8} {:>10} {:>8}  file, against {level}", "bytes", "MB/s", "dispatched", "findings");
    for file in files {
        let data = std::fs::read(&file).unwrap();
        let (report, time) = fastest(&wanted, &file, &data);
        let rate = report.code as f64 / time.as_secs_f64() / 1e6;
        let findings = report.findings.len() as u64 + report.more;
        println!("{:>10} {rate:>8.0} {:>10} {findings:>8}  {file}", report.code, report.dispatched);
    }
}

fn fastest(wanted: &Wanted, file: &str, data: &[u8]) -> (Report, Duration) {
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    loop {
        let started = Instant::now();
        let mut audit = Audit::new(wanted);
        audit.file(file, data);
        let report = audit.finish();
        best = best.min(started.elapsed());
        if begun.elapsed() > Duration::from_secs(2) {
            return (report, best);
        }
    }
}
