//! The same probes under other sandboxes, in a plain folder as root: the table in `docs/battery.md`.
//!
//! `just battery-table` makes it anew. Each peer is run as its documentation shows it, with the three binds of the probes
//! and nothing else; a peer that is not installed has no column.

#![expect(clippy::print_stdout, reason = "what it is for")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::ablation::{Room, read};
use crate::host::{is_root, own_program};
use crate::probe;
use crate::stage::Canaries;

/// Column, then probe, then outcome.
pub(crate) type Table = BTreeMap<String, BTreeMap<String, String>>;

/// The command of the probe program.
const PROBES: [&str; 6] = ["/battery/probe", "--ignored", "--exact", "--nocapture", "--test-threads=1", "probes"];
/// crun refuses a host with both versions of control groups mounted.
const WITHOUT_V2: &str = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec \"$@\"";

/// What a peer is given.
struct Place {
    dir: PathBuf,
    root: PathBuf,
    binds: [(PathBuf, &'static str, bool); 3],
}

impl Place {
    fn new(dir: &Path, stage: &impl serde::Serialize) -> Self {
        let root = dir.join("root");
        for folder in [
            "bin",
            "dev",
            "proc",
            "sys",
            "run",
            "usr",
            "etc/folder",
            "etc/again",
            "tmp",
            "battery",
            "mnt/ro",
            "mnt/rw",
            "mnt/host-dev",
        ] {
            bindery::fs::create_dir_all(&root.join(folder)).unwrap();
        }
        bindery::fs::set_mode(&root.join("tmp"), 0o1777).unwrap();
        crate::executable::copy(&own_program(), &root.join("battery/probe"));
        bindery::fs::write(&root.join("battery/stage.json"), serde_json::to_string(stage).unwrap()).unwrap();
        for file in ["etc/lower", "etc/again/file"] {
            bindery::fs::write(&root.join(file), "lower").unwrap();
        }
        let (ro, rw) = (dir.join("ro"), dir.join("rw"));
        for folder in [&ro, &rw] {
            bindery::fs::create_dir_all(folder).unwrap();
        }
        crate::ablation::fill(&ro);
        let binds = [(ro, "/mnt/ro", true), (rw, "/mnt/rw", false), ("/dev".into(), "/mnt/host-dev", true)];
        Self { dir: dir.to_path_buf(), root, binds }
    }

    /// A fresh root: what one peer's probes have left is not the next one's.
    fn fresh(&self) {
        for left in bindery::fs::read_dir(&self.root.join("tmp")).unwrap() {
            bindery::process::run(bindery::process::command("rm").arg("-rf").arg(left)).unwrap();
        }
        for folder in ["etc/folder", "etc/again"] {
            bindery::fs::create_dir_all(&self.root.join(folder)).unwrap();
        }
        for file in ["etc/lower", "etc/again/file"] {
            bindery::fs::write(&self.root.join(file), "lower").unwrap();
        }
    }

    fn bubblewrap(&self, options: &[&str]) -> Command {
        let mut command = bindery::process::command("bwrap");
        command.arg("--bind").arg(&self.root).arg("/").args(["--dev", "/dev", "--proc", "/proc"]).args(options);
        for (from, to, read_only) in &self.binds {
            command.arg(if *read_only { "--ro-bind" } else { "--bind" }).arg(from).arg(to);
        }
        command.args(["--chdir", "/"]).args(PROBES);
        command
    }

    fn podman(&self) -> Command {
        let mut command = bindery::process::command("podman");
        command.args(["run", "--rm", "--network", "none", "--cgroups", "disabled"]);
        // What podman raises by default more than a container around it allows.
        command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]);
        for (from, to, read_only) in &self.binds {
            command.arg("-v").arg(format!("{}:{to}{}", from.display(), if *read_only { ":ro" } else { "" }));
        }
        command.arg("--rootfs").arg(&self.root).args(PROBES);
        command
    }

    fn nspawn(&self) -> Command {
        let mut command = bindery::process::command("systemd-nspawn");
        command.args(["-q", "--register=no", "--keep-unit", "--private-network", "--pipe", "-D"]).arg(&self.root);
        for (from, to, read_only) in &self.binds {
            command.arg(format!("--bind{}={}:{to}", if *read_only { "-ro" } else { "" }, from.display()));
        }
        command.args(PROBES);
        command
    }

    /// A bundle of what `spec` writes, with a root that can be written to.
    fn bundle(&self, runtime: &str) -> Command {
        let bundle = self.dir.join(runtime);
        bindery::fs::create_dir_all(&bundle).unwrap();
        let config = bundle.join("config.json");
        let _ = bindery::fs::remove_file(&config);
        bindery::process::run(bindery::process::command(runtime).arg("spec").current_dir(&bundle)).unwrap();
        let mut spec: serde_json::Value = serde_json::from_str(&bindery::fs::read_to_string(&config).unwrap()).unwrap();
        spec["root"] = json!({"path": self.root, "readonly": false});
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = json!(PROBES);
        for (from, to, read_only) in &self.binds {
            let access = if *read_only { "ro" } else { "rw" };
            let bind = json!({"destination": to, "source": from, "type": "bind", "options": ["rbind", access]});
            spec["mounts"].as_array_mut().unwrap().push(bind);
        }
        bindery::fs::write(&config, spec.to_string()).unwrap();
        let mut command = bindery::process::command(runtime);
        command.args(["run", "--bundle"]).arg(&bundle).arg(format!("battery-{}", std::process::id()));
        command
    }
}

/// Returns the command in a mount namespace without control groups of version 2.
pub(crate) fn without_v2(inner: &Command) -> Command {
    let mut command = bindery::process::command("unshare");
    command.args(["-m", "sh", "-c", WITHOUT_V2, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command
}

fn version(program: &str) -> Option<String> {
    let path = bindery::process::find(program)?;
    let output = bindery::process::run(bindery::process::command(path).arg("--version")).ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(number.trim_end_matches(',').to_string())
}

/// Runs the probes everywhere that whoever runs this can, and prints the outcomes as one line of JSON.
pub(crate) fn run() {
    let (_dir, dir) = crate::stage::folder();
    let mut canaries = Canaries::set(&dir);
    let mut table = Table::new();
    let ours = Room::new(&canaries.stage, false).run(&std::collections::BTreeSet::new()).unwrap();
    let who = if is_root() { "root" } else { "user" };
    table.insert(format!("0 bindery, {who}"), ours.into_iter().map(|(name, (word, _))| (name, word)).collect());
    canaries.stage.ours = false;
    let place = Place::new(&dir, &canaries.stage);
    let melange = [
        "--unshare-pid",
        "--unshare-net",
        "--die-with-parent",
        "--ro-bind",
        "/sys",
        "/sys",
        "--clearenv",
        "--new-session",
    ];
    let all = ["--unshare-all", "--die-with-parent", "--uid", "0", "--gid", "0"];
    type Peer = (&'static str, &'static str, fn(&Place) -> Command);
    let mut peers: Vec<Peer> = Vec::new();
    if is_root() {
        peers.push(("1 runc", "runc", |place| place.bundle("runc")));
        peers.push(("2 crun", "crun", |place| without_v2(&place.bundle("crun"))));
        peers.push(("3 podman", "podman", |place| without_v2(&place.podman())));
        peers.push(("7 nspawn", "systemd-nspawn", Place::nspawn));
    } else {
        peers.push(("4 podman", "podman", Place::podman));
    }
    let mut commands: Vec<(String, Command)> = Vec::new();
    for (name, program, make) in peers {
        if let Some(version) = version(program) {
            commands.push((format!("{name} {version}, {who}"), make(&place)));
        }
    }
    if let Some(version) = version("bwrap") {
        if is_root() {
            commands.push((format!("5 bwrap {version} as melange has it, {who}"), place.bubblewrap(&melange)));
        }
        commands.push((format!("6 bwrap {version} --unshare-all, {who}"), place.bubblewrap(&all)));
    }
    for (column, mut command) in commands {
        place.fresh();
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        match read(&text) {
            Ok(results) => {
                table.insert(column, results.into_iter().map(|(name, (word, _))| (name, word)).collect());
            }
            Err(e) => println!("{column}: {e} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    println!("\ntable {}", serde_json::to_string(&table).unwrap());
}

/// Reads what [`run`] printed.
pub(crate) fn parse(text: &str) -> Table {
    let line = text.lines().find_map(|line| line.strip_prefix("table ")).unwrap_or_else(|| panic!("{text}"));
    serde_json::from_str(line).unwrap()
}

/// Returns the page of the documentation.
pub(crate) fn page(table: &Table) -> String {
    let columns: Vec<_> = table.iter().collect();
    let title = |column: &str| column.split_once(' ').map_or(column, |(_, title)| title).to_string();
    let mut text = String::from(HEAD);
    let of = |needs: bool| probe::all().filter(move |probe| probe.is_need == needs);
    text.push_str("## In numbers\n\n| sandbox | attacks that get through | needs that are not met |\n|---|---|---|\n");
    for (column, results) in &columns {
        let count = |needs: bool| {
            let bad = of(needs).filter(|probe| results.get(probe.name).is_none_or(|word| word != "holds")).count();
            format!("{bad} of {}", of(needs).count())
        };
        text.push_str(&format!("| {} | {} | {} |\n", title(column), count(false), count(true)));
    }
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let (inside, outside) = (probe::all().count(), crate::outside::all().count());
    let listed = crate::outside::ELSEWHERE.len();
    text.push_str(&format!(
        "\nMade on Linux {kernel}: {inside} probes from inside, {outside} from outside; {listed} tests elsewhere.\n"
    ));
    text.push_str("\n## From outside\n\nHostile roots and specs, and what is left when something is killed; bindery alone is asked.\n\n");
    text.push_str("| probe | stands for | in its way |\n|---|---|---|\n");
    for probe in crate::outside::all() {
        text.push_str(&format!("{}\n", row(probe.name, probe.stands_for, probe.guards)));
    }
    text.push_str(
        "\nOther tests hold what follows, with cases of their own:\n\n| attack | stands for | test |\n|---|---|---|\n",
    );
    for (name, stands_for, _, test) in crate::outside::ELSEWHERE {
        text.push_str(&format!("| {name} | {stands_for} | `{test}` |\n"));
    }
    for (needs, heading) in [(false, "Attacks"), (true, "Needs")] {
        text.push_str(&format!("\n## {heading}\n\n| probe | stands for |"));
        text.push_str(if needs { " granted by |" } else { " in its way |" });
        for (column, _) in &columns {
            text.push_str(&format!(" {} |", title(column)));
        }
        text.push_str(&format!("\n|---|---|---|{}\n", "---|".repeat(columns.len())));
        for probe in of(needs) {
            text.push_str(&row(probe.name, probe.stands_for, probe.guards));
            for (_, results) in &columns {
                let word = results.get(probe.name).map_or("?", String::as_str);
                text.push_str(if word == "holds" { " · |" } else { " **✗** |" });
            }
            text.push('\n');
        }
    }
    text
}

/// Returns the beginning of a probe's row.
pub(crate) fn row(name: &str, stands_for: &str, guards: &str) -> String {
    format!("| {name} | {stands_for} | {} |", guards.replace(" | ", ", or: "))
}

const HEAD: &str = "\
# The battery

What attackers try from inside a sandbox and from outside, and what builds need in one, as probes with names
(`tests/battery/`), run by `cargo test --test battery` for root and for an ordinary user, and by `just test-vm` on other
kernels. A probe that nothing can make fail does not count:

- Every mechanism that stands in an attack's way is switched off in turn, and exactly the probes that name it must then fail:
  that is what the column *in its way* says. All mechanisms of one alternative must be off before the attack gets through.
  What the kernel at hand lacks (a socket family, a file of /proc) cannot be made to fail there, holds everywhere, and counts
  only on kernels that have it.
- Every grant that a need names in the column *granted by* is taken away, and exactly the needs that name it must then fail:
  a capability (CHOWN as `chown`), a system call or one use of it, a mount, a device, a limit lowered. They are taken away in
  groups, such that any two are apart in some run.

Below, the same probes under other sandboxes: `·` holds (the attack is refused, the need is met), `✗` does not. They are
run as their documentation shows them, in a plain folder as root, with three binds: runc and crun with the spec that
`spec` writes and a root that can be written to; podman with `--network none`; bubblewrap as melange calls it and with
`--unshare-all`; systemd-nspawn with `--private-network`. Most of them are not made for hostile builds, and some attacks
are none where they run (a builder that is itself process 1 has no other process 1 to attack): the table is there to show
that the probes find something, not who is best.

This page is made by `just battery-table`, not by hand.

";
