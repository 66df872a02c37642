//! The error of this crate: what was attempted, on what, and why it could not be done.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something that was named is not there: the root, the image, the working directory, the container.
    NotFound,
    /// The program is not there, or the interpreter that it needs.
    ProgramNotFound,
    /// The program cannot be executed.
    NotExecutable,
    /// The user or the group is not known inside.
    UnknownUser,
    /// A setting means nothing, or contradicts another one.
    Invalid,
    /// The image is damaged.
    Damaged,
    /// A limit cannot be had here.
    Limit,
    /// The kernel, its configuration or this build lacks what is needed.
    Unsupported,
    /// The caller may not do this.
    PermissionDenied,
    /// The state of the container forbids this.
    State,
    /// There is a container of this name already.
    Exists,
    /// An address, a port or the name of a network belongs to somebody else.
    Taken,
    /// No address is left.
    Exhausted,
    /// The container ended, or took too long, before it was ready.
    NotReady,
    /// A hook failed.
    Hook,
    /// A program that had to succeed for something else did not: a step of a build.
    Failed,
    /// Any other answer of the kernel, as its error number.
    Os(i32),
    /// Anything else.
    Other,
}

/// What was attempted, on what, and why it could not be done.
///
/// Its text is one sentence without its source's text; [`Error::report`] gives both.
///
/// ```
/// use keelbox::{Container, ErrorKind};
/// let error = Container::from_rootfs("/nowhere").args(["sh"]).output().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.report(), "cannot open root file system /nowhere: No such file or directory");
/// ```
pub struct Error {
    kind: ErrorKind,
    attempt: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a deeper cause.
    pub(crate) fn new(kind: ErrorKind, attempt: impl Into<String>) -> Self {
        Self { kind, attempt: attempt.into(), hint: None, source: None }
    }

    /// The kernel's answer to an attempt.
    pub(crate) fn os(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = os_kind(&source);
        Self { kind, attempt: attempt.into(), hint: None, source: Some(Box::new(Cause(source))) }
    }

    /// An error of another crate of the family.
    pub(crate) fn from_part(
        kind: ErrorKind,
        attempt: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self { kind, attempt: attempt.into(), hint: None, source: Some(Box::new(source)) }
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What may help, shown after the cause.
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

    /// The whole chain in one line: what was attempted, why it failed, what may help.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.attempt.clone();
        let mut source = StdError::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        if let Some(hint) = &self.hint {
            text.push_str(" (");
            text.push_str(hint);
            text.push(')');
        }
        text
    }
}

fn os_kind(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc_number) => match libc_number {
            2 | 20 => ErrorKind::NotFound,
            1 | 13 => ErrorKind::PermissionDenied,
            38 | 95 => ErrorKind::Unsupported,
            number => ErrorKind::Os(number),
        },
        None => match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::InvalidInput => ErrorKind::Invalid,
            _ => ErrorKind::Other,
        },
    }
}

/// An I/O error whose text leaves out the number, which [`ErrorKind`] tells.
#[derive(Debug)]
struct Cause(io::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))
    }
}

impl StdError for Cause {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alternate form is for people: `{error:#}` has the causes and the hint too.
        if f.alternate() { f.write_str(&self.report()) } else { f.write_str(&self.attempt) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{:?}]", self.report(), self.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::NotFound | ErrorKind::ProgramNotFound => io::ErrorKind::NotFound,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::Invalid => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
