//! Numbers of the kernel's interface that the interpreter uses, from its own headers (x86_64 and aarch64). Needs no `std`.

/// The current directory, where a descriptor of a directory is wanted.
pub const AT_FDCWD: i32 = -100;
pub(super) const AT_EMPTY_PATH: u32 = 0x1000;
pub(super) const AT_RECURSIVE: u32 = 0x8000;
pub(super) const AT_SYMLINK_NOFOLLOW: u32 = 0x100;

pub(super) const O_WRONLY: i32 = 1;
pub(super) const O_RDWR: i32 = 2;
pub(super) const O_CREAT: i32 = 0o100;
pub(super) const O_EXCL: i32 = 0o200;
pub(super) const O_NOCTTY: i32 = 0o400;
pub(super) const O_NONBLOCK: i32 = 0o4000;
pub(super) const O_CLOEXEC: i32 = 0o2_000_000;
/// Without the `O_DIRECTORY` that goes with it.
pub(super) const O_TMPFILE: i32 = 0o20_000_000;
pub(super) const O_PATH: i32 = 0o10_000_000;
#[cfg(target_arch = "x86_64")]
mod per_architecture {
    pub(crate) const O_DIRECTORY: i32 = 0o200_000;
    pub(crate) const O_NOFOLLOW: i32 = 0o400_000;
}
#[cfg(target_arch = "aarch64")]
mod per_architecture {
    pub(crate) const O_DIRECTORY: i32 = 0o40_000;
    pub(crate) const O_NOFOLLOW: i32 = 0o100_000;
}
pub(super) use per_architecture::{O_DIRECTORY, O_NOFOLLOW};

pub(super) const RESOLVE_NO_XDEV: u64 = 0x01;
pub(super) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub(super) const RESOLVE_BENEATH: u64 = 0x08;
pub(super) const RESOLVE_IN_ROOT: u64 = 0x10;

pub(super) const OPEN_TREE_CLONE: u32 = 1;
pub(super) const OPEN_TREE_CLOEXEC: u32 = O_CLOEXEC as u32;
pub(super) const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
pub(super) const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
pub(super) const FSCONFIG_SET_FLAG: u32 = 0;
pub(super) const FSCONFIG_SET_STRING: u32 = 1;
pub(super) const FSCONFIG_CMD_CREATE: u32 = 6;
pub(super) const MOUNT_ATTR_RDONLY: u64 = 1;
pub(super) const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

pub(super) const MS_REMOUNT: u64 = 0x20;
pub(super) const MS_BIND: u64 = 0x1000;
pub(super) const MS_REC: u64 = 0x4000;
pub(super) const MNT_DETACH: i32 = 2;
pub(super) const S_IFMT: u32 = 0o170_000;
pub(super) const S_IFDIR: u32 = 0o040_000;
pub(super) const S_IFREG: u32 = 0o100_000;
pub(super) const S_IFLNK: u32 = 0o120_000;
pub(super) const AT_REMOVEDIR: i32 = 0x200;

pub(super) const PR_SET_PDEATHSIG: u32 = 1;
pub(super) const PR_SET_DUMPABLE: u32 = 4;
pub(super) const PR_SET_KEEPCAPS: u32 = 8;
pub(super) const PR_CAPBSET_DROP: u32 = 24;
pub(super) const PR_SET_NO_NEW_PRIVS: u32 = 38;
pub(super) const PR_CAP_AMBIENT: u32 = 47;
pub(super) const PR_CAP_AMBIENT_RAISE: usize = 2;
pub(super) const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;
pub(super) const SECCOMP_FILTER_FLAG_NEW_LISTENER: u32 = 8;

pub(super) const F_GETFD: i32 = 1;
pub(super) const F_SETFD: i32 = 2;
pub(super) const FD_CLOEXEC: i32 = 1;
pub(super) const F_DUPFD_CLOEXEC: i32 = 1030;
pub(super) const CLONE_PARENT: u64 = 0x8000;
pub(super) const CLONE_PIDFD: u64 = 0x1000;
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub(super) const MSG_PEEK: i32 = 2;
pub(super) const MSG_DONTWAIT: i32 = 0x40;
pub(super) const MSG_NOSIGNAL: i32 = 0x4000;
pub(super) const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
