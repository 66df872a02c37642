//! For whom a profile is resolved: the architecture, the kernel and the capabilities that its rules may depend on.

use super::{Arch, Error, ErrorKind};
use oci_spec::runtime::Capability;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// What a profile's `includes`, `excludes` and `archMap` are compared with.
///
/// ```
/// use keelbox::seccomp::{Arch, Target};
/// use oci_spec::runtime::Capability;
///
/// let target = Target::new(Arch::Aarch64).kernel(6, 12).capabilities([Capability::SysAdmin]);
/// # let _ = target;
/// ```
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[must_use]
pub struct Target {
    pub(super) arch: Arch,
    pub(super) kernel: (u32, u32),
    /// Upper case, without `CAP_`.
    pub(super) capabilities: BTreeSet<String>,
}

const RELEASE: &str = "/proc/sys/kernel/osrelease";

impl Target {
    /// A container without capabilities on Linux 5.10, the oldest kernel this crate supports.
    pub fn new(arch: Arch) -> Self {
        Self { arch, kernel: (5, 10), capabilities: BTreeSet::new() }
    }

    /// A container without capabilities on this machine: the architecture of this program and the running kernel.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on an architecture without a table, [`ErrorKind::Kernel`] if `/proc` is not mounted.
    pub fn host() -> Result<Self, Error> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "", "this architecture has no table of system calls");
        let arch = Arch::native().ok_or_else(unsupported)?;
        let kernel = running_kernel()?;
        Ok(Self { kernel, ..Self::new(arch) })
    }

    /// The kernel's version, which only a profile's `minKernel` asks for. Default: 5.10.
    pub fn kernel(mut self, major: u32, minor: u32) -> Self {
        self.kernel = (major, minor);
        self
    }

    /// The capabilities the container may have: its bounding set. Default: none.
    pub fn capabilities(mut self, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        self.capabilities = capabilities.into_iter().map(|capability| capability.to_string()).collect();
        self
    }
}

/// The running kernel's version, read once.
fn running_kernel() -> Result<(u32, u32), Error> {
    static KERNEL: OnceLock<(u32, u32)> = OnceLock::new();
    if let Some(kernel) = KERNEL.get() {
        return Ok(*kernel);
    }
    let failed = || Error::new(ErrorKind::Kernel, RELEASE, "");
    let release = std::fs::read_to_string(RELEASE).map_err(|cause| failed().caused_by(cause))?;
    let kernel = super::json::kernel(&release).ok_or_else(failed)?;
    Ok(*KERNEL.get_or_init(|| kernel))
}
