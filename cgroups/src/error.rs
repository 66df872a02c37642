//! The one error of this crate: what was attempted, on what, and the kernel's answer as its source.
//!
//! Leaves out: nothing is logged here. Needs no kernel.

use std::io;

use nix::errno::Errno;

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A limit makes no sense (zero, negative, out of range, contradicting another one). Nothing was touched.
    InvalidLimit,
    /// The name of a group is not allowed (`..`, empty component, NUL, newline, too long). Nothing was touched.
    InvalidPath,
    /// The group, file or controller is not there.
    NotFound,
    /// A group of that name is already there.
    AlreadyExists,
    /// The caller may not do this, most often because no cgroup subtree was delegated to it.
    PermissionDenied,
    /// The kernel, or the kind of hierarchy mounted here, has no such feature.
    Unsupported,
    /// The kernel took the value but reads back another one.
    NotApplied,
    /// Controllers cannot be enabled for children since processes sit in the parent itself (cgroup v2 rule).
    InternalProcesses,
    /// Processes are still in the group.
    Busy,
    /// The kernel did not finish within the time allowed.
    TimedOut,
    /// Any other answer of the kernel, as its error number.
    Os(i32),
}

/// An error of this crate.
///
/// Its text says what was attempted on what; [`source`](std::error::Error::source) has the kernel's answer.
///
/// ```
/// use keelbox_cgroups::{ErrorKind, Group, Limits};
/// let error = Group::create("../escape", &Limits::new()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidPath);
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<io::Error>,
}

/// What everything here returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The kernel's error number, where the kernel answered with one.
    pub fn errno(&self) -> Option<i32> {
        self.source.as_ref().and_then(io::Error::raw_os_error)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidLimit, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn io(message: impl Into<String>, source: io::Error) -> Self {
        let kind = source.raw_os_error().map_or(ErrorKind::Os(0), kind_of);
        Self { kind, message: message.into(), source: Some(source) }
    }

    pub(crate) fn os(message: impl Into<String>, errno: Errno) -> Self {
        Self::io(message, errno.into())
    }

    /// The same failure under a kind that says more than its error number does.
    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Text and cause in one line, for reports that keep no source.
    pub(crate) fn line(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {source}", self.message),
            None => self.message.clone(),
        }
    }
}

fn kind_of(number: i32) -> ErrorKind {
    match Errno::from_raw(number) {
        Errno::ENOENT => ErrorKind::NotFound,
        Errno::EEXIST => ErrorKind::AlreadyExists,
        Errno::EACCES | Errno::EPERM | Errno::EROFS => ErrorKind::PermissionDenied,
        Errno::EBUSY | Errno::ENOTEMPTY => ErrorKind::Busy,
        Errno::EOPNOTSUPP | Errno::ENOSYS => ErrorKind::Unsupported,
        _ => ErrorKind::Os(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn text_never_repeats_the_source() {
        let error = Error::os("cannot write 1 to memory.max of /x", Errno::EINVAL);
        assert_eq!(error.to_string(), "cannot write 1 to memory.max of /x");
        assert_eq!(error.kind(), ErrorKind::Os(Errno::EINVAL as i32));
        assert_eq!(error.errno(), Some(Errno::EINVAL as i32));
        assert!(error.source().is_some_and(|source| source.to_string().contains("Invalid argument")));
    }

    #[test]
    fn numbers_become_kinds() {
        for (errno, kind) in [
            (Errno::ENOENT, ErrorKind::NotFound),
            (Errno::EEXIST, ErrorKind::AlreadyExists),
            (Errno::EROFS, ErrorKind::PermissionDenied),
            (Errno::EBUSY, ErrorKind::Busy),
            (Errno::EOPNOTSUPP, ErrorKind::Unsupported),
        ] {
            assert_eq!(Error::os("x", errno).kind(), kind, "{errno}");
        }
    }
}
