//! The further programs of containers, which this program has to reap as well: each once, by whoever comes first.
//!
//! The first process of a pid namespace does not end before every other process in it is reaped (`zap_pid_ns_processes` in the
//! kernel), and a further program is a child of this program, not of the first process. So who waits for a container reaps its
//! further programs too; their own handles find the answer here. Leaves out event loops: they see a container's end only when
//! the handles of its further programs are waited for or dropped. Oldest kernel: 5.4.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use keelbox_launch::Errno;
use keelbox_launch::sys::{self, Exit};

use crate::poll;

/// A further program of a container.
#[derive(Debug)]
pub(crate) struct Further {
    pidfd: OwnedFd,
    exit: Mutex<Option<Result<Exit, Errno>>>,
}

/// Who keeps a further program in mind.
#[derive(Debug)]
enum Known {
    /// Its handle: without one it is dead and reaped.
    ByHandle(Weak<Further>),
    /// Nobody else, since it may outlive its handle.
    Here(Arc<Further>),
}

impl Known {
    fn further(&self) -> Option<Arc<Further>> {
        match self {
            Self::ByHandle(further) => further.upgrade(),
            Self::Here(further) => Some(Arc::clone(further)),
        }
    }

    /// Whether there is still something to reap; one without a handle is reaped here if it has ended.
    fn is_left(&self) -> bool {
        match self {
            Self::ByHandle(further) => further.strong_count() > 0,
            Self::Here(further) => !further.exit.try_lock().is_ok_and(|mut exit| {
                let ended = || sys::try_wait(&further.pidfd).transpose();
                if exit.is_none() {
                    *exit = ended();
                }
                exit.is_some()
            }),
        }
    }
}

/// By the process id of the container's first process, which is nobody else's as long as somebody waits for it.
static FURTHER: LazyLock<Mutex<HashMap<u32, Vec<Known>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Further {
    /// Makes the program behind `pidfd` known as a further one of the container whose first process is `container`; it may outlive
    /// its handle if it is `detached`.
    pub(crate) fn of(container: u32, pidfd: &OwnedFd, detached: bool) -> io::Result<Arc<Self>> {
        let further = Arc::new(Self { pidfd: pidfd.try_clone()?, exit: Mutex::new(None) });
        let mut all = lock(&FURTHER);
        all.retain(|_, list| {
            list.retain(Known::is_left);
            !list.is_empty()
        });
        let known =
            if detached { Known::Here(Arc::clone(&further)) } else { Known::ByHandle(Arc::downgrade(&further)) };
        all.entry(container).or_default().push(known);
        Ok(further)
    }

    /// How it ended; waits until it has.
    pub(crate) fn reap(&self) -> Result<Exit, Errno> {
        *lock(&self.exit).get_or_insert_with(|| sys::wait(&self.pidfd))
    }
}

/// Waits until the first process of a container has ended, and reaps its further programs meanwhile; `false` if `until` comes
/// first.
pub(crate) fn wait_for(container: u32, pidfd: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<bool> {
    loop {
        let list =
            lock(&FURTHER).get(&container).map(|list| list.iter().filter_map(Known::further).collect::<Vec<_>>());
        let mut waiting = list.unwrap_or_default();
        // One whose handle is just being waited for is locked and will be reaped there.
        waiting.retain(|further| further.exit.try_lock().is_ok_and(|exit| exit.is_none()));
        let pidfds: Vec<BorrowedFd<'_>> =
            std::iter::once(pidfd).chain(waiting.iter().map(|further| further.pidfd.as_fd())).collect();
        let ready = poll::any_readable(&pidfds, until)?;
        if ready.first() == Some(&true) {
            return Ok(true);
        }
        if !ready.contains(&true) {
            return Ok(false);
        }
        for (further, _) in waiting.iter().zip(ready.iter().skip(1)).filter(|(_, ready)| **ready) {
            let _kept_for_its_handle = further.reap();
        }
    }
}
