//! What a sandbox is started in, and what is to be found of it inside: canaries of every kind.
//!
//! A stage is a process of its own (an ignored test of this program) with a terminal, a secret in its environment and
//! ignored signals; it opens sockets, descriptors, queues and keys, and then starts sandboxes. What the probes need to
//! know of it is in `/battery/stage.json` of their root.

#![expect(unsafe_code, reason = "keys, queues and shared memory are no library's")]

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

use crate::host::{own_program, variable};
use crate::probe::{at, call};

/// In the environment of the stage.
pub(crate) const CANARY: &str = "canary-of-the-battery";
/// In the command line of the stage.
pub(crate) const MARK: &str = "onstage::";

/// In the environment of the probes: what nothing else on the machine is called, and whether what is expected not to
/// come need not be waited for long.
pub(crate) const RUN: &str = "BATTERY_RUN";
pub(crate) const IMPATIENT: &str = "BATTERY_IMPATIENT";

/// What is to be found.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stage {
    /// Whether the sandbox is bindery's.
    pub(crate) ours: bool,
    /// The user who starts it.
    pub(crate) caller: u32,
    pub(crate) host_name: String,
    pub(crate) ipc_key: u64,
    pub(crate) queue: String,
    /// A file of the host's, by its whole path.
    pub(crate) secret: String,
    pub(crate) shm_file: String,
    pub(crate) port: u16,
    pub(crate) abstract_name: String,
    /// How many signals may wait for the caller's processes, and how many inotify instances they may have.
    pub(crate) signals: u64,
    pub(crate) watchers: u64,
    /// A name of this run's own.
    #[serde(skip)]
    pub(crate) run: String,
    #[serde(skip)]
    pub(crate) impatient: bool,
    /// What descriptors the probe program has at its start.
    #[serde(skip)]
    pub(crate) inherited: Vec<String>,
    /// Whether the probe program is process 1.
    #[serde(skip)]
    pub(crate) is_init: bool,
}

impl Stage {
    /// Reads it, inside.
    pub(crate) fn read() -> Self {
        let text = bindery::fs::read_to_string(Path::new("/battery/stage.json")).unwrap();
        let mut stage: Self = serde_json::from_str(&text).unwrap();
        stage.is_init = std::process::id() == 1;
        stage.run = variable(RUN).unwrap_or_else(|| stage.shm_file.clone());
        stage.impatient = variable(IMPATIENT).is_some();
        let listed = bindery::fs::read_dir(Path::new("/proc/self/fd")).unwrap_or_default();
        for path in listed {
            let number: i32 = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).unwrap_or(-1);
            // The one that the folder was read with is closed by now.
            if let (3.., Ok(to)) = (number, bindery::fs::read_link(&path)) {
                stage.inherited.push(format!("{number} {}", to.display()));
            }
        }
        stage
    }
}

/// The canaries; they are gone when it is dropped.
pub(crate) struct Canaries {
    pub(crate) stage: Stage,
    _open: (TcpListener, UnixListener, std::fs::File),
    shm: i64,
}

impl Canaries {
    /// Puts everything in place in this process, for sandboxes that it starts afterwards. `dir` is a folder of its own.
    pub(crate) fn set(dir: &Path) -> Self {
        let unique = format!("battery-{}", std::process::id());
        let folder = dir.join("secrets");
        bindery::fs::create_dir_all(&folder).unwrap();
        let secret = folder.join(&unique);
        bindery::fs::write(&secret, "secret").unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SocketAddr::from_abstract_name(&unique).unwrap();
        let unix = UnixListener::bind_addr(&address).unwrap();
        // Inherited by whatever does not close it.
        let open = bindery::fs::open(&folder).unwrap();
        nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let ipc_key = u64::from(0x6200_0000 | std::process::id());
        // IPC_CREAT, for everyone.
        let shm = call(libc::SYS_shmget, [ipc_key, 4096, 0o1666, 0, 0]);
        assert!(shm >= 0, "shmget: {shm}");
        call(libc::SYS_umask, [0; 5]);
        let queue = format!("{unique}\0");
        let made = call(libc::SYS_mq_open, [at(queue.as_bytes()), 0o100 | 0o2, 0o666, 0, 0]);
        assert!(made >= 0, "mq_open: {made}");
        let shm_file = unique.clone();
        bindery::fs::write(&Path::new("/dev/shm").join(&shm_file), "").unwrap();
        // KEYCTL_JOIN_SESSION_KEYRING, then a key in it (KEY_SPEC_SESSION_KEYRING).
        call(libc::SYS_keyctl, [1, 0, 0, 0, 0]);
        let session = 0xffff_fffd;
        let key = call(libc::SYS_add_key, [at(c"user"), at(c"bindery-battery"), at(b"x"), 1, session]);
        assert!(key > 0, "add_key: {key}");
        // SAFETY: ignoring installs no handler.
        unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
        // ADDR_NO_RANDOMIZE.
        call(libc::SYS_personality, [0x4_0000, 0, 0, 0, 0]);
        let stage = Stage {
            ours: true,
            caller: rustix::process::geteuid().as_raw(),
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            ipc_key,
            queue: unique.clone(),
            secret: secret.display().to_string(),
            shm_file,
            port: tcp.local_addr().unwrap().port(),
            abstract_name: unique,
            signals: rustix::process::getrlimit(rustix::process::Resource::Sigpending).current.unwrap_or(u64::MAX),
            watchers: number("/proc/sys/fs/inotify/max_user_instances"),
            ..Stage::default()
        };
        Self { stage, _open: (tcp, unix, open), shm }
    }
}

fn number(path: &str) -> u64 {
    bindery::fs::read_to_string(Path::new(path)).unwrap().trim().parse().unwrap()
}

impl Drop for Canaries {
    fn drop(&mut self) {
        call(libc::SYS_shmctl, [self.shm.cast_unsigned(), 0, 0, 0, 0]);
        let queue = format!("{}\0", self.stage.queue);
        call(libc::SYS_mq_unlink, [at(queue.as_bytes()), 0, 0, 0, 0]);
        let _ = bindery::fs::remove_file(&Path::new("/dev/shm").join(&self.stage.shm_file));
    }
}

/// Runs one of the ignored tests of `onstage` in a process of its own, with a terminal, and returns what it prints. What
/// fails there fails here.
pub(crate) fn perform(test: &str, variables: &[(&str, &str)]) -> String {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    unlockpt(&user).unwrap();
    let terminal = ioctl_tiocgptpeer(&user, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    let mut command = bindery::process::command(own_program());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", &format!("{MARK}{test}")]);
    command.env("BATTERY_CANARY", CANARY).envs(variables.iter().copied());
    command.stdout(std::process::Stdio::piped());
    let fd = terminal.as_raw_fd();
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 || libc::ioctl(fd, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    drop((user, terminal));
    assert!(status.success(), "{text}");
    text
}

/// A folder that everybody may pass, removed at the end.
pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::Builder::new().prefix("bindery-test-").tempdir_in("/var/tmp").unwrap();
    bindery::fs::set_mode(dir.path(), 0o755).unwrap();
    let path = dir.path().to_path_buf();
    (dir, path)
}
