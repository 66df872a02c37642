//! Which number a system call has on which architecture, and back.
//!
//! The tables reach to Linux 6.18. A call the kernel learns later is unknown here, and the filters answer it with
//! `ENOSYS` (see [`NewerSyscalls`](super::NewerSyscalls)).

mod aarch64;
mod arm;
mod x32;
mod x86;
mod x86_64;

use super::Arch;

/// The system calls of one architecture.
///
/// ```
/// use keelbox::seccomp::{Arch, SyscallTable};
///
/// let table = SyscallTable::of(Arch::Aarch64);
/// assert_eq!(table.number("mkdirat"), Some(34));
/// assert_eq!(table.name(34), Some("mkdirat"));
/// assert_eq!(table.number("mkdir"), None); // never existed there
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SyscallTable {
    by_name: &'static [(&'static str, u32)],
}

impl SyscallTable {
    /// The table of `arch`.
    pub fn of(arch: Arch) -> Self {
        let by_name: &[_] = match arch {
            Arch::X86_64 => &x86_64::TABLE,
            Arch::X86 => &x86::TABLE,
            Arch::X32 => &x32::TABLE,
            Arch::Aarch64 => &aarch64::TABLE,
            Arch::Arm => &arm::TABLE,
        };
        Self { by_name }
    }

    /// The table of the architecture this program was compiled for; `None` where there is none (say, on riscv64).
    pub fn native() -> Option<Self> {
        Arch::native().map(Self::of)
    }

    /// The number of the call `name`, as the kernel reports it to a filter: on x32 with bit 30 set.
    pub fn number(&self, name: &str) -> Option<u32> {
        let found = self.by_name.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.by_name[found].1)
    }

    /// The name of call `number`. Where one number has two names (arm), the first in alphabetical order.
    pub fn name(&self, number: u32) -> Option<&'static str> {
        self.by_name.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
    }

    /// All names of call `number`: none, one or (on arm) two.
    pub(super) fn names(&self, number: u32) -> Vec<&'static str> {
        self.iter().filter(|(_, known)| *known == number).map(|(name, _)| name).collect()
    }

    /// All names and numbers, in alphabetical order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> + use<> {
        self.by_name.iter().copied()
    }
}

/// True if any architecture knows the name.
pub(super) fn is_known(name: &str) -> bool {
    Arch::ALL.iter().any(|arch| SyscallTable::of(*arch).number(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tables_are_sorted_and_numbers_are_unique() {
        for arch in Arch::ALL {
            let table = SyscallTable::of(arch);
            assert!(table.by_name.is_sorted_by(|a, b| a.0 < b.0), "{arch:?}");
            let numbers: BTreeSet<u32> = table.iter().map(|(_, number)| number).collect();
            let aliases = usize::from(arch == Arch::Arm); // arm_sync_file_range is also sync_file_range2
            assert_eq!(numbers.len() + aliases, table.by_name.len(), "{arch:?}");
            for (name, number) in table.iter() {
                assert_eq!(table.number(name), Some(number));
                assert_eq!(table.name(number).and_then(|name| table.number(name)), Some(number));
                assert_eq!(number & 0x4000_0000 != 0, arch == Arch::X32, "{arch:?} {name}");
            }
        }
    }

    #[test]
    fn well_known_numbers() {
        let number = |arch, name| SyscallTable::of(arch).number(name);
        assert_eq!(number(Arch::X86_64, "uprobe"), Some(336));
        assert_eq!(number(Arch::X32, "execve"), Some(0x4000_0208));
        assert_eq!(number(Arch::X86, "socketcall"), Some(102));
        assert_eq!(number(Arch::Arm, "set_tls"), Some(0xf0005));
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm] {
            assert_eq!(number(arch, "file_setattr"), Some(469));
        }
    }
}
