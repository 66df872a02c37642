//! Who uses a network: a file for each one, held locked by every program that does. The kernel drops the locks of a program that is
//! killed, so the next one sees what nobody uses any more.
//!
//! Addresses are not kept here: they are in the names of the kernel's devices, see `endpoint.rs`. Oldest kernel: any.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::error::{Error, ErrorKind, Result};

/// How long one program waits for another that makes or removes a network.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directory of locks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Locks {
    directory: PathBuf,
    /// The network namespace that this is about.
    namespace: u64,
}

/// The right to make and to remove networks, of which there is one.
pub(crate) struct Turn(#[expect(dead_code, reason = "held, never looked at")] Flock<File>);

/// The sign that a network is in use.
#[derive(Debug)]
pub(crate) struct Use {
    file: Option<Flock<File>>,
    path: PathBuf,
}

impl Locks {
    /// Opens the directory, which is made if it is not there, about the calling thread's network namespace.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let attempt = || format!("cannot use the directory of networks {}", directory.display());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| Error::os(attempt(), error))?;
        let found = directory.symlink_metadata().map_err(|error| Error::os(attempt(), error))?;
        // Whoever may write there could keep others from ever making a network.
        let others = found.mode() & 0o022 != 0 || found.uid() != nix::unistd::geteuid().as_raw();
        if others || !found.is_dir() {
            return Err(Error::new(ErrorKind::PermissionDenied, format!("{}: it is not this user's alone", attempt())));
        }
        let namespace = std::fs::metadata("/proc/thread-self/ns/net").map_err(|error| Error::os(attempt(), error))?;
        Ok(Self { directory: directory.to_owned(), namespace: namespace.ino() })
    }

    /// Waits for the right to make and remove networks.
    pub(crate) fn turn(&self) -> Result<Turn> {
        let path = self.directory.join("lock");
        let attempt = || format!("cannot lock {}", path.display());
        let mut file = open(&path).map_err(|error| Error::os(attempt(), error))?;
        let begun = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Turn(lock)),
                Err((_, Errno::EWOULDBLOCK)) if begun.elapsed() > PATIENCE => {
                    let why = format!("{}: another program has held it for {} s", attempt(), PATIENCE.as_secs());
                    return Err(Error::new(ErrorKind::Busy, why));
                }
                Err((same, Errno::EWOULDBLOCK)) => file = same,
                Err((_, errno)) => return Err(Error::os(attempt(), errno)),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Says that this program uses a network. Only in one's turn.
    pub(crate) fn use_of(&self, bridge: &str) -> Result<Use> {
        let path = self.directory.join(format!("{}.{bridge}", self.namespace));
        let attempt = || format!("cannot lock {}", path.display());
        let file = open(&path).map_err(|error| Error::os(attempt(), error))?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(lock) => Ok(Use { file: Some(lock), path }),
            Err((_, errno)) => Err(Error::os(attempt(), errno)),
        }
    }

    /// The bridges of this namespace that no program uses any more. Only in one's turn. Those of other namespaces are forgotten.
    pub(crate) fn unused(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((namespace, bridge)) = name.split_once('.') else { continue };
            let Ok(file) = open(&entry.path()) else { continue };
            if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
                let _forgotten = std::fs::remove_file(entry.path());
                if namespace == self.namespace.to_string() {
                    found.push(bridge.to_owned());
                }
            }
        }
        found
    }
}

impl Use {
    /// Ends the use; whether it was the last one. Only in one's turn.
    pub(crate) fn end(&mut self) -> bool {
        let Some(file) = self.file.take() else { return false };
        // The shared lock is lost if the exclusive one cannot be had, which is just as well.
        let last = file.relock(FlockArg::LockExclusiveNonblock).is_ok();
        if last {
            let _removed = std::fs::remove_file(&self.path);
        }
        last
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}
