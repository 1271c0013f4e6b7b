//! What a profile says of its processors.

use super::feature::{self, Features};
use super::level;

/// What packages of a profile may need.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The CHOST.
    pub chost: String,
    /// The level's name, or what it was made from; nothing for machines of which instructions are not looked at.
    pub level: Option<String>,
    /// What x86 processors of it can do, by name, sorted.
    pub features: Vec<String>,
    /// Options for the compiler that say what other machines can do (`-march=`, `-mcpu=`, `-mabi=`).
    pub options: Vec<String>,
    /// What was not understood, and what was taken instead.
    pub doubt: Option<String>,
}

impl Target {
    /// Returns the target of a profile that says its level: `[isa]`.
    pub fn new(chost: &str, level: &str, features: &[&str]) -> Result<Self, LevelError> {
        if !is_x86(chost) {
            return Err(LevelError::NotX86 { chost: chost.to_string() });
        }
        let unknown = || LevelError::Unknown { name: level.to_string() };
        let mut set = level::of(level).ok_or_else(unknown)?;
        for word in features {
            set = set.and(feature::parse(word).ok_or_else(|| LevelError::Feature { name: (*word).to_string() })?);
        }
        let name = std::iter::once(level).chain(features.iter().copied()).collect::<Vec<_>>().join(" and ");
        Ok(Self::of(chost, Some(name), set))
    }

    /// Returns the target that follows from a CHOST, the options for the C compiler and the names of `CPU_FLAGS_X86`.
    pub fn derive(chost: &str, options: &str, cpu_flags: &[&str]) -> Self {
        let words = || options.split_whitespace();
        if !is_x86(chost) {
            let says = |word: &&str| ["-march=", "-mcpu=", "-mabi="].iter().any(|option| word.starts_with(option));
            let options = words().filter(says).map(str::to_string).collect();
            return Self { chost: chost.to_string(), options, ..Self::default() };
        }
        let usual = match chost.split('-').next().unwrap_or_default() {
            "x86_64" => "x86-64",
            "x86" => "i686",
            cpu => cpu,
        };
        let said = level::options(words());
        // An option may name less than the CHOST does; the CHOST is what the image's own libraries need.
        let mut set = level::of(usual).unwrap_or_else(feature::system).and(said.features);
        let mut name = said.processor.filter(|_| said.known).unwrap_or(usual).to_string();
        for word in words().filter_map(|word| word.strip_prefix("-m")).filter(|word| feature::parse(word).is_some()) {
            name.push_str(&format!(" and {word}"));
        }
        for flag in cpu_flags {
            if let Some(more) = feature::parse(flag).filter(|more| !set.has_all(*more)) {
                set = set.and(more);
                name.push_str(&format!(" and {flag}"));
            }
        }
        let doubt = said.processor.filter(|_| !said.known).map(|processor| {
            format!(
                "`-march={processor}` says no level that bindery knows, and {usual} was taken: say `level` in [isa]"
            )
        });
        Self { doubt, ..Self::of(chost, Some(name), set) }
    }

    /// Returns whether a word names something that x86 processors can have.
    pub fn is_feature(word: &str) -> bool {
        feature::parse(word).is_some()
    }

    fn of(chost: &str, level: Option<String>, set: Features) -> Self {
        let features = set.without(feature::system()).names();
        Self { chost: chost.to_string(), level, features, ..Self::default() }
    }

    /// Returns what x86 processors can do.
    pub(super) fn allowed(&self) -> Features {
        let features = self.features.iter().filter_map(|name| feature::parse(name));
        features.fold(feature::system(), Features::and)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.level.as_deref().unwrap_or(&self.chost))
    }
}

fn is_x86(chost: &str) -> bool {
    matches!(chost.split('-').next(), Some("x86_64" | "i386" | "i486" | "i586" | "i686" | "x86"))
}

/// Returns the words of a command line that let a compiler use one of these features, by name.
pub fn granted<'a>(line: &'a str, features: &[String]) -> Vec<&'a str> {
    let wanted: Vec<Features> = features.iter().filter_map(|name| feature::parse(name)).collect();
    let grants = |word: &&str| {
        if let Some(cpu) = word.strip_prefix("-Ctarget-cpu=").or_else(|| word.strip_prefix("target-cpu=")) {
            return level::of(cpu).is_none_or(|set| wanted.iter().any(|wanted| set.has_all(*wanted)));
        }
        let said = level::options(std::iter::once(*word));
        match said.processor {
            // Whatever the build machine has.
            Some(_) if !said.known => true,
            _ => !said.features.is_empty() && wanted.iter().any(|wanted| said.features.has_all(*wanted)),
        }
    };
    line.split_whitespace().filter(grants).collect()
}

/// A level cannot be what a profile says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// Nobody knows it.
    #[error("there is no level `{name}`")]
    Unknown {
        /// What was said.
        name: String,
    },
    /// Nobody knows a feature.
    #[error("no x86 processor has a feature `{name}`")]
    Feature {
        /// What was said.
        name: String,
    },
    /// Instructions of other machines are not looked at.
    #[error("levels are of x86 processors; what `{chost}` needs follows from it and from `cflags`")]
    NotX86 {
        /// The CHOST.
        chost: String,
    },
}

impl LevelError {
    /// Returns all names that a level may have.
    pub fn known() -> impl Iterator<Item = &'static str> {
        level::names()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_follows_from_what_the_profile_says_of_its_processors() {
        let x86 = "x86_64-pc-linux-gnu";
        let derive = |options: &str, flags: &[&str]| Target::derive(x86, options, flags);
        let has = |target: &Target, name: &str| target.allowed().has_all(feature::parse(name).unwrap());
        let baseline = derive("-O2 -pipe", &["mmx", "mmxext", "sse", "sse2"]);
        assert_eq!(
            (baseline.to_string().as_str(), has(&baseline, "sse2"), has(&baseline, "sse3")),
            ("x86-64", true, false)
        );
        let third = derive("-O2 -march=x86-64-v3", &["avx2", "fma3"]);
        assert_eq!((third.to_string().as_str(), has(&third, "avx2"), has(&third, "aes")), ("x86-64-v3", true, false));
        let more = derive("-march=x86-64-v2 -mpclmul", &["aes"]);
        assert_eq!(more.to_string(), "x86-64-v2 and pclmul and aes");
        assert!(has(&more, "aes") && has(&more, "pclmul") && !has(&more, "avx"));
        let native = derive("-march=native", &[]);
        assert!(native.doubt.unwrap().contains("`-march=native` says no level"));
        assert_eq!(Target::derive("i486-pc-linux-gnu", "", &[]).to_string(), "i486");
        assert!(!has(&Target::derive("i586-pc-linux-gnu", "", &[]), "cmov"));
        assert!(has(&Target::derive("i686-pc-linux-gnu", "", &[]), "cmov"));
        let arm = Target::derive("aarch64-unknown-linux-gnu", "-O2 -mcpu=cortex-a72", &["neon"]);
        assert_eq!((arm.level, arm.options), (None, vec!["-mcpu=cortex-a72".to_string()]));
    }

    #[test]
    fn a_level_that_is_said_is_taken_alone_and_must_be_known() {
        let x86 = "x86_64-pc-linux-gnu";
        let target = Target::new(x86, "x86-64-v2", &["aes"]).unwrap();
        assert_eq!(target.to_string(), "x86-64-v2 and aes");
        assert_eq!(Target::new(x86, "v2", &[]).unwrap_err().to_string(), "there is no level `v2`");
        assert!(Target::new(x86, "x86-64", &["mmy"]).unwrap_err().to_string().contains("`mmy`"));
        assert!(Target::new("aarch64-unknown-linux-gnu", "x86-64", &[]).is_err());
    }

    #[test]
    fn the_flags_that_grant_a_feature_are_found_in_a_command() {
        let line = "gcc -O2 -mavx2 -march=x86-64 -mtune=haswell -c -o a.o a.c";
        assert_eq!(granted(line, &["avx".into(), "avx2".into()]), ["-mavx2"]);
        assert_eq!(granted("cc -march=haswell x.c", &["bmi2".into()]), ["-march=haswell"]);
        assert_eq!(granted("cc -march=native x.c", &["bmi2".into()]), ["-march=native"]);
        assert!(granted("cc -O2 -msse2 x.c", &["avx2".into()]).is_empty());
    }
}
