//! One directory of a cgroup file system, held open: everything is reached relative to it, never by path.
//!
//! A name is opened with `O_NOFOLLOW`, never with `O_CREAT` or `O_TRUNC`, and a value is written in one write(2), since the
//! kernel takes each write for a whole command. Leaves out: what the files mean. Oldest kernel: 2.6.39.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

use crate::error::{Error, ErrorKind, Result};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

#[derive(Debug)]
pub(crate) struct Directory {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Directory {
    /// Opens `path`, which came from `Hierarchy`, and checks that it is a cgroup.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fd = open(path, DIRECTORY, Mode::empty());
        Self::checked(fd, path.to_owned())
    }

    pub(crate) fn child(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        let fd = openat(&self.fd, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty());
        Self::checked(fd, self.path.join(name))
    }

    /// Follows several names, one at a time.
    pub(crate) fn descend(&self, names: &[String]) -> Result<Self> {
        names.iter().try_fold(self.again(), |directory, name| directory.child(name))
    }

    pub(crate) fn parent(&self) -> Result<Self> {
        let path = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        Self::checked(openat(&self.fd, "..", DIRECTORY, Mode::empty()), path)
    }

    /// The same directory once more. Both share a descriptor, which has no position that anybody moves.
    pub(crate) fn again(&self) -> Self {
        Self { fd: Arc::clone(&self.fd), path: self.path.clone() }
    }

    /// The same directory opened once more, which can be locked apart from this one.
    pub(crate) fn apart(&self) -> Result<OwnedFd> {
        let fail = |errno| Error::os(format!("cannot open group {}", self.path.display()), errno);
        openat(&self.fd, ".", DIRECTORY, Mode::empty()).map_err(fail)
    }

    fn checked(fd: nix::Result<OwnedFd>, path: PathBuf) -> Result<Self> {
        let fail = |errno| Error::os(format!("cannot open group {}", path.display()), errno);
        let fd = fd.map_err(fail)?;
        // Something else may be mounted over a group; nothing outside a cgroup file system is ever written to or removed.
        let kind = fstatfs(&fd).map_err(fail)?.filesystem_type();
        if kind != CGROUP2_SUPER_MAGIC && kind != CGROUP_SUPER_MAGIC {
            let message = format!("cannot use {} as a group: it is not on a cgroup file system", path.display());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(Self { fd: Arc::new(fd), path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn make(&self, name: &str) -> Result<()> {
        mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755)).map_err(|errno| {
            let hint = match errno {
                Errno::EACCES | Errno::EPERM | Errno::EROFS => " (no cgroup subtree is delegated to this process)",
                _ => "",
            };
            Error::os(format!("cannot create group {name} below {}{hint}", self.path.display()), errno)
        })
    }

    pub(crate) fn remove(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        let removed = unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir);
        removed.map_err(|errno| Error::os(format!("cannot remove group {}", self.path.join(name).display()), errno))
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        faccessat(&self.fd, file, AccessFlags::F_OK, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether the effective user may create groups here and move processes through here.
    pub(crate) fn is_writable(&self) -> bool {
        let may = |name| faccessat(&self.fd, name, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok();
        may(".") && may("cgroup.procs")
    }

    pub(crate) fn file(&self, name: &str, flags: OFlag) -> Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty());
        fd.map(File::from).map_err(|errno| Error::os(format!("cannot open {name} of {}", self.path.display()), errno))
    }

    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let failed = |source| Error::io(format!("cannot read {name} of {}", self.path.display()), source);
        let mut file = self.file(name, OFlag::O_RDONLY)?;
        // Nearly every file of a group fits: two reads, where `read_to_end` asks for size and position first.
        let (mut bytes, mut length) = (vec![0; 1024], 0);
        loop {
            match file.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
            if length == bytes.len() {
                bytes.resize(length * 4, 0);
            }
        }
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// The text of a file that some kernels lack or refuse to show.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.read(name).ok()
    }

    pub(crate) fn write(&self, name: &str, value: &str) -> Result<()> {
        let fail = |source| Error::io(format!("cannot write {value} to {name} of {}", self.path.display()), source);
        let fd = openat(&self.fd, name, OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        let mut file = File::from(fd.map_err(|errno| fail(errno.into()))?);
        let written = file.write(value.as_bytes()).map_err(fail)?;
        if written != value.len() {
            return Err(fail(std::io::ErrorKind::WriteZero.into()));
        }
        Ok(())
    }

    /// The names of everything here: `wanted` says whether groups or files.
    fn entries(&self, wanted: Type) -> Result<Vec<OsString>> {
        let fail = |errno| Error::os(format!("cannot list group {}", self.path.display()), errno);
        let mut list = Dir::openat(&self.fd, ".", DIRECTORY, Mode::empty()).map_err(fail)?;
        let mut names = Vec::new();
        for entry in list.iter() {
            let entry = entry.map_err(fail)?;
            // A container may call its groups what it likes; a name need not be UTF-8.
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() == Some(wanted) && name != "." && name != ".." {
                names.push(name.to_os_string());
            }
        }
        Ok(names)
    }

    pub(crate) fn groups(&self) -> Result<Vec<OsString>> {
        // A directory has two links and one for each in it (`kernfs_refresh_inode` in fs/kernfs/inode.c): mostly there is nothing to list.
        if fstat(&self.fd).is_ok_and(|found| found.st_nlink == 2) {
            return Ok(Vec::new());
        }
        self.entries(Type::Directory)
    }

    pub(crate) fn files(&self) -> Result<Vec<OsString>> {
        self.entries(Type::File)
    }

    /// Tells whether two descriptors are of the same directory, whatever its name is now.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (fstat(&self.fd), fstat(&other.fd)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }

    /// Calls `visit` for this directory and everything below.
    ///
    /// A container may nest thousands of groups in its own, so this neither recurses nor keeps more than two descriptors open.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(Visit<'_>) -> Result<()>) -> Result<()> {
        let mut here = self.again();
        visit(Visit::Enter(&here))?;
        let mut trail: Vec<(OsString, VecDeque<OsString>)> = vec![(OsString::new(), here.groups()?.into())];
        while let Some((_, waiting)) = trail.last_mut() {
            if let Some(name) = waiting.pop_front() {
                // Groups come and go while we look.
                let Some(next) = unless_gone(here.child(&name))? else {
                    continue;
                };
                let Some(list) = unless_gone(next.groups())? else {
                    continue;
                };
                visit(Visit::Enter(&next))?;
                here = next;
                trail.push((name, list.into()));
            } else if let Some((name, _)) = trail.pop()
                && !trail.is_empty()
            {
                here = here.parent()?;
                visit(Visit::Leave { parent: &here, name: &name })?;
            }
        }
        Ok(())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A step of [`Directory::walk`]. The top itself is entered but never left.
pub(crate) enum Visit<'a> {
    Enter(&'a Directory),
    Leave { parent: &'a Directory, name: &'a OsStr },
}

/// `None` for what was removed in the meantime: ENOENT when opening, ENODEV when using.
pub(crate) fn unless_gone<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound || error.errno() == Some(Errno::ENODEV as i32) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_cgroup_can_be_opened() {
        let error = Directory::open(Path::new("/tmp")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("not on a cgroup file system"), "{error}");
        assert_eq!(Directory::open(Path::new("/nowhere")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn gone_is_not_an_error() {
        let gone = |errno| unless_gone(Err::<(), _>(Error::os("x", errno)));
        assert!(gone(Errno::ENOENT).unwrap().is_none());
        assert!(gone(Errno::ENODEV).unwrap().is_none());
        assert!(gone(Errno::EACCES).is_err());
    }
}
