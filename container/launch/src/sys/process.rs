//! Safe functions about processes, for the host side: waiting, signals, pidfds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::raw::{Call, Errno, Kernel, Linux};

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

impl std::fmt::Display for Errno {
    /// The text of `strerror(3)`: `Operation not permitted`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl std::error::Error for Errno {}

/// How a process ended, and what it used. From `waitid(2)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Exit {
    /// The exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether it left a core dump.
    pub core_dumped: bool,
    /// Processor time in user mode, of the process and its waited-for children.
    pub user_time: Duration,
    /// Processor time in the kernel.
    pub system_time: Duration,
    /// The largest resident set of one of them, in bytes.
    pub peak_memory: u64,
}

/// Waits until the child behind `pidfd` ends, and reaps it (`waitid(2)` with `P_PIDFD`, Linux 5.4).
///
/// # Errors
///
/// `ECHILD` if it is not a child of this process or somebody else has reaped it.
pub fn wait(pidfd: &OwnedFd) -> Result<Exit, Errno> {
    loop {
        match waitid(pidfd.as_fd(), 0) {
            Err(Errno::EINTR) => {}
            answer => return answer.and_then(|exit| exit.ok_or(Errno::ECHILD)),
        }
    }
}

/// Reaps the child behind `pidfd` if it has ended; `None` if it still runs.
///
/// # Errors
///
/// As [`wait`].
pub fn try_wait(pidfd: &OwnedFd) -> Result<Option<Exit>, Errno> {
    waitid(pidfd.as_fd(), libc::WNOHANG)
}

fn waitid(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<Exit>, Errno> {
    const P_PIDFD: usize = 3;
    let mut information = [0i32; 32];
    let mut usage = [0i64; 18];
    let options = (options | libc::WEXITED) as usize;
    let call = Call::waitid(P_PIDFD, pidfd.as_raw_fd(), &mut information, options, &mut usage);
    Linux.perform(call)?;
    // `siginfo_t` on 64-bit Linux: si_signo, si_errno, si_code, padding, si_pid, si_uid, si_status.
    let [_, _, kind, _, pid, _, status, ..] = information;
    if pid == 0 {
        return Ok(None);
    }
    let time = |at: usize| Duration::new(usage[at] as u64, usage[at + 1] as u32 * 1000);
    Ok(Some(Exit {
        code: (kind == libc::CLD_EXITED).then_some(status),
        signal: (kind != libc::CLD_EXITED).then_some(status),
        core_dumped: kind == libc::CLD_DUMPED,
        user_time: time(0),
        system_time: time(2),
        peak_memory: usage[4] as u64 * 1024,
    }))
}

/// What the kernel remembers of a child that somebody else has reaped (`PIDFD_GET_INFO`, Linux 6.15): the wait status.
#[must_use]
pub fn remembered_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 8;
    const PIDFD_GET_INFO: u32 = 0xc040_ff0b;
    let mut information = [0u64; 8];
    information[0] = PIDFD_INFO_EXIT;
    Linux.perform(Call::ioctl_buffer(pidfd.as_raw_fd(), PIDFD_GET_INFO, &mut information)).ok()?;
    // `pidfd_info`: mask, cgroupid, then 32-bit words: pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid, exit_code.
    (information[0] & PIDFD_INFO_EXIT != 0).then_some((information[7] >> 32) as i32)
}

/// Sends a signal to the process behind `pidfd`, and to no other (`pidfd_send_signal(2)`, Linux 5.1).
///
/// # Errors
///
/// `ESRCH` if it has ended; `EPERM`; `EINVAL` for no such signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    Linux.perform(Call::pidfd_send_signal(pidfd.as_raw_fd(), signal)).map(|_| ())
}

/// Opens a descriptor that names the process `pid` for good (`pidfd_open(2)`, Linux 5.3).
///
/// # Errors
///
/// `ESRCH` if there is no such process.
pub fn pidfd_open(pid: u32) -> Result<OwnedFd, Errno> {
    owned(Linux.perform(Call::pidfd_open(pid, 0))?)
}

/// A duplicate of this program's descriptor of that number, such as one that it was started with.
///
/// # Errors
///
/// `EBADF` if there is none.
///
/// ```
/// assert!(keelbox_launch::sys::duplicate(2).is_ok());
/// assert!(keelbox_launch::sys::duplicate(1 << 20).is_err());
/// ```
pub fn duplicate(number: u32) -> Result<OwnedFd, Errno> {
    let number = i32::try_from(number).map_err(|_| Errno::EBADF)?;
    owned(Linux.perform(Call::fcntl(number, libc::F_DUPFD_CLOEXEC, 3))?)
}

/// Opens `path` below `root` and nowhere else: symbolic links and `..` stay inside, magic links are refused.
///
/// `flags` and `mode` are those of `open(2)`; `O_CLOEXEC` is added. Uses `openat2(2)` (Linux 5.6), or does the same walk by
/// hand where that is missing.
///
/// # Errors
///
/// The kernel's answer: `ENOENT`, `ELOOP`, `EXDEV`, …
///
/// ```
/// use std::os::fd::AsFd;
/// let root = std::fs::File::open("/proc")?;
/// assert!(keelbox_launch::sys::open_inside(root.as_fd(), c"/../../self/status", 0, 0).is_ok());
/// assert!(keelbox_launch::sys::open_inside(root.as_fd(), c"/self/exe", 0, 0).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn open_inside(root: BorrowedFd<'_>, path: &std::ffi::CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    let descriptor = crate::interpret::resolve::open_inside(&mut Linux, root.as_raw_fd(), path, flags, mode)?;
    owned(descriptor as usize)
}

/// Does what [`open_inside`] does, as on a kernel without `openat2(2)`: one component at a time.
///
/// # Errors
///
/// As [`open_inside`].
pub fn open_inside_by_walking(
    root: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    flags: i32,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    let descriptor =
        crate::interpret::resolve::walk(&mut Linux, root.as_raw_fd(), path, flags | libc::O_CLOEXEC, mode)?;
    owned(descriptor as usize)
}

/// Whether the calling thread's effective user is 0.
pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Takes possession of a descriptor that the kernel has just given.
pub(crate) fn owned(descriptor: usize) -> Result<OwnedFd, Errno> {
    if descriptor > i32::MAX as usize {
        return Err(Errno::EBADF);
    }
    // SAFETY: every caller passes what a system call has just returned as a new descriptor; nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}
