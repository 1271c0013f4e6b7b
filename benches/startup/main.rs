//! How long a sandbox takes to start and to be gone, beside others: `just bench-sandbox`.
//!
//! Each round runs /bin/true once by everyone, one after the other, in an order that turns from round to round, timed from
//! before exec to after wait, with nothing kept warm. Ratios are those of one round, so that what else the machine does
//! falls on both sides; the table has their median and quartiles. Started by root it measures root, and then, with
//! `--user NAME`, that user. Who cannot be measured is named, with the reason. On a busy machine, `chrt -r 1` before the
//! compiled bench keeps the others out of it, but for runc, crun and podman, whose control groups then refuse them.
//!
//! `--rounds N` (100), `--user NAME`, `--also PROGRAM` (another build of bindery, to compare with), `--only NAME,…`,
//! `--json`, `--keep` (leaves the folders, for a look with strace).

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench that cannot go on panics"
)]

mod rival;
mod root;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rival::{Rival, is_root};
use root::Root;

#[derive(Debug, Default)]
struct Args {
    rounds: usize,
    user: Option<String>,
    also: Vec<PathBuf>,
    only: Vec<String>,
    json: bool,
    keep: bool,
    /// Set when root has made everything and we are the ordinary user.
    place: Option<PathBuf>,
}

fn main() {
    let mut args = Args { rounds: 100, ..Args::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("`{word}` needs a value"));
        match word.as_str() {
            // What `cargo bench` adds.
            "--bench" => {}
            "--rounds" => args.rounds = value().parse().expect("a number of rounds"),
            "--user" => args.user = Some(value()),
            "--also" => args.also.push(std::fs::canonicalize(value()).expect("another program")),
            "--only" => args.only = value().split(',').map(str::to_string).collect(),
            "--json" => args.json = true,
            "--keep" => args.keep = true,
            "--place" => args.place = Some(value().into()),
            other => panic!("unknown argument `{other}`; the head of `benches/startup/main.rs` names all"),
        }
    }
    if let Some(place) = &args.place {
        let dir = place.join("user");
        let root = Root { shared: dir.join("merged"), dir, mounted: true };
        return measure(&args, &root, place);
    }
    let place = tempfile::Builder::new().prefix("bindery-bench-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let bare = root::compile(place.path());
    // As it is installed: what a linker has written piece by piece lies in the page cache in small pages, and each costs.
    std::fs::copy(env!("CARGO_BIN_EXE_bindery"), place.path().join("bindery")).unwrap();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if is_root() {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    }
    let root = Root::make(&place.path().join("own"), &bare, own, is_root());
    measure(&args, &root, place.path());
    if let (Some(user), true) = (&args.user, is_root()) {
        as_user(&args, user, place.path(), &bare);
    }
    if args.keep {
        println!("kept: {}", place.keep().display());
    } else {
        clear(place);
    }
}

/// Measures again as an ordinary user, for whom root makes the root.
fn as_user(args: &Args, user: &str, place: &Path, bare: &Path) {
    let user = nix::unistd::User::from_name(user).unwrap().unwrap_or_else(|| panic!("there is no user `{user}`"));
    Root::make(&place.join("user"), bare, (user.uid.as_raw(), user.gid.as_raw()), true);
    // Neither cargo's folder nor the checkout need be the user's to see.
    let own = place.join("bench");
    std::fs::copy("/proc/self/exe", &own).unwrap();
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--init-groups").arg(own);
    command.arg("--place").arg(place).args(["--rounds", &args.rounds.to_string()]);
    for (n, program) in args.also.iter().enumerate() {
        let copy = place.join(format!("also-{n}"));
        std::fs::copy(program, &copy).unwrap();
        command.arg("--also").arg(copy);
    }
    if !args.only.is_empty() {
        command.args(["--only", &args.only.join(",")]);
    }
    command.args(args.json.then_some("--json")).current_dir("/");
    assert!(command.status().unwrap().success(), "the bench of the ordinary user failed");
}

/// Removes the place; parts of it belong to an id range.
fn clear(place: tempfile::TempDir) {
    let path = place.keep();
    if is_root() {
        std::env::set_current_dir("/").unwrap();
        // Ours, and what podman leaves.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
            if point.starts_with(&path) {
                nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH).unwrap();
            }
        }
        std::fs::remove_dir_all(&path).unwrap();
    } else {
        let remove = Command::new("unshare").args(["--map-root-user", "--map-auto", "rm", "-rf"]).arg(&path).status();
        assert!(remove.unwrap().success(), "cannot remove `{}`", path.display());
    }
}

/// Measures everybody, as whoever we are, and shows it.
fn measure(args: &Args, root: &Root, place: &Path) {
    let bare = place.join("bare");
    let ours = place.join("bindery");
    let (mut ready, mut missing) = (Vec::new(), Vec::new());
    for rival in rival::all(&ours, &args.also) {
        if !args.only.is_empty() && !rival.is_ours() && !args.only.contains(&rival.name) {
            continue;
        }
        match rival.ready(root, &bare) {
            Ok(()) => ready.push(rival),
            Err(why) if rival.is_ours() => panic!("{}: {why}", rival.name),
            Err(why) => missing.push((rival.name, why)),
        }
    }
    let mut times = vec![Vec::new(); ready.len()];
    for round in 0..args.rounds {
        for turn in 0..ready.len() {
            let which = (turn + round) % ready.len();
            times[which].push(time(ready[which].command(root, &bare, "true", round)));
        }
    }
    let peaks: Vec<_> = ready.iter().map(|rival| peak(rival.command(root, &bare, "pause", args.rounds))).collect();
    show(args, root, &ready, &times, &peaks, &missing);
}

fn time(mut command: Command) -> f64 {
    let start = Instant::now();
    let status = command.status().unwrap();
    let time = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    time.as_secs_f64() * 1000.0
}

/// Returns the most memory that the process which stays with the payload (the supervisor) has had, in KiB.
fn peak(mut command: Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = line.unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}

/// Returns the value below which the part `at` of the values lies.
fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the values")]
    let index = ((sorted.len() - 1) as f64 * at).round() as usize;
    sorted[index]
}

fn show(args: &Args, root: &Root, ready: &[Rival], times: &[Vec<f64>], peaks: &[u64], missing: &[(String, String)]) {
    let who = if is_root() { "root" } else { "an ordinary user" };
    let rows = ready.iter().zip(times).zip(peaks).map(|((rival, times_of), peak)| {
        let ratios: Vec<_> = times[0].iter().zip(times_of).map(|(ours, theirs)| ours / theirs).collect();
        (rival, times_of, ratios, peak)
    });
    if args.json {
        for (rival, times, ratios, peak) in rows {
            let name = &rival.name;
            let line =
                serde_json::json!({"who": who, "name": name, "milliseconds": times, "ratios": ratios, "peak": peak});
            println!("{line}");
        }
        return;
    }
    let overlay = if root.mounted { "an overlay that root has mounted before" } else { "a plain folder" };
    println!("\nAs {who}, {} rounds, {} layers; who cannot mount gets {overlay}.\n", args.rounds, root::LAYERS);
    println!(
        "| | median ms | least | 9 of 10 below | bindery takes … times as long (quartiles) | supervisor's peak KiB | |"
    );
    println!("|---|---:|---:|---:|---:|---:|---|");
    for (rival, times, ratios, peak) in rows {
        let of = |values: &[f64], at| quantile(values, at);
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} ({:.2}–{:.2}) | {peak} | {} |",
            rival.name,
            of(times, 0.5),
            of(times, 0.0),
            of(times, 0.9),
            of(&ratios, 0.5),
            of(&ratios, 0.25),
            of(&ratios, 0.75),
            rival.note
        );
    }
    for (name, why) in missing {
        println!("| {name} | not measured: {why} | | | | | |");
    }
}
