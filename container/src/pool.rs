//! Containers that wait at the barrier, made by a thread of their own while other runs go on.
//!
//! All that a run still needs is a message with its streams and its program: microseconds instead of the price of namespaces and
//! mounts. What waits ends with this program, or with the pool.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use keelbox_launch::{OwnedStep, Started};

use crate::control_group::ControlGroup;
use crate::error::Result;
use crate::talk::{Received, abandon};

/// A container that waits for its start.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) started: Option<Started>,
    pub(crate) group: Option<ControlGroup>,
    pub(crate) received: Received,
    /// The steps that it has performed.
    pub(crate) steps: Arc<[OwnedStep]>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            abandon(&started, &self.received);
            let _ended = self.group.take().map(ControlGroup::end);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Waiting>,
    stopped: bool,
    /// Nothing can be made any more; runs are on their own.
    failed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes containers until the pool is full, and again whenever one was taken.
    fn fill(&self, depth: usize, make: &(dyn Fn() -> Result<Waiting> + Send)) {
        loop {
            let mut state = self.lock();
            while !state.stopped && state.ready.len() >= depth {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped {
                return;
            }
            drop(state);
            let made = make();
            let mut state = self.lock();
            match made {
                Ok(waiting) => state.ready.push_back(waiting),
                Err(_) => {
                    // The next run meets the same error and tells it.
                    state.failed = true;
                    return;
                }
            }
        }
    }
}

/// A few containers that wait for their start.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// Starts the thread that fills the pool by calling `make`.
    pub(crate) fn start(make: impl Fn() -> Result<Waiting> + Send + 'static) -> std::io::Result<Self> {
        let depth = thread::available_parallelism().map_or(1, |cores| cores.get().clamp(1, 4));
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let work = move || theirs.fill(depth, &make);
        let thread = thread::Builder::new().name("keelbox-pool".into()).stack_size(256 * 1024).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A container that waits for its start, if one is ready.
    pub(crate) fn take(&self) -> Option<Waiting> {
        let taken = self.shared.lock().ready.pop_front();
        self.shared.changed.notify_all();
        taken
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
        let ready = std::mem::take(&mut self.shared.lock().ready);
        drop(ready);
    }
}
