//! What is in use, so that it is not collected.
//!
//! Job: a lease is a file that names blobs and layers and is locked by the process that uses them; when the process is gone,
//! however it ended, the kernel lets go of the lock and the lease counts no more. A pin does the same for a container, which
//! may outlive the program that made it: it names the container's process. Whoever wants to use something names it first and
//! looks whether it is there second, and names are written while the collector cannot read them; so nothing disappears
//! between the two. Leaves out collecting (`collect.rs`). Oldest kernel: any supported one.

use crate::content::replace;
use crate::error::Attempt;
use crate::store::{Store, unique};
use crate::{Digest, Error, ErrorKind, Result, files};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};

/// The lock that separates beginning to use something from collecting.
pub(crate) type StoreLock = Flock<OwnedFd>;

/// Names of things in use. Dropping it ends the use.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Store,
    /// `None` on a file system that cannot be written: nothing is collected there either.
    file: Option<(String, Flock<File>)>,
}

impl Store {
    /// Holds the store's lock. With `Shared`, no collector runs meanwhile; with `Exclusive`, nobody begins to use anything.
    pub(crate) fn hold(&self, how: FlockArg) -> Result<StoreLock> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(self.locks(), ".", flags, Mode::empty()).attempt(|| self.failed("lock"))?;
        files::lock(directory, how).attempt(|| self.failed("lock"))
    }

    /// Begins to use `items`, digests and keys of layers. Ask only afterwards whether they are there.
    pub(crate) fn lease(&self, items: impl IntoIterator<Item = String>) -> Result<Lease> {
        let _beginning = self.hold(FlockArg::LockShared)?;
        let name = unique("");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_APPEND | OFlag::O_CLOEXEC;
        let failed = || self.failed("note what is used of");
        let file = match openat(self.leases(), name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Err(Errno::EROFS) => return Ok(Lease { store: self.clone(), file: None }),
            other => File::from(other.attempt(failed)?),
        };
        let file = Flock::lock(file, FlockArg::LockSharedNonblock)
            .map_err(|(_, errno)| errno)
            .attempt(failed)
            .inspect_err(|_| {
                let _ = files::unlink(self.leases(), name.as_bytes());
            })?;
        let mut lease = Lease { store: self.clone(), file: Some((name, file)) };
        lease.write(items)?;
        Ok(lease)
    }

    /// What leases and pins name. The lock says that nobody writes them meanwhile; those of processes that are gone go too,
    /// unless it is only to be looked.
    pub(crate) fn leased(&self, _lock: &StoreLock, remove: bool) -> Result<HashSet<String>> {
        let mut items = HashSet::new();
        for name in files::names(self.leases().as_fd()).attempt(|| self.failed("list"))? {
            let bytes = name.to_bytes();
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let file = match openat(self.leases(), name.as_c_str(), flags, Mode::empty()) {
                Err(Errno::ENOENT) => continue,
                other => File::from(other.attempt(|| self.failed("read"))?),
            };
            let mut text = String::new();
            // What cannot be read is no text of ours; what it protected is unknown, so it is an error.
            (&file).take(16 << 20).read_to_string(&mut text).attempt(|| self.failed("read a lease of"))?;
            let alive = if bytes.starts_with(b"pin-") {
                text.lines().next().is_some_and(|line| Keeper::parse(line).is_none_or(|keeper| keeper.is_alive()))
            } else {
                Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
            };
            if alive {
                items.extend(text.lines().map(str::to_owned));
            } else if remove {
                let _ = files::unlink(self.leases(), bytes);
            }
        }
        Ok(items)
    }

    /// Keeps `items` while the process `pid` lives, or until [`unpin`](Self::unpin).
    pub(crate) fn pin<'a>(&self, id: &str, pid: u32, items: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let name = pin_name(id)?;
        let failed = || format!("cannot pin what {id} uses in the store {}", self.path().display());
        let keeper = Keeper::of(pid).attempt(failed)?;
        let mut text = keeper.render();
        for item in items {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{item}");
        }
        let _beginning = self.hold(FlockArg::LockShared)?;
        replace(self.leases(), &name, text.as_bytes()).attempt(failed)
    }

    /// Ends what [`Unpacked::pin`](crate::Unpacked::pin) began. That there is no such pin is no error.
    ///
    /// # Errors
    /// `Format` for what cannot be an id, and what the kernel says.
    pub fn unpin(&self, id: &str) -> Result<()> {
        match files::unlink(self.leases(), pin_name(id)?.as_bytes()) {
            Err(Errno::ENOENT) => Ok(()),
            other => other.attempt(|| self.failed("write")),
        }
    }
}

impl Lease {
    /// Uses more.
    pub(crate) fn add(&mut self, items: impl IntoIterator<Item = String>) -> Result<()> {
        let _beginning = self.store.hold(FlockArg::LockShared)?;
        self.write(items)
    }

    fn write(&mut self, items: impl IntoIterator<Item = String>) -> Result<()> {
        let Some((_, file)) = &mut self.file else { return Ok(()) };
        let text: String = items.into_iter().flat_map(|item| [item, "\n".to_owned()]).collect();
        file.write_all(text.as_bytes()).attempt(|| self.store.failed("note what is used of"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((name, _)) = &self.file {
            // What stays is without a lock, so the next collection removes it.
            let _ = files::unlink(self.store.leases(), name.as_bytes());
        }
    }
}

fn pin_name(id: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    if id.is_empty() || !id.bytes().all(plain) {
        return Err(Error::new(ErrorKind::Format, format!("{id:?} cannot be the id of a pin")));
    }
    // What is too long for a file's name has another.
    Ok(if id.len() <= 200 { format!("pin-{id}") } else { format!("pin-%{}", Digest::of(id.as_bytes()).hex()) })
}

/// The process that a pin is for: its number alone would be another's one day.
#[derive(Debug, Eq, PartialEq)]
struct Keeper {
    pid: u32,
    started: u64,
    /// The pid namespace that the number is of.
    namespace: String,
    boot: String,
}

impl Keeper {
    fn of(pid: u32) -> std::io::Result<Self> {
        let started = started(pid)?.ok_or(Errno::ESRCH)?;
        Ok(Self { pid, started, namespace: namespace()?, boot: boot()? })
    }

    fn render(&self) -> String {
        format!("process {} {} {} {}\n", self.pid, self.started, self.namespace, self.boot)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("process ")?.split(' ');
        let (pid, started) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { pid, started, namespace: words.next()?.to_owned(), boot: words.next()?.to_owned() })
    }

    /// False only when it is certain: what cannot be seen from here lives.
    fn is_alive(&self) -> bool {
        if boot().is_ok_and(|boot| boot != self.boot) {
            return false;
        }
        if namespace().ok().as_ref() != Some(&self.namespace) {
            return true;
        }
        started(self.pid).map_or(true, |started| started == Some(self.started))
    }
}

/// When a process started, in clock ticks since the machine did; `None` for one that has ended (`proc_pid_stat(5)`).
fn started(pid: u32) -> std::io::Result<Option<u64>> {
    let text = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        // Without /proc every process would seem to be gone.
        Err(error) if std::path::Path::new("/proc/self/stat").exists() => {
            let gone =
                error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32);
            return if gone { Ok(None) } else { Err(error) };
        }
        Err(error) => return Err(error),
    };
    // The name stands in parentheses and may contain any byte.
    let end = text.iter().rposition(|byte| *byte == b')').ok_or(Errno::EINVAL)?;
    let rest = String::from_utf8_lossy(&text[end + 1..]);
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next().unwrap_or("X");
    let started = fields.nth(18).and_then(|field| field.parse().ok()).ok_or(Errno::EINVAL)?;
    Ok(Some(started).filter(|_| !matches!(state, "Z" | "X")))
}

fn namespace() -> std::io::Result<String> {
    Ok(std::fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

fn boot() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(store: &Store) -> Vec<String> {
        let lock = store.hold(FlockArg::LockExclusive).expect("lock");
        let mut items: Vec<String> = store.leased(&lock, true).expect("read").into_iter().collect();
        items.sort();
        items
    }

    #[test]
    fn a_lease_counts_as_long_as_its_holder() {
        let directory = tempfile::tempdir().expect("directory");
        let store = Store::open(directory.path()).expect("store");
        let mut one = store.lease(["a".to_owned(), "b".to_owned()]).expect("lease");
        let two = store.lease(["b".to_owned()]).expect("lease");
        one.add(["c".to_owned()]).expect("more");
        assert_eq!(items(&store), ["a", "b", "c"]);
        drop(one);
        assert_eq!(items(&store), ["b"]);
        // As a process that was killed leaves it: the file without its lock.
        std::fs::write(directory.path().join("leases/1-2-3"), "dead\n").expect("write");
        assert_eq!(items(&store), ["b"]);
        assert!(!directory.path().join("leases/1-2-3").exists());
        drop(two);
        assert!(items(&store).is_empty());
    }

    #[test]
    fn a_pin_counts_as_long_as_the_process_it_is_for() {
        let directory = tempfile::tempdir().expect("directory");
        let store = Store::open(directory.path()).expect("store");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        store.pin("web-1", child.id(), ["a"]).expect("pinned");
        store.pin("web-2", child.id(), ["b"]).expect("pinned");
        store.unpin("web-2").expect("unpinned");
        store.unpin("web-2").expect("again");
        assert!(items(&store).contains(&"a".to_owned()) && !items(&store).contains(&"b".to_owned()));
        child.kill().expect("kill");
        // Ended but not waited for is ended.
        while started(child.id()).expect("readable").is_some() {
            std::thread::yield_now();
        }
        assert!(items(&store).is_empty());
        child.wait().expect("wait");
        assert_eq!(store.pin("web-3", child.id(), ["a"]).unwrap_err().kind(), ErrorKind::Os(Errno::ESRCH as i32));
        for id in ["", "a/b", "..\0", "ü"] {
            assert_eq!(store.unpin(id).unwrap_err().kind(), ErrorKind::Format, "{id:?}");
        }
    }

    #[test]
    fn a_keeper_is_dead_only_for_certain() {
        let own = || Keeper::of(std::process::id()).expect("this process");
        assert_eq!(Keeper::parse(own().render().trim_end()), Some(own()));
        assert!(own().is_alive());
        assert!(!Keeper { started: 1, ..own() }.is_alive(), "another process of the same number");
        assert!(!Keeper { boot: "x".into(), ..own() }.is_alive(), "before the machine started anew");
        assert!(Keeper { started: 1, namespace: "pid:[1]".into(), ..own() }.is_alive(), "of another namespace");
    }
}
