//! What a program may answer to a system call. Leaves out how the answer reaches the kernel. Oldest kernel: 5.9.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use keelbox_launch::Errno;
use keelbox_launch::sys::notify::Response;

use crate::error::{Error, ErrorKind};

/// What becomes of a system call that waits for a decision.
///
/// # What `Continue` cannot promise
///
/// The arguments themselves ([`Call::args`](crate::Call::args)) are those that the kernel will use. What they *point
/// to* is not: between the decision and the call, another thread of the program can put a different path in the place
/// of the one that was read, and seccomp_unotify(2) warns in so many words against building a security policy on that.
/// Decide by a path with `Continue` only about programs that do not work against you. About those that may, refuse, or
/// do yourself what was asked for and answer with [`Value`](Self::Value) or [`Descriptor`](Self::Descriptor).
///
/// ```
/// use keelbox::{Answer, Call};
///
/// /// Makes every file that is opened read as empty, and leaves other calls alone.
/// fn decide(call: &Call<'_>) -> Answer {
///     match (call.name(), std::fs::File::open("/dev/null")) {
///         ("openat", Ok(empty)) => empty.into(),
///         ("openat", Err(error)) => error.into(),
///         _ => Answer::Continue,
///     }
/// }
/// # let _ = decide;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// The kernel performs the call as if nobody had asked. See above for what this is not good for.
    Continue,
    /// The call is not performed and fails with this error number, from 1 (`EPERM`) to 4095. Any other number refuses
    /// with `EPERM`.
    Errno(i32),
    /// The call is not performed and gives this value. C libraries take -4095 to -1 for error numbers.
    Value(i64),
    /// The call is not performed; the program gets a duplicate of this descriptor, and its number as the value of the
    /// call (Linux 5.9, at one stroke since 5.14). Where the program may have no more descriptors, the call fails with
    /// `EMFILE`.
    Descriptor(OwnedFd, OnExec),
}

/// What becomes of a descriptor when the program that got it executes another one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OnExec {
    /// It stays open, as after open(2) without `O_CLOEXEC`.
    #[default]
    Keep,
    /// It is closed, as after open(2) with `O_CLOEXEC`.
    Close,
}

impl OnExec {
    /// As the flags of a new descriptor.
    pub(super) fn flags(self) -> i32 {
        const O_CLOEXEC: i32 = 0o2_000_000;
        match self {
            Self::Keep => 0,
            Self::Close => O_CLOEXEC,
        }
    }
}

/// The descriptor, which stays open in what the program executes.
impl From<OwnedFd> for Answer {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Descriptor(descriptor, OnExec::Keep)
    }
}

/// The open file, which stays open in what the program executes.
impl From<File> for Answer {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

/// The error's own number, or `EPERM` if it has none.
impl From<io::Error> for Answer {
    fn from(error: io::Error) -> Self {
        Self::Errno(error.raw_os_error().unwrap_or(Errno::EPERM.0))
    }
}

/// What the kernel answered to the attempt that failed, such as `EFAULT` for a path that cannot be read; `EPERM` for
/// every other error.
impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Os(number) => Self::Errno(number),
            _ => Self::Errno(Errno::EPERM.0),
        }
    }
}

/// The error number that the kernel has for refusing: `error` if it is one, else `EPERM`.
pub(super) fn refusal(error: i32) -> Response {
    match error {
        1..=4095 => Response::Error(Errno(error)),
        _ => Response::Error(Errno::EPERM),
    }
}
