//! A system call that waits for a decision, and what can be learnt about it.
//!
//! Leaves out writing to the program's memory. Oldest kernel: 5.9.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use keelbox_launch::Errno;
use keelbox_launch::sys::notify::{Listener, Notification, read_memory};

use crate::error::{Error, ErrorKind, Result};

/// The longest path with its NUL (`PATH_MAX`), which is also the smallest page of any machine.
const PATH_MAX: usize = 4096;

/// The most bytes that one reading of an argument gives: the length may come from the program, and is not to be trusted.
const MOST_BYTES: usize = 1 << 20;

/// A system call of a container that waits for an [`Answer`](crate::Answer).
///
/// It is about one thread of the container, which stands still as long as it waits; other threads of the same process
/// do not, so what an argument points to may change at any time, also after the decision.
///
/// ```
/// use keelbox::{Answer, Call};
/// const EPERM: i32 = 1;
///
/// /// Lets directories be made in `/tmp` only.
/// fn decide(call: &Call<'_>) -> Answer {
///     let path = match call.name() {
///         "mkdir" => call.path(0),
///         _ => call.path(1), // mkdirat(2): the first argument is a directory's descriptor
///     };
///     match path {
///         Ok(path) if path.parent() == Some("/tmp".as_ref()) => Answer::Continue,
///         Ok(_) => Answer::Errno(EPERM),
///         Err(error) => error.into(),
///     }
/// }
/// # let _ = decide;
/// ```
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) name: &'a str,
    pub(super) notification: &'a Notification,
    pub(super) listener: &'a Listener,
}

impl Call<'_> {
    /// The name of the system call, as it was given to [`Container::on_syscall`](crate::Container::on_syscall).
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// The number of the system call on the architecture the program was compiled for: a 32-bit program on a 64-bit
    /// machine uses other numbers.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.notification.number
    }

    /// The six arguments as numbers: descriptors, flags, addresses in the program. A call that takes fewer leaves
    /// anything in the rest.
    #[must_use]
    pub fn args(&self) -> [u64; 6] {
        self.notification.arguments
    }

    /// The thread that waits, as the pid namespace of this program knows it; 0 if it does not, which happens where the
    /// container is outside of that namespace.
    ///
    /// After anything is opened by this number, such as `/proc/PID/root`, ask [`is_waiting`](Self::is_waiting) before
    /// believing it: the thread may have been killed, and its number given to a process that has nothing to do with it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.notification.pid
    }

    /// Whether the program still waits. If so, [`pid`](Self::pid) means its thread and no other, and always has.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.listener.is_valid(self.notification.id)
    }

    /// The path that argument `index`, from 0, points to: what the program wrote, with its own root, and relative to its
    /// own working directory or to a descriptor.
    ///
    /// Needs the right to trace the program: the same user, or `CAP_SYS_PTRACE` in its user namespace.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for an index beyond 5; [`ErrorKind::State`] if the program does not wait any more;
    /// [`ErrorKind::Os`] with `EFAULT` (14) if nothing readable is there, and with `ENAMETOOLONG` (36) if no NUL follows
    /// within 4096 bytes, as the kernel would answer; [`ErrorKind::PermissionDenied`].
    pub fn path(&self, index: usize) -> Result<PathBuf> {
        let start = self.argument(index)?;
        let (mut path, mut page) = (Vec::new(), [0; PATH_MAX]);
        while path.len() < PATH_MAX {
            let address = self.address(index, start, path.len())?;
            // No further than to the end of the page: what follows need not be there.
            let room = PATH_MAX - (address % PATH_MAX as u64) as usize;
            let piece = &mut page[..room.min(PATH_MAX - path.len())];
            let length = self.read(index, address, piece)?;
            let piece = &piece[..length];
            let end = piece.iter().position(|byte| *byte == 0);
            path.extend_from_slice(&piece[..end.unwrap_or(length)]);
            if end.is_some() {
                return Ok(OsString::from_vec(path).into());
            }
        }
        Err(self.unreadable(index, Errno::ENAMETOOLONG))
    }

    /// The `length` bytes that argument `index`, from 0, points to; at most 1 MiB.
    ///
    /// # Errors
    ///
    /// As [`path`](Self::path), and [`ErrorKind::Invalid`] for more than 1 MiB.
    pub fn bytes(&self, index: usize, length: usize) -> Result<Vec<u8>> {
        let start = self.argument(index)?;
        if length > MOST_BYTES {
            let attempt = format!("cannot read {length} bytes at once: 1 MiB is the most");
            return Err(Error::new(ErrorKind::Invalid, attempt));
        }
        let (mut bytes, mut filled) = (vec![0; length], 0);
        while filled < length {
            let address = self.address(index, start, filled)?;
            filled += self.read(index, address, &mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    fn argument(&self, index: usize) -> Result<u64> {
        let missing = || format!("cannot read argument {index} of {}: there are six, from 0", self.name);
        let argument = self.notification.arguments.get(index).copied();
        argument.ok_or_else(|| Error::new(ErrorKind::Invalid, missing()))
    }

    fn address(&self, index: usize, start: u64, offset: usize) -> Result<u64> {
        start.checked_add(offset as u64).ok_or_else(|| self.unreadable(index, Errno::EFAULT))
    }

    /// Fills the beginning of `bytes`, which is not empty; at least one byte.
    fn read(&self, index: usize, address: u64, bytes: &mut [u8]) -> Result<usize> {
        let answer = read_memory(self.pid(), address, bytes);
        // Only now is it known whose memory that was.
        if !self.is_waiting() {
            return Err(self.unreadable(index, Errno::ESRCH).with_kind(ErrorKind::State));
        }
        match answer {
            Ok(0) => Err(self.unreadable(index, Errno::EFAULT)),
            answer => answer.map_err(|errno| self.unreadable(index, errno)),
        }
    }

    fn unreadable(&self, index: usize, errno: Errno) -> Error {
        Error::os(format!("cannot read argument {index} of {} in process {}", self.name, self.pid()), errno)
    }
}
