//! Whether a share of the disk means anything: only some schedulers of block devices know weights.

use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use crate::fs;

/// What gives weights on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weighing {
    /// The BFQ scheduler.
    Bfq,
    /// The cost model of v2 (`io.cost.qos`).
    Cost,
}

/// Returns what gives weights on the device that a folder is on, or why nothing does. `costs` is the text of the top
/// group's `io.cost.qos`, where there is one.
pub(super) fn weighing(folder: &Path, costs: Option<&str>) -> Result<Weighing, String> {
    let device = rustix::fs::stat(folder).map_err(|e| e.to_string())?.st_dev;
    let (major, minor) = (major(device), minor(device));
    let sys = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition's queue is its disk's.
    let files = ["queue/scheduler", "../queue/scheduler"].map(|file| sys.join(file));
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
    judge(&format!("{major}:{minor}"), text.as_deref(), costs)
}

fn judge(device: &str, schedulers: Option<&str>, costs: Option<&str>) -> Result<Weighing, String> {
    let Some(schedulers) = schedulers else {
        return Err(format!("the file system with the roots is on no block device of its own ({device})"));
    };
    if schedulers.split_whitespace().any(|word| word == "[bfq]") {
        return Ok(Weighing::Bfq);
    }
    let mut lines = costs.unwrap_or_default().lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    if lines.any(|words| words.first() == Some(&device) && words.contains(&"enable=1")) {
        return Ok(Weighing::Cost);
    }
    Err(format!(
        "device {device} is scheduled by `{}`, which knows no weights; `echo bfq > /sys/dev/block/{device}/queue/scheduler` \
         changes that",
        schedulers.split_whitespace().find(|word| word.starts_with('[')).unwrap_or("none").trim_matches(['[', ']'])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bfq_and_the_cost_model_weigh() {
        assert_eq!(judge("8:0", Some("none mq-deadline [bfq]\n"), None), Ok(Weighing::Bfq));
        let costs = "8:16 enable=1 ctrl=auto\n8:0 enable=0 ctrl=auto\n";
        assert_eq!(judge("8:16", Some("[none] mq-deadline\n"), Some(costs)), Ok(Weighing::Cost));
        let why = judge("8:0", Some("none [mq-deadline] bfq\n"), Some(costs)).unwrap_err();
        assert!(why.contains("`mq-deadline`, which knows no weights"), "{why}");
        assert!(judge("0:31", None, None).unwrap_err().contains("no block device"));
    }
}
