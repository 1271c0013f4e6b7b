//! This machine's processor, as far as the kernel tells: for a profile that fits it.
//!
//! `/proc/cpuinfo` and not CPUID, because it leaves out what the kernel has switched off (as AVX where it does not save the
//! registers), and because it tells the same of other architectures. Of several processors only what all have counts.

use std::path::Path;

use crate::fs::{self, PathError};

/// Where the kernel tells.
const CPUINFO: &str = "/proc/cpuinfo";
/// The most of it that is read, in bytes: some two kilobytes for each processor.
const LONGEST: u64 = 32 << 20;
/// How much of a processor's name is kept, in characters.
const NAME: usize = 80;

/// Levels of the x86-64 psABI ("Micro-Architecture Levels"), lowest first, with what each adds, as the kernel names it
/// (`arch/x86/include/asm/cpufeatures.h`): `pni` is SSE3, `abm` has LZCNT; OSXSAVE is there where `avx` is.
const LEVELS: [(&str, &[&str]); 4] = [
    ("x86-64", &["cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"]),
    ("x86-64-v2", &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    ("x86-64-v3", &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"]),
    ("x86-64-v4", &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
];

/// `CPU_FLAGS_X86` that the kernel calls otherwise, with its names, any of which will do: the brackets in
/// `profiles/desc/cpu_flags_x86.desc` of the Gentoo tree, and `sha_ni`, which that file forgets. app-portage/cpuid2cpuflags
/// (17) asks the processor itself for the same flags.
const X86_OTHERWISE: [(&str, &[&str]); 7] = [
    ("fma3", &["fma"]),
    ("mmxext", &["mmxext", "sse"]),
    ("padlock", &["phe"]),
    ("pclmul", &["pclmulqdq"]),
    ("popcnt", &["popcnt", "abm"]),
    ("sha", &["sha_ni"]),
    ("sse3", &["pni"]),
];

/// `CPU_FLAGS_X86` that the kernel calls the same.
const X86_SAME: [&str; 41] = [
    "3dnow",
    "3dnowext",
    "aes",
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "avx",
    "avx2",
    "avx512_4fmaps",
    "avx512_4vnniw",
    "avx512_bf16",
    "avx512_bitalg",
    "avx512_fp16",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_vp2intersect",
    "avx512_vpopcntdq",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512er",
    "avx512f",
    "avx512ifma",
    "avx512pf",
    "avx512vbmi",
    "avx512vl",
    "avx_vnni",
    "bmi1",
    "bmi2",
    "f16c",
    "fma4",
    "mmx",
    "rdrand",
    "sse",
    "sse2",
    "sse4_1",
    "sse4_2",
    "sse4a",
    "ssse3",
    "vpclmulqdq",
    "xop",
];

/// `CPU_FLAGS_ARM` of every 64-bit ARM processor (app-portage/cpuid2cpuflags 17).
const ARM64_ALWAYS: [&str; 8] = ["edsp", "thumb", "thumb2", "v4", "v5", "v6", "v7", "v8"];
/// Those of what the kernel calls `asimd`.
const ARM64_ASIMD: [&str; 7] = ["asimd", "neon", "neon-fp16", "vfp", "vfp-d32", "vfpv3", "vfpv4"];
/// Those that the kernel has by the same name.
const ARM64_SAME: [&str; 11] =
    ["aes", "asimddp", "asimdfhm", "asimdhp", "crc32", "i8mm", "sha1", "sha2", "sm4", "sve", "sve2"];

/// A processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// The architecture, as uname(1) says it.
    pub machine: String,
    /// What its maker calls it, in one short line; nothing where the kernel does not tell.
    pub model: Option<String>,
    /// Whether it is a virtual machine's, whose host may hide what the real one can do.
    pub virtual_machine: bool,
    /// The profile for all processors of the architecture.
    pub base: &'static str,
    /// The highest level of which it has everything; of x86 only.
    pub level: Option<Level>,
    /// `CPU_FLAGS_X86` and its like, sorted, each with the kernel's name where that is another.
    pub cpu_flags: Vec<(&'static str, Option<&'static str>)>,
}

/// A level of the x86-64 psABI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Its name, which is GCC's for `-march=`, too.
    pub name: &'static str,
    /// The next one, and what the processor lacks of it.
    pub next: Option<(&'static str, Vec<&'static str>)>,
}

impl Processor {
    /// Returns this machine's.
    pub fn here() -> Result<Self, HostError> {
        let text = fs::read_at_most(Path::new(CPUINFO), LONGEST)?;
        // The machine that this program is for: one that runs it in a 32-bit personality or emulates it is no other.
        Self::of(std::env::consts::ARCH, &String::from_utf8_lossy(&text))
    }

    /// Returns what a text like `/proc/cpuinfo` says of a machine.
    pub fn of(machine: &str, cpuinfo: &str) -> Result<Self, HostError> {
        let (key, base) = match machine {
            "x86_64" => ("flags", "amd64"),
            "aarch64" => ("Features", "arm64"),
            _ => return Err(HostError::Machine { machine: machine.to_string() }),
        };
        let words = common(cpuinfo, key).ok_or_else(|| HostError::Silent { machine: machine.to_string(), key })?;
        let has = |word: &str| words.contains(&word);
        let mut cpu_flags: Vec<(&str, Option<&str>)> = Vec::new();
        if base == "amd64" {
            let otherwise = X86_OTHERWISE.iter().filter_map(|(flag, names)| {
                let name = names.iter().find(|name| has(name))?;
                Some((*flag, (name != flag).then_some(*name)))
            });
            let same = X86_SAME.iter().filter(|flag| has(flag)).map(|flag| (*flag, None));
            cpu_flags.extend(otherwise.chain(same));
        } else {
            let same = ARM64_SAME.iter().filter(|flag| has(flag)).map(|flag| (*flag, None));
            let asimd = ARM64_ASIMD.iter().filter(|_| has("asimd"));
            let asimd = asimd.map(|flag| (*flag, (*flag != "asimd").then_some("asimd")));
            cpu_flags.extend(ARM64_ALWAYS.iter().map(|flag| (*flag, None)).chain(asimd).chain(same));
        }
        cpu_flags.sort_unstable();
        Ok(Self {
            machine: machine.to_string(),
            model: value(cpuinfo, "model name").and_then(name),
            virtual_machine: has("hypervisor"),
            base,
            level: (base == "amd64").then(|| Level::of(&words)),
            cpu_flags,
        })
    }
}

impl Level {
    fn of(words: &[&str]) -> Self {
        // What runs on it needs the first anyway, whatever an emulator or a hypervisor says.
        let mut name = LEVELS[0].0;
        for (level, adds) in &LEVELS[1..] {
            let lacks: Vec<&str> = adds.iter().filter(|word| !words.contains(*word)).copied().collect();
            if !lacks.is_empty() {
                return Self { name, next: Some((level, lacks)) };
            }
            name = level;
        }
        Self { name, next: None }
    }
}

/// Returns the words that a key has for each processor; nothing where no processor has the key.
fn common<'a>(cpuinfo: &'a str, key: &str) -> Option<Vec<&'a str>> {
    let mut lines = cpuinfo.lines().filter_map(|line| of_key(line, key));
    let mut words: Vec<&str> = lines.next()?.split_whitespace().collect();
    let mut last = "";
    for line in lines {
        // Most often all are the same.
        if line != last {
            let also: Vec<&str> = line.split_whitespace().collect();
            words.retain(|word| also.contains(word));
            last = line;
        }
    }
    Some(words)
}

fn value<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| of_key(line, key))
}

fn of_key<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == key).then(|| value.trim())
}

/// Returns a processor's name as a comment and a description may have it: a hypervisor may say anything.
fn name(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = words.chars().take(NAME).collect();
    (!short.is_empty()).then_some(short)
}

/// It is not known what a profile for this machine would say.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel cannot be asked.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no profile that it could inherit.
    #[error("no profile comes with bindery that one for this machine (`{machine}`) could inherit")]
    Machine {
        /// The architecture.
        machine: String,
    },
    /// The kernel does not say what matters.
    #[error("`{CPUINFO}` does not say what this machine (`{machine}`) can do: it has no line `{key}`")]
    Silent {
        /// The architecture.
        machine: String,
        /// What was looked for.
        key: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Target;

    const V2: &str = "fpu cx8 cmov mmx fxsr sse sse2 syscall lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm";
    const V3: &str = "movbe xsave avx f16c abm bmi1 avx2 bmi2 fma";

    fn x86(flags: &str) -> Processor {
        Processor::of("x86_64", &format!("processor\t: 0\nmodel name\t: X  (R) CPU\nflags\t\t: {flags}\n")).unwrap()
    }

    fn level(flags: &str) -> &'static str {
        x86(flags).level.unwrap().name
    }

    #[test]
    fn the_level_is_the_highest_of_which_nothing_is_missing() {
        assert_eq!(level("fpu cx8 cmov mmx fxsr sse sse2 syscall lm"), "x86-64");
        assert_eq!(level(V2), "x86-64-v2");
        assert_eq!(level(&format!("{V2} {V3}")), "x86-64-v3");
        // A guest that is shown AVX2, and not MOVBE.
        let masked = x86(&format!("{V2} {}", V3.replace("movbe", ""))).level.unwrap();
        assert_eq!((masked.name, masked.next), ("x86-64-v2", Some(("x86-64-v3", vec!["movbe"]))));
        // AVX-512 without what is below it.
        assert_eq!(level(&format!("{V2} avx512f avx512bw avx512cd avx512dq avx512vl")), "x86-64-v2");
        let v4 = x86(&format!("{V2} {V3} avx512f avx512bw avx512cd avx512dq avx512vl")).level.unwrap();
        assert_eq!((v4.name, v4.next), ("x86-64-v4", None));
    }

    #[test]
    fn flags_are_portages_by_the_kernels_names() {
        let flags = x86("mmx sse sse2 pni abm pclmulqdq fma sha_ni aes phe nonsense rdrand").cpu_flags;
        let plain: Vec<&str> = flags.iter().map(|(flag, _)| *flag).collect();
        let all = "aes fma3 mmx mmxext padlock pclmul popcnt rdrand sha sse sse2 sse3";
        assert_eq!(plain.join(" "), all);
        assert!(flags.contains(&("sse3", Some("pni"))) && flags.contains(&("popcnt", Some("abm"))));
        assert!(flags.contains(&("aes", None)) && flags.contains(&("mmxext", Some("sse"))));
        // SSSE3 is not SSE3.
        assert!(!x86("ssse3").cpu_flags.iter().any(|(flag, _)| *flag == "sse3"));
    }

    #[test]
    fn an_epyc_of_2022_has_what_cpuid2cpuflags_says_of_it() {
        // Zen 4: the kernel's words, and what that program's own test expects of such a processor.
        let found = x86(
            "fpu cx8 cmov mmx fxsr sse sse2 ht syscall nx mmxext fxsr_opt rdtscp lm pni pclmulqdq ssse3 fma cx16 \
                         sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm cr8_legacy abm sse4a misalignsse \
                         3dnowprefetch bmi1 avx2 bmi2 avx512f avx512dq rdseed adx avx512ifma clflushopt clwb avx512cd sha_ni \
                         avx512bw avx512vl xsaveopt avx512_bf16 clzero avx512vbmi avx512_vbmi2 gfni vaes vpclmulqdq \
                         avx512_vnni avx512_bitalg avx512_vpopcntdq rdpid",
        );
        let plain: Vec<&str> = found.cpu_flags.iter().map(|(flag, _)| *flag).collect();
        let expected = "aes avx avx2 avx512_bf16 avx512_bitalg avx512_vbmi2 avx512_vnni avx512_vpopcntdq avx512bw avx512cd \
                        avx512dq avx512f avx512ifma avx512vbmi avx512vl bmi1 bmi2 f16c fma3 mmx mmxext pclmul popcnt rdrand \
                        sha sse sse2 sse3 sse4_1 sse4_2 sse4a ssse3 vpclmulqdq";
        assert_eq!(plain.join(" "), expected);
        assert_eq!(found.level.unwrap().name, "x86-64-v4");
    }

    #[test]
    fn the_audit_knows_the_flags_and_the_levels() {
        for flag in X86_SAME.iter().chain(X86_OTHERWISE.map(|(flag, _)| flag).iter()) {
            assert!(Target::is_feature(flag) || *flag == "padlock", "{flag}");
        }
        for (name, _) in LEVELS {
            Target::new("x86_64-pc-linux-gnu", name, &[]).unwrap();
        }
    }

    #[test]
    fn of_different_processors_what_all_have_counts() {
        let text = "processor : 0\nflags : sse sse2 aes avx2\n\nprocessor : 1\nflags : avx2 sse2 sse\nmodel name : a\u{1b}[2J\n";
        let found = Processor::of("x86_64", text).unwrap();
        let plain: Vec<&str> = found.cpu_flags.iter().map(|(flag, _)| *flag).collect();
        assert_eq!(plain, ["avx2", "mmxext", "sse", "sse2"]);
        assert_eq!(found.model.as_deref(), Some("a[2J"));
        assert_eq!(x86("sse hypervisor").model.as_deref(), Some("X (R) CPU"));
        assert!(x86("sse hypervisor").virtual_machine && !x86("sse").virtual_machine);
    }

    #[test]
    fn arm_has_what_every_such_processor_has_and_no_level() {
        let text =
            "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 crc32 atomics\nCPU implementer\t: 0x41\n";
        let found = Processor::of("aarch64", text).unwrap();
        assert_eq!((found.base, found.level, found.model), ("arm64", None, None));
        let plain: Vec<&str> = found.cpu_flags.iter().map(|(flag, _)| *flag).collect();
        let all = "aes asimd crc32 edsp neon neon-fp16 sha1 thumb thumb2 v4 v5 v6 v7 v8 vfp vfp-d32 vfpv3 vfpv4";
        assert_eq!(plain.join(" "), all);
    }

    #[test]
    fn what_cannot_be_known_is_refused() {
        let error = Processor::of("riscv64", "isa : rv64gc\n").unwrap_err().to_string();
        assert!(error.contains("this machine (`riscv64`)"), "{error}");
        let error = Processor::of("x86_64", "processor : 0\nvendor_id : x\n").unwrap_err().to_string();
        assert!(error.contains("no line `flags`"), "{error}");
        assert!(Processor::of("x86_64", "").is_err());
    }

    #[test]
    fn this_machine_is_known() {
        assert!(!Processor::here().unwrap().cpu_flags.is_empty());
    }
}
