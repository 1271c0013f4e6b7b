//! Builds that are emulated: with native tools where the image has some, with everything emulated where these fail.
//!
//! ```text
//! profiles/NAME/methods/CATEGORY/PF    why everything is emulated for this package, remembered from when it was found out
//! ```

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::binhost::pool::Entry;
use crate::build::BuildError;
use crate::build::one::{Failed, Shop, Task};
use crate::build::prepare::Prepared;
use crate::event::{Event, Sink};
use crate::fs::{self, PathError};
use crate::profile::Method;
use crate::sandbox::{Emulator, Exit, Stopped};

/// How much of a log's end is looked at, in bytes.
const END: u64 = 256 << 10;
/// How qemu begins what it says before it ends by a signal (linux-user/signal.c); it does not say by its own name.
const SIGNAL: &str = "qemu: uncaught target signal ";

/// Builds a package once, in what a shop has prepared.
type Once<'a> = dyn Fn(&Shop<'_>, Sink<'_>) -> Result<Result<Entry, Failed>, BuildError> + 'a;

/// Builds a package with native tools, if there are some and nothing speaks against it; where that fails and it may be their
/// fault, once more with everything emulated, which is remembered if it helps.
pub(super) fn down(
    shop: &Shop<'_>,
    task: &Task,
    on: Sink<'_>,
    once: &Once<'_>,
) -> Result<Result<Entry, Failed>, BuildError> {
    if shop.prepared.image.plain.is_none() {
        return once(shop, on);
    }
    let cpv = &task.planned.cpv;
    let remembered = remembered(shop, task);
    let all_emulated = shop.profile.method_of(&cpv.cp().to_string()) == Method::Emulated;
    if all_emulated || remembered.exists() {
        return plainly(shop, on, once);
    }
    let failed = match once(shop, on)? {
        Err(Failed { by_method: Some(why), .. }) => why,
        result => return Ok(result),
    };
    on(Event::Step {
        what: format!("{cpv} failed with native tools, and is built once more with everything emulated: {failed}"),
    });
    let result = plainly(shop, on, once)?;
    if result.is_ok() {
        fs::create_dir_all(remembered.parent().unwrap_or(&remembered))?;
        fs::write_atomic(&remembered, failed + "\n", 0o644)?;
    }
    Ok(result)
}

/// Returns where it is remembered that everything is to be emulated for a package.
fn remembered(shop: &Shop<'_>, task: &Task) -> PathBuf {
    shop.prepared.home.methods().join(task.planned.cpv.to_string())
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
    if matches!(stopped, Some(Stopped::Silence | Stopped::Time)) {
        return Some(format!("its programs are emulated by {name}, which is slow and may hang"));
    }
    let own = format!("{name}: ");
    let mut lines = log.lines().rev().map(str::trim);
    let line = lines.find(|line| line.starts_with(SIGNAL) || line.starts_with(&own))?;
    let shown: String = line.chars().take(200).flat_map(char::escape_debug).collect();
    Some(match line.strip_prefix(SIGNAL) {
        Some(signal) => {
            let signal: String = signal.split(" - ").next().unwrap_or_default().chars().take(40).collect();
            format!("under {name} a program was ended by signal {signal}; that may be the emulator's fault")
        }
        None => format!("the emulator said: {shown}"),
    })
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
    fn a_hang_is_told_as_one_of_what_is_emulated() {
        for stopped in [Stopped::Silence, Stopped::Time] {
            assert!(read("qemu-sparc64", Some(stopped), "").unwrap().contains("emulated by qemu-sparc64"));
        }
        assert_eq!(read("qemu-sparc64", Some(Stopped::Memory), ""), None);
    }
}
