//! Probes from outside: links, races and mounts that lead to the host, and what a root leaves where others find it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bindery::sandbox::range::give;
use bindery::sandbox::{self, Request, SandboxError, Stdio};
use bindery::state::Lease;
use bindery::{fs, process};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;

use crate::ablation::{Set, alternatives};
use crate::host::{Host, own_program, variable};
use crate::outside::{Outside, Try, outside, play, script, spec};
use crate::probe::Outcome;

pub(crate) const PROBES: &[Outside] = &[
    outside("link-bind", "a link in the root leads a bind to the host, CVE-2021-30465", "target-resolution", link_bind),
    outside("link-proc", "the root's /proc is a link to the host, CVE-2019-19921", "target-resolution", link_proc),
    outside(
        "race-bind",
        "a folder on the way to a mount point is a link to the host every other moment: CVE-2021-30465, CVE-2024-45310",
        "target-resolution",
        race_bind,
    ),
    outside("link-source", "what is bound is a link to the host, CVE-2024-42472", "source-resolution", link_source),
    outside(
        "race-source",
        "what is bound is a link to the host every other moment: CVE-2024-23651",
        "source-resolution",
        race_source,
    ),
    outside(
        "mount-propagation",
        "what is mounted in a bind appears on the host, CVE-2024-9407",
        "root: private-binds",
        propagation,
    ),
    outside(
        "working-folder",
        "a working folder behind a descriptor of the host's, CVE-2024-21626",
        "descriptors-closed",
        working_folder,
    ),
    outside(
        "setuid-left",
        "a setuid program, left where a user of the host's can run it, CVE-2025-52992",
        "private-folder",
        setuid_left,
    ),
];

/// How often a race is run that must not be won, and how often until it must have been.
const RACES: [usize; 2] = [10, 500];

/// It holds when the sandbox refuses to start, naming the link.
fn refuses(host: &Host, off: &Set) -> Outcome {
    match script(host, off, "true") {
        Err(SandboxError::Setup(message)) if message.contains("a symbolic link") => Ok(message),
        Err(e) => Err(e.to_string()),
        Ok(_) => Err("it starts".into()),
    }
}

fn link_bind(tried: &Try) -> Outcome {
    let mut host = Host::new();
    let there = host.folder("host/below");
    fs::symlink(there.parent().unwrap(), &host.base().join("dist")).unwrap();
    let source = host.folder("source");
    host.bind(&source, "/dist/below", true);
    refuses(&host, &tried.off)
}

fn link_proc(tried: &Try) -> Outcome {
    let host = Host::new();
    fs::symlink(&host.folder("host"), &host.base().join("proc")).unwrap();
    match refuses(&host, &tried.off) {
        // Once a mount has gone astray, later steps may miss it.
        Err(message) if message.contains("cannot mount on") => Ok(message),
        outcome => outcome,
    }
}

/// A folder with `name`, a folder, and `link`, a link to `to`, which change places all the time while `run` is.
fn swapping<T>(folder: &Path, name: &str, to: &Path, run: impl FnOnce() -> T) -> T {
    let (one, other) = (folder.join(name), folder.join("link"));
    fs::symlink(to, &other).unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let result = run();
        end.store(true, Ordering::Relaxed);
        result
    })
}

/// Runs races until one is won, or enough are not.
fn race(tried: &Try, mut won: impl FnMut(usize) -> Option<String>) -> Outcome {
    let times = RACES[usize::from(tried.fails)];
    (0..times).find_map(&mut won).map_or_else(|| Ok(format!("{times} times")), Err)
}

/// A bind that somebody else can write to, and another below it whose mount point has to be made.
fn race_bind(tried: &Try) -> Outcome {
    let mut host = Host::new();
    let (shared, victim, source) = (host.folder("shared"), host.folder("victim"), host.folder("source"));
    let inside = host.folder("shared/inside");
    for folder in [host.dir.path(), &shared, &victim, &inside] {
        fs::set_mode(folder, 0o755).unwrap();
    }
    // Whoever follows the link may make folders there.
    for folder in [&inside, &victim] {
        give(&host.ids, folder).unwrap();
    }
    swapping(&host.dir.path().join("shared"), "inside", &victim, || {
        race(tried, |number| {
            host.binds.clear();
            host.bind(&shared, "/work", true);
            host.bind(&source, &format!("/work/inside/{number}"), false);
            // It starts, or says what is in the way.
            let _ = script(&host, &tried.off, "true");
            fs::read_dir(&victim).unwrap().first().map(|made| format!("made {}", made.display()))
        })
    })
}

fn secrets(host: &Host) -> std::path::PathBuf {
    let secrets = host.folder("secrets");
    fs::write(&secrets.join("file"), "a secret").unwrap();
    for (path, mode) in [(host.dir.path(), 0o755), (&secrets, 0o755), (&secrets.join("file"), 0o644)] {
        fs::set_mode(path, mode).unwrap();
    }
    secrets
}

/// Shows what is bound at /mnt/out.
fn bound(host: &Host, off: &Set) -> Option<String> {
    match script(host, off, "cat /mnt/out/file") {
        Ok(played) if played.text.contains("a secret") => Some("the secret is read".into()),
        _ => None,
    }
}

fn link_source(tried: &Try) -> Outcome {
    let mut host = Host::new();
    let (secrets, left) = (secrets(&host), host.folder("left"));
    fs::symlink(&secrets, &left.join("out")).unwrap();
    host.bind(&left.join("out"), "/mnt/out", false);
    bound(&host, &tried.off).map_or_else(|| Ok(String::new()), Err)
}

fn race_source(tried: &Try) -> Outcome {
    let mut host = Host::new();
    let (secrets, left) = (secrets(&host), host.folder("left"));
    fs::write(&host.folder("left/out").join("file"), "nothing").unwrap();
    host.bind(&left.join("out"), "/mnt/out", false);
    swapping(&left, "out", &secrets, || race(tried, |_| bound(&host, &tried.off)))
}

/// In a mount namespace whose mounts are shared, as systemd has all of the host's.
fn propagation(tried: &Try) -> Outcome {
    if !crate::host::is_root() {
        return Ok("an ordinary user's namespace is no peer of the host's".into());
    }
    let mut command = process::command("unshare");
    command.args(["-m", "--propagation", "shared", "--"]).arg(own_program());
    command.args(["--ignored", "--exact", "--test-threads=1", "onstage::a_mount_in_a_bind"]);
    command.env("BATTERY_OFF", tried.off.iter().copied().collect::<Vec<_>>().join(" "));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(String::new()),
        false if text.contains("it is mounted on the host") => Err(text),
        false => panic!("{text}"),
    }
}

/// What [`propagation`] starts.
pub(crate) fn mount_in_a_bind() {
    let off = chosen(PROBES);
    let mut host = Host::new();
    let folder = host.folder("bound");
    host.bind(&folder, "/mnt", true);
    let below = bindery::root::Tmpfs { to: "/mnt/below".parse().unwrap(), size: 1 << 20, mode: 0o755 };
    give(&host.ids, &folder).unwrap();
    // After the bind.
    let tmpfs = |spec: &mut Value| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        let at = mounts.iter().position(|mount| mount["destination"] == "/mnt/below").unwrap();
        let last = mounts.remove(at);
        mounts.push(last);
    };
    host.tmpfs.push(below);
    play(&host, &off, &["true"], tmpfs, &mut |_| false).unwrap();
    let mounts = fs::read_to_string(Path::new("/proc/self/mountinfo")).unwrap();
    let there = mounts.contains(folder.to_str().unwrap());
    if there {
        rustix::mount::unmount(folder.join("below"), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    assert!(!there, "it is mounted on the host");
}

/// Returns what a probe's own process is told to switch off.
pub(crate) fn chosen(probes: &'static [Outside]) -> Set {
    let text = variable("BATTERY_OFF").unwrap();
    let names = probes.iter().flat_map(|probe| alternatives(probe.guards)).flatten();
    names.filter(|name| text.split_whitespace().any(|word| word == *name)).collect()
}

fn working_folder(tried: &Try) -> Outcome {
    let host = Host::new();
    let there = host.folder("secrets");
    fs::write(&there.join("secret"), "").unwrap();
    let open = fs::open(&there).unwrap();
    nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&open);
    let cwd = |spec: &mut Value| spec["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
    match play(&host, &tried.off, &["/bin/ls"], cwd, &mut |_| false) {
        Err(e) => Ok(e.to_string()),
        Ok(played) if played.text.contains("secret") => Err("it is in the host's folder".into()),
        Ok(played) => Ok(format!("{:?}", played.status())),
    }
}

fn setuid_left(tried: &Try) -> Outcome {
    let host = Host::new();
    let mut lease = Lease::take(&host.state, "battery").unwrap();
    let script = "cp /bin/busybox /left; chmod 4755 /left";
    let spec = spec(&host, &lease, &tried.off, &["sh", "-c", script], |_| {});
    let (ids, base, cancel) = (&host.ids, host.state.state(), &AtomicBool::new(false));
    let stdio = Stdio::Capture(&mut |_, _| {});
    sandbox::run(Request { spec: &spec, ids, base, lease: &mut lease, stdio, cancel }).map_err(|e| e.to_string())?;
    let mode = fs::metadata(lease.root()).unwrap().permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(format!("{mode:o}")) } else { Err(format!("others may enter: {mode:o}")) }
}
