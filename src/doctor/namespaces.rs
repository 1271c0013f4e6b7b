//! Namespaces, one by one, each below a user namespace of its own as in a sandbox.

use std::io;

use nix::sched::{CloneFlags, unshare};

use crate::doctor::host::Host;
use crate::doctor::trial::{self, Tried, Trying, enter, enter_user_namespace};
use crate::doctor::{Check, advice, calls};
use crate::sandbox::trial as call;

/// What every sandbox is called.
const HOST_NAME: &str = "bindery";
/// Namespaces that need nothing more said of them.
const PLAIN: [(&str, CloneFlags); 5] = [
    ("mount", CloneFlags::CLONE_NEWNS),
    ("process", CloneFlags::CLONE_NEWPID),
    ("IPC", CloneFlags::CLONE_NEWIPC),
    ("UTS", CloneFlags::CLONE_NEWUTS),
    ("control group", CloneFlags::CLONE_NEWCGROUP),
];

pub(super) fn checks(host: &Host) -> Vec<Check> {
    const USER: &str = "user namespaces";
    const PURPOSE: &str = "every sandbox: a build's root is nobody outside";
    let mut checks = Vec::new();
    if let Err(refused) = trial::run("user-namespace") {
        let mend = advice::user_namespaces(host, refused.errno);
        return vec![Check::missing(USER, PURPOSE, refused.text(), mend)];
    }
    checks.push(Check::works(USER, PURPOSE, "one can be entered, with power over what is in it"));
    checks.push(second(host));
    checks.push(others(host));
    checks.push(network(host));
    checks.push(host_name(host));
    checks.push(calls::mount_system_calls(host));
    checks
}

/// Tries what `name` stands for, if it is one of these.
pub(super) fn attempt(name: &str) -> Option<Tried> {
    let plain = PLAIN.iter().find(|(kind, _)| name.strip_prefix("namespace-") == Some(kind));
    if let Some((kind, flags)) = plain {
        return Some(enter_user_namespace().and_then(|()| enter(*flags, &format!("a {kind}"))).map(|()| String::new()));
    }
    Some(match name {
        // AppArmor lets anyone enter a user namespace and then takes the power in it away: any other shows that.
        "user-namespace" => {
            enter_user_namespace().and_then(|()| enter(CloneFlags::CLONE_NEWNS, "a mount")).map(|()| String::new())
        }
        "second-user-namespace" => second_namespace(),
        "network" => enter_user_namespace().and_then(|()| {
            enter(CloneFlags::CLONE_NEWNET, "a network")?;
            call::loopback().trying("switch its loopback interface on").map(|()| String::new())
        }),
        "host-name" => enter_user_namespace().and_then(|()| {
            enter(CloneFlags::CLONE_NEWUTS, "a UTS")?;
            if rustix::system::uname().nodename().to_bytes() == HOST_NAME.as_bytes() {
                return Ok("it is that already".to_string());
            }
            let set = nix::unistd::sethostname(HOST_NAME).map_err(io::Error::from);
            set.trying(format!("set the host name to `{HOST_NAME}`")).map(|()| "it can be set".to_string())
        }),
        _ => return None,
    })
}

fn second_namespace() -> Tried {
    enter_user_namespace()?;
    // Ids that are 0 in the first; mapped by itself, as init does for the payload.
    unshare(CloneFlags::CLONE_NEWUSER).trying("create a second user namespace in the first")?;
    Ok(String::new())
}

fn second(host: &Host) -> Check {
    const NAME: &str = "second user namespace";
    const PURPOSE: &str = "every sandbox: what capabilities a build shows own nothing";
    match trial::run("second-user-namespace") {
        Ok(_) => Check::works(NAME, PURPOSE, "one can be entered in the first"),
        Err(refused) => Check::missing(NAME, PURPOSE, refused.text(), advice::user_namespaces(host, refused.errno)),
    }
}

fn others(host: &Host) -> Check {
    const NAME: &str = "namespaces";
    const PURPOSE: &str = "every sandbox: mounts, processes, IPC, host name and control groups of its own";
    let refused: Vec<_> = PLAIN.iter().filter_map(|(kind, _)| trial::run(&format!("namespace-{kind}")).err()).collect();
    if refused.is_empty() {
        return Check::works(NAME, PURPOSE, PLAIN.map(|(kind, _)| kind).join(", "));
    }
    let found = refused.iter().map(trial::Refused::text).collect::<Vec<_>>().join("; ");
    Check::missing(NAME, PURPOSE, found, advice::namespaces(host))
}

fn network(host: &Host) -> Check {
    const NAME: &str = "network namespace";
    const PURPOSE: &str = "every sandbox: no network but its own loopback interface";
    match trial::run("network") {
        Ok(_) => Check::works(NAME, PURPOSE, "with a loopback interface"),
        Err(refused) => Check::missing(NAME, PURPOSE, refused.text(), advice::network_namespace(host)),
    }
}

fn host_name(host: &Host) -> Check {
    const NAME: &str = "host name";
    const PURPOSE: &str = "every sandbox: builds do not know where they run";
    match trial::run("host-name") {
        Ok(found) => Check::works(NAME, PURPOSE, found),
        Err(refused) => Check::missing(NAME, PURPOSE, refused.text(), advice::host_name(host)),
    }
}
