//! Events of a group: out of memory, over a memory limit, empty, frozen. By inotify on v2, by eventfd on v1.
//!
//! Leaves out: pressure triggers. Oldest kernel: 4.5 on v2, 2.6.34 on v1.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Group;
use super::wait::value;
use crate::controller::{Controller, Version};
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};

/// Something that happened in a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The last process left (v2).
    Empty,
    /// The first process came (v2).
    Populated,
    /// All processes are frozen now (v2).
    Frozen,
    /// They run again (v2).
    Thawed,
    /// No memory could be had within the limit. The OOM killer comes next, on v1 a moment after this.
    OutOfMemory,
    /// The OOM killer killed so many processes since the last event (v2).
    OomKill(u64),
    /// Usage was about to go over `memory.max` so many times (v2).
    MemoryMax(u64),
    /// Processes were throttled for going over `memory.high` so many times (v2).
    MemoryHigh(u64),
}

/// A watch on the events of a group; made by [`Group::watch`].
///
/// [`AsFd`] lends a descriptor that polls readable when there may be an event, for any event loop.
#[derive(Debug)]
pub struct Watch {
    epoll: Epoll,
    inotify: Option<Inotify>,
    eventfd: Option<EventFd>,
    directory: Option<Directory>,
    seen: Seen,
    waiting: VecDeque<Event>,
}

/// The counters when we last looked.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    populated: u64,
    frozen: u64,
    oom: u64,
    oom_kill: u64,
    max: u64,
    high: u64,
}

impl Group {
    /// Watches the events of this group and those below it, from now on.
    ///
    /// v2 tells of everything in [`Event`] (of memory if the group has the memory controller). v1 tells of
    /// [`OutOfMemory`](Event::OutOfMemory) only, and only if the group has a memory limit.
    ///
    /// ```no_run
    /// use keelbox_cgroups::{Event, Group, Limits, MIB};
    /// let group = Group::create("job", &Limits::new().memory(64 * MIB))?;
    /// let mut watch = group.watch()?;
    /// while let Some(event) = watch.next(None)? {
    ///     if matches!(event, Event::OomKill(_) | Event::OutOfMemory) { println!("over 64 MiB"); }
    /// }
    /// # Ok::<(), keelbox_cgroups::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) on a v1 host without a memory hierarchy for the group.
    pub fn watch(&self) -> Result<Watch> {
        let fail = |errno| Error::os("cannot watch a group", errno);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fail)?;
        let unified = self.unified().map(|node| node.directory.again());
        let inotify = unified.as_ref().map(listen).transpose()?;
        let eventfd = match self.node(Version::V1, Controller::Memory) {
            Some(node) => register(&node.directory)?,
            None => None,
        };
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        if let Some(inotify) = &inotify {
            epoll.add(inotify.as_fd(), interest).map_err(fail)?;
        }
        if let Some(eventfd) = &eventfd {
            epoll.add(eventfd.as_fd(), interest).map_err(fail)?;
        }
        if inotify.is_none() && eventfd.is_none() {
            return Err(Error::unsupported(
                "cannot watch a group: on cgroup v1 only a group with a memory limit has events",
            ));
        }
        // After the watch is set, so that nothing falls between.
        let seen = unified.as_ref().map(Seen::read).unwrap_or_default();
        Ok(Watch { epoll, inotify, eventfd, directory: unified, seen, waiting: VecDeque::new() })
    }
}

/// Watches the two event files. They are named through our own descriptor, so that the path cannot come to mean another group.
fn listen(directory: &Directory) -> Result<Inotify> {
    let fail = |errno| Error::os(format!("cannot watch {}", directory.path().display()), errno);
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(fail)?;
    for file in ["cgroup.events", "memory.events"] {
        if directory.has(file) {
            let path = format!("/proc/self/fd/{}/{file}", directory.as_fd().as_raw_fd());
            inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).map_err(fail)?;
        }
    }
    Ok(inotify)
}

/// Has an eventfd signalled at each OOM: `cgroup.event_control` takes its number and that of `memory.oom_control`. `None` where the kernel has
/// dropped that interface.
fn register(directory: &Directory) -> Result<Option<EventFd>> {
    if !directory.has("cgroup.event_control") {
        return Ok(None);
    }
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let eventfd = EventFd::from_flags(flags).map_err(|errno| Error::os("cannot make an eventfd", errno))?;
    let control = directory.file("memory.oom_control", OFlag::O_RDONLY)?;
    let line = format!("{} {}", eventfd.as_fd().as_raw_fd(), control.as_raw_fd());
    match directory.write("cgroup.event_control", &line) {
        Ok(()) => Ok(Some(eventfd)),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Seen {
    fn read(directory: &Directory) -> Self {
        let events = directory.text("cgroup.events").unwrap_or_default();
        let memory = directory.text("memory.events").unwrap_or_default();
        let [populated, frozen] = ["populated", "frozen"].map(|key| value(&events, key).unwrap_or(0));
        let [oom, oom_kill, max, high] = ["oom", "oom_kill", "max", "high"].map(|key| value(&memory, key).unwrap_or(0));
        Self { populated, frozen, oom, oom_kill, max, high }
    }

    /// What happened between `self` and `later`, causes before effects.
    fn until(self, later: Self) -> impl Iterator<Item = Event> {
        let more = |new: u64, old: u64| (new > old).then(|| new - old);
        let change = |new, old, on, off| (new != old).then_some(if new == 0 { off } else { on });
        [
            more(later.high, self.high).map(Event::MemoryHigh),
            more(later.max, self.max).map(Event::MemoryMax),
            more(later.oom, self.oom).map(|_| Event::OutOfMemory),
            more(later.oom_kill, self.oom_kill).map(Event::OomKill),
            change(later.frozen, self.frozen, Event::Frozen, Event::Thawed),
            change(later.populated, self.populated, Event::Populated, Event::Empty),
        ]
        .into_iter()
        .flatten()
    }
}

impl Watch {
    /// The next event; `None` if none came within `timeout`. Without a timeout it waits for ever.
    ///
    /// # Errors
    /// If the kernel fails to wait.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.collect()?;
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = match left {
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => EpollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(EpollTimeout::MAX),
                None => EpollTimeout::NONE,
            };
            match self.epoll.wait(&mut [EpollEvent::empty()], wait) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os("cannot wait for events of a group", errno)),
            }
        }
    }

    fn collect(&mut self) -> Result<()> {
        let fail = |errno| Error::os("cannot read events of a group", errno);
        if let Some(eventfd) = &self.eventfd {
            match eventfd.read() {
                Ok(_) => self.waiting.push_back(Event::OutOfMemory),
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        let Some(inotify) = &self.inotify else {
            return Ok(());
        };
        match inotify.read_events() {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(fail(errno)),
        }
        if let Some(directory) = &self.directory {
            let now =
                if directory.has("cgroup.events") { Seen::read(directory) } else { Seen { populated: 0, ..self.seen } };
            self.waiting.extend(self.seen.until(now));
            self.seen = now;
        }
        Ok(())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_causal_order() {
        let before = Seen { populated: 1, oom_kill: 2, ..Seen::default() };
        let after = Seen { oom: 1, oom_kill: 4, max: 9, ..Seen::default() };
        let events: Vec<_> = before.until(after).collect();
        assert_eq!(events, [Event::MemoryMax(9), Event::OutOfMemory, Event::OomKill(2), Event::Empty]);
        assert_eq!(before.until(before).count(), 0);
    }
}
