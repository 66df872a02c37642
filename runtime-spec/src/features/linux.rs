//! The part of a features document that is particular to Linux (features-linux.md). Needs no kernel.
use serde::{Deserialize, Serialize};

use super::{Support, strings};
use crate::names;

/// The `linux` member of a features document. `None` means "unknown".
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[must_use]
pub struct LinuxFeatures {
    /// The namespace types that are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// The capabilities that are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// How cgroups can be driven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupFeatures>,
    /// What can be said in a seccomp filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompFeatures>,
    /// Whether AppArmor profiles can be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<Enabled>,
    /// Whether SELinux labels can be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Enabled>,
    /// What can be done with resctrl.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdtFeatures>,
    /// What can be said in a memory policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicyFeatures>,
    /// What can be done beyond mount(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_extensions: Option<MountExtensions>,
    /// Whether network devices can be moved into the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_devices: Option<Enabled>,
}

impl LinuxFeatures {
    /// All namespaces, capabilities, seccomp words and memory policies that this crate knows; everything that depends on
    /// what a runtime is built with is unknown, and set by the methods below.
    pub fn recognised() -> Self {
        let list = |words: &[&str]| strings(words.iter().copied());
        Self {
            namespaces: list(names::NAMESPACES),
            capabilities: list(names::CAPABILITIES),
            seccomp: Some(SeccompFeatures {
                enabled: None,
                actions: list(names::SECCOMP_ACTIONS),
                operators: list(names::SECCOMP_OPERATORS),
                archs: list(names::SECCOMP_ARCHITECTURES),
                known_flags: list(names::SECCOMP_FLAGS),
                supported_flags: None,
            }),
            memory_policy: Some(MemoryPolicyFeatures {
                modes: list(names::MEMORY_POLICY_MODES),
                flags: list(names::MEMORY_POLICY_FLAGS),
            }),
            ..Self::default()
        }
    }

    /// Whether cgroup v1 can be driven. Default: unknown.
    pub fn cgroup_v1(mut self, support: Support) -> Self {
        self.cgroup.get_or_insert_default().v1 = support.flag();
        self
    }

    /// Whether cgroup v2 can be driven. Default: unknown.
    pub fn cgroup_v2(mut self, support: Support) -> Self {
        self.cgroup.get_or_insert_default().v2 = support.flag();
        self
    }

    /// Whether systemd can be asked for cgroups, by the system's and by the user's instance. Default: unknown.
    pub fn cgroup_systemd(mut self, system: Support, user: Support) -> Self {
        let cgroup = self.cgroup.get_or_insert_default();
        (cgroup.systemd, cgroup.systemd_user) = (system.flag(), user.flag());
        self
    }

    /// Whether the rdma controller can be driven. Default: unknown.
    pub fn cgroup_rdma(mut self, support: Support) -> Self {
        self.cgroup.get_or_insert_default().rdma = support.flag();
        self
    }

    /// Whether seccomp filters can be made. Default: unknown.
    pub fn seccomp(mut self, support: Support) -> Self {
        self.seccomp.get_or_insert_default().enabled = support.flag();
        self
    }

    /// The architectures a filter can be made for. Default of [`LinuxFeatures::recognised`]: all known.
    pub fn seccomp_architectures<T: Into<String>>(mut self, list: impl IntoIterator<Item = T>) -> Self {
        self.seccomp.get_or_insert_default().archs = strings(list);
        self
    }

    /// The filter flags that the running kernel takes too. Default: unknown.
    pub fn seccomp_supported_flags<T: Into<String>>(mut self, list: impl IntoIterator<Item = T>) -> Self {
        self.seccomp.get_or_insert_default().supported_flags = strings(list);
        self
    }

    /// Whether AppArmor profiles can be set. Default: unknown.
    pub fn apparmor(mut self, support: Support) -> Self {
        self.apparmor = Some(support.enabled());
        self
    }

    /// Whether SELinux labels can be set. Default: unknown.
    pub fn selinux(mut self, support: Support) -> Self {
        self.selinux = Some(support.enabled());
        self
    }

    /// Whether `intelRdt` is obeyed, with `schemata` and `enableMonitoring`. Default: unknown.
    pub fn intel_rdt(mut self, all: Support, schemata: Support, monitoring: Support) -> Self {
        self.intel_rdt =
            Some(IntelRdtFeatures { enabled: all.flag(), schemata: schemata.flag(), monitoring: monitoring.flag() });
        self
    }

    /// Whether mounts can have id mappings, even partially (RS-159). Default: unknown.
    pub fn idmap_mounts(mut self, support: Support) -> Self {
        self.mount_extensions = Some(MountExtensions { idmap: Some(support.enabled()) });
        self
    }

    /// Whether network devices can be moved into the container. Default: unknown.
    pub fn net_devices(mut self, support: Support) -> Self {
        self.net_devices = Some(support.enabled());
        self
    }
}

/// How cgroups can be driven.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CgroupFeatures {
    /// Version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1: Option<bool>,
    /// Version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v2: Option<bool>,
    /// Through the system's systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<bool>,
    /// Through the user's systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd_user: Option<bool>,
    /// The rdma controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<bool>,
}

/// What can be said in a seccomp filter.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SeccompFeatures {
    /// Whether filters can be made at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The actions, such as `SCMP_ACT_ERRNO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// The comparisons, such as `SCMP_CMP_EQ`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Vec<String>>,
    /// The architectures, such as `SCMP_ARCH_X86_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archs: Option<Vec<String>>,
    /// The flags that are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_flags: Option<Vec<String>>,
    /// The flags of those that the kernel takes too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported_flags: Option<Vec<String>>,
}

/// What can be done with resctrl.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct IntelRdtFeatures {
    /// Whether `intelRdt` is obeyed at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether `intelRdt.schemata` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schemata: Option<bool>,
    /// Whether `intelRdt.enableMonitoring` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<bool>,
}

/// What can be said in a memory policy.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemoryPolicyFeatures {
    /// The modes, such as `MPOL_BIND`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modes: Option<Vec<String>>,
    /// The flags, such as `MPOL_F_STATIC_NODES`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
}

/// What can be done beyond mount(2).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MountExtensions {
    /// Mounts with id mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idmap: Option<Enabled>,
}

/// Whether one thing is built in.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Enabled {
    /// `None` means "unknown".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}
