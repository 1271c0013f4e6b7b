//! File systems that a sandbox mounts in its user namespace, and the nodes that it takes from the host's /dev.

use std::io;
use std::path::Path;
use std::process::Stdio;

use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, CWD, FileType, makedev, statat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsmount, fsopen, mount, open_tree, unmount,
};

use crate::doctor::host::Host;
use crate::doctor::trial::{self, Idle, Tried, Trying, enter, enter_user_namespace};
use crate::doctor::{Check, advice};
use crate::sandbox::trial as call;
use crate::{fs, process};

/// Nodes that a sandbox binds: name, major and minor number (admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

pub(super) fn checks(host: &Host) -> Vec<Check> {
    vec![proc(host), others(host), devices(host), binfmt()]
}

/// Tries what `name` stands for, if it is one of these.
pub(super) fn attempt(name: &str) -> Option<Tried> {
    Some(match name {
        "proc" => in_process_namespace(),
        "proc-inside" => new("proc", None),
        "tmpfs" | "binfmt_misc" => enter_all().and_then(|()| new(name, None)),
        "devpts" => enter_all().and_then(|()| new(name, Some("newinstance"))),
        "mqueue" => enter_all().and_then(|()| enter(CloneFlags::CLONE_NEWIPC, "an IPC")).and_then(|()| new(name, None)),
        "overlay" => overlay(),
        "id-mapped" => id_mapped(),
        "devices" => enter_all().and_then(|()| nodes()),
        _ => return None,
    })
}

fn enter_all() -> Result<(), trial::Refused> {
    enter_user_namespace()?;
    enter(CloneFlags::CLONE_NEWNS, "a mount")
}

fn new(typ: &str, flag: Option<&str>) -> Tried {
    let what = format!("mount {typ} in a user namespace");
    let context = fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC).trying(&what)?;
    if let Some(flag) = flag {
        fsconfig_set_flag(&context, flag).trying(&what)?;
    }
    fsconfig_create(&context).trying(&what)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).trying(what).map(|_| String::new())
}

/// The process file system shows the namespace of who mounts it, which must be a process in it.
fn in_process_namespace() -> Tried {
    enter_all()?;
    enter(CloneFlags::CLONE_NEWPID, "a process")?;
    let mut inside = process::this_program();
    inside.env_clear().args(["__try", "proc-inside"]).stderr(Stdio::null());
    let output = inside.output().trying("start a process in the namespace")?;
    let lost = || Err(io::Error::other(output.status.to_string())).trying("start a process in the namespace");
    serde_json::from_slice::<Tried>(&output.stdout).unwrap_or_else(|_| lost())
}

/// Mounts an overlay in the working folder the way a sandbox does, and writes to it.
fn overlay() -> Tried {
    enter_all()?;
    let dir = |name: &str| {
        fs::create_dir(Path::new(name), 0o755).map_err(|e| e.source).trying(format!("create a folder `{name}`"))
    };
    ["lower", "lower/folder", "upper", "work", "root"].into_iter().try_for_each(dir)?;
    let written = fs::write(Path::new("lower/file"), "lower").map_err(|e| e.source);
    written.trying("write a file")?;
    let options = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr,redirect_dir=nofollow,volatile";
    mount("overlay", "root", "overlay", MountFlags::empty(), options).trying("mount an overlay in a user namespace")?;
    let used = || {
        fs::write(Path::new("root/file"), "upper")?;
        fs::remove_dir_all(Path::new("root/folder"))?;
        // A folder of a lower layer that is made anew is opaque: an extended attribute says so.
        fs::create_dir(Path::new("root/folder"), 0o755)
    };
    let used = used().map_err(|e| e.source).trying("write in an overlay");
    let unmounted = unmount("root", UnmountFlags::DETACH).trying("unmount an overlay");
    // The kernel's own folder in there has no permission bits: only root, as in here, can remove it.
    let removed = fs::remove_dir_all(Path::new("work")).map_err(|e| e.source).trying("remove the work folder");
    used.and(unmounted).and(removed).map(|()| String::new())
}

fn id_mapped() -> Tried {
    let idle = Idle::start(true)?;
    let namespace = fs::open(Path::new(&format!("/proc/{}/ns/user", idle.pid()))).map_err(|e| e.source);
    let namespace = namespace.trying("open a user namespace")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, ".", flags).trying("clone a mount (open_tree)")?;
    call::map_mount_ids(tree, namespace).trying("map the owners of a mount").map(|()| String::new())
}

fn nodes() -> Tried {
    for (name, major, minor) in NODES {
        let what = format!("bind /dev/{name}");
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, Path::new("/dev").join(name), flags).trying(&what)?;
        let stat = statat(&tree, "", AtFlags::EMPTY_PATH).trying(&what)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(major, minor) {
            let why = format!("it is not the character device {major}:{minor}");
            return Err(io::Error::other(why)).trying(what);
        }
    }
    Ok(String::new())
}

fn proc(host: &Host) -> Check {
    const NAME: &str = "proc";
    const PURPOSE: &str = "every sandbox: a /proc of its own";
    let Err(refused) = trial::run("proc") else {
        return Check::works(NAME, PURPOSE, "can be mounted in a user namespace");
    };
    let hidden = match host.covered.split_first() {
        Some((first, rest)) if refused.errno == Some(1) => {
            format!("; something covers `{first}` and {} other paths of the /proc here", rest.len())
        }
        _ => String::new(),
    };
    Check::missing(NAME, PURPOSE, refused.text() + &hidden, advice::proc(host))
}

fn others(host: &Host) -> Check {
    const NAME: &str = "file systems";
    const PURPOSE: &str = "every sandbox: /dev, terminals, shared memory, message queues";
    let refused: Vec<_> = ["tmpfs", "devpts", "mqueue"].into_iter().filter_map(|name| trial::run(name).err()).collect();
    if refused.is_empty() {
        return Check::works(NAME, PURPOSE, "tmpfs, devpts, mqueue");
    }
    let found: Vec<_> = refused.iter().map(trial::Refused::text).collect();
    Check::missing(NAME, PURPOSE, found.join("; "), advice::file_systems(host))
}

fn devices(host: &Host) -> Check {
    const NAME: &str = "devices";
    const PURPOSE: &str = "every sandbox: its /dev has these of the host's";
    match trial::run("devices") {
        Ok(_) => Check::works(NAME, PURPOSE, NODES.map(|(name, ..)| name).join(", ")),
        Err(refused) => Check::missing(NAME, PURPOSE, refused.text(), advice::devices(host)),
    }
}

fn binfmt() -> Check {
    const NAME: &str = "binfmt_misc";
    const PURPOSE: &str = "profiles of other architectures: emulation that needs nothing registered on the host";
    match trial::run("binfmt_misc") {
        Ok(_) => Check::works(NAME, PURPOSE, "can be mounted in a user namespace"),
        Err(refused) => Check::limited(NAME, PURPOSE, refused.text(), advice::binfmt()),
    }
}
