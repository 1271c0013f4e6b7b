//! What programs need of the processor: whether each ELF file of a package runs on what a profile is for. Pure.
//!
//! ```text
//! machine    machine, class, byte order, ABI flags of every ELF file; attributes of ARM's and RISC-V's
//! property   what the linker noted that a file needs; this and the rest is of x86
//! sweep      every instruction, against the level: where there is none beyond, that is all
//! dispatch   whether those that are beyond are only reached where the processor has them
//! ```
//!
//! A **level** is a set of features of processors; a profile's is what `[isa]` says, else what its CHOST, the options of its
//! CFLAGS and its `cpu-flags` say. An **exception** of the profile names package, file and symbol, and says why. What is
//! checked, and where that ends, is in `docs/isa.md`.
//!
//! All of this reads what a build wrote, and runs where the package is read: in a sandbox. Nothing here panics on it.

use iced_x86::{FastFormatter, Instruction};

mod archive;
mod attributes;
mod dispatch;
mod feature;
mod frames;
mod graph;
mod guard;
mod level;
mod machine;
mod object;
mod property;
mod space;
mod sweep;
mod target;

use dispatch::Verdict;
use feature::Features;
use machine::Machine;
use object::Object;
use sweep::{Hit, Rules};
pub use target::{LevelError, Target, granted};

/// Changes whenever a file that passed might not any more.
pub const RULES: u32 = 2;
/// How many findings are told.
const TOLD: usize = 20;
/// The longest file that is read, in bytes: it has to be in memory.
pub const LONGEST: u64 = 1 << 29;
/// The longest text of one name, in characters.
const NAME: usize = 200;
/// Where files are that other processors run: of devices.
const FIRMWARE: [&str; 2] = ["/lib/firmware/", "/usr/lib/firmware/"];

/// What a package is checked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What the profile is for.
    pub target: Target,
    /// The profile's exceptions for the package.
    pub exceptions: Vec<Exception>,
}

/// What a profile lets pass, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The file's path in the root; `*` stands for any text.
    pub file: String,
    /// The function's name, or `+0x…` for one without; `*` stands for any text. Nothing for the whole file, also for another
    /// machine's.
    pub symbol: Option<String>,
    /// Why that is right.
    pub reason: String,
}

/// What an audit came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// How many ELF files there were, members of archives counted.
    pub files: u64,
    /// How many bytes of code were read.
    pub code: u64,
    /// How many functions the rule of dispatch let pass.
    pub dispatched: u64,
    /// How many findings each exception let pass, in their order.
    pub excepted: Vec<u64>,
    /// What is wrong, the first of it.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
}

/// Something that is not right for the target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The file's path in the root; `PATH(MEMBER)` in an archive.
    pub file: String,
    /// The function, `+0x…` where it has no name.
    pub symbol: Option<String>,
    /// What it is.
    pub what: What,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// An instruction beyond the level.
    Instruction {
        /// Where: the address, or the place in the section of what is to be linked.
        address: u64,
        /// Its text.
        text: String,
        /// What it needs that the level has not.
        needs: Vec<String>,
        /// The lowest level that has that.
        level: Option<String>,
    },
    /// Another machine, or another ABI.
    Machine(String),
    /// The linker's note that says what is needed.
    Property(String),
    /// It cannot be read.
    Unread(String),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.file)?;
        match &self.symbol {
            Some(symbol) if symbol.starts_with('+') => write!(f, "{symbol}")?,
            Some(symbol) => write!(f, ", `{symbol}`")?,
            None => {}
        }
        match &self.what {
            What::Instruction { address, text, needs, level } => {
                write!(f, ", at {address:#x}: `{text}` needs {}", needs.join(" and "))?;
                level.as_ref().map_or(Ok(()), |level| write!(f, " ({level})"))
            }
            What::Machine(why) | What::Property(why) | What::Unread(why) => write!(f, ": {why}"),
        }
    }
}

/// Checks the files of one package.
#[derive(Debug)]
pub struct Audit<'a> {
    wanted: &'a Wanted,
    allowed: Features,
    rules: Rules,
    report: Report,
}

impl<'a> Audit<'a> {
    /// Starts with no file.
    pub fn new(wanted: &'a Wanted) -> Self {
        let allowed = wanted.target.allowed();
        let report = Report { excepted: vec![0; wanted.exceptions.len()], ..Report::default() };
        Self { wanted, allowed, rules: Rules::new(allowed), report }
    }

    /// Returns whether a file that begins so is looked at.
    pub fn concerns(beginning: &[u8]) -> bool {
        beginning.starts_with(b"\x7fELF") || beginning.starts_with(b"!<arch>\n")
    }

    /// Notes that a file is too long to be read.
    pub fn too_long(&mut self, path: &str) {
        self.find(path, None, What::Unread(format!("it is longer than {LONGEST} bytes, and was not read")));
    }

    /// Checks a file.
    pub fn file(&mut self, path: &str, data: &[u8]) {
        if FIRMWARE.iter().any(|folder| path.starts_with(folder)) {
            return;
        }
        if data.starts_with(b"\x7fELF") {
            return self.unit(vec![(path.to_string(), data)]);
        }
        match archive::members(data) {
            Some(members) => {
                let members = members.into_iter().filter(|(_, data)| data.starts_with(b"\x7fELF"));
                self.unit(members.map(|(name, data)| (format!("{path}({name})"), data)).collect());
            }
            None => self.find(path, None, What::Unread("it begins like a static archive and is none".to_string())),
        }
    }

    /// Returns what was found.
    pub fn finish(self) -> Report {
        self.report
    }

    /// Checks files that belong together.
    fn unit(&mut self, files: Vec<(String, &[u8])>) {
        let (mut names, mut objects, mut hits): (Vec<String>, Vec<Object<'_>>, Vec<Vec<Hit>>) = Default::default();
        for (name, data) in files {
            self.report.files += 1;
            let Some(machine) = Machine::of(data) else {
                self.find(&name, None, What::Unread("it begins like an ELF file and is none".to_string()));
                continue;
            };
            if let Some(wrong) = machine::wrong(&machine, &self.wanted.target) {
                self.find(&name, None, What::Machine(wrong));
                continue;
            }
            if !machine.is_x86() {
                match attributes::wrong(data, &machine, &self.wanted.target) {
                    Ok(None) => {}
                    Ok(Some(wrong)) => self.find(&name, None, What::Machine(wrong)),
                    Err(why) => self.find(&name, None, What::Unread(why.to_string())),
                }
                continue;
            }
            let object = match Object::read(data, machine) {
                Ok(object) => object,
                Err(why) => {
                    self.find(&name, None, What::Unread(why.to_string()));
                    continue;
                }
            };
            if let Some(level) = property::needed(&object)
                && !level::of(level).is_some_and(|features| self.allowed.has_all(features))
            {
                self.find(&name, None, What::Property(format!("its property note says that it needs {level}")));
            }
            let (found, read) = sweep::sweep(&object, &self.rules);
            self.report.code += read;
            names.push(name);
            objects.push(object);
            hits.push(found);
        }
        if hits.iter().all(Vec::is_empty) {
            return;
        }
        let verdicts = dispatch::judge(&objects, &hits);
        for (((name, object), hits), verdicts) in names.iter().zip(&objects).zip(&hits).zip(verdicts) {
            for (hit, verdict) in hits.iter().zip(verdicts) {
                match verdict {
                    Verdict::Dispatched => self.report.dispatched += 1,
                    Verdict::Reached(place) => self.instruction(name, object, hit, place),
                }
            }
        }
    }

    fn instruction(&mut self, file: &str, object: &Object<'_>, hit: &Hit, place: usize) {
        let Some(function) = object.functions.get(hit.function) else { return };
        let Some(section) = object.sections.get(function.section) else { return };
        let base = if object.is_relocatable { 0 } else { section.address };
        let is_64 = object.machine.number == elf::abi::EM_X86_64;
        let bytes = section.bytes.get(place..).unwrap_or_default();
        let mut instruction = Instruction::default();
        let ip = usize::try_from(base).unwrap_or_default().wrapping_add(place);
        sweep::decoder(bytes, ip, is_64).decode_out(&mut instruction);
        let (mut text, mut needs, mut level) = (String::new(), Vec::new(), None);
        if instruction.is_invalid() {
            let shown: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            text = shown.join(" ");
            needs.push("a later processor than this bindery knows".to_string());
        } else {
            FastFormatter::new().format(&instruction, &mut text);
            let missing = feature::needs(instruction.code(), is_64).without(self.allowed);
            needs.extend(missing.names());
            level = level::lowest_with(feature::needs(instruction.code(), is_64)).map(str::to_string);
        }
        let symbol = function.name.map_or_else(|| format!("+{:#x}", base + function.start as u64), short);
        let address = base + place as u64;
        self.find(file, Some(symbol), What::Instruction { address, text, needs, level });
    }

    fn find(&mut self, file: &str, symbol: Option<String>, what: What) {
        let finding = Finding { file: short(file), symbol, what };
        let lets = |exception: &Exception| {
            let symbol = match (&exception.symbol, &finding.symbol) {
                (None, _) => true,
                (Some(pattern), Some(symbol)) => matches(pattern, symbol),
                (Some(_), None) => false,
            };
            symbol && (matches(&exception.file, &finding.file) || is_member(&exception.file, &finding.file))
        };
        match self.wanted.exceptions.iter().position(lets) {
            Some(at) => self.report.excepted[at] += 1,
            None if self.report.findings.len() < TOLD => self.report.findings.push(finding),
            None => self.report.more += 1,
        }
    }
}

/// Returns whether a file is a member of the archive that a pattern names as a whole.
fn is_member(pattern: &str, file: &str) -> bool {
    file.split_once('(').is_some_and(|(archive, _)| matches(pattern, archive))
}

/// Returns a name as it can be told: without what moves a terminal, bounded.
fn short(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).take(NAME).collect()
}

/// Returns whether a text is as a pattern says, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
