//! Where a container's namespace of one kind comes from, and how one that exists is found and checked.
//!
//! Leaves out on purpose: the order of joining, see `plan.rs`. Oldest kernel: 5.8 for joining by process.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use keelbox_launch::sys::namespace as sys;

use crate::error::{Error, ErrorKind};
use crate::kind::{Kind, NamespaceSet};
use crate::namespace::{Identity, Namespace};

/// Where the namespace of one kind comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// The one that the caller is in.
    #[default]
    Host,
    /// A new one.
    New,
    /// One that exists.
    Join(Target),
}

/// A namespace that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// A namespace file.
    Path(PathBuf),
    /// Whatever the process with this id is in. Kinds that are joined by the same process are joined at once.
    Process(u32),
    /// One that is open already.
    Open(Arc<Namespace>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Open(namespace) => {
                write!(f, "{}:[{}]", namespace.kind(), namespace.identity().inode())
            }
        }
    }
}

/// One thing to join: a namespace, or several of one process.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Join {
    /// What is joined.
    pub target: Target,
    /// Which kinds of it.
    pub kinds: NamespaceSet,
}

impl Join {
    /// Opens it, checks that it is of the kind that is asked for, and that it can be joined.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongKind`], [`ErrorKind::NotANamespace`], [`ErrorKind::NotFound`], or
    /// [`ErrorKind::OwnUserNamespace`].
    pub fn open(&self) -> Result<OwnedFd, Error> {
        match &self.target {
            Target::Path(path) => self.checked(Namespace::open(path)?).map(OwnedFd::from),
            Target::Open(namespace) => {
                self.check(namespace)?;
                namespace.duplicate()
            }
            Target::Process(pid) => {
                let what = || format!("cannot open process {pid} to join its namespaces");
                let pidfd = sys::pidfd(*pid).map_err(|errno| Error::os(what(), errno))?;
                if self.kinds.contains(Kind::User) {
                    let user = Identity::at(&format!("/proc/{pid}/ns/user"));
                    self.refuse_own(user.map_err(|error| Error::io(what(), error))?)?;
                }
                if !sys::exists(pidfd.as_fd()) {
                    return Err(Error::new(ErrorKind::NotFound, format!("{}: it has ended", what())));
                }
                Ok(pidfd)
            }
        }
    }

    fn checked(&self, namespace: Namespace) -> Result<Namespace, Error> {
        self.check(&namespace)?;
        Ok(namespace)
    }

    fn check(&self, namespace: &Namespace) -> Result<(), Error> {
        if self.kinds != namespace.kind().into() {
            let (is, wanted) = (namespace.kind().words(), self.kinds);
            let what = format!("cannot join {}: it is a {is}, not of kind {wanted}", self.target);
            return Err(Error::new(ErrorKind::WrongKind, what));
        }
        if namespace.kind() == Kind::User {
            self.refuse_own(namespace.identity())?;
        }
        Ok(())
    }

    /// The kernel answers `EINVAL` when a process joins the user namespace it is in, lest it regain capabilities.
    fn refuse_own(&self, user: Identity) -> Result<(), Error> {
        let own = Identity::at("/proc/thread-self/ns/user");
        if own.map_err(|error| Error::io("cannot find the own user namespace", error))? == user {
            let what = format!(
                "cannot join the user namespace of {}: the caller is in it already; leave it out to share it",
                self.target
            );
            return Err(Error::new(ErrorKind::OwnUserNamespace, what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(target: Target, kind: Kind) -> Result<OwnedFd, Error> {
        Join { target, kinds: kind.into() }.open()
    }

    #[test]
    fn a_joined_namespace_must_be_of_the_kind_asked_for() {
        let net = || Target::Path("/proc/self/ns/net".into());
        assert!(join(net(), Kind::Net).is_ok());
        let error = join(net(), Kind::Uts).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKind);
        assert_eq!(error.to_string(), "cannot join /proc/self/ns/net: it is a network namespace, not of kind uts");
        let open = Arc::new(Namespace::open("/proc/self/ns/net").unwrap());
        assert!(join(Target::Open(open.clone()), Kind::Net).is_ok());
        assert_eq!(join(Target::Open(open), Kind::Ipc).unwrap_err().kind(), ErrorKind::WrongKind);
        let file = Target::Path("/proc/self/status".into());
        assert_eq!(join(file, Kind::Net).unwrap_err().kind(), ErrorKind::NotANamespace);
    }

    #[test]
    fn the_own_user_namespace_cannot_be_joined() {
        let own = std::process::id();
        for target in [Target::Path("/proc/self/ns/user".into()), Target::Process(own)] {
            assert_eq!(join(target, Kind::User).unwrap_err().kind(), ErrorKind::OwnUserNamespace);
        }
        assert!(join(Target::Process(own), Kind::Net).is_ok());
        assert_eq!(join(Target::Process(u32::MAX >> 1), Kind::Net).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
