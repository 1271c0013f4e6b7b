//! How to mend it, in words: one way or step a line, with the commands as they are typed (by root, where they change the
//! host). What is known of the host chooses: its distribution's package names, its settings, the container around.

use crate::doctor::host::{Container, Distribution, Host};
use packages::{MMDEBSTRAP, PIP, UIDMAP, install};

mod container;
mod packages;
#[cfg(test)]
mod tests;

pub(super) use container::{host_name, more_ids, refused_call, refused_mount};

/// Where settings of the kernel are kept for the next start.
const SYSCTL: &str = "/etc/sysctl.d/60-bindery.conf";

/// Returns how a setting is made now and for good.
fn set(setting: &str, now: &str, value: &str) -> [String; 2] {
    [
        format!("the setting `{setting}={now}` forbids it; as root: `sysctl -w {setting}={value}`"),
        format!("to keep it: `echo {setting}={value} >>{SYSCTL}`"),
    ]
}

/// Returns the kernel options to switch on, which distributions' kernels have.
fn options(names: &str) -> String {
    format!(
        "a kernel of your own (Gentoo: `make menuconfig` in /usr/src/linux) needs {names}; distributions' kernels have it"
    )
}

fn module(name: &str, option: &str) -> Vec<String> {
    vec![
        format!("as root: `modprobe {name}`; to keep it: `echo {name} >/etc/modules-load.d/{name}.conf`"),
        "`modprobe` finds no modules of a kernel that was replaced by an update: start the machine again".to_string(),
        options(&format!("`{option}=y`")),
    ]
}

/// Settings that forbid user namespaces: name, the value that does, the value that does not.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("user.max_user_namespaces", "0", "15000"),
    // Debian's, Ubuntu's and Arch's (linux-hardened) kernels.
    ("kernel.unprivileged_userns_clone", "0", "1"),
    // Ubuntu's from 23.10 on.
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
];

pub(super) fn user_namespaces(host: &Host, errno: Option<i32>) -> Vec<String> {
    user_namespaces_by(host, errno, Host::setting)
}

fn user_namespaces_by(host: &Host, errno: Option<i32>, setting: impl Fn(&str) -> Option<String>) -> Vec<String> {
    const TOO_MANY: i32 = 28;
    const UNKNOWN: [i32; 2] = [22, 38];
    let is = |(name, bad, _): &&(&str, &str, &str)| {
        // Root of the machine is not restricted by what is about the unprivileged.
        (*name == "user.max_user_namespaces" || !host.root) && setting(name).as_deref() == Some(bad)
    };
    let mut mend = Vec::new();
    for (name, bad, good) in SETTINGS.iter().filter(is) {
        if name.contains("apparmor") {
            mend.extend(apparmor(host));
        }
        mend.extend(set(name, bad, good));
    }
    if mend.is_empty() && errno == Some(TOO_MANY) {
        mend.push(
            "there are too many, or they are nested too deeply (32 at most): see `user.max_user_namespaces`"
                .to_string(),
        );
    }
    if mend.is_empty() && errno.is_some_and(|errno| UNKNOWN.contains(&errno)) {
        mend.push(options("`CONFIG_USER_NS=y`"));
    }
    if mend.is_empty() {
        mend = container::user_namespaces(host);
    }
    mend
}

/// Returns how bindery alone is let through: a profile that confines nothing and allows user namespaces.
fn apparmor(host: &Host) -> [String; 2] {
    let program = host.program.display();
    let profile = format!(
        "abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile bindery {program} flags=(unconfined) {{\\n  userns,\\n\
         \x20 include if exists <local/bindery>\\n}}\\n"
    );
    [
        "AppArmor keeps programs without a profile from using user namespaces (Ubuntu 24.04 and later); either give \
         bindery one, as root:"
            .to_string(),
        format!(
            "`printf '{profile}' >/etc/apparmor.d/bindery && apparmor_parser -r /etc/apparmor.d/bindery`, or for all:"
        ),
    ]
}

pub(super) fn namespaces(host: &Host) -> Vec<String> {
    let mut mend = user_namespaces(host, Some(1));
    mend.push(options(
        "`CONFIG_NAMESPACES=y` with `CONFIG_UTS_NS`, `CONFIG_IPC_NS`, `CONFIG_PID_NS`, and `CONFIG_CGROUPS`",
    ));
    mend.push(
        "see also `user.max_mnt_namespaces`, `user.max_pid_namespaces` and their like: none may be 0".to_string(),
    );
    mend
}

pub(super) fn network_namespace(host: &Host) -> Vec<String> {
    let mut mend = Vec::new();
    if Host::setting("user.max_net_namespaces").as_deref() == Some("0") {
        mend.extend(set("user.max_net_namespaces", "0", "15000"));
    }
    mend.push(options("`CONFIG_NET_NS=y`"));
    mend.extend(refused_call(host));
    mend
}

pub(super) fn seccomp(host: &Host) -> Vec<String> {
    let mut mend = vec![options("`CONFIG_SECCOMP=y` and `CONFIG_SECCOMP_FILTER=y`")];
    mend.extend(refused_call(host));
    mend
}

pub(super) fn i386(host: &Host) -> Vec<String> {
    let mut mend = vec![
        "where packages are built for 32 bits too (multilib): start the kernel with `ia32_emulation=1`".to_string(),
        options("`CONFIG_IA32_EMULATION=y`"),
    ];
    mend.extend(refused_call(host));
    mend
}

pub(super) fn landlock() -> Vec<String> {
    vec![
        "start the kernel with `lsm=landlock,…`, the others being those of `/sys/kernel/security/lsm`".to_string(),
        options("`CONFIG_SECURITY_LANDLOCK=y`"),
    ]
}

pub(super) fn landlock_scopes() -> Vec<String> {
    vec!["Linux 6.12 and later have scopes; without `--network` nothing is lost".to_string()]
}

pub(super) fn proc(host: &Host) -> Vec<String> {
    if !host.covered.is_empty() {
        return container::proc(host);
    }
    vec![
        "a service of systemd must not have `ProtectKernelTunables=`, `ProtectKernelLogs=`, `ProtectProc=` or `ProcSubset=`"
            .to_string(),
        "the /proc here must not be mounted with `subset=pid`, nor be missing".to_string(),
    ]
}

pub(super) fn file_systems(host: &Host) -> Vec<String> {
    let mut mend = vec![options("`CONFIG_TMPFS=y`, `CONFIG_UNIX98_PTYS=y` and `CONFIG_POSIX_MQUEUE=y`")];
    mend.extend(refused_mount(host));
    mend
}

pub(super) fn overlay(host: &Host, kind: &str, errno: Option<i32>) -> Vec<String> {
    const NO_SUCH_TYPE: i32 = 19;
    if errno == Some(NO_SUCH_TYPE) {
        return module("overlay", "CONFIG_OVERLAY_FS");
    }
    let elsewhere = "`--state DIR` (or `BINDERY_STATE`) puts everything on another file system: ext4, btrfs, xfs";
    match kind {
        "overlayfs" => container::volume(host),
        "tmpfs" | "ramfs" => {
            vec![format!("a writable layer in memory needs Linux 6.6, with `CONFIG_TMPFS_XATTR=y`; {elsewhere}")]
        }
        "NFS" | "eCryptfs" | "FUSE" | "9p" | "CIFS" | "SMB" | "FAT" | "NTFS" => {
            vec![format!("{kind} cannot hold what is written in a root (no overlay upper folder); {elsewhere}")]
        }
        "ZFS" => {
            vec![format!("ZFS can since OpenZFS 2.2, with `zfs set xattr=sa acltype=posix DATASET`; else {elsewhere}")]
        }
        _ => {
            let mut mend = refused_mount(host);
            mend.push(elsewhere.to_string());
            mend
        }
    }
}

pub(super) fn id_mapped(host: &Host, kind: &str) -> Vec<String> {
    if !host.root {
        return vec![
            "nothing to mend: the kernel lets only root do that, and nothing of an ordinary user's needs it"
                .to_string(),
        ];
    }
    vec![match &host.container {
        Some(_) => "only the machine's own root can, not a container's; nothing but convenience is lost".to_string(),
        None => format!("{kind} may lack it: ext4, btrfs and xfs have it; nothing but convenience is lost"),
    }]
}

pub(super) fn devices(host: &Host) -> Vec<String> {
    match &host.container {
        Some(_) => {
            vec!["the container must have the usual nodes in /dev, which engines make by themselves".to_string()]
        }
        None => vec!["/dev must be the system's own, mounted without `nodev` (devtmpfs, as udev has it)".to_string()],
    }
}

pub(super) fn binfmt() -> Vec<String> {
    vec![
        "Linux 6.7 and later can; below, what the host has registered with the flag `F` is used: on Debian `apt install \
         qemu-user-static binfmt-support`"
            .to_string(),
        options("`CONFIG_BINFMT_MISC=y`"),
    ]
}

pub(super) fn mapper(host: &Host) -> Vec<String> {
    vec![install(host.distribution, UIDMAP)]
}

pub(super) fn mapper_without_power(host: &Host, tool: &str) -> Vec<String> {
    let capability = if tool == "newuidmap" { "cap_setuid=ep" } else { "cap_setgid=ep" };
    let mut mend = vec![
        format!("as root: `chmod u+s \"$(command -v {tool})\"`, or `setcap {capability} \"$(command -v {tool})\"`"),
        "and its file system must not be mounted `nosuid`".to_string(),
    ];
    if host.distribution == Distribution::Debian {
        mend.insert(0, "as root: `apt install --reinstall uidmap`".to_string());
    }
    mend
}

pub(super) fn mapper_refused(host: &Host) -> Vec<String> {
    let mut mend = Vec::new();
    if host.no_new_privileges {
        mend.push("this process cannot gain privileges: start bindery outside of `no_new_privs` (systemd: `NoNewPrivileges=no`, Docker and Podman: without `--security-opt no-new-privileges`)".to_string());
    }
    mend.push("the ids must be this user's in /etc/subuid and /etc/subgid, and the file system of the program not be mounted `nosuid`".to_string());
    if host.container.is_some() {
        mend.extend(more_ids(host));
    }
    mend
}

pub(super) fn shared_ids() -> Vec<String> {
    vec!["files of one's roots would belong to the other: give each user a range of its own in /etc/subuid and /etc/subgid".to_string()]
}

pub(super) fn cgroup_mount(host: &Host) -> Vec<String> {
    match &host.container {
        Some(_) => container::cgroups(),
        None => vec![
            "as root: `mount -t cgroup2 cgroup2 /sys/fs/cgroup` (systemd and OpenRC do that)".to_string(),
            options("`CONFIG_CGROUPS=y`"),
        ],
    }
}

pub(super) fn delegation(host: &Host, v2: bool) -> Vec<String> {
    if host.container.is_some() {
        return container::cgroups();
    }
    if host.root {
        return vec![
            "/sys/fs/cgroup must be writable; a service of systemd must not have `ProtectControlGroups=`".to_string(),
        ];
    }
    if !v2 {
        return vec!["v1 is root's alone: start the machine with `systemd.unified_cgroup_hierarchy=1` for v2, or bindery as root".to_string()];
    }
    vec![
        "start bindery in a group of its own: `systemd-run --user --scope -p Delegate=yes bindery …`".to_string(),
        "without systemd, root makes one: `mkdir /sys/fs/cgroup/USER; chown -R USER /sys/fs/cgroup/USER`, and puts the shell in it".to_string(),
    ]
}

pub(super) fn controller(host: &Host, v2: bool, name: &str, option: &str) -> Vec<String> {
    let mut mend = Vec::new();
    if host.container.is_some() {
        mend.extend(container::cgroups());
    } else if v2 && !host.root {
        mend.push(format!(
            "systemd hands it down once told, as root: `mkdir -p /etc/systemd/system/user@.service.d; printf \
             '[Service]\\nDelegate=cpu cpuset io memory pids\\n' >/etc/systemd/system/user@.service.d/delegate.conf; \
             systemctl daemon-reload`; then log in anew, and `systemd-run --user --scope -p Delegate=yes bindery …` ({name})"
        ));
    }
    mend.push(format!("it may be switched off: the kernel's command line must not have `cgroup_disable={name}`"));
    mend.push(options(&format!("`{option}=y`")));
    mend
}

pub(super) fn pressure() -> Vec<String> {
    vec!["start the kernel with `psi=1`".to_string(), options("`CONFIG_PSI=y`")]
}

pub(super) fn other_disk() -> Vec<String> {
    vec!["`--state DIR` (or `BINDERY_STATE`) uses another disk".to_string()]
}

pub(super) fn one_disk() -> Vec<String> {
    vec!["keep all of the state on one file system: what is published is linked, not copied".to_string()]
}

pub(super) fn noexec(folder: &std::path::Path) -> Vec<String> {
    vec![
        format!(
            "as root: `mount -o remount,exec \"$(findmnt -no TARGET -T {})\"`, and in /etc/fstab",
            folder.parent().unwrap_or(folder).display()
        ),
        "or `--state DIR` (or `BINDERY_STATE`) uses another disk".to_string(),
    ]
}

pub(super) fn reflinks() -> Vec<String> {
    vec!["btrfs, xfs and bcachefs have them (ZFS since 2.2); everything works without, with more room".to_string()]
}

pub(super) fn loops(host: &Host) -> Vec<String> {
    if !host.root {
        return vec!["nothing to mend: an ordinary user's limit on disk is watched".to_string()];
    }
    match &host.container {
        Some(_) => vec!["a container has none by default; a limit on disk is watched instead".to_string()],
        None => module("loop", "CONFIG_BLK_DEV_LOOP"),
    }
}

pub(super) fn clock() -> Vec<String> {
    vec!["set it: `timedatectl set-ntp true`, or `date -s '2026-11-21 08:00'`".to_string()]
}

pub(super) fn mmdebstrap(host: &Host) -> Vec<String> {
    vec![install(host.distribution, MMDEBSTRAP)]
}

pub(super) fn apt(host: &Host) -> Vec<String> {
    let all = "Debian and what descends from it have it, other distributions package it as `apt`";
    if host.distribution == Distribution::Debian {
        vec![format!("{all}: `apt-get` belongs in PATH")]
    } else {
        vec![all.to_string()]
    }
}

pub(super) fn pip(host: &Host) -> Vec<String> {
    vec![install(host.distribution, PIP)]
}

impl Container {
    /// Returns whether what Podman's options are called fits.
    fn is_podman(&self) -> bool {
        *self != Self::Docker
    }

    /// Returns whether what Docker's options are called fits.
    fn is_docker(&self) -> bool {
        *self != Self::Podman
    }
}
