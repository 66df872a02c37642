//! What planners need to know of the machine and of the caller: gathered once, or made up by a test.

use std::path::PathBuf;
use std::sync::OnceLock;

use keelbox_cgroups::{Hierarchy, Version};
use keelbox_namespaces::Caller;
use nix::sys::resource::{Resource, getrlimit};

use crate::capabilities::ALL;
use crate::error::{Error, ErrorKind, Result};

/// Facts about the machine and the caller.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) caller: Caller,
    /// The caller's capability bounding set.
    pub(crate) bounding: u64,
    /// Whether `setgroups(2)` works: not for an ordinary user's single id.
    pub(crate) may_set_groups: bool,
    /// Whether the caller can make namespaces without a user namespace.
    pub(crate) privileged: bool,
    /// The caller's hard limit of descriptors.
    pub(crate) descriptors: u64,
    /// What tells how hot each processor has been, and so what others do on this machine.
    pub(crate) throttles: &'static [String],
}

impl Host {
    /// Whether the caller is in a user namespace that somebody made, where even root makes no device and owns no control group.
    pub(crate) fn is_nested() -> bool {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        !map.split_whitespace().eq(["0", "0", "4294967295"])
    }

    /// Looks at this machine and this thread.
    pub(crate) fn current() -> Result<Self> {
        let caller = Caller::current()
            .map_err(|error| Error::from_part(ErrorKind::Other, "cannot tell who the caller is", error))?;
        let privileged = caller.is_privileged();
        let (_, descriptors) = getrlimit(Resource::RLIMIT_NOFILE)
            .map_err(|errno| Error::os("cannot tell the limits of the caller", errno))?;
        let bounding = caller.bounding_set() & ALL;
        let throttles = throttles();
        Ok(Self { throttles, bounding, may_set_groups: privileged, privileged, descriptors, caller })
    }
}

/// The directories `thermal_throttle` of the processors, as far as there are any. They do not come and go.
fn throttles() -> &'static [String] {
    static FOUND: OnceLock<Vec<String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let entries = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path().join("thermal_throttle")).filter(|path| path.is_dir());
        let mut paths: Vec<String> = paths.filter_map(|path| Some(path.to_str()?.to_owned())).collect();
        paths.sort();
        paths
    })
}

/// How a container is to see the control groups: each hierarchy from its own group on, as its namespace has it. Without one it is
/// shown that of its `directories` that lies in the hierarchy, or the group of this program.
pub(crate) fn shown_cgroups(
    hierarchy: &Hierarchy,
    namespace: bool,
    directories: &[PathBuf],
) -> Vec<keelbox_mounts::Hierarchy> {
    use keelbox_mounts::Hierarchy as Shown;
    let legacy = hierarchy.legacy().iter().map(|mount| {
        let names: Vec<&str> = mount.controllers().iter().map(|controller| controller.name(Version::V1)).collect();
        (mount.name().map_or_else(|| Shown::legacy(&names.join(",")), Shown::named), mount)
    });
    let alone = hierarchy.legacy().is_empty();
    let unified = hierarchy.unified().map(|mount| (if alone { Shown::unified() } else { Shown::hybrid() }, mount));
    let shown = legacy.chain(unified);
    shown
        .map(|(shown, mount)| {
            let inside = directories.iter().find(|directory| directory.starts_with(mount.mount_point()));
            let own = inside.map(PathBuf::as_path).or(mount.own()).unwrap_or(mount.mount_point());
            if namespace { shown } else { shown.own(own) }
        })
        .collect()
}

/// The control groups of this machine.
pub(crate) fn hierarchy() -> Result<Hierarchy> {
    Hierarchy::detect().map_err(|error| Error::from_part(ErrorKind::Limit, "cannot find the control groups", error))
}
