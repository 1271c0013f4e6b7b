//! Subordinate ids, and the programs that map them for ordinary users.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::doctor::host::Host;
use crate::doctor::trial::Idle;
use crate::doctor::{Check, advice};
use crate::sandbox::idmap::{self, COUNT};
use crate::sandbox::{IdRange, IdRangeError};
use crate::{fs, process};

const TOOLS: [&str; 2] = ["newuidmap", "newgidmap"];

pub(super) fn checks(host: &Host, range: &Result<IdRange, IdRangeError>) -> Vec<Check> {
    let mut checks = vec![subordinate(host, range)];
    checks.extend(TOOLS.map(|tool| mapper(host, tool, range.as_ref().ok())));
    checks
}

fn subordinate(host: &Host, range: &Result<IdRange, IdRangeError>) -> Check {
    const NAME: &str = "subordinate ids";
    const PURPOSE: &str = "every sandbox: the owners of files in roots";
    let ids = match range {
        Ok(ids) => ids,
        // The error says how to mend it.
        Err(error @ IdRangeError::NotHere { .. }) => {
            return Check::missing(
                NAME,
                PURPOSE,
                "none",
                [process::chain(error)].into_iter().chain(advice::more_ids(host)),
            );
        }
        Err(error) => return Check::missing(NAME, PURPOSE, "none", [process::chain(error)]),
    };
    let file = |path: &str| fs::read_if_exists(Path::new(path)).ok().flatten().unwrap_or_default();
    let shared = [("/etc/subuid", ids.uid()), ("/etc/subgid", ids.gid())].into_iter().find_map(|(path, start)| {
        let owners = idmap::owners(&file(path), start, COUNT);
        (owners.len() > 1).then(|| format!("in `{path}` they belong to {} at once", owners.join(" and ")))
    });
    match shared {
        None => Check::works(NAME, PURPOSE, ids.to_string()),
        Some(found) => Check::limited(NAME, PURPOSE, found, advice::shared_ids()),
    }
}

fn mapper(host: &Host, tool: &'static str, range: Option<&IdRange>) -> Check {
    const PURPOSE: &str = "ordinary users: maps their subordinate ids; root writes the maps itself";
    let Some(path) = process::find(tool) else {
        let found = "not installed";
        return if host.root {
            Check::limited(tool, PURPOSE, found, advice::mapper(host))
        } else {
            Check::missing(tool, PURPOSE, found, advice::mapper(host))
        };
    };
    let powerful = has_power(&path);
    if host.root {
        let found = format!("{}, {}", path.display(), if powerful { "privileged" } else { "without privileges" });
        return if powerful {
            Check::works(tool, PURPOSE, found)
        } else {
            Check::limited(tool, PURPOSE, found, advice::mapper_without_power(host, tool))
        };
    }
    let tried = range.map(|range| maps(tool, &path, range));
    match tried {
        None if powerful => Check::works(tool, PURPOSE, format!("{}, not tried without ids", path.display())),
        Some(Ok(())) => Check::works(tool, PURPOSE, format!("{} maps them", path.display())),
        Some(Err(why)) if powerful => Check::missing(tool, PURPOSE, why, advice::mapper_refused(host)),
        Some(Err(why)) => Check::missing(tool, PURPOSE, why, advice::mapper_without_power(host, tool)),
        None => Check::missing(
            tool,
            PURPOSE,
            format!("{} is neither setuid root nor has it a file capability", path.display()),
            advice::mapper_without_power(host, tool),
        ),
    }
}

/// Returns whether a program gains what it needs: by its setuid bit or by a file capability.
fn has_power(path: &Path) -> bool {
    const SETUID: u32 = 0o4000;
    let by_bit = fs::metadata(path)
        .is_ok_and(|m| m.permissions().mode() & SETUID != 0 && std::os::unix::fs::MetadataExt::uid(&m) == 0);
    by_bit || rustix::fs::getxattr(path, "security.capability", &mut [0_u8; 64][..]).is_ok_and(|len| len > 0)
}

/// Has the tool map the range for a process that waits in a user namespace.
fn maps(tool: &str, path: &Path, range: &IdRange) -> Result<(), String> {
    let idle = Idle::start(false).map_err(|refused| refused.text())?;
    let (start, own) = if tool == TOOLS[0] {
        (range.uid(), rustix::process::geteuid().as_raw())
    } else {
        (range.gid(), rustix::process::getegid().as_raw())
    };
    let last = COUNT - 1;
    let mut command = process::command(path);
    command.env_clear().arg(idle.pid().to_string());
    command.args([0, start, last, last, own, 1].map(|number| number.to_string()));
    process::run(&mut command).map(drop).map_err(|e| process::chain(&e))
}
