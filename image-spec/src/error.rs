//! The crate's one error type.
//!
//! Job: say what was attempted on what, and carry the cause as `source()`. Leaves out back-traces and codes of its own:
//! what a program may act on is [`ErrorKind`].

use nix::errno::Errno;
use std::io;

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such image, tag, blob, layer, file or user.
    NotFound,
    /// Several images fit and the caller named none; the message lists them.
    Ambiguous,
    /// Content does not have the digest it is known by.
    DigestMismatch,
    /// Content is shorter or longer than its descriptor says.
    SizeMismatch,
    /// A document, archive or value breaks the rules of its format.
    Format,
    /// Understood, but not possible here: a format this build lacks, or a file system that cannot hold a layer.
    Unsupported,
    /// One of [`Limits`](crate::Limits) was exceeded.
    Limit,
    /// A registry wants credentials, or others, or does not allow this.
    Denied,
    /// A registry could not be reached, or failed, at the last of all tries.
    Unavailable,
    /// The caller cancelled it.
    Cancelled,
    /// Any other answer of the kernel, as its error number.
    Os(i32),
}

/// What went wrong in this crate: the attempt as text, a [kind](Error::kind), and the cause as `source()`.
///
/// ```
/// use keelbox_image_spec::{ErrorKind, Image};
/// let error = Image::open("oci:/nonexistent:latest").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.to_string(), "cannot open /nonexistent");
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<io::Error>,
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The part a program may act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    pub(crate) fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Wraps what the kernel or a decoder said about `message`; one of our own errors inside `source` comes out again.
    pub(crate) fn io(message: impl Into<String>, source: io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            Ok(own) => return own,
            Err(source) => source,
        };
        let kind = match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => ErrorKind::NotFound,
            (_, Some(number)) => ErrorKind::Os(number),
            _ => ErrorKind::Format,
        };
        Self(Box::new(Inner { kind, message: message.into(), source: Some(source) }))
    }

    /// An error of this kind whose cause is `source`.
    #[cfg(feature = "registry")]
    pub(crate) fn caused(kind: ErrorKind, message: impl Into<String>, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self(Box::new(Inner { kind, message: message.into(), source: Some(source) })),
        }
    }

    pub(crate) fn os(message: impl Into<String>, errno: Errno) -> Self {
        Self::io(message, io::Error::from(errno))
    }

    /// Puts where it happened in front of what happened.
    pub(crate) fn within(mut self, place: impl std::fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }
}

impl From<Error> for io::Error {
    /// Carries the error through an `io` trait; the crate's own readers take it out again.
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Turns an error number into an [`Error`] that says what was attempted.
pub(crate) trait Attempt<T> {
    /// `message` is only built when there is an error.
    fn attempt<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T> Attempt<T> for Result<T, Errno> {
    fn attempt<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|errno| Error::os(message(), errno))
    }
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| Error::io(message(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn an_own_error_survives_a_trip_through_io() {
        let own = Error::limit("too much");
        let back = Error::io("cannot read", io::Error::from(own));
        assert_eq!((back.kind(), back.to_string().as_str()), (ErrorKind::Limit, "too much"));
    }

    #[test]
    fn the_cause_is_a_source_and_not_part_of_the_text() {
        let error = Error::os("cannot open /x", Errno::EACCES);
        assert_eq!(error.kind(), ErrorKind::Os(13));
        assert_eq!(error.to_string(), "cannot open /x");
        assert!(error.source().expect("a cause").to_string().contains("denied"));
    }
}
