//! What of making a Debian image happens as uid 0 of the id range. Nothing of it can reach the network.
//!
//! mmdebstrap could do as much by itself, as root in a chroot of the host, where what packages' scripts do is done by the
//! host's root; or by `--mode=unshare`, which takes its ids from /etc/subuid, where root mostly has none. Instead it runs
//! in its root mode inside our own id range, which it supports: one way for root and for everyone else, the same result,
//! and scripts that own nothing. They see no process of the host's (a process namespace of their own), no network, and
//! nothing that the range does not own is writable.
//!
//! 0. What is for another machine gets its emulator, in the range's user namespace alone.
//! 1. The scratch folder becomes `/tmp` in a mount namespace of our own: programs that need absolute paths get by
//!    without passing the host's folders, and no path of the host can get into the image.
//! 2. `mmdebstrap` installs exactly the packages in `repo/`, an archive made of what was downloaded and verified.
//! 3. The root's own python3 unpacks the wheels and compiles everything: by content, not by time, so that the files'
//!    times may change.
//! 4. What the definition says of users, files and links is done.
//!
//! ```text
//! SCRATCH/make.json  what is to be done         repo/{Packages,Release,*.deb}     wheels/*.whl
//!         tmp/       for mmdebstrap             root/                             the result
//! ```

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::customise::customise;
use super::definition::{Kind, Recipe};
use super::files;
use crate::fs;
use crate::process::{self, chain};
use crate::sandbox::{Emulator, register_one};

/// What is to be done, in the scratch folder's `make.json`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Job {
    pub(super) recipe: Recipe,
    /// Files in `wheels/`.
    pub(super) wheels: Vec<String>,
    /// What runs the packages' programs, relative to the scratch folder.
    pub(super) emulator: Option<Emulator>,
}

/// The job's text for `__range`; the rest is in [`FILE`], because a command line has its limits.
pub(super) const NAME: &str = "debian-root";
/// The scratch folder's file with the job.
pub(super) const FILE: &str = "make.json";

const HERE: &str = "/tmp";
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
const INSTALL: &str = include_str!("install.py");
/// What mmdebstrap leaves of what it was told and of the host. apt's are dropped here too, whether or not apt is there.
const TRACES: [&str; 5] = [
    "/etc/apt/apt.conf.d/99mmdebstrap",
    "/etc/apt/sources.list.d/0000sources.list",
    "/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "/etc/hostname",
    "/etc/resolv.conf",
];
/// Where Python looks for modules on Debian; `sys.path` would also have what is not there.
const COMPILE: &str = "import compileall, glob, py_compile, sys\n\
    ok = [compileall.compile_dir(d, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH, force=True)\n\
    for d in sorted(glob.glob('/usr/lib/python3*') + glob.glob('/usr/share/python3'))]\n\
    sys.exit(0 if all(ok) else 'some modules do not compile')\n";

/// Makes `root` in the working folder.
pub(super) fn make() -> Result<(), String> {
    let text = fs::read_to_string(Path::new(FILE)).map_err(|e| chain(&e))?;
    let Job { mut recipe, wheels, emulator } = serde_json::from_str(&text).map_err(|e| chain(&e))?;
    let _registry = own_tmp(emulator.as_ref())?;
    if recipe.kind == Kind::DebianFiles {
        return files::unpack(&recipe);
    }
    let root = Path::new(HERE).join("root");
    let lines = format!("deb [trusted=yes] copy:{HERE}/repo ./\n");
    fs::write(&Path::new(HERE).join("sources.list"), lines).map_err(|e| chain(&e))?;
    run("mmdebstrap", &mut bootstrap(&recipe, &root), "")?;
    let python = root.join("usr/bin/python3");
    if !wheels.is_empty() {
        if fs::symlink_metadata(&python).is_err() {
            return Err("the image has wheels and no `python3` among its packages".to_string());
        }
        let inside = root.join("wheels");
        fs::create_dir(&inside, 0o755).map_err(|e| chain(&e))?;
        for name in &wheels {
            fs::copy(&Path::new(HERE).join("wheels").join(name), &inside.join(name)).map_err(|e| chain(&e))?;
        }
        let names = wheels.iter().map(|name| format!("/wheels/{name}"));
        run(
            "unpacking the wheels",
            in_root(&root, &recipe).args(["/usr/bin/python3", "-I", "-B", "-"]).args(names),
            INSTALL,
        )?;
        fs::remove_dir_all(&inside).map_err(|e| chain(&e))?;
    }
    recipe.drop.extend(TRACES.iter().filter_map(|path| path.parse().ok()));
    customise(&root, &recipe).map_err(|e| chain(&e))?;
    if fs::symlink_metadata(&python).is_ok() {
        run(
            "compiling Python's modules",
            in_root(&root, &recipe).args(["/usr/bin/python3", "-I", "-B", "-"]),
            COMPILE,
        )?;
    }
    Ok(())
}

/// Makes the working folder the `/tmp` of this process and its children, and has an emulator run their programs as long as
/// what is returned is kept.
fn own_tmp(emulator: Option<&Emulator>) -> Result<Option<OwnedFd>, String> {
    let failed = |what: &'static str| move |e| format!("cannot {what}: {}", std::io::Error::from(e));
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("enter a mount namespace"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(failed("make the mounts private"))?;
    let registry = emulator.map(register_one).transpose()?.flatten();
    mount(Some("."), HERE, none, MsFlags::MS_BIND, none).map_err(failed("bind the scratch folder"))?;
    std::env::set_current_dir(HERE).map_err(|e| format!("cannot enter the scratch folder: {e}"))?;
    Ok(registry)
}

/// Returns the command that runs what follows with a process namespace of its own. It ends when we do, however we end:
/// setpriv(1) has unshare(1) killed with us, and that has killed what it started.
pub(super) fn contained() -> Command {
    let mut command = process::command("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare"]);
    command.args(["--pid", "--fork", "--kill-child", "--mount"]).env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    command.env("TMPDIR", Path::new(HERE).join("tmp")).current_dir(HERE);
    command
}

fn bootstrap(recipe: &Recipe, root: &Path) -> Command {
    let packages = recipe.packages.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
    let mut command = contained();
    command.env("SOURCE_DATE_EPOCH", recipe.source_date.seconds().to_string());
    command.args(["--", "mmdebstrap", "--mode=root", "--variant=essential", "--format=directory"]);
    // Neither another architecture's programs nor signatures (of an archive we made ourselves) are looked at; device
    // nodes are nothing that an image has.
    command.args(["--skip=check/qemu,check/signed-by,output/dev", &format!("--architectures={}", recipe.architecture)]);
    // The disk is told to write once, when the image is unpacked: after every file it takes three times as long.
    command.args([
        "--aptopt=APT::Sandbox::User \"root\"",
        "--aptopt=APT::Install-Recommends \"false\"",
        "--dpkgopt=force-unsafe-io",
    ]);
    if !packages.is_empty() {
        command.arg(format!("--include={packages}"));
    }
    command.arg(recipe.suite.as_str()).arg(root).arg(Path::new(HERE).join("sources.list"));
    command
}

fn in_root(root: &Path, recipe: &Recipe) -> Command {
    let mut command = contained();
    // Sets, and so what is made of them, would have another order each time.
    command.env("PYTHONHASHSEED", "0").env("SOURCE_DATE_EPOCH", recipe.source_date.seconds().to_string());
    command.env("TMPDIR", "/tmp").arg("--root").arg(root).args(["--wd", "/", "--"]);
    command
}

/// Runs a command with some standard input; its standard error is ours, and that is where the parent looks.
pub(super) fn run(what: &str, command: &mut Command, input: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{what} could not be started: {e}");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that ends without reading it all has said why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed ({status})")) }
}

/// Returns the folders that the job needs below the scratch folder.
pub(super) fn folders(scratch: &Path) -> [PathBuf; 3] {
    ["repo", "wheels", "tmp"].map(|name| scratch.join(name))
}
