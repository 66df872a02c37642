//! What a program may be given beside who it is: how it is scheduled, where its memory comes from, which machine it sees.
//!
//! The words are those of the OCI runtime specification. Leaves out what the kernel makes of them: see `plan/attributes.rs`.
//! Needs no kernel.

use std::time::Duration;

use oci_spec::runtime as oci;

/// How the kernel shares the processors with a program (sched(7)).
///
/// ```
/// use keelbox::{Container, Scheduler};
/// let batch = Container::from_rootfs("/srv/render").args(["render"]).scheduler(Scheduler::batch(10));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scheduler(oci::Scheduler);

impl Scheduler {
    fn policy(policy: oci::LinuxSchedulerPolicy) -> Self {
        let mut scheduler = oci::Scheduler::default();
        scheduler.set_policy(policy);
        Self(scheduler)
    }

    fn fair(policy: oci::LinuxSchedulerPolicy, nice: i32) -> Self {
        let mut scheduler = Self::policy(policy);
        scheduler.0.set_nice(Some(nice));
        scheduler
    }

    fn static_priority(policy: oci::LinuxSchedulerPolicy, priority: u8) -> Self {
        let mut scheduler = Self::policy(policy);
        scheduler.0.set_priority(Some(priority.into()));
        scheduler
    }

    /// The usual policy, with a nice value from -20 (the most of the processor) to 19. Less than the caller's needs `CAP_SYS_NICE`.
    #[must_use]
    pub fn other(nice: i32) -> Self {
        Self::fair(oci::LinuxSchedulerPolicy::SchedOther, nice)
    }

    /// As [`other`](Self::other), for programs that compute and do not wait for anybody.
    #[must_use]
    pub fn batch(nice: i32) -> Self {
        Self::fair(oci::LinuxSchedulerPolicy::SchedBatch, nice)
    }

    /// Only what nobody else wants.
    #[must_use]
    pub fn idle() -> Self {
        Self::policy(oci::LinuxSchedulerPolicy::SchedIdle)
    }

    /// In real time, until it waits: before everything of a lower priority, which goes from 1 to 99. Needs `CAP_SYS_NICE`.
    #[must_use]
    pub fn fifo(priority: u8) -> Self {
        Self::static_priority(oci::LinuxSchedulerPolicy::SchedFifo, priority)
    }

    /// As [`fifo`](Self::fifo), taking turns with others of the same priority.
    #[must_use]
    pub fn round_robin(priority: u8) -> Self {
        Self::static_priority(oci::LinuxSchedulerPolicy::SchedRr, priority)
    }

    /// In real time: `runtime` of the processor within `deadline`, once in each `period`. Needs `CAP_SYS_NICE`.
    ///
    /// The kernel refuses what it cannot promise (`EBUSY`), and a program that may not run on all processors (`EPERM`). Such a program
    /// cannot make processes, unless it is also [`reset_on_fork`](Self::reset_on_fork).
    #[must_use]
    pub fn deadline(runtime: Duration, deadline: Duration, period: Duration) -> Self {
        let nanoseconds = |time: Duration| Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let mut scheduler = Self::policy(oci::LinuxSchedulerPolicy::SchedDeadline);
        scheduler
            .0
            .set_runtime(nanoseconds(runtime))
            .set_deadline(nanoseconds(deadline))
            .set_period(nanoseconds(period));
        scheduler
    }

    /// Processes that the program makes are scheduled as usual.
    #[must_use]
    pub fn reset_on_fork(mut self) -> Self {
        let mut flags = self.0.flags().clone().unwrap_or_default();
        flags.push(oci::LinuxSchedulerFlag::SchedResetOnFork);
        self.0.set_flags(Some(flags));
        self
    }
}

impl From<Scheduler> for oci::Scheduler {
    fn from(scheduler: Scheduler) -> Self {
        scheduler.0
    }
}

impl From<oci::Scheduler> for Scheduler {
    fn from(scheduler: oci::Scheduler) -> Self {
        Self(scheduler)
    }
}

/// Whose requests a disk serves first (ioprio_set(2)).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum IoPriority {
    /// Before all others; among themselves from 0, the first, to 7. Needs `CAP_SYS_ADMIN` or, from Linux 5.15 on, `CAP_SYS_NICE`.
    RealTime(u8),
    /// As usual, from 0, the first, to 7.
    BestEffort(u8),
    /// After all others.
    Idle,
}

impl From<IoPriority> for oci::LinuxIOPriority {
    fn from(priority: IoPriority) -> Self {
        let (class, level) = match priority {
            IoPriority::RealTime(level) => (oci::IOPriorityClass::IoprioClassRt, level),
            IoPriority::BestEffort(level) => (oci::IOPriorityClass::IoprioClassBe, level),
            IoPriority::Idle => (oci::IOPriorityClass::IoprioClassIdle, 0),
        };
        // Nothing in it can be missing.
        oci::LinuxIOPriorityBuilder::default().class(class).priority(i64::from(level)).build().unwrap_or_default()
    }
}

/// From which NUMA nodes a program's memory comes (set_mempolicy(2), numa(7)). Nodes are a list such as `0-2,5`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryPolicy(oci::LinuxMemoryPolicy);

impl MemoryPolicy {
    fn mode(mode: oci::MemoryPolicyModeType, nodes: Option<String>) -> Self {
        let mut policy = oci::LinuxMemoryPolicy::default();
        policy.set_mode(mode).set_nodes(nodes);
        Self(policy)
    }

    /// From these nodes only.
    #[must_use]
    pub fn bind(nodes: impl Into<String>) -> Self {
        Self::mode(oci::MemoryPolicyModeType::MpolBind, Some(nodes.into()))
    }

    /// From these nodes in turn.
    #[must_use]
    pub fn interleave(nodes: impl Into<String>) -> Self {
        Self::mode(oci::MemoryPolicyModeType::MpolInterleave, Some(nodes.into()))
    }

    /// From these nodes in turn, by the weights of the machine (Linux 6.9).
    #[must_use]
    pub fn weighted_interleave(nodes: impl Into<String>) -> Self {
        Self::mode(oci::MemoryPolicyModeType::MpolWeightedInterleave, Some(nodes.into()))
    }

    /// From this node as long as it has any.
    #[must_use]
    pub fn preferred(node: impl Into<String>) -> Self {
        Self::mode(oci::MemoryPolicyModeType::MpolPreferred, Some(node.into()))
    }

    /// From these nodes as long as they have any (Linux 5.15).
    #[must_use]
    pub fn preferred_many(nodes: impl Into<String>) -> Self {
        Self::mode(oci::MemoryPolicyModeType::MpolPreferredMany, Some(nodes.into()))
    }

    /// From the node of the processor that runs the program.
    #[must_use]
    pub fn local() -> Self {
        Self::mode(oci::MemoryPolicyModeType::MpolLocal, None)
    }
}

impl From<MemoryPolicy> for oci::LinuxMemoryPolicy {
    fn from(policy: MemoryPolicy) -> Self {
        policy.0
    }
}

impl From<oci::LinuxMemoryPolicy> for MemoryPolicy {
    fn from(policy: oci::LinuxMemoryPolicy) -> Self {
        Self(policy)
    }
}

/// The kind of machine that a program believes to be on (personality(2)).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Personality {
    /// What it is.
    Linux,
    /// The 32-bit one of its family: `uname -m` says `i686` on `x86_64`.
    Linux32,
}

impl From<Personality> for oci::LinuxPersonality {
    fn from(personality: Personality) -> Self {
        let mut value = Self::default();
        value.set_domain(match personality {
            Personality::Linux => oci::LinuxPersonalityDomain::PerLinux,
            Personality::Linux32 => oci::LinuxPersonalityDomain::PerLinux32,
        });
        value
    }
}
