//! The one error of this crate: what was attempted, on what, and why it could not be done. Oldest kernel: any.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use nix::errno::Errno;

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, an address, a number or a combination of them that means nothing.
    Invalid,
    /// An address, a port or a name of a network belongs to somebody else already.
    Taken,
    /// No address is left.
    Exhausted,
    /// What was named is not there: a device, a helper, a plug-in.
    NotFound,
    /// The kernel, its settings or this machine lack what is needed.
    Unsupported,
    /// The caller may not do this.
    PermissionDenied,
    /// Somebody else has been changing the networks for too long.
    Busy,
    /// A program that was asked to set the network up refused.
    Refused,
    /// Any other answer of the kernel, as its error number.
    Os(i32),
}

/// What was attempted, on what, and why it could not be done.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    attempt: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, attempt: impl Into<String>) -> Self {
        Self { kind, attempt: attempt.into(), hint: None, source: None }
    }

    pub(crate) fn invalid(attempt: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, attempt)
    }

    /// The kernel's answer to an attempt.
    pub(crate) fn os(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => ErrorKind::PermissionDenied,
            Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => ErrorKind::Unsupported,
            Some(Errno::EADDRINUSE) => ErrorKind::Taken,
            Some(Errno::ENOENT | Errno::ENODEV) => ErrorKind::NotFound,
            Some(errno) => ErrorKind::Os(errno as i32),
            None => ErrorKind::Os(0),
        };
        Self { kind, attempt: attempt.into(), hint: None, source: Some(source) }
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What a program may act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What may help, if anything is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.attempt)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn StdError + 'static))
    }
}
