//! Runs commands in a tiny root (busybox) and looks at what they see, can do, and leave behind.

#![expect(clippy::unwrap_used, reason = "what fails is the test")]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bindery::atom::RootPath;
use bindery::root::{self, Command, Limits, Network, Root};
use bindery::sandbox::{self, Exit, IdRange, Request, SandboxError, Status, Stdio};
use bindery::state::{Lease, State};

struct Host {
    _dir: tempfile::TempDir,
    state: State,
    ids: IdRange,
}

impl Host {
    fn new() -> Self {
        bindery::process::set_this_program(Path::new(env!("CARGO_BIN_EXE_bindery")));
        let dir = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
        let state = State::below(dir.path());
        state.prepare().unwrap();
        let ids = IdRange::detect(None).unwrap();
        let bin = state.state().join("base/bin");
        bindery::fs::create_dir_all(&bin).unwrap();
        bindery::fs::copy(Path::new("/bin/busybox"), &bin.join("busybox")).unwrap();
        bindery::fs::symlink(Path::new("busybox"), &bin.join("sh")).unwrap();
        Self { _dir: dir, state, ids }
    }
    fn sh(&self, script: &str) -> Result<(Exit, String), SandboxError> {
        let mut lease = Lease::take(&self.state, "test").unwrap();
        let upper = lease.root().strip_prefix(self.state.state()).unwrap().to_path_buf();
        let spec = root::spec(
            &Root { lower: vec![PathBuf::from("base")], upper: Some(upper) },
            &[],
            &[],
            &Command {
                args: vec!["/bin/busybox".into(), "sh".into(), "-c".into(), script.into()],
                env: vec![("PATH".into(), "/bin".into())],
                cwd: "/".parse::<RootPath>().unwrap(),
                terminal: false,
            },
            &Limits::default(),
            Network::None,
        );
        let mut text = Vec::new();
        let exit = sandbox::run(Request {
            spec: &spec,
            ids: &self.ids,
            base: self.state.state(),
            lease: &mut lease,
            stdio: Stdio::Capture(&mut |_, bytes| text.extend_from_slice(bytes)),
            cancel: &AtomicBool::new(false),
        })?;
        Ok((exit, String::from_utf8_lossy(&text).into_owned()))
    }
}

#[test]
fn smoke() {
    let host = Host::new();
    let (exit, text) = host.sh("/bin/busybox --install -s /bin; id; ls -l / /dev /proc/self/fd; cat /proc/self/status /proc/mounts; ps; exit 7").unwrap();
    println!("{text}");
    assert_eq!(exit.status, Status::Code(7));
}
