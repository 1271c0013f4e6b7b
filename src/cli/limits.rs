//! The limits that several commands take.

use std::num::NonZeroU32;

use crate::atom::CpuList;
use crate::cli::report::Failure;
use crate::profile::{self, Limits};
use crate::root;
use crate::sandbox::Change;

/// What can also be changed while a command runs.
#[derive(Debug, clap::Args)]
pub(super) struct Quantities {
    /// Processors, as 1.5
    #[arg(long, value_name = "N", value_parser = profile::parse_cpus, help_heading = HEADING)]
    cpus: Option<f64>,
    /// Only these processors, as 0-3,8
    #[arg(long, value_name = "LIST", help_heading = HEADING)]
    cpuset: Option<CpuList>,
    /// Memory, as 512MiB or 4GiB
    #[arg(long, value_name = "SIZE", value_parser = profile::parse_size, help_heading = HEADING)]
    memory: Option<u64>,
    /// Swap beside the memory, as 1GiB; none unless given
    #[arg(long, value_name = "SIZE", value_parser = profile::parse_swap, help_heading = HEADING)]
    swap: Option<u64>,
    /// Processes and threads
    #[arg(long, value_name = "N", help_heading = HEADING)]
    pids: Option<NonZeroU32>,
    /// Share of the disk beside others', from 10 to 1000 (100 is usual)
    #[arg(long, value_name = "N", value_parser = profile::parse_io_weight, help_heading = HEADING)]
    io_weight: Option<u16>,
}

/// What a command may use.
#[derive(Debug, clap::Args)]
pub(super) struct LimitArgs {
    #[command(flatten)]
    quantities: Quantities,
    /// Make way for others on this host when they wait for processor, disk or memory
    #[arg(long = "yield", overrides_with = "no_yield", help_heading = HEADING)]
    gives_way: bool,
    /// Do not, whatever the configuration says
    #[arg(long, overrides_with = "gives_way", help_heading = HEADING)]
    no_yield: bool,
}

const HEADING: &str = "Limits";

impl LimitArgs {
    /// Puts what is typed over what there is.
    pub(super) fn over(&self, limits: &mut Limits) -> Result<(), Failure> {
        let typed = &self.quantities;
        limits.cpus = typed.cpus.or(limits.cpus);
        limits.cpuset = typed.cpuset.clone().or(limits.cpuset.take());
        limits.memory = typed.memory.or(limits.memory);
        limits.swap = typed.swap.or(limits.swap);
        limits.pids = typed.pids.map(|pids| pids.get().into()).or(limits.pids);
        limits.io_weight = typed.io_weight.or(limits.io_weight);
        limits.gives_way = (limits.gives_way || self.gives_way) && !self.no_yield;
        if limits.swap.is_some() && limits.memory.is_none() {
            return Err(Failure::user("swap is limited together with memory: give `--memory`, too"));
        }
        Ok(())
    }
}

impl Quantities {
    /// Returns the change that is typed.
    pub(super) fn change(&self) -> Change {
        Change {
            cpu: self.cpus.map(root::quota),
            cpuset: self.cpuset.clone(),
            memory: self.memory,
            swap: self.swap,
            pids: self.pids.map(|pids| pids.get().into()),
            io_weight: self.io_weight,
        }
    }
}
