//! The system calls that the stage makes, each as a constructor of [`Call`]. Needs no `std`.
//!
//! Descriptors are plain numbers here, as they are for the kernel: a wrong one is an `EBADF`, never undefined behaviour.
//! Left out on purpose: calls that change this program's own memory (`mmap`, `execve`, `clone`); see `memory.rs` and `clone.rs`.
#![allow(dead_code, reason = "the stage and the library use different parts of one table")]

use core::ffi::CStr;
use core::marker::PhantomData;

use super::message::Message;
use super::numbers as nr;
use super::raw::{Call, text};

/// `open_how` of `openat2(2)`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct OpenHow {
    /// `O_*` flags.
    pub flags: u64,
    /// Mode of a file that is made.
    pub mode: u64,
    /// `RESOLVE_*` flags.
    pub resolve: u64,
}

/// `mount_attr` of `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0 for no change.
    pub propagation: u64,
    /// A user namespace, with `MOUNT_ATTR_IDMAP`.
    pub user_namespace: u64,
}

macro_rules! call {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        Call { number: nr::$number, arguments: super::raw::six([$($argument),*]), lives: PhantomData }
    };
}
pub(super) use call;

/// A descriptor as an argument (sign-extended, so that `AT_FDCWD` stays -100).
fn fd(fd: i32) -> usize {
    fd as isize as usize
}

fn optional(value: Option<&CStr>) -> usize {
    value.map_or(0, text)
}

impl<'a> Call<'a> {
    /// `openat2(2)`, Linux 5.6.
    pub fn openat2(directory: i32, path: &'a CStr, how: &'a OpenHow) -> Self {
        call!(OPENAT2, fd(directory), text(path), core::ptr::from_ref(how) as usize, size_of::<OpenHow>())
    }
    /// `openat(2)`.
    pub fn openat(directory: i32, path: &'a CStr, flags: i32, mode: u32) -> Self {
        call!(OPENAT, fd(directory), text(path), flags as usize, mode as usize)
    }
    /// `close(2)`.
    pub fn close(descriptor: i32) -> Self {
        call!(CLOSE, fd(descriptor))
    }
    /// `close_range(2)`, Linux 5.9. Closes or marks; never touches memory.
    pub(crate) fn close_range(first: u32, last: u32, flags: u32) -> Self {
        call!(CLOSE_RANGE, first as usize, last as usize, flags as usize)
    }
    /// `dup3(2)`.
    pub(crate) fn dup3(old: i32, new: i32, flags: i32) -> Self {
        call!(DUP3, fd(old), fd(new), flags as usize)
    }
    /// `fcntl(2)` with a number as its argument: `F_SETFD`, `F_DUPFD_CLOEXEC`, `F_ADD_SEALS`.
    pub(crate) fn fcntl(descriptor: i32, command: i32, argument: i32) -> Self {
        call!(FCNTL, fd(descriptor), command as usize, argument as usize)
    }
    /// `write(2)`.
    pub fn write(descriptor: i32, bytes: &'a [u8]) -> Self {
        call!(WRITE, fd(descriptor), bytes.as_ptr() as usize, bytes.len())
    }
    /// `read(2)`.
    pub fn read(descriptor: i32, bytes: &'a mut [u8]) -> Self {
        call!(READ, fd(descriptor), bytes.as_mut_ptr() as usize, bytes.len())
    }
    /// `getdents64(2)`.
    pub fn getdents64(descriptor: i32, entries: &'a mut [u8]) -> Self {
        call!(GETDENTS64, fd(descriptor), entries.as_mut_ptr() as usize, entries.len())
    }
    /// `mkdirat(2)`.
    pub fn mkdirat(directory: i32, path: &'a CStr, mode: u32) -> Self {
        call!(MKDIRAT, fd(directory), text(path), mode as usize)
    }
    /// `mknodat(2)`.
    pub fn mknodat(directory: i32, path: &'a CStr, mode: u32, device: u64) -> Self {
        call!(MKNODAT, fd(directory), text(path), mode as usize, device as usize)
    }
    /// `symlinkat(2)`.
    pub fn symlinkat(target: &'a CStr, directory: i32, path: &'a CStr) -> Self {
        call!(SYMLINKAT, text(target), fd(directory), text(path))
    }
    /// `readlinkat(2)`.
    pub fn readlinkat(directory: i32, path: &'a CStr, bytes: &'a mut [u8]) -> Self {
        call!(READLINKAT, fd(directory), text(path), bytes.as_mut_ptr() as usize, bytes.len())
    }
    /// `unlinkat(2)`.
    pub fn unlinkat(directory: i32, path: &'a CStr, flags: i32) -> Self {
        call!(UNLINKAT, fd(directory), text(path), flags as usize)
    }
    /// `fchownat(2)`.
    pub fn fchownat(directory: i32, path: &'a CStr, user: u32, group: u32, flags: i32) -> Self {
        call!(FCHOWNAT, fd(directory), text(path), user as usize, group as usize, flags as usize)
    }
    /// `fchmodat(2)`, which follows a symbolic link.
    pub fn fchmodat(directory: i32, path: &'a CStr, mode: u32) -> Self {
        call!(FCHMODAT, fd(directory), text(path), mode as usize)
    }
    /// `fchmod(2)`.
    pub fn fchmod(descriptor: i32, mode: u32) -> Self {
        call!(FCHMOD, fd(descriptor), mode as usize)
    }
    /// `fchown(2)`.
    pub fn fchown(descriptor: i32, user: u32, group: u32) -> Self {
        call!(FCHOWN, fd(descriptor), user as usize, group as usize)
    }
    /// `utimensat(2)`: seconds and nanoseconds of access and of change.
    pub fn utimensat(directory: i32, path: &'a CStr, times: &'a [u64; 4], flags: i32) -> Self {
        call!(UTIMENSAT, fd(directory), text(path), times.as_ptr() as usize, flags as usize)
    }
    /// `flistxattr(2)`.
    pub fn flistxattr(descriptor: i32, names: &'a mut [u8]) -> Self {
        call!(FLISTXATTR, fd(descriptor), names.as_mut_ptr() as usize, names.len())
    }
    /// `fgetxattr(2)`.
    pub fn fgetxattr(descriptor: i32, name: &'a CStr, value: &'a mut [u8]) -> Self {
        call!(FGETXATTR, fd(descriptor), text(name), value.as_mut_ptr() as usize, value.len())
    }
    /// `fsetxattr(2)` that makes or replaces.
    pub fn fsetxattr(descriptor: i32, name: &'a CStr, value: &'a [u8]) -> Self {
        call!(FSETXATTR, fd(descriptor), text(name), value.as_ptr() as usize, value.len(), 0)
    }
    /// `fchdir(2)`.
    pub fn fchdir(descriptor: i32) -> Self {
        call!(FCHDIR, fd(descriptor))
    }
    /// `chdir(2)`.
    pub fn chdir(path: &'a CStr) -> Self {
        call!(CHDIR, text(path))
    }
    /// `chroot(2)`.
    pub fn chroot(path: &'a CStr) -> Self {
        call!(CHROOT, text(path))
    }
    /// `getcwd(2)`.
    pub fn getcwd(bytes: &'a mut [u8]) -> Self {
        call!(GETCWD, bytes.as_mut_ptr() as usize, bytes.len())
    }
    /// `statx(2)` into a buffer of 256 bytes, the size of the kernel's structure.
    pub fn statx(directory: i32, path: &'a CStr, flags: i32, mask: u32, buffer: &'a mut [u64; 32]) -> Self {
        call!(STATX, fd(directory), text(path), flags as usize, mask as usize, buffer.as_mut_ptr() as usize)
    }
    /// `faccessat(2)`, by the real ids, which are the effective ones of every process here.
    pub fn faccessat(directory: i32, path: &'a CStr, mode: i32) -> Self {
        call!(FACCESSAT, fd(directory), text(path), mode as usize)
    }
    /// `fstatfs(2)` into a buffer of 120 bytes, the size of the kernel's structure; its first word is the file system's magic.
    pub fn fstatfs(descriptor: i32, buffer: &'a mut [u64; 15]) -> Self {
        call!(FSTATFS, fd(descriptor), buffer.as_mut_ptr() as usize)
    }
    /// `umask(2)`.
    pub fn umask(mask: u32) -> Self {
        call!(UMASK, mask as usize)
    }
    /// `mount(2)`. `data` is a string, as every file system that keelbox mounts wants it.
    pub fn mount(
        source: Option<&'a CStr>,
        target: &'a CStr,
        kind: Option<&'a CStr>,
        flags: u64,
        data: Option<&'a CStr>,
    ) -> Self {
        call!(MOUNT, optional(source), text(target), optional(kind), flags as usize, optional(data))
    }
    /// `umount2(2)`.
    pub fn umount2(target: &'a CStr, flags: i32) -> Self {
        call!(UMOUNT2, text(target), flags as usize)
    }
    /// `pivot_root(2)`.
    pub fn pivot_root(new: &'a CStr, old: &'a CStr) -> Self {
        call!(PIVOT_ROOT, text(new), text(old))
    }
    /// `open_tree(2)`, Linux 5.2.
    pub fn open_tree(directory: i32, path: &'a CStr, flags: u32) -> Self {
        call!(OPEN_TREE, fd(directory), text(path), flags as usize)
    }
    /// `move_mount(2)`, Linux 5.2.
    pub fn move_mount(from: i32, from_path: &'a CStr, to: i32, to_path: &'a CStr, flags: u32) -> Self {
        call!(MOVE_MOUNT, fd(from), text(from_path), fd(to), text(to_path), flags as usize)
    }
    /// `fsopen(2)`, Linux 5.2.
    pub fn fsopen(kind: &'a CStr, flags: u32) -> Self {
        call!(FSOPEN, text(kind), flags as usize)
    }
    /// `fsconfig(2)` with a string value (`FSCONFIG_SET_STRING`), a flag or a command.
    pub fn fsconfig(context: i32, command: u32, key: Option<&'a CStr>, value: Option<&'a CStr>) -> Self {
        call!(FSCONFIG, fd(context), command as usize, optional(key), optional(value))
    }
    /// `fsmount(2)`, Linux 5.2.
    pub fn fsmount(context: i32, flags: u32, attributes: u64) -> Self {
        call!(FSMOUNT, fd(context), flags as usize, attributes as usize)
    }
    /// `mount_setattr(2)`, Linux 5.12.
    pub fn mount_setattr(directory: i32, path: &'a CStr, flags: u32, attr: &'a MountAttr) -> Self {
        call!(
            MOUNT_SETATTR,
            fd(directory),
            text(path),
            flags as usize,
            core::ptr::from_ref(attr) as usize,
            size_of::<MountAttr>()
        )
    }
}

impl<'a> Call<'a> {
    /// `sethostname(2)`.
    pub fn sethostname(name: &'a CStr) -> Self {
        call!(SETHOSTNAME, text(name), name.count_bytes())
    }
    /// `setdomainname(2)`.
    pub fn setdomainname(name: &'a CStr) -> Self {
        call!(SETDOMAINNAME, text(name), name.count_bytes())
    }
    /// `setsid(2)`.
    pub fn setsid() -> Self {
        call!(SETSID)
    }
    /// `unshare(2)`. Not `CLONE_VM`: memory stays as it is.
    pub fn unshare(kinds: u32) -> Self {
        call!(UNSHARE, kinds as usize)
    }
    /// `setns(2)`.
    pub fn setns(descriptor: i32, kinds: u32) -> Self {
        call!(SETNS, fd(descriptor), kinds as usize)
    }
    /// `setgroups(2)`; 4 bytes a group, in native order.
    pub fn setgroups(groups: &'a [u8]) -> Self {
        call!(SETGROUPS, groups.len() / 4, groups.as_ptr() as usize)
    }
    /// `setresgid(2)`, of the calling thread only.
    pub fn setresgid(real: u32, effective: u32, saved: u32) -> Self {
        call!(SETRESGID, real as usize, effective as usize, saved as usize)
    }
    /// `setresuid(2)`, of the calling thread only.
    pub fn setresuid(real: u32, effective: u32, saved: u32) -> Self {
        call!(SETRESUID, real as usize, effective as usize, saved as usize)
    }
    /// `capset(2)` of the calling thread, version 3: effective, permitted, inheritable, low words first.
    pub fn capset(header: &'a [u32; 2], data: &'a [u32; 6]) -> Self {
        call!(CAPSET, header.as_ptr() as usize, data.as_ptr() as usize)
    }
    /// `prctl(2)` for the options that take numbers only.
    pub(crate) fn prctl(option: u32, a: usize, b: usize) -> Self {
        call!(PRCTL, option as usize, a, b)
    }
    /// `seccomp(2)`, `SECCOMP_SET_MODE_FILTER`. The program is `length` instructions at `filter`.
    pub(crate) fn seccomp(flags: u32, program: &'a FilterProgram<'a>) -> Self {
        call!(SECCOMP, 1, flags as usize, core::ptr::from_ref(program) as usize)
    }
    /// `prlimit64(2)` of the calling process, setting only.
    pub fn setrlimit(resource: u32, limit: &'a [u64; 2]) -> Self {
        call!(PRLIMIT64, 0, resource as usize, limit.as_ptr() as usize)
    }
    /// `setpriority(2)` of the calling process.
    pub fn nice(value: i32) -> Self {
        call!(SETPRIORITY, 0, 0, value as isize as usize)
    }
    /// `sched_setattr(2)` of the calling thread; `attr` is the kernel's structure with utilization clamps (Linux 5.3).
    pub fn sched_setattr(attr: &'a [u8; 56]) -> Self {
        call!(SCHED_SETATTR, 0, attr.as_ptr() as usize, 0)
    }
    /// `sched_setaffinity(2)` of the calling thread.
    pub fn sched_setaffinity(mask: &'a [u8]) -> Self {
        call!(SCHED_SETAFFINITY, 0, mask.len(), mask.as_ptr() as usize)
    }
    /// `ioprio_set(2)` of the process group of the calling process (`IOPRIO_WHO_PGRP`).
    pub fn ioprio_set(priority: u32) -> Self {
        call!(IOPRIO_SET, 2, 0, priority as usize)
    }
    /// `set_mempolicy(2)`; `nodes` is a bit mask of whole 8-byte words.
    pub fn set_mempolicy(mode: u32, nodes: &'a [u8]) -> Self {
        let pointer = if nodes.len() < 8 { 0 } else { nodes.as_ptr() as usize };
        // The kernel takes one bit less than it is told (mm/mempolicy.c, get_nodes).
        call!(SET_MEMPOLICY, mode as usize, pointer, if pointer == 0 { 0 } else { nodes.len() / 8 * 64 + 1 })
    }
    /// `personality(2)`.
    pub fn personality(persona: u64) -> Self {
        call!(PERSONALITY, persona as usize)
    }
    /// `keyctl(2)`, `KEYCTL_JOIN_SESSION_KEYRING`; without a name the keyring is new in any case.
    pub fn join_session_keyring(name: Option<&'a CStr>) -> Self {
        call!(KEYCTL, 1, optional(name))
    }
    /// `ioctl(2)` with a number (or nothing) as its argument.
    pub(crate) fn ioctl(descriptor: i32, request: u32, argument: usize) -> Self {
        call!(IOCTL, fd(descriptor), request as usize, argument)
    }
    /// `ioctl(2)` on a buffer of 64 bytes, more than any request of keelbox's reads or writes.
    pub(crate) fn ioctl_buffer(descriptor: i32, request: u32, buffer: &'a mut [u64; 8]) -> Self {
        call!(IOCTL, fd(descriptor), request as usize, buffer.as_mut_ptr() as usize)
    }
    /// `socket(2)`.
    pub fn socket(domain: i32, kind: i32, protocol: i32) -> Self {
        call!(SOCKET, domain as usize, kind as usize, protocol as usize)
    }
    /// `socketpair(2)`.
    pub(crate) fn socketpair(domain: i32, kind: i32, ends: &'a mut [i32; 2]) -> Self {
        call!(SOCKETPAIR, domain as usize, kind as usize, 0, ends.as_mut_ptr() as usize)
    }
    /// `ppoll(2)` of one descriptor: `pollfd` as two words, `timespec` as two.
    pub(crate) fn ppoll(poll: &'a mut [i32; 2], time: &'a [i64; 2]) -> Self {
        call!(PPOLL, poll.as_mut_ptr() as usize, 1, time.as_ptr() as usize, 0, 8)
    }
    /// `accept4(2)` without an address.
    pub(crate) fn accept4(descriptor: i32, flags: i32) -> Self {
        call!(ACCEPT4, fd(descriptor), 0, 0, flags as usize)
    }
    /// `sendmsg(2)`.
    pub(crate) fn sendmsg(descriptor: i32, message: &'a mut Message<'_>, flags: i32) -> Self {
        call!(SENDMSG, fd(descriptor), message.settle(), flags as usize)
    }
    /// `recvmsg(2)`.
    pub(crate) fn recvmsg(descriptor: i32, message: &'a mut Message<'_>, flags: i32) -> Self {
        call!(RECVMSG, fd(descriptor), message.settle(), flags as usize)
    }
    /// `rt_sigprocmask(2)`, `SIG_SETMASK`, of the calling thread, without reading the old mask.
    pub(crate) fn sigmask(mask: &'a u64) -> Self {
        call!(RT_SIGPROCMASK, 2, core::ptr::from_ref(mask) as usize, 0, 8)
    }
    /// `rt_sigaction(2)` that gives `signal` its default action: an all-zero `sigaction`.
    pub(crate) fn default_action(signal: u32, zeroes: &'a [u64; 4]) -> Self {
        call!(RT_SIGACTION, signal as usize, zeroes.as_ptr() as usize, 0, 8)
    }
    /// `tgkill(2)` with signal 0: `ESRCH` once the thread has ended for good.
    pub fn ask_for_thread(process: u32, thread: u32) -> Self {
        call!(TGKILL, process as usize, thread as usize, 0)
    }
    /// `gettid(2)`.
    pub fn gettid() -> Self {
        call!(GETTID)
    }
    /// `exit_group(2)`.
    pub(crate) fn exit(code: i32) -> Self {
        call!(EXIT_GROUP, code as usize)
    }
    /// `waitid(2)` with resource usage; `siginfo_t` is 128 bytes, `rusage` 144.
    pub(crate) fn waitid(
        kind: usize,
        id: i32,
        information: &'a mut [i32; 32],
        options: usize,
        usage: &'a mut [i64; 18],
    ) -> Self {
        let (information, usage) = (information.as_mut_ptr() as usize, usage.as_mut_ptr() as usize);
        call!(WAITID, kind, fd(id), information, options, usage)
    }
    /// `pidfd_open(2)`, Linux 5.3.
    pub fn pidfd_open(pid: u32, flags: u32) -> Self {
        call!(PIDFD_OPEN, pid as usize, flags as usize)
    }
    /// `pidfd_send_signal(2)`, Linux 5.1.
    pub fn pidfd_send_signal(pidfd: i32, signal: i32) -> Self {
        call!(PIDFD_SEND_SIGNAL, fd(pidfd), signal as usize, 0, 0)
    }
    /// `pidfd_getfd(2)`, Linux 5.6.
    pub fn pidfd_getfd(pidfd: i32, descriptor: i32) -> Self {
        call!(PIDFD_GETFD, fd(pidfd), fd(descriptor), 0)
    }
    /// `memfd_create(2)`.
    pub fn memfd_create(name: &'a CStr, flags: u32) -> Self {
        call!(MEMFD_CREATE, text(name), flags as usize)
    }
    /// `ioctl(2)`, `SECCOMP_IOCTL_NOTIF_RECV`, into `seccomp_notif` of 80 bytes, which must be zero; Linux 5.0.
    pub(crate) fn ioctl_notification(descriptor: i32, buffer: &'a mut [u64; 10]) -> Self {
        call!(IOCTL, fd(descriptor), 0xc050_2100, buffer.as_mut_ptr() as usize)
    }
}

/// The pointers that `execve(2)` wants: to NUL-terminated strings, with a null pointer at the end.
#[derive(Debug)]
pub struct Pointers<'a> {
    room: &'a mut [usize],
    count: usize,
    lives: PhantomData<&'a CStr>,
}

impl<'a> Pointers<'a> {
    /// An empty list in `room`; `None` if there is not even room for its end.
    pub fn new(room: &'a mut [usize]) -> Option<Self> {
        *room.first_mut()? = 0;
        Some(Self { room, count: 0, lives: PhantomData })
    }

    /// Appends `text`; `false` if there is no room.
    pub fn push(&mut self, text: &'a CStr) -> bool {
        let Some(end) = self.room.get_mut(self.count + 1) else { return false };
        *end = 0;
        if let Some(place) = self.room.get_mut(self.count) {
            *place = text.as_ptr() as usize;
        }
        self.count += 1;
        true
    }
}

impl<'a> Call<'a> {
    /// `execve(2)`: on success this program is no more.
    pub fn execve(path: &'a CStr, arguments: &'a Pointers<'_>, environment: &'a Pointers<'_>) -> Self {
        call!(EXECVE, text(path), arguments.room.as_ptr() as usize, environment.room.as_ptr() as usize)
    }
}

/// `sock_fprog` of `seccomp(2)`: a classic BPF program.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FilterProgram<'a> {
    length: u16,
    filter: *const u8,
    lives: PhantomData<&'a [u8]>,
}

impl<'a> FilterProgram<'a> {
    /// Wraps `bytes`, the array of 8-byte instructions; `None` if it is not whole or longer than the kernel takes.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let length = u16::try_from(bytes.len() / 8).ok()?;
        bytes.len().is_multiple_of(8).then_some(Self { length, filter: bytes.as_ptr(), lives: PhantomData })
    }
}
