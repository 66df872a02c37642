//! How a file inside is opened. Needs no particular kernel.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use keelbox_launch::Errno;

use crate::{Error, ErrorKind};

/// How [`Root::open_with`](crate::Root::open_with) opens a file. Default: for reading, links followed inside.
///
/// ```
/// use keelbox_mounts::{OpenOptions, Root};
/// use std::io::Write;
/// # let directory = tempfile::tempdir()?;
/// let root = Root::at(directory.path())?;
/// let mut file = root.open_with("/log", OpenOptions::new().append().create(0o600))?;
/// file.write_all(b"started\n")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct OpenOptions {
    flags: i32,
    mode: u32,
    any_type: bool,
    truncate: bool,
}

impl OpenOptions {
    /// For reading.
    pub fn new() -> Self {
        Self { flags: libc::O_RDONLY, mode: 0, any_type: false, truncate: false }
    }

    /// For writing only.
    pub fn write(self) -> Self {
        self.access(libc::O_WRONLY)
    }

    /// For reading and writing.
    pub fn read_write(self) -> Self {
        self.access(libc::O_RDWR)
    }

    /// For writing at the end.
    pub fn append(self) -> Self {
        self.access(libc::O_WRONLY | libc::O_APPEND)
    }

    fn access(mut self, access: i32) -> Self {
        self.flags = self.flags & !(libc::O_ACCMODE | libc::O_APPEND) | access;
        self
    }

    /// Makes the file if it is missing, with `mode` less the umask.
    pub fn create(mut self, mode: u32) -> Self {
        self.flags |= libc::O_CREAT;
        self.mode = mode;
        self
    }

    /// Makes the file with `mode` less the umask, and refuses whatever is there already, even a link that leads nowhere.
    pub fn create_new(mut self, mode: u32) -> Self {
        self.flags |= libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        self.mode = mode;
        self
    }

    /// Empties a regular file, once it is sure that it is one.
    pub fn truncate(mut self) -> Self {
        self.truncate = true;
        self
    }

    /// Refuses a link as the last component.
    pub fn no_follow(mut self) -> Self {
        self.flags |= libc::O_NOFOLLOW;
        self
    }

    /// Refuses what is no directory.
    pub fn directory(mut self) -> Self {
        self.flags |= libc::O_DIRECTORY;
        self
    }

    /// Only names the file (`O_PATH` in `open(2)`): any type of file, no right to it needed, no content to be had.
    pub fn path_only(mut self) -> Self {
        self.flags |= libc::O_PATH;
        self.any_type()
    }

    /// Also opens pipes, sockets and devices. It still does not wait for a pipe's other end.
    pub fn any_type(mut self) -> Self {
        self.any_type = true;
        self
    }

    /// Opens with `resolve`, which is given flags and mode.
    pub(super) fn open(
        self,
        resolve: impl Fn(i32, u32) -> Result<OwnedFd, Errno>,
        attempt: impl Fn() -> String,
    ) -> Result<File, Error> {
        // O_NONBLOCK: a pipe that takes the place of a file must not make us wait for its writer (CVE-2025-24965's family).
        let flags = match self.flags & libc::O_PATH {
            0 => self.flags | libc::O_NONBLOCK | libc::O_NOCTTY,
            // openat2(2) takes no other flags together with O_PATH.
            _ => self.flags & (libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY),
        };
        let mode = if flags & libc::O_CREAT == 0 { 0 } else { self.mode };
        // What must be new cannot be of a wrong type.
        if !self.any_type && self.flags & libc::O_EXCL == 0 {
            let named = resolve(libc::O_PATH | (self.flags & (libc::O_NOFOLLOW | libc::O_DIRECTORY)), 0);
            match named {
                Ok(named) => self.check(&File::from(named), &attempt)?,
                Err(Errno::ENOENT) if self.flags & libc::O_CREAT != 0 => {}
                Err(errno) => return Err(Error::os(attempt(), errno)),
            }
        }
        let file = File::from(resolve(flags, mode).map_err(|errno| Error::os(attempt(), errno))?);
        self.check(&file, &attempt)?;
        if self.truncate && self.flags & libc::O_PATH == 0 {
            file.set_len(0).map_err(|error| Error::io(attempt(), error))?;
        }
        Ok(file)
    }

    fn check(self, file: &File, attempt: &impl Fn() -> String) -> Result<(), Error> {
        let metadata = file.metadata().map_err(|error| Error::io(attempt(), error))?;
        let kind = metadata.file_type();
        if self.any_type || kind.is_file() || kind.is_dir() {
            return Ok(());
        }
        if kind.is_symlink() {
            return Err(Error::os(attempt(), Errno::ELOOP));
        }
        let what = match () {
            () if kind.is_fifo() => "a pipe".to_owned(),
            () if kind.is_socket() => "a socket".to_owned(),
            () => format!("a device ({}:{})", libc::major(metadata.rdev()), libc::minor(metadata.rdev())),
        };
        Err(Error::new(ErrorKind::WrongType, format!("{}: it is {what}", attempt())))
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}
