use super::*;

fn host(root: bool, container: Option<Container>) -> Host {
    Host {
        root,
        kernel: (6, 12),
        release: "6.12.0".to_string(),
        distribution: Distribution::Debian,
        container,
        covered: Vec::new(),
        filtered: false,
        no_new_privileges: false,
        program: "/opt/bindery".into(),
    }
}

fn only(name: &'static str, value: &'static str) -> impl Fn(&str) -> Option<String> {
    move |asked| (asked == name).then(|| value.to_string())
}

fn refusal(host: &Host, setting: impl Fn(&str) -> Option<String>) -> String {
    user_namespaces_by(host, Some(1), setting).join("\n")
}

#[test]
fn each_setting_that_forbids_user_namespaces_is_named_with_its_command() {
    let user = host(false, None);
    let text = refusal(&user, only("user.max_user_namespaces", "0"));
    assert!(text.contains("`sysctl -w user.max_user_namespaces=15000`"), "{text}");
    assert!(text.contains("echo user.max_user_namespaces=15000 >>/etc/sysctl.d/60-bindery.conf"), "{text}");
    let text = refusal(&user, only("kernel.unprivileged_userns_clone", "0"));
    assert!(text.contains("`sysctl -w kernel.unprivileged_userns_clone=1`"), "{text}");
    let text = refusal(&user, only("kernel.apparmor_restrict_unprivileged_userns", "1"));
    assert!(text.contains("profile bindery /opt/bindery flags=(unconfined)") && text.contains("userns,"), "{text}");
    assert!(text.contains("`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"), "{text}");
}

#[test]
fn what_does_not_concern_root_is_not_blamed_for_roots_troubles() {
    let root = host(true, None);
    let text = refusal(&root, only("kernel.unprivileged_userns_clone", "0"));
    assert!(!text.contains("unprivileged_userns_clone") && text.contains("RestrictNamespaces="), "{text}");
    assert!(refusal(&root, only("user.max_user_namespaces", "0")).contains("max_user_namespaces=15000"));
}

#[test]
fn a_kernel_without_user_namespaces_is_told_the_option() {
    let mend = user_namespaces_by(&host(false, None), Some(22), |_| None).join("\n");
    assert!(mend.contains("`CONFIG_USER_NS=y`"), "{mend}");
}

#[test]
fn each_engine_is_told_its_own_flags() {
    let with = |container| {
        let host = Host { covered: vec!["/proc/kcore".into()], ..host(true, Some(container)) };
        proc(&host).join("\n")
    };
    let (podman, docker) = (with(Container::Podman), with(Container::Docker));
    assert!(podman.contains("podman run --security-opt 'unmask=/proc/*'") && !podman.contains("docker"), "{podman}");
    assert!(
        docker.contains("docker run --security-opt systempaths=unconfined") && !docker.contains("podman"),
        "{docker}"
    );
    let both = with(Container::Other(String::new()));
    assert!(both.contains("podman run") && both.contains("docker run"), "{both}");
}

#[test]
fn outside_of_containers_nobody_is_told_of_flags() {
    let host = Host { covered: vec!["/proc/kcore".into()], ..host(true, None) };
    let all = [proc(&host), overlay(&host, "ext4", Some(1)), cgroup_mount(&host), delegation(&host, true)].concat();
    assert!(all.iter().all(|line| !line.contains("podman run") && !line.contains("docker run")), "{all:?}");
}

#[test]
fn file_systems_that_cannot_hold_a_root_have_their_own_advice() {
    let host = host(true, Some(Container::Podman));
    let of = |kind, errno| overlay(&host, kind, Some(errno)).join("\n");
    assert!(of("overlayfs", 22).contains("--volume bindery:/var/lib/bindery"));
    assert!(of("NFS", 22).contains("NFS cannot hold") && of("NFS", 22).contains("`--state DIR`"));
    assert!(of("ZFS", 22).contains("zfs set xattr=sa"));
    assert!(of("tmpfs", 22).contains("Linux 6.6"));
    assert!(of("ext4", 19).contains("`modprobe overlay`") && of("ext4", 19).contains("CONFIG_OVERLAY_FS=y"));
}

#[test]
fn packages_are_called_what_the_distribution_calls_them() {
    let of = |distribution| install(distribution, UIDMAP);
    assert_eq!(of(Distribution::Debian), "as root: `apt-get install uidmap`");
    assert_eq!(of(Distribution::Fedora), "as root: `dnf install shadow-utils`");
    assert_eq!(of(Distribution::Gentoo), "as root: `emerge sys-apps/shadow`");
    let all = of(Distribution::Other);
    assert!(["apt-get", "dnf", "pacman", "emerge"].iter().all(|command| all.contains(command)), "{all}");
}

#[test]
fn a_controller_that_is_not_handed_down_is_told_systemds_setting() {
    let text = controller(&host(false, None), true, "cpu", "CONFIG_CFS_BANDWIDTH").join("\n");
    assert!(
        text.contains("user@.service.d/delegate.conf") && text.contains("Delegate=cpu cpuset io memory pids"),
        "{text}"
    );
    assert!(text.contains("cgroup_disable=cpu") && text.contains("CONFIG_CFS_BANDWIDTH=y"), "{text}");
}
