//! What a group has used, as values: one set of types for v1 and v2.
//!
//! Every number is an [`Option`]: a file may be missing since the kernel is older, the controller is not there, or the group was made without it.
//! Leaves out: what the counters of `memory.stat` mean, which are given as the kernel names them. Oldest kernel: 4.5.

use std::time::Duration;

use crate::controller::{Controller, Version};
use crate::directory::{Directory, Visit, unless_gone};
use crate::error::Result;
use crate::group::{Group, wait::value};

mod parse;
mod read;

/// What a group and those below it have used so far; made by [`Group::stats`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Memory and swap.
    pub memory: MemoryStats,
    /// Processor time.
    pub cpu: CpuStats,
    /// Which processors and memory nodes may be used.
    pub cpuset: CpusetStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block devices, by number. Only those that were used.
    pub io: Vec<IoStats>,
    /// Huge pages, by size.
    pub hugetlb: Vec<HugetlbStats>,
    /// Time lost waiting.
    pub pressure: PressureStats,
}

/// What a group has used from its beginning.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Used {
    /// Processor time of all its processes.
    pub cpu: Option<Duration>,
    /// The most memory that was ever in use, in bytes. v2 since Linux 5.19.
    pub peak_memory: Option<u64>,
}

/// Memory in bytes. A limit that is not set is [`UNLIMITED`](crate::UNLIMITED).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use now, page cache included.
    pub current: Option<u64>,
    /// The most that was ever in use. v2 since Linux 5.19.
    pub peak: Option<u64>,
    /// The limit.
    pub limit: Option<u64>,
    /// Swap in use now.
    pub swap: Option<u64>,
    /// The limit of swap; on v1 the limit of the sum less that of memory.
    pub swap_limit: Option<u64>,
    /// Page cache.
    pub cache: Option<u64>,
    /// Anonymous memory: heaps and stacks.
    pub anon: Option<u64>,
    /// Memory of the kernel itself, for the group's sake.
    pub kernel: Option<u64>,
    /// Of the kernel's memory, what TCP buffers take. v1 only.
    pub kernel_tcp: Option<u64>,
    /// How often the limit stood in the way.
    pub failures: Option<u64>,
    /// How many processes the OOM killer has killed here.
    pub oom_kills: Option<u64>,
    /// Every counter of `memory.stat`, as the kernel calls it: the two versions have different ones.
    pub counters: Vec<(String, u64)>,
}

/// Processors and memory nodes, as lists such as `0-3`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CpusetStats {
    /// The processors that the group may run on.
    pub cpus: Option<String>,
    /// The nodes that it may take memory from.
    pub mems: Option<String>,
}

/// Processor time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CpuStats {
    /// In all.
    pub usage: Option<Duration>,
    /// In user mode.
    pub user: Option<Duration>,
    /// In the kernel.
    pub system: Option<Duration>,
    /// On each processor. v1 only.
    pub by_processor: Vec<Duration>,
    /// On each processor in user mode. v1 only.
    pub user_by_processor: Vec<Duration>,
    /// On each processor in the kernel. v1 only.
    pub system_by_processor: Vec<Duration>,
    /// How many periods of the quota have passed.
    pub periods: Option<u64>,
    /// In how many of them the quota was used up.
    pub throttled_periods: Option<u64>,
    /// For how long processors were held back, added up over all processors.
    pub throttled: Option<Duration>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are. Without the pids controller: processes only, not threads.
    pub current: Option<u64>,
    /// The most there ever were. Linux 6.1.
    pub peak: Option<u64>,
    /// The limit; [`UNLIMITED`](crate::UNLIMITED) if there is none.
    pub limit: Option<u64>,
}

/// What was read from and written to one block device.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct IoStats {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub read_operations: Option<u64>,
    /// Writes.
    pub write_operations: Option<u64>,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct HugetlbStats {
    /// The size as the kernel calls it, such as `2MB`.
    pub page_size: String,
    /// In use now.
    pub current: Option<u64>,
    /// The most that was ever in use. v1 only.
    pub peak: Option<u64>,
    /// The limit; [`UNLIMITED`](crate::UNLIMITED) if there is none.
    pub limit: Option<u64>,
    /// How often the limit stood in the way.
    pub failures: Option<u64>,
}

/// Pressure stall information. v2 only, Linux 4.20 with `CONFIG_PSI`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PressureStats {
    /// Waiting for a processor.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for a device.
    pub io: Option<Pressure>,
}

/// Time lost to one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Pressure {
    /// While at least one process waited.
    pub some: Stall,
    /// While all waited. For processors since Linux 5.13.
    pub full: Stall,
}

/// One line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stall {
    /// Share of the last 10 s, in percent.
    pub average_10: f64,
    /// Share of the last 60 s, in percent.
    pub average_60: f64,
    /// Share of the last 300 s, in percent.
    pub average_300: f64,
    /// In all.
    pub total: Duration,
}

impl Group {
    /// What the group has used so far. A number that this kernel, or this group for want of a controller, does not tell is `None`.
    ///
    /// # Errors
    /// None today: what cannot be read is `None`.
    pub fn stats(&self) -> Result<Stats> {
        Ok(read::all(self))
    }

    /// What the group has used from its beginning: cheaper than [`stats`](Self::stats), for the end of a process.
    ///
    /// ```no_run
    /// let group = keelbox_cgroups::Group::open("build/job-7")?;
    /// println!("{:?}", group.used().cpu);
    /// # Ok::<(), keelbox_cgroups::Error>(())
    /// ```
    #[must_use]
    pub fn used(&self) -> Used {
        read::used(self)
    }

    /// How many processes the OOM killer has killed in this group and below. `None` if nobody counts: the group has no memory
    /// controller.
    ///
    /// Compare before and after to tell whether a process that ended by SIGKILL ran out of memory.
    ///
    /// # Errors
    /// If the groups below cannot be listed.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        let Some(node) = self.legacy(Controller::Memory) else {
            let node = self.node(Version::V2, Controller::Memory);
            return Ok(node.and_then(|node| value(&node.directory.text("memory.events")?, "oom_kill")));
        };
        // v1 counts in the group of the victim only, so those below are added. v2 counts upwards by itself.
        let mut sum = None;
        unless_gone(node.directory.walk(&mut |visit| {
            if let Visit::Enter(here) = visit
                && let Some(kills) = here.text("memory.oom_control").and_then(|text| value(&text, "oom_kill"))
            {
                *sum.get_or_insert(0) += kills;
            }
            Ok(())
        }))?;
        Ok(sum)
    }
}

/// The number in a file that holds one; `max` is [`UNLIMITED`](crate::UNLIMITED).
fn number(directory: &Directory, file: &str) -> Option<u64> {
    parse::number(&directory.text(file)?)
}
