//! The processes below one, and how they get into a group that is made while they run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::fs;
use crate::sandbox::cgroup::{CgroupError, set};

/// How often it is looked whether new processes have come meanwhile.
const ROUNDS: usize = 100;

/// Returns a process and all below it, zombies left out.
pub(in crate::sandbox) fn below(top: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for dir in fs::read_dir(Path::new("/proc")).unwrap_or_default() {
        let Some(pid) = dir.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
        if let Some(parent) = fs::read_to_string(&dir.join("stat")).ok().as_deref().and_then(parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::from([top]);
    let mut next = vec![top];
    while let Some(pid) = next.pop() {
        next.extend(children.get(&pid).into_iter().flatten().copied().filter(|child| found.insert(*child)));
    }
    found
}

/// Returns the parent that `/proc/PID/stat` names (proc(5), field 4), unless it is a zombie's.
fn parent(stat: &str) -> Option<u32> {
    // The second field is the program's name and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

/// Puts a process and all below it into a group, those included that are started meanwhile.
pub(super) fn adopt(dir: &Path, top: u32) -> Result<(), CgroupError> {
    for _ in 0..ROUNDS {
        let inside = fs::read_to_string(&dir.join("cgroup.procs"))?;
        let inside: BTreeSet<u32> = inside.lines().filter_map(|line| line.parse().ok()).collect();
        let missing: Vec<u32> = below(top).difference(&inside).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        for pid in missing {
            match set(dir, "cgroup.procs", pid.to_string()) {
                Err(CgroupError::Set { source, .. }) if source.source.raw_os_error() == Some(nix::libc::ESRCH) => {}
                done => done?,
            }
        }
    }
    Err(CgroupError::Restless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_hold_anything() {
        assert_eq!(parent("7 (a) S 1 ) (b) R 42 7 7 0"), Some(42));
        assert_eq!(parent("7 (x) Z 42 7"), None);
        assert_eq!(parent("7 (x"), None);
    }

    #[test]
    fn children_of_children_are_below() {
        let shell = "sleep 100 & sleep 100 & echo started; wait";
        let mut command = crate::process::command("sh");
        let mut child = command.args(["-c", shell]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 7]).unwrap();
        let all = below(std::process::id());
        let own = below(child.id());
        assert!(own.len() == 3 && own.is_subset(&all), "{own:?}");
        for pid in own {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
    }
}
