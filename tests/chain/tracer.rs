//! Kills one of bindery's processes at its Nth system call, whichever that is.
//!
//! strace(1) counts the calls of each name and of each process apart, and cannot be told to kill a process that is not
//! its child; this counts all calls of every process with one role, in their order: bindery itself, or the sandbox's
//! processes of a hidden sub-command. It runs in a process of its own, because whoever traces waits for all its children.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Whom to kill, and when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Target {
    /// Empty for bindery itself, else the hidden sub-command.
    pub(crate) role: String,
    /// At which call, from 1; 0 for none, to count them.
    pub(crate) when: u64,
}

/// What became of it.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Traced {
    /// How many calls the role's processes began.
    pub(crate) calls: u64,
    /// Whether one was killed.
    pub(crate) killed: bool,
    /// bindery's exit code; 128 + signal where a signal ended it.
    pub(crate) code: i32,
    /// Standard output and error.
    pub(crate) said: String,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Task {
    target: Target,
    program: String,
    args: Vec<String>,
    env: Vec<(String, Option<String>)>,
    dir: String,
}

/// Runs a command with one process of it killed.
pub(crate) fn trace(command: &Command, target: Target, dir: &Path) -> Traced {
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_string();
    let task = Task {
        target,
        program: text(command.get_program()),
        args: command.get_args().map(text).collect(),
        env: command.get_envs().map(|(name, value)| (text(name), value.map(text))).collect(),
        dir: dir.to_str().unwrap().to_string(),
    };
    let mut tracer = Command::new(std::env::current_exe().unwrap());
    tracer
        .args(["--ignored", "--exact", "tracer::tracer"])
        .env("BINDERY_TEST_TASK", serde_json::to_string(&task).unwrap());
    let output = tracer.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let mut traced: Traced = serde_json::from_slice(&std::fs::read(dir.join("traced")).unwrap()).unwrap();
    traced.said = String::from_utf8_lossy(&std::fs::read(dir.join("said")).unwrap()).into_owned();
    traced
}

#[test]
#[ignore = "is run by other tests"]
fn tracer() {
    let task: Task = serde_json::from_str(&std::env::var("BINDERY_TEST_TASK").unwrap()).unwrap();
    let said = std::fs::File::create(Path::new(&task.dir).join("said")).unwrap();
    let mut command = Command::new(&task.program);
    command.args(&task.args).current_dir("/").stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    command.env_remove("BINDERY_TEST_TASK");
    for (name, value) in &task.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    #[expect(unsafe_code, reason = "asking to be traced can be done by nobody else")]
    // SAFETY: between fork and exec there is one system call, which allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(ptrace::traceme()?));
    }
    let child = command.spawn().unwrap();
    let first = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let traced = Tracer::new(first, task.target).run();
    std::fs::write(Path::new(&task.dir).join("traced"), serde_json::to_string(&traced).unwrap()).unwrap();
}

struct Tracer {
    first: Pid,
    target: Target,
    /// The role of every process and thread.
    roles: BTreeMap<Pid, String>,
    /// Those in the midst of a call.
    inside: BTreeSet<Pid>,
    traced: Traced,
}

impl Tracer {
    fn new(first: Pid, target: Target) -> Self {
        Self { first, target, roles: BTreeMap::new(), inside: BTreeSet::new(), traced: Traced::default() }
    }

    fn run(mut self) -> Traced {
        // No descriptor of any process of bindery's is ours: it ends whatever becomes of the others.
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::__WALL)) {
            match status {
                WaitStatus::Exited(pid, code) => self.ended(pid, code),
                WaitStatus::Signaled(pid, signal, _) => self.ended(pid, 128 + signal as i32),
                WaitStatus::Stopped(pid, signal) => self.stopped(pid, signal),
                WaitStatus::PtraceEvent(pid, _, event) => {
                    if event == nix::libc::PTRACE_EVENT_EXEC {
                        self.executed(pid);
                    } else {
                        self.go_on(pid, None);
                    }
                }
                WaitStatus::PtraceSyscall(pid) => self.call(pid),
                _ => {}
            }
        }
        self.traced
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        self.roles.remove(&pid);
        self.inside.remove(&pid);
        if pid == self.first {
            self.traced.code = code;
        }
    }

    fn stopped(&mut self, pid: Pid, signal: Signal) {
        if self.roles.contains_key(&pid) {
            self.go_on(pid, Some(signal));
            return;
        }
        if pid == self.first {
            let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
            let rest = Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
            ptrace::setoptions(pid, follow | rest).unwrap();
            self.executed(pid);
            return;
        }
        // New: a thread has the role of its process, a process none before it has executed something.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let group = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok()).map(Pid::from_raw);
        let role = group.filter(|group| *group != pid).and_then(|group| self.roles.get(&group).cloned());
        self.roles.insert(pid, role.unwrap_or_else(|| "none".to_string()));
        self.go_on(pid, None);
    }

    fn executed(&mut self, pid: Pid) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let word = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        let hidden = word.starts_with(b"__").then(|| String::from_utf8_lossy(word).into_owned());
        let role = if pid == self.first { String::new() } else { hidden.unwrap_or_else(|| "none".to_string()) };
        // What the payload does is its own affair, and there may be much of it.
        let alone = role == "__payload";
        self.roles.insert(pid, role);
        self.inside.remove(&pid);
        if alone {
            let _ = ptrace::detach(pid, None);
        } else {
            self.go_on(pid, None);
        }
    }

    fn call(&mut self, pid: Pid) {
        // Each is told twice: when it begins, and when it is done.
        if !self.inside.remove(&pid) {
            self.inside.insert(pid);
            self.traced.calls += 1;
            if self.traced.calls == self.target.when {
                self.traced.killed = true;
                kill(pid, Signal::SIGKILL).unwrap();
            }
        }
        self.go_on(pid, None);
    }

    /// Lets it go on; where it was killed meanwhile, it has gone already.
    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        let _ = if self.roles.get(&pid) == Some(&self.target.role) {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
    }
}
