//! Hosts on which something is missing, full, closed, or in use: the message says what, and the way out.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal::SIGTERM;

use crate::bench::{Bench, Said, Who};
use crate::started::Own;

#[test]
fn a_second_bindery_on_a_profile_is_refused_and_others_work_beside_it() {
    let own = Own::new(Who::Me, "hosts-two");
    own.hold("second hold-compile");
    let mut build = own.start_build();
    build.until("it compiles", |build| build.runs("sleep"));
    let traces = build.traces();
    let refused = own.bench.build(&["app-test/second"]);
    refused.fails(1, &[&format!("locked by process {}", build.pid()), "wait for it or stop it"]);
    own.bench.run(&["reap"]).works();
    let profiles = own.bench.config.path().join("profiles");
    std::fs::copy(profiles.join("hosts-two.toml"), profiles.join("hosts-other.toml")).unwrap();
    own.bench.run(&["build", "--profile", "hosts-other", "app-test/first"]).works();
    let plan = own.bench.run(&["build", "--profile", "hosts-two", "--pretend", "app-test/second"]);
    plan.works();
    build.until("it still runs", |build| build.runs("sleep"));
    assert!(!own.leases().is_empty());
    build.signal(SIGTERM);
    build.end().fails(130, &[]);
    own.is_clean(&traces);
}

/// Returns the arguments of a command as words for a shell.
fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ")
}

/// Runs a shell script in a mount namespace of its own, which only root can make.
fn with_mounts(bench: &Bench, script: &str) -> Said {
    assert!(nix::unistd::geteuid().is_root(), "this test mounts file systems: run it as root");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", script]);
    command.env("BINDERY_STATE", &bench.state).env("BINDERY_CONFIG", bench.config.path());
    command.current_dir("/").stdin(Stdio::null()).output().unwrap().into()
}

/// A folder for a state, and a bench that uses it.
fn empty_state(test: &str) -> (Bench, tempfile::TempDir) {
    let mut bench = Bench::bare(Who::Me, test);
    let folder = tempfile::Builder::new().prefix("own-").tempdir_in(bench.state.parent().unwrap()).unwrap();
    bench.state = folder.path().to_path_buf();
    (bench, folder)
}

#[test]
fn an_image_is_not_made_where_it_does_not_fit() {
    let (bench, folder) = empty_state("hosts-image-full");
    let make = words(&bench.command(&["image", "make", "debian-portage"]));
    let said = with_mounts(&bench, &format!("mount -t tmpfs -o size=300M none {}\n{make}", folder.path().display()));
    said.fails(4, &["MiB free", "making an image takes 2048", "another --state"]);
}

#[test]
fn a_disk_that_fills_at_any_stage_is_named_and_the_build_completes_once_there_is_room() {
    let own = Own::new(Who::Me, "hosts-full");
    own.add_large();
    let build = words(&own.bench.command(&["build", "--profile", "hosts-full", "app-test/large"]));
    let file = "current/app-test/large/large-1-1.gpkg.tar";
    let package = own.bench.state.join("state/profiles/hosts-full").join(file);
    let verify = words(&own.bench.command(&["verify", package.to_str().unwrap()]));
    let reap = words(&own.bench.command(&["reap"]));
    let shared = own.bench.state.with_file_name("state");
    let links = format!(
        "mkdir -p \"$s/state\" && ln -s ../../state/state/images ../../state/state/l \"$s/state\" && cp -a {}/etc \"$s\"",
        shared.display()
    );
    // Each time there is room for another copy of the package: in the root, as it was built, as it is signed, published.
    let script = format!(
        "s={}\nmount -t tmpfs -o size=1M,mode=755 none \"$s\"\n{links}\n\
         for size in 1 16 28 40 52 64 76 88 200; do\n\
           mount -o remount,size=\"$size\"M \"$s\"\n\
           code=0; {build} >\"$BINDERY_CONFIG/said\" 2>&1 || code=$?\n\
           echo \"== $size $code\"; cat \"$BINDERY_CONFIG/said\"\n\
           {reap} >&2 || true\n\
           find \"$s/state/roots\" \"$s/run/leases\" -mindepth 1 2>/dev/null | sed 's/^/LEFT /'\n\
           if [ $code = 0 ]; then {verify}; exit 0; fi\n\
           test ! -e \"$s/state/profiles/hosts-full/current\" || echo PUBLISHED\n\
         done; exit 9",
        own.bench.state.display()
    );
    let said = with_mounts(&own.bench, &script);
    said.works();
    assert!(!said.out.contains("PUBLISHED") && !said.out.contains("LEFT"), "{said}");
    let attempts: Vec<&str> = said.out.split("== ").skip(1).collect();
    assert!(attempts.len() > 4, "{said}");
    for attempt in &attempts[..attempts.len() - 1] {
        let code = attempt.split_whitespace().nth(1).unwrap();
        // No package is to blame.
        assert_eq!(code, "4", "{attempt}\n{said}");
        let texts = ["No space left on device", "make room first"];
        assert!(texts.iter().any(|text| attempt.contains(text)), "{attempt}\n{said}");
        assert!(attempt.contains("make room"), "{attempt}\n{said}");
    }
}

/// How a script mounts a file system of its own in a file, over the state folder, with the image of the shared one.
fn on_a_disk(own: &Own, size: &str) -> String {
    format!(
        "s={}\ndisk=\"$BINDERY_CONFIG/disk\"\ntruncate -s {size} \"$disk\"\nmkfs.ext4 -q -E lazy_itable_init=1 \"$disk\"\n\
         mount -o loop \"$disk\" \"$s\"\nchmod 755 \"$s\"\nmkdir -p \"$s/state\"\n\
         ln -s ../../state/state/images ../../state/state/l \"$s/state\"\ncp -a {}/etc \"$s\"\n",
        own.bench.state.display(),
        own.bench.state.with_file_name("state").display()
    )
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_and_what_was_said_to_be_published() {
    let own = Own::new(Who::Me, "hosts-power");
    let build = words(&own.bench.command(&["build", "--profile", "hosts-power", "app-test/first"]));
    let package = own.bench.profile_dir().join("current/app-test/first/first-1-1.gpkg.tar");
    let verify = words(&own.bench.command(&["verify", package.to_str().unwrap()]));
    // What is not on the disk is lost (FS_IOC_SHUTDOWN, without writing the journal), as are all mounts.
    let cut = "python3 -c 'import fcntl, os, struct, sys\n\
               fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack(\"I\", 2))' \"$s\"";
    let again = "umount \"$s\"; fsck.ext4 -p \"$disk\" >/dev/null || test $? = 1; mount -o loop \"$disk\" \"$s\"";
    let script = format!(
        "{}for delay in 0.3 1 1.7 2.5 4; do\n\
           {build} >\"$BINDERY_CONFIG/said\" 2>&1 & pid=$!\n\
           sleep $delay; {cut}; wait $pid || true; {again}\n\
           find \"$s/state/profiles\" -type f -size 0 ! -name lock ! -name '.new-*' 2>/dev/null | sed 's/^/EMPTY /'\n\
           if test -e \"$s/state/profiles/hosts-power/current\"; then {verify}; fi\n\
         done\n{build}\n{cut}\n{again}\n{verify}\n{build} 2>&1\nrm -r \"$s/state/profiles\"; umount \"$s\"",
        on_a_disk(&own, "512M")
    );
    let said = with_mounts(&own.bench, &script);
    said.works().prints(&["nothing to build; 1 packages are unchanged"]);
    assert!(!said.out.contains("EMPTY"), "{said}");
}

#[test]
fn a_disk_that_fills_while_an_image_is_made_is_named_and_the_image_is_made_once_there_is_room() {
    let (bench, folder) = empty_state("hosts-image-fills");
    let make = words(&bench.command(&["image", "make", "debian-portage"]));
    let downloads = folder.path().with_file_name("state").join("cache/downloads");
    std::fs::create_dir_all(&downloads).unwrap();
    let script = format!(
        "s={}\ndisk=\"$BINDERY_CONFIG/disk\"\ntruncate -s 4G \"$disk\"\nmkfs.ext4 -q -m 0 -E lazy_itable_init=1 \"$disk\"\n\
         mount -o loop \"$disk\" \"$s\"\nchmod 755 \"$s\"\nmkdir \"$s/cache\"\nln -s {} \"$s/cache/downloads\"\n\
         {make} >\"$BINDERY_CONFIG/said\" 2>&1 & pid=$!\n\
         until ls \"$s\"/state/roots/*/repo >/dev/null 2>&1; do sleep 0.1; kill -0 $pid; done\n\
         fallocate -l $(($(stat -f -c '%a * %S' \"$s\") - 150000000)) \"$s/filler\"\n\
         code=0; wait $pid || code=$?\necho \"== $code\"; cat \"$BINDERY_CONFIG/said\"\n\
         find \"$s/state/roots\" \"$s/run/leases\" \"$s/state/images/blobs/sha256\" -mindepth 1 | sed 's/^/LEFT /'\n\
         rm \"$s/filler\"\n{make}\n",
        folder.path().display(),
        downloads.display()
    );
    let said = with_mounts(&bench, &script);
    // Who runs out of it first says it in its own words: cp, dpkg, apt.
    said.works().prints(&["== 4", "hint: the disk is full: make room"]);
    assert!(!said.out.contains("LEFT"), "{said}");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_the_hosts_failure() {
    let texts = ["cannot create the folder", "hint: `--state DIR` keeps everything below another folder"];
    let (bench, folder) = empty_state("hosts-read-only");
    let build = words(&bench.command(&["build", "--profile", "hosts-read-only", "app-misc/hello"]));
    let path = folder.path().display();
    let said = with_mounts(&bench, &format!("mount --bind {path} {path}\nmount -o remount,ro,bind {path}\n{build}"));
    said.fails(4, &texts).fails(4, &["Read-only file system"]);

    let mut bench = Bench::bare(Who::Other, "hosts-read-only");
    let folder = tempfile::Builder::new().prefix("own-").tempdir_in(bench.state.parent().unwrap()).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    bench.state = folder.path().to_path_buf();
    bench.give_state();
    bench.build(&["app-misc/hello"]).fails(4, &texts).fails(4, &["Permission denied"]);
    bench.run(&["run", "--image", "debian-portage", "--", "true"]).fails(125, &texts);
    let doctor = bench.run(&["doctor"]);
    doctor.fails(4, &["this host lacks: state"]);
    assert!(doctor.out.contains("cannot create the folder"), "{doctor}");
}

/// Runs a command in a user namespace that has all the ids of this one, and allows none below it.
fn without_user_namespaces(command: &Command) -> Said {
    assert!(nix::unistd::geteuid().is_root(), "this test maps all ids into a user namespace: run it as root");
    // Once its ids are mapped, the next program that is executed is root there.
    let inner = format!("echo 0 >/proc/sys/user/max_user_namespaces; exec {}", words(command));
    let mut outer = Command::new("unshare");
    outer.args(["--user", "sh", "-c", "echo ready; read -r mapped; exec sh -euc \"$1\"", "sh", &inner]);
    for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        outer.env(name, value);
    }
    let mut child = outer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut byte = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", child.id()), "0 0 4294967295").unwrap();
    }
    child.stdin.take().unwrap().write_all(b"mapped\n").unwrap();
    child.wait_with_output().unwrap().into()
}

/// Returns what doctor says of one thing, in words and as JSON: the verdict and how to mend it.
fn doctors_word(run: impl Fn(&[&str]) -> Said, name: &str) -> (String, String) {
    run(&["doctor"]).fails(4, &["this host lacks:", name]);
    let said = run(&["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said}"));
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("nothing about {name}: {said}"));
    (check["verdict"].as_str().unwrap().to_string(), check["mend"].as_str().unwrap().to_string())
}

#[test]
fn without_user_namespaces_the_setting_is_named() {
    let own = Own::new(Who::Me, "hosts-no-namespaces");
    let texts = ["user.max_user_namespaces=0", "sysctl -w user.max_user_namespaces=15000"];
    let run = |args: &[&str]| without_user_namespaces(&own.bench.command(args));
    run(&["run", "--image", "debian-portage", "--", "true"]).fails(125, &texts);
    run(&["build", "--profile", "hosts-no-namespaces", "app-test/first"]).fails(4, &texts);
    let (verdict, mend) = doctors_word(run, "sandbox");
    assert!(verdict == "missing" && texts.iter().all(|text| mend.contains(text)), "{verdict}: {mend}");
    // A user namespace with nothing but one id, such as `unshare --map-root-user` makes.
    let mut command = Command::new("unshare");
    let inner = own.bench.command(&["run", "--image", "debian-portage", "--", "true"]);
    command.args(["--user", "--map-root-user"]).arg(inner.get_program()).args(inner.get_args());
    let state = ("BINDERY_STATE", &own.bench.state);
    let said: Said = command.envs([state]).env("BINDERY_CONFIG", own.bench.config.path()).output().unwrap().into();
    said.fails(125, &["the user namespace that bindery runs in"]);
}

/// Returns a command that runs bindery as somebody by number, with a state folder of its own and a PATH.
fn by_number(id: u32, path: &str, args: &[&str]) -> (Command, tempfile::TempDir) {
    let bench = Bench::bare(Who::Other, "hosts-number");
    let folder = tempfile::Builder::new().prefix("own-").tempdir_in(bench.state.parent().unwrap()).unwrap();
    let etc = folder.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    let toml = "version = 1\n[defaults]\nimage = \"debian-portage\"\ntrees = [\"none\"]\nkey = \"default\"\n\
        [trees.none]\npath = \"/nonexistent\"\n";
    std::fs::write(etc.join("bindery.toml"), toml).unwrap();
    std::os::unix::fs::chown(&etc, Some(id), Some(id)).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(id), Some(id)).unwrap();
    let program = bench.command(&[]).get_args().last().map(PathBuf::from).unwrap();
    let mut command = Command::new(bindery::process::find("setpriv").unwrap());
    command.args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]).arg(program).args(args);
    command.env_clear().env("PATH", path).env("HOME", folder.path()).env("BINDERY_STATE", folder.path());
    command.current_dir("/").stdin(Stdio::null());
    (command, folder)
}

#[test]
fn without_subordinate_ids_the_command_that_gives_them_is_told() {
    const NOBODY: u32 = 65534;
    let run = |args: &[&str]| {
        let (mut command, _folder) = by_number(NOBODY, "/usr/bin:/bin", args);
        Said::from(command.output().unwrap())
    };
    let texts = ["`nobody` has no 65536 subordinate ids", "usermod --add-subuids", "--add-subgids", "nobody"];
    run(&["run", "--image", "debian-portage", "--", "true"]).fails(125, &texts);
    run(&["build", "--profile", "amd64", "app-misc/hello"]).fails(4, &texts);
    let (verdict, mend) = doctors_word(run, "subordinate ids");
    assert!(verdict == "missing" && mend.contains("usermod --add-subuids"), "{verdict}: {mend}");
}

#[test]
fn without_newuidmap_its_package_is_told() {
    let name = std::env::var("BINDERY_TEST_USER").unwrap_or_default();
    let user = nix::unistd::User::from_name(&name).unwrap().expect("BINDERY_TEST_USER names no user; see bench.rs");
    let run = |args: &[&str]| {
        let (mut command, _folder) = by_number(user.uid.as_raw(), "/nonexistent", args);
        Said::from(command.output().unwrap())
    };
    let text = "`newuidmap` is not installed; on Debian: `apt install uidmap`";
    run(&["run", "--image", "debian-portage", "--", "true"]).fails(125, &[text]);
    let (verdict, mend) = doctors_word(run, "subordinate ids");
    assert_eq!((verdict.as_str(), mend.as_str()), ("missing", text));
}

#[test]
fn without_mmdebstrap_or_apt_their_packages_are_told() {
    let (bench, _folder) = empty_state("hosts-tools");
    let tools = |programs: &[&str]| {
        let dir = tempfile::tempdir_in(bench.config.path()).unwrap();
        for program in programs {
            let found = bindery::process::find(program).unwrap_or_else(|| panic!("`{program}` is missing"));
            std::os::unix::fs::symlink(found, dir.path().join(program)).unwrap();
        }
        dir
    };
    let with = |dir: &Path, args: &[&str]| Said::from(bench.command(args).env("PATH", dir).output().unwrap());
    let none = tools(&[]);
    with(none.path(), &["image", "make", "debian-portage"])
        .fails(4, &["`mmdebstrap` is not installed", "apt install mmdebstrap"]);
    let (verdict, mend) = doctors_word(|args| with(none.path(), args), "mmdebstrap");
    assert!(verdict == "missing" && mend.contains("apt-get install mmdebstrap"), "{verdict}: {mend}");
    let no_apt = tools(&["mmdebstrap", "unshare", "setpriv"]);
    with(no_apt.path(), &["image", "make", "debian-portage"]).fails(4, &["apt-get"]);
    let (verdict, mend) = doctors_word(|args| with(no_apt.path(), args), "apt");
    assert!(verdict == "missing" && mend.contains("Debian"), "{verdict}: {mend}");
}
