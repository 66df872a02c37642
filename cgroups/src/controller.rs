//! The names of controllers and of the two interface versions.
//!
//! Leaves out: what a controller can limit, which is in `limits` and `plan`. Needs no kernel.

use std::fmt;

/// Which of the two cgroup interfaces a hierarchy speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Version {
    /// `cgroup2`, one tree for all controllers.
    V2,
    /// `cgroup`, one tree for each set of controllers.
    V1,
}

/// A cgroup controller, called by its v2 name where the two versions differ.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Controller {
    /// Processor time: weight, quota, idle.
    Cpu,
    /// Processor time accounting; v1 only (v2 counts always, in `cpu.stat`).
    Cpuacct,
    /// Processors and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Block devices; `blkio` on v1.
    Io,
    /// The number of processes and threads.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// RDMA handles and objects.
    Rdma,
    /// Miscellaneous scalar resources; v2 only, Linux 5.13.
    Misc,
    /// Device memory; v2 only, Linux 6.14.
    Dmem,
    /// Access to device nodes; v1 only (v2 asks an eBPF program).
    Devices,
    /// Freezing; v1 only (v2 has `cgroup.freeze` in every group).
    Freezer,
    /// Network class marks; v1 only.
    NetCls,
    /// Network priorities; v1 only.
    NetPrio,
    /// Performance events. Implicitly enabled on v2.
    PerfEvent,
    /// Not a controller: the `cgroup.*` and `*.pressure` files that every v2 group has.
    Core,
}

const ALL: [(Controller, &str); 17] = [
    (Controller::Cpu, "cpu"),
    (Controller::Cpuacct, "cpuacct"),
    (Controller::Cpuset, "cpuset"),
    (Controller::Memory, "memory"),
    (Controller::Io, "io"),
    (Controller::Io, "blkio"),
    (Controller::Pids, "pids"),
    (Controller::Hugetlb, "hugetlb"),
    (Controller::Rdma, "rdma"),
    (Controller::Misc, "misc"),
    (Controller::Dmem, "dmem"),
    (Controller::Devices, "devices"),
    (Controller::Freezer, "freezer"),
    (Controller::NetCls, "net_cls"),
    (Controller::NetPrio, "net_prio"),
    (Controller::PerfEvent, "perf_event"),
    (Controller::Core, "cgroup"),
];

impl Controller {
    /// The controller's name as `version` spells it; only `io` differs (`blkio` on v1).
    ///
    /// ```
    /// use keelbox_cgroups::{Controller, Version};
    /// assert_eq!(Controller::Io.name(Version::V1), "blkio");
    /// assert_eq!(Controller::Io.name(Version::V2), "io");
    /// ```
    pub fn name(self, version: Version) -> &'static str {
        if self == Self::Io && version == Version::V1 {
            return "blkio";
        }
        ALL.iter().find(|(controller, _)| *controller == self).map_or("", |(_, name)| name)
    }

    /// The controller called `name` on either version; `None` for a name this crate does not know.
    pub fn parse(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| *known == name).map(|(controller, _)| *controller)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name(Version::V2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_controller() {
        for (controller, name) in ALL {
            assert_eq!(Controller::parse(name), Some(controller));
            assert_eq!(Controller::parse(controller.name(Version::V1)), Some(controller));
        }
        assert_eq!(Controller::parse("debug"), None);
    }
}
