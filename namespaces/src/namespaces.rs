//! The namespaces of one process at one moment, and entering them with a thread of this program.
//!
//! Leaves out on purpose: user and time namespaces in a program with threads, which the kernel refuses; a container's
//! stage joins those, see `plan.rs`. Oldest kernel: 5.3 for a process, 5.8 to join several at once (older ones are
//! joined one by one).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::resume_unwind;
use std::thread;

use keelbox_launch::Errno;
use keelbox_launch::sys::namespace as sys;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstatat;

use crate::caller::Caller;
use crate::error::{Error, ErrorKind};
use crate::facts::threads;
use crate::kind::{Kind, NamespaceSet};
use crate::namespace::{Identity, Namespace};
use crate::refusal::{Attempt, Refusal};
use crate::selection::Selection;
use crate::source::{Source, Target};

/// The namespaces of one process, held open: they live as long as the value does.
///
/// ```no_run
/// use keelbox_namespaces::{Kind, Namespaces};
/// use std::net::TcpStream;
///
/// # let pid = 4711;
/// // A connection made inside the network of another process, used from outside.
/// let answer = Namespaces::of(pid)?.only([Kind::Net]).run(|| TcpStream::connect("127.0.0.1:80"))?;
/// # drop(answer);
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Debug)]
pub struct Namespaces {
    members: Vec<Namespace>,
    process: Option<Process>,
}

/// The process they were taken from, which cannot be mistaken for a later one with its number.
#[derive(Debug)]
struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Namespaces {
    /// Those of process `pid`. Kinds that this kernel lacks are left out.
    ///
    /// Needs the right to look at the process (`ptrace(2)`, "read"): the same user and no more capabilities than the
    /// caller, or `CAP_SYS_PTRACE`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such process or it ends meanwhile, [`ErrorKind::PermissionDenied`].
    pub fn of(pid: u32) -> Result<Self, Error> {
        let what = || format!("cannot open process {pid}");
        let pidfd = sys::pidfd(pid).map_err(|errno| Error::os(what(), errno))?;
        let members = open_all(&format!("/proc/{pid}/ns"));
        // If the process still has its number, the files were its own; if not, they may be another's or nobody's.
        if !sys::exists(pidfd.as_fd()) {
            return Err(Error::new(ErrorKind::NotFound, format!("{}: it has ended", what())));
        }
        Ok(Self { members: members?, process: Some(Process { pid, pidfd }) })
    }

    /// Those of the calling thread: what to [`Namespaces::enter`] to come back.
    ///
    /// # Errors
    ///
    /// Any of opening files in `/proc/thread-self/ns`.
    pub fn own() -> Result<Self, Error> {
        Ok(Self { members: open_all("/proc/thread-self/ns")?, process: None })
    }

    /// Only those of these kinds.
    #[must_use]
    pub fn only(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        let kinds = NamespaceSet::from_iter(kinds);
        self.members.retain(|member| kinds.contains(member.kind()));
        self
    }

    /// The kinds there are.
    pub fn kinds(&self) -> NamespaceSet {
        self.iter().map(Namespace::kind).collect()
    }

    /// The one of this kind.
    pub fn get(&self, kind: Kind) -> Option<&Namespace> {
        self.iter().find(|member| member.kind() == kind)
    }

    /// All of them, in the order of [`Kind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.members.iter()
    }

    /// The kinds of which both have the same namespace.
    pub fn shared_with(&self, other: &Self) -> NamespaceSet {
        self.iter().filter(|member| other.get(member.kind()) == Some(member)).map(Namespace::kind).collect()
    }

    /// The kinds of which the two have different namespaces.
    pub fn differing_from(&self, other: &Self) -> NamespaceSet {
        let differs = |member: &&Namespace| other.get(member.kind()).is_some_and(|twin| twin != *member);
        self.iter().filter(differs).map(Namespace::kind).collect()
    }

    /// The selection that puts another program into these namespaces, as far as the calling thread is not in them.
    ///
    /// # Errors
    ///
    /// Any of looking at the calling thread.
    pub fn selection(&self) -> Result<Selection, Error> {
        let selection = Selection::new(&Caller::current()?);
        let differing = self.differing_from(&Self::own()?);
        differing.iter().try_fold(selection, |selection, kind| {
            let target = match (&self.process, self.get(kind)) {
                (Some(process), _) => Target::Process(process.pid),
                (None, Some(member)) => {
                    Target::Open(std::sync::Arc::new(Namespace::from_descriptor(member.duplicate()?)?))
                }
                (None, None) => return Ok(selection),
            };
            Ok(selection.namespace(kind, Source::Join(target)))
        })
    }

    /// Runs `closure` inside, on a fresh thread, and waits for it. The calling thread and all others stay where they
    /// are, and the fresh one ends, so no thread is left in a foreign namespace. A panic goes on in the caller.
    ///
    /// What `closure` makes stays what it is outside: a socket belongs to the network it was made in, a file to the
    /// mount namespace it was opened in. A pid namespace is only that of processes which `closure` starts
    /// (`std::process::Command`); it cannot start threads then. In a mount namespace the thread has a working directory of its own: `/`.
    ///
    /// Needs `CAP_SYS_ADMIN` in the caller's user namespace and in the one that owns what is entered; for mount
    /// namespaces also `CAP_SYS_CHROOT`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MultiThreaded`] if a foreign user or time namespace is among them: the kernel moves no thread of a
    /// process with several into those. [`ErrorKind::PermissionDenied`] with a [`Refusal`] as its source.
    pub fn run<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> Result<T, Error> {
        refuse_for_threads(self.foreign()?)?;
        thread::scope(|scope| {
            let inside = || self.enter_foreign().map(|()| closure());
            let thread = thread::Builder::new().name("keelbox-inside".into()).spawn_scoped(scope, inside);
            let thread = thread.map_err(|error| Error::io("cannot start a thread", error))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Moves the calling thread inside, for good; threads and processes it starts from now on are inside as well. For a
    /// thread that serves many callers [`Namespaces::run`] is the safer way.
    ///
    /// Namespaces that the thread is in already are passed over. A pid namespace only becomes that of child
    /// processes; the thread itself stays in its own, and cannot start threads any more. With a mount namespace the thread gets a
    /// working directory and umask of its own, the former being `/`.
    ///
    /// # Errors
    ///
    /// As [`Namespaces::run`]; user and time namespaces can be entered by a process that has one thread. After an
    /// error the thread may be inside some of them, which the message tells.
    pub fn enter(&self) -> Result<(), Error> {
        if threads() != Some(1) {
            refuse_for_threads(self.foreign()?)?;
        }
        self.enter_foreign()
    }

    /// The kinds of which the calling thread is not inside.
    fn foreign(&self) -> Result<NamespaceSet, Error> {
        let mut foreign = NamespaceSet::NONE;
        for member in self.iter() {
            let path = format!("/proc/thread-self/ns/{}", member.kind().name_for_children());
            let own = Identity::at(&path).or_else(|error| match member.kind() {
                // Without a first process the pid namespace of children cannot be looked at (`ENOENT`).
                Kind::Pid => Ok(Identity::new(0, 0)),
                _ => Err(error),
            });
            if own.map_err(|error| Error::io(format!("cannot look at {path}"), error))? != member.identity() {
                foreign = foreign.and(member.kind());
            }
        }
        Ok(foreign)
    }

    fn enter_foreign(&self) -> Result<(), Error> {
        let foreign = self.foreign()?;
        if foreign.contains(Kind::Mount) {
            let shared = sys::unshare_directories();
            shared.map_err(|errno| Error::os("cannot give the thread a working directory of its own", errno))?;
        }
        match &self.process {
            // One file is exactly the namespace that was opened; several at once are all or none.
            Some(process) if foreign.len() > 1 => self.join_at_once(process, foreign),
            _ => self.join_each(foreign),
        }
    }

    fn join_at_once(&self, process: &Process, kinds: NamespaceSet) -> Result<(), Error> {
        let flags = (OFlag::O_PATH | OFlag::O_DIRECTORY).bits();
        let directory = File::options().read(true).custom_flags(flags).open("/proc/thread-self/ns");
        let directory = directory.map_err(|error| Error::io("cannot open /proc/thread-self/ns", error))?;
        match sys::join(process.pidfd.as_fd(), kinds.flags()) {
            Ok(()) => self.verify(&directory, kinds),
            // It has ended, but its namespaces are held; or the kernel takes no pidfd yet.
            Err(Errno::ESRCH | Errno::EINVAL | Errno::EBADF) => self.join_each(kinds),
            Err(errno) => {
                let what = format!("cannot enter the namespaces of process {} ({kinds})", process.pid);
                Err(refused(what, errno, kinds))
            }
        }
    }

    /// A process may have moved since its namespaces were opened.
    fn verify(&self, directory: &File, kinds: NamespaceSet) -> Result<(), Error> {
        for member in self.iter().filter(|member| kinds.contains(member.kind())) {
            let name = member.kind().name_for_children();
            let found = fstatat(directory, name, AtFlags::empty())
                .map_err(|errno| Error::io(format!("cannot look at /proc/thread-self/ns/{name}"), errno.into()))?;
            if Identity::new(found.st_dev, found.st_ino) != member.identity() {
                let what = format!("the {} of the process changed while it was entered", member.kind().words());
                return Err(Error::new(ErrorKind::Changed, what));
            }
        }
        Ok(())
    }

    fn join_each(&self, kinds: NamespaceSet) -> Result<(), Error> {
        // The user namespace gives the right to join the others; the mount namespace may hide what they need.
        let mut members: Vec<_> = self.iter().filter(|member| kinds.contains(member.kind())).collect();
        members.sort_by_key(|member| member.kind() == Kind::Mount);
        let mut inside = NamespaceSet::NONE;
        for member in members {
            let kind = member.kind();
            sys::join(member.as_fd(), kind.flag()).map_err(|errno| {
                let done = if inside.is_empty() { String::new() } else { format!(" (now inside: {inside})") };
                let what = format!("cannot enter {kind}:[{}]{done}", member.identity().inode());
                refused(what, errno, kind.into())
            })?;
            inside = inside.and(kind);
        }
        Ok(())
    }
}

fn open_all(directory: &str) -> Result<Vec<Namespace>, Error> {
    let open = |kind: Kind| match Namespace::open(format!("{directory}/{kind}")) {
        // The user namespace is the one that every process has on every kernel that this crate serves.
        Err(error) if error.kind() == ErrorKind::NotFound && kind != Kind::User => None,
        other => Some(other),
    };
    Kind::ALL.into_iter().filter_map(open).collect()
}

fn refuse_for_threads(foreign: NamespaceSet) -> Result<(), Error> {
    match foreign.iter().find(|kind| matches!(kind, Kind::User | Kind::Time)) {
        Some(kind) => {
            let what = format!(
                "cannot enter a {} with a thread: the kernel moves only single-threaded processes; leave that kind \
                 out, or start a process inside",
                kind.words()
            );
            Err(Error::new(ErrorKind::MultiThreaded, what))
        }
        None => Ok(()),
    }
}

fn refused(what: String, errno: Errno, kinds: NamespaceSet) -> Error {
    Error::because(ErrorKind::of(errno.0), what, Refusal::explain(Attempt::Join(kinds), errno.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespaces_are_shared_with_oneself() {
        let own = Namespaces::own().unwrap();
        let process = Namespaces::of(std::process::id()).unwrap();
        assert_eq!(own.shared_with(&process), own.kinds());
        assert!(own.differing_from(&process).is_empty());
        assert!(own.kinds().contains(Kind::User) && own.kinds().contains(Kind::Net));
        assert!(own.selection().unwrap().joined_kinds().is_empty());
        let two = own.only([Kind::Uts, Kind::Net]);
        assert_eq!(two.kinds(), NamespaceSet::from_iter([Kind::Net, Kind::Uts]));
        assert!(two.get(Kind::User).is_none());
    }

    #[test]
    fn where_one_is_already_needs_no_privilege() {
        let own = Namespaces::own().unwrap();
        own.enter().unwrap();
        assert_eq!(own.run(|| 42).unwrap(), 42);
    }

    #[test]
    fn no_process_no_namespaces() {
        assert_eq!(Namespaces::of(4_000_000).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn threads_keep_out_of_user_and_time_namespaces() {
        for kind in Kind::ALL {
            let refused = matches!(kind, Kind::User | Kind::Time);
            let kinds = NamespaceSet::from_iter([kind, Kind::Net]);
            let error = refuse_for_threads(kinds).map_err(|error| error.kind());
            assert_eq!(error, if refused { Err(ErrorKind::MultiThreaded) } else { Ok(()) });
        }
    }

    #[test]
    #[should_panic(expected = "from inside")]
    fn a_panic_goes_on() {
        let _ = Namespaces::own().unwrap().run(|| panic!("from inside"));
    }
}
