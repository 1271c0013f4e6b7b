//! New profiles: one that fits this machine's processor, and one like another with what is usually changed.
//!
//! Both inherit; what is written is for people to go on with, and says of each value where it came from.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::host::{HostError, Processor};
use super::show::quoted;
use super::{Profile, ProfileError};
use crate::atom::Name;
use crate::config::{Config, Kind, SearchError};
use crate::fs::{self, PathError};

/// What a new profile starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// This machine's processor.
    Host(Processor),
    /// Another profile.
    Like(Name),
}

/// A profile that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New {
    /// Its file.
    pub path: PathBuf,
    /// The profile that it inherits.
    pub inherits: Name,
}

/// Writes a profile to `FOLDER/profiles/NAME.toml`. Nothing is ever overwritten, and no other profile hidden.
pub fn write(config: &Config, folder: &Path, name: &Name, start: &Start) -> Result<New, NewError> {
    match config.search.find(Kind::Profile, name) {
        Ok(found) => return Err(NewError::Exists { name: name.clone(), path: found.path }),
        Err(SearchError::Unknown(_)) => {}
        Err(SearchError::Path(error)) => return Err(error.into()),
    }
    let inherits = match start {
        Start::Host(processor) => processor.base.parse().expect("names of shipped profiles are names"),
        Start::Like(other) => other.clone(),
    };
    // What is wrong with that would be wrong with this one.
    let base = Profile::load(config, &inherits)?;
    let text = match start {
        Start::Host(processor) => host(&base, processor),
        Start::Like(_) => like(&base, name),
    };
    let folder = folder.join("profiles");
    let path = folder.join(format!("{name}.toml"));
    fs::create_dir_all(&folder)?;
    match fs::write_new(&path, text, 0o644) {
        Ok(()) => Ok(New { path, inherits }),
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(NewError::Exists { name: name.clone(), path })
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the text of a profile for a processor; `base` is the one for all of the architecture.
fn host(base: &Profile, processor: &Processor) -> String {
    let machine = &processor.machine;
    let model = processor.model.as_deref().unwrap_or("a processor without a name");
    let mut out =
        format!("# For the processor that `bindery profile new --from-host` found in /proc/cpuinfo: {model}.\n");
    if processor.virtual_machine {
        out.push_str("# It is a virtual machine's: what its host hides of the processor is not here.\n");
    }
    let level = processor.level.as_ref();
    let suits = level.map_or_else(|| machine.clone(), |level| level.name.to_string());
    let description = quoted(&format!("{model} ({suits})"));
    let _ = write!(out, "version = 1\ndescription = {description}\n");
    let _ = writeln!(out, "# The profile for all processors of this architecture ({machine}).");
    let _ = write!(out, "inherits = {}\n\n[flags]\n", quoted(base.name.as_str()));
    if let Some(level) = level {
        out.push_str("# The highest level of the x86-64 psABI of which the processor has everything.\n");
        if let Some((next, lacks)) = &level.next {
            let _ = writeln!(out, "# Of {next} it lacks, as the kernel calls it: {}.", lacks.join(" "));
        }
        out.push_str("# Every compiler knows the levels, and every processor of the level runs what comes of it. For this one alone,\n");
        out.push_str("# name it as the image's compiler does, beside `-march=` in what this prints:\n");
        let _ = writeln!(out, "#   bindery run --image {} -- gcc -march=native -Q --help=target", base.image);
        let options = base.flags.cflags.as_ref().map_or("-O2 -pipe", |options| options.as_str());
        let _ = writeln!(out, "cflags = {}\n", quoted(&for_level(options, level.name)));
    } else {
        let _ = write!(
            out,
            "# cflags are {}'s: the kernel names extensions of the architecture, and not which version of it this is\n\
             # (`-march=armv8.2-a` and so on); see the processor's manual.\n\n",
            base.name
        );
    }
    if let Some(variable) = base.arch.cpu_flags_variable() {
        let _ = writeln!(
            out,
            "# {variable}: what Gentoo's table of these flags has of /proc/cpuinfo; behind a flag, its name there if it is another."
        );
    }
    out.push_str("cpu-flags = [\n");
    for (flag, kernel) in &processor.cpu_flags {
        let comment = kernel.map(|kernel| format!("  # {kernel}")).unwrap_or_default();
        let _ = writeln!(out, "    {},{comment}", quoted(flag));
    }
    out.push_str("]\n");
    if level.is_some() {
        out.push_str(
            "\n# What packages may need of processors, which they are audited for (docs/isa.md), follows from -march and cpu-flags.\n",
        );
    }
    out
}

/// Returns options for the compiler with another `-march=`.
fn for_level(options: &str, level: &str) -> String {
    let others = options.split_whitespace().filter(|word| !["-march=", "-mtune="].iter().any(|o| word.starts_with(o)));
    others.chain([format!("-march={level}").as_str()]).collect::<Vec<_>>().join(" ")
}

/// Returns the text of a profile like another.
fn like(base: &Profile, name: &Name) -> String {
    let (parent, arch) = (&base.name, &base.arch);
    let cflags = quoted(base.flags.cflags.as_ref().map_or("-O2 -pipe", |options| options.as_str()));
    let ldflags = quoted(base.flags.ldflags.as_ref().map_or("-Wl,-O1 -Wl,--as-needed", |options| options.as_str()));
    let flags: Vec<String> = base.flags.cpu_flags.iter().map(|flag| quoted(flag.as_str())).collect();
    let flags = match (flags.is_empty(), arch.cpu_flags_variable()) {
        (_, None) => String::new(),
        (true, Some(variable)) => format!("# {variable}; see app-portage/cpuid2cpuflags.\n#cpu-flags = []\n"),
        (false, Some(variable)) => format!("# {variable}, continued.\n#cpu-flags = [{}]\n", flags.join(", ")),
    };
    format!(
        r#"# Like profile {parent}, but for what is said here. `bindery profile show {name}` shows what it comes to, and from which
# file each value is.
version = 1
description = {description}
inherits = {inherits}

# What is usually changed. A line that begins with `#` and a word says what is inherited, or an example; without the `#`
# it is in force. Lists continue what is inherited: "-x" takes x back, "-*" everything.

#use = ["nls", "-X"]
#accept-keywords = ["~{arch}"]
#accept-license = ["@FREE"]

#[flags]
# C++, Fortran and the rest follow cflags where they say nothing themselves.
#cflags = {cflags}
#ldflags = {ldflags}
{flags}
#[package]
#use = ["app-misc/hello -nls"]
#accept-keywords = ["app-misc/hello **"]
#mask = [">=app-misc/hello-3"]

#[sets]
# What `bindery build --profile {name}` builds.
#world = ["app-misc/hello"]

#[limits]
#cpus = 4
#memory = "8GiB"
#time = "2h"
"#,
        description = quoted(&format!("like {parent}")),
        inherits = quoted(parent.as_str()),
    )
}

/// A profile cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// A file operation failed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is one of that name.
    #[error("there is a profile `{name}` already, in `{}`: it is never overwritten", path.display())]
    Exists {
        /// The name.
        name: Name,
        /// Its file.
        path: PathBuf,
    },
    /// The one that it would inherit cannot be used.
    #[error(transparent)]
    Base(#[from] ProfileError),
    /// Nothing fits this machine.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl NewError {
    /// Returns what to do about it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Path(_) => Vec::new(),
            Self::Exists { name, .. } => vec![
                "choose another name, or change that file".to_string(),
                format!("`--like {name}` writes one that inherits from it"),
            ],
            Self::Base(error) => error.hints(),
            Self::Host(_) => {
                vec!["`--like PROFILE` writes one that inherits from the profile that you name".to_string()]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BASE, Project};
    use super::*;

    const CPUINFO: &str = "model name\t: Some \"CPU\" #1\nflags\t\t: fpu cx8 cmov mmx fxsr sse sse2 syscall lm pni ssse3 \
                           cx16 sse4_1 sse4_2 popcnt lahf_lm aes pclmulqdq hypervisor\n";

    fn project(more: &[(&str, &str)]) -> Project {
        let flags = "key = \"k\"\n[flags]\nldflags = \"-Wl,-O1\"\ncflags = \"-Os";
        let amd64 = format!("{BASE}{flags} -march=x86-64 -mtune=generic\"\ncpu-flags = [\"mmx\"]\n");
        let arm64 = format!("{}{flags}\"\n", BASE.replace("x86_64-pc", "aarch64-unknown"));
        Project::new(&[&[("amd64", amd64.as_str()), ("arm64", arm64.as_str())], more].concat())
    }

    fn new(project: &Project, name: &str, start: Start) -> Result<(New, Profile, String), NewError> {
        let config = project.config();
        let new = write(&config, project.0.path(), &name.parse().unwrap(), &start)?;
        let text = fs::read_to_string(&new.path).unwrap();
        Ok((new, project.load(name).unwrap(), text))
    }

    #[test]
    fn a_profile_of_a_processor_loads_and_says_where_values_came_from() {
        let project = project(&[]);
        let start = Start::Host(Processor::of("x86_64", CPUINFO).unwrap());
        let (new, profile, text) = new(&project, "mine", start).unwrap();
        assert_eq!((new.inherits.as_str(), new.path), ("amd64", project.0.path().join("profiles/mine.toml")));
        assert_eq!(profile.flags.cflags.as_ref().unwrap().as_str(), "-Os -march=x86-64-v2");
        let flags: Vec<&str> = profile.flags.cpu_flags.iter().map(|flag| flag.as_str()).collect();
        assert_eq!(flags.join(" "), "aes mmx mmxext pclmul popcnt sse sse2 sse3 sse4_1 sse4_2 ssse3");
        assert_eq!(profile.description.unwrap().as_str(), "Some \"CPU\" #1 (x86-64-v2)");
        let level = profile.isa.target.to_string();
        assert!(
            level.starts_with("x86-64-v2") && level.contains("aes") && profile.isa.target.doubt.is_none(),
            "{level}"
        );
        for expected in [
            "Of x86-64-v3 it lacks, as the kernel calls it: avx avx2",
            "\"sse3\",  # pni",
            "a virtual machine's",
            "CPU_FLAGS_X86",
        ] {
            assert!(text.contains(expected), "no `{expected}` in:\n{text}");
        }
    }

    #[test]
    fn a_profile_of_an_arm_processor_says_what_is_not_known() {
        let cpuinfo = "Features\t: fp asimd crc32\n";
        let (new, profile, text) =
            new(&project(&[]), "pi", Start::Host(Processor::of("aarch64", cpuinfo).unwrap())).unwrap();
        assert_eq!((new.inherits.as_str(), profile.arch.as_str()), ("arm64", "arm64"));
        assert!(profile.flags.cpu_flags.iter().any(|flag| flag.as_str() == "crc32"));
        assert!(text.contains("not which version of it") && text.contains("CPU_FLAGS_ARM"), "{text}");
    }

    #[test]
    fn a_profile_like_another_means_the_same_and_its_examples_can_all_be_taken() {
        for parent in ["amd64", "arm64"] {
            let project = project(&[]);
            let (_, profile, text) = new(&project, "mine", Start::Like(parent.parse().unwrap())).unwrap();
            let base = project.load(parent).unwrap();
            assert_eq!((&profile.flags, &profile.use_, &profile.isa), (&base.flags, &base.use_, &base.isa));
            // An example has its word right behind the `#`.
            let taken: Vec<&str> = text
                .lines()
                .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
                .collect();
            project.write("profiles/mine.toml", &taken.join("\n"));
            let taken = project.load("mine").unwrap();
            assert_eq!((&taken.flags, taken.limits.cpus), (&base.flags, Some(4.0)), "{text}");
            assert_eq!(taken.accept_keywords[0].to_string(), format!("~{parent}"));
            assert_eq!((taken.use_.len(), taken.package.mask.len(), taken.sets.len()), (2, 1, 1));
        }
    }

    #[test]
    fn nothing_is_overwritten_or_hidden() {
        let project = project(&[("mine", BASE)]);
        let refused = |name: &str, start: Start| new(&project, name, start).unwrap_err();
        let like = || Start::Like("amd64".parse().unwrap());
        let error = refused("mine", like());
        assert!(error.to_string().contains("profiles/mine.toml`: it is never overwritten"), "{error}");
        assert_eq!(error.hints()[1], "`--like mine` writes one that inherits from it");
        assert_eq!(fs::read_to_string(&project.0.path().join("profiles/mine.toml")).unwrap(), BASE);
        // One that comes with the program.
        let error = refused("sparc64", like()).to_string();
        assert!(error.contains("`<bindery>/profiles/sparc64.toml`"), "{error}");
        // A link that leads nowhere is a file, too.
        fs::symlink(Path::new("gone"), &project.0.path().join("profiles/link.toml")).unwrap();
        assert!(matches!(refused("link", like()), NewError::Exists { .. }));
    }

    #[test]
    fn what_is_inherited_must_be_right() {
        let project = project(&[("wrong", "version = 1\ninherits = \"amd64\"\nuse = [\"a b\"]\n")]);
        let error = new(&project, "mine", Start::Like("adm64".parse().unwrap())).unwrap_err();
        assert_eq!(error.to_string(), "there is no profile `adm64`");
        assert_eq!(error.hints()[0], "did you mean `amd64`?");
        assert!(matches!(new(&project, "mine", Start::Like("wrong".parse().unwrap())), Err(NewError::Base(_))));
        assert!(!project.0.path().join("profiles/mine.toml").exists());
    }
}
