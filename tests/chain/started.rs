//! A bindery that is at work, with a state folder of its own: to be stopped or killed at a moment that its files tell, and
//! to be looked for afterwards.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::bench::{Bench, Said, Who};

/// Far longer than anything here takes: only a test that fails waits for so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// A bench whose state folder is its own; the image is the shared one's.
pub(crate) struct Own {
    pub(crate) bench: Bench,
    _folder: tempfile::TempDir,
}

impl Own {
    /// Makes one. `app-test/second` needs `app-test/first`; both are built in no time, and hold where their flags say.
    pub(crate) fn new(who: Who, test: &str) -> Self {
        let bench = Bench::of(who, test);
        Self::like(bench)
    }

    fn like(mut bench: Bench) -> Self {
        let home = bench.state.parent().unwrap();
        let folder = tempfile::Builder::new().prefix("own-").tempdir_in(home).unwrap();
        link_state(&bench.state, folder.path(), Path::new("../../state"));
        bench.state = folder.path().to_path_buf();
        let tree = bench.config.path().join("kills");
        write_tree(&tree);
        let file = bench.config.path().join("bindery.toml");
        let toml = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{toml}[trees.bindery-kills]\npath = \"{}\"\n", tree.display())).unwrap();
        let own = Self { bench, _folder: folder };
        own.hold("");
        own.bench.give_state();
        own
    }

    /// Takes a bench whose state folder is somebody's own already.
    pub(crate) fn over(bench: Bench, folder: tempfile::TempDir) -> Self {
        Self { bench, _folder: folder }
    }

    /// Returns the traces of what is dead already: what leases of its are there.
    pub(crate) fn lease_ids(&self) -> Traces {
        Traces { leases: lease_ids(&self.bench.state), processes: Vec::new() }
    }

    /// Has builds hold: `first` or `second` with a flag, such as `second hold-compile`.
    pub(crate) fn hold(&self, flags: &str) {
        let flags = if flags.is_empty() { String::new() } else { format!("\"app-test/{flags}\"") };
        self.bench.write_profile(&format!(
            "trees = [\"bindery-test\", \"bindery-kills\"]\n[package]\nuse = [{flags}]\n[limits]\nsilence = \"5min\"\n"
        ));
    }

    /// Adds the package `app-test/NAME`, which says this beyond the usual.
    pub(crate) fn add(&self, name: &str, text: &str) {
        let folder = self.bench.config.path().join("kills/app-test").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}-1.ebuild")), format!("{HEAD}{text}")).unwrap();
    }

    /// Adds a package that does not get smaller when it is packed.
    pub(crate) fn add_large(&self) {
        let folder = self.bench.config.path().join("kills/app-test/large");
        std::fs::create_dir_all(&folder).unwrap();
        let install =
            "src_install() {\n\thead -c 12582912 /dev/urandom >large || die\n\tinsinto /usr/share\n\tdoins large\n}\n";
        std::fs::write(folder.join("large-1.ebuild"), format!("{HEAD}{install}")).unwrap();
        self.bench.write_profile("trees = [\"bindery-test\", \"bindery-kills\"]\n");
    }

    /// Starts bindery as the leader of a process group.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        self.start_command(self.bench.command(args))
    }

    pub(crate) fn start_command(&self, mut command: Command) -> Started {
        let said = self.bench.config.path().join("said");
        let file = std::fs::File::create(&said).unwrap();
        let child = command.process_group(0).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Started { child, said, state: self.bench.state.clone() }
    }

    /// Starts to build the package that needs another.
    pub(crate) fn start_build(&self) -> Started {
        self.start(&["build", "--profile", &self.bench.profile, "app-test/second"])
    }

    /// Builds it to the end: what was left behind is no hindrance.
    #[track_caller]
    pub(crate) fn completes(&self) {
        self.hold("");
        self.bench.build(&["app-test/second"]).works();
        for package in ["first", "second"] {
            let file = self.bench.profile_dir().join(format!("current/app-test/{package}"));
            let file = std::fs::read_dir(file).unwrap().next().unwrap().unwrap().path();
            self.bench.run(&["verify", file.to_str().unwrap()]).works();
        }
    }

    /// Returns what the leases that are there are for.
    pub(crate) fn leases(&self) -> String {
        let leases = list(&self.bench.state.join("run/leases"));
        leases.iter().filter_map(|lease| std::fs::read_to_string(lease).ok()).collect()
    }

    /// Returns how the newest run of the profile stands, as `bindery log` lists it.
    pub(crate) fn outcome(&self) -> String {
        let said = self.bench.run(&["log"]);
        said.works();
        // Below come commands of `run`, if there were any.
        let line = said.out.lines().take_while(|line| !line.is_empty()).last().unwrap().to_string();
        line.split_whitespace().nth(2).unwrap().to_string()
    }

    /// Asserts that nothing is left of what `traces` were taken of.
    #[track_caller]
    pub(crate) fn is_clean(&self, traces: &Traces) {
        traces.are_gone();
        let state = &self.bench.state;
        for folder in ["run/leases", "state/roots"] {
            assert_eq!(list(&state.join(folder)), [] as [PathBuf; 0]);
        }
        for run in list(&state.join("state/runs")) {
            let name = run.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!name.starts_with("plan-") && !name.starts_with("doctor-"), "{name}");
            for package in ["first", "second"] {
                assert!(!run.join("app-test").join(package).join("scratch").exists(), "{}", run.display());
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(state.to_str().unwrap()), "{mounts}");
    }
}

/// Links the image of a state folder into another, which is `there` away from the latter's sub-folders. By
/// relative links: the id range may not enter every folder above.
pub(crate) fn link_state(shared: &Path, own: &Path, there: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(own, std::fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["state", "cache"] {
        std::fs::create_dir_all(own.join(folder)).unwrap();
    }
    symlink(there.join("state/images"), own.join("state/images")).unwrap();
    // Layers of packages are its own, and so are their short names.
    std::fs::create_dir(own.join("state/l")).unwrap();
    for link in list(&shared.join("state/l")) {
        let target = std::fs::read_link(&link).unwrap();
        if target.starts_with("../images") {
            symlink(target, own.join("state/l").join(link.file_name().unwrap())).unwrap();
        }
    }
    let said: Said = Command::new("cp").arg("-a").arg(shared.join("etc")).arg(own).output().unwrap().into();
    said.works();
}

/// How the test's ebuilds begin.
const HEAD: &str = "EAPI=8\nDESCRIPTION=\"Holds\"\nHOMEPAGE=\"https://example.org/\"\nS=\"${WORKDIR}\"\n\
    LICENSE=\"public-domain\"\nSLOT=\"0\"\nKEYWORDS=\"amd64\"\nIUSE=\"hold-setup hold-compile\"\n";

fn write_tree(tree: &Path) {
    let write = |file: &str, text: &str| {
        let file = tree.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("profiles/repo_name", "bindery-kills\n");
    write("profiles/categories", "app-test\n");
    write("metadata/layout.conf", "masters = bindery-test\nthin-manifests = true\nprofile-formats = portage-2\n");
    let setup = "pkg_setup() {\n\tif use hold-setup && [[ ${MERGE_TYPE} == binary ]]; then\n\t\
        sleep infinity\n\tfi\n}\n";
    let compile = "src_compile() {\n\tif use hold-compile; then\n\tsleep infinity\n\tfi\n}\n";
    let install = |name: &str| format!("src_install() {{\n\tnewbin - {name}-tool <<< \"echo {name}\"\n}}\n");
    write("app-test/first/first-1.ebuild", &format!("{HEAD}{setup}{compile}{}", install("first")));
    let needs = "DEPEND=\"app-test/first\"\n";
    write("app-test/second/second-1.ebuild", &format!("{HEAD}{needs}{compile}{}", install("second")));
}

/// A bindery at work.
pub(crate) struct Started {
    child: Child,
    said: PathBuf,
    state: PathBuf,
}

impl Started {
    /// Returns what it has said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.said).unwrap()).into_owned()
    }

    /// Waits until something is so; it must not have ended before.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !is(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended ({ended:?}) before: {what}\n{}", self.said());
            assert!(started.elapsed() < PATIENCE, "waited in vain: {what}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns bindery's own process id: the child's, or that of the program which the child starts for another user.
    pub(crate) fn pid(&self) -> u32 {
        let mut pid = self.child.id();
        while let (true, [child, ..]) = (name(pid) != "bindery", children(pid).as_slice()) {
            pid = *child;
        }
        pid
    }

    /// Returns whether a `sleep` for so many seconds runs below it.
    pub(crate) fn holds(&self, seconds: &str) -> bool {
        self.sleeper(seconds).is_some()
    }

    /// Ends the `sleep` for so many seconds that runs below it: what was held goes on.
    #[track_caller]
    pub(crate) fn release(&self, seconds: &str) {
        let sleeper = self.sleeper(seconds).unwrap_or_else(|| panic!("no `sleep {seconds}`:\n{}", self.said()));
        kill(pid(sleeper), Signal::SIGKILL).unwrap();
    }

    fn sleeper(&self, seconds: &str) -> Option<u32> {
        descendants(self.pid()).into_iter().find(|pid| arguments(*pid) == ["sleep", seconds, ""])
    }

    /// Returns whether a program runs below it.
    pub(crate) fn runs(&self, program: &str) -> bool {
        descendants(self.pid()).into_iter().any(|pid| name(pid) == program)
    }

    /// Returns the id of a process of the sandbox, by its hidden sub-command, if there is one now.
    pub(crate) fn find(&self, command: &str) -> Option<u32> {
        descendants(self.pid()).into_iter().find(|pid| arguments(*pid).get(1).is_some_and(|a| a == command))
    }

    /// Returns the id of a process of the sandbox, by its hidden sub-command.
    #[track_caller]
    pub(crate) fn sandbox(&self, command: &str) -> u32 {
        self.find(command).unwrap_or_else(|| panic!("no {command} below bindery:\n{}", self.said()))
    }

    /// Notes what is to be gone later.
    pub(crate) fn traces(&self) -> Traces {
        let pids = descendants(self.pid()).into_iter().chain([self.pid()]);
        Traces {
            leases: lease_ids(&self.state),
            processes: pids.filter_map(|pid| Some((pid, start_time(pid)?))).collect(),
        }
    }

    /// Sends a signal to bindery alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(pid(self.pid()), signal).unwrap();
    }

    /// Sends a signal to the whole process group, as a terminal does.
    pub(crate) fn signal_group(&self, signal: Signal) {
        killpg(pid(self.child.id()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Said {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it did not end:\n{}", self.said());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut said = Said::from(std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() });
        said.err = self.said();
        said
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A test that failed must not leave it to others.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill(pid(self.pid()), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// What a bindery had: its leases' ids, and its processes with their starting times.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    leases: Vec<String>,
    processes: Vec<(u32, u64)>,
}

impl Traces {
    /// Asserts that there is neither process nor control group; what was just killed may take its time.
    #[track_caller]
    pub(crate) fn are_gone(&self) {
        let started = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn left(&self) -> Vec<String> {
        let alive = |(pid, start): &&(u32, u64)| start_time(*pid) == Some(*start) && state(*pid) != Some('Z');
        let mut left: Vec<String> =
            self.processes.iter().filter(alive).map(|(pid, _)| format!("{pid} {:?}", arguments(*pid))).collect();
        let ours = |text: &str| self.leases.iter().any(|id| text.contains(id.as_str()));
        for process in list(Path::new("/proc")) {
            let Some(pid) = process.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()) else { continue };
            let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
            if state(pid) != Some('Z') && (ours(&mounts) || ours(&arguments(pid).join(" "))) {
                left.push(format!("{pid} {:?}, by its lease", arguments(pid)));
            }
        }
        left.extend(
            cgroups().into_iter().filter(|dir| ours(&dir.to_string_lossy())).map(|dir| dir.display().to_string()),
        );
        left
    }
}

/// Returns the control groups that bindery may have made.
fn cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for dir in list(&dir).into_iter().filter(|path| path.is_dir() && !path.is_symlink()) {
            if dir.to_string_lossy().contains("bindery") {
                found.push(dir.clone());
            }
            dirs.push(dir);
        }
    }
    found
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn lease_ids(state: &Path) -> Vec<String> {
    let names =
        list(&state.join("run/leases")).into_iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_string()));
    names.map(|name| name.trim_start_matches('.').to_string()).collect()
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap())
}

fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_string()
}

fn arguments(pid: u32) -> Vec<String> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Returns the fields of `/proc/PID/stat` after the name, the state being the first.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_string).collect())
}

fn state(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

fn start_time(pid: u32) -> Option<u64> {
    stat(pid)?.get(19)?.parse().ok()
}

fn children(parent: u32) -> Vec<u32> {
    let pids = list(Path::new("/proc")).into_iter().filter_map(|dir| dir.file_name()?.to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).and_then(|stat| stat.get(1)?.parse().ok()) == Some(parent)).collect()
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut all = children(pid);
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children(pid));
        next += 1;
    }
    all
}
