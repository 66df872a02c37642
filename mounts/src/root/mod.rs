//! A directory that stands for `/`: the only way from a path inside to a file.
//!
//! Every path is resolved by `openat2(2)` with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS` (Linux 5.6), or one component at
//! a time where that call is missing or filtered; work is then done on what was opened, or by its directory and its last name.
//! No string ever joins the root with a path. Left out: walking and removing whole trees. Oldest kernel: any.

mod options;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keelbox_launch::sys::{self, Call, Kernel, Linux};
use keelbox_launch::{Errno, text};

pub use options::OpenOptions;

use crate::{Error, ErrorKind, InnerPath};

/// A directory that stands for `/`: what is opened through it lies below it, whatever links say and whoever renames.
///
/// Absolute links start at the root again, `..` stops there, and magic links of procfs (`/proc/self/exe`, `/proc/1/root`) are
/// refused. Paths are [inner paths](InnerPath): absolute and without `..`. Needs no privilege of its own.
///
/// ```
/// use keelbox_mounts::Root;
/// # let directory = tempfile::tempdir()?;
/// let root = Root::at(directory.path())?;
/// root.create_dir_all("/etc")?;
/// root.symlink("../../../etc/name", "/name")?;          // leads nowhere but into the root
/// root.write_file("/etc/name", b"box\n", 0o644)?;
/// assert_eq!(root.read_to_string("/name", 1024)?, "box\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// How often a name is tried again that somebody else makes and removes at the same time.
const ATTEMPTS: usize = 64;

impl Root {
    /// The directory at `path`, a path of the host, as a root.
    ///
    /// # Errors
    ///
    /// The kernel's answer; [`ErrorKind::NotFound`] also for what is no directory.
    pub fn at(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let attempt = || format!("cannot open root file system {}", path.display());
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), libc::O_PATH | libc::O_DIRECTORY);
        let directory = options.open(path).map_err(|error| Error::io(attempt(), error))?;
        Ok(Self { directory: directory.into() })
    }

    /// A directory that is open already, with or without `O_PATH`, as a root.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`] if it is no directory.
    pub fn of(directory: OwnedFd) -> Result<Self, Error> {
        let attempt = "cannot use an open file as a root file system";
        let file = File::from(directory);
        if !file.metadata().map_err(|error| Error::io(attempt, error))?.is_dir() {
            return Err(Error::new(ErrorKind::WrongType, attempt));
        }
        Ok(Self { directory: file.into() })
    }

    /// Opens a regular file or a directory for reading.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File, Error> {
        self.open_with(path, OpenOptions::new())
    }

    /// Opens a file as `options` say.
    ///
    /// Anything but a regular file or a directory is refused before it is opened, so that no pipe blocks and no device is
    /// touched; [`OpenOptions::any_type`] allows it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPath`], [`ErrorKind::NotFound`], [`ErrorKind::Link`], [`ErrorKind::WrongType`], or the kernel's answer.
    pub fn open_with(&self, path: impl AsRef<Path>, options: OpenOptions) -> Result<File, Error> {
        let path = InnerPath::new(path)?;
        let attempt = || format!("cannot open {path} inside");
        options.open(|flags, mode| self.resolve(&path, flags, mode), attempt)
    }

    /// Opens a directory inside as a root of its own: its links and `..` stay below *it*.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn subdirectory(&self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = InnerPath::new(path)?;
        let directory = self.resolve(&path, libc::O_PATH | libc::O_DIRECTORY, 0);
        directory
            .map(|directory| Self { directory })
            .map_err(|errno| Error::os(format!("cannot open {path} inside"), errno))
    }

    /// The content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] beyond the limit, [`ErrorKind::WrongType`] if it is no regular file, else as
    /// [`open_with`](Self::open_with).
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, Error> {
        let path = InnerPath::new(path)?;
        let attempt = || format!("cannot read {path} inside");
        let file = self.open_with(&path, OpenOptions::new())?;
        if !file.metadata().map_err(|error| Error::io(attempt(), error))?.is_file() {
            return Err(Error::new(ErrorKind::WrongType, format!("{}: it is no regular file", attempt())));
        }
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(|error| Error::io(attempt(), error))?;
        if content.len() as u64 > limit {
            return Err(Error::new(ErrorKind::TooLarge, format!("{}: it is larger than {limit} bytes", attempt())));
        }
        Ok(content)
    }

    /// The content of a regular file of at most `limit` bytes, which must be UTF-8.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidValue`] if it is not UTF-8, else as [`read`](Self::read).
    pub fn read_to_string(&self, path: impl AsRef<Path>, limit: u64) -> Result<String, Error> {
        let path = path.as_ref();
        String::from_utf8(self.read(path, limit)?).map_err(|_| {
            Error::new(ErrorKind::InvalidValue, format!("cannot read {} inside: it is not UTF-8", path.display()))
        })
    }

    /// What `stat(2)` tells of a file, after following links inside. Any type of file; it is not opened.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata, Error> {
        self.look(path, 0)
    }

    /// What `lstat(2)` tells: of a link itself, if the last component is one.
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata, Error> {
        self.look(path, libc::O_NOFOLLOW)
    }

    fn look(&self, path: impl AsRef<Path>, flags: i32) -> Result<Metadata, Error> {
        let path = InnerPath::new(path)?;
        let attempt = || format!("cannot look at {path} inside");
        let file = self.resolve(&path, libc::O_PATH | flags, 0).map_err(|errno| Error::os(attempt(), errno))?;
        File::from(file).metadata().map_err(|error| Error::io(attempt(), error))
    }

    /// Whether there is something at `path`, after following links.
    ///
    /// # Errors
    ///
    /// Any answer but "there is no such file" (`ENOENT`, `ENOTDIR`): what cannot be looked at is not absent.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool, Error> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    ///
    /// `EINVAL` (or [`ErrorKind::NotFound`]) if it is no link, else as [`open_with`](Self::open_with).
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<OsString, Error> {
        let path = InnerPath::new(path)?;
        let attempt = || format!("cannot read link {path} inside");
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let link = self.resolve(&path, flags, 0).map_err(|errno| Error::os(attempt(), errno))?;
        let mut text = vec![0; 4096];
        let length = Linux.perform(Call::readlinkat(link.as_raw_fd(), c"", &mut text));
        text.truncate(length.map_err(|errno| Error::os(attempt(), errno))?);
        Ok(OsString::from_vec(text))
    }

    /// Makes a directory and those above it that are missing, mode 0755 less the umask. Links on the way are followed inside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] or [`ErrorKind::NotFound`] if something on the way is no directory, [`ErrorKind::Link`] for
    /// a link that leads nowhere, else the kernel's answer.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = InnerPath::new(path)?;
        self.directory(&path)
            .map(|_| ())
            .map_err(|errno| Error::os(format!("cannot make directory {path} inside"), errno))
    }

    /// Opens a directory, making what is missing of it.
    fn directory(&self, path: &InnerPath) -> Result<OwnedFd, Errno> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        match self.resolve(path, flags, 0) {
            Err(Errno::ENOENT) => {}
            opened => return opened,
        }
        let mut above = self.resolve(&InnerPath::root(), flags, 0)?;
        for prefix in path.prefixes() {
            above = match self.resolve(&prefix, flags, 0) {
                Err(Errno::ENOENT) => {
                    let (_, name) = prefix.split().ok_or(Errno::EINVAL)?;
                    match Linux.perform(Call::mkdirat(above.as_raw_fd(), &name, 0o755)) {
                        Ok(_) | Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    // Never through a link: a dangling one stood here already, or was put here just now (CVE-2024-45310).
                    sys::open_inside(above.as_fd(), &name, flags | libc::O_NOFOLLOW, 0)?
                }
                opened => opened?,
            };
        }
        Ok(above)
    }

    /// Makes a file with this content and exactly this mode, in a directory that exists. Whatever was there is replaced, never
    /// written into or followed: a link, a pipe, a file with other names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongType`] if a directory is there, [`ErrorKind::AlreadyExists`] if others make it again and again, else
    /// the kernel's answer.
    pub fn write_file(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<(), Error> {
        let path = InnerPath::new(path)?;
        let attempt = || format!("cannot write {path} inside");
        let file = self.replace(&path, |parent, name| {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            sys::open_inside(parent, name, flags, mode & 0o777)
        });
        let mut file = File::from(file.map_err(|errno| Error::os(attempt(), errno))?);
        let written = file.write_all(content).and_then(|()| file.set_permissions(Permissions::from_mode(mode)));
        written.map_err(|error| Error::io(attempt(), error))
    }

    /// Makes a symbolic link at `path` with the text `target`, which is not looked at. Whatever was there is replaced.
    ///
    /// # Errors
    ///
    /// As [`write_file`](Self::write_file); [`ErrorKind::InvalidValue`] for a text that is empty or has a NUL.
    pub fn symlink(&self, target: impl AsRef<OsStr>, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = InnerPath::new(path)?;
        let attempt = || format!("cannot make link {path} inside");
        let target = CString::new(target.as_ref().as_bytes()).ok().filter(|target| !target.is_empty());
        let target = target
            .ok_or_else(|| Error::new(ErrorKind::InvalidValue, format!("{}: it points to nothing", attempt())))?;
        let made = self.replace(&path, |parent, name| {
            Linux.perform(Call::symlinkat(&target, parent.as_raw_fd(), name)).map(|_| ())
        });
        made.map_err(|errno| Error::os(attempt(), errno))
    }

    /// Calls `make` with the directory and the last name of `path`, after removing what has that name.
    fn replace<T>(
        &self,
        path: &InnerPath,
        make: impl Fn(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let (parent, name) = self.parent(path)?;
        let mut answer = Err(Errno::EEXIST);
        for _attempt in 0..ATTEMPTS {
            answer = make(parent.as_fd(), &name);
            if answer.as_ref().err() != Some(&Errno::EEXIST) {
                break;
            }
            match Linux.perform(Call::unlinkat(parent.as_raw_fd(), &name, 0)) {
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        answer
    }

    /// Removes a file, a link itself, or an empty directory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], or the kernel's answer: `ENOTEMPTY` for a directory with something in it.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = InnerPath::new(path)?;
        let removed = self.parent(&path).and_then(|(parent, name)| {
            match Linux.perform(Call::unlinkat(parent.as_raw_fd(), &name, 0)) {
                Err(Errno::EISDIR) => Linux.perform(Call::unlinkat(parent.as_raw_fd(), &name, libc::AT_REMOVEDIR)),
                removed => removed,
            }
        });
        removed.map(|_| ()).map_err(|errno| Error::os(format!("cannot remove {path} inside"), errno))
    }

    /// The directory that holds `path`, which must exist, and the name of `path` in it.
    fn parent(&self, path: &InnerPath) -> Result<(OwnedFd, CString), Errno> {
        let (parent, name) = path.split().ok_or(Errno::EISDIR)?;
        Ok((self.resolve(&parent, libc::O_PATH | libc::O_DIRECTORY, 0)?, name))
    }

    fn resolve(&self, path: &InnerPath, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
        sys::open_inside(self.directory.as_fd(), path.as_c_str(), flags | libc::O_CLOEXEC, mode)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// A host path as steps hold it.
pub(crate) fn host_path(path: &Path) -> Result<CString, Error> {
    let refuse = || Error::new(ErrorKind::InvalidPath, format!("cannot use {} as a path of the host", path.display()));
    if path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
        return Err(refuse());
    }
    Ok(text(path))
}
