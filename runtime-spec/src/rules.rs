//! The rules by name, each with the section of the specification that states it.
//!
//! Left out on purpose: rules about what a runtime does, which need a kernel to check. Needs no kernel.
use crate::problem::Rule;

macro_rules! rules {
    ($($name:ident = $id:literal $section:literal;)*) => {
        $(pub(crate) const $name: Rule = Rule { id: $id, section: $section };)*
    };
}

rules! {
    VALUES = "RS-006" "config.md#valid-values";
    VERSION = "RS-010" "config.md#specification-version";
    ROOT = "RS-011" "config.md#root";
    DESTINATION = "RS-014" "config.md#mounts";
    BIND = "RS-015" "config.md#posix-platform-mounts";
    MOUNT_OPTIONS = "RS-016" "config.md#linux-mount-options";
    MANDATORY_LOCKS = "RS-018" "config.md#linux-mount-options";
    MOUNT_DATA = "RS-019" "config.md#linux-mount-options";
    IDMAP = "RS-020" "config.md#linux-mount-options";
    MOUNT_MAPPINGS = "RS-021" "config.md#posix-platform-mounts";
    PROCESS = "RS-022" "config.md#process";
    TERMINAL = "RS-023" "config.md#process";
    CWD = "RS-024" "config.md#process";
    ARGS = "RS-025" "config.md#process";
    RLIMITS = "RS-026" "config.md#posix-process";
    CAPABILITIES = "RS-027" "config.md#linux-process";
    NO_NEW_PRIVILEGES = "RS-028" "config.md#linux-process";
    OOM_SCORE = "RS-029" "config.md#linux-process";
    SCHEDULER = "RS-030" "config.md#linux-process";
    IO_PRIORITY = "RS-031" "config.md#linux-process";
    EXEC_AFFINITY = "RS-032" "config.md#linux-process";
    LABELS = "RS-033" "config.md#linux-process";
    USER = "RS-034" "config.md#posix-platform-user";
    HOSTNAME = "RS-035" "config.md#hostname";
    HOOKS = "RS-036" "config.md#posix-platform-hooks";
    PRESTART = "RS-038" "config.md#prestart";
    ANNOTATIONS = "RS-043" "config.md#annotations";
    DEFAULT_FILESYSTEMS = "RS-050" "config-linux.md#default-filesystems";
    NAMESPACES = "RS-051" "config-linux.md#namespaces";
    NAMESPACE_PATH = "RS-052" "config-linux.md#namespaces";
    NAMESPACE_TWICE = "RS-053" "config-linux.md#namespaces";
    ID_MAPPINGS = "RS-054" "config-linux.md#user-namespace-mappings";
    TIME_OFFSETS = "RS-055" "config-linux.md#offset-for-time-namespace";
    DEVICES = "RS-056" "config-linux.md#devices";
    DEFAULT_DEVICES = "RS-057" "config-linux.md#default-devices";
    NET_DEVICES = "RS-058" "config-linux.md#network-devices";
    NET_DEVICE_NAMES = "RS-059" "config-linux.md#network-devices";
    CGROUPS_PATH = "RS-061" "config-linux.md#cgroups-path";
    DEVICE_RULES = "RS-064" "config-linux.md#allowed-device-list";
    MEMORY = "RS-065" "config-linux.md#memory";
    CPU = "RS-066" "config-linux.md#cpu";
    BLOCK_IO = "RS-067" "config-linux.md#block-io";
    HUGE_PAGES = "RS-068" "config-linux.md#huge-page-limits";
    NETWORK = "RS-069" "config-linux.md#network";
    PIDS = "RS-070" "config-linux.md#pids";
    RDMA = "RS-071" "config-linux.md#rdma";
    UNIFIED = "RS-072" "config-linux.md#unified";
    UNIFIED_CONFLICT = "RS-075" "config-linux.md#unified";
    INTEL_RDT = "RS-076" "config-linux.md#intelrdt";
    INTEL_RDT_SCHEMA = "RS-077" "config-linux.md#intelrdt";
    INTEL_RDT_CLASS = "RS-078" "config-linux.md#intelrdt";
    MEMORY_POLICY = "RS-080" "config-linux.md#memory-policy";
    SYSCTL = "RS-081" "config-linux.md#sysctl";
    PROPAGATION = "RS-082" "config-linux.md#rootfs-mount-propagation";
    MASKED_PATHS = "RS-083" "config-linux.md#masked-paths";
    READONLY_PATHS = "RS-084" "config-linux.md#readonly-paths";
    MOUNT_LABEL = "RS-085" "config-linux.md#mount-label";
    PERSONALITY = "RS-086" "config-linux.md#personality";
    SECCOMP = "RS-090" "config-linux.md#seccomp";
    SECCOMP_ERRNO = "RS-092" "config-linux.md#seccomp";
    SECCOMP_ARCH = "RS-093" "config-linux.md#seccomp";
    SECCOMP_FLAGS = "RS-094" "config-linux.md#seccomp";
    SECCOMP_SYSCALL = "RS-095" "config-linux.md#seccomp";
    SECCOMP_NOTIFY = "RS-096" "config-linux.md#seccomp";
    PROCESS_STATE = "RS-097" "config-linux.md#the-container-process-state";
    STATE = "RS-120" "runtime.md#state";
    STATUS = "RS-121" "runtime.md#state";
    FEATURES_VERSION = "RS-150" "features.md#specification-version";
    FEATURES = "RS-151" "features.md#features";
    FEATURES_SECCOMP = "RS-155" "features-linux.md#seccomp";
}
