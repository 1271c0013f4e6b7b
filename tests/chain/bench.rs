//! What the tests of the chain stand on: one state folder for each user, with the image and the source archives in it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Who runs bindery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs the tests.
    Me,
    /// The ordinary user that `BINDERY_TEST_USER` names, when root runs the tests.
    Other,
}

/// A configuration folder with a profile of its own, and the shared state.
#[derive(Debug)]
pub(crate) struct Bench {
    who: Who,
    /// The shared state folder.
    pub(crate) state: PathBuf,
    /// The configuration folder; gone with the bench.
    pub(crate) config: tempfile::TempDir,
    /// The name of the profile, the set of whose packages starts empty.
    pub(crate) profile: String,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit code; 128 + signal where a signal ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Said {
    /// Asserts the exit code, and that standard error holds each of the texts.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self}");
        for text in texts {
            assert!(self.err.contains(text), "no `{text}` in:\n{self}");
        }
        self
    }

    /// Asserts that a text is nowhere in standard error.
    #[track_caller]
    pub(crate) fn lacks(&self, text: &str) -> &Self {
        assert!(!self.err.contains(text), "`{text}` in:\n{self}");
        self
    }

    /// The id of the run that a build said.
    #[track_caller]
    pub(crate) fn run(&self) -> String {
        let id = self.err.lines().find_map(|line| line.strip_prefix("run ")?.split(' ').next());
        id.unwrap_or_else(|| panic!("no run in:\n{self}")).to_string()
    }

    /// Asserts that standard output holds each of the texts.
    #[track_caller]
    pub(crate) fn prints(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.out.contains(text), "no `{text}` on standard output:\n{self}");
        }
        self
    }

    /// Asserts success.
    #[track_caller]
    pub(crate) fn works(&self) -> &Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}\nstdout:\n{}\nstderr:\n{}", self.code, self.out, self.err)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Bench {
    /// Returns a bench for whoever runs the tests, with the image made.
    pub(crate) fn new(test: &str) -> Self {
        Self::of(Who::Me, test)
    }

    /// Returns a bench with the image made. The profile is called `test`, inherits `amd64` and has a short limit of
    /// silence; [`Bench::write_profile`] writes another.
    pub(crate) fn of(who: Who, test: &str) -> Self {
        let bench = Self::bare(who, test);
        bench.ready();
        bench
    }

    /// Returns a bench without image and archives.
    pub(crate) fn bare(who: Who, test: &str) -> Self {
        let home = home(who);
        std::fs::create_dir_all(&home).unwrap();
        let config = tempfile::Builder::new().prefix("bindery-config-").tempdir_in(&home).unwrap();
        Self::with(who, test, config)
    }

    /// Likewise, with this folder for its configuration.
    pub(crate) fn with(who: Who, test: &str, config: tempfile::TempDir) -> Self {
        let home = home(who);
        let bench = Self { who, state: home.join("state"), config, profile: test.to_string() };
        let tests = tests();
        let toml = format!(
            "version = 1\n[defaults]\nimage = \"debian-portage\"\ntrees = [\"bindery-test\"]\nkey = \"default\"\n\
             [trees.bindery-test]\npath = \"{0}/tree\"\n[trees.bindery-broken]\npath = \"{0}/tree-broken\"\n",
            readable(who, &tests, &home).display()
        );
        std::fs::write(bench.config.path().join("bindery.toml"), toml).unwrap();
        bench.write_profile("[limits]\nsilence = \"5min\"\n");
        give(who, &home);
        give_all(who, bench.config.path());
        bench
    }

    /// Returns a bench with an empty state of its own.
    pub(crate) fn alone(test: &str) -> Self {
        let mut bench = Self::bare(Who::Me, test);
        bench.state = bench.config.path().join("state");
        bench
    }

    /// Writes the profile: `amd64` and what is given here. Nothing is shared: other tests' profiles have the same packages.
    pub(crate) fn write_profile(&self, more: &str) {
        self.write_profile_of("amd64", more);
    }

    /// Likewise, of another profile than `amd64`.
    pub(crate) fn write_profile_of(&self, parent: &str, more: &str) {
        let text = format!("version = 1\ninherits = \"{parent}\"\nshare = false\n{more}");
        self.write(&format!("profiles/{}.toml", self.profile), &text);
    }

    /// Writes the profile with the trees `bindery-test`, `bindery-broken` and `trees`, and what is given here.
    pub(crate) fn write_broken_profile(&self, trees: &str, more: &str) {
        self.write_profile(&format!("trees = [\"bindery-test\", \"bindery-broken\"{trees}]\n{more}"));
    }

    /// Writes a file below the configuration folder.
    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.config.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        give_all(self.who, self.config.path());
        path
    }

    /// Adds a tree `own` with the category `own`, standing on the others; an ebuild is its name without version, which is
    /// 1, and what it says beyond the usual.
    pub(crate) fn write_tree(&self, ebuilds: &[(&str, &str)]) {
        let config = self.config.path().join("bindery.toml");
        let toml = std::fs::read_to_string(&config).unwrap();
        let tree = self.config.path().join("own");
        if !tree.exists() {
            self.write("bindery.toml", &format!("{toml}[trees.own]\npath = \"{}\"\n", tree.display()));
        }
        self.write("own/profiles/repo_name", "own\n");
        self.write("own/profiles/categories", "own\n");
        let layout = "masters = bindery-test\nthin-manifests = true\nmanifest-hashes = BLAKE2B SHA512\n";
        self.write("own/metadata/layout.conf", layout);
        for (name, text) in ebuilds {
            let usual = "EAPI=8\nDESCRIPTION=\"x\"\nLICENSE=\"public-domain\"\nSLOT=\"0\"\nKEYWORDS=\"amd64 sparc\"\nS=\"${WORKDIR}\"\n";
            self.write(&format!("own/own/{name}/{name}-1.ebuild"), &format!("{usual}{text}"));
        }
    }

    /// Returns a command that runs bindery with arguments, as the bench's user.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let program = program(self.who);
        let mut command = match self.who {
            Who::Me => Command::new(program),
            Who::Other => {
                let mut command = Command::new("runuser");
                command.args(["-u", &other(), "--"]).arg(program);
                command
            }
        };
        command.args(args).env("BINDERY_STATE", &self.state).env("BINDERY_CONFIG", self.config.path());
        command.env_remove("SOURCE_DATE_EPOCH").current_dir("/").stdin(Stdio::null());
        command
    }

    /// Runs bindery to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.command(args).output().unwrap().into()
    }

    /// Builds atoms for the bench's profile.
    pub(crate) fn build(&self, atoms: &[&str]) -> Said {
        let args: Vec<&str> = ["build", "--profile", &self.profile].iter().chain(atoms).copied().collect();
        self.run(&args)
    }

    /// Gives the state folder to the bench's user.
    pub(crate) fn give_state(&self) {
        give_all(self.who, &self.state);
    }

    /// Starts bindery, and returns once a line of its standard error holds `text`.
    pub(crate) fn start(&self, args: &[&str], text: &str) -> Running {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut said = String::new();
        let line = lines.by_ref().inspect(|line| said.push_str(&format!("{line}\n"))).find(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("no `{text}` in:\n{said}"));
        // What it says further is not looked at, and must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Running { child, line }
    }

    /// Runs the strict client of `tests/client` in a fresh root, subscribed to this bench's profile at `uri`. It sees
    /// `folder` as `/srv/binhost`, and installs `packages`, or everything.
    pub(crate) fn client(&self, uri: &str, folder: &Path, packages: &[&str]) -> Said {
        self.client_in("debian-portage", uri, folder, packages)
    }

    /// Likewise, in a root of another image.
    pub(crate) fn client_in(&self, image: &str, uri: &str, folder: &Path, packages: &[&str]) -> Said {
        let subscription = tempfile::tempdir_in(self.config.path()).unwrap();
        let subscription = subscription.path().join("client");
        let text = |path: &Path| path.to_str().unwrap().to_string();
        let (profile, output) = (self.profile.as_str(), text(&subscription));
        self.run(&["client", "config", "--profile", profile, "--uri", uri, "--output", &output]).works();
        let tests = readable(self.who, &tests(), &home(self.who));
        let binds = [
            format!("{}:/var/db/repos/bindery-test", text(&tests.join("tree"))),
            format!("{output}:/mnt/client"),
            format!("{}:/mnt/install", text(&tests.join("client"))),
            format!("{}:/srv/binhost", text(&std::fs::canonicalize(folder).unwrap())),
        ];
        let mut args = vec!["run", "--image", image];
        args.extend(uri.starts_with("http").then_some("--network"));
        args.extend(binds.iter().flat_map(|bind| ["--ro-bind", bind]));
        args.extend(["--", "sh", "/mnt/install"]);
        self.run(&[&args, packages].concat())
    }

    /// The folder of the profile's pool and generations.
    pub(crate) fn profile_dir(&self) -> PathBuf {
        self.state.join("state/profiles").join(&self.profile)
    }

    /// Makes another image, once for all tests of a user.
    pub(crate) fn ready_with(&self, image: &str) {
        let lock = std::fs::File::create(self.state.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        self.run(&["run", "--image", image, "--", "true"]).works();
    }

    /// Makes image, key and archives, once for all tests of a user.
    pub(crate) fn ready(&self) {
        let lock = std::fs::File::create(self.state.with_extension("lock")).unwrap();
        // The user may be the one who makes everything ready another time.
        give(self.who, &self.state.with_extension("lock"));
        lock.lock().unwrap();
        let _ = std::fs::remove_dir_all(self.profile_dir());
        if !self.state.join("etc/keys/default.asc").exists() {
            self.run(&["key", "new", "default"]).works();
        }
        // Says nothing where the image is made and its definition the same; else it makes it.
        self.run(&["run", "--image", "debian-portage", "--", "true"]).works();
        let distfiles = tests().join("distfiles");
        let folder = self.state.join("cache/distfiles");
        let said: Said = Command::new(distfiles).arg(&folder).output().unwrap().into();
        said.works();
        give_all(self.who, &folder);
    }
}

/// A bindery at work, killed with the value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// The line that was waited for.
    pub(crate) line: String,
}

impl Running {
    /// Sends a signal, and returns the exit code.
    pub(crate) fn end(mut self, signal: &str) -> i32 {
        tool("kill", &[signal, &self.child.id().to_string()]);
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a tool of the host's, and returns what it prints.
pub(crate) fn tool(program: &str, args: &[&str]) -> String {
    let said: Said = Command::new(program).args(args).output().unwrap().into();
    said.works();
    said.out
}

/// Returns the user that `BINDERY_TEST_USER` names.
pub(crate) fn other() -> String {
    std::env::var("BINDERY_TEST_USER").unwrap_or_else(|_| {
        panic!(
            "BINDERY_TEST_USER names no ordinary user with subordinate ids, whom root's tests need: \
             `useradd --create-home USER` makes one (see `usermod --add-subuids` where it has none in /etc/subuid)"
        )
    })
}

/// Names the folder of the ordinary user's where a test of root's runs itself as that user.
pub(crate) const HOME: &str = "BINDERY_TEST_HOME";

/// Returns whether root runs this program as an ordinary user.
pub(crate) fn is_other() -> bool {
    std::env::var_os(HOME).is_some()
}

/// Returns this clone's folder of tests, or the user's copy of it.
pub(crate) fn tests() -> PathBuf {
    match std::env::var_os(HOME) {
        Some(home) => Path::new(&home).join("tests"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"),
    }
}

pub(crate) fn home(who: Who) -> PathBuf {
    match (who, std::env::var_os(HOME)) {
        (Who::Me, Some(home)) => PathBuf::from(home),
        (who, _) => usual_home(who),
    }
}

fn usual_home(who: Who) -> PathBuf {
    match who {
        Who::Me => Path::new(env!("CARGO_TARGET_TMPDIR")).join("chain"),
        Who::Other => PathBuf::from(format!("/var/tmp/bindery-test-{}", other())),
    }
}

/// Returns bindery where the user can read it: the clone may lie in a folder that only root enters.
pub(crate) fn program(who: Who) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_bindery"));
    match who {
        Who::Me if is_other() => home(who).join("bindery"),
        Who::Me => program.to_path_buf(),
        Who::Other => {
            let copy = home(who).join("bindery");
            let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
            if modified(&copy) < modified(program) {
                // Another process may be running the old one: replaced, not overwritten.
                let new = home(who).join(format!(".bindery-{}", std::process::id()));
                crate::executable::copy(program, &new);
                std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
                std::fs::rename(&new, &copy).unwrap();
            }
            copy
        }
    }
}

/// Returns a folder of the clone's where the user can read it.
fn readable(who: Who, dir: &Path, home: &Path) -> PathBuf {
    match who {
        Who::Me => dir.to_path_buf(),
        Who::Other => {
            let copy = home.join("tests");
            std::fs::create_dir_all(&copy).unwrap();
            let said: Said = Command::new("cp").arg("-rT").arg("--update").args([dir, &copy]).output().unwrap().into();
            said.works();
            give_all(who, &copy);
            copy
        }
    }
}

fn give(who: Who, path: &Path) {
    if who == Who::Other {
        let said: Said = Command::new("chown").arg(other()).arg(path).output().unwrap().into();
        said.works();
    }
}

fn give_all(who: Who, path: &Path) {
    if who == Who::Other {
        let said: Said = Command::new("chown").args(["-R", &other()]).arg(path).output().unwrap().into();
        said.works();
    }
}
