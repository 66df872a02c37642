//! Containers written to disk, and read from there: what may be said about it.
//!
//! The program `criu` does both, where it is installed. Leaves out terminals, whose other end is not the container's; limits and the rest of the control
//! group come from the configuration, not from the images. Oldest kernel: 5.10, with `CONFIG_CHECKPOINT_RESTORE`.

pub(crate) mod criu;
pub(crate) mod outside;

use std::path::PathBuf;

/// What both directions have to say.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Common {
    pub(crate) images: PathBuf,
    pub(crate) work: Option<PathBuf>,
    pub(crate) program: Option<PathBuf>,
    /// Options of the program, as it has them.
    pub(crate) options: Vec<String>,
    pub(crate) empty_network: bool,
}

macro_rules! common_setters {
    ($name:ident, $what:literal) => {
        impl $name {
            #[doc = concat!("The images of a container, in this directory. ", $what)]
            #[must_use]
            pub fn new(images: impl Into<PathBuf>) -> Self {
                let mut new = Self::default();
                new.common.images = images.into();
                new
            }

            /// Where the log and statistics go. Default: beside the images.
            #[must_use]
            pub fn work(mut self, directory: impl Into<PathBuf>) -> Self {
                self.common.work = Some(directory.into());
                self
            }

            /// The program that does it. Default: `criu` in one of the usual directories.
            #[must_use]
            pub fn program(mut self, criu: impl Into<PathBuf>) -> Self {
                self.common.program = Some(criu.into());
                self
            }

            /// With the connections of TCP that are open. Default: one that is open is an error.
            #[must_use]
            pub fn tcp_established(self) -> Self {
                self.option("--tcp-established")
            }

            /// With unix sockets whose other end is outside. Default: one is an error.
            #[must_use]
            pub fn external_unix_sockets(self) -> Self {
                self.option("--ext-unix-sk")
            }

            /// In a session that began outside. Default: such a session is an error.
            #[must_use]
            pub fn shell_job(self) -> Self {
                self.option("--shell-job")
            }

            /// With locks of files. Default: one is an error.
            #[must_use]
            pub fn file_locks(self) -> Self {
                self.option("--file-locks")
            }

            /// With files that have no name any more, by giving them one. Default: such a file is an error unless it is small.
            #[must_use]
            pub fn link_remap(self) -> Self {
                self.option("--link-remap")
            }

            /// Without connections of TCP that are being made. Default: one is an error.
            #[must_use]
            pub fn skip_in_flight(self) -> Self {
                self.option("--skip-in-flight")
            }

            /// Without what is in the container's own network namespace, which somebody else sees to. Default: with it.
            #[must_use]
            pub fn empty_network(mut self) -> Self {
                self.common.empty_network = true;
                self
            }

            fn option(mut self, option: &str) -> Self {
                self.common.options.push(option.to_owned());
                self
            }
        }
    };
}

/// How a running container is written to disk: [`Handle::checkpoint`](crate::Handle::checkpoint).
///
/// ```no_run
/// use keelbox::{Checkpoint, Container, Restore, Runtime};
/// let runtime = Runtime::new();
/// runtime.open("web")?.checkpoint(&Checkpoint::new("/var/lib/images"))?;
/// runtime.open("web")?.delete()?;
/// let web = runtime.restore(&Container::from_bundle("./bundle")?.build()?, "web", &Restore::new("/var/lib/images"))?;
/// # Ok::<(), keelbox::Error>(())
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Checkpoint {
    pub(crate) common: Common,
    pub(crate) parent: Option<PathBuf>,
    pub(crate) leave_running: bool,
    pub(crate) memory_alone: bool,
}

common_setters!(Checkpoint, "It is made if it is not there.");

impl Checkpoint {
    /// Images that were written before: what has not changed since is not written again. A path relative to the images. Default: none.
    #[must_use]
    pub fn parent(mut self, images: impl Into<PathBuf>) -> Self {
        self.parent = Some(images.into());
        self
    }

    /// Lets the container go on afterwards. Default: it has ended then.
    #[must_use]
    pub fn leave_running(mut self) -> Self {
        self.leave_running = true;
        self
    }

    /// The memory alone, as a [`parent`](Self::parent) of the images to come; the container goes on. Default: everything.
    #[must_use]
    pub fn memory_alone(mut self) -> Self {
        self.memory_alone = true;
        self
    }
}

/// How a container is read from disk: [`Runtime::restore`](crate::Runtime::restore).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Restore {
    pub(crate) common: Common,
}

common_setters!(Restore, "They must have been written by this library.");

impl Restore {
    /// The profile of a security module, such as `apparmor:NAME`, in the place of the one that was written. Default: that one.
    #[must_use]
    pub fn security_profile(self, profile: &str) -> Self {
        self.option("--lsm-profile").option(profile)
    }
}
