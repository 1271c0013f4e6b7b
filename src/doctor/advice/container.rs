//! What the container around bindery must be started with. docs/containers.md has it all together.

use crate::doctor::host::Host;

/// Where the rest is.
const MORE: &str = "docs/containers.md has complete command lines";

/// Returns the lines for the engines that may be around, and the page that has everything.
fn flags(host: &Host, podman: &str, docker: &str) -> Vec<String> {
    let Some(container) = &host.container else { return Vec::new() };
    let mut mend = Vec::new();
    if container.is_podman() {
        mend.push(format!("start the container with `podman run {podman} …`"));
    }
    if container.is_docker() {
        mend.push(format!("start the container with `docker run {docker} …`"));
    }
    mend.push(MORE.to_string());
    mend
}

pub(super) fn user_namespaces(host: &Host) -> Vec<String> {
    if host.container.is_none() {
        return vec![
            "something around bindery forbids them: a service of systemd must not have `RestrictNamespaces=`, and \
             SELinux or another security module not deny them"
                .to_string(),
            super::options("`CONFIG_USER_NS=y`"),
        ];
    }
    let podman = "--security-opt seccomp=unconfined";
    flags(host, podman, "--security-opt seccomp=unconfined --security-opt apparmor=unconfined")
}

pub(in crate::doctor) fn refused_call(host: &Host) -> Vec<String> {
    if host.filtered {
        let unconfined = "--security-opt seccomp=unconfined";
        return flags(host, unconfined, unconfined);
    }
    vec![super::options("what Linux 6.1's defaults have")]
}

pub(in crate::doctor) fn refused_mount(host: &Host) -> Vec<String> {
    let docker = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined";
    let mut mend = flags(host, "--security-opt seccomp=unconfined --security-opt label=disable", docker);
    if mend.is_empty() {
        mend = vec!["a security module (SELinux, AppArmor, Landlock) may deny it: see `dmesg`".to_string()];
    }
    mend
}

pub(in crate::doctor) fn host_name(host: &Host) -> Vec<String> {
    if host.container.is_none() {
        return refused_call(host);
    }
    // No power is needed to be called what one is called already.
    flags(host, "--hostname bindery", "--hostname bindery")
}

pub(super) fn proc(host: &Host) -> Vec<String> {
    let mut mend = vec![
        "the kernel lets nobody mount a /proc that shows more than the one around, so nothing may be mounted below that \
         (`findmnt -R /proc` lists what is)"
            .to_string(),
    ];
    if host.container.is_some() {
        mend.extend(flags(host, "--security-opt 'unmask=/proc/*'", "--security-opt systempaths=unconfined"));
        mend.push("in Kubernetes: `hostUsers: false`, and `securityContext.procMount: Unmasked`".to_string());
    } else {
        mend.push(
            "a service of systemd must not have `ProtectKernelTunables=`, `ProtectKernelLogs=`, `ProtectProc=` or \
             `ProcSubset=`"
                .to_string(),
        );
    }
    mend
}

pub(super) fn volume(host: &Host) -> Vec<String> {
    let volume = "--volume bindery:/var/lib/bindery";
    let mut mend = vec![
        "the kernel does not stack writable layers: the state must lie on a volume, not in the container's root"
            .to_string(),
    ];
    mend.extend(flags(host, volume, volume));
    mend.push("`--state DIR` (or `BINDERY_STATE`) says where else the volume is".to_string());
    mend
}

pub(super) fn cgroups() -> Vec<String> {
    vec![
        "a container's groups are read-only: limit the container itself (`--cpus`, `--memory`, `--pids-limit`), and bindery's builds share that"
            .to_string(),
        "or hand them down: `podman run --security-opt unmask=/sys/fs/cgroup …` with Podman on v2, `docker run --privileged …`"
            .to_string(),
    ]
}

pub(in crate::doctor) fn more_ids(host: &Host) -> Vec<String> {
    if host.container.is_none() {
        return Vec::new();
    }
    vec![
        "for a container of an ordinary user (rootless Podman, rootless Docker), on the machine, as root: `usermod \
         --add-subuids 200000-331071 --add-subgids 200000-331071 USER` (131072 ids that are nobody's), then as USER: \
         `podman system migrate`"
            .to_string(),
        "for a container of root's: without `--userns`, `--uidmap` or Docker's `userns-remap`".to_string(),
    ]
}
