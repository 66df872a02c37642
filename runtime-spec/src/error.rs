//! The error of this crate.
//!
//! Left out on purpose: public variants with data. What a program may act on is [`ErrorKind`]. Needs no kernel.
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::problem::Problem;

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or directory is not there.
    NotFound,
    /// A file is already there.
    AlreadyExists,
    /// Any other answer of the operating system while reading or writing.
    Io(io::ErrorKind),
    /// The path names something that is not a file, or not a directory.
    FileType,
    /// The document is larger, or has more values, than this crate reads.
    TooLarge,
    /// The document nests deeper than this crate reads.
    TooDeep,
    /// The text is not UTF-8.
    Encoding,
    /// The text is not JSON.
    Syntax,
    /// An object has two members of the same name (RS-003).
    DuplicateName,
    /// A number does not fit into 64 bits.
    Number,
    /// A value is missing, of the wrong type, or not one the specification knows.
    Value,
    /// A text is not a valid container id.
    Id,
    /// A JSON pointer leads nowhere.
    Pointer,
}

/// Why a document could not be read or written.
///
/// `Display` names what was attempted, on which file, and where in it; [`std::error::Error::source`] holds the cause.
///
/// ```
/// use keelbox_runtime_spec::{Bundle, ErrorKind};
///
/// let error = Bundle::open("/nowhere").expect_err("there is no such bundle");
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert_eq!(error.to_string(), "cannot read /nowhere/config.json");
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

// Boxed, so that a `Result` is as small as its success.
#[derive(Debug, thiserror::Error)]
struct Inner {
    kind: ErrorKind,
    action: &'static str,
    path: Option<PathBuf>,
    detail: Option<String>,
    pointer: Option<String>,
    problems: Vec<Problem>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, action: &'static str) -> Self {
        Self(Box::new(Inner {
            kind,
            action,
            path: None,
            detail: None,
            pointer: None,
            problems: Vec::new(),
            source: None,
        }))
    }

    /// What the operating system said about `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            other => ErrorKind::Io(other),
        };
        Self::new(kind, action).path(path).source(source)
    }

    /// The document was read, but its values do not do.
    pub(crate) fn values(action: &'static str, problems: Vec<Problem>) -> Self {
        let mut error = Self::new(ErrorKind::Value, action);
        error.0.pointer = problems.first().map(|p| p.pointer().to_owned());
        error.0.problems = problems;
        error
    }

    pub(crate) fn path(mut self, path: &Path) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    pub(crate) fn pointer_to(mut self, pointer: String) -> Self {
        self.0.pointer = Some(pointer);
        self
    }

    pub(crate) fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or directory it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Where in the document, as a JSON pointer, if the failure has a place.
    pub fn pointer(&self) -> Option<&str> {
        self.0.pointer.as_deref()
    }

    /// The broken rules, for [`ErrorKind::Value`]; empty otherwise.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.action)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        match (self.problems.split_first(), &self.pointer) {
            (Some((first, [])), _) => write!(f, ": {first}"),
            (Some((first, rest)), _) => write!(f, ": {first} (and {} more)", rest.len()),
            (None, Some(pointer)) if !pointer.is_empty() => {
                write!(f, " at {}", pointer.escape_debug())
            }
            (None, _) => Ok(()),
        }
    }
}
