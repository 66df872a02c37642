//! Limits that are seldom asked for: most of them exist on v1 only, and are here since the OCI runtime specification names them.
//!
//! Leaves out: what is written where, which is `plan`. Needs no kernel.

use std::time::Duration;

use super::Limits;

/// What happens to a group that is out of memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OomKiller {
    /// A process of it is killed. What every group begins with.
    On,
    /// Its processes wait until memory is freed, or the limit raised. v1 only.
    Off,
}

impl Limits {
    /// Bytes of memory and swap *together*, as v1 and OCI count. Excludes [`swap`](Self::swap). Default: not limited.
    ///
    /// v1 `memory.memsw.limit_in_bytes`. On v2 the limit of memory is taken off, that of these limits or else the one the group has,
    /// and there must be one; [`UNLIMITED`](crate::UNLIMITED) is `max`.
    pub fn memory_and_swap(mut self, bytes: u64) -> Self {
        self.memory_and_swap = Some(bytes);
        self
    }

    /// Bytes of kernel memory. Default: not limited.
    ///
    /// v1 `memory.kmem.limit_in_bytes`. v2, and v1 since Linux 5.16, count kernel memory within [`memory`](Self::memory) and have no
    /// other limit for it: there it is reported as skipped.
    pub fn kernel_memory(mut self, bytes: u64) -> Self {
        self.kernel_memory = Some(bytes);
        self
    }

    /// Bytes of kernel memory for TCP buffers. Default: not limited. v1 `memory.kmem.tcp.limit_in_bytes`; not on v2.
    pub fn kernel_tcp_memory(mut self, bytes: u64) -> Self {
        self.kernel_tcp_memory = Some(bytes);
        self
    }

    /// How readily memory is swapped out, 0 to 100 (200 since Linux 5.8). Default: as the parent. v1 `memory.swappiness`; not on v2.
    pub fn swappiness(mut self, readiness: u64) -> Self {
        self.swappiness = Some(readiness);
        self
    }

    /// Whether a process is killed when there is no memory left. Default: it is. v1 `memory.oom_control`; on v2 it cannot be turned off.
    pub fn oom_killer(mut self, killer: OomKiller) -> Self {
        self.oom_killer = Some(killer);
        self
    }

    /// Refuses a limit of memory that is lower than what the group uses, instead of having the kernel reclaim, and kill if that does
    /// not suffice. Default: the kernel decides.
    pub fn usage_check(mut self) -> Self {
        self.usage_check = true;
        self
    }

    /// The limit of memory that is to be compared with what is used, if it is.
    pub(crate) fn least_usage(&self) -> Option<u64> {
        self.memory.filter(|_| self.usage_check)
    }

    /// Processor time for realtime processes in each period. Default: none. v1 `cpu.rt_runtime_us`, if the kernel was built with
    /// `CONFIG_RT_GROUP_SCHED`; not on v2.
    pub fn realtime_runtime(mut self, time: Duration) -> Self {
        self.realtime_runtime = Some(time);
        self
    }

    /// The period of [`realtime_runtime`](Self::realtime_runtime). Default: 1 s. v1 `cpu.rt_period_us`; not on v2.
    pub fn realtime_period(mut self, period: Duration) -> Self {
        self.realtime_period = Some(period);
        self
    }

    /// Share of block device time against groups below this one, 10 to 1000. v1 `blkio.leaf_weight`, which Linux 5.0 has dropped; not on v2.
    pub fn leaf_weight(mut self, weight: u64) -> Self {
        self.leaf_weight = Some(weight);
        self
    }

    /// The mark of the group's packets for traffic control. Default: none. v1 `net_cls.classid`; not on v2.
    pub fn network_class(mut self, class: u32) -> Self {
        self.network_class = Some(class);
        self
    }

    /// The priority of the group's traffic on one network interface. May be called for several. v1 `net_prio.ifpriomap`; not on v2.
    pub fn network_priority(mut self, interface: impl Into<String>, priority: u32) -> Self {
        self.network_priorities.push((interface.into(), priority));
        self
    }
}
