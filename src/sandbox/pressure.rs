//! Pressure stall information: how long tasks waited for what others had (accounting/psi.rst of the kernel).

use std::path::Path;

use crate::fs::{self, PathError};

/// Microseconds since boot in which at least some task waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    pub(super) cpu: u64,
    pub(super) io: u64,
    pub(super) memory: u64,
}

/// Returns the pressure on the whole host.
pub(super) fn host() -> Result<Pressure, PathError> {
    read(|resource| format!("/proc/pressure/{resource}"))
}

/// Returns the pressure among the processes of a group of v2.
pub(super) fn group(dir: &Path) -> Result<Pressure, PathError> {
    read(|resource| format!("{}/{resource}.pressure", dir.display()))
}

fn read(file: impl Fn(&str) -> String) -> Result<Pressure, PathError> {
    let total = |resource| {
        let file = file(resource);
        let path = Path::new(&file);
        total(&fs::read_to_string(path)?)
            .ok_or_else(|| PathError::on("read pressure from", path)(std::io::ErrorKind::InvalidData.into()))
    };
    Ok(Pressure { cpu: total("cpu")?, io: total("io")?, memory: total("memory")? })
}

fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("some ")?.split_once("total=")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_some_is_read() {
        let text = "some avg10=15.18 avg60=24.95 avg300=9.38 total=3730331051\nfull avg10=0.00 avg60=0.00 total=7\n";
        assert_eq!(total(text), Some(3_730_331_051));
        assert_eq!((total(""), total("some total=x")), (None, None));
    }
}
