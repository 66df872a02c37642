//! Asking about and entering namespaces: `ioctl_ns(2)`, `setns(2)`, `unshare(2)`, `pidfd_open(2)`, as safe functions.
//!
//! Leaves out on purpose: which namespaces to enter and in which order, which is the job of `keelbox-namespaces`.
//! Oldest kernel: 4.11 for the questions, 5.3 for a pidfd, 5.8 for `setns` with one.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::raw::{Call, Errno, Kernel, Linux};

const NS_GET_USERNS: u32 = 0xb701;
const NS_GET_PARENT: u32 = 0xb702;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;
const CLONE_FS: u32 = 0x200;

/// The `CLONE_NEW*` number of the namespace behind `namespace` (`NS_GET_NSTYPE`, Linux 4.11).
///
/// # Errors
///
/// `ENOTTY` if the descriptor is no namespace.
pub fn kind(namespace: BorrowedFd<'_>) -> Result<u32, Errno> {
    let answer = Linux.perform(Call::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE, 0))?;
    u32::try_from(answer).map_err(|_| Errno::EPROTO)
}

/// The user namespace that owns `namespace` (`NS_GET_USERNS`, Linux 4.9).
///
/// # Errors
///
/// `EPERM` if the owner is neither the caller's user namespace nor below it.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    descriptor(Call::ioctl(namespace.as_raw_fd(), NS_GET_USERNS, 0))
}

/// The namespace above a user or pid namespace (`NS_GET_PARENT`, Linux 4.9).
///
/// # Errors
///
/// `EPERM` if it is outside of what the caller may see or there is none; `EINVAL` for kinds that know no parent.
pub fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    descriptor(Call::ioctl(namespace.as_raw_fd(), NS_GET_PARENT, 0))
}

/// The user id, as the caller's user namespace knows it, that made a user namespace (`NS_GET_OWNER_UID`, Linux 4.11).
///
/// # Errors
///
/// `EINVAL` if `namespace` is no user namespace.
pub fn owner_uid(namespace: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut buffer = [0u64; 8];
    Linux.perform(Call::ioctl_buffer(namespace.as_raw_fd(), NS_GET_OWNER_UID, &mut buffer))?;
    let [a, b, c, d, ..] = buffer[0].to_ne_bytes();
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// Moves the calling thread (`setns(2)`). `namespace` is a namespace file, or a pidfd since Linux 5.8; `kinds` are
/// `CLONE_NEW*` numbers.
///
/// # Errors
///
/// Whatever the kernel answers.
pub fn join(namespace: BorrowedFd<'_>, kinds: u32) -> Result<(), Errno> {
    Linux.perform(Call::setns(namespace.as_raw_fd(), kinds)).map(drop)
}

/// Gives the calling thread a working directory, root and umask of its own (`unshare(CLONE_FS)`), without which it
/// cannot join a mount namespace.
///
/// # Errors
///
/// Whatever the kernel answers.
pub fn unshare_directories() -> Result<(), Errno> {
    Linux.perform(Call::unshare(CLONE_FS)).map(drop)
}

/// A descriptor of process `pid` (`pidfd_open(2)`, Linux 5.3), close-on-exec.
///
/// # Errors
///
/// `ESRCH` if there is no such process, `EINVAL` if `pid` is 0 or a thread that leads no process.
pub fn pidfd(pid: u32) -> Result<OwnedFd, Errno> {
    descriptor(Call::pidfd_open(pid, 0))
}

/// Whether the process behind `pidfd` has not been reaped, so that its number is still its own.
pub fn exists(pidfd: BorrowedFd<'_>) -> bool {
    !matches!(Linux.perform(Call::pidfd_send_signal(pidfd.as_raw_fd(), 0)), Err(Errno::ESRCH))
}

fn descriptor(call: Call<'_>) -> Result<OwnedFd, Errno> {
    let number = Linux.perform(call)?;
    let number = i32::try_from(number).map_err(|_| Errno::EPROTO)?;
    // SAFETY: only this file calls this function, with calls that answer with a descriptor they have just made,
    // which therefore has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_kernel_names_the_kind_and_the_owner() {
        let net = File::open("/proc/self/ns/net").unwrap();
        let user = File::open("/proc/self/ns/user").unwrap();
        assert_eq!(kind(net.as_fd()), Ok(0x4000_0000));
        assert_eq!(kind(user.as_fd()), Ok(0x1000_0000));
        assert_eq!(owner_uid(net.as_fd()), Err(Errno::EINVAL));
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(kind(file.as_fd()), Err(Errno::ENOTTY));
        // A network namespace made elsewhere may be owned by a user namespace that is out of sight.
        if let Ok(owner) = owner(net.as_fd()) {
            assert_eq!(File::from(owner).metadata().unwrap().dev(), user.metadata().unwrap().dev());
        }
    }

    #[test]
    fn a_pidfd_knows_whether_its_process_exists() {
        let own = pidfd(std::process::id()).unwrap();
        assert!(exists(own.as_fd()));
        assert_eq!(pidfd(0).unwrap_err(), Errno::EINVAL);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = pidfd(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!exists(gone.as_fd()));
    }
}
