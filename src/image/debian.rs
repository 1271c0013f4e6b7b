//! Makes the root filesystem of a Debian image: finds and fetches its parts on the host, has it put together inside the
//! id range ([`super::inside`]), and checks that what was put together is what was fetched.
//!
//! ```text
//! cache/downloads/SHA256   every .deb and wheel, kept; read in full and compared each time it is used
//! cache/downloads/.LEASE   apt's own folder, and what is being downloaded
//! state/roots/LEASE        the scratch folder, which belongs to the range
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;

use super::apt::{Apt, file_name};
use super::definition::{Definition, Kind, Recipe, Wheel, Word};
use super::lock::{Deb, Lock};
use super::{Context, ImageError, inside, layout, wheel};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::fs::{self, PathError};
use crate::layer;
use crate::process;
use crate::sandbox::{Emulator, range};

/// A list of all of Debian's packages would be shorter.
const LIST_MAX: u64 = 16 << 20;

/// How lines begin that mmdebstrap reports to whoever called it, and that say nothing to whoever waits for an image.
const NOISE: [&[u8]; 2] = [b"skipping ", b"success in "];

/// What an image is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) debs: Vec<Deb>,
    pub(super) wheels: Vec<Wheel>,
}

/// Finds the newest packages that the definition asks for.
pub(super) fn newest(recipe: &Recipe, apt: &Apt<'_>, events: Sink<'_>) -> Result<Parts, ImageError> {
    step(events, "fetching Debian's package indices");
    apt.update(recipe)?;
    let found = apt.resolve(&recipe.packages, recipe.kind == Kind::Debian)?;
    let names: HashSet<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    let index = apt.index(&names)?;
    let debs = found.into_iter().map(|package| index.find(package)).collect::<Result<Vec<_>, _>>()?;
    Ok(Parts { debs, wheels: recipe.wheels.clone() })
}

/// Returns what a lock names, or refuses with everything that can no longer be had.
pub(super) fn locked(
    cx: &Context<'_>,
    definition: &Definition,
    lock: &Lock,
    apt: &Apt<'_>,
    events: Sink<'_>,
) -> Result<Parts, ImageError> {
    let name = definition.name.clone();
    if lock.definition != definition.digest() || lock.image != name {
        return Err(ImageError::OtherDefinition { name });
    }
    let missing: Vec<&Deb> = lock.debs.iter().filter(|deb| !cx.state.download(&deb.sha256).exists()).collect();
    if !missing.is_empty() {
        step(events, "fetching Debian's package indices");
        apt.update(&definition.recipe)?;
        let index = apt.index(&missing.iter().map(|deb| deb.name.as_str()).collect())?;
        let objections: Vec<String> = missing.iter().filter_map(|deb| index.objection(deb)).collect();
        if !objections.is_empty() {
            return Err(ImageError::Gone { name, objections });
        }
    }
    Ok(Parts { debs: lock.debs.clone(), wheels: lock.wheels.clone() })
}

/// Downloads what is not in the cache yet, and checks all that is.
pub(super) fn fetch(
    cx: &Context<'_>,
    parts: &Parts,
    apt: &Apt<'_>,
    tmp: &Path,
    events: Sink<'_>,
) -> Result<(), ImageError> {
    let missing: Vec<&Deb> =
        parts.debs.iter().filter(|deb| !good(&cx.state.download(&deb.sha256), &deb.sha256)).collect();
    if !missing.is_empty() {
        step(events, &format!("downloading {} packages", missing.len()));
        let into = tmp.join("debs");
        fs::create_dir(&into, 0o755)?;
        for (file, deb) in apt.download(&missing, &into)?.iter().zip(&missing) {
            keep(cx, file, &deb.sha256, &format!("{} {}", deb.name, deb.version))?;
        }
    }
    for (number, wanted) in parts.wheels.iter().enumerate() {
        if !good(&cx.state.download(&wanted.sha256), &wanted.sha256) {
            step(events, &format!("downloading the wheel of {} {}", wanted.name, wanted.version));
            let into = tmp.join(format!("wheel-{number}"));
            fs::create_dir(&into, 0o755)?;
            let file = wheel::download(wanted, &into, cx.cancel)?;
            keep(cx, &file, &wanted.sha256, &format!("{} {}", wanted.name, wanted.version))?;
        }
    }
    Ok(())
}

/// Puts the root together in `SCRATCH/root`, and returns that folder.
pub(super) fn assemble(
    cx: &Context<'_>,
    recipe: &Recipe,
    parts: &Parts,
    scratch: &Path,
    emulator: Option<&Emulator>,
    events: Sink<'_>,
) -> Result<PathBuf, ImageError> {
    step(events, "preparing the packages");
    let folders = inside::folders(scratch);
    for dir in &folders {
        fs::create_dir(dir, 0o755)?;
    }
    let [repo, wheels, _] = &folders;
    archive(cx, recipe, &parts.debs, repo)?;
    let mut names = Vec::new();
    for (number, wheel) in parts.wheels.iter().enumerate() {
        let name = format!("{number}.whl");
        share(&cx.state.download(&wheel.sha256), &wheels.join(&name))?;
        names.push(name);
    }
    // From the scratch folder, which is in a folder of the state's.
    let emulator = emulator.map(|emulator| {
        let above = scratch.strip_prefix(cx.state.state()).unwrap_or(scratch).components().map(|_| "..");
        Emulator { program: above.collect::<PathBuf>().join(&emulator.program), ..emulator.clone() }
    });
    let job = inside::Job { recipe: recipe.clone(), wheels: names, emulator };
    fs::write(&scratch.join(inside::FILE), serde_json::to_vec(&job).expect("a job has only plain fields"))?;
    for dir in &folders {
        layer::open_to_range(cx.ids, dir)?;
    }
    let installed = run(cx, scratch, events)?;
    let expected: BTreeSet<_> = parts.debs.iter().map(|d| (d.name.clone(), d.version.clone())).collect();
    let installed: BTreeSet<_> = installed.into_iter().collect();
    if recipe.kind == Kind::Debian && installed != expected {
        let show =
            |set: Vec<&(Word, Word)>| set.iter().map(|(n, v)| format!("`{n}` {v}")).collect::<Vec<_>>().join(", ");
        return Err(ImageError::NotAsFetched {
            missing: show(expected.difference(&installed).collect()),
            extra: show(installed.difference(&expected).collect()),
        });
    }
    Ok(scratch.join("root"))
}

/// Makes an archive that apt can use, of exactly these packages.
fn archive(cx: &Context<'_>, recipe: &Recipe, debs: &[Deb], repo: &Path) -> Result<(), ImageError> {
    let dpkg = process::find("dpkg-deb").ok_or(ImageError::NoProgram { program: "dpkg-deb", package: "dpkg" })?;
    let mut packages = String::new();
    for deb in debs {
        let file = cx.state.download(&deb.sha256);
        let name = file_name(deb);
        share(&file, &repo.join(&name))?;
        let output = process::run(process::command(&dpkg).arg("--field").arg(&file)).map_err(ImageError::Field)?;
        let control = String::from_utf8_lossy(&output.stdout);
        let size = fs::metadata(&file)?.len();
        let hex = deb.sha256.hex();
        let _ = write!(packages, "{}\nFilename: ./{name}\nSize: {size}\nSHA256: {hex}\n\n", control.trim_end());
    }
    let hex = Digest::of(&packages).hex();
    // mmdebstrap finds the essential packages by the release's name; the date must only be one.
    let release = format!(
        "Suite: {0}\nCodename: {0}\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nArchitectures: {1}\nSHA256:\n {hex} {2} Packages\n",
        recipe.suite,
        recipe.architecture,
        packages.len()
    );
    fs::write(&repo.join("Packages"), packages)?;
    Ok(fs::write(&repo.join("Release"), release)?)
}

/// Runs the job inside the range; what it says becomes steps. Returns the packages that are installed then.
fn run(cx: &Context<'_>, scratch: &Path, events: Sink<'_>) -> Result<Vec<(Word, Word)>, ImageError> {
    let failed = PathError::on("start the process that is to fill", scratch);
    let mut command = range::command(cx.ids, scratch, inside::NAME);
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => return Err(failed(e).into()),
    };
    // Read beside the other stream: the list may be longer than what a pipe holds.
    let stdout = child.stdout.take().expect("it is piped");
    let list = std::thread::spawn(move || {
        let mut list = Vec::new();
        // What does not arrive does not parse.
        let _ = stdout.take(LIST_MAX).read_to_end(&mut list);
        list
    });
    let mut said = Vec::new();
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = Vec::new();
    // Lines are cut, so that nothing that a package's script prints can fill the memory.
    while let Ok(1..) = (&mut lines).take(4096).read_until(b'\n', &mut line) {
        if cx.cancel.load(Ordering::Relaxed) {
            let _ = child.kill();
        }
        if let Some(what) = line.strip_prefix(b"I: ") {
            if !NOISE.iter().any(|noise| what.starts_with(noise)) {
                step(events, &process::tail(what));
            }
            line.clear();
        }
        said.append(&mut line);
        if said.len() > 1 << 16 {
            said.drain(..1 << 15);
        }
    }
    let status = child.wait().map_err(PathError::on("wait for the process that fills", scratch))?;
    let list = list.join().unwrap_or_default();
    if cx.cancel.load(Ordering::Relaxed) {
        return Err(ImageError::Cancelled);
    }
    let installed = status.success().then(|| serde_json::from_slice(&list).ok()).flatten();
    installed.ok_or_else(|| ImageError::Inside(process::tail(&said)))
}

fn keep(cx: &Context<'_>, file: &Path, wanted: &Digest, what: &str) -> Result<(), ImageError> {
    let found = layout::sha256(&mut fs::open(file)?).map_err(PathError::on("read", file))?;
    if found != *wanted {
        return Err(ImageError::Digest { what: what.to_string(), found, wanted: wanted.clone() });
    }
    fs::set_mode(file, 0o644)?;
    Ok(fs::rename(file, &cx.state.download(wanted))?)
}

/// Returns whether a cached file is what its name says; one that is not is fetched again.
fn good(file: &Path, digest: &Digest) -> bool {
    fs::open(file).is_ok_and(|mut file| layout::sha256(&mut file).is_ok_and(|found| found == *digest))
}

/// Gives a file a second name, or copies it where the cache is on another file system.
fn share(file: &Path, to: &Path) -> Result<(), PathError> {
    match fs::hard_link(file, to) {
        Ok(()) => Ok(()),
        Err(_) => fs::copy(file, to).map(|_| ()),
    }
}

pub(super) fn step(events: Sink<'_>, what: &str) {
    events(Event::Step { what: what.to_string() });
}

/// Makes the root inside the range and prints what is installed: the job of [`inside::NAME`].
pub(super) fn job() -> Result<(), String> {
    inside::make()?;
    let status = fs::read_if_exists(Path::new("root/var/lib/dpkg/status")).map_err(|e| process::chain(&e))?;
    layer::print(&installed(&status.unwrap_or_default()))
}

/// Returns name and version of every package in dpkg's status file, installed or not: half installed is an error, too.
fn installed(status: &str) -> Vec<(&str, &str)> {
    let package = |stanza| Some((field(stanza, "Package:")?, field(stanza, "Version:")?));
    status.split("\n\n").filter_map(package).collect()
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_read_from_dpkgs_status() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nDescription: x\n y\n\nPackage: b\n\n";
        assert_eq!(installed(status), [("a", "1:2-3")]);
    }

    #[test]
    fn a_cached_file_with_another_content_is_not_good() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        assert!(!good(&file, &Digest::of("x")));
        fs::write(&file, "x").unwrap();
        assert!(good(&file, &Digest::of("x")) && !good(&file, &Digest::of("y")));
    }
}
