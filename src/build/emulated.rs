//! Builds that are emulated: with native tools where the image has some, with everything emulated where these fail.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use crate::atom::Cpv;
use crate::binhost::pool::Entry;
use crate::build::one::{Failed, Shop, Task};
use crate::build::prepare::Prepared;
use crate::build::{BuildError, methods, record};
use crate::event::{Event, Sink};
use crate::fs::{self, PathError};
use crate::profile::Method;
use crate::sandbox::{Emulator, Exit, Stopped};

/// How much of a log's end is looked at, in bytes.
const END: u64 = 256 << 10;
/// How qemu begins what it says before it ends by a signal (linux-user/signal.c); it does not say by its own name.
const SIGNAL: &str = "qemu: uncaught target signal ";

/// What programs say of a system call that the kernel, or the emulator, does not know (strerror(3) of ENOSYS).
const NO_CALL: &str = "Function not implemented";

/// Builds a package once, in what a shop has prepared.
pub(super) type Once<'a> = dyn Fn(&Shop<'_>, Sink<'_>) -> Result<Result<Entry, Failed>, BuildError> + 'a;

/// Builds a package with native tools, if there are some and nothing speaks against it; where that fails and it may be their
/// fault, once more with everything emulated, which is remembered if it helps.
pub(super) fn down(
    shop: &Shop<'_>,
    task: &Task,
    on: Sink<'_>,
    once: &Once<'_>,
) -> Result<Result<Entry, Failed>, BuildError> {
    let Prepared { image, home, .. } = shop.prepared;
    if image.plain.is_none() {
        return once(shop, on);
    }
    let cpv = &task.planned.cpv;
    let all_emulated = shop.profile.method_of(&cpv.cp().to_string()) == Method::Emulated;
    let of = methods::Of::new(image, &task.planned.request);
    if all_emulated || methods::failed(home, cpv, Method::Native, &of).is_some() {
        return plainly(shop, on, once);
    }
    let failed = match once(shop, on)? {
        Err(Failed { by_method: Some(why), .. }) => why,
        result => return Ok(result),
    };
    on(Event::Step {
        what: format!("{cpv} failed with native tools, and is built once more with everything emulated: {failed}"),
    });
    keep_log(shop, cpv, Method::Native)?;
    let result = plainly(shop, on, once)?;
    if result.is_ok() {
        methods::note(home, cpv, Method::Native, &of, &failed)?;
    }
    Ok(result)
}

/// Keeps the log of a failed attempt as `log.METHOD`: that of the next one is to speak for itself.
pub(super) fn keep_log(shop: &Shop<'_>, cpv: &Cpv, method: Method) -> Result<(), PathError> {
    let log = record::dir_of(&shop.run.dir, cpv).join("log");
    fs::rename(&log, &log.with_extension(method.as_str()))
}

/// Builds a package without native tools.
fn plainly(shop: &Shop<'_>, on: Sink<'_>, once: &Once<'_>) -> Result<Result<Entry, Failed>, BuildError> {
    let prepared = {
        // What is hidden of an image is worked out once.
        let _turn = shop.prepared.turns.take(["stack".to_string()]);
        Prepared::plainly(shop.host, shop.prepared)?
    };
    let limits = Arc::clone(&shop.limits);
    once(&Shop { prepared: &prepared, limits, run: shop.run.clone(), ..*shop }, on)
}

/// Returns what of a failure is the emulator's, or may be, as a sentence; nothing where there is no sign of it.
pub(super) fn fault(emulator: Option<&Emulator>, exit: &Exit, log: &Path) -> Result<Option<String>, PathError> {
    let Some(emulator) = emulator else { return Ok(None) };
    Ok(read(&name(emulator), exit.stopped, &end(log)?))
}

/// Returns an emulator's name, as it begins what it says.
pub(super) fn name(emulator: &Emulator) -> String {
    emulator.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns a log's end.
pub(super) fn end(log: &Path) -> Result<String, PathError> {
    let mut file = fs::open(log)?;
    let length = fs::metadata(log)?.len();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(PathError::on("read", log))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Likewise [`fault`], of what the log's end says.
pub(super) fn read(name: &str, stopped: Option<Stopped>, log: &str) -> Option<String> {
    if let Some(Stopped::Idle) = stopped {
        return Some(format!("its programs are emulated by {name}, which may be what hung"));
    }
    if matches!(stopped, Some(Stopped::Silence | Stopped::Time)) {
        return Some(format!("its programs are emulated by {name}, which is slow and may hang"));
    }
    let own = format!("{name}: ");
    let mut lines = log.lines().rev().map(str::trim);
    let Some(line) = lines.find(|line| line.starts_with(SIGNAL) || line.starts_with(&own)) else {
        let line = log.lines().rev().map(str::trim).find(|line| line.contains(NO_CALL) && !is_answer(line))?;
        return Some(format!("{name} may lack a system call: {}", shown(line)));
    };
    Some(match line.strip_prefix(SIGNAL) {
        Some(signal) => {
            let signal: String = signal.split(" - ").next().unwrap_or_default().chars().take(40).collect();
            format!("under {name} a program was ended by signal {signal}; that may be the emulator's fault")
        }
        None => format!("the emulator said: {}", shown(line)),
    })
}

fn shown(line: &str) -> String {
    line.chars().take(200).flat_map(char::escape_debug).collect()
}

/// Returns whether a line is one of `configure`'s, or of bindery's own: that something is not there was expected.
fn is_answer(line: &str) -> bool {
    line.starts_with("checking ") || line.starts_with("[bindery: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_emulator_says_is_told_with_its_name() {
        let log =
            "make: x\nqemu: uncaught target signal 11 (Segmentation fault) - core dumped\nmake: *** [all] Error 139\n";
        let said = read("qemu-aarch64", None, log).unwrap();
        assert!(said.contains("under qemu-aarch64 a program was ended by signal 11 (Segmentation fault);"), "{said}");
        let log = "x\nqemu-aarch64: Could not open '/lib/ld-linux-aarch64.so.1': No such file or directory\n";
        let said = read("qemu-aarch64", None, log).unwrap();
        assert!(said.contains("the emulator said: qemu-aarch64: Could not open"), "{said}");
        assert_eq!(read("qemu-aarch64", None, "error: qemu-aarch64: x\n"), None);
    }

    #[test]
    fn a_call_that_is_not_there_may_be_one_that_the_emulator_lacks() {
        let log = "make: x\nOSError: [Errno 38] Function not implemented\nmake: *** [all] Error 1\n";
        let said = read("qemu-s390x", None, log).unwrap();
        assert_eq!(said, "qemu-s390x may lack a system call: OSError: [Errno 38] Function not implemented");
        // What the emulator says itself says more.
        let said = read("qemu-s390x", None, &format!("qemu-s390x: Unsupported ioctl\n{log}")).unwrap();
        assert!(said.starts_with("the emulator said: "), "{said}");
        for log in
            ["checking for pidfd_open... Function not implemented\n", "[bindery: Function not implemented]\n", ""]
        {
            assert_eq!(read("qemu-s390x", None, log), None, "{log}");
        }
    }

    #[test]
    fn a_hang_is_told_as_one_of_what_is_emulated() {
        for stopped in [Stopped::Silence, Stopped::Time, Stopped::Idle] {
            assert!(read("qemu-sparc64", Some(stopped), "").unwrap().contains("emulated by qemu-sparc64"));
        }
        assert_eq!(read("qemu-sparc64", Some(Stopped::Memory), ""), None);
    }
}
