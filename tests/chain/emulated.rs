//! Another machine's packages, built on this one: its programs are emulated, with nothing of the host's.

use std::path::Path;

use crate::bench::Bench;

/// What is built: a library, and what is linked with it.
const ATOMS: [&str; 2] = ["app-arch/bzip2", "dev-util/bsdiff"];

#[test]
fn packages_for_arm64_are_built_with_native_tools_or_without_to_the_same_bytes_and_installed_there() {
    let bench = Bench::new("emulated-native");
    bench.write_profile_of("arm64", "method = \"native\"\n");
    bench.ready_with("debian-portage-arm64");
    // Says `aarch64`, also what a native shell starts.
    let said = bench.run(&[
        "run",
        "--profile",
        &bench.profile,
        "--",
        "sh",
        "-c",
        "uname -m; head -c 20 /bin/sh | od -An -tx1 -j18",
    ]);
    said.works();
    assert_eq!(said.out, "aarch64\n 3e 00\n", "{said}");
    bench.build(&ATOMS).works();
    let content = |bench: &Bench| {
        let record = bench.profile_dir().join("pool/app-arch/bzip2/bzip2-1.0.8-1.json");
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        record["facts"]["content"].as_str().unwrap().to_string()
    };

    // With everything emulated, it takes longer and comes to the same.
    let other = Bench::new("emulated-purely");
    other.write_profile_of("arm64", "method = \"emulated\"\n");
    let said = other.build(&ATOMS[..1]);
    said.works();
    assert_eq!(content(&other), content(&bench), "{said}");
    let run = other.state.join("state/runs").join(said.run()).join("app-arch/bzip2-1.0.8");
    let status: serde_json::Value = serde_json::from_slice(&std::fs::read(run.join("status.json")).unwrap()).unwrap();
    let emulator = status["achieved"]["emulators"]["aarch64"].as_str().unwrap();
    assert!(emulator.contains("aarch64") && emulator.contains("registered"), "{emulator}");

    // A client of that machine takes them, and runs what is in them.
    let current = bench.profile_dir().join("current");
    let said = bench.client_in("debian-portage-arm64", "file:///srv/binhost", &current, &["app-arch/bzip2"]);
    said.works().prints(&[">>> Completed (1 of 1) app-arch/bzip2-1.0.8"]);
    // One of this machine does not.
    let said = bench.client("file:///srv/binhost", &current, &["app-arch/bzip2"]);
    assert_ne!(said.code, 0, "{said}");
    assert!(!said.out.contains(">>> Completed"), "{said}");
    assert!(!Path::new("/proc/sys/fs/binfmt_misc/aarch64").exists());
}

#[test]
fn what_is_built_finds_its_own_machines_interpreter_and_nothing_of_the_native_tools() {
    let bench = Bench::new("emulated-python");
    bench.write_profile_of("arm64", "method = \"native\"\ntrees = [\"bindery-test\", \"own\"]\n");
    bench.ready_with("debian-portage-arm64");
    let says = "import sys, sysconfig, platform; print(sysconfig.get_config_var('MULTIARCH'), platform.machine(), sys.executable)";
    let phase = format!("[[ :${{PATH}}: != *bindery* ]] || die \"${{PATH}}\"\npython3 -c \"{says}\" || die");
    bench.write_tree(&[("python", &format!("src_compile() {{\n{phase}\n}}\nsrc_install() {{\n{phase}\n}}\n"))]);
    // And pure Python, which asks its interpreter where things belong.
    let said = bench.build(&["own/python", "dev-python/flit-core"]);
    said.works();
    let log = bench.run(&["log", "own/python", "--run", &said.run()]);
    let own = "aarch64-linux-gnu aarch64 /usr/bin/python3\n";
    assert_eq!(log.works().out.matches(own).count(), 2, "{log}");
}

#[test]
fn a_build_that_the_emulator_does_not_survive_says_so_and_is_tried_without_native_tools() {
    let bench = Bench::new("emulated-crash");
    bench.write_profile_of("arm64", "method = \"native\"\ntrees = [\"bindery-test\", \"own\"]\n");
    bench.ready_with("debian-portage-arm64");
    // As qemu ends when what it runs does: by the signal, after a word.
    let crash = "echo 'qemu: uncaught target signal 11 (Segmentation fault) - core dumped' >&2; die gone";
    // A native shell is a program of amd64 (EM_X86_64, which is 62, as a character).
    let native = "[ \"$(head -c 19 /bin/sh | tail -c 1)\" = '>' ]";
    bench.write_tree(&[
        ("ever", &format!("src_compile() {{ {crash}; }}\n")),
        ("natively", &format!("src_compile() {{ if {native}; then {crash}; fi; }}\n")),
    ]);
    let said = bench.build(&["own/ever", "own/natively"]);
    said.fails(
        3,
        &[
            "own/natively-1 failed with native tools, and is built once more with everything emulated",
            "under qemu-aarch64 a program was ended by signal 11 (Segmentation fault)",
        ],
    );
    let remembered = |package: &str| bench.profile_dir().join("methods").join(package).exists();
    assert!(remembered("own/natively-1") && !remembered("own/ever-1"), "{said}");
    assert!(bench.profile_dir().join("pool/own/natively").exists(), "{said}");
}
