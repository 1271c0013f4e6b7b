//! What a payload sees and can do, as far as the spec and our own interface say it. What attackers try is in the battery
//! (`tests/battery.rs`).

use bindery::root::{Network, Tmpfs};
use bindery::sandbox::Status;

use crate::host::{Host, is_root};

/// Returns what a script prints, which must succeed.
fn prints(host: &Host, script: &str) -> String {
    let ran = host.sh(script).unwrap();
    assert_eq!((ran.err.as_str(), ran.exit.status), ("", Status::Code(0)), "{script}: {}", ran.out);
    ran.out
}

/// Asserts that none of these commands succeeds.
fn fail(host: &Host, commands: &[&str]) {
    let script = commands.iter().map(|c| format!("if ({c}) >/dev/null 2>&1; then echo '{c}'; fi\n"));
    assert_eq!(prints(host, &script.collect::<String>()), "");
}

#[test]
fn its_status_shows_the_ids_capabilities_and_filter() {
    let text = prints(&Host::new(), "cat /proc/self/status; cat /proc/self/uid_map /proc/self/gid_map");
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_string();
    assert_eq!(field("CapInh:"), "0000000000000000");
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(set), "00000000800405fb");
    }
    assert_eq!(field("CapAmb:"), "0000000000000000");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:"), field("Umask:")), ("1".into(), "2".into(), "0022".into()));
    assert_eq!((field("Uid:"), field("Groups:")), ("0\t0\t0\t0".into(), String::new()));
    assert_eq!((field("SigIgn:"), field("SigBlk:")), ("0".repeat(16), "0".repeat(16)));
    let maps: Vec<_> = text.lines().rev().take(2).map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(maps, [["0", "0", "65535"], ["0", "0", "65535"]]);
}

#[test]
fn environment_and_working_folder_are_the_specs_alone() {
    assert_eq!(prints(&Host::new(), "tr '\\0' '\\n' </proc/self/environ; pwd"), "HOME=/root\nPATH=/bin\n/tmp\n");
}

#[test]
fn dev_holds_the_harmless_nodes_and_nothing_else() {
    let host = Host::new();
    assert_eq!(
        prints(&host, "cd /dev; for f in *; do echo $f; done"),
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
    );
    prints(&host, "echo x >/dev/null; head -c 4 /dev/urandom >/dev/shm/f; head -c 1 /dev/zero | cmp - /dev/zero -n 1");
    prints(&host, "exec 3<>/dev/ptmx; ls /dev/pts | grep -q 0; cat /dev/fd/0");
    fail(&host, &["mknod /tmp/n c 1 3", "mknod /dev/n b 8 0", "echo >/dev/full"]);
}

#[test]
fn parts_of_proc_are_hidden_or_read_only() {
    let host = Host::new();
    assert_eq!(
        prints(
            &host,
            "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null; ls /proc/acpi /proc/scsi 2>/dev/null | grep -v : || :"
        ),
        ""
    );
    let writes = [
        "sys/kernel/hostname",
        "sys/vm/drop_caches",
        "sys/user/max_user_namespaces",
        "sysrq-trigger",
        "irq/default_smp_affinity",
        "pressure/cpu",
    ];
    let writes = writes.map(|file| format!("echo 1 >/proc/{file}"));
    fail(&host, &writes.iter().map(String::as_str).collect::<Vec<_>>());
    fail(&host, &["cat /proc/1/environ", "readlink /proc/1/fd/0", "readlink /proc/1/exe", "cat /proc/1/maps", "dmesg"]);
    assert_eq!(prints(&host, "hostname; cat /proc/sys/user/max_user_namespaces >/dev/null"), "bindery\n");
    // Nobody but init and the shell, which looks by itself.
    assert_eq!(prints(&host, "set -- /proc/[0-9]*; echo $#"), "2\n");
}

#[test]
fn there_is_no_network_but_a_loopback_that_is_up() {
    let host = Host::new();
    let text = prints(
        &host,
        "ip -o link | cut -d' ' -f2,3; (echo hello | nc -l -p 5000 127.0.0.1 & sleep 1; nc 127.0.0.1 5000)",
    );
    assert!(text.starts_with("lo: <LOOPBACK,UP,LOWER_UP>\n") && text.lines().count() == 2, "{text}");
    assert!(text.ends_with("hello\n"), "{text}");
    fail(&host, &["ip link set lo down", "ip addr add 10.0.0.1/8 dev lo"]);
}

#[test]
fn the_hosts_network_is_there_when_asked_for_and_owned_by_nobody_inside() {
    let mut host = Host::new();
    host.network = Network::Host;
    let inside = prints(&host, "ls -l /proc/self/ns/net");
    let own = bindery::fs::read_link(std::path::Path::new("/proc/self/ns/net")).unwrap();
    assert!(inside.contains(own.to_str().unwrap()), "{inside}");
    fail(&host, &["ip link set lo down", "ip addr add 10.9.8.7/32 dev lo"]);
    let achieved = host.sh("true").unwrap().exit.achieved;
    assert_eq!(achieved.not_given[0], "network namespace: the host's network was asked for");
}

#[test]
fn files_can_be_given_away_and_have_any_mode() {
    let script = "umask; touch f g; chown 250:1000 f; chmod 4755 f; mkdir d; chgrp 65534 d; chmod 2775 d; mkfifo p; \
        ln f h; ln -s f l; chmod 1777 d; mv g d/g; stat -c '%n %u %g %a %h' f d p; setpriv --nnp true || true; \
        chroot / true; dd if=/dev/null of=sparse bs=1 seek=1099511627776 2>/dev/null; stat -c %s sparse";
    let text = prints(&Host::new(), script);
    assert_eq!(text, "0022\nf 250 1000 4755 2\nd 0 65534 1777 2\np 0 0 644 1\n1099511627776\n");
    fail(&Host::new(), &["touch f; chown 65535 f"]);
}

#[test]
fn a_read_only_bind_cannot_be_written_by_any_name() {
    let mut host = Host::new();
    let folder = host.folder("source/below");
    bindery::fs::write(&folder.join("file"), "old").unwrap();
    // The owner in the id range, so that only the mount stands in the way.
    bindery::sandbox::range::give(&host.ids, &folder).unwrap();
    bindery::sandbox::range::give(&host.ids, &folder.join("file")).unwrap();
    let source = host.dir.path().join("source");
    host.bind(&source, "/mnt/source", false);
    let writes = [
        "echo new >/mnt/source/below/file",
        "touch /mnt/source/below/new",
        "rm /mnt/source/below/file",
        "mv /mnt/source/below/file /mnt/source/below/other",
        "ln /mnt/source/below/file /tmp/file",
        "chmod 777 /mnt/source/below/file",
        "mount -o remount,rw /mnt/source",
        "exec 3</mnt/source/below/file; echo new >/proc/self/fd/3",
    ];
    fail(&host, &writes);
    assert_eq!(bindery::fs::read_to_string(&folder.join("file")).unwrap(), "old");
}

#[test]
fn a_writable_bind_and_a_tmpfs_can_be_written() {
    let mut host = Host::new();
    let folder = host.folder("out");
    bindery::sandbox::range::give(&host.ids, &folder).unwrap();
    host.bind(&folder, "/out", true);
    host.tmpfs.push(Tmpfs { to: "/fast".parse().unwrap(), size: 1 << 20, mode: 0o1777 });
    assert_eq!(
        prints(&host, "echo hi >/out/f; touch /fast/f; df /fast | tail -1 | tr -s ' ' | cut -d' ' -f2"),
        "1024\n"
    );
    assert_eq!(bindery::fs::read_to_string(&folder.join("f")).unwrap(), "hi\n");
}

#[test]
fn a_root_without_a_writable_folder_is_read_only_and_still_gets_its_mount_points() {
    let mut host = Host::new();
    host.readonly = true;
    let folder = host.folder("out");
    host.bind(&folder, "/some/where/new", false);
    prints(&host, "test -d /some/where/new; touch /dev/shm/f");
    fail(&host, &["touch /tmp/f", "mkdir /new", "rm /bin/sh"]);
}

#[test]
fn what_is_written_in_the_root_is_in_its_writable_folder_alone() {
    let host = Host::new();
    let mut lease = bindery::state::Lease::take(&host.state, "test").unwrap();
    let mut nothing = |_, _: &[u8]| {};
    let capture = bindery::sandbox::Stdio::Capture(&mut nothing);
    // Twice: a root is used by several commands in turn.
    host.run(&mut lease, &["touch", "/new"], capture).unwrap();
    let mut out = Vec::new();
    let mut collect = |_, bytes: &[u8]| out.extend_from_slice(bytes);
    let exit = host.run(&mut lease, &["ls", "/new"], bindery::sandbox::Stdio::Capture(&mut collect)).unwrap();
    assert_eq!((exit.status, out.as_slice()), (Status::Code(0), &b"/new\n"[..]));
    let new = bindery::fs::metadata(&lease.root().join("upper/new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&new), host.ids.uid());
    assert!(!host.base().join("new").exists());
}

#[test]
fn what_was_achieved_is_told() {
    let achieved = Host::new().sh("true").unwrap().exit.achieved;
    assert_eq!(achieved.namespaces, ["cgroup", "ipc", "mnt", "net", "pid", "user", "user", "uts"]);
    assert_eq!((achieved.capabilities.len(), achieved.network.as_str()), (11, "none"));
    assert_eq!(achieved.ids.is_roots(), is_root());
    assert!(achieved.seccomp_instructions > 100 && achieved.limits.is_empty());
}

#[test]
fn the_spec_may_ask_for_another_user_and_for_less() {
    let mut host = Host::new();
    host.edit = |spec| {
        spec["process"]["user"] = serde_json::json!({"uid": 250, "gid": 250, "additionalGids": [7], "umask": 0o077});
        spec["process"]["rlimits"] = serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]);
        spec["linux"]["personality"] = serde_json::json!({"domain": "LINUX32"});
    };
    let text = prints(
        &host,
        "id -u; id -G; umask; ulimit -Sn; ulimit -Hn; uname -m; grep -E 'Cap(Prm|Eff)' /proc/self/status",
    );
    assert_eq!(text, "250\n250 7\n0077\n64\n128\ni686\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n");
}

#[test]
fn no_user_of_the_host_reaches_what_a_payload_wrote() {
    let host = Host::new();
    let mut lease = bindery::state::Lease::take(&host.state, "test").unwrap();
    let command = ["sh", "-c", "cp /bin/busybox /id; chmod 4755 /id"];
    host.run(&mut lease, &command, bindery::sandbox::Stdio::Capture(&mut |_, _| {})).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&bindery::fs::metadata(lease.root()).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o700);
}
