//! One namespace, held open: it lives as long as the value does, whatever becomes of its processes.
//!
//! Leaves out on purpose: joining it, see `namespaces.rs` (this process) and `plan.rs` (a container). Oldest kernel:
//! 4.11, which can tell of what kind a namespace is.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use keelbox_launch::Errno;
use keelbox_launch::sys::namespace as sys;
use nix::fcntl::OFlag;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::error::{Error, ErrorKind};
use crate::kind::Kind;

/// What tells one namespace from all others of this machine: as long as it lives, no other has the same.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of a file that has been asked about.
    pub(crate) fn new(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }

    /// Of the namespace file at `path`, without opening it.
    pub(crate) fn at(path: &str) -> std::io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::new(metadata.dev(), metadata.ino()))
    }

    /// The device number of the file system that namespaces live in.
    pub fn device(self) -> u64 {
        self.device
    }

    /// The number that `ls -l /proc/PID/ns` and `lsns(8)` show.
    pub fn inode(self) -> u64 {
        self.inode
    }
}

/// A namespace, held open.
///
/// Two values are equal if they are the same namespace.
///
/// ```
/// use keelbox_namespaces::{Kind, Namespace};
///
/// let net = Namespace::open("/proc/self/ns/net")?;
/// assert_eq!(net.kind(), Kind::Net);
/// assert_eq!(net, Namespace::open("/proc/thread-self/ns/net")?);
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Debug)]
pub struct Namespace {
    descriptor: OwnedFd,
    kind: Kind,
    identity: Identity,
}

impl Namespace {
    /// Opens a namespace file: one in `/proc/PID/ns`, or what such a file was bound to.
    ///
    /// Whatever else lies at `path` is not opened, so a named pipe or a device does no harm. Needs the right to look
    /// at the process (`ptrace(2)`, "read"), if it is one in `/proc`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotANamespace`] if it is another file, [`ErrorKind::NotFound`] if there is none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let what = || format!("cannot open namespace {}", path.display());
        let place = File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(path);
        let place = place.map_err(|error| Error::io(what(), error))?;
        let system = fstatfs(&place).map_err(|errno| Error::io(what(), errno.into()))?;
        if system.filesystem_type() != NSFS_MAGIC {
            return Err(Error::new(ErrorKind::NotANamespace, format!("{} is no namespace", path.display())));
        }
        let file = File::open(format!("/proc/self/fd/{}", place.as_raw_fd()));
        Self::checked(file.map_err(|error| Error::io(what(), error))?.into(), &what)
    }

    /// Opens the namespace that process `pid` is in; [`crate::Namespaces::of`] opens all of them at one moment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such process or this kernel has no such kind.
    pub fn of(pid: u32, kind: Kind) -> Result<Self, Error> {
        Self::open(format!("/proc/{pid}/ns/{kind}"))
    }

    /// Takes a namespace that is open already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotANamespace`] if the descriptor is of something else.
    pub fn from_descriptor(descriptor: OwnedFd) -> Result<Self, Error> {
        Self::checked(descriptor, &|| "cannot use descriptor as a namespace".to_owned())
    }

    fn checked(descriptor: OwnedFd, what: &dyn Fn() -> String) -> Result<Self, Error> {
        let flag = sys::kind(descriptor.as_fd()).map_err(|errno| match errno {
            Errno::ENOTTY => Error::os(format!("{}: it is none", what()), errno).recast(ErrorKind::NotANamespace),
            other => Error::os(what(), other),
        })?;
        let kind = Kind::from_flag(flag)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("{}: unknown kind {flag:#x}", what())))?;
        let file = File::from(descriptor);
        let metadata = file.metadata().map_err(|error| Error::io(what(), error))?;
        let identity = Identity::new(metadata.dev(), metadata.ino());
        Ok(Self { descriptor: file.into(), kind, identity })
    }

    /// Of what kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What tells it from others.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The user namespace whose capabilities count for it (`NS_GET_USERNS`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] if that is neither the caller's user namespace nor below it.
    pub fn owner(&self) -> Result<Self, Error> {
        let what = || format!("cannot find the owner of a {}", self.kind.words());
        Self::checked(sys::owner(self.as_fd()).map_err(|errno| Error::os(what(), errno))?, &what)
    }

    /// The user or pid namespace above this one (`NS_GET_PARENT`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] if there is none or it is out of the caller's sight, `Os(EINVAL)` for kinds
    /// that do not nest.
    pub fn parent(&self) -> Result<Self, Error> {
        let what = || format!("cannot find the parent of a {}", self.kind.words());
        Self::checked(sys::parent(self.as_fd()).map_err(|errno| Error::os(what(), errno))?, &what)
    }

    /// The user who made a user namespace (`NS_GET_OWNER_UID`), as the caller's user namespace knows it.
    ///
    /// # Errors
    ///
    /// `Os(EINVAL)` for other kinds.
    pub fn owner_uid(&self) -> Result<u32, Error> {
        let what = || format!("cannot find the maker of a {}", self.kind.words());
        sys::owner_uid(self.as_fd()).map_err(|errno| Error::os(what(), errno))
    }

    /// A second descriptor of the same namespace.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Error> {
        let copy = self.descriptor.try_clone();
        copy.map_err(|error| Error::io(format!("cannot duplicate a {}", self.kind.words()), error))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl From<Namespace> for OwnedFd {
    fn from(namespace: Namespace) -> Self {
        namespace.descriptor
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Namespace {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_not_opened() {
        for (path, kind) in [
            ("/proc/self/status", ErrorKind::NotANamespace),
            ("/dev/null", ErrorKind::NotANamespace),
            ("/", ErrorKind::NotANamespace),
            ("/no/such/file", ErrorKind::NotFound),
        ] {
            assert_eq!(Namespace::open(path).unwrap_err().kind(), kind, "{path}");
        }
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(Namespace::from_descriptor(file.into()).unwrap_err().kind(), ErrorKind::NotANamespace);
    }

    #[test]
    fn kind_identity_and_owner() {
        let pid = std::process::id();
        for kind in Kind::ALL {
            let Ok(namespace) = Namespace::of(pid, kind) else {
                continue;
            };
            assert_eq!(namespace.kind(), kind);
            assert_eq!(Identity::at(&format!("/proc/{pid}/ns/{kind}")).unwrap(), namespace.identity());
        }
        let user = Namespace::of(pid, Kind::User).unwrap();
        assert_eq!(Namespace::of(pid, Kind::Net).unwrap().owner_uid().unwrap_err().kind(), ErrorKind::Os(22));
        assert_eq!(Namespace::of(pid, Kind::Net).unwrap().parent().unwrap_err().kind(), ErrorKind::Os(22));
        assert_ne!(user, Namespace::of(pid, Kind::Net).unwrap());
        assert_eq!(user, Namespace::from_descriptor(user.duplicate().unwrap()).unwrap());
    }
}
