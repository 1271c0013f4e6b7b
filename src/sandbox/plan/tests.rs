use serde_json::{Value, json};

use super::*;

/// The least that is a sandbox.
fn minimal() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "root"},
        "mounts": [
            {"destination": "/", "type": "overlay", "source": "overlay", "options":
                ["lowerdir=l/b:l/a", "upperdir=r/upper", "workdir=r/work", "userxattr", "redirect_dir=nofollow"]},
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            {"destination": "/x", "type": "bind", "source": "/host/x", "options": ["rbind", "ro", "nosymfollow"]},
        ],
        "process": {
            "args": ["/bin/true"], "env": ["A=b=c", "E="], "cwd": "/", "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true,
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        },
        "linux": {
            "namespaces": [{"type": "user"}, {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "cgroup"}, {"type": "network"}],
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []},
        },
    })
}

fn read(value: Value) -> Result<Plan, Unsupported> {
    Plan::read(&serde_json::from_value(value).unwrap())
}

/// Returns what reading says when the value at a JSON pointer is another one (null: none).
fn refusal(pointer: &str, value: Value) -> String {
    let mut spec = minimal();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap() {
        Value::Array(list) => {
            let at: usize = key.parse().unwrap();
            match value {
                Value::Null => drop(list.remove(at)),
                value if at == list.len() => list.push(value),
                value => list[at] = value,
            }
        }
        parent => parent[key] = value,
    }
    read(spec).expect_err(pointer).to_string()
}

#[test]
fn a_spec_becomes_a_plan() {
    let plan = read(minimal()).unwrap();
    assert_eq!(plan.overlay.lower, ["l/b", "l/a"]);
    assert_eq!(plan.overlay.upper, Some(("r/upper".to_string(), "r/work".to_string())));
    assert_eq!(plan.process.env, [("A".to_string(), "b=c".to_string()), ("E".to_string(), String::new())]);
    assert_eq!((plan.process.capabilities, plan.process.umask, plan.host_network), (vec![5], 0o022, false));
    let bind = plan.mounts.last().unwrap();
    assert_eq!((&bind.kind, bind.attributes), (&Kind::Bind("/host/x".into()), 0x0020_0001));
}

#[test]
fn limits_are_read_from_resources_and_annotations() {
    let mut spec = minimal();
    spec["linux"]["resources"] = json!({"memory": {"limit": 1000, "swap": 1024}, "pids": {"limit": 10},
        "cpu": {"quota": 150_000, "period": 100_000, "cpus": "0-1,3"}, "blockIO": {"weight": 10}});
    spec["annotations"] = json!({"bindery.time": "60", "bindery.silence": "5", "bindery.disk": "99",
        "bindery.idle": "7", "bindery.yield": "true"});
    let [time, silence, idle] = [60, 5, 7].map(|seconds| Some(Duration::from_secs(seconds)));
    let (cpu, memory, pids, disk) = (Some((150_000, 100_000)), Some(1000), Some(10), Some(99));
    let (cpuset, swap, io_weight) = (Some("0-1,3".parse().unwrap()), Some(24), Some(10));
    let wanted = Limits { cpu, cpuset, memory, swap, pids, io_weight, disk, time, silence, idle, gives_way: true };
    assert_eq!(read(spec).unwrap().limits, wanted);
}

#[test]
fn the_hosts_network_is_asked_for_twice_or_not_at_all() {
    let error = refusal("/annotations", json!({"bindery.network": "host"}));
    assert!(error.contains("network, together with `bindery.network=host`"), "{error}");
    let mut spec = minimal();
    spec["annotations"] = json!({"bindery.network": "host"});
    spec["linux"]["namespaces"].as_array_mut().unwrap().pop();
    assert!(read(spec).unwrap().host_network);
    assert!(refusal("/linux/namespaces/6", Value::Null).contains("lacks `linux.namespaces: "));
}

#[test]
fn fields_without_an_effect_are_refused_by_name() {
    for (pointer, value, field) in [
        ("/domainname", json!("x"), "domainname"),
        ("/hooks", json!({"prestart": [{"path": "/x"}]}), "hooks.prestart.path"),
        ("/process/apparmorProfile", json!("x"), "process.apparmorProfile"),
        ("/process/selinuxLabel", json!("x"), "process.selinuxLabel"),
        ("/process/consoleSize", json!({"height": 1, "width": 1}), "process.consoleSize.height"),
        ("/process/scheduler", json!({"policy": "SCHED_IDLE"}), "process.scheduler.policy"),
        ("/linux/sysctl", json!({"net.x": "1"}), "linux.sysctl.net.x"),
        ("/linux/cgroupsPath", json!("/x"), "linux.cgroupsPath"),
        ("/linux/uidMappings", json!([{"hostID": 1, "containerID": 0, "size": 1}]), "linux.uidMappings.containerID"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 1}]), "linux.devices.major"),
        ("/linux/rootfsPropagation", json!("shared"), "linux.rootfsPropagation"),
        ("/linux/mountLabel", json!("x"), "linux.mountLabel"),
        ("/linux/resources", json!({"cpu": {"shares": 1}}), "linux.resources.cpu.shares"),
        ("/linux/resources", json!({"unified": {"x": "y"}}), "linux.resources.unified.x"),
        ("/linux/resources", json!({"memory": {"disableOOMKiller": false}}), "linux.resources.memory.disableOOMKiller"),
        ("/linux/namespaces/0/path", json!("/proc/1/ns/user"), "linux.namespaces.path"),
        ("/linux/seccomp/listenerPath", json!("/x"), "linux.seccomp.listenerPath"),
        ("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_LOG"]), "linux.seccomp.flags"),
        ("/annotations", json!({"other": "x"}), "annotations.other"),
        (
            "/mounts/4/uidMappings",
            json!([{"hostID": 1, "containerID": 0, "size": 1}]),
            "mounts.uidMappings.containerID",
        ),
        ("/process/capabilities/ambient", json!(["CAP_KILL"]), "process.capabilities.ambient"),
        ("/process/capabilities/inheritable", json!(["CAP_KILL"]), "process.capabilities.inheritable"),
    ] {
        let error = refusal(pointer, value);
        assert_eq!(error, format!("the sandbox cannot do what the spec's `{field}` asks for"));
    }
}

#[test]
fn values_that_cannot_be_had_are_refused_with_their_field() {
    for (pointer, value, field, what) in [
        ("/root/path", json!("../x"), "root.path", "../x"),
        ("/process/env/0", json!("novalue"), "process.env", "novalue"),
        ("/process/cwd", json!("x/.."), "process.cwd", "absolute"),
        ("/process/args/1", json!("a\u{0}b"), "process.args or process.env", "NUL"),
        ("/process/capabilities/effective", json!([]), "process.capabilities.effective", "bounding"),
        ("/linux/namespaces/7", json!({"type": "time"}), "linux.namespaces", "time"),
        ("/linux/maskedPaths", json!(["proc"]), "linux.maskedPaths", "absolute"),
        ("/linux/resources", json!({"memory": {"limit": -1}}), "linux.resources.memory.limit", "-1"),
        ("/linux/resources", json!({"memory": {"limit": 5, "swap": 4}}), "linux.resources.memory.swap", "4, less"),
        ("/linux/resources", json!({"memory": {"limit": 5, "swap": -1}}), "linux.resources.memory.swap", "-1, less"),
        ("/linux/resources", json!({"memory": {"swap": 6}}), "linux.resources.memory.swap", "without a limit"),
        ("/linux/resources", json!({"cpu": {"cpus": "0-"}}), "linux.resources.cpu.cpus", "`0-` is not"),
        ("/linux/resources", json!({"cpu": {"quota": 9, "period": 1000}}), "linux.resources.cpu.quota", "9, below"),
        ("/linux/resources", json!({"cpu": {"quota": 9000, "period": 9}}), "linux.resources.cpu.period", "9"),
        ("/linux/resources", json!({"blockIO": {"weight": 9}}), "linux.resources.blockIO.weight", "9"),
        ("/annotations", json!({"bindery.yield": "perhaps"}), "annotations.bindery.yield", "perhaps"),
        ("/linux/resources", json!({"cpu": {"quota": 5}}), "linux.resources.cpu.period", "None"),
        ("/linux/resources", json!({"pids": {"limit": 0}}), "linux.resources.pids.limit", "0"),
        ("/annotations", json!({"bindery.time": "soon"}), "annotations.bindery.time", "soon"),
        ("/annotations", json!({"bindery.network": "some"}), "annotations.bindery.network", "some"),
        ("/linux/seccomp/architectures", json!(["SCMP_ARCH_ARM"]), "linux.seccomp.architectures", ""),
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_TRACE"), "linux.seccomp.syscalls.action", ""),
        (
            "/linux/seccomp/syscalls",
            json!([{"names": ["opne"], "action": "SCMP_ACT_ALLOW"}]),
            "linux.seccomp.syscalls.names",
            "opne",
        ),
        (
            "/linux/seccomp/syscalls",
            json!([{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]),
            "linux.seccomp.syscalls.args.index",
            "6",
        ),
        (
            "/linux/seccomp/syscalls",
            json!([{"names": ["open"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_GT"}]}]),
            "linux.seccomp.syscalls.args.op",
            "",
        ),
        ("/mounts/1/type", json!("ext4"), "mounts.type", "ext4"),
        ("/mounts/1/type", json!("cgroup"), "mounts.type", "cgroup"),
        ("/mounts/1/options", json!(["hidepid=2"]), "mounts.options", "hidepid"),
        ("/mounts/2/options", json!(["lazytime"]), "mounts.options", "lazytime"),
        ("/mounts/4/options", json!(["rbind", "idmap"]), "mounts.options", "idmap"),
        ("/mounts/4/options", json!(["rbind", "shared"]), "mounts.options", "shared"),
        ("/mounts/4/source", json!("x/../y"), "mounts.source", "absolute"),
        ("/mounts/4/destination", json!("/a/../b"), "mounts.destination", "absolute"),
        ("/mounts/4/destination", json!("/"), "mounts.destination", "second"),
        ("/mounts/0/options/0", json!("lowerdir=a:../b"), "mounts.options", "../b"),
        ("/mounts/0/options/0", json!("lowerdir=a::b"), "mounts.options", "``"),
        ("/mounts/0/options/0", json!("lowerdir=/a/../b"), "mounts.options", "/a/../b"),
        ("/mounts/0/options/0", json!("lowerdir=/"), "mounts.options", "`/`"),
        ("/mounts/0/options/1", json!("upperdir=/a"), "mounts.options", "/a"),
        ("/mounts/4/options", json!(["rbind", "noatime"]), "mounts.options", "noatime"),
        ("/mounts/0/options/0", json!("lowerdir=a,b"), "mounts.options", "a,b"),
        ("/mounts/0/options/5", json!("metacopy=on"), "mounts.options", "metacopy=on"),
    ] {
        let error = refusal(pointer, value);
        assert!(error.contains(&format!("spec's `{field}` asks for: ")) && error.contains(what), "{error}");
    }
}

#[test]
fn what_makes_it_a_sandbox_cannot_be_left_out() {
    for (pointer, value, lacks) in [
        ("/process", Value::Null, "process"),
        ("/linux", Value::Null, "linux"),
        ("/root", Value::Null, "root"),
        ("/linux/seccomp", Value::Null, "linux.seccomp"),
        ("/process/capabilities", Value::Null, "process.capabilities"),
        ("/process/noNewPrivileges", json!(false), "process.noNewPrivileges: true"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args/0", json!(""), "process.args"),
        ("/mounts/0", Value::Null, "mounts: an overlay, or a bind, on `/` as the first"),
        ("/mounts/1", Value::Null, "mounts: proc on /proc"),
        ("/mounts/2", Value::Null, "mounts: tmpfs on /dev"),
        ("/mounts/3", Value::Null, "mounts: devpts on /dev/pts"),
        ("/mounts/0/options/0", Value::Null, "mounts.options: lowerdir"),
        ("/mounts/0/options/1", Value::Null, "mounts.options: upperdir and workdir"),
        ("/mounts/0/options/3", Value::Null, "mounts.options: userxattr"),
        ("/mounts/0/options/4", Value::Null, "mounts.options: redirect_dir=nofollow"),
    ] {
        assert_eq!(refusal(pointer, value), format!("the spec lacks `{lacks}`, which the sandbox insists on"));
    }
}

#[test]
fn a_root_without_a_writable_folder_must_be_read_only() {
    let mut spec = minimal();
    spec["mounts"][0]["options"] = json!(["lowerdir=a", "userxattr", "redirect_dir=nofollow"]);
    assert!(read(spec.clone()).unwrap_err().to_string().contains("upperdir (or root.readonly)"));
    spec["root"]["readonly"] = json!(true);
    assert_eq!(read(spec).unwrap().overlay.upper, None);
}

#[test]
fn layers_may_be_folders_of_the_hosts() {
    let mut spec = minimal();
    spec["mounts"][0]["options"][0] = json!("lowerdir=/srv/top:l/a:/srv/bottom");
    let overlay = read(spec).unwrap().overlay;
    let folders: Vec<_> = overlay.host_folders().map(|(place, folder)| (place, folder.to_str().unwrap())).collect();
    assert_eq!(folders, [(0, "/srv/top"), (2, "/srv/bottom")]);
    assert!(!overlay.direct);
}

#[test]
fn a_folder_of_the_hosts_may_be_the_root_itself() {
    let mut spec = minimal();
    spec["mounts"][0] = json!({"destination": "/", "type": "bind", "source": "/srv/root", "options": ["bind", "rw"]});
    let plan = read(spec.clone()).unwrap();
    assert_eq!((plan.overlay.direct, plan.overlay.lower, plan.overlay.upper), (true, vec!["/srv/root".into()], None));
    let mut limited = spec.clone();
    limited["annotations"] = json!({"bindery.disk": "99"});
    assert!(read(limited).unwrap_err().to_string().contains("no layer of its own"));
    for (pointer, value, what) in [
        ("/mounts/0/source", json!("root"), "absolute"),
        ("/mounts/0/options", json!(["bind", "ro"]), "`ro` of the root"),
    ] {
        let mut odd = spec.clone();
        *odd.pointer_mut(pointer).unwrap() = value;
        let error = read(odd).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn all_fields_without_an_effect_are_named_at_once() {
    let mut spec = minimal();
    spec["domainname"] = json!("x");
    spec["linux"]["cgroupsPath"] = json!("/x");
    let found = super::unsupported(&serde_json::from_value(spec).unwrap());
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.len() == 2 && found[0].contains("domainname") && found[1].contains("cgroupsPath"), "{found:?}");
}
