//! What each level of x86, and each processor that GCC knows by name, can do.
//!
//! Sources: x86-64 psABI, "Micro-Architecture Levels"; GCC's manual, "x86 Options", of version 15. A processor stands here
//! with what its programs can use; beside the manual, `rdtscp` where every such processor has it.

use super::feature::{self, Features};

/// Name, what it adds to, and what it adds.
type Row = (&'static str, &'static str, &'static str);

/// The levels, and the 32-bit processors that are levels in all but name.
const LEVELS: [Row; 12] = [
    ("i386", "", ""),
    ("i486", "i386", "intel486 cpuid"),
    ("i586", "i486", "cx8 tsc"),
    ("pentium-mmx", "i586", "mmx"),
    ("i686", "i586", "cmov"),
    ("pentium2", "i686", "mmx fxsr"),
    ("pentium3", "pentium2", "sse"),
    ("pentium4", "pentium3", "sse2"),
    ("x86-64", "pentium4", "x64"),
    ("x86-64-v2", "x86-64", "cx16 sahf popcnt sse4.2"),
    ("x86-64-v3", "x86-64-v2", "avx2 bmi bmi2 f16c fma lzcnt movbe xsave"),
    ("x86-64-v4", "x86-64-v3", "avx512f avx512bw avx512cd avx512dq avx512vl"),
];

const PROCESSORS: [Row; 59] = [
    ("pentium", "i586", ""),
    ("pentiumpro", "i686", ""),
    ("pentium-m", "pentium4", ""),
    ("prescott", "pentium4", "sse3"),
    ("athlon-xp", "pentium3", "3dnowa"),
    ("nocona", "x86-64", "sse3 cx16"),
    ("core2", "nocona", "ssse3 sahf"),
    ("nehalem", "x86-64-v2", "rdtscp"),
    ("corei7", "nehalem", ""),
    ("westmere", "nehalem", "pclmul"),
    ("sandybridge", "westmere", "avx xsave xsaveopt"),
    ("corei7-avx", "sandybridge", ""),
    ("ivybridge", "sandybridge", "fsgsbase rdrnd f16c"),
    ("core-avx-i", "ivybridge", ""),
    ("haswell", "x86-64-v3", "rdtscp pclmul xsaveopt fsgsbase rdrnd"),
    ("core-avx2", "haswell", ""),
    ("broadwell", "haswell", "rdseed adx"),
    ("skylake", "broadwell", "aes clflushopt xsavec"),
    ("skylake-avx512", "skylake", "avx512f avx512bw avx512cd avx512dq avx512vl pku clwb"),
    ("cascadelake", "skylake-avx512", "avx512vnni"),
    ("cooperlake", "cascadelake", "avx512bf16"),
    ("cannonlake", "skylake", "avx512f avx512bw avx512cd avx512dq avx512vl avx512vbmi avx512ifma sha pku"),
    ("icelake-client", "cannonlake", "avx512vnni avx512vbmi2 avx512bitalg avx512vpopcntdq gfni vaes vpclmulqdq rdpid"),
    ("rocketlake", "icelake-client", ""),
    ("icelake-server", "icelake-client", "clwb"),
    ("tigerlake", "icelake-client", "clwb movdiri movdir64b avx512vp2intersect"),
    (
        "sapphirerapids",
        "icelake-server",
        "movdiri movdir64b enqcmd ptwrite waitpkg serialize tsxldtrk avxvnni \
      avx512bf16 avx512fp16 amx-tile amx-int8 amx-bf16 uintr",
    ),
    ("emeraldrapids", "sapphirerapids", ""),
    ("graniterapids", "sapphirerapids", "amx-fp16"),
    (
        "alderlake",
        "skylake",
        "sha gfni vaes vpclmulqdq avxvnni serialize waitpkg movdiri movdir64b ptwrite rdpid clwb pku",
    ),
    ("raptorlake", "alderlake", ""),
    ("meteorlake", "alderlake", ""),
    ("gracemont", "alderlake", ""),
    ("arrowlake", "alderlake", "uintr avxifma avxvnniint8 avxneconvert cmpccxadd"),
    ("sierraforest", "arrowlake", "enqcmd"),
    ("bonnell", "core2", "movbe"),
    ("atom", "bonnell", ""),
    ("silvermont", "x86-64-v2", "movbe pclmul rdrnd rdtscp"),
    ("slm", "silvermont", ""),
    ("goldmont", "silvermont", "aes sha rdseed xsave xsavec xsaveopt clflushopt fsgsbase"),
    ("goldmont-plus", "goldmont", "rdpid ptwrite"),
    ("tremont", "goldmont-plus", "clwb gfni movdiri movdir64b waitpkg"),
    ("k8", "x86-64", "3dnowa"),
    ("opteron", "k8", ""),
    ("athlon64", "k8", ""),
    ("k8-sse3", "k8", "sse3"),
    ("amdfam10", "k8-sse3", "sse4a abm cx16 sahf rdtscp"),
    ("barcelona", "amdfam10", ""),
    ("btver1", "x86-64", "ssse3 sse4a abm cx16 sahf rdtscp"),
    ("btver2", "btver1", "avx aes pclmul bmi f16c movbe xsave xsaveopt"),
    ("bdver1", "x86-64-v2", "avx xop aes pclmul abm lwp rdtscp"),
    ("bdver2", "bdver1", "bmi tbm f16c fma"),
    ("bdver3", "bdver2", "fsgsbase xsaveopt"),
    ("bdver4", "bdver3", "avx2 bmi2 movbe rdrnd mwaitx"),
    (
        "znver1",
        "x86-64-v3",
        "adx aes clflushopt clzero fsgsbase mwaitx pclmul rdrnd rdseed rdtscp sha sse4a xsavec xsaveopt",
    ),
    ("znver2", "znver1", "clwb rdpid rdpru"),
    ("znver3", "znver2", "vaes vpclmulqdq pku"),
    (
        "znver4",
        "znver3",
        "gfni avx512f avx512bw avx512cd avx512dq avx512vl avx512ifma avx512vbmi avx512vbmi2 avx512vnni \
      avx512bitalg avx512vpopcntdq avx512bf16",
    ),
    ("znver5", "znver4", "avxvnni movdiri movdir64b avx512vp2intersect"),
];

/// How many rows a row may stand on.
const DEEPEST: usize = 32;

/// Returns what a level or a processor can do; nothing where nobody knows the name.
pub(super) fn of(name: &str) -> Option<Features> {
    let mut set = feature::system();
    let mut name = name;
    for _ in 0..DEEPEST {
        let (_, base, adds) = *LEVELS.iter().chain(&PROCESSORS).find(|(row, ..)| *row == name)?;
        for word in adds.split_whitespace() {
            set = set.and(feature::parse(word)?);
        }
        // The NOPs of the Pentium Pro: what stands on it has the hints.
        if name == "i686" {
            set = set.and(feature::hints());
        }
        if base.is_empty() {
            return Some(set);
        }
        name = base;
    }
    None
}

/// Returns the names that `[isa]` may have, levels first.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    LEVELS.iter().chain(&PROCESSORS).map(|(name, ..)| *name)
}

/// Returns the lowest of the numbered levels that has some features, to say where they belong.
pub(super) fn lowest_with(features: Features) -> Option<&'static str> {
    let levels = LEVELS.iter().skip_while(|(name, ..)| *name != "x86-64").map(|(name, ..)| *name);
    levels.into_iter().find(|level| of(level).is_some_and(|set| set.has_all(features)))
}

/// What options for a compiler say of the processor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options<'a> {
    /// What they add to the usual.
    pub(super) features: Features,
    /// The processor that the last `-march=` names.
    pub(super) processor: Option<&'a str>,
    /// Whether it is known.
    pub(super) known: bool,
}

/// Reads GCC's and Clang's options for x86.
pub(super) fn options<'a>(words: impl Iterator<Item = &'a str>) -> Options<'a> {
    let mut read = Options { known: true, ..Options::default() };
    let (mut march, mut on, mut off) = (Features::default(), Features::default(), Features::default());
    for word in words {
        if let Some(name) = word.strip_prefix("-march=") {
            let found = of(name);
            (read.processor, read.known) = (Some(name), found.is_some());
            march = found.unwrap_or_default();
        } else if let Some(set) = word.strip_prefix("-mno-").and_then(feature::parse) {
            // Without what it needs itself: that stays.
            let _ = set;
            off = off.and(only(word.strip_prefix("-mno-").unwrap_or_default()));
        } else if let Some(set) = word.strip_prefix("-m").and_then(feature::parse) {
            on = on.and(set);
            off = off.without(set);
        }
    }
    read.features = march.and(on).without(off);
    read
}

/// Returns a feature without what it needs.
fn only(word: &str) -> Features {
    let all = feature::parse(word).unwrap_or_default();
    let needs = all.names().into_iter().filter(|name| feature::parse(name).is_some_and(|set| !set.has_all(all)));
    needs.filter_map(|name| feature::parse(&name)).fold(all, Features::without)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_of_words_that_are_known_and_levels_stand_on_each_other() {
        for name in names() {
            assert!(of(name).is_some(), "{name}");
        }
        let levels = ["i686", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"].map(|name| of(name).unwrap());
        for pair in levels.windows(2) {
            assert!(pair[1].has_all(pair[0]) && !pair[0].has_all(pair[1]));
        }
        assert!(of("znver4").unwrap().has_all(levels[4]) && of("haswell").unwrap().has_all(levels[3]));
        assert!(!of("sandybridge").unwrap().has_all(levels[3]) && of("x86-64-v5").is_none());
    }

    #[test]
    fn options_say_what_they_add() {
        let of_text = |text: &'static str| options(text.split_whitespace());
        let has = |text, feature| of_text(text).features.has_all(feature::parse(feature).unwrap());
        assert!(has("-O2 -mavx2 -pipe", "avx2") && has("-mavx2", "sse4.1") && !has("-mavx2", "fma"));
        assert!(has("-march=haswell -maes", "aes") && has("-march=haswell", "bmi2"));
        assert!(!has("-march=haswell -mno-avx2", "avx2") && has("-march=haswell -mno-avx2", "avx"));
        let native = of_text("-march=native -O2");
        assert_eq!((native.processor, native.known), (Some("native"), false));
        assert!(of_text("-O2 -m64 -mtune=haswell").features.is_empty());
    }

    #[test]
    fn features_have_the_names_of_all_who_name_them() {
        for (a, b) in [("sse4_1", "sse4.1"), ("fma3", "fma"), ("bmi1", "bmi"), ("rdrand", "rdrnd"), ("SSE4_2", "sse4")]
        {
            assert_eq!(feature::parse(a).unwrap(), feature::parse(b).unwrap(), "{a}");
        }
        assert!(feature::parse("no-such").is_none() && feature::parse("").is_none());
        for name in of("znver5").unwrap().names() {
            assert!(feature::parse(&name).is_some(), "{name}");
        }
    }
}
