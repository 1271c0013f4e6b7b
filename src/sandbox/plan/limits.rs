//! What the supervisor watches over and control groups limit, from the spec's resources.

use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use crate::atom::CpuList;
use crate::sandbox::plan::Unsupported;

/// What a payload may use; nothing means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::sandbox) struct Limits {
    /// Microseconds of processor time in each period of so many microseconds.
    pub(in crate::sandbox) cpu: Option<(u64, u64)>,
    /// The processors it may run on.
    pub(in crate::sandbox) cpuset: Option<CpuList>,
    /// Bytes.
    pub(in crate::sandbox) memory: Option<u64>,
    /// Bytes of swap beside the memory; only with a limit of that.
    pub(in crate::sandbox) swap: Option<u64>,
    pub(in crate::sandbox) pids: Option<u64>,
    /// Share of the disk beside others', from 10 to 1000.
    pub(in crate::sandbox) io_weight: Option<u16>,
    pub(in crate::sandbox) disk: Option<u64>,
    pub(in crate::sandbox) time: Option<Duration>,
    pub(in crate::sandbox) silence: Option<Duration>,
    /// Without output and without processor time.
    pub(in crate::sandbox) idle: Option<Duration>,
    /// Whether it makes way for others.
    pub(in crate::sandbox) gives_way: bool,
}

/// The OCI's range of weights.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;
/// The kernel's range of periods, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1000..=1_000_000;
/// The least that the kernel takes as a quota, in microseconds.
const LEAST_QUOTA: u64 = 1000;

/// Reads resources into limits.
pub(super) fn read(resources: &LinuxResources, limits: &mut Limits) -> Result<(), Unsupported> {
    let positive = |field: &str, value: i64| {
        u64::try_from(value).ok().filter(|n| *n > 0).ok_or_else(|| Unsupported::value(field, value))
    };
    if let Some(memory) = resources.memory() {
        limits.memory = memory.limit().map(|limit| positive("linux.resources.memory.limit", limit)).transpose()?;
        // The OCI counts memory and swap together.
        let field = "linux.resources.memory.swap";
        limits.swap = match (limits.memory, memory.swap()) {
            (Some(memory), Some(sum)) => {
                let swap = u64::try_from(sum).ok().and_then(|sum| sum.checked_sub(memory));
                Some(swap.ok_or_else(|| Unsupported::value(field, format!("{sum}, less than the memory")))?)
            }
            (None, Some(sum)) => return Err(Unsupported::value(field, format!("{sum}, without a limit of memory"))),
            (_, None) => None,
        };
    }
    if let Some(cpu) = resources.cpu() {
        limits.cpu = match (cpu.quota(), cpu.period()) {
            (Some(quota), Some(period)) if PERIODS.contains(&period) => {
                let quota = positive("linux.resources.cpu.quota", quota)?;
                if quota < LEAST_QUOTA {
                    return Err(Unsupported::value("linux.resources.cpu.quota", format!("{quota}, below 1000 µs")));
                }
                Some((quota, period))
            }
            (None, None) => None,
            (_, period) => return Err(Unsupported::value("linux.resources.cpu.period", format!("{period:?}"))),
        };
        let list = |text: &String| text.parse().map_err(|e| Unsupported::value("linux.resources.cpu.cpus", e));
        limits.cpuset = cpu.cpus().as_ref().filter(|text| !text.is_empty()).map(list).transpose()?;
    }
    if let Some(pids) = resources.pids() {
        limits.pids = Some(positive("linux.resources.pids.limit", pids.limit())?);
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|io| io.weight()) {
        let known = WEIGHTS.contains(&weight).then_some(weight);
        limits.io_weight = Some(known.ok_or_else(|| Unsupported::value("linux.resources.blockIO.weight", weight))?);
    }
    Ok(())
}
