//! User notification of system calls: `seccomp_unotify(2)`, as safe functions for the side that decides.
//!
//! Leaves out on purpose: installing the filter, which is the stage's work, and deciding, which is the caller's.
//! Oldest kernel: 5.9, the first that says when nobody uses a filter any more; [`Listener::answer_with_descriptor`]
//! needs 5.14.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::raw::{Call, Errno, Kernel, Linux};

/// What `SECCOMP_GET_NOTIF_SIZES` answers for the structures that this file knows: `seccomp_notif`,
/// `seccomp_notif_resp`, `seccomp_data`.
const KNOWN_SIZES: [u16; 3] = [80, 24, 64];

// The numbers hold direction and size of what they point to: `_IOWR('!', 1, struct seccomp_notif_resp)` and so on.
const SECCOMP_IOCTL_NOTIF_SEND: u32 = 0xc018_2101;
const SECCOMP_IOCTL_NOTIF_ID_VALID: u32 = 0x4008_2102;
const SECCOMP_IOCTL_NOTIF_ADDFD: u32 = 0x4018_2103;
const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u64 = 1;
const SECCOMP_ADDFD_FLAG_SEND: u32 = 2;

/// A system call that waits for a decision: `seccomp_notif`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Notification {
    /// Names the waiting call; never given to another one of this listener.
    pub id: u64,
    /// The thread that waits, in the pid namespace of whoever received this; 0 if it is not visible there.
    pub pid: u32,
    /// The number of the system call.
    pub number: u32,
    /// `AUDIT_ARCH_*`: what the number means.
    pub architecture: u32,
    /// Where in the program the call was made.
    pub instruction: u64,
    /// The arguments.
    pub arguments: [u64; 6],
}

/// What becomes of a system call that waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Response {
    /// The kernel performs it after all (Linux 5.5).
    Continue,
    /// It is not performed, and fails with this number.
    Error(Errno),
    /// It is not performed, and gives this value.
    Value(i64),
}

/// The descriptor that `seccomp(2)` gave for a filter with `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
///
/// Closing it makes every call that waits, and every later one, fail with `ENOSYS`.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Takes `listener`, once it is sure that the kernel's structures have the sizes that this file knows.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if they have not, or if the kernel has no user notification (before Linux 5.0); `ENOSYS` without
    /// seccomp.
    pub fn new(listener: OwnedFd) -> Result<Self, Errno> {
        known(sizes()?).map(|()| Self(listener))
    }

    /// Receives the next call that waits; waits itself if there is none, so poll first.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the caller was killed or interrupted before this could happen; `EINTR`; `ENOTCONN` if nobody uses
    /// the filter any more (Linux 6.11; older kernels wait for ever).
    pub fn receive(&self) -> Result<Notification, Errno> {
        // The kernel insists on zeroes, and fills: id, pid and flags, then `seccomp_data`.
        let mut words = [0u64; 10];
        Linux.perform(Call::ioctl_notification(self.0.as_raw_fd(), &mut words))?;
        let [id, caller, call, instruction, arguments @ ..] = words;
        let ([pid, _flags], [number, architecture]) = (halves(caller), halves(call));
        Ok(Notification { id, pid, number, architecture, instruction, arguments })
    }

    /// Whether the call `id` still waits. While it does, its thread is alive and its pid means no other.
    #[must_use]
    pub fn is_valid(&self, id: u64) -> bool {
        self.request(SECCOMP_IOCTL_NOTIF_ID_VALID, [id, 0, 0]).is_ok()
    }

    /// Answers the call `id`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it does not wait any more; `EINPROGRESS` if it has been answered.
    pub fn respond(&self, id: u64, response: Response) -> Result<(), Errno> {
        let (value, error, flags) = match response {
            Response::Continue => (0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE),
            Response::Error(errno) => (0, errno.0.wrapping_neg() as u32, 0),
            Response::Value(value) => (value as u64, 0, 0),
        };
        let last = word(error, flags as u32);
        self.request(SECCOMP_IOCTL_NOTIF_SEND, [id, value, last]).map(drop)
    }

    /// Gives the thread behind call `id` a duplicate of `descriptor` and tells its number there; the call goes on
    /// waiting. `flags` is `O_CLOEXEC` or 0. `SECCOMP_IOCTL_NOTIF_ADDFD`, Linux 5.9.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it does not wait any more; `EMFILE` if it has no room for a descriptor.
    pub fn add_descriptor(&self, id: u64, descriptor: BorrowedFd<'_>, flags: i32) -> Result<i32, Errno> {
        self.add(id, descriptor, flags, 0)
    }

    /// As [`add_descriptor`](Self::add_descriptor), and in the same moment answers the call with the number
    /// (`SECCOMP_ADDFD_FLAG_SEND`, Linux 5.14).
    ///
    /// # Errors
    ///
    /// As [`add_descriptor`](Self::add_descriptor); `EINVAL` before Linux 5.14.
    pub fn answer_with_descriptor(&self, id: u64, descriptor: BorrowedFd<'_>, flags: i32) -> Result<i32, Errno> {
        self.add(id, descriptor, flags, SECCOMP_ADDFD_FLAG_SEND)
    }

    fn add(&self, id: u64, descriptor: BorrowedFd<'_>, new_flags: i32, flags: u32) -> Result<i32, Errno> {
        let source = word(flags, descriptor.as_raw_fd() as u32);
        let target = word(0, new_flags as u32);
        let number = self.request(SECCOMP_IOCTL_NOTIF_ADDFD, [id, source, target])?;
        i32::try_from(number).map_err(|_| Errno::EPROTO)
    }

    /// One request on a structure of at most 24 bytes.
    fn request(&self, request: u32, [a, b, c]: [u64; 3]) -> Result<usize, Errno> {
        let mut buffer = [a, b, c, 0, 0, 0, 0, 0];
        Linux.perform(Call::ioctl_buffer(self.0.as_raw_fd(), request, &mut buffer))
    }
}

impl AsFd for Listener {
    /// Readable while a call waits; hung up once nobody uses the filter (Linux 5.9).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Two 32-bit fields as the word that the kernel finds at their place.
fn word(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// The reverse of [`word`].
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

fn known(sizes: [u16; 3]) -> Result<(), Errno> {
    // With other sizes the kernel would write beyond our buffers, or we would read what it did not write.
    if sizes == KNOWN_SIZES { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// `SECCOMP_GET_NOTIF_SIZES`, Linux 5.0.
fn sizes() -> Result<[u16; 3], Errno> {
    let mut sizes = [0u16; 3];
    // SAFETY: this operation takes no flags and writes one `seccomp_notif_sizes`, which is three 16-bit numbers, to a
    // place that is borrowed exclusively for the call.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, sizes.as_mut_ptr()) };
    match answer {
        0 => Ok(sizes),
        // An operation that the kernel does not know.
        _ if last() == Errno::EINVAL => Err(Errno::EOPNOTSUPP),
        _ => Err(last()),
    }
}

/// Copies memory of thread `pid` from `address` on into `bytes` (`process_vm_readv(2)`, Linux 3.2); gives how many bytes
/// there were, fewer than asked for if what follows is not mapped.
///
/// `pid` may be reused while this goes on: believe the bytes only if [`Listener::is_valid`] holds afterwards.
/// Needs the right to trace the process: the same user, or `CAP_SYS_PTRACE`.
///
/// # Errors
///
/// `EFAULT` if `address` is not readable there; `ESRCH` if there is no such thread; `EPERM`.
pub fn read_memory(pid: u32, address: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(Errno::ESRCH)?;
    let start = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: start as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the kernel writes at most `bytes.len()` bytes to `bytes`, borrowed exclusively for the call. `remote` is an
    // address of the other process, which the kernel checks and only reads from.
    let answer = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(answer).map_err(|_| last())
}

/// The error number the last libc call of this thread left behind.
fn last() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::fs::File;

    use super::*;
    use crate::{Event, Launch, Step, list};

    /// Classic BPF: notify the one call, allow every other.
    fn notify(number: usize) -> Vec<u8> {
        let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
            let mut bytes = code.to_ne_bytes().to_vec();
            bytes.extend([jt, jf]);
            bytes.extend(k.to_ne_bytes());
            bytes
        };
        let (load, equal, end) = (0x20, 0x15, 0x06);
        let (user_notification, allow) = (0x7fc0_0000, 0x7fff_0000);
        [
            instruction(load, 0, 0, 0),
            instruction(equal, 0, 1, number as u32),
            instruction(end, 0, 0, user_notification),
            instruction(end, 0, 0, allow),
        ]
        .concat()
    }

    #[test]
    fn only_the_known_sizes_are_accepted() {
        assert_eq!(known([80, 24, 64]), Ok(()));
        assert_eq!(known([88, 24, 64]), Err(Errno::EOPNOTSUPP));
        assert_eq!(known([80, 32, 64]), Err(Errno::EOPNOTSUPP));
        assert_eq!(sizes(), Ok(KNOWN_SIZES));
    }

    #[test]
    fn halves_are_the_reverse_of_a_word() {
        assert_eq!(halves(word(1, u32::MAX)), [1, u32::MAX]);
    }

    #[test]
    fn a_descriptor_that_is_no_listener_is_refused_by_every_request() {
        let other = Listener::new(File::open("/dev/null").unwrap().into()).unwrap();
        assert_eq!(other.receive(), Err(Errno::ENOTTY));
        assert_eq!(other.respond(1, Response::Continue), Err(Errno::ENOTTY));
        assert!(!other.is_valid(1));
    }

    #[test]
    fn memory_is_read_up_to_where_it_ends() {
        let own = std::process::id();
        let text = b"what the caller passed";
        let mut copy = [0; 22];
        assert_eq!(read_memory(own, text.as_ptr() as u64, &mut copy), Ok(22));
        assert_eq!(&copy, text);
        assert_eq!(read_memory(own, 0, &mut copy), Err(Errno::EFAULT));
        assert_eq!(read_memory(own, u64::MAX, &mut copy), Err(Errno::EFAULT));
        assert_eq!(read_memory(0, 4096, &mut copy), Err(Errno::ESRCH));
        assert_eq!(read_memory(u32::MAX, 4096, &mut copy), Err(Errno::ESRCH));
    }

    #[test]
    fn the_execution_of_the_program_itself_is_received_and_answered() {
        let environment = vec![];
        let (paths, arguments) = (list(["/nowhere/program", "/bin/true"]), list(["true"]));
        let steps = [
            Step::NoNewPrivileges {},
            Step::Seccomp { flags: 8, filter: notify(super::super::numbers::EXECVE) },
            Step::Exec { paths, arguments, environment },
        ];
        let mut started = Launch::new(&steps).start().unwrap();
        let Event::Descriptor { step: 1, descriptor } = started.control.event(None).unwrap() else {
            panic!("the filter's step gives a listener");
        };
        let listener = Listener::new(descriptor).unwrap();
        let mut seen = Vec::new();
        for response in [Response::Error(Errno::ENOENT), Response::Continue] {
            let call = listener.receive().unwrap();
            assert_eq!((call.pid, call.number), (started.pid, super::super::numbers::EXECVE as u32));
            let mut path = [0; 64];
            read_memory(call.pid, call.arguments[0], &mut path).unwrap();
            assert!(listener.is_valid(call.id) && !listener.is_valid(call.id + 1));
            seen.push(CStr::from_bytes_until_nul(&path).unwrap().to_owned());
            assert_eq!(listener.respond(call.id + 1, response), Err(Errno::ENOENT));
            assert_eq!(listener.respond(call.id, response), Ok(()));
        }
        assert_eq!(seen, [c"/nowhere/program".to_owned(), c"/bin/true".to_owned()]);
        started.control.running().unwrap();
        assert_eq!(crate::sys::wait(&started.pidfd).unwrap().code, Some(0));
    }
}
