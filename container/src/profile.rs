//! Presets: how much a container is trusted. What each gives is listed in `SECURITY.md`.

use keelbox_mounts::Defaults;
use oci_spec::runtime::Capability;

/// How much a container is trusted.
///
/// ```
/// use keelbox::{Container, Profile};
/// let judge = Container::from_rootfs("/srv/python").profile(Profile::Hostile).args(["python3", "-"]);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Profile {
    /// Code that you would run without a container too: own namespaces and root, every capability that the caller has, no
    /// system call filter, nothing hidden.
    Trusted,
    /// Ordinary programs and images: ten capabilities, no new privileges, the default system call filter, kernel interfaces
    /// hidden or read-only.
    #[default]
    Ordinary,
    /// Code that may want to break out: no capability at all, the strict system call filter, a read-only root with small
    /// writable `/tmp` and `/run`, no `/sys`, only processes in `/proc`, at most 256 processes.
    Hostile,
    /// What the specification says and nothing else: for bundles whose `config.json` was written by an engine.
    Exact,
}

impl Profile {
    /// What it adds to the root file system.
    pub(crate) fn surroundings(self) -> Option<Defaults> {
        match self {
            Self::Exact => None,
            Self::Trusted => Some(Defaults::Trusted),
            Self::Ordinary => Some(Defaults::Container),
            Self::Hostile => Some(Defaults::Hostile),
        }
    }
}

/// The capabilities that ordinary programs get: Docker's, without those that open raw sockets, make device nodes, write to the
/// audit log or give files capabilities.
pub(crate) const ORDINARY_CAPABILITIES: [Capability; 10] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
];

impl Profile {
    pub(crate) fn limits_descriptors(self) -> bool {
        matches!(self, Self::Ordinary | Self::Hostile)
    }

    pub(crate) fn no_new_privileges(self) -> bool {
        matches!(self, Self::Ordinary | Self::Hostile)
    }
}
