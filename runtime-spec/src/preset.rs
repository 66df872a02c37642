//! The configurations a program starts from.
//!
//! Left out on purpose: capabilities, seccomp filters and limits, which are policy. Needs no kernel.
use serde_json::{Value, json};

use crate::config::Config;
use crate::names::OCI_VERSION;

/// Files that tell about the host or reach into it, to be hidden; as other runtimes have it, and `/proc/interrupts` and
/// `/sys/devices/virtual/powercap`, which leak timing and energy.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Config {
    /// A configuration to start from: everything isolated, nothing allowed, nothing to run yet.
    ///
    /// Version 1.3.0; root `rootfs`; uid and gid 0, cwd `/`, a `PATH`, no capability, `noNewPrivileges`; `/proc`, a small
    /// `/dev`, `/sys` and `/sys/fs/cgroup` read-only; new pid, network, ipc, uts, mount and cgroup namespaces; no device
    /// but the default ones; the usual paths masked or read-only. `process.args` is empty, and the only thing
    /// [`Config::check`] reports. Running it needs root.
    ///
    /// ```
    /// use keelbox_runtime_spec::Config;
    ///
    /// let mut config = Config::new();
    /// config.insert("/process/args", r#"["sh"]"#)?;
    /// assert!(config.check().is_empty());
    /// # Ok::<(), keelbox_runtime_spec::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::preset(default())
    }

    /// The same for an ordinary user: also a new user namespace, in which uid and gid 0 stand for `uid` and `gid` outside.
    ///
    /// Left out against [`Config::new`]: the cgroup mount, the device rules, and the group of `/dev/pts`, which an
    /// ordinary user may not set. Running it needs no privilege where unprivileged user namespaces are allowed.
    ///
    /// ```
    /// let config = keelbox_runtime_spec::Config::rootless(1000, 1000);
    /// assert_eq!(config.property("/linux/uidMappings/0/hostID").as_deref(), Some("1000"));
    /// ```
    pub fn rootless(uid: u32, gid: u32) -> Self {
        let mut raw = default();
        let mounts = raw["mounts"].as_array_mut();
        if let Some(mounts) = mounts {
            mounts.retain(|mount| mount["type"] != "cgroup");
            for options in mounts.iter_mut().filter_map(|m| m["options"].as_array_mut()) {
                options.retain(|option| option != "gid=5");
            }
        }
        let linux = &mut raw["linux"];
        let mapping = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux["uidMappings"] = mapping(uid);
        linux["gidMappings"] = mapping(gid);
        if let Some(namespaces) = linux["namespaces"].as_array_mut() {
            namespaces.insert(0, json!({"type": "user"}));
        }
        if let Some(members) = linux.as_object_mut() {
            members.remove("resources");
        }
        Self::preset(raw)
    }

    fn preset(raw: Value) -> Self {
        Self::from_value(raw, "make configuration")
            .expect("the presets are constants but for two numbers, and tests read them")
    }
}

impl Default for Config {
    /// [`Config::new`].
    fn default() -> Self {
        Self::new()
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

fn default() -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let none: [&str; 0] = [];
    json!({
        "ociVersion": OCI_VERSION,
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": none,
            "env": [PATH],
            "cwd": "/",
            "capabilities": {
                "bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none,
            },
            "noNewPrivileges": true,
        },
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_lack_nothing_but_a_program() {
        for config in [Config::new(), Config::rootless(1000, 100), Config::default()] {
            let problems = config.check();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].to_string(), "/process/args: RS-025 must have at least one entry");
            assert!(config.warnings().is_empty() && config.unknown().is_empty());
        }
    }

    #[test]
    fn presets_are_not_those_of_oci_spec() {
        let spec = Config::new().into_spec();
        assert_eq!(spec.version(), "1.3.0");
        assert_eq!(*spec.hostname(), None);
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_deref(), Some(&[][..]));
        let sets = process.capabilities().as_ref().unwrap();
        assert!(sets.bounding().as_ref().unwrap().is_empty());
        assert_eq!(process.no_new_privileges(), Some(true));
    }

    #[test]
    fn rootless_maps_one_id_and_asks_for_nothing_privileged() {
        let text = Config::rootless(1000, 100).to_json();
        for privileged in ["gid=5", "\"cgroup\",\n      \"source\"", "resources"] {
            assert!(!text.contains(privileged), "{privileged}");
        }
        let spec = Config::rootless(1000, 100).into_spec();
        let linux = spec.linux().as_ref().unwrap();
        let gids = linux.gid_mappings().as_ref().unwrap();
        assert_eq!((gids[0].host_id(), gids[0].container_id(), gids[0].size()), (100, 0, 1));
    }
}
