//! The system calls that the probe makes, each behind a safe function.

use crate::arch::{self, syscall};
use core::ffi::CStr;
use core::ptr;

pub const AT_FDCWD: i32 = -100;
pub const O_WRONLY: i32 = 0o1;
pub const O_CREAT: i32 = 0o100;
pub const O_TRUNC: i32 = 0o1000;
pub const O_NONBLOCK: i32 = 0o4000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: i32 = 0o200_000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: i32 = 0o40_000;
const SIGKILL: i32 = 9;
const SIGCHLD: usize = 17;

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Not the kernel's: the command line of the probe is wrong.
    pub const USAGE: Self = Self(0);
    pub const EINTR: Self = Self(4);
    pub const EINVAL: Self = Self(22);
}

pub type Result<T> = core::result::Result<T, Errno>;

fn check(answer: isize) -> Result<usize> {
    if answer < 0 { Err(Errno(-answer as i32)) } else { Ok(answer as usize) }
}

/// A system call whose arguments are all plain numbers, never addresses.
fn plain(number: usize, args: [usize; 6]) -> Result<usize> {
    // SAFETY: the numbers passed to this function name calls that take no address, or a null one.
    check(unsafe { syscall(number, args) })
}

/// A system call whose second argument is the address of `bytes` and whose third is its length.
fn with_buffer(number: usize, first: usize, bytes: &mut [u8]) -> Result<usize> {
    let args = [first, bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0];
    // SAFETY: `bytes` is writable for the length that the kernel is told, and outlives the call.
    check(unsafe { syscall(number, args) })
}

/// A system call whose first argument is the address of an `T` that the kernel fills.
fn fill<T: Copy>(number: usize, value: &mut T, second: usize) -> Result<usize> {
    // SAFETY: `value` is writable and each caller passes the type that the call fills.
    check(unsafe { syscall(number, [ptr::from_mut(value) as usize, second, 0, 0, 0, 0]) })
}

pub fn exit(status: i32) -> ! {
    loop {
        let _ = plain(arch::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]);
    }
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    let args = [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
    // SAFETY: the kernel only reads `bytes.len()` bytes of `bytes`, which outlives the call.
    check(unsafe { syscall(arch::WRITE, args) })
}

pub fn read(fd: i32, bytes: &mut [u8]) -> Result<usize> {
    with_buffer(arch::READ, fd as usize, bytes)
}

pub fn getdents64(fd: i32, bytes: &mut [u8]) -> Result<usize> {
    with_buffer(arch::GETDENTS64, fd as usize, bytes)
}

pub fn openat(directory: i32, path: &CStr, flags: i32, mode: u32) -> Result<i32> {
    let args = [directory as usize, path.as_ptr() as usize, flags as usize, mode as usize, 0, 0];
    // SAFETY: `path` is NUL-terminated and only read.
    check(unsafe { syscall(arch::OPENAT, args) }).map(|fd| fd as i32)
}

pub fn close(fd: i32) {
    let _ = plain(arch::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
}

pub fn mkdir(path: &CStr) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and only read.
    check(unsafe { syscall(arch::MKDIRAT, [AT_FDCWD as usize, path.as_ptr() as usize, 0o755, 0, 0, 0]) }).map(drop)
}

pub fn readlink<'a>(path: &CStr, target: &'a mut [u8]) -> Result<&'a [u8]> {
    let args = [AT_FDCWD as usize, path.as_ptr() as usize, target.as_mut_ptr() as usize, target.len(), 0, 0];
    // SAFETY: `path` is NUL-terminated and only read; `target` is writable for the length that the kernel is told.
    let length = check(unsafe { syscall(arch::READLINKAT, args) })?;
    Ok(&target[..length])
}

pub fn getcwd(path: &mut [u8]) -> Result<usize> {
    let args = [path.as_mut_ptr() as usize, path.len(), 0, 0, 0, 0];
    // SAFETY: `path` is writable for the length that the kernel is told.
    check(unsafe { syscall(arch::GETCWD, args) })
}

/// The kernel's `struct statx`, as far as the probe reads it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    spare: u16,
    pub inode: u64,
    pub size: u64,
    blocks: u64,
    attributes_mask: u64,
    times: [u64; 8],
    pub rdev_major: u32,
    pub rdev_minor: u32,
    rest: [u64; 15],
}

pub fn lstat(directory: i32, path: &CStr) -> Result<Statx> {
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    const STATX_BASIC_STATS: usize = 0x7ff;
    // SAFETY: `Statx` is plain numbers, for which all zeroes is a value.
    let mut stat: Statx = unsafe { core::mem::zeroed() };
    let place = ptr::from_mut(&mut stat) as usize;
    let args = [directory as usize, path.as_ptr() as usize, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, place, 0];
    // SAFETY: `path` is NUL-terminated and only read; `stat` has the 256 bytes of the kernel's structure.
    check(unsafe { syscall(arch::STATX, args) })?;
    Ok(stat)
}
const _: () = assert!(size_of::<Statx>() == 256);

/// Tells whether the descriptor is open, by its flags (`F_GETFD`).
pub fn descriptor_flags(fd: i32) -> Result<usize> {
    plain(arch::FCNTL, [fd as usize, 1, 0, 0, 0, 0])
}

/// The six fields of `struct utsname`; the second is the host name.
pub fn uname() -> Result<[[u8; 65]; 6]> {
    let mut names = [[0; 65]; 6];
    fill(arch::UNAME, &mut names, 0)?;
    Ok(names)
}

/// Real, effective and saved ids, of users or of groups.
pub fn ids(call: usize) -> Result<[u32; 3]> {
    let mut ids = [0u32; 3];
    let place = ids.as_mut_ptr();
    let args = [place as usize, place.wrapping_add(1) as usize, place.wrapping_add(2) as usize, 0, 0, 0];
    // SAFETY: the three addresses are the three elements of `ids`, which the kernel fills, and the call is one of
    // `getresuid` and `getresgid`.
    check(unsafe { syscall(call, args) })?;
    Ok(ids)
}

pub fn groups(places: &mut [u32]) -> Result<usize> {
    let args = [places.len(), places.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: `places` is writable for the number of elements that the kernel is told.
    check(unsafe { syscall(arch::GETGROUPS, args) })
}

pub fn getpid() -> i64 {
    plain(arch::GETPID, [0; 6]).map_or(-1, |pid| pid as i64)
}

pub fn getppid() -> i64 {
    plain(arch::GETPPID, [0; 6]).map_or(-1, |pid| pid as i64)
}

pub fn getsid() -> Result<usize> {
    plain(arch::GETSID, [0; 6])
}

pub fn getpgid() -> Result<usize> {
    plain(arch::GETPGID, [0; 6])
}

pub fn umask(mask: u32) -> Result<usize> {
    plain(arch::UMASK, [mask as usize, 0, 0, 0, 0, 0])
}

/// Forks: `None` in the child, the child's pid in the parent.
pub fn fork() -> Result<Option<i32>> {
    // No stack and no addresses: a plain fork, whose child goes on with a copy of this memory.
    plain(arch::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]).map(|pid| (pid != 0).then_some(pid as i32))
}

pub fn kill(pid: i32, signal: i32) -> Result<()> {
    plain(arch::KILL, [pid as usize, signal as usize, 0, 0, 0, 0]).map(drop)
}

/// Kills the child `pid` and reaps it.
pub fn destroy(pid: i32) {
    let _ = kill(pid, SIGKILL);
    let _ = plain(arch::WAIT4, [pid as usize, 0, 0, 0, 0, 0]);
}

/// The monotonic clock in nanoseconds.
pub fn now() -> Result<u64> {
    let mut time = [0u64; 2];
    let args = [1, time.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: `time` has the two words of `struct timespec`, which the kernel fills.
    check(unsafe { syscall(arch::CLOCK_GETTIME, args) })?;
    Ok(time[0] * 1_000_000_000 + time[1])
}

/// Sleeps, and after a signal handler or a stop goes on with the rest.
pub fn sleep(milliseconds: u64) -> Result<()> {
    let mut time = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    loop {
        let place = ptr::from_mut(&mut time) as usize;
        match fill(arch::NANOSLEEP, &mut time, place) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// The signals that are blocked, as a bit mask whose lowest bit is signal 1.
pub fn blocked_signals() -> Result<u64> {
    let mut mask = 0u64;
    let args = [0, 0, ptr::from_mut(&mut mask) as usize, 8, 0, 0];
    // SAFETY: a null new set changes nothing; `mask` has the 8 bytes that the kernel is told.
    check(unsafe { syscall(arch::RT_SIGPROCMASK, args) })?;
    Ok(mask)
}

/// The handler of `signal`: 0 for the default action, 1 for ignored.
pub fn signal_handler(signal: i32) -> Result<u64> {
    let mut action = [0u64; 4];
    let args = [signal as usize, 0, action.as_mut_ptr() as usize, 8, 0, 0];
    // SAFETY: a null new action changes nothing; the kernel's `struct sigaction` is four words on both processors.
    check(unsafe { syscall(arch::RT_SIGACTION, args) })?;
    Ok(action[0])
}

pub fn ignore_signal(signal: i32) -> Result<()> {
    let action = [1u64, 0, 0, 0];
    let args = [signal as usize, action.as_ptr() as usize, 0, 8, 0, 0];
    // SAFETY: `action` is the kernel's four-word `struct sigaction`, only read, and names no handler function.
    check(unsafe { syscall(arch::RT_SIGACTION, args) }).map(drop)
}

/// Rows and columns of the terminal behind `fd`.
pub fn window_size(fd: i32) -> Result<[u16; 4]> {
    const TIOCGWINSZ: usize = 0x5413;
    let mut size = [0u16; 4];
    let args = [fd as usize, TIOCGWINSZ, size.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: `size` is the four numbers of `struct winsize`, which the kernel fills.
    check(unsafe { syscall(arch::IOCTL, args) })?;
    Ok(size)
}

/// Maps `length` bytes of fresh memory and writes to each page. The memory is never given back.
pub fn touch_memory(length: usize) -> Result<()> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
    let start = plain(arch::MMAP, [0, length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, usize::MAX, 0])? as *mut u8;
    for offset in (0..length).step_by(4096) {
        // SAFETY: `offset` lies within the mapping that the kernel has just made, which nothing else uses.
        unsafe { start.add(offset).write_volatile(1) };
    }
    Ok(())
}
