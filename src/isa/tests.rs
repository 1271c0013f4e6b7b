//! What a compiler of today makes, and what hostile hands make of it. Needs `cc`, which links every Rust program.

use super::*;
use crate::{fs, process};

mod rule;

const X86: &str = "x86_64-pc-linux-gnu";

/// Returns what `cc` makes of a text with these arguments; `name` says in which language it is.
fn made(name: &str, args: &[&str], text: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join(name), text).unwrap();
    let mut command = process::command("cc");
    command.current_dir(dir.path()).args(["-O2", "-w", "-o", "out", name]).args(args);
    process::run(&mut command).expect("a C compiler: apt-get install gcc");
    fs::read(&dir.path().join("out")).unwrap()
}

fn library(args: &[&str], text: &str) -> Vec<u8> {
    made("a.c", &[&["-shared", "-fPIC"], args].concat(), text)
}

fn wanted(level: &str) -> Wanted {
    Wanted { target: Target::new(X86, level, &[]).unwrap(), exceptions: Vec::new() }
}

fn audit(wanted: &Wanted, data: &[u8]) -> Report {
    let mut audit = Audit::new(wanted);
    audit.file("/usr/lib64/liba.so.1", data);
    audit.finish()
}

#[track_caller]
fn passes(level: &str, data: &[u8]) -> Report {
    let report = audit(&wanted(level), data);
    assert_eq!((&report.findings[..], report.more), (&[][..], 0));
    report
}

/// Returns the first finding.
#[track_caller]
fn refused(level: &str, data: &[u8]) -> String {
    let report = audit(&wanted(level), data);
    report.findings.first().expect("nothing was found").to_string()
}

const SCALE: &str = "void scale(float *a, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1; }";

#[test]
fn what_is_compiled_for_the_level_passes_and_is_counted() {
    let report = passes("x86-64", &library(&[], SCALE));
    assert!(report.files == 1 && report.code > 30 && report.dispatched == 0, "{report:?}");
    passes("x86-64-v3", &library(&["-O3", "-march=x86-64-v3"], SCALE));
    passes("x86-64", &made("a.c", &[], "int main(void) { return 0; }"));
}

#[test]
fn an_instruction_beyond_the_level_is_named_with_function_address_and_level() {
    for args in
        [&["-O3", "-mavx2"][..], &["-O3", "-mavx2", "-s"], &["-O3", "-mavx2", "-fno-asynchronous-unwind-tables"]]
    {
        let library = library(args, SCALE);
        let said = refused("x86-64-v2", &library);
        assert!(said.starts_with("`/usr/lib64/liba.so.1`, `scale`, at 0x"), "{said}");
        assert!(said.contains(": `v") && said.ends_with("needs avx (x86-64-v3)"), "{said}");
        passes("x86-64-v3", &library);
    }
    let object = made("a.c", &["-c", "-O3", "-mavx512f", "-mprefer-vector-width=512"], SCALE);
    let said = refused("x86-64-v3", &object);
    assert!(said.contains("`scale`, at 0x") && said.contains("avx512f") && said.ends_with("(x86-64-v4)"), "{said}");
}

#[test]
fn a_function_without_a_name_is_named_by_its_address() {
    let text = format!(
        "static __attribute__((noinline)) {SCALE}\n\
         void other(float *a, int n) {{ scale(a, n); asm volatile(\"\"); }}"
    );
    let library = library(&["-O3", "-mavx", "-s"], &text);
    let findings = audit(&wanted("x86-64"), &library).findings;
    let said = findings[0].to_string();
    assert!(said.starts_with("`/usr/lib64/liba.so.1`+0x") && said.contains(", at 0x"), "{said}");
}

#[test]
fn every_member_of_a_static_archive_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(&dir.path().join("a-name-longer-than-sixteen.o"), made("a.c", &["-c", "-O3", "-mavx2"], SCALE)).unwrap();
    fs::write(&dir.path().join("good.o"), made("a.c", &["-c"], "int f(void) { return 1; }")).unwrap();
    let mut command = process::command("ar");
    process::run(command.current_dir(dir.path()).args(["rc", "x.a", "good.o", "a-name-longer-than-sixteen.o"]))
        .unwrap();
    let archive = fs::read(&dir.path().join("x.a")).unwrap();
    let said = refused("x86-64", &archive);
    assert!(said.starts_with("`/usr/lib64/liba.so.1(a-name-longer-than-sixteen.o)`, `scale`, at 0x"), "{said}");
    assert_eq!(passes("x86-64-v3", &archive).files, 2);
    assert!(refused("x86-64", b"!<arch>\nwhat is this").ends_with("it begins like a static archive and is none"));
}

/// A function of hand-written instructions.
fn assembled(body: &str) -> Vec<u8> {
    let text = format!(".text\n.globl f\n.type f,@function\nf:\n{body}\nret\n.size f,.-f\n");
    made("a.s", &["-c"], &text)
}

#[test]
fn hints_and_what_only_kernels_execute_are_accepted_at_every_level() {
    for body in [
        "endbr64",
        "pause",
        "nopw 0(%rax,%rax,1)",
        "rep bsf %eax,%ecx",
        "xor %eax,%eax\nrdsspq %rax\ntest %rax,%rax\njz 1f\nincsspq %rax\n1:",
        "prefetchw (%rax)\nprefetcht0 (%rax)",
        "rdmsr",
        "cpuid",
        "rdtsc",
        "syscall",
        "bnd ret",
    ] {
        passes("x86-64", &assembled(body));
    }
    for (body, needs) in [
        ("lzcnt %eax,%ecx", "lzcnt (x86-64-v3)"),
        ("popcnt %eax,%ecx", "popcnt (x86-64-v2)"),
        ("sahf", "sahf (x86-64-v2)"),
        ("cmpxchg16b (%rdi)", "cx16 (x86-64-v2)"),
        ("crc32b %al,%eax", "sse4.2 (x86-64-v2)"),
        ("aesenc %xmm0,%xmm1", "aes"),
        ("vaesenc %xmm0,%xmm1,%xmm2", "aes and avx"),
        ("rdrand %eax", "rdrnd"),
        ("movbe (%rax),%ecx", "movbe (x86-64-v3)"),
        ("xbegin 1f\n1:", "rtm"),
    ] {
        let said = refused("x86-64", &assembled(body));
        assert!(said.ends_with(&format!("needs {needs}")), "{said}");
    }
}

#[test]
fn data_among_code_is_no_instruction() {
    // Bytes that no processor executes, and then such as look like AVX-512.
    let data = ".byte 0x06,0x07,0x0e,0x62,0xf1,0x7c,0x48,0x58,0xc1,0x06,0x16,0x17\n";
    let within = format!(".text\n.globl f\n.type f,@function\nf: ret\n{data}.size f,.-f\n");
    passes("x86-64", &made("a.s", &["-c"], &within));
    let between = format!(".text\n.globl f\n.type f,@function\nf: ret\n.size f,.-f\n.p2align 4\n{data}.p2align 4\n");
    passes("x86-64", &made("a.s", &["-c"], &between));
    // Code that nobody describes is code all the same.
    let hidden = ".text\n.globl f\n.type f,@function\nf: ret\n.size f,.-f\n.p2align 4\nvpaddd %ymm0,%ymm1,%ymm2\nret\n";
    assert!(refused("x86-64-v2", &made("a.s", &["-c"], hidden)).contains("`+0x"), "no name");
}

#[test]
fn what_the_disassembler_does_not_know_is_not_passed_over() {
    // REX2, of APX.
    let said = refused("x86-64-v4", &assembled(".byte 0xd5,0x19,0x01,0xc1"));
    assert!(
        said.contains("`d5 19 01 c1 c3") && said.ends_with("needs a later processor than this bindery knows"),
        "{said}"
    );
}

#[test]
fn the_note_that_the_linker_leaves_is_believed() {
    let library = library(&["-Wl,-z,x86-64-v3"], SCALE);
    let said = refused("x86-64-v2", &library);
    assert_eq!(said, "`/usr/lib64/liba.so.1`: its property note says that it needs x86-64-v3");
    passes("x86-64-v3", &library);
}

#[test]
fn thirty_two_bit_code_has_the_same_level() {
    let object = |args: &[&str]| made("a.c", &[&["-m32", "-c", "-ffreestanding", "-O3"], args].concat(), SCALE);
    let i686 = Wanted { target: Target::derive("i686-pc-linux-gnu", "", &[]), exceptions: Vec::new() };
    assert_eq!(audit(&i686, &object(&["-march=i686", "-mfpmath=387"])).findings, []);
    let said = audit(&i686, &object(&["-march=i686", "-msse2", "-mfpmath=sse"])).findings[0].to_string();
    assert!(said.contains("`scale`, at 0x") && said.contains("needs sse"), "{said}");
    passes("x86-64", &object(&["-msse2", "-mfpmath=sse"]));
    assert!(refused("x86-64-v2", &object(&["-mavx2"])).contains("needs avx"));
}

#[test]
fn another_machine_is_refused_and_device_firmware_is_not_looked_at() {
    let mut sparc = library(&[], SCALE);
    // Big-endian, SPARC V9.
    (sparc[5], sparc[18], sparc[19]) = (2, 0, 43);
    let said = refused("x86-64", &sparc);
    assert!(said.contains("it is for SPARC v9, 64-bit, big-endian; `x86_64-pc-linux-gnu` is x86-64"), "{said}");
    let wanted = wanted("x86-64");
    let mut audit = Audit::new(&wanted);
    audit.file("/lib/firmware/card.elf", &sparc);
    assert_eq!(audit.finish(), Report::default());
    let arm = Wanted { target: Target::derive("aarch64-unknown-linux-gnu", "-O2", &[]), exceptions: Vec::new() };
    assert!(super::tests::audit(&arm, &library(&[], SCALE)).findings[0].to_string().contains("it is for x86-64"));
}

fn exception(file: &str, symbol: Option<&str>) -> Exception {
    Exception { file: file.into(), symbol: symbol.map(str::to_string), reason: "it is asked before".into() }
}

#[test]
fn an_exception_lets_pass_what_it_names_and_nothing_else() {
    let library = library(&["-O3", "-mavx2"], &format!("{SCALE}\n{}", SCALE.replace("scale", "other")));
    let with = |exceptions: Vec<Exception>| audit(&Wanted { exceptions, ..wanted("x86-64-v2") }, &library);
    let report = with(vec![exception("/usr/lib64/libb.so", None), exception("/usr/lib64/liba.so.*", Some("sca*"))]);
    assert_eq!((report.excepted, report.findings.len()), (vec![0, 1], 1));
    assert_eq!(report.findings[0].symbol.as_deref(), Some("other"));
    let report = with(vec![exception("/usr/*/liba.so.1", None)]);
    assert_eq!((report.excepted, report.findings.len()), (vec![2], 0));
    assert_eq!(with(vec![exception("/usr/lib64/liba", None)]).findings.len(), 2);
    assert!(matches("*_avx2", "x_avx2") && matches("a*b*c", "a1b2c") && matches("*", ""));
    assert!(!matches("*_avx2", "x_avx22") && !matches("a*b*c", "acb") && !matches("", "a"));
}

#[test]
fn a_damaged_file_is_said_to_be_and_never_harms() {
    let library = library(&["-O3", "-mavx2"], rule::SUPPORTS);
    let wanted = wanted("x86-64");
    let cuts = (0..library.len()).filter(|at| (at % 7 == 0 && *at < 256) || at % 997 == 0);
    for length in cuts {
        audit(&wanted, &library[..length]);
    }
    assert!(refused("x86-64", &library[..20]).ends_with("it begins like an ELF file and is none"));
    assert!(
        refused("x86-64", &library[..200]).contains("is damaged")
            || refused("x86-64", &library[..200]).contains("are damaged")
    );
    // Every byte of the headers, and many elsewhere, turned around.
    let header = u64::from_le_bytes(library[40..48].try_into().unwrap());
    let header = usize::try_from(header).unwrap();
    let places = (0..64).chain((header..library.len()).step_by(17)).chain((64..library.len()).step_by(1009));
    for at in places {
        let mut turned = library.clone();
        turned[at] ^= 0xff;
        audit(&wanted, &turned);
    }
}
