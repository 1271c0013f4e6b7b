//! Who is measured, and how each is told to run one command in the root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::root::{IMAGE, Root};

/// One way to run a command in the root.
#[derive(Debug)]
pub(crate) struct Rival {
    pub(crate) name: String,
    /// What it leaves out or gets for free, compared with bindery.
    pub(crate) note: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bindery(PathBuf),
    Bare,
    Bubblewrap,
    /// runc or crun; the latter needs to be without the v2 hierarchy of a hybrid host.
    Runtime(&'static str, bool),
    Podman,
    Nspawn,
}

/// Says why one is not measured.
pub(crate) type Missing = String;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Returns all, ours first; `also` are other builds of bindery.
pub(crate) fn all(program: &Path, also: &[PathBuf]) -> Vec<Rival> {
    let rival = |name: &str, note, kind| Rival { name: name.to_string(), note, kind };
    let hybrid = Path::new(UNIFIED).exists();
    let mut all =
        vec![rival("bindery", "all on, overlay mounted and thrown away", Kind::Bindery(program.to_path_buf()))];
    all.extend(also.iter().map(|p| rival(&p.display().to_string(), "another build", Kind::Bindery(p.clone()))));
    all.extend([
        rival("bare minimum", "one set of namespaces, overlay, proc, nothing else", Kind::Bare),
        rival("bubblewrap", "no seccomp, no cgroup, one user namespace, root bound", Kind::Bubblewrap),
        rival(
            "runc",
            "no user namespace as root, seccomp by default off, root made before",
            Kind::Runtime("runc", false),
        ),
        rival("crun", "as runc; on hybrid hosts behind a mount namespace of its own", Kind::Runtime("crun", hybrid)),
        rival("podman", "its defaults, --network none, root made before", Kind::Podman),
        rival(
            "systemd-nspawn",
            "no user namespace, no capability or seccomp limits of ours, root made before",
            Kind::Nspawn,
        ),
    ]);
    all
}

impl Rival {
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Bindery(_))
    }

    /// Returns the command that runs `program` (of the root's /bin) once; `n` is another number every time.
    pub(crate) fn command(&self, root: &Root, bare: &Path, program: &str, n: usize) -> Command {
        let inside = format!("/bin/{program}");
        let mut command = match &self.kind {
            Kind::Bindery(ours) => {
                let mut command = Command::new(ours);
                command.arg("--state").arg(root.dir.join("state")).arg("--config").arg(root.dir.join("config"));
                command.args(["run", "--image", IMAGE, "--", &inside]);
                command
            }
            Kind::Bare => {
                let mut command = Command::new(bare);
                command.args(["run", &Root::options(!is_root()), "point", &inside]);
                command
            }
            Kind::Bubblewrap => {
                let mut command = Command::new("bwrap");
                command.args([
                    "--unshare-all",
                    "--die-with-parent",
                    "--new-session",
                    "--clearenv",
                    "--cap-drop",
                    "ALL",
                ]);
                command.arg("--bind").arg(&root.shared).args(["/", "--proc", "/proc", "--dev", "/dev", &inside]);
                command
            }
            Kind::Runtime(name, hidden) => {
                let mut command = Command::new(if *hidden { bare.as_os_str() } else { name.as_ref() });
                if *hidden {
                    command.args(["without", UNIFIED, name]);
                }
                command.arg("--root").arg(root.dir.join("run")).args(["run", "--bundle"]);
                command
                    .arg(root.dir.join(format!("bundle-{program}")))
                    .arg(format!("bench-{}-{n}", std::process::id()));
                command
            }
            Kind::Podman => {
                let mut command = Command::new("podman");
                command.arg("--root").arg(root.dir.join("podman")).arg("--runroot").arg(root.dir.join("podman-run"));
                command.args(["--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", "--rm", "--network", "none"]);
                // Its default is more than a container around us may allow.
                command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
                command.arg("--rootfs").arg(&root.shared).arg(inside);
                command
            }
            Kind::Nspawn => {
                let mut command = Command::new("systemd-nspawn");
                command.args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--directory"]);
                command.arg(&root.shared).arg(inside);
                command
            }
        };
        command.current_dir(&root.dir).env_clear().env("PATH", PATH).env("HOME", &root.dir);
        command.env("XDG_RUNTIME_DIR", root.dir.join("run"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Makes what it needs, and tries whether it works here.
    pub(crate) fn ready(&self, root: &Root, bare: &Path) -> Result<(), Missing> {
        let tool = match &self.kind {
            Kind::Bindery(_) | Kind::Bare => None,
            Kind::Bubblewrap => Some("bwrap"),
            Kind::Runtime(name, _) => Some(*name),
            Kind::Podman => Some("podman"),
            Kind::Nspawn => Some("systemd-nspawn"),
        };
        let there = |tool: &&str| PATH.split(':').any(|dir| Path::new(dir).join(tool).exists());
        if let Some(tool) = tool.filter(|tool| !there(tool)) {
            return Err(format!("`{tool}` is not installed; `tests/host-tools bench` names its package"));
        }
        std::fs::create_dir_all(root.dir.join("run")).unwrap();
        if let Kind::Runtime(name, hidden) = self.kind {
            if hidden && !is_root() {
                return Err(
                    "it refuses hybrid control groups, and an ordinary user cannot hide them from it".to_string()
                );
            }
            for program in ["true", "pause"] {
                bundle(name, root, program)?;
            }
        }
        for n in [usize::MAX, usize::MAX - 1] {
            let output =
                self.command(root, bare, "true", n).stderr(Stdio::piped()).output().map_err(|e| e.to_string())?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
                return Err(format!("it fails here ({}): {}", output.status, last.trim()));
            }
        }
        Ok(())
    }
}

/// Writes the bundle that the runtime's own `spec` proposes, with our command and root.
fn bundle(runtime: &str, root: &Root, program: &str) -> Result<(), Missing> {
    let dir = root.dir.join(format!("bundle-{program}"));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("config.json");
    let _ = std::fs::remove_file(&file);
    let mut spec = Command::new(runtime);
    spec.arg("spec").args((!is_root()).then_some("--rootless")).current_dir(&dir).env("PATH", PATH);
    let made = spec.output().map_err(|e| e.to_string())?;
    let text = std::fs::read_to_string(&file).map_err(|_| String::from_utf8_lossy(&made.stderr).trim().to_string())?;
    let mut spec: Value = serde_json::from_str(&text).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = [format!("/bin/{program}")].to_vec().into();
    spec["root"]["path"] = root.shared.to_str().unwrap().into();
    std::fs::write(file, spec.to_string()).unwrap();
    Ok(())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
