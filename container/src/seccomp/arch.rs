//! Architectures as a filter sees them.
//!
//! Only those with a table of system calls are here. What else OCI can name never reaches a filter on the machines
//! this crate runs on: the kernel of an x86_64 machine makes calls of x86_64, x86 and x32, an aarch64 one those of
//! aarch64 and arm.

/// An architecture whose system calls a filter can name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, also as a second architecture of an x86_64 kernel.
    X86,
    /// 64-bit x86 with 32-bit pointers: the audit number of x86_64, and bit 30 set in the call's number.
    X32,
    /// 64-bit Arm, little-endian.
    Aarch64,
    /// 32-bit Arm with the EABI, little-endian; also as a second architecture of an aarch64 kernel.
    Arm,
}

/// `__X32_SYSCALL_BIT` of the x86 headers.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    pub(super) const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm];

    /// The architecture this program was compiled for; `None` if filters cannot be compiled for it.
    pub fn native() -> Option<Self> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) {
            Some(Self::X32)
        } else if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "x86") {
            Some(Self::X86)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            Some(Self::Aarch64)
        } else if cfg!(all(target_arch = "arm", target_endian = "little")) {
            Some(Self::Arm)
        } else {
            None
        }
    }

    /// The value of `seccomp_data.arch`: `AUDIT_ARCH_*` of `linux/audit.h`. x86_64 and x32 share theirs.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The name in an OCI `architectures` list.
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The name in `includes.arches` and `excludes.arches` of a Docker or Podman profile.
    pub fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    pub(super) fn from_oci_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.oci_name() == name)
    }

    pub(super) fn to_oci(self) -> oci_spec::runtime::Arch {
        use oci_spec::runtime::Arch as Oci;
        match self {
            Self::X86_64 => Oci::ScmpArchX86_64,
            Self::X86 => Oci::ScmpArchX86,
            Self::X32 => Oci::ScmpArchX32,
            Self::Aarch64 => Oci::ScmpArchAarch64,
            Self::Arm => Oci::ScmpArchArm,
        }
    }

    /// True where arguments are 32 bits wide, so that only the lower half of a value is compared.
    ///
    /// x32 is not among them: its registers are 64 bits wide, and the kernel hands all of them to the filter.
    pub(super) fn is_32_bit(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    /// The first number past those the kernel counts upwards: where x32 begins, or Arm's private calls.
    pub(super) fn number_limit(self) -> u32 {
        match self {
            Self::Arm => 0x000f_0000,
            Self::X86_64 => X32_BIT,
            Self::X32 | Self::X86 | Self::Aarch64 => u32::MAX,
        }
    }
}
