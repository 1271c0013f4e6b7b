//! Programs of other machines: emulators that the kernel starts for them, in one sandbox alone.
//!
//! Since Linux 6.7 a user namespace can have a binfmt_misc of its own, and nothing of the host's counts in it any more
//! (fs/binfmt_misc.c, `load_binfmt_misc`: the nearest namespace upwards that has one). The outer namespace gets it:
//!
//! 1. its file system is made, and never mounted anywhere: nobody but the process that holds the descriptor reaches it
//! 2. each emulator is registered with the flag `F`: its file is opened now, so that it need not be in the root, and with `P`:
//!    it is told the name that a program was started by
//! 3. that file is opened through a read-only mount of its folder that is attached nowhere: it belongs to the id range, and
//!    the payload reaches it as `/proc/PID/exe` of whatever is emulated (CVE-2019-5736; as program.rs does)
//! 4. the descriptor is kept as long as the sandbox is there: the registrations go with the file system
//!
//! Where there is no emulator to be registered, one without any is made if it is asked for: then a program of another machine
//! does not run, whatever the host has.
//!
//! Below 6.7 the host's registration serves, where there is one that would start its emulator in any root (`F`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::fchdir;

use crate::sandbox::achieved::version;
use crate::sandbox::step::{Doing, StepError};
use crate::sandbox::{mount, sys};
use crate::{fs, process};

/// What an annotation begins with that names an emulator; the machine follows.
pub(super) const ANNOTATION: &str = "bindery.emulator.";
/// The annotation that has nothing count but what is registered here.
pub(super) const FOREIGN: &str = "bindery.foreign";
/// The first kernel with a binfmt_misc for each user namespace.
const OWN: (u32, u32) = (6, 7);
/// Where the host's registrations are (admin-guide/binfmt-misc.rst).
const HOSTS: &str = "/proc/sys/fs/binfmt_misc";
/// How much of a program's head tells what it is for: up to `e_machine` (elf(5)).
const HEAD: usize = 20;

/// A kind of machine that programs are for: its name, which is qemu's, and what their ELF heads say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    name: &'static str,
    is_64: bool,
    big_endian: bool,
    /// `e_machine` (elf.h).
    number: u16,
}

const fn machine(name: &'static str, is_64: bool, big_endian: bool, number: u16) -> Machine {
    Machine { name, is_64, big_endian, number }
}

const MACHINES: [Machine; 16] = [
    machine("aarch64", true, false, 183),
    machine("alpha", true, false, 0x9026),
    machine("arm", false, false, 40),
    machine("hppa", false, true, 15),
    machine("i386", false, false, 3),
    machine("loongarch64", true, false, 258),
    machine("m68k", false, true, 4),
    machine("ppc", false, true, 20),
    machine("ppc64", true, true, 21),
    machine("ppc64le", true, false, 21),
    machine("riscv64", true, false, 243),
    machine("s390x", true, true, 22),
    machine("sparc", false, true, 2),
    machine("sparc32plus", false, true, 18),
    machine("sparc64", true, true, 43),
    machine("x86_64", true, false, 62),
];

/// The machines whose programs a processor of this kind runs by itself.
fn own() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["x86_64", "i386"],
        "aarch64" => &["aarch64"],
        "riscv64" => &["riscv64"],
        "s390x" => &["s390x"],
        _ => &[],
    }
}

/// Debian's names of architectures whose programs are known here, and qemu's of their machines.
const ARCHITECTURES: [(&str, &str); 15] = [
    ("alpha", "alpha"),
    ("amd64", "x86_64"),
    ("arm64", "aarch64"),
    ("armel", "arm"),
    ("armhf", "arm"),
    ("hppa", "hppa"),
    ("i386", "i386"),
    ("loong64", "loongarch64"),
    ("m68k", "m68k"),
    ("powerpc", "ppc"),
    ("ppc64", "ppc64"),
    ("ppc64el", "ppc64le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
    ("sparc64", "sparc64"),
];

/// Returns Debian's names of the architectures whose programs this machine or an emulator runs.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|(debian, _)| *debian)
}

/// Returns qemu's name of the machine that Debian's architecture is for, where that is not this one; nothing for one that is
/// not of [`architectures`], either.
pub fn foreign(debian: &str) -> Option<&'static str> {
    let name = ARCHITECTURES.iter().find(|(known, _)| *known == debian)?.1;
    (!own().contains(&name)).then_some(name)
}

impl Machine {
    /// Returns what the head of its programs looks like, and which bits of it matter.
    fn head(self) -> ([u8; HEAD], [u8; HEAD]) {
        let number = if self.big_endian { self.number.to_be_bytes() } else { self.number.to_le_bytes() };
        let (mut magic, mut mask) = ([0; HEAD], [0xff; HEAD]);
        magic[..7].copy_from_slice(&[
            0x7f,
            b'E',
            b'L',
            b'F',
            1 + u8::from(self.is_64),
            1 + u8::from(self.big_endian),
            1,
        ]);
        // EI_OSABI and EI_ABIVERSION: a program that needs something of GNU's says so.
        mask[7..9].fill(0);
        // ET_EXEC or ET_DYN, which differ in one bit.
        let kind = if self.big_endian { 17 } else { 16 };
        magic[kind] = 2;
        mask[kind] = 0xfe;
        magic[18..].copy_from_slice(&number);
        (magic, mask)
    }

    /// Returns the line that registers an emulator of this name in the working folder.
    fn line(self, program: &str) -> String {
        let hex = |bytes: [u8; HEAD]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "\\x{byte:02x}");
                text
            })
        };
        let (magic, mask) = self.head();
        format!(":{}:M::{}:{}:{program}:FP", self.name, hex(magic), hex(mask))
    }
}

/// An emulator to be registered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Emulator {
    /// Qemu's name of the machine whose programs it runs, such as `aarch64`.
    pub machine: String,
    /// A static program, in a folder that the id range may pass; relative to the sandbox's base folder.
    pub program: PathBuf,
}

impl Emulator {
    /// Reads the rest of an annotation's name and its value; the text of an error says what is wrong with them.
    pub(super) fn read(machine: &str, program: &str) -> Result<Self, String> {
        if !MACHINES.iter().any(|known| known.name == machine) {
            let known: Vec<_> = MACHINES.iter().map(|machine| machine.name).collect();
            return Err(format!("an emulator for `{machine}`; known are {}", known.join(", ")));
        }
        if own().contains(&machine) {
            return Err(format!("an emulator for `{machine}`, whose programs this machine runs by itself"));
        }
        let path = Path::new(program);
        let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
        // The kernel's own separator, and what it takes for an escape.
        let name =
            path.file_name().and_then(|name| name.to_str()).filter(|name| !name.contains([':', '\\', '\n', '\0']));
        if !plain || name.is_none() || path.parent().is_none_or(|parent| parent.as_os_str().is_empty()) {
            return Err(format!("`{program}`; an emulator is a program in a folder below the base folder"));
        }
        Ok(Self { machine: machine.to_string(), program: path.to_path_buf() })
    }

    fn machine(&self) -> Option<Machine> {
        MACHINES.into_iter().find(|known| known.name == self.machine)
    }
}

/// Decides whose registrations serve. Of those that the kernel cannot take, the host's do, or it is an error; what is left
/// in `emulators` is to be registered. Returns what is used for each machine.
pub(super) fn choose(
    emulators: &mut Vec<Emulator>,
    kernel: (u32, u32),
) -> Result<BTreeMap<String, String>, EmulationError> {
    if kernel >= OWN {
        let ours = |emulator: &Emulator| {
            let name = emulator.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (emulator.machine.clone(), format!("`{name}`, registered for this sandbox"))
        };
        return Ok(emulators.iter().map(ours).collect());
    }
    let folder = Path::new(HOSTS);
    let is_on = fs::read_to_string(&folder.join("status")).is_ok_and(|status| status.trim() == "enabled");
    let files = if is_on { fs::read_dir(folder).unwrap_or_default() } else { Vec::new() };
    let entries: Vec<_> =
        files.iter().filter_map(|file| Some((file.file_name()?, fs::read_to_string(file).ok()?))).collect();
    let mut used = BTreeMap::new();
    for emulator in emulators.drain(..) {
        let machine = emulator.machine().ok_or_else(|| EmulationError::new(&emulator, kernel))?;
        let found = entries.iter().find(|(_, text)| serves(text, machine));
        let (name, text) = found.ok_or_else(|| EmulationError::new(&emulator, kernel))?;
        let interpreter = text.lines().find_map(|line| line.strip_prefix("interpreter ")).unwrap_or_default();
        used.insert(
            emulator.machine,
            format!("`{interpreter}`, which the host has registered as `{}`", name.display()),
        );
    }
    Ok(used)
}

/// Returns whether a registration of the host's starts, in any root, what a machine's programs need.
fn serves(entry: &str, machine: Machine) -> bool {
    let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let bytes = |text: &str| -> Option<Vec<u8>> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
    };
    let (head, _) = machine.head();
    let Some(magic) = field("magic ").and_then(bytes) else { return false };
    let mask = field("mask ").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
    // It must look as far as the machine's number, or it starts something else's emulator.
    let same = magic.len() == HEAD
        && mask.len() == HEAD
        && mask[18..] == [0xff; 2]
        && (0..HEAD).all(|at| (head[at] ^ magic[at]) & mask[at] == 0);
    entry.lines().next() == Some("enabled")
        && field("offset ") == Some("0")
        && field("flags: ").is_some_and(|flags| flags.contains('F'))
        && same
}

/// Returns whether this kernel, or the host's registrations, let a sandbox have programs of a machine run, in qemu's words
/// such as `aarch64`. That the kernel can be made to know binfmt_misc, and lets it be used, is only known once it is tried.
pub fn can_emulate(machine: &str) -> Result<(), EmulationError> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let emulator = Emulator { machine: machine.to_string(), program: PathBuf::new() };
    choose(&mut vec![emulator], version(&release)).map(drop)
}

/// Returns whether a sandbox can keep out what the host has registered, or has to: nothing where the kernel does not even know
/// binfmt_misc, so that nothing is registered. An error says why it cannot.
pub(super) fn keeps_out(kernel: (u32, u32)) -> Result<bool, String> {
    match (is_known(), kernel >= OWN) {
        (false, _) => Ok(false),
        (true, true) => Ok(true),
        (true, false) => {
            Err("emulators of its own: what the host has registered counts; Linux 6.7 would help".to_string())
        }
    }
}

/// Returns whether the kernel knows binfmt_misc already (proc_filesystems(5)): else its module is loaded at first use, or
/// there is none.
fn is_known() -> bool {
    fs::read_to_string(Path::new("/proc/filesystems"))
        .is_ok_and(|text| text.lines().any(|line| line.trim_start_matches("nodev").trim() == "binfmt_misc"))
}

/// Registers an emulator for this process, which must be in user and mount namespaces of its own, and for what it starts,
/// as long as what is returned is kept; the program is relative to the working folder. The text of an error says why not.
pub fn register_one(emulator: &Emulator) -> Result<Option<OwnedFd>, String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut emulators = vec![emulator.clone()];
    choose(&mut emulators, version(&release)).map_err(|e| e.to_string())?;
    register_in(&emulators, false, ResolveFlags::NO_MAGICLINKS).map_err(|e| process::chain(&e))
}

/// Registers emulators in the user namespace that this process is in, which owns the mount namespace; they are relative
/// to the working folder, and no link leads out of it. They are there, and where they are to be all that is, nothing of the
/// host's counts, as long as the descriptor is open; none where there is nothing to be done.
pub(super) fn register(emulators: &[Emulator], alone: bool) -> Result<Option<OwnedFd>, StepError> {
    register_in(emulators, alone, ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH)
}

fn register_in(emulators: &[Emulator], alone: bool, resolve: ResolveFlags) -> Result<Option<OwnedFd>, StepError> {
    if emulators.is_empty() && !alone {
        return Ok(None);
    }
    let plain = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let registry = mount::new("binfmt_misc", &[], plain).doing(
        "make a binfmt_misc of the sandbox's own; the kernel needs `CONFIG_BINFMT_MISC` (`modprobe binfmt_misc`, as root)",
    )?;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = openat(CWD, ".", folder, Mode::empty()).doing("open the base folder")?;
    for emulator in emulators {
        let what = format!("register the emulator `{}`", emulator.program.display());
        let machine = emulator.machine().ok_or_else(|| StepError::refused(&what, "its machine is unknown"))?;
        let (parent, name) = (emulator.program.parent(), emulator.program.file_name().and_then(|name| name.to_str()));
        let (parent, name) = parent.zip(name).ok_or_else(|| StepError::refused(&what, "it is no program's path"))?;
        let parent = read_only(&here, parent, resolve).doing(&what)?;
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).doing(&what)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StepError::refused(what, "it is no file"));
        }
        // The name that the kernel opens it by is what it is started by, and what its messages begin with.
        fchdir(&parent).doing(&what)?;
        let file = openat(&registry, "register", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing(&what)?;
        let written = rustix::io::write(&file, machine.line(name).as_bytes());
        fchdir(&here).doing("go back to the base folder")?;
        written.doing(what)?;
    }
    Ok(Some(registry))
}

/// Returns a folder as a mount of its own, which nobody can write to by.
fn read_only(base: &OwnedFd, folder: &Path, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = loop {
        match openat2(base, folder, flags, Mode::empty(), resolve) {
            // The kernel could not rule out that something was renamed meanwhile, and asks to be asked again.
            Err(rustix::io::Errno::AGAIN) => {}
            opened => break opened?,
        }
    };
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&folder, "", clone)?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::set_mount_attributes(&tree, attributes, false)?;
    Ok(tree)
}

/// This host cannot run programs of another machine.
#[derive(Debug, thiserror::Error)]
#[error(
    "programs for {machine} cannot be run: Linux {}.{} has no binfmt_misc for a sandbox alone (6.7 and later have), and the \
     host has no emulator for {machine} registered with the flag `F`; on Debian: `apt install qemu-user-static binfmt-support`",
    kernel.0, kernel.1
)]
pub struct EmulationError {
    machine: String,
    kernel: (u32, u32),
}

impl EmulationError {
    fn new(emulator: &Emulator, kernel: (u32, u32)) -> Self {
        Self { machine: emulator.machine.clone(), kernel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Machine {
        MACHINES.into_iter().find(|machine| machine.name == name).unwrap()
    }

    #[test]
    fn the_line_is_what_qemus_own_script_registers() {
        // scripts/qemu-binfmt-conf.sh, but for EI_ABIVERSION, which it does not let differ.
        assert_eq!(
            named("aarch64").line("qemu-aarch64"),
            r":aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\x00\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:qemu-aarch64:FP"
        );
        assert_eq!(
            named("sparc64").line("q"),
            r":sparc64:M::\x7f\x45\x4c\x46\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x2b:\xff\xff\xff\xff\xff\xff\xff\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff:q:FP"
        );
    }

    #[test]
    fn an_emulator_is_a_program_below_the_base_folder_for_another_machine() {
        let read = |machine: &str, program: &str| Emulator::read(machine, program).map(|emulator| emulator.program);
        assert_eq!(read("s390x", "l/AB/usr/bin/qemu-s390x").is_ok(), !own().contains(&"s390x"));
        for program in ["", "/usr/bin/qemu", "../qemu", "l/../qemu", "qemu", "l/a:b", "l/a\\x41", "l/a\n"] {
            assert!(read("m68k", program).unwrap_err().contains("below the base folder"), "{program:?}");
        }
        assert!(read("vax", "l/q").unwrap_err().contains("known are aarch64, "));
        let itself = own().first().copied().unwrap_or_default();
        assert!(read(itself, "l/q").is_err());
    }

    #[test]
    fn every_architecture_has_a_machine() {
        assert!(ARCHITECTURES.iter().all(|(_, name)| MACHINES.iter().any(|machine| machine.name == *name)));
        assert!(
            architectures().any(|debian| debian == "loong64") && !architectures().any(|debian| debian == "mips64el")
        );
    }

    #[test]
    fn debians_architectures_are_this_machines_or_foreign() {
        assert_eq!(foreign("s390x").is_some(), !own().contains(&"s390x"));
        assert_eq!(foreign("armhf"), Some("arm"));
        assert_eq!(foreign("nonsense"), None);
        #[cfg(target_arch = "x86_64")]
        assert_eq!([foreign("amd64"), foreign("i386"), foreign("arm64")], [None, None, Some("aarch64")]);
    }

    const HOST: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\nmagic \
        7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn a_registration_of_the_hosts_serves_when_it_is_on_and_holds_its_file_open() {
        let arm = named("aarch64");
        assert!(serves(HOST, arm));
        assert!(!serves(HOST, named("riscv64")) && !serves(HOST, named("sparc64")));
        for (from, to) in [
            ("enabled", "disabled"),
            ("POCF", "POC"),
            ("offset 0", "offset 1"),
            ("b700", "b"),
            ("feffffff", "feff00ff"),
        ] {
            assert!(!serves(&HOST.replace(from, to), arm), "{from} {to}");
        }
        assert!(!serves("", arm) && !serves("enabled\nmagic zz", arm));
    }

    #[test]
    fn an_old_kernel_without_a_registration_is_refused_with_the_way_out() {
        let emulator = Emulator { machine: "m68k".to_string(), program: "l/q".into() };
        // Nobody has that registered: no distribution's qemu-user does so for a machine that is named so.
        let nobody = Emulator { machine: "none".to_string(), ..emulator.clone() };
        let error = choose(&mut vec![nobody], (6, 1)).unwrap_err().to_string();
        assert!(error.contains("Linux 6.1 has no") && error.contains("`apt install qemu-user-static"), "{error}");
        let mut all = vec![emulator];
        let used = choose(&mut all, (6, 7)).unwrap();
        assert_eq!((all.len(), used["m68k"].as_str()), (1, "`q`, registered for this sandbox"));
    }
}
