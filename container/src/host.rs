//! What planners need to know of the machine and of the caller: gathered once, or made up by a test.

use std::fs;

use keelbox_cgroups::Hierarchy;
use keelbox_namespaces::Caller;

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
}

impl Host {
    /// Looks at this machine and this thread.
    pub(crate) fn current() -> Result<Self> {
        let caller = Caller::current()
            .map_err(|error| Error::from_part(ErrorKind::Other, "cannot tell who the caller is", error))?;
        let privileged = caller.is_privileged();
        Ok(Self { bounding: bounding_set(), may_set_groups: privileged, privileged, caller })
    }
}

fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(ALL)
}

/// The control groups of this machine.
pub(crate) fn hierarchy() -> Result<Hierarchy> {
    Hierarchy::detect().map_err(|error| Error::from_part(ErrorKind::Limit, "cannot find the control groups", error))
}
