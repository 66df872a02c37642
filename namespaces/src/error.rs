//! The one error of this crate. Pure.

use std::fmt;
use std::io;

use keelbox_launch::Errno;

/// Why something about namespaces did not work.
///
/// [`fmt::Display`] says what was attempted, on what; [`std::error::Error::source`] has the kernel's answer or, for a
/// refusal, a [`crate::Refusal`] that says which setting of the machine is the cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A text or number does not mean what it should: a kind's name, an id map, a clock offset.
    Malformed,
    /// One kind of namespace was selected twice.
    Duplicate,
    /// A setting needs a namespace that was not selected, or contradicts another setting.
    Contradiction,
    /// The user namespace to join is the one the caller is in, which the kernel refuses.
    OwnUserNamespace,
    /// The kernel moves only single-threaded processes into a user or time namespace, and this process has threads.
    MultiThreaded,
    /// A file is no namespace.
    NotANamespace,
    /// A namespace is of another kind than was asked for.
    WrongKind,
    /// The caller has no ids beside its own: `/etc/subuid` or `/etc/subgid` has no range for it.
    MissingRanges,
    /// `newuidmap` or `newgidmap` is not installed.
    HelperMissing,
    /// `newuidmap` or `newgidmap` refused.
    HelperFailed,
    /// There is no such process or file.
    NotFound,
    /// The kernel did not permit it.
    PermissionDenied,
    /// The process changed its namespaces while they were being entered.
    Changed,
    /// This kernel cannot do it.
    Unsupported,
    /// Any other answer of the kernel, as its error number.
    Os(i32),
}

impl Error {
    /// An error that begins here.
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// An error whose cause is another one.
    pub(crate) fn because(
        kind: ErrorKind,
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { kind, what: what.into(), source: Some(Box::new(source)) }
    }

    /// The kernel's answer to an attempt.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = source.raw_os_error().map_or(ErrorKind::Malformed, ErrorKind::of);
        Self::because(kind, what, source)
    }

    /// The kernel's answer to an attempt.
    pub(crate) fn os(what: impl Into<String>, errno: Errno) -> Self {
        Self::io(what, io::Error::from_raw_os_error(errno.0))
    }

    /// The same error with a kind that says more.
    pub(crate) fn recast(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error with a sentence more.
    pub(crate) fn adding(mut self, more: impl fmt::Display) -> Self {
        self.what = format!("{}: {more}", self.what);
        self
    }

    /// What a program may act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl ErrorKind {
    /// The kind of an error number.
    pub(crate) fn of(errno: i32) -> Self {
        match Errno(errno) {
            Errno::ENOENT | Errno::ESRCH => Self::NotFound,
            Errno::EPERM | Errno::EACCES => Self::PermissionDenied,
            Errno::ENOSYS => Self::Unsupported,
            Errno(other) => Self::Os(other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_becomes_a_kind_and_stays_a_source() {
        let error = Error::os("cannot join it", Errno::EPERM);
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::PermissionDenied, "cannot join it".into()));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.downcast_ref::<io::Error>().unwrap().raw_os_error(), Some(1));
        assert_eq!(Error::os("x", Errno::EMFILE).kind(), ErrorKind::Os(24));
    }
}
