//! The tables for platforms other than Linux: their members are read, kept and written, and nothing else.
//! Needs no kernel.
use super::{Object, Shape, TEXTS, U16, U32, U64, optional, required, vital};
use crate::rules;

const fn object(fields: &'static [super::Field]) -> Object {
    Object { rule: rules::VALUES, fields }
}

/// `solaris` (config-solaris.md).
pub(crate) static SOLARIS: Object = object(&[
    optional("milestone", Shape::Text),
    optional("limitpriv", Shape::Text),
    optional("maxShmMemory", Shape::Text),
    optional("anet", Shape::List(&Shape::Object(&ANET))),
    optional("cappedCPU", Shape::Object(&CAPPED_CPU)),
    optional("cappedMemory", Shape::Object(&CAPPED_MEMORY)),
]);

static ANET: Object = object(&[
    optional("linkname", Shape::Text),
    optional("lowerLink", Shape::Text),
    optional("allowedAddress", Shape::Text),
    optional("configureAllowedAddress", Shape::Text),
    optional("defrouter", Shape::Text),
    optional("linkProtection", Shape::Text),
    optional("macAddress", Shape::Text),
]);

static CAPPED_CPU: Object = object(&[optional("ncpus", Shape::Text)]);

static CAPPED_MEMORY: Object = object(&[optional("physical", Shape::Text), optional("swap", Shape::Text)]);

/// `windows` (config-windows.md).
pub(crate) static WINDOWS: Object = object(&[
    required("layerFolders", TEXTS),
    optional("devices", Shape::List(&Shape::Object(&WINDOWS_DEVICE))),
    optional("resources", Shape::Object(&WINDOWS_RESOURCES)),
    optional("credentialSpec", Shape::Map(&Shape::Any)),
    optional("servicing", Shape::Flag),
    optional("ignoreFlushesDuringBoot", Shape::Flag),
    optional("hyperv", Shape::Object(&HYPERV)),
    optional("network", Shape::Object(&WINDOWS_NETWORK)),
]);

static WINDOWS_DEVICE: Object = object(&[vital("id", Shape::Text), vital("idType", Shape::Word(&["class"]))]);

static WINDOWS_RESOURCES: Object = object(&[
    optional("memory", Shape::Object(&WINDOWS_MEMORY)),
    optional("cpu", Shape::Object(&WINDOWS_CPU)),
    optional("storage", Shape::Object(&WINDOWS_STORAGE)),
]);

static WINDOWS_MEMORY: Object = object(&[optional("limit", U64)]);

static WINDOWS_CPU: Object = object(&[
    optional("count", U64),
    optional("shares", U16),
    optional("maximum", U16),
    // The text says a list, the schema an object: kept as it is.
    optional("affinity", Shape::Any),
]);

static WINDOWS_STORAGE: Object = object(&[optional("iops", U64), optional("bps", U64), optional("sandboxSize", U64)]);

static HYPERV: Object = object(&[optional("utilityVMPath", Shape::Text)]);

static WINDOWS_NETWORK: Object = object(&[
    optional("endpointList", TEXTS),
    optional("allowUnqualifiedDNSQuery", Shape::Flag),
    optional("DNSSearchList", TEXTS),
    optional("networkSharedContainerName", Shape::Text),
    optional("networkNamespace", Shape::Text),
]);

/// `vm` (config-vm.md).
pub(crate) static VM: Object = object(&[
    optional("hypervisor", Shape::Object(&PROGRAM)),
    vital("kernel", Shape::Object(&KERNEL)),
    optional("image", Shape::Object(&IMAGE)),
    optional("hwConfig", Shape::Object(&HARDWARE)),
]);

static PROGRAM: Object = object(&[vital("path", Shape::Text), optional("parameters", TEXTS)]);

static KERNEL: Object =
    object(&[vital("path", Shape::Text), optional("parameters", TEXTS), optional("initrd", Shape::Text)]);

static IMAGE: Object =
    object(&[vital("path", Shape::Text), vital("format", Shape::Word(&["raw", "qcow2", "vdi", "vmdk", "vhd"]))]);

static HARDWARE: Object = object(&[
    optional("deviceTree", Shape::Text),
    optional("vcpus", U32),
    optional("memory", U64),
    optional("dtdevs", TEXTS),
    optional("iomems", Shape::List(&Shape::Object(&IO_MEMORY))),
    optional("irqs", Shape::List(&U32)),
]);

static IO_MEMORY: Object = object(&[optional("firstGFN", U64), required("firstMFN", U64), required("nrMFNs", U64)]);

/// `zos` (config-zos.md).
pub(crate) static ZOS: Object = object(&[optional("namespaces", Shape::List(&Shape::Object(&ZOS_NAMESPACE)))]);

static ZOS_NAMESPACE: Object =
    object(&[vital("type", Shape::Word(&["mount", "pid", "uts", "ipc"])), optional("path", Shape::Text)]);

/// `freebsd` (config-freebsd.md), which `oci-spec` does not have.
pub(crate) static FREEBSD: Object = object(&[
    optional("devices", Shape::List(&Shape::Object(&FREEBSD_DEVICE))),
    optional("jail", Shape::Object(&JAIL)),
]);

static FREEBSD_DEVICE: Object = object(&[optional("path", Shape::Text), optional("mode", Shape::Integer(0, 0o777))]);

const SHARING: Shape = Shape::Word(&["disable", "new", "inherit"]);
const SHARING_ALWAYS: Shape = Shape::Word(&["new", "inherit"]);

static JAIL: Object = object(&[
    optional("parent", Shape::Text),
    optional("host", SHARING_ALWAYS),
    optional("ip4", SHARING),
    optional("ip4Addr", TEXTS),
    optional("ip6", SHARING),
    optional("ip6Addr", TEXTS),
    optional("vnet", SHARING_ALWAYS),
    optional("interface", Shape::Text),
    optional("vnetInterfaces", TEXTS),
    optional("sysvmsg", SHARING),
    optional("sysvsem", SHARING),
    optional("sysvshm", SHARING),
    optional("enforceStatfs", Shape::Integer(0, u8::MAX as i128)),
    optional("allow", Shape::Object(&JAIL_ALLOW)),
]);

static JAIL_ALLOW: Object = object(&[
    optional("setHostname", Shape::Flag),
    optional("rawSockets", Shape::Flag),
    optional("chflags", Shape::Flag),
    optional("mount", TEXTS),
    optional("quotas", Shape::Flag),
    optional("socketAf", Shape::Flag),
    optional("mlock", Shape::Flag),
    optional("reservedPorts", Shape::Flag),
    optional("suser", Shape::Flag),
]);
