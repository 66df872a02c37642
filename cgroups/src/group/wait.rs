//! Waiting for what the kernel tells: `cgroup.events` on v2. v1 tells nothing, so there is a bounded retry.
//!
//! Leaves out: other events, see `watch`. Oldest kernel: 4.5.

use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Group;
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};

/// The value of `key` in a file of `key value` lines.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok())
}

/// Waits until `key` of `cgroup.events` is `wanted`; says whether it came to that before the deadline.
///
/// The kernel raises POLLPRI after each change, seen from the last read: so read first, then poll, then read again.
pub(super) fn event(directory: &Directory, key: &str, wanted: u64, deadline: Instant) -> Result<bool> {
    let fail = |source| Error::io(format!("cannot wait for {key} of {}", directory.path().display()), source);
    let mut file = match directory.file("cgroup.events", OFlag::O_RDONLY) {
        // A group that is gone is empty; the root has no events and is never waited for.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(key == "populated"),
        result => result?,
    };
    loop {
        let mut text = String::new();
        match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => {
                return Ok(key == "populated");
            }
            Err(error) => return Err(fail(error)),
        }
        if value(&text, key) == Some(wanted) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // Rounded up, so that the last fraction of a millisecond is no busy loop.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(fail(errno.into())),
        }
    }
}

/// A pause that grows from 50 µs to 10 ms.
///
/// On v1 there is no event for "empty": `notify_on_release` starts a program, host-wide and as root; inotify reports nothing for a process that
/// leaves. Between the exit of the last process and the moment rmdir(2) succeeds lie microseconds, so short pauses find it.
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Self(Duration::from_micros(50))
    }

    /// Waits a little; `false` if the deadline is over.
    pub(super) fn wait(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        thread::sleep(self.0.min(left));
        self.0 = (self.0 * 2).min(Duration::from_millis(10));
        true
    }
}

pub(super) fn empty(group: &Group, timeout: Duration) -> Result<bool> {
    let now = Instant::now();
    // A timeout beyond what the clock can name is as good as a century.
    let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(3_000_000_000));
    let mut pause = Pause::new();
    loop {
        let others = group.others()?;
        if others.is_empty() {
            return Ok(true);
        }
        let by_event = match group.unified() {
            Some(node) => node.processes()? == others,
            None => false,
        };
        // With v2 alone holding them, the kernel tells; v1 members must be looked for.
        if let (true, Some(node)) = (by_event, group.unified()) {
            if !event(&node.directory, "populated", 0, deadline)? {
                return Ok(false);
            }
        } else if !pause.wait(deadline) {
            return Ok(false);
        }
    }
}
