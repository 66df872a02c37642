//! The one error of this crate. Needs no particular kernel.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use keelbox_launch::Errno;

/// Why something could not be planned, mounted or opened.
///
/// Shows what was attempted on what; [`kind`](Self::kind) is for programs, [`source`](StdError::source) the kernel's answer.
///
/// ```
/// use keelbox_mounts::{ErrorKind, InnerPath};
/// let error = InnerPath::new("etc/passwd").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidPath);
/// assert_eq!(error.to_string(), "cannot use etc/passwd as a path inside: it is not absolute");
/// ```
#[derive(Debug)]
pub struct Error {
    attempt: String,
    kind: ErrorKind,
    source: Option<io::Error>,
}

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A path is relative, has a `..` or a NUL, or is too long.
    InvalidPath,
    /// There is no such file.
    NotFound,
    /// There is such a file already.
    AlreadyExists,
    /// A symbolic link is in the way that may not be followed, or there are too many.
    Link,
    /// The file is of a type that is not wanted: a pipe, a device, a directory.
    WrongType,
    /// The file is larger than allowed.
    TooLarge,
    /// Two mounts of one plan have the same target.
    Duplicate,
    /// Two options, or an option and the kind of mount, contradict each other.
    Conflict,
    /// A value has no meaning: an empty list of layers, a NUL in an option.
    InvalidValue,
    /// More descriptors are needed than a script of steps can hold.
    TooMany,
    /// This kernel, or this version of keelbox, cannot do it.
    Unsupported,
    /// Any other answer of the kernel, as its error number.
    Os(i32),
}

impl Error {
    /// An error of `kind`; `attempt` is a sentence that begins with "cannot".
    pub(crate) fn new(kind: ErrorKind, attempt: impl Into<String>) -> Self {
        Self { attempt: attempt.into(), kind, source: None }
    }

    /// The kernel's answer to `attempt`.
    pub(crate) fn os(attempt: impl Into<String>, errno: Errno) -> Self {
        let source = Some(io::Error::from_raw_os_error(errno.0));
        let kind = match errno {
            Errno::ENOENT | Errno::ENOTDIR => ErrorKind::NotFound,
            Errno::EEXIST => ErrorKind::AlreadyExists,
            Errno::ELOOP => ErrorKind::Link,
            Errno::EISDIR => ErrorKind::WrongType,
            Errno::ENOSYS | Errno::ENODEV | Errno::EOPNOTSUPP => ErrorKind::Unsupported,
            Errno(number) => ErrorKind::Os(number),
        };
        Self { attempt: attempt.into(), kind, source }
    }

    /// An error of the standard library, met at `attempt`.
    pub(crate) fn io(attempt: impl Into<String>, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::os(attempt, Errno(number)),
            None => Self { attempt: attempt.into(), kind: ErrorKind::InvalidValue, source: Some(error) },
        }
    }

    /// What a program may act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A copy, for plans that remember their first mistake and may be asked more than once.
    pub(crate) fn again(&self) -> Self {
        let source = self.source.as_ref().and_then(io::Error::raw_os_error).map(io::Error::from_raw_os_error);
        Self { attempt: self.attempt.clone(), kind: self.kind, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.attempt)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
