//! `bindery run --bundle DIR`: what an OCI bundle says, in its root.
//!
//! 1. reads config.json and writes it in the sandbox's terms ([`adopt`]): all that cannot be done is refused at once
//! 2. has links at the ends of its paths followed, which the sandbox itself never does
//! 3. runs it as any other command

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use crate::cli::context::Context;
use crate::cli::report::{Failure, Kind, Outcome, say};
use crate::cli::run::{HOST_NETWORK, finish, start};
use crate::fs;
use crate::root::bundle::{Around, adopt};
use crate::sandbox::{self, IdRange};

/// Far larger than any: podman's have 60 KiB.
const MOST: u64 = 4 << 20;

/// Runs the bundle; `terminal` is whether there is one.
pub(super) fn run(cx: &Context, folder: &Path, terminal: bool) -> Outcome {
    let folder = fs::canonicalize(folder).map_err(|e| Failure::new(Kind::User, e))?;
    let file = folder.join("config.json");
    let config = fs::read_at_most(&file, MOST).map_err(|e| Failure::new(Kind::User, e))?;
    let config = String::from_utf8(config).map_err(|_| Failure::user(format!("`{}` is no UTF-8", file.display())))?;
    let ids = cx.prepare()?;
    let exit = start(cx, &ids, None, &mut true, ("run", &format!("bundle {}", folder.display())), |upper| {
        spec(&config, &folder, &ids, upper, terminal)
    })?;
    finish(&exit)
}

fn spec(config: &str, folder: &Path, ids: &IdRange, upper: &Path, terminal: bool) -> Result<Spec, Failure> {
    let around = Around { folder, upper, uid: ids.uid(), gid: ids.gid(), terminal };
    let spec = match adopt(config, &around) {
        Ok(spec) => followed(spec)?,
        Err(refused) => return Err(refusal(folder, refused.reasons.iter().map(ToString::to_string).collect())),
    };
    let reasons: Vec<_> = sandbox::unsupported(&spec).iter().map(ToString::to_string).collect();
    if reasons.is_empty() { Ok(spec) } else { Err(refusal(folder, reasons)) }
}

fn refusal(folder: &Path, reasons: Vec<String>) -> Failure {
    let count = if reasons.len() == 1 { "one field".to_string() } else { format!("{} fields", reasons.len()) };
    let message =
        format!("the bundle `{}` asks for what a sandbox does not do ({count} of its config.json)", folder.display());
    Failure { hints: reasons, ..Failure::user(message) }
}

/// Has the links that sources of binds, and the root, may be followed: who wrote the bundle means what they point to.
fn followed(mut spec: Spec) -> Result<Spec, Failure> {
    let follow = |path: &Path| fs::canonicalize(path).map_err(|e| Failure::new(Kind::User, e));
    for mount in spec.mounts_mut().iter_mut().flatten() {
        match mount.typ().as_deref() {
            Some("bind") => {
                let source = follow(mount.source().as_deref().unwrap_or(Path::new("/")))?;
                only_itself(mount, &source)?;
                mount.set_source(Some(source));
            }
            Some("overlay") => {
                let options = mount.options().iter().flatten().map(|option| match option.strip_prefix("lowerdir=/") {
                    Some(folder) => {
                        let folder: PathBuf = follow(&Path::new("/").join(folder))?;
                        Ok(format!("lowerdir={}", folder.display()))
                    }
                    None => Ok(option.clone()),
                });
                let options = options.collect::<Result<Vec<_>, Failure>>()?;
                mount.set_options(Some(options));
            }
            _ => {}
        }
    }
    if spec.annotations().as_ref().and_then(|a| a.get("bindery.network")).is_some_and(|network| network == "host") {
        say(HOST_NETWORK);
    }
    Ok(spec)
}

/// Refuses a bind that is not to show what is mounted below its source: a sandbox's always do.
fn only_itself(mount: &Mount, source: &Path) -> Result<(), Failure> {
    if mount.destination() == Path::new("/") || mount.options().iter().flatten().any(|option| option == "rbind") {
        return Ok(());
    }
    let mounts = fs::read_to_string(Path::new("/proc/self/mountinfo")).map_err(|e| Failure::new(Kind::System, e))?;
    // The fifth field is where (proc_pid_mountinfo(5)); blanks in it are written otherwise, and refused at worst.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    match points.filter(|point| *point != source).find(|point| point.starts_with(source)) {
        Some(point) => Err(Failure::user(format!(
            "`{}` has `{}` mounted below it, which a `bind` on `{}` would not show and a sandbox's always does; say \
             `rbind` in the bundle's config.json",
            source.display(),
            point.display(),
            mount.destination().display()
        ))),
        None => Ok(()),
    }
}
