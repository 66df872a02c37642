//! The tables for the `linux` member of `config.json` (config-linux.md) and of a features document (features-linux.md),
//! without `resources`. Needs no kernel.
use super::{I64, Object, STRINGS, Shape, TEXTS, U32, U64, optional, resources, vital};
use crate::{names, rules};

/// The `linux` member, in the order of the specification.
pub(crate) static LINUX: Object = Object {
    rule: rules::VALUES,
    fields: &[
        optional("namespaces", Shape::List(&Shape::Object(&NAMESPACE))).by(rules::NAMESPACES),
        optional("uidMappings", MAPPINGS).by(rules::ID_MAPPINGS),
        optional("gidMappings", MAPPINGS).by(rules::ID_MAPPINGS),
        optional("timeOffsets", Shape::Map(&Shape::Object(&TIME_OFFSET))).by(rules::TIME_OFFSETS),
        optional("devices", Shape::List(&Shape::Object(&DEVICE))).by(rules::DEVICES),
        optional("netDevices", Shape::Map(&Shape::Object(&NET_DEVICE))).by(rules::NET_DEVICES),
        optional("cgroupsPath", Shape::Text).by(rules::CGROUPS_PATH),
        optional("resources", Shape::Object(&resources::RESOURCES)),
        optional("intelRdt", Shape::Object(&INTEL_RDT)).by(rules::INTEL_RDT),
        optional("memoryPolicy", Shape::Object(&MEMORY_POLICY)).by(rules::MEMORY_POLICY),
        optional("sysctl", STRINGS).by(rules::SYSCTL),
        optional("seccomp", Shape::Object(&SECCOMP)).by(rules::SECCOMP),
        optional("rootfsPropagation", Shape::Word(names::ROOTFS_PROPAGATIONS)).by(rules::PROPAGATION),
        optional("maskedPaths", TEXTS).by(rules::MASKED_PATHS),
        optional("readonlyPaths", TEXTS).by(rules::READONLY_PATHS),
        optional("mountLabel", Shape::Text).by(rules::MOUNT_LABEL),
        optional("personality", Shape::Object(&PERSONALITY)).by(rules::PERSONALITY),
    ],
};

/// A list of id mappings. A missing number would read as 0, which is root: all three are vital.
pub(crate) const MAPPINGS: Shape = Shape::List(&Shape::Object(&MAPPING));

static MAPPING: Object =
    Object { rule: rules::ID_MAPPINGS, fields: &[vital("containerID", U32), vital("hostID", U32), vital("size", U32)] };

static NAMESPACE: Object = Object {
    rule: rules::NAMESPACES,
    fields: &[vital("type", Shape::Word(names::NAMESPACES)), optional("path", Shape::Text).by(rules::NAMESPACE_PATH)],
};

static TIME_OFFSET: Object =
    Object { rule: rules::TIME_OFFSETS, fields: &[optional("secs", I64), optional("nanosecs", U32)] };

static DEVICE: Object = Object {
    rule: rules::DEVICES,
    fields: &[
        vital("type", Shape::Word(&["c", "b", "u", "p"])),
        vital("path", Shape::Text),
        optional("major", I64),
        optional("minor", I64),
        optional("fileMode", U32),
        optional("uid", U32),
        optional("gid", U32),
    ],
};

static NET_DEVICE: Object =
    Object { rule: rules::NET_DEVICES, fields: &[optional("name", Shape::Text).by(rules::NET_DEVICE_NAMES)] };

static INTEL_RDT: Object = Object {
    rule: rules::INTEL_RDT,
    fields: &[
        optional("closID", Shape::Text).by(rules::INTEL_RDT_CLASS),
        optional("schemata", TEXTS).by(rules::INTEL_RDT_SCHEMA),
        optional("l3CacheSchema", Shape::Text).by(rules::INTEL_RDT_SCHEMA),
        optional("memBwSchema", Shape::Text).by(rules::INTEL_RDT_SCHEMA),
        optional("enableMonitoring", Shape::Flag),
    ],
};

static MEMORY_POLICY: Object = Object {
    rule: rules::MEMORY_POLICY,
    fields: &[
        vital("mode", Shape::Word(names::MEMORY_POLICY_MODES)),
        optional("nodes", Shape::Text),
        optional("flags", Shape::List(&Shape::Word(names::MEMORY_POLICY_FLAGS))),
    ],
};

static PERSONALITY: Object = Object {
    rule: rules::PERSONALITY,
    fields: &[vital("domain", Shape::Word(&["LINUX", "LINUX32"])), optional("flags", TEXTS)],
};

static SECCOMP: Object = Object {
    rule: rules::SECCOMP,
    fields: &[
        vital("defaultAction", Shape::Word(names::SECCOMP_ACTIONS)),
        optional("defaultErrnoRet", U32).by(rules::SECCOMP_ERRNO),
        optional("architectures", Shape::List(&Shape::Word(names::SECCOMP_ARCHITECTURES))).by(rules::SECCOMP_ARCH),
        optional("flags", Shape::List(&Shape::Word(names::SECCOMP_FLAGS))).by(rules::SECCOMP_FLAGS),
        optional("listenerPath", Shape::Text).by(rules::SECCOMP_NOTIFY),
        optional("listenerMetadata", Shape::Data).by(rules::SECCOMP_NOTIFY),
        optional("syscalls", Shape::List(&Shape::Object(&SYSCALL))).by(rules::SECCOMP_SYSCALL),
    ],
};

static SYSCALL: Object = Object {
    rule: rules::SECCOMP_SYSCALL,
    fields: &[
        vital("names", TEXTS),
        vital("action", Shape::Word(names::SECCOMP_ACTIONS)),
        optional("errnoRet", U32).by(rules::SECCOMP_ERRNO),
        optional("args", Shape::List(&Shape::Object(&SYSCALL_ARG))),
    ],
};

static SYSCALL_ARG: Object = Object {
    rule: rules::SECCOMP_SYSCALL,
    fields: &[
        vital("index", U32),
        vital("value", U64),
        optional("valueTwo", U64),
        vital("op", Shape::Word(names::SECCOMP_OPERATORS)),
    ],
};

static ENABLED: Object = Object { rule: rules::FEATURES, fields: &[optional("enabled", Shape::Flag)] };

/// The `linux` member of a features document. Unknown words are what a newer runtime may know, so all are plain text.
pub(crate) static FEATURES: Object = Object {
    rule: rules::FEATURES,
    fields: &[
        optional("namespaces", TEXTS),
        optional("capabilities", TEXTS),
        optional("cgroup", Shape::Object(&FEATURES_CGROUP)),
        optional("seccomp", Shape::Object(&FEATURES_SECCOMP)),
        optional("apparmor", Shape::Object(&ENABLED)),
        optional("selinux", Shape::Object(&ENABLED)),
        optional("intelRdt", Shape::Object(&FEATURES_RDT)),
        optional("memoryPolicy", Shape::Object(&FEATURES_MEMORY_POLICY)),
        optional("mountExtensions", Shape::Object(&FEATURES_MOUNT)),
        optional("netDevices", Shape::Object(&ENABLED)),
    ],
};

static FEATURES_CGROUP: Object = Object {
    rule: rules::FEATURES,
    fields: &[
        optional("v1", Shape::Flag),
        optional("v2", Shape::Flag),
        optional("systemd", Shape::Flag),
        optional("systemdUser", Shape::Flag),
        optional("rdma", Shape::Flag),
    ],
};

static FEATURES_SECCOMP: Object = Object {
    rule: rules::FEATURES_SECCOMP,
    fields: &[
        optional("enabled", Shape::Flag),
        optional("actions", TEXTS),
        optional("operators", TEXTS),
        optional("archs", TEXTS),
        optional("knownFlags", TEXTS),
        optional("supportedFlags", TEXTS),
    ],
};

static FEATURES_RDT: Object = Object {
    rule: rules::FEATURES,
    fields: &[optional("enabled", Shape::Flag), optional("schemata", Shape::Flag), optional("monitoring", Shape::Flag)],
};

static FEATURES_MEMORY_POLICY: Object =
    Object { rule: rules::FEATURES, fields: &[optional("modes", TEXTS), optional("flags", TEXTS)] };

static FEATURES_MOUNT: Object = Object { rule: rules::FEATURES, fields: &[optional("idmap", Shape::Object(&ENABLED))] };
