//! The directory of states, and the directory of one container in it: made, found, locked, removed.
//!
//! Everything goes through descriptors: a container that was deleted and made anew under its old name is another one, and
//! nobody else can put a link in the way. Leaves out what the files say. Oldest kernel: 5.10.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use keelbox_runtime_spec::ContainerId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::record::Record;
use crate::error::{Error, ErrorKind, Result};

const STATE: &str = "state.json";
/// What a crash leaves of a state that was being written. Replaced by the next writer, who holds the lock as this one did.
const UNFINISHED: &str = "state.json.new";
const CONFIG: &str = "config.json";
const UNFINISHED_CONFIG: &str = "config.json.new";
/// How much memory a state is read into at first: most fit.
const USUAL: usize = 32 << 10;
/// The most of a state that is read, in bytes.
const MOST: u64 = 16 << 20;
/// How long one operation waits for another on the same container.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The directory of states.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the directory; nothing if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let attempt = || format!("cannot use the state directory {}", path.display());
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = match open(path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let why = format!("{}: it is a symbolic link or no directory", attempt());
                return Err(Error::new(ErrorKind::PermissionDenied, why));
            }
            Err(errno) => return Err(Error::os(attempt(), errno)),
        };
        let found = fstat(&directory).map_err(|errno| Error::os(attempt(), errno))?;
        let refused = |why: &str| Err(Error::new(ErrorKind::PermissionDenied, format!("{}: {why}", attempt())));
        if found.st_uid != nix::unistd::geteuid().as_raw() {
            return refused(&format!("it belongs to user {}", found.st_uid));
        }
        // Whoever may write there could put a container of his own in the place of ours.
        if found.st_mode & 0o022 != 0 {
            return refused(&format!("others may write to it (mode {:04o})", found.st_mode & 0o7777));
        }
        let path = std::path::absolute(path).map_err(|error| Error::os(attempt(), error))?;
        Ok(Some(Self { directory, path }))
    }

    /// Opens the directory, which is made if it is not there.
    pub(crate) fn make(path: &Path) -> Result<Self> {
        let attempt = || format!("cannot make the state directory {}", path.display());
        if let Some(root) = Self::open(path)? {
            return Ok(root);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| Error::os(attempt(), error))?;
        Self::open(path)?.ok_or_else(|| Error::os(attempt(), Errno::ENOENT))
    }

    /// The ids in it, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let cannot = |error| Error::os(format!("cannot list the state directory {}", self.path.display()), error);
        let mut ids = Vec::new();
        for entry in fs::read_dir(format!("/proc/self/fd/{}", self.directory.as_raw_fd())).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            ids.extend(name.to_str().and_then(|name| ContainerId::new(name).ok()));
        }
        ids.sort();
        Ok(ids)
    }
}

/// The directory of one container. Others may have removed it meanwhile.
#[derive(Debug)]
pub(crate) struct Place {
    root: Arc<Root>,
    id: ContainerId,
    directory: OwnedFd,
}

/// The right to change a container, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, never looked at")] Flock<OwnedFd>);

impl Place {
    /// Makes the directory of a new container.
    pub(crate) fn make(root: Root, id: ContainerId) -> Result<Self> {
        let attempt = format!("cannot create container {id}");
        match mkdirat(&root.directory, id.as_str(), Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(Error::new(ErrorKind::Exists, format!("{attempt}: there is one of this name")));
            }
            Err(Errno::ENAMETOOLONG) => {
                return Err(Error::os(attempt, Errno::ENAMETOOLONG).with_kind(ErrorKind::Invalid));
            }
            Err(errno) => return Err(Error::os(attempt, errno)),
        }
        // The caller's mask may have taken away what we need ourselves.
        let opened = fchmodat(&root.directory, id.as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
        opened.map_err(|errno| Error::os(attempt, errno))?;
        Self::open(root, id)
    }

    /// Opens the directory of a container.
    pub(crate) fn open(root: impl Into<Arc<Root>>, id: ContainerId) -> Result<Self> {
        let root = root.into();
        let attempt = format!("cannot open container {id}");
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = match openat(&root.directory, id.as_str(), flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => {
                let why = format!("{attempt}: there is none in {}", root.path.display());
                return Err(Error::new(ErrorKind::NotFound, why));
            }
            Err(errno) => return Err(Error::os(attempt, errno)),
        };
        let found = fstat(&directory).map_err(|errno| Error::os(attempt.clone(), errno))?;
        if found.st_uid != nix::unistd::geteuid().as_raw() || found.st_mode & 0o077 != 0 {
            let why = format!("{attempt}: its state directory is open to others");
            return Err(Error::new(ErrorKind::PermissionDenied, why));
        }
        Ok(Self { root, id, directory })
    }

    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The directory as others may name it.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.path.join(self.id.as_str())
    }

    /// A file of the container as this process may name it now: short enough for a socket, and the same file whatever happens to
    /// the path.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    /// Takes the lock; [`ErrorKind::State`] if another operation does not end.
    pub(crate) fn lock(&self, attempt: &str) -> Result<Lock> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(lock) = self.try_lock(FlockArg::LockExclusiveNonblock)? {
                // Whoever had it before may have deleted the container.
                self.still_there(attempt)?;
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                let why = format!("{attempt}: another operation on it does not end");
                return Err(Error::new(ErrorKind::State, why));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Whether somebody holds the lock.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.try_lock(FlockArg::LockSharedNonblock), Ok(None))
    }

    /// A lock belongs to an open file description, so each one needs its own.
    fn try_lock(&self, kind: FlockArg) -> Result<Option<Lock>> {
        let cannot = |errno| Error::os(format!("cannot lock container {}", self.id), errno);
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(&self.directory, ".", flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT => self.gone(&format!("cannot lock container {}", self.id)),
            errno => cannot(errno),
        })?;
        match Flock::lock(directory, kind) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, errno)) => Err(cannot(errno)),
        }
    }

    /// [`ErrorKind::NotFound`] if the container was deleted, even if there is another one of its name.
    pub(crate) fn still_there(&self, attempt: &str) -> Result<()> {
        let ours = fstat(&self.directory).map_err(|errno| Error::os(attempt, errno))?;
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match fstatat(&self.root.directory, self.id.as_str(), flags) {
            Ok(now) if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino) => Ok(()),
            Ok(_) | Err(Errno::ENOENT) => Err(self.gone(attempt)),
            Err(errno) => Err(Error::os(attempt, errno)),
        }
    }

    fn gone(&self, attempt: &str) -> Error {
        Error::new(ErrorKind::NotFound, format!("{attempt}: it was deleted"))
    }

    /// The state; nothing if there is none yet, or none that can be read: what a crash of the machine may leave.
    pub(crate) fn read(&self) -> Result<Option<Record>> {
        let attempt = || format!("cannot read the state of container {}", self.id);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&self.directory, STATE, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(Error::os(attempt(), errno)),
        };
        let mut text = Vec::with_capacity(USUAL);
        file.take(MOST).read_to_end(&mut text).map_err(|error| Error::os(attempt(), error))?;
        Record::parse(&text, &attempt())
    }

    /// Replaces the state at once. The caller holds the lock.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let text = record.text(self.id.as_str())?;
        let replaced = self.replace(STATE, UNFINISHED, &text);
        replaced.map_err(|error| Error::os(format!("cannot write the state of container {}", self.id), error))
    }

    /// Writes the whole configuration down, at once. The caller holds the lock.
    pub(crate) fn write_config(&self, text: &[u8]) -> Result<()> {
        let replaced = self.replace(CONFIG, UNFINISHED_CONFIG, text);
        let attempt = || format!("cannot write down the configuration of container {}", self.id);
        replaced.map_err(|error| Error::os(attempt(), error))
    }

    /// Others see the old text or the new one. It is not synchronised with a disk: no container outlives the machine, and what a
    /// crash of that leaves of a file is passed over.
    fn replace(&self, name: &str, unfinished: &str, text: &[u8]) -> std::io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = || openat(&self.directory, unfinished, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let mut file = File::from(match open() {
            Err(Errno::EEXIST) => {
                unlinkat(&self.directory, unfinished, UnlinkatFlags::NoRemoveDir)?;
                open()?
            }
            other => other?,
        });
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text)?;
        Ok(renameat(&self.directory, unfinished, &self.directory, name)?)
    }

    /// Removes the directory with all that is in it. The caller holds the lock.
    pub(crate) fn remove(&self) -> Result<()> {
        let path = format!("/proc/self/fd/{}/{}", self.root.directory.as_raw_fd(), self.id);
        let cannot = |error| Error::os(format!("cannot remove {}", self.path().display()), error);
        fs::remove_dir_all(path).map_err(cannot)
    }
}
