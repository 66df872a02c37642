//! The vocabulary of limits, one for v1 and v2.
//!
//! Leaves out: what is written where, which is `plan`; and whether the values make sense, which is `limits/check`.
//! Needs no kernel.

use std::time::Duration;

use crate::error::Result;
use crate::hierarchy::Hierarchy;
use crate::plan::{Plan, Present};

pub(crate) mod check;
mod device;
mod seldom;
mod values;

pub use device::{IoDevice, RdmaDevice};
pub use seldom::OomKiller;
pub use values::Values;

/// 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB.
pub const GIB: u64 = 1 << 30;
/// "No limit", for every limit that is a number: it takes an earlier limit away.
pub const UNLIMITED: u64 = u64::MAX;

/// Whether a group gets processor time only when nobody else wants it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Idle {
    /// Ordinary scheduling by weight.
    No,
    /// `SCHED_IDLE` as a group.
    Yes,
}

/// A weight in the scale its caller thinks in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Weight {
    V2(u64),
    V1(u64),
}

/// What a group may use. Empty to begin with: what is not set is not touched.
///
/// Nonsense (zero memory, negative processors, a device without a limit) is refused by [`plan`](Self::plan) and by everything
/// that takes limits, before anything on the host is touched.
///
/// Setting limits needs write access to the group: root, or a delegated subtree.
///
/// ```
/// use keelbox_cgroups::{Hierarchy, Limits, MIB};
/// let limits = Limits::new().memory(256 * MIB).swap(0).cpus(0.5).pids(32);
/// let host = Hierarchy::detect_from("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/\n");
/// assert_eq!(limits.plan(&host)?.to_string(), "\
/// 1 v2 memory.max = 268435456
/// 2 v2 memory.swap.max = 0
/// 3 v2 cpu.max = 50000 100000
/// 4 v2 pids.max = 32
/// ");
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Limits {
    memory: Option<u64>,
    memory_low: Option<u64>,
    swap: Option<u64>,
    memory_and_swap: Option<u64>,
    kernel_memory: Option<u64>,
    kernel_tcp_memory: Option<u64>,
    swappiness: Option<u64>,
    oom_killer: Option<OomKiller>,
    usage_check: bool,
    cpus: Option<f64>,
    cpu_quota: Option<Duration>,
    cpu_period: Option<Duration>,
    cpu_burst: Option<Duration>,
    cpu_weight: Option<Weight>,
    cpu_idle: Option<Idle>,
    realtime_runtime: Option<Duration>,
    realtime_period: Option<Duration>,
    pids: Option<u64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    io_weight: Option<Weight>,
    leaf_weight: Option<u64>,
    io_devices: Vec<IoDevice>,
    hugetlb: Vec<(String, u64)>,
    rdma: Vec<RdmaDevice>,
    network_class: Option<u32>,
    network_priorities: Vec<(String, u32)>,
    unified: Vec<(String, String)>,
    legacy: Vec<(String, String)>,
    best_effort: bool,
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory; what goes over it is reclaimed, swapped, or ends in the OOM killer. Default: no limit.
    ///
    /// The kernel rounds down to whole pages. v2 `memory.max`, v1 `memory.limit_in_bytes`.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Bytes of memory that are taken away only when nothing unprotected is left. Default: none (v1: no soft limit).
    ///
    /// v2 `memory.low`, v1 `memory.soft_limit_in_bytes`; OCI calls it `reservation`.
    pub fn memory_low(mut self, bytes: u64) -> Self {
        self.memory_low = Some(bytes);
        self
    }

    /// Bytes of *swap* beside the memory; 0 forbids swapping. Default: not limited.
    ///
    /// v2 `memory.swap.max`. v1 can limit only the sum, so there `memory.memsw.limit_in_bytes` becomes memory plus swap, and a
    /// limit for memory is required. If the kernel counts no swap and the host has none, 0 holds anyway and is reported as
    /// skipped, not as an error.
    pub fn swap(mut self, bytes: u64) -> Self {
        self.swap = Some(bytes);
        self
    }

    /// Processors' worth of time, such as 0.5 or 2. Default: no limit.
    ///
    /// Becomes a quota in a period of 100 ms (1 s below 0.01). Excludes [`cpu_quota`](Self::cpu_quota) and
    /// [`cpu_period`](Self::cpu_period).
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Processor time in each period, at least 1 ms; [`Duration::MAX`] takes the limit away. Default: no limit.
    ///
    /// v2 `cpu.max`, v1 `cpu.cfs_quota_us`.
    pub fn cpu_quota(mut self, quota: Duration) -> Self {
        self.cpu_quota = Some(quota);
        self
    }

    /// The period of the quota, 1 ms to 1 s. Default: 100 ms. v2 `cpu.max`, v1 `cpu.cfs_period_us`.
    pub fn cpu_period(mut self, period: Duration) -> Self {
        self.cpu_period = Some(period);
        self
    }

    /// Unused quota that may be saved up for a burst, at most one quota. Default: none. Linux 5.14.
    ///
    /// v2 `cpu.max.burst`, v1 `cpu.cfs_burst_us`.
    pub fn cpu_burst(mut self, burst: Duration) -> Self {
        self.cpu_burst = Some(burst);
        self
    }

    /// Share of processor time under contention, 1 to 10000, where 100 is everyone's default.
    ///
    /// v2 `cpu.weight`; converted to `cpu.shares` on v1. The last of this and [`cpu_shares`](Self::cpu_shares) counts.
    pub fn cpu_weight(mut self, weight: u64) -> Self {
        self.cpu_weight = Some(Weight::V2(weight));
        self
    }

    /// The same in the scale of v1, 2 to 262144, where 1024 is everyone's default.
    ///
    /// v1 `cpu.shares`; on v2 converted to `cpu.weight` by the curve the OCI runtimes have used since 2025 (1024 becomes 100).
    pub fn cpu_shares(mut self, shares: u64) -> Self {
        self.cpu_weight = Some(Weight::V1(shares));
        self
    }

    /// Run only when the processors are idle. Default: [`Idle::No`]. Excludes a weight. Linux 5.15. `cpu.idle` on both.
    pub fn cpu_idle(mut self, idle: Idle) -> Self {
        self.cpu_idle = Some(idle);
        self
    }

    /// Number of processes and threads; 0 is a limit too: nothing in the group can fork. Default: no limit.
    ///
    /// `pids.max` on both.
    pub fn pids(mut self, count: u64) -> Self {
        self.pids = Some(count);
        self
    }

    /// Processors to run on, as a list like `0-2,4`. Default: those of the parent. `cpuset.cpus` on both.
    pub fn cpuset_cpus(mut self, list: impl Into<String>) -> Self {
        self.cpuset_cpus = Some(list.into());
        self
    }

    /// Memory nodes to allocate from, as a list like `0-1`. Default: those of the parent. `cpuset.mems` on both.
    pub fn cpuset_mems(mut self, list: impl Into<String>) -> Self {
        self.cpuset_mems = Some(list.into());
        self
    }

    /// Share of block device time under contention, 1 to 10000, where 100 is everyone's default.
    ///
    /// v2 `io.weight`, v1 `blkio.weight`; where the kernel has only the BFQ scheduler's `bfq.weight`, that.
    pub fn io_weight(mut self, weight: u64) -> Self {
        self.io_weight = Some(Weight::V2(weight));
        self
    }

    /// The same in the scale of v1, 10 to 1000. The last of this and [`io_weight`](Self::io_weight) counts.
    pub fn blkio_weight(mut self, weight: u64) -> Self {
        self.io_weight = Some(Weight::V1(weight));
        self
    }

    /// Limits for one block device. May be called for several.
    pub fn io_device(mut self, device: IoDevice) -> Self {
        self.io_devices.push(device);
        self
    }

    /// Bytes of huge pages of one size, called as the kernel calls it: `64KB`, `2MB`, `1GB`. May be called for several.
    ///
    /// Limits reservations too (`hugetlb.SIZE.rsvd.max`): a limit on faults alone ends in SIGBUS long after `mmap` succeeded. Linux 5.7.
    pub fn hugetlb(mut self, page_size: impl Into<String>, bytes: u64) -> Self {
        self.hugetlb.push((page_size.into(), bytes));
        self
    }

    /// Handles and objects of one RDMA device. May be called for several. `rdma.max` on both.
    pub fn rdma(mut self, device: RdmaDevice) -> Self {
        self.rdma.push(device);
        self
    }

    /// Any file of cgroup v2 and its value, such as `memory.high` and `1048576`; a value of several lines is written
    /// line by line. Written after everything else.
    ///
    /// The controller that the key names is enabled, also one that this crate does not know; if the host does not offer it, that is
    /// [`Unsupported`](crate::ErrorKind::Unsupported). Files that are no limits (`cgroup.procs`, `cgroup.kill`, …) are refused, as is a `/` in the key.
    /// On v1 this is [`Unsupported`](crate::ErrorKind::Unsupported).
    pub fn unified(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.unified.push((key.into(), value.into()));
        self
    }

    /// Any file of a v1 controller and its value, such as `memory.swappiness` and `10`. Written after everything else.
    ///
    /// On v2 this is [`Unsupported`](crate::ErrorKind::Unsupported).
    pub fn legacy(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.legacy.push((key.into(), value.into()));
        self
    }

    /// Skip what cannot be had here, and report it in [`Applied`](crate::Applied), instead of failing. Nonsense is still refused.
    /// Default: what cannot be had is an error.
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    /// Whether what cannot be had here is skipped.
    ///
    /// ```
    /// use keelbox_cgroups::Limits;
    /// assert!(!Limits::new().is_best_effort());
    /// assert!(Limits::new().best_effort().is_best_effort());
    /// ```
    #[must_use]
    pub fn is_best_effort(&self) -> bool {
        self.best_effort
    }

    /// Whether nothing was asked for, beyond what every group begins with. Then no group is needed.
    ///
    /// ```
    /// use keelbox_cgroups::Limits;
    /// assert!(Limits::new().best_effort().is_empty());
    /// assert!(!Limits::new().pids(0).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        let oom_killer = self.oom_killer.filter(|killer| *killer != OomKiller::On);
        Self { best_effort: false, usage_check: false, oom_killer, ..self.clone() } == Self::default()
    }

    /// The writes for a fresh group on `hierarchy`, in the order the kernel needs. Touches no file.
    ///
    /// # Errors
    /// [`InvalidLimit`](crate::ErrorKind::InvalidLimit) for nonsense, [`Unsupported`](crate::ErrorKind::Unsupported) for
    /// what the hierarchies of this host cannot express.
    pub fn plan(&self, hierarchy: &Hierarchy) -> Result<Plan> {
        self.plan_from(hierarchy, &Present::default())
    }

    /// The writes that lead from the limits in `present` to these. Differs from [`plan`](Self::plan) in order, since the kernel never lets
    /// memory exceed memory plus swap, nor a burst its quota, even between two writes.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn plan_from(&self, hierarchy: &Hierarchy, present: &Present) -> Result<Plan> {
        Plan::of(&check::Checked::of(self)?, hierarchy, present)
    }
}
