use super::*;
use crate::root::MASKED;

/// What `runc spec` writes (1.1.5).
fn template() -> Value {
    serde_json::from_str(include_str!("../../../tests/common/config.json")).unwrap()
}

fn around(terminal: bool) -> Around<'static> {
    let (folder, upper) = (Path::new("/srv/bundle"), Path::new("roots/1"));
    Around { folder, upper, uid: 100_000, gid: 200_000, terminal }
}

fn adopted(config: &Value, terminal: bool) -> Result<Value, Vec<String>> {
    let spec = adopt(&config.to_string(), &around(terminal));
    let spec = spec.map_err(|e| e.reasons.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(serde_json::to_value(spec).unwrap())
}

/// Returns the one refusal of the template with another value at a JSON pointer, whose last part may be new.
fn refusal(pointer: &str, value: Value) -> String {
    let mut config = template();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        parent => parent[key] = value,
    }
    let reasons = adopted(&config, true).expect_err(pointer);
    assert_eq!(reasons.len(), 1, "{pointer}: {reasons:?}");
    reasons[0].clone()
}

#[test]
fn the_template_of_runc_is_a_spec_of_the_sandbox() {
    let spec = adopted(&template(), true).unwrap();
    let mounts: Vec<_> =
        spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    assert_eq!(mounts, ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]);
    let lower = "lowerdir=/srv/bundle/rootfs";
    assert_eq!(spec["mounts"][0]["options"], json!([lower, "userxattr", "redirect_dir=nofollow", "volatile"]));
    assert_eq!((&spec["root"]["readonly"], &spec["hostname"]), (&json!(true), &json!("runc")));
    assert_eq!(spec["process"]["capabilities"]["ambient"], json!([]));
    assert_eq!(spec["process"]["oomScoreAdj"], 500);
    let has = |list: &Value, item: Value| list.as_array().unwrap().contains(&item);
    for path in ["/proc/mine", "/proc/interrupts", "/sys/fs/cgroup"] {
        assert!(has(&spec["linux"]["maskedPaths"], json!(path)), "{path}");
    }
    assert!(has(&spec["linux"]["readonlyPaths"], json!("/proc/pressure")));
    for typ in ["user", "cgroup", "network"] {
        assert!(has(&spec["linux"]["namespaces"], json!({"type": typ})), "{typ}");
    }
    assert_eq!(spec["linux"]["seccomp"], serde_json::to_value(super::super::seccomp::profile()).unwrap());
    assert_eq!(spec["linux"]["resources"], Value::Null);
}

#[test]
fn stricter_where_nothing_is_asked_for() {
    let mut config = template();
    config["process"].as_object_mut().unwrap().remove("noNewPrivileges");
    config["mounts"] = json!([{"destination": "/dev/", "type": "tmpfs", "source": "tmpfs"}]);
    config["linux"].as_object_mut().unwrap().remove("maskedPaths");
    config["linux"]["rootfsPropagation"] = json!("rslave");
    config["annotations"] = json!({"org.example.note": "x"});
    let spec = adopted(&config, true).unwrap();
    assert_eq!(spec["process"]["noNewPrivileges"], true);
    let mounts: Vec<_> =
        spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    assert_eq!(mounts, ["/", "/proc", "/dev", "/dev/pts"]);
    assert_eq!(spec["linux"]["maskedPaths"].as_array().unwrap().len(), MASKED.len());
    assert_eq!(spec["annotations"], json!({}));
    assert!(
        spec["process"]["rlimits"].as_array().unwrap().contains(&json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0}))
    );
}

#[test]
fn what_is_written_is_kept_in_the_root_or_thrown_away_on_request() {
    let mut config = template();
    config["root"]["readonly"] = json!(false);
    let spec = adopted(&config, true).unwrap();
    let root = json!({"destination": "/", "type": "bind", "source": "/srv/bundle/rootfs", "options": ["bind", "rw"]});
    assert_eq!(spec["mounts"][0], root);
    config["annotations"] = json!({"bindery.writes": "discard"});
    let spec = adopted(&config, true).unwrap();
    assert!(spec["mounts"][0]["options"].as_array().unwrap().contains(&json!("upperdir=roots/1/upper")));
    assert_eq!(spec["annotations"], json!({}));
}

#[test]
fn binds_are_of_the_bundles_folder_and_private() {
    let mut config = template();
    let bind = json!({"destination": "/x", "type": "none", "source": "data", "options": ["rbind", "rslave", "ro"]});
    config["mounts"].as_array_mut().unwrap().push(bind);
    let spec = adopted(&config, true).unwrap();
    let bind = json!({"destination": "/x", "type": "bind", "source": "/srv/bundle/data",
        "options": ["rbind", "ro", "nosuid", "nodev"]});
    assert_eq!(spec["mounts"].as_array().unwrap().last(), Some(&bind));
}

#[test]
fn all_that_cannot_be_done_is_said_at_once_with_what_to_change() {
    let mut config = template();
    config["hooks"] = json!({"prestart": [{"path": "/bin/x"}]});
    config["process"]["scheduler"] = json!({"policy": "SCHED_IDLE"});
    config["linux"]["cgroupsPath"] = json!("/x");
    config["linux"]["namespaces"] = json!([{"type": "mount"}]);
    config["vm"] = json!({"kernel": {"path": "/x"}});
    let reasons = adopted(&config, false).unwrap_err();
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    `process.terminal`: standard input and output are no terminal; set it to false, or run it on one
    `process.scheduler`: a sandbox does nothing of the kind; remove it
    `linux.namespaces`: without the pid namespace it would share the host's, which is never done; add `{"type": "pid"}`
    `linux.namespaces`: without the ipc namespace it would share the host's, which is never done; add `{"type": "ipc"}`
    `linux.namespaces`: without the uts namespace it would share the host's, which is never done; add `{"type": "uts"}`
    `linux.namespaces`: without a network namespace it would use the host's network; add `{"type": "network"}`, or, if that is meant, the annotation `bindery.network` = `host`
    `linux.cgroupsPath`: a sandbox does nothing of the kind; remove it
    `hooks`: a sandbox does nothing of the kind; remove it
    `vm`: a sandbox does nothing of the kind; remove it
    "#);
}

#[test]
fn what_has_no_meaning_here_is_refused_by_its_field() {
    for (pointer, value, field, instead) in [
        ("/ociVersion", json!("2.0.0"), "ociVersion", "1.x"),
        ("/root/path", json!(""), "root.path", "name the folder"),
        ("/root/path", json!("a:b"), "root.path", "rename"),
        ("/annotations", json!({"bindery.writes": "some"}), "annotations.bindery.writes", "`discard`"),
        ("/domainname", json!("x"), "domainname", "remove it"),
        ("/process/apparmorProfile", json!("x"), "process.apparmorProfile", "remove it"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0}), "process.ioPriority", "remove it"),
        ("/process/execCPUAffinity", json!({"initial": "0"}), "process.execCPUAffinity", "remove it"),
        ("/process/capabilities/bounding/0", json!("CAP_SYS_ADMIN"), "process.capabilities.bounding", "remove them"),
        ("/process/capabilities/effective", json!([]), "process.capabilities.effective", "the same"),
        ("/linux/sysctl", json!({"net.x": "1"}), "linux.sysctl", "remove it"),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 1}]),
            "linux.devices",
            "remove it",
        ),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy", "remove it"),
        ("/linux/resources/devices/0/allow", json!(true), "linux.resources.devices", "allow none"),
        ("/linux/rootfsPropagation", json!("shared"), "linux.rootfsPropagation", "remove it"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}), "linux.seccomp", "remove it"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "linux.uidMappings", "remove it"),
        (
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 5, "size": 65536}]),
            "linux.gidMappings",
            "remove it",
        ),
        ("/linux/namespaces/-", json!({"type": "time"}), "linux.namespaces", "remove it"),
        ("/linux/namespaces/-", json!({"type": "user", "path": "/proc/1/ns/user"}), "linux.namespaces", "`path`"),
        ("/mounts/0/type", json!("bind"), "mounts[0].type", "say `proc`"),
        ("/mounts/1/options/0", json!("lazytime"), "mounts[1].options", "remove it"),
        ("/mounts/5/options/3", json!("rw"), "mounts[5].options", "add `ro`"),
        ("/mounts/6/options/4", json!("rw"), "mounts[6].options", "add `ro`"),
        ("/mounts/4/type", json!("ext4"), "mounts[4].type", "bind a folder"),
        ("/mounts/4/destination", json!("x"), "mounts[4].destination", "absolute"),
        (
            "/mounts/4/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "mounts[4].uidMappings",
            "remove",
        ),
        (
            "/mounts/-",
            json!({"destination": "/x", "type": "bind", "source": "/x", "options": ["rbind", "rshared"]}),
            "mounts[7].options",
            "remove it",
        ),
    ] {
        let said = refusal(pointer, value);
        assert!(said.starts_with(&format!("`{field}`: ")) && said.contains(instead), "{said}");
    }
}

#[test]
fn the_hosts_network_is_asked_for_by_both_or_neither() {
    let mut config = template();
    config["linux"]["namespaces"].as_array_mut().unwrap().remove(1);
    let said = adopted(&config, true).unwrap_err();
    assert!(said[0].contains("the annotation `bindery.network` = `host`"), "{said:?}");
    config["annotations"] = json!({"bindery.network": "host"});
    config["mounts"][5] = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]});
    let spec = adopted(&config, true).unwrap();
    assert_eq!(spec["annotations"], json!({"bindery.network": "host"}));
    assert_eq!(spec["mounts"][6]["source"], "/sys");
    assert!(refusal("/annotations", json!({"bindery.network": "host"})).contains("remove one of them"));
}

#[test]
fn only_root_has_capabilities() {
    let mut config = template();
    config["process"]["user"]["uid"] = json!(1000);
    let said = adopted(&config, true).unwrap_err();
    assert!(said.iter().all(|reason| reason.contains("only root has capabilities here")), "{said:?}");
    config["process"]["capabilities"] = json!({"bounding": ["CAP_KILL"]});
    adopted(&config, true).unwrap();
}

#[test]
fn mappings_to_the_range_are_what_happens_anyhow() {
    let mut config = template();
    config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    adopted(&config, true).unwrap();
}

#[test]
fn what_is_written_for_others_is_read_again_with_the_filter_of_our_own() {
    let spec = adopt(&template().to_string(), &around(true)).unwrap();
    let exported = export(&spec, 100_000, 200_000, 65536);
    assert_eq!((&exported["root"]["path"], &exported["mounts"][0]["destination"]), (&json!("rootfs"), &json!("/proc")));
    let ours = serde_json::to_value(crate::root::seccomp::profile()).unwrap();
    assert_ne!(exported["linux"]["seccomp"], ours);
    let again = serde_json::to_value(adopt(&exported.to_string(), &around(true)).unwrap()).unwrap();
    assert_eq!(again["linux"]["seccomp"], ours);
    assert_eq!(again["mounts"][0]["source"], "/srv/bundle/rootfs");
}

#[test]
fn a_spec_of_our_own_keeps_all_but_its_writable_folder() {
    let mut config = adopted(&template(), true).unwrap();
    // Sets have no order.
    config["process"]["capabilities"] = Value::Null;
    config["mounts"][0]["options"] =
        json!(["lowerdir=l/b:l/a", "upperdir=roots/gone/upper", "workdir=roots/gone/work", "userxattr"]);
    let mut again = adopted(&config, false).unwrap();
    again["process"]["capabilities"] = Value::Null;
    let options = json!(["lowerdir=l/b:l/a", "upperdir=roots/1/upper", "workdir=roots/1/work", "userxattr"]);
    assert_eq!(again["mounts"][0]["options"], options);
    config["mounts"][0]["options"] = options;
    assert_eq!(config, again);
}

#[test]
fn what_is_no_config_json_is_an_error_and_no_panic() {
    for text in ["", "[]", "{", "{}", "{\"ociVersion\": 1}", "{\"ociVersion\": \"1.0.0\", \"mounts\": [1]}"] {
        let (folder, upper) = (Path::new("/b"), Path::new("u"));
        assert!(adopt(text, &Around { folder, upper, uid: 1, gid: 1, terminal: false }).is_err(), "{text}");
    }
}

/// Returns the rows of the table in docs/run.md: the names in the first column, in full, and the text of the second.
fn documented() -> Vec<(Vec<String>, String)> {
    let text = include_str!("../../../docs/run.md");
    let rows = text.lines().skip_while(|line| !line.starts_with("| field |")).skip(2);
    let row = |line: &str| {
        let mut cells = line.split('|').skip(1);
        let names = cells.next().unwrap().split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
        let parent = names[0].rsplit_once('.').map(|(parent, _)| format!("{parent}.")).unwrap_or_default();
        let full = |name: &String| if name.contains('.') { name.clone() } else { format!("{parent}{name}") };
        (names.iter().map(full).collect(), cells.next().unwrap().to_string())
    };
    rows.take_while(|line| line.starts_with("| `")).map(row).collect()
}

#[test]
fn docs_run_md_lists_the_fields_that_are_read_and_no_others() {
    let mut config = template();
    config["annotations"] = json!({"bindery.writes": "keep"});
    adopted(&config, true).unwrap();
    // Of a list any member stands for all.
    let plain =
        |path: &String| path.split('[').next().unwrap().to_string() + path.split(']').nth(1).unwrap_or_default();
    let taken: Vec<String> = take::TAKEN.with_borrow(|taken| taken.iter().map(plain).collect());
    let documented: Vec<String> = documented().into_iter().flat_map(|(names, _)| names).collect();
    assert!(documented.len() > 15, "{documented:?}");
    let below = |path: &str, parent: &str| path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'));
    for field in &documented {
        assert!(taken.contains(field), "docs/run.md has `{field}`, which is not read");
    }
    for field in &taken {
        let listed = documented.iter().any(|known| known == field || below(field, known) || below(known, field));
        assert!(listed, "`{field}` is read, and not in the table of docs/run.md");
    }
}

#[test]
fn docs_run_md_lists_the_limits_that_are_given_and_no_others() {
    let documented = documented();
    let (_, text) = documented.iter().find(|(names, _)| names == &["linux.resources"]).unwrap();
    let named: Vec<_> = text.split('`').skip(1).step_by(2).collect();
    // Whatever is left of the resources here is passed on, for the sandbox to look at (src/sandbox/plan/fields.rs).
    let known = include_str!("../../sandbox/plan/fields.rs");
    let given = known.lines().filter_map(|line| line.trim().strip_prefix("\"linux.resources.")?.strip_suffix("\","));
    let (mut given, mut named): (Vec<_>, Vec<_>) = (given.collect(), named);
    given.push("devices");
    given.sort_unstable();
    named.sort_unstable();
    assert_eq!(given, named);
}
