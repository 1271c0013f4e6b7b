use super::*;

fn command() -> Command {
    Command {
        args: vec!["/bin/sh".into(), "-c".into(), "exit 0".into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: "/tmp".parse().unwrap(),
        terminal: false,
    }
}

fn make(root: &Root, binds: &[Bind], tmpfs: &[Tmpfs], limits: &Limits, network: Network) -> serde_json::Value {
    serde_json::to_value(spec(root, binds, tmpfs, &command(), limits, network)).unwrap()
}

fn root() -> Root {
    Root { lower: vec!["l/b".into(), "l/a".into()], upper: Some("roots/1".into()) }
}

#[test]
fn mounts_are_the_overlay_the_kernels_and_then_what_was_asked_for() {
    let binds = [
        Bind { from: "/host/tree".into(), to: "/var/db/repos/x".parse().unwrap(), writable: false },
        Bind { from: "/host/out".into(), to: "/out".parse().unwrap(), writable: true },
    ];
    let tmpfs = [Tmpfs { to: "/var/tmp".parse().unwrap(), size: 4096, mode: 0o1777 }];
    let value = make(&root(), &binds, &tmpfs, &Limits::default(), Network::None);
    let text = |mount: &serde_json::Value| {
        let options = mount["options"].as_array().unwrap().iter().map(|option| option.as_str().unwrap());
        let options = options.collect::<Vec<_>>().join(",");
        let field = |name: &str| mount[name].as_str().unwrap().to_string();
        format!("{} {} {} {options}", field("type"), field("source"), field("destination"))
    };
    let mounts: Vec<_> = value["mounts"].as_array().unwrap().iter().map(text).collect();
    insta::assert_snapshot!(mounts.join("\n"), @r"
    overlay overlay / lowerdir=l/b:l/a,upperdir=roots/1/upper,workdir=roots/1/work,userxattr,redirect_dir=nofollow,volatile
    proc proc /proc nosuid,noexec,nodev
    tmpfs tmpfs /dev nosuid,noexec,mode=755,size=64k
    devpts devpts /dev/pts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5
    tmpfs tmpfs /dev/shm nosuid,nodev,mode=1777,size=1g
    mqueue mqueue /dev/mqueue nosuid,noexec,nodev
    tmpfs tmpfs /var/tmp nosuid,nodev,size=4096,mode=1777
    bind /host/tree /var/db/repos/x rbind,ro,nosuid,nodev
    bind /host/out /out rbind,rw,nosuid,nodev
    ");
}

#[test]
fn the_process_is_root_with_eleven_capabilities_and_no_way_to_more() {
    let value = make(&root(), &[], &[], &Limits::default(), Network::None);
    let process = &value["process"];
    insta::assert_snapshot!(
        format!("{} {} {} {}", process["args"], process["env"], process["cwd"], process["user"]),
        @r#"["/bin/sh","-c","exit 0"] ["PATH=/usr/bin:/bin"] "/tmp" {"gid":0,"uid":0,"umask":18}"#
    );
    let set = |name: &str| {
        let mut set: Vec<_> =
            process["capabilities"][name].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
        set.sort_unstable();
        set.join(" ")
    };
    insta::assert_snapshot!(set("bounding"), @"CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_BIND_SERVICE CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT");
    assert_eq!((set("permitted"), set("effective")), (set("bounding"), set("bounding")));
    assert_eq!((set("inheritable"), set("ambient")), (String::new(), String::new()));
    assert_eq!(process["noNewPrivileges"], true);
}

#[test]
fn limits_are_resources_and_annotations() {
    let limits = Limits {
        cpus: Some(1.5),
        cpuset: Some("0-3,8".parse().unwrap()),
        memory: Some(1 << 30),
        swap: Some(1 << 20),
        pids: Some(4096),
        io_weight: Some(50),
        disk: Some(1 << 34),
        time: Some(Duration::from_secs(3600)),
        silence: Some(Duration::from_millis(10)),
        idle: Some(Duration::from_secs(900)),
        gives_way: true,
    };
    let value = make(&root(), &[], &[], &limits, Network::None);
    insta::assert_snapshot!(value["linux"]["resources"], @r#"{"blockIO":{"weight":50},"cpu":{"cpus":"0-3,8","period":100000,"quota":150000},"memory":{"limit":1073741824,"swap":1074790400},"pids":{"limit":4096}}"#);
    insta::assert_snapshot!(value["annotations"], @r#"{"bindery.disk":"17179869184","bindery.idle":"900","bindery.network":"none","bindery.silence":"1","bindery.time":"3600","bindery.yield":"true"}"#);
    let only = |limits| make(&root(), &[], &[], &limits, Network::None)["linux"]["resources"].to_string();
    let memory = Limits { memory: Some(1000), ..Limits::default() };
    assert_eq!(only(memory), r#"{"memory":{"limit":1000,"swap":1000}}"#);
    let cpuset = Limits { cpuset: Some("1".parse().unwrap()), ..Limits::default() };
    assert_eq!(only(cpuset), r#"{"cpu":{"cpus":"1"}}"#);
    let none = make(&root(), &[], &[], &Limits::default(), Network::None);
    assert!(none["linux"].get("resources").is_none());
}

#[test]
fn only_the_hosts_network_leaves_a_namespace_out() {
    let namespaces = |network| {
        let value = make(&root(), &[], &[], &Limits::default(), network);
        let names = value["linux"]["namespaces"].as_array().unwrap().iter().map(|ns| ns["type"].as_str().unwrap());
        (names.collect::<Vec<_>>().join(" "), value["annotations"]["bindery.network"].clone())
    };
    assert_eq!(namespaces(Network::None), ("user mount pid ipc uts cgroup network".into(), "none".into()));
    assert_eq!(namespaces(Network::Host), ("user mount pid ipc uts cgroup".into(), "host".into()));
}

#[test]
fn a_root_without_a_writable_folder_is_read_only() {
    let root = Root { upper: None, ..root() };
    let value = make(&root, &[], &[], &Limits::default(), Network::None);
    assert_eq!(value["root"], serde_json::json!({"path": "root", "readonly": true}));
    assert!(!value["mounts"][0]["options"].to_string().contains("upperdir"));
}

#[test]
fn the_filter_names_every_call_once() {
    let value = make(&root(), &[], &[], &Limits::default(), Network::None);
    let rules = value["linux"]["seccomp"]["syscalls"].as_array().unwrap();
    let mut names: Vec<_> = rules[0]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.len() > 350, "{}", names.len());
    for name in ["clone", "clone3", "unshare", "ioctl", "personality", "socket", "socketcall", "mount", "setns", "bpf"]
    {
        assert!(!names.contains(&name), "{name}");
    }
    let count = names.len();
    names.dedup();
    assert_eq!(count, names.len());
}

#[test]
fn calls_that_only_the_machines_owner_makes_are_not_in_the_filter() {
    // The kernel refuses them to the payload in any case, so no probe of the battery could tell.
    let spec = make(&root(), &[], &[], &Limits::default(), Network::None)["linux"]["seccomp"].to_string();
    let calls = "init_module finit_module delete_module kexec_load kexec_file_load acct swapoff syslog vhangup nfsservctl \
        quotactl_fd mount setns pivot_root lookup_dcookie";
    for name in calls.split_whitespace() {
        assert!(!spec.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn a_spec_is_a_config_json() {
    let spec = spec(&root(), &[], &[], &command(), &Limits::default(), Network::None);
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
}
