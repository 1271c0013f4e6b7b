//! What x86 processors can have beyond the 80386: sets of the disassembler's CPUID features, and their names.
//!
//! Three sets are accepted at every level, each for its reason:
//!
//! * **Hints** ([`hints`]): encodings that every processor since the Pentium Pro executes as no operation where it does not
//!   know them: multi-byte NOPs, `endbr64` and `rdssp` of CET, `bnd…` of MPX, prefetches, `cldemote`.
//! * **System** ([`system`]): what only a kernel may execute (`rdmsr`, `vmrun`, `invpcid` …). No compiler makes it, programs get
//!   a fault from it on every processor, and kernels ask CPUID before.
//! * **Same bytes** ([`is_neutral`]): `tzcnt` is `rep bsf`, which GCC writes for every processor where the operand is not zero;
//!   `incssp` comes after an `rdssp` that found a shadow stack (GCC's unwinder). `lzcnt` is *not* among these: as `rep bsr` it
//!   gives another number.

use std::collections::HashMap;
use std::sync::LazyLock;

use iced_x86::{Code, CpuidFeature};

/// A set of features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features([u64; 4]);

/// Stands for LAHF and SAHF in 64-bit mode, which the first such processors lacked; the disassembler has no name for it.
const SAHF: usize = 255;

impl Features {
    fn insert_bit(&mut self, bit: usize) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    pub(super) fn insert(&mut self, feature: CpuidFeature) {
        self.insert_bit(feature as usize);
    }

    pub(super) fn of(features: &[CpuidFeature]) -> Self {
        let mut set = Self::default();
        features.iter().for_each(|feature| set.insert(*feature));
        set
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
        self
    }

    pub(super) fn without(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    pub(super) fn has_all(&self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| b & !a == 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Returns the names of all members, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let bits = (0..256_usize).filter(|bit| self.0.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1));
        let known: Vec<CpuidFeature> = CpuidFeature::values().collect();
        let name = |bit: usize| if bit == SAHF { Some("sahf".to_string()) } else { known.get(bit).copied().map(name) };
        let mut names: Vec<String> = bits.filter_map(name).collect();
        names.sort();
        names
    }
}

/// Other names for features: GCC's options, Portage's `CPU_FLAGS_X86`, what `/proc/cpuinfo` says.
const ALIASES: [(&str, &[&str]); 13] = [
    ("abm", &["lzcnt", "popcnt"]),
    ("bmi", &["bmi1"]),
    ("cx16", &["cmpxchg16b"]),
    ("fma3", &["fma"]),
    ("3dnow", &["d3now"]),
    ("3dnowext", &["d3now", "d3nowext"]),
    ("3dnowa", &["d3now", "d3nowext"]),
    ("mmxext", &["mmx"]),
    ("pclmul", &["pclmulqdq"]),
    ("rdrnd", &["rdrand"]),
    ("mwaitx", &["monitorx"]),
    ("shani", &["sha"]),
    ("pni", &["sse3"]),
];

/// What a feature needs, as every processor that has the one has the other (GCC's `i386-common.cc` says it of its options).
const NEEDS: [(&str, &str); 24] = [
    ("sse2", "sse"),
    ("sse3", "sse2"),
    ("ssse3", "sse3"),
    ("sse41", "ssse3"),
    ("sse42", "sse41 popcnt"),
    ("sse4a", "sse3"),
    ("avx", "sse42 xsave"),
    ("avx2", "avx"),
    ("f16c", "avx"),
    ("fma", "avx"),
    ("fma4", "sse4a avx"),
    ("xop", "fma4"),
    ("aes", "sse2"),
    ("pclmulqdq", "sse2"),
    ("sha", "sse2"),
    ("gfni", "sse2"),
    ("vaes", "avx2 aes"),
    ("vpclmulqdq", "avx2 pclmulqdq"),
    ("avxvnni", "avx2"),
    ("avx512f", "avx2 f16c fma"),
    ("avx512fp16", "avx512bw avx512dq avx512vl"),
    ("avx512", "avx512f"),
    ("xsaveopt", "xsave"),
    ("xsavec", "xsave"),
];

/// Returns the features that a word names, with all that they need; nothing where nobody knows it.
pub(super) fn parse(word: &str) -> Option<Features> {
    let plain = plain(word);
    let aliases = ALIASES.iter().find(|(alias, _)| *alias == plain).map(|(_, words)| *words);
    let mut set = Features::default();
    if plain == "sahf" || plain == "lahf" {
        set.insert_bit(SAHF);
        return Some(set);
    }
    if plain == "sse4" {
        return parse("sse4.2");
    }
    let words = aliases.map_or_else(|| vec![plain.as_str()], <[&str]>::to_vec);
    for word in words {
        set.insert(*PLAIN.get(word)?);
        // `avx512bw` and all the others need `avx512f`.
        let family = word.strip_prefix("avx512").filter(|rest| *rest != "f" && !rest.is_empty()).map(|_| "avx512");
        let needs = NEEDS.iter().filter(|(name, _)| *name == word || Some(*name) == family);
        for need in needs.flat_map(|(_, needs)| needs.split(' ')) {
            set = set.and(parse(need)?);
        }
    }
    Some(set)
}

/// All features by name, letters and digits only.
static PLAIN: LazyLock<HashMap<String, CpuidFeature>> =
    LazyLock::new(|| CpuidFeature::values().map(|feature| (plain(&format!("{feature:?}")), feature)).collect());

/// Returns letters and digits only: `sse4_1`, `sse4.1` and `SSE4_1` are one.
fn plain(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns a feature's name, as GCC's options have it where they do.
fn name(feature: CpuidFeature) -> String {
    let text = format!("{feature:?}").to_ascii_lowercase();
    match text.as_str() {
        "sse4_1" => "sse4.1".to_string(),
        "sse4_2" => "sse4.2".to_string(),
        "cmpxchg16b" => "cx16".to_string(),
        "bmi1" => "bmi".to_string(),
        "pclmulqdq" => "pclmul".to_string(),
        "rdrand" => "rdrnd".to_string(),
        "d3now" => "3dnow".to_string(),
        "d3nowext" => "3dnowa".to_string(),
        "monitorx" => "mwaitx".to_string(),
        text if text.starts_with("amx_") => text.replace('_', "-"),
        text => text.replace('_', ""),
    }
}

/// Returns what every processor since the Pentium Pro takes as no operation, at worst.
pub(super) fn hints() -> Features {
    Features::of(&[
        CpuidFeature::MULTIBYTENOP,
        CpuidFeature::CET_IBT,
        CpuidFeature::MPX,
        CpuidFeature::PREFETCHW,
        CpuidFeature::PREFETCHWT1,
        CpuidFeature::PREFETCHITI,
        CpuidFeature::CLDEMOTE,
    ])
}

/// Returns what only kernels, hypervisors and firmware execute, and what is older than anything that is built for.
pub(super) fn system() -> Features {
    Features::of(&[
        CpuidFeature::INTEL8086,
        CpuidFeature::INTEL186,
        CpuidFeature::INTEL286,
        CpuidFeature::INTEL386,
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU387,
        CpuidFeature::PAUSE,
        CpuidFeature::MSR,
        CpuidFeature::SMAP,
        CpuidFeature::INVPCID,
        CpuidFeature::VMX,
        CpuidFeature::INVEPT,
        CpuidFeature::INVVPID,
        CpuidFeature::SVM,
        CpuidFeature::SKINIT,
        CpuidFeature::SKINIT_or_SVM,
        CpuidFeature::SMX,
        CpuidFeature::SMM,
        CpuidFeature::XSAVES,
        CpuidFeature::SYSCALL,
        CpuidFeature::SEP,
        CpuidFeature::CLFSH,
        CpuidFeature::MONITOR,
        CpuidFeature::PCONFIG,
        CpuidFeature::WBNOINVD,
        CpuidFeature::SEV_ES,
        CpuidFeature::SEV_SNP,
        CpuidFeature::RMPQUERY,
        CpuidFeature::TDX,
        CpuidFeature::FRED,
        CpuidFeature::LKGS,
        CpuidFeature::MSRLIST,
        CpuidFeature::WRMSRNS,
        CpuidFeature::INVLPGB,
        CpuidFeature::HRESET,
        CpuidFeature::MOV_TR,
        CpuidFeature::RDPMC,
    ])
}

/// Returns whether an instruction is another one, or none, where its feature is missing, and does no harm there.
pub(super) fn is_neutral(code: Code) -> bool {
    matches!(
        code,
        Code::Tzcnt_r16_rm16
            | Code::Tzcnt_r32_rm32
            | Code::Tzcnt_r64_rm64
            | Code::Rdsspd_r32
            | Code::Rdsspq_r64
            | Code::Incsspd_r32
            | Code::Incsspq_r64
    )
}

/// Returns what an instruction needs of a processor.
pub(super) fn needs(code: Code, is_64: bool) -> Features {
    let mut set = Features::of(code.cpuid_features());
    if is_64 && matches!(code, Code::Lahf | Code::Sahf) {
        set.insert_bit(SAHF);
    }
    set
}
