//! Setters about resources: cgroup limits, time, and the names of resource limits.

use std::time::Duration;

use keelbox_cgroups::Limits;
use oci_spec::runtime as oci;

use super::Container;

/// A resource limit of `setrlimit(2)`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Resource {
    /// Processor time, in seconds.
    Cpu,
    /// The size of a file, in bytes.
    FileSize,
    /// The size of the data segment, in bytes.
    Data,
    /// The size of the stack, in bytes.
    Stack,
    /// The size of a core dump, in bytes.
    Core,
    /// The number of processes of the user.
    Processes,
    /// One more than the highest descriptor number.
    Descriptors,
    /// Locked memory, in bytes.
    LockedMemory,
    /// The size of the address space, in bytes.
    AddressSpace,
}

impl Resource {
    pub(crate) fn oci(self) -> oci::PosixRlimitType {
        use oci::PosixRlimitType as Type;
        match self {
            Self::Cpu => Type::RlimitCpu,
            Self::FileSize => Type::RlimitFsize,
            Self::Data => Type::RlimitData,
            Self::Stack => Type::RlimitStack,
            Self::Core => Type::RlimitCore,
            Self::Processes => Type::RlimitNproc,
            Self::Descriptors => Type::RlimitNofile,
            Self::LockedMemory => Type::RlimitMemlock,
            Self::AddressSpace => Type::RlimitAs,
        }
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident($argument:ident: $kind:ty);)*) => {
        impl Container {$(
            $(#[$doc])*
            pub fn $name(mut self, $argument: $kind) -> Self {
                self.spec.limits = self.spec.limits.$name($argument);
                self
            }
        )*}
    };
}

limits! {
    /// The most memory that the container may use, in bytes, page cache included. Default: no limit.
    ///
    /// Needs root or a delegated cgroup; a limit that cannot be had is an error. The end of a program that was killed for it is
    /// [`Reason::OutOfMemory`](crate::Reason::OutOfMemory).
    memory(bytes: u64);
    /// The most swap space, in bytes. Default: no limit. 0 for none.
    swap(bytes: u64);
    /// How many processors' time the container may use, such as 0.5. Default: no limit.
    cpus(count: f64);
    /// The share of processor time where it is short, from 1 to 10,000. Default: 100.
    cpu_weight(weight: u64);
    /// The most processes and threads. Default: no limit.
    pids(count: u64);
}

impl Container {
    /// All limits at once, in the place of those set before. Default: none, and then no control group is made.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.spec.limits = limits;
        self
    }

    /// Gives the container a control group although it has no limits: for statistics and for pausing. Default: only with limits.
    pub fn control_group(mut self) -> Self {
        self.spec.grouped = true;
        self
    }

    /// Where the control group is made, as `linux.cgroupsPath` of the OCI runtime specification: in every hierarchy, with the directories above
    /// it that are missing. Default: a group with a name of our own below the caller's.
    ///
    /// An absolute path starts at the top of what is mounted, a relative one at the highest group that the caller may write to. A
    /// group that is there already is used if nothing runs in it, and stays; with processes in it, or frozen, it is
    /// [`ErrorKind::State`](crate::ErrorKind::State) when the container is started. Unlike one of our own, it is not swept up if this program
    /// is killed.
    pub fn cgroups_path(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        let path = path.into();
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            self.spec.refuse(format!("cannot use {} as the path of a control group: it climbs", path.display()));
        }
        self.spec.linux().set_cgroups_path(Some(path));
        self
    }

    /// Has systemd make the control group, as a scope: where it manages the tree, a group that it does not know of is in its way. Default: we make
    /// it ourselves.
    ///
    /// The path of the group, of a bundle or of [`cgroups_path`](Self::cgroups_path), is of the form `slice:prefix:name` then, for
    /// `prefix-name.scope` in `slice`; without one it is `keelbox-ID.scope` where systemd puts it. Works for containers with a name, on
    /// hosts with nothing but cgroup v2; anything else, and a machine without systemd, is
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) or [`ErrorKind::Limit`](crate::ErrorKind::Limit) before anything is touched.
    #[cfg(feature = "systemd")]
    pub fn systemd(mut self, bus: &keelbox_cgroups::systemd::Bus) -> Self {
        self.spec.systemd = Some(bus.socket().to_owned());
        self
    }

    /// The resctrl file system in which `linux.intelRdt` of a bundle is honoured. Default: the one that is mounted.
    pub fn resctrl(mut self, root: impl Into<std::path::PathBuf>) -> Self {
        self.spec.resctrl = Some(root.into());
        self
    }

    /// How long the program may run. Then the whole container is killed, and its end is
    /// [`Reason::TimeLimit`](crate::Reason::TimeLimit). Default: no limit.
    ///
    /// It is kept while the handle is waited for, by any of its `wait` functions, [`status`](Self::status) or
    /// [`output`](Self::output).
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.spec.time_limit = Some(limit);
        self
    }
}
