//! Programs for the other processor that a cross build runs: test programs of a `configure`, and what builds itself.
//!
//! 1. The image of the cross compiler names the one that has the emulator, which is made if need be.
//! 2. Where a sandbox can register it, the rooms that packages are built in do, and `configure` is told that programs run.
//! 3. Where none can, they do not, which most packages never notice: the log and the status say so, and where a package
//!    fails that has tried, the reason does.

use std::path::Path;

use crate::backend::Step;
use crate::build::images;
use crate::build::room::Room;
use crate::build::{BuildError, Host, emulated};
use crate::event::Sink;
use crate::fs::PathError;
use crate::image::{self, Definition, Image};
use crate::process;
use crate::root::Limits;
use crate::sandbox::{Emulator, Exit, Stopped};

/// What is said of a program of another machine that is started, and of one that is not: by the kernel, bash, dash (which
/// takes it for a script), autoconf and meson.
pub(super) const TRIED: [&str; 5] = [
    "Exec format error",
    "cannot execute binary file",
    "\u{7f}ELF",
    "cannot run test program while cross compiling",
    "Can not run test applications in this cross environment",
];

/// How the programs of a machine are run that packages are cross built for.
#[derive(Debug, Clone)]
pub(super) struct Foreign {
    /// Qemu's name of it.
    machine: &'static str,
    /// What runs them, or why nothing can.
    emulator: Result<Emulator, String>,
}

impl Foreign {
    /// Finds out how the programs are run that the image cross builds; nothing where it names no emulator, or they need
    /// none.
    pub(super) fn find(
        host: &Host<'_>,
        cx: &image::Context<'_>,
        definition: &Definition,
        image: &Image,
        on: Sink<'_>,
    ) -> Result<Option<Self>, BuildError> {
        let Some(emulation) = images::emulation_of_cross(cx, &host.config.search, definition, on)? else {
            return Ok(None);
        };
        let (machine, emulator) = (emulation.machine, emulation.emulator);
        let found = match emulator {
            Ok(found) => found,
            Err(error) => return Ok(Some(Self { machine, emulator: Err(error.to_string()) })),
        };
        // That the kernel knows binfmt_misc does not say that it may be used here.
        let emulator = try_out(host, image, &found)?.map(|()| found);
        Ok(Some(Self { machine, emulator }))
    }

    /// Returns what runs them.
    pub(super) fn emulator(&self) -> Option<&Emulator> {
        self.emulator.as_ref().ok()
    }

    /// Returns the sentence that says that nothing runs them, if so.
    pub(super) fn lacking(&self) -> Option<String> {
        let why = self.emulator.as_ref().err()?;
        Some(format!("programs for {} that the build makes and runs will fail: {why}", self.machine))
    }

    /// Returns what of a failure is, or may be, due to how they are run, as a sentence; nothing where there is no sign of it.
    pub(super) fn fault(&self, exit: &Exit, log: &Path) -> Result<Option<String>, PathError> {
        Ok(self.read(exit.stopped, &emulated::end(log)?))
    }

    fn read(&self, stopped: Option<Stopped>, log: &str) -> Option<String> {
        let machine = self.machine;
        match &self.emulator {
            Ok(emulator) if stopped == Some(Stopped::Idle) => {
                let name = emulated::name(emulator);
                Some(format!("programs for {machine} that it runs are emulated by {name}, which may be what hung"))
            }
            Ok(emulator) if matches!(stopped, Some(Stopped::Silence | Stopped::Time)) => {
                let name = emulated::name(emulator);
                Some(format!("programs for {machine} that it runs are emulated by {name}, which is slow and may hang"))
            }
            Ok(emulator) => emulated::read(&emulated::name(emulator), None, log),
            // What is said of it at the beginning is no sign.
            Err(why) => {
                let mut lines = log.lines().filter(|line| !line.starts_with("[bindery: "));
                let tried = lines.any(|line| TRIED.iter().any(|text| line.contains(text)));
                tried.then(|| format!("it seems to run a program for {machine} that it has made: {why}"))
            }
        }
    }
}

/// Starts a sandbox that registers an emulator; returns why it cannot.
fn try_out(host: &Host<'_>, image: &Image, emulator: &Emulator) -> Result<Result<(), String>, BuildError> {
    let mut room = Room::to_discard(host, "trying the emulator", None)?.emulating(Some(emulator));
    let step = Step { args: vec!["/bin/true".to_string()], env: Vec::new() };
    let exit = room.run(image, &image.layers, &[], &step, &Limits::default(), None, &mut |_, _| ());
    room.close()?;
    match exit {
        Ok(_) => Ok(Ok(())),
        Err(BuildError::Sandbox(error)) => Ok(Err(process::chain(&error))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(emulator: Result<Emulator, String>) -> Foreign {
        Foreign { machine: "sparc64", emulator }
    }

    fn without() -> Foreign {
        with(Err("Linux 6.1 has no binfmt_misc for a sandbox alone".to_string()))
    }

    #[test]
    fn where_nothing_runs_them_a_package_that_has_tried_is_told_why() {
        let foreign = without();
        let lacking = foreign.lacking().unwrap();
        assert!(lacking.contains("programs for sparc64") && lacking.ends_with("for a sandbox alone"), "{lacking}");
        for line in [
            "bash: line 1: ./ninja: cannot execute binary file: Exec format error",
            "OSError: [Errno 8] Exec format error: './ninja'",
            "./gen: 1: \u{7f}ELF\u{2}\u{2}\u{1}: not found",
            "configure: error: cannot run test program while cross compiling",
        ] {
            let log = format!("[bindery: {lacking}]\nmake\n{line}\nmake: *** [all] Error 126\n");
            let said = foreign.read(None, &log).unwrap();
            assert!(said.contains("a program for sparc64") && said.contains("Linux 6.1"), "{said}");
        }
        let log = format!("[bindery: {lacking} (Exec format error)]\nx.c:1: error: no such thing\n");
        assert_eq!(foreign.read(None, &log), None);
        assert_eq!(foreign.read(Some(Stopped::Time), &log), None);
    }

    #[test]
    fn where_something_does_its_name_and_word_are_told() {
        let program = "l/AB/usr/bin/qemu-sparc64".into();
        let foreign = with(Ok(Emulator { machine: "sparc64".to_string(), program }));
        assert_eq!(foreign.lacking(), None);
        let said = foreign.read(None, "x\nqemu-sparc64: Could not open '/lib64/ld-linux.so.2'\n").unwrap();
        assert!(said.contains("the emulator said: qemu-sparc64: Could not open"), "{said}");
        for stopped in [Stopped::Silence, Stopped::Idle] {
            let said = foreign.read(Some(stopped), "").unwrap();
            assert!(said.contains("programs for sparc64 that it runs are emulated by qemu-sparc64"), "{said}");
        }
        assert_eq!(foreign.read(None, "bash: ./x: cannot execute binary file: Exec format error\n"), None);
    }
}
