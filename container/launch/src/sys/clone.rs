//! `clone3(2)` and `clone(2)` for a process with memory of its own. Needs no `std`.
//!
//! The clone that shares memory with the host program is in `birth.rs`, and only there.

use core::marker::PhantomData;

use super::calls::call;
use super::numbers as nr;
use super::raw::Call;

pub(crate) const CLONE_VM: u64 = 0x100;
pub(crate) const CLONE_VFORK: u64 = 0x4000;
pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_THREAD_AND_TLS: u64 = 0x0001_0000 | 0x0008_0000 | 0x0010_0000 | 0x0020_0000 | 0x0100_0000;

/// `clone_args` of `clone3(2)`.
#[derive(Debug, Default)]
#[repr(C)]
pub struct CloneArgs<'a> {
    pub(crate) flags: u64,
    pub(crate) pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    pub(crate) exit_signal: u64,
    pub(crate) stack: u64,
    pub(crate) stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    pub(crate) cgroup: u64,
    lives: PhantomData<&'a mut i32>,
}

impl<'a> CloneArgs<'a> {
    /// A process with a copy of this one's memory, as `fork(2)` makes it. Flags that share memory, threads or thread
    /// storage are dropped. With `CLONE_PIDFD`, a pidfd is put into `pidfd`.
    pub fn copy(flags: u64, cgroup: i32, pidfd: &'a mut i32) -> Self {
        let flags = flags & !(CLONE_VM | CLONE_VFORK | CLONE_THREAD_AND_TLS);
        let (pidfd, cgroup) = (core::ptr::from_mut(pidfd) as u64, cgroup as u64);
        Self { flags, pidfd, cgroup, ..Self::default() }
    }
}

impl<'a> Call<'a> {
    /// `clone3(2)`, Linux 5.3; gives 0 in the new process.
    pub(crate) fn clone3(args: &'a mut CloneArgs<'_>) -> Self {
        call!(CLONE3, core::ptr::from_mut(args) as usize, 88)
    }

    /// `clone(2)` for the same, where `clone3(2)` is missing or filtered; no cgroup, no time namespace.
    pub(crate) fn clone(args: &'a mut CloneArgs<'_>) -> Self {
        call!(CLONE, (args.flags & 0xffff_ffff) as usize, 0, args.pidfd as usize, 0, 0)
    }
}
