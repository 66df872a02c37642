//! The eight kinds of namespaces, and sets of them. Pure.
//!
//! Leaves out on purpose: whether this kernel was built with a kind; `/proc/self/ns` tells that. Oldest kernel: none.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// A kind of namespace, as `namespaces(7)` lists them.
///
/// Shown with the kernel's name, read from the kernel's or OCI's:
///
/// ```
/// use keelbox_namespaces::Kind;
///
/// assert_eq!("network".parse::<Kind>()?, Kind::Net);
/// assert_eq!(Kind::Net.to_string(), "net");
/// assert_eq!(Kind::Net.oci_name(), "network");
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Kind {
    /// User and group ids, and the capabilities that count there: `user_namespaces(7)`.
    User,
    /// Mounts: `mount_namespaces(7)`.
    Mount,
    /// Process ids: `pid_namespaces(7)`.
    Pid,
    /// Network devices, addresses, ports, abstract sockets: `network_namespaces(7)`.
    Net,
    /// System V IPC and POSIX message queues: `ipc_namespaces(7)`.
    Ipc,
    /// Host name and NIS domain name: `uts_namespaces(7)`.
    Uts,
    /// What is shown as the root of the cgroup hierarchies: `cgroup_namespaces(7)`.
    Cgroup,
    /// Offsets of the monotonic and boot-time clocks: `time_namespaces(7)`.
    Time,
}

impl Kind {
    /// All kinds, the user namespace first.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Mount, Self::Pid, Self::Net, Self::Ipc, Self::Uts, Self::Cgroup, Self::Time];

    /// Its `CLONE_NEW*` number, as `clone3(2)`, `unshare(2)` and `setns(2)` take it.
    pub const fn flag(self) -> u32 {
        match self {
            Self::Time => 0x0000_0080,
            Self::Mount => 0x0002_0000,
            Self::Cgroup => 0x0200_0000,
            Self::Uts => 0x0400_0000,
            Self::Ipc => 0x0800_0000,
            Self::User => 0x1000_0000,
            Self::Pid => 0x2000_0000,
            Self::Net => 0x4000_0000,
        }
    }

    /// The kind with this `CLONE_NEW*` number.
    pub fn from_flag(flag: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.flag() == flag)
    }

    /// The name of its file in `/proc/PID/ns`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// The file in `/proc/PID/ns` that tells where children will be born, which for pid and time namespaces is not
    /// always where the process itself is.
    pub const fn name_for_children(self) -> &'static str {
        match self {
            Self::Pid => "pid_for_children",
            Self::Time => "time_for_children",
            other => other.name(),
        }
    }

    /// The name that the OCI runtime specification uses.
    pub const fn oci_name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Net => "network",
            other => other.name(),
        }
    }

    /// The sysctl in `/proc/sys/user` that limits how many a user may have.
    pub const fn limit_name(self) -> &'static str {
        match self {
            Self::User => "max_user_namespaces",
            Self::Mount => "max_mnt_namespaces",
            Self::Pid => "max_pid_namespaces",
            Self::Net => "max_net_namespaces",
            Self::Ipc => "max_ipc_namespaces",
            Self::Uts => "max_uts_namespaces",
            Self::Cgroup => "max_cgroup_namespaces",
            Self::Time => "max_time_namespaces",
        }
    }

    /// The first kernel that has it, as major and minor version. For messages; no code decides by it.
    pub const fn oldest_kernel(self) -> (u32, u32) {
        match self {
            Self::Mount => (2, 4),
            Self::Uts | Self::Ipc | Self::Pid | Self::Net => (2, 6),
            Self::User => (3, 8),
            Self::Cgroup => (4, 6),
            Self::Time => (5, 6),
        }
    }

    /// What people call it: "network namespace".
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::User => "user namespace",
            Self::Mount => "mount namespace",
            Self::Pid => "pid namespace",
            Self::Net => "network namespace",
            Self::Ipc => "ipc namespace",
            Self::Uts => "uts namespace",
            Self::Cgroup => "cgroup namespace",
            Self::Time => "time namespace",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = |kind: &Self| name == kind.name() || name == kind.oci_name();
        Self::ALL
            .into_iter()
            .find(known)
            .ok_or_else(|| Error::new(ErrorKind::Malformed, format!("unknown kind of namespace {name:?}")))
    }
}

/// A set of kinds.
///
/// ```
/// use keelbox_namespaces::{Kind, NamespaceSet};
///
/// let set = NamespaceSet::from_iter([Kind::Net, Kind::User]);
/// assert!(set.contains(Kind::Net) && !set.contains(Kind::Pid));
/// assert_eq!(set.to_string(), "user, net");
/// ```
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct NamespaceSet(u32);

impl NamespaceSet {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Whether `kind` is in it.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & kind.flag() != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many kinds are in it.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// This set and `kind`.
    #[must_use]
    pub const fn and(self, kind: Kind) -> Self {
        Self(self.0 | kind.flag())
    }

    /// This set without `kind`.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Self {
        Self(self.0 & !kind.flag())
    }

    /// The kinds, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    /// The `CLONE_NEW*` numbers, added up.
    pub const fn flags(self) -> u32 {
        self.0
    }

    /// The kinds whose `CLONE_NEW*` number is in `flags`; other bits are passed over.
    pub fn from_flags(flags: u32) -> Self {
        Kind::ALL.into_iter().filter(|kind| flags & kind.flag() != 0).collect()
    }
}

impl FromIterator<Kind> for NamespaceSet {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::and)
    }
}

impl Extend<Kind> for NamespaceSet {
    fn extend<I: IntoIterator<Item = Kind>>(&mut self, kinds: I) {
        *self = kinds.into_iter().fold(*self, Self::and);
    }
}

impl From<Kind> for NamespaceSet {
    fn from(kind: Kind) -> Self {
        Self::NONE.and(kind)
    }
}

impl fmt::Display for NamespaceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Kind::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for NamespaceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let table = [
            (Kind::User, 0x1000_0000, "user", "user"),
            (Kind::Mount, 0x0002_0000, "mnt", "mount"),
            (Kind::Pid, 0x2000_0000, "pid", "pid"),
            (Kind::Net, 0x4000_0000, "net", "network"),
            (Kind::Ipc, 0x0800_0000, "ipc", "ipc"),
            (Kind::Uts, 0x0400_0000, "uts", "uts"),
            (Kind::Cgroup, 0x0200_0000, "cgroup", "cgroup"),
            (Kind::Time, 0x80, "time", "time"),
        ];
        assert_eq!(table.map(|row| row.0), Kind::ALL);
        for (kind, flag, kernel, oci) in table {
            assert_eq!(kind.flag(), flag);
            assert_eq!(Kind::from_flag(flag), Some(kind));
            assert_eq!(kernel.parse::<Kind>().unwrap(), kind);
            assert_eq!(oci.parse::<Kind>().unwrap(), kind);
            assert_eq!((kind.to_string(), kind.oci_name()), (kernel.to_owned(), oci));
        }
        assert_eq!(Kind::from_flag(0x200), None);
        let error = "Network".parse::<Kind>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(error.to_string(), "unknown kind of namespace \"Network\"");
    }

    #[test]
    fn a_set_adds_up() {
        let all = NamespaceSet::from_iter(Kind::ALL);
        assert_eq!((all.len(), all.flags()), (8, 0x7e02_0080));
        assert_eq!(NamespaceSet::from_flags(u32::MAX), all);
        assert_eq!(NamespaceSet::from_flags(0x4000_0011), Kind::Net.into());
        assert!(all.without(Kind::Pid).iter().all(|kind| kind != Kind::Pid));
        assert!(NamespaceSet::NONE.is_empty() && !all.is_empty());
        let mut set = NamespaceSet::NONE;
        set.extend([Kind::Time, Kind::Mount]);
        assert_eq!((set.to_string(), format!("{set:?}")), ("mnt, time".into(), "{Mount, Time}".into()));
    }
}
