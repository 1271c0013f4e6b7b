//! A state folder with one layer, and commands run on it.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bindery::root::{self, Bind, Command, Limits, Network, Root, Tmpfs};
use bindery::sandbox::{self, Exit, IdRange, Request, SandboxError, Stdio, Stream};
use bindery::state::{Lease, State};
use oci_spec::runtime::Spec;

/// Where a command runs, and what was asked for besides.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) state: State,
    pub(crate) ids: IdRange,
    pub(crate) binds: Vec<Bind>,
    pub(crate) tmpfs: Vec<Tmpfs>,
    pub(crate) limits: Limits,
    pub(crate) network: Network,
    pub(crate) readonly: bool,
    /// The last word on the spec.
    pub(crate) edit: fn(&mut serde_json::Value),
}

/// A finished command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Host {
    pub(crate) fn new() -> Self {
        let program = variable("BINDERY_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_bindery").to_string());
        bindery::process::set_this_program(Path::new(&program));
        // Not in memory: overlays on tmpfs need a newer kernel than we ask for.
        let place = variable("BINDERY_TEST_PLACE").unwrap_or_else(|| "/var/tmp".to_string());
        let dir = tempfile::Builder::new().prefix("bindery-test-").tempdir_in(place).unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let bin = state.state().join("base/bin");
        for folder in ["base", "base/bin", "base/tmp", "base/etc"] {
            bindery::fs::create_dir_all(&state.state().join(folder)).unwrap();
        }
        bindery::fs::set_mode(&state.state().join("base/tmp"), 0o1777).unwrap();
        let busybox = bindery::process::find("busybox").expect("busybox is missing: `apt install busybox-static`");
        crate::executable::copy(&busybox, &bin.join("busybox"));
        let list = bindery::process::run(bindery::process::command(busybox).arg("--list")).unwrap();
        for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            bindery::fs::symlink(Path::new("busybox"), &bin.join(name)).unwrap();
        }
        let ids = IdRange::detect(None).expect("these tests need subordinate ids");
        if is_root() {
            // As unpacked images are.
            for name in ["base", "base/bin", "base/bin/busybox", "base/tmp", "base/etc"] {
                sandbox::range::give(&ids, &state.state().join(name)).unwrap();
            }
        }
        Self {
            dir,
            state,
            ids,
            binds: Vec::new(),
            tmpfs: Vec::new(),
            limits: Limits::default(),
            network: Network::None,
            readonly: false,
            edit: |_| {},
        }
    }

    /// The folder that is the root's only layer.
    pub(crate) fn base(&self) -> PathBuf {
        self.state.state().join("base")
    }

    /// A new folder of whoever runs the tests, outside of the root.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        bindery::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub(crate) fn bind(&mut self, from: &Path, to: &str, writable: bool) {
        self.binds.push(Bind { from: from.to_path_buf(), to: to.parse().unwrap(), writable });
    }

    pub(crate) fn spec(&self, lease: &Lease, args: &[&str], terminal: bool) -> Spec {
        let upper = lease.root().strip_prefix(self.state.state()).unwrap().to_path_buf();
        let root = Root { lower: vec![PathBuf::from("base")], upper: (!self.readonly).then_some(upper) };
        let command = Command {
            args: args.iter().map(ToString::to_string).collect(),
            env: [("PATH", "/bin"), ("HOME", "/root")].map(|(n, v)| (n.to_string(), v.to_string())).to_vec(),
            cwd: "/tmp".parse().unwrap(),
            terminal,
        };
        let spec = root::spec(&root, &self.binds, &self.tmpfs, &command, &self.limits, self.network);
        let mut value = serde_json::to_value(spec).unwrap();
        (self.edit)(&mut value);
        serde_json::from_value(value).unwrap()
    }

    pub(crate) fn run(&self, lease: &mut Lease, args: &[&str], stdio: Stdio<'_>) -> Result<Exit, SandboxError> {
        let spec = self.spec(lease, args, matches!(stdio, Stdio::Terminal));
        let (ids, base, cancel) = (&self.ids, self.state.state(), &AtomicBool::new(false));
        sandbox::run(Request { spec: &spec, ids, base, lease, stdio, cancel })
    }

    /// Runs a command and collects what it prints.
    pub(crate) fn command(&self, args: &[&str]) -> Result<Ran, SandboxError> {
        let mut lease = Lease::take(&self.state, "test").unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = self.run(
            &mut lease,
            args,
            Stdio::Capture(&mut |stream, bytes| match stream {
                Stream::Out => out.extend_from_slice(bytes),
                Stream::Err => err.extend_from_slice(bytes),
            }),
        )?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { exit, out: text(out), err: text(err) })
    }

    pub(crate) fn sh(&self, script: &str) -> Result<Ran, SandboxError> {
        self.command(&["sh", "-c", script])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for root in bindery::fs::read_dir(&self.state.roots()).unwrap() {
            // A mounted one is in the way of its folder's removal.
            bindery::layer::remove(&self.ids, &root).unwrap();
        }
        // What a payload wrote belongs to subordinate ids, and an ordinary user cannot remove it as itself.
        if !is_root() {
            let mut remove = bindery::process::command("unshare");
            remove.args(["--map-root-user", "--map-auto", "rm", "-rf"]).arg(self.dir.path());
            bindery::process::run(&mut remove).unwrap();
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn own_program() -> PathBuf {
    bindery::fs::canonicalize(Path::new("/proc/self/exe")).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "how the tests are told of the user and the program")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the ids of all processes whose command line has `text`.
pub(crate) fn processes_with(text: &str) -> Vec<i32> {
    let pids = bindery::fs::read_dir(Path::new("/proc")).unwrap().into_iter().filter_map(|dir| {
        let pid: i32 = dir.file_name()?.to_str()?.parse().ok()?;
        let line = bindery::fs::read(&dir.join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(text).then_some(pid)
    });
    pids.collect()
}

/// Waits until `done`, ten minutes at most: the clock of a busy virtual machine may run several times too fast.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("waited ten minutes until {what}");
}
