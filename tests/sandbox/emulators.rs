//! Programs of other machines. The emulator is busybox's `echo`, which tells what it was started for; the program is a head
//! without anything behind it.

use std::path::Path;

use bindery::fs;
use bindery::sandbox::SandboxError;
use bindery::sandbox::range;

use crate::host::{Host, is_root};

/// An ELF head for m68k: 32 bits, big-endian, ET_EXEC, EM_68K (elf.h).
const HEAD: [u8; 20] = [0x7f, b'E', b'L', b'F', 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4];

/// Whether this kernel has a binfmt_misc for each user namespace.
fn has_own() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 7)
}

fn host() -> Host {
    let host = Host::new();
    let (folder, program) = (host.state.state().join("emulators"), host.base().join("bin/foreign"));
    fs::create_dir_all(&folder).unwrap();
    crate::executable::copy(&bindery::process::find("busybox").unwrap(), &folder.join("echo"));
    fs::write(&program, HEAD.into_iter().chain([0; 108]).collect::<Vec<_>>()).unwrap();
    fs::set_mode(&program, 0o755).unwrap();
    if is_root() {
        for path in [folder.clone(), folder.join("echo"), program] {
            range::give(&host.ids, &path).unwrap();
        }
    }
    host
}

fn emulated() -> Host {
    let mut host = host();
    host.edit = |spec| spec["annotations"]["bindery.emulator.m68k"] = "emulators/echo".into();
    host
}

#[test]
fn a_program_of_another_machine_is_run_by_the_emulator() {
    if !has_own() {
        return refused_below_6_7();
    }
    let mut host = emulated();
    let ran = host.command(&["foreign", "a", "b"]).unwrap();
    // The path it was found by, and the name it was called by.
    assert_eq!((ran.out.as_str(), ran.exit.status.success()), ("/bin/foreign foreign a b\n", true), "{ran:?}");
    assert_eq!(ran.exit.achieved.emulators["m68k"], "`echo`, registered for this sandbox");
    // Also what the command starts, whoever it becomes and wherever it goes; the emulator need not be there.
    let ran = host.sh("foreign c; mkdir -p new/bin; cp /bin/foreign new/bin; chroot new /bin/foreign d").unwrap();
    assert_eq!(ran.out, "/bin/foreign foreign c\n/bin/foreign /bin/foreign d\n", "{ran:?}");
    // Nothing of it is the host's, nor another sandbox's; unless the host has an emulator of its own.
    let hosts = Path::new("/proc/sys/fs/binfmt_misc");
    if fs::read_dir(hosts).is_ok_and(|all| all.iter().any(|file| file.to_string_lossy().contains("m68k"))) {
        return;
    }
    let error = bindery::process::run(&mut bindery::process::command(host.base().join("bin/foreign"))).unwrap_err();
    assert!(bindery::process::chain(&error).contains("Exec format error"), "{error}");
    host.edit = |_| {};
    // exec(3) takes for a script what the kernel does not know.
    let ran = host.command(&["foreign"]).unwrap();
    assert!(!ran.exit.status.success() && ran.out.is_empty() && ran.exit.achieved.emulators.is_empty(), "{ran:?}");
}

/// What runs is the emulator's file: nobody who is emulated may change it for the next sandbox, however it is found.
#[test]
fn an_emulator_is_changed_by_nobody_it_runs() {
    if !has_own() {
        return refused_below_6_7();
    }
    let mut host = host();
    let emulator = host.state.state().join("emulators/sh");
    crate::executable::copy(&bindery::process::find("busybox").unwrap(), &emulator);
    if is_root() {
        range::give(&host.ids, &emulator).unwrap();
    }
    // As a shell it reads what the program says, which begins with the head, and goes on to what is after it.
    let script = "\nchmod 600 /proc/$$/exe; echo x >> /proc/$$/exe; (exec 7</proc/$$/exe; echo x >> /proc/self/fd/7); touch /proc/$$/exe; echo tried\n";
    let program = host.base().join("bin/foreign");
    fs::write(&program, [&HEAD[..], script.as_bytes()].concat()).unwrap();
    host.edit = |spec| spec["annotations"]["bindery.emulator.m68k"] = "emulators/sh".into();
    let before = (fs::read(&emulator).unwrap(), fs::metadata(&emulator).unwrap().permissions());
    let ran = host.command(&["foreign"]).unwrap();
    assert!(ran.out.contains("tried"), "{ran:?}");
    assert_eq!((fs::read(&emulator).unwrap(), fs::metadata(&emulator).unwrap().permissions()), before, "{ran:?}");
}

fn refused_below_6_7() {
    let error = emulated().command(&["foreign"]).unwrap_err();
    assert!(matches!(error, SandboxError::Emulation(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains("registered with the flag `F`; on Debian: `apt install qemu-user-static"), "{error}");
}

#[test]
fn a_payload_reaches_no_registration() {
    if !has_own() {
        return refused_below_6_7();
    }
    let host = emulated();
    let script = "ls -A /proc/sys/fs/binfmt_misc; grep binfmt /proc/mounts; mkdir m; mount -t binfmt_misc none m && echo \
                  mounted; unshare -Urm mount -t binfmt_misc none m && echo mounted; cat \
                  /proc/1/fd/*/status; ls /proc/1/fd/*/register; echo end";
    let ran = host.sh(script).unwrap();
    assert_eq!(ran.out, "end\n", "{ran:?}");
}

#[test]
fn an_emulator_that_is_not_there_is_named() {
    if !has_own() {
        return refused_below_6_7();
    }
    let mut host = host();
    host.edit = |spec| spec["annotations"]["bindery.emulator.m68k"] = "emulators/none".into();
    let error = host.command(&["foreign"]).unwrap_err().to_string();
    assert!(error.contains("cannot register the emulator `emulators/none`: No such file"), "{error}");
    host.edit = |spec| spec["annotations"]["bindery.emulator.m68k"] = "emulators/link".into();
    fs::symlink(Path::new("/bin/sh"), &host.state.state().join("emulators/link")).unwrap();
    let error = host.command(&["foreign"]).unwrap_err().to_string();
    assert!(error.contains("it is no file"), "{error}");
}

#[test]
fn an_emulator_for_what_this_machine_runs_by_itself_is_refused() {
    let mut host = host();
    host.edit = |spec| {
        let name = format!("bindery.emulator.{}", std::env::consts::ARCH);
        spec["annotations"][name] = "emulators/echo".into();
    };
    let error = host.command(&["true"]).unwrap_err().to_string();
    assert!(error.contains("whose programs this machine runs by itself"), "{error}");
}

/// For the virtual machine, whose host may be changed.
#[test]
#[ignore = "registers an emulator on the host"]
fn below_6_7_the_hosts_registration_serves() {
    let host = emulated();
    let run = |script: &str| {
        bindery::process::run(bindery::process::command("sh").args(["-ec", script]).arg("sh").arg(host.state.state()))
            .unwrap()
    };
    run("modprobe binfmt_misc 2>/dev/null || true; [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        cd /tmp && cp \"$1\"/emulators/echo echo
        printf '%s' ':hosts:M::\\x7f\\x45\\x4c\\x46\\x01\\x02\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\x04::/tmp/echo:FP' \
        > /proc/sys/fs/binfmt_misc/register");
    let ran = host.command(&["foreign", "a"]).unwrap();
    run("echo 0 > /proc/sys/fs/binfmt_misc/hosts");
    let disabled = host.command(&["foreign", "a"]).map(|ran| ran.out).map_err(|e| e.to_string());
    run("echo -1 > /proc/sys/fs/binfmt_misc/hosts; rm /tmp/echo");
    assert_eq!(ran.out, "/bin/foreign foreign a\n", "{ran:?}");
    let used = &ran.exit.achieved.emulators["m68k"];
    if has_own() {
        assert_eq!(used, "`echo`, registered for this sandbox");
        assert_eq!(disabled.unwrap(), "/bin/foreign foreign a\n");
    } else {
        assert_eq!(used, "`/tmp/echo`, which the host has registered as `hosts`");
        assert!(disabled.unwrap_err().contains("has no binfmt_misc for a sandbox alone"));
    }
}

/// Likewise.
#[test]
#[ignore = "registers an emulator on the host"]
fn what_the_host_has_registered_is_kept_out_where_it_is_not_to_count() {
    let mut host = host();
    let begins = format!("bindery-test-{}", std::process::id());
    fs::write(&host.base().join("bin/foreign"), format!("{begins}\n")).unwrap();
    let run = |script: &str| {
        bindery::process::run(
            bindery::process::command("sh").args(["-ec", script, "sh"]).arg(host.state.state()).arg(&begins),
        )
        .unwrap()
    };
    run("modprobe binfmt_misc 2>/dev/null || true; [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        echo \":$2:M::$2::$1/emulators/echo:F\" > /proc/sys/fs/binfmt_misc/register");
    let usual = host.sh("foreign a");
    host.edit = |spec| spec["annotations"]["bindery.foreign"] = "none".into();
    let ran = host.sh("foreign a");
    run("echo -1 > /proc/sys/fs/binfmt_misc/$2");
    let (usual, ran) = (usual.unwrap(), ran.unwrap());
    assert_eq!(usual.out, "/bin/foreign a\n", "{usual:?}");
    let missing = ran.exit.achieved.not_given.join("; ");
    if has_own() {
        assert_eq!((ran.out.as_str(), missing.as_str()), ("", ""), "{ran:?}");
    } else {
        assert_eq!(ran.out, "/bin/foreign a\n", "{ran:?}");
        assert!(missing.contains("what the host has registered counts"), "{missing}");
    }
}

#[test]
fn what_is_to_count_of_the_hosts_is_nothing_or_not_said() {
    let mut host = host();
    host.edit = |spec| spec["annotations"]["bindery.foreign"] = "none".into();
    assert!(host.sh("true").unwrap().exit.status.success());
    host.edit = |spec| spec["annotations"]["bindery.foreign"] = "some".into();
    let error = host.sh("true").unwrap_err().to_string();
    assert!(error.contains("`annotations.bindery.foreign`"), "{error}");
}
