//! `mounts` of a bundle. The file systems that the OCI wants in every container are there whether listed or not.

use serde_json::{Value, json};

use crate::root::bundle::take::Object;
use crate::root::bundle::{Around, Reason};

/// What a sandbox cannot be without, with the type it must have.
const NEEDED: [(&str, &str); 3] = [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts")];
/// Options of binds and propagation that say nothing new: mounts are private, which is stricter than what they ask for.
const PRIVATE: [&str; 4] = ["private", "rprivate", "slave", "rslave"];

/// What became of the list.
#[derive(Debug)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<Value>,
    /// Paths that are hidden instead of mounted.
    pub(super) hide: Vec<String>,
    pub(super) reasons: Vec<Reason>,
}

/// One of the list.
struct Entry {
    to: String,
    typ: String,
    source: String,
    options: Vec<String>,
}

pub(super) fn read(list: Vec<Value>, around: &Around<'_>, host_network: bool) -> Mounts {
    let mut read = Mounts { mounts: Vec::new(), hide: Vec::new(), reasons: Vec::new() };
    for (number, mount) in list.into_iter().enumerate() {
        let Value::Object(fields) = mount else { continue };
        let mut fields = Object::new(&format!("mounts[{number}]"), fields);
        let entry = Entry {
            to: tidy(&fields.text("destination").unwrap_or_default()),
            typ: fields.text("type").unwrap_or_default(),
            source: fields.text("source").unwrap_or_default(),
            options: fields.texts("options"),
        };
        if let Some(mount) = one(entry, &mut fields, around, host_network, &mut read.hide) {
            read.mounts.push(mount);
        }
        read.reasons.extend(fields.end());
    }
    for (to, typ) in NEEDED.into_iter().rev() {
        if !read.mounts.iter().any(|mount| mount["destination"] == to) {
            let options: &[&str] = match typ {
                "devpts" => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
                "tmpfs" => &["nosuid", "noexec", "mode=755", "size=64k"],
                _ => &["nosuid", "noexec", "nodev"],
            };
            let new = json!({"destination": to, "type": typ, "source": typ, "options": options});
            // Before everything else, but not before the folder it lies in.
            let after = read.mounts.iter().position(|mount| mount["destination"] == "/dev" && to == "/dev/pts");
            read.mounts.insert(after.map_or(0, |at| at + 1), new);
        }
    }
    read
}

fn one(
    mut entry: Entry,
    fields: &mut Object,
    around: &Around<'_>,
    host_network: bool,
    hide: &mut Vec<String>,
) -> Option<Value> {
    let is_bind = entry.typ == "bind" || entry.options.iter().any(|option| option == "bind" || option == "rbind");
    let readonly = entry.options.iter().any(|option| option == "ro" || option == "rro");
    let needed = NEEDED.iter().find(|(to, _)| *to == entry.to);
    if let Some((_, typ)) = needed.filter(|(_, typ)| is_bind || *typ != entry.typ) {
        fields.refuse("type", format!("on {} is always a new {typ}", entry.to), format!("say `{typ}`"));
        return None;
    }
    if entry.to == "/" || !entry.to.starts_with('/') {
        fields.refuse("destination", format!("`{}` is no path below the root", entry.to), "give an absolute path");
        return None;
    }
    match entry.typ.as_str() {
        // A file system of the sandbox's own network shows less than the host's.
        "none" | "bind" if is_bind && entry.to == "/sys" && entry.source == "/sys" && !host_network => {
            return sysfs(entry, fields, readonly);
        }
        "sysfs" if entry.to == "/sys" => return sysfs(entry, fields, readonly),
        "cgroup" | "cgroup2" => {
            if !readonly {
                let why = "control groups are never there to be written to";
                fields.refuse("options", why, "add `ro`: nothing is shown of them then");
            }
            hide.push(entry.to);
            return None;
        }
        _ if is_bind => {
            entry.options.retain(|option| !PRIVATE.contains(&option.as_str()));
            entry.source = around.folder.join(&entry.source).to_string_lossy().into_owned();
            entry.options.extend(["nosuid", "nodev"].map(str::to_string));
            known(&entry, fields, &["bind", "rbind", "rw", "ro", "rro", "nosuid", "nodev", "noexec", "nosymfollow"]);
            entry.typ = "bind".to_string();
        }
        "devpts" if entry.to == "/dev/pts" => {
            known(&entry, fields, &["newinstance", "ptmxmode=", "mode=", "gid=", "nosuid", "noexec", "rw", "relatime"]);
        }
        "proc" | "mqueue" | "tmpfs" => {
            let times = ["relatime", "noatime", "strictatime", "nodiratime"];
            let flags = ["nosuid", "nodev", "noexec", "rw", "ro"].into_iter().chain(times);
            let sizes = ["size=", "mode=", "nr_inodes=", "uid=", "gid="].into_iter().filter(|_| entry.typ == "tmpfs");
            known(&entry, fields, &flags.chain(sizes).collect::<Vec<_>>());
        }
        other => {
            let why = format!("`{other}` on {} is not mounted in a sandbox", entry.to);
            fields.refuse("type", why, "remove the mount, or bind a folder");
            return None;
        }
    }
    Some(json!({"destination": entry.to, "type": entry.typ, "source": entry.source, "options": entry.options}))
}

fn sysfs(entry: Entry, fields: &mut Object, readonly: bool) -> Option<Value> {
    if !readonly {
        fields.refuse("options", "/sys is never there to be written to", "add `ro`");
        return None;
    }
    let options = ["nosuid", "noexec", "nodev", "ro"];
    Some(json!({"destination": entry.to, "type": "sysfs", "source": "sysfs", "options": options}))
}

/// Refuses options that are not known, where `name=` stands for any value.
fn known(entry: &Entry, fields: &mut Object, known: &[&str]) {
    let is_known = |option: &&String| {
        known.iter().any(|known| if known.ends_with('=') { option.starts_with(known) } else { option == known })
    };
    for option in entry.options.iter().filter(|option| !is_known(option)) {
        fields.refuse("options", format!("`{option}` is not done on {}", entry.to), "remove it");
    }
}

/// Returns a path without slashes that mean nothing.
fn tidy(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if path.starts_with('/') { format!("/{}", parts.join("/")) } else { path.to_string() }
}
