//! Standard streams, with the words of `std::process`.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// What a standard stream of the program is: [`std::process::Stdio`] that can be used many times.
///
/// ```
/// use keelbox::Stdio;
/// let log = std::fs::File::open("/dev/null")?;
/// let streams = [Stdio::inherit(), Stdio::null(), Stdio::piped(), Stdio::from(log)];
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stdio(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Inherit,
    Null,
    Piped,
    Descriptor(Arc<OwnedFd>),
    Bytes(Arc<[u8]>),
}

impl Stdio {
    /// The stream of this program.
    #[must_use]
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// `/dev/null`.
    #[must_use]
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// A new pipe, whose other end the process handle has.
    #[must_use]
    pub fn piped() -> Self {
        Self(Kind::Piped)
    }

    /// A duplicate of the descriptor that this program has under a number: one that it was started with, for instance.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it has none of this number.
    pub fn number(number: u32) -> Result<Self> {
        let duplicate = keelbox_launch::sys::duplicate(number);
        let cannot =
            |errno| Error::os(format!("cannot pass on descriptor {number}"), errno).with_kind(ErrorKind::Invalid);
        duplicate.map(Self::from).map_err(cannot)
    }

    pub(crate) fn is_redirected(&self) -> bool {
        !matches!(self.0, Kind::Inherit)
    }

    /// Whether this program has to be there to read or write the other end.
    pub(crate) fn needs_other_end(&self) -> bool {
        matches!(self.0, Kind::Piped | Kind::Bytes(_))
    }

    /// The bytes that a standard input made of them holds.
    pub(crate) fn bytes(&self) -> Option<Arc<[u8]>> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(Arc::clone(bytes)),
            _ => None,
        }
    }

    /// The program's side of an input, and ours if there is one. Nothing for a stream that is inherited.
    pub(crate) fn input(&self) -> Result<(Option<Descriptor>, Option<PipeWriter>)> {
        match &self.0 {
            Kind::Piped | Kind::Bytes(_) => {
                let (reader, writer) =
                    io::pipe().map_err(|error| Error::os("cannot make a pipe for standard input", error))?;
                Ok((Some(Descriptor::Owned(reader.into())), Some(writer)))
            }
            other => Ok((other.descriptor()?, None)),
        }
    }

    /// The program's side of an output, and ours if there is one. Nothing for a stream that is inherited.
    pub(crate) fn output(&self) -> Result<(Option<Descriptor>, Option<PipeReader>)> {
        match &self.0 {
            Kind::Piped => {
                let (reader, writer) =
                    io::pipe().map_err(|error| Error::os("cannot make a pipe for the output", error))?;
                Ok((Some(Descriptor::Owned(writer.into())), Some(reader)))
            }
            other => Ok((other.descriptor()?, None)),
        }
    }
}

impl Kind {
    fn descriptor(&self) -> Result<Option<Descriptor>> {
        Ok(match self {
            Self::Inherit | Self::Piped | Self::Bytes(_) => None,
            Self::Null => {
                let null = File::options().read(true).write(true).open("/dev/null");
                Some(Descriptor::Owned(null.map_err(|error| Error::os("cannot open /dev/null", error))?.into()))
            }
            Self::Descriptor(descriptor) => Some(Descriptor::Shared(Arc::clone(descriptor))),
        })
    }
}

/// The three setters of standard streams, for everything that starts a program; `$streams` is where they are kept.
macro_rules! stream_setters {
    ($builder:ident => $streams:expr, $default:literal) => {
        /// Standard input. Bytes and strings can be given too. Default:
        #[doc = $default]
        pub fn stdin(mut self, stream: impl Into<$crate::stdio::Stdio>) -> Self {
            let $builder = &mut self;
            $streams[0] = Some(stream.into());
            self
        }

        /// Standard output. Default:
        #[doc = $default]
        pub fn stdout(mut self, stream: impl Into<$crate::stdio::Stdio>) -> Self {
            let $builder = &mut self;
            $streams[1] = Some(stream.into());
            self
        }

        /// Standard error. Default:
        #[doc = $default]
        pub fn stderr(mut self, stream: impl Into<$crate::stdio::Stdio>) -> Self {
            let $builder = &mut self;
            $streams[2] = Some(stream.into());
            self
        }
    };
}
pub(crate) use stream_setters;

/// A descriptor that goes to the program.
#[derive(Debug)]
pub(crate) enum Descriptor {
    Owned(OwnedFd),
    Shared(Arc<OwnedFd>),
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Owned(descriptor) => descriptor.as_fd(),
            Self::Shared(descriptor) => descriptor.as_fd(),
        }
    }
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Kind::Descriptor(Arc::new(descriptor)))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl From<PipeReader> for Stdio {
    fn from(pipe: PipeReader) -> Self {
        OwnedFd::from(pipe).into()
    }
}

impl From<PipeWriter> for Stdio {
    fn from(pipe: PipeWriter) -> Self {
        OwnedFd::from(pipe).into()
    }
}

/// Standard input that holds these bytes and then ends; a thread feeds them while the program runs.
impl From<Vec<u8>> for Stdio {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }
}

impl From<&[u8]> for Stdio {
    fn from(bytes: &[u8]) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }
}

impl From<String> for Stdio {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Stdio {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}
