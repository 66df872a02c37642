//! The thread that answers. Leaves out what is answered. Oldest kernel: 5.9.

use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use keelbox_launch::Errno;
use keelbox_launch::sys::notify::{Listener, Notification, Response};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::answer::refusal;
use super::supervision::Decisions;
use super::{Answer, Call, Supervision};
use crate::error::{Error, Result};

/// Answers the calls of one container, one after the other, on a thread of its own.
///
/// It ends with the last process that uses the filter. Dropping it ends it earlier: a decision that is being made is
/// waited for, and calls that wait, as well as all later ones, fail with `ENOSYS`.
#[derive(Debug)]
pub(crate) struct Supervisor {
    wake: PipeWriter,
    /// Kept here too, so that waking a thread that has ended is no write to a broken pipe, for which there is a signal.
    _woken: Arc<PipeReader>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts to answer on `listener`. To be done before the launch is waited for: the execution of the program, too, can
    /// be a call that waits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) as [`Supervision::check`];
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the kernel has no user notification, or another one
    /// than this crate knows; whatever forbids a thread or a pipe.
    pub(crate) fn start(listener: OwnedFd, supervision: &Supervision) -> Result<Self> {
        supervision.check()?;
        let attempt = "cannot receive system calls to decide about";
        let listener = Listener::new(listener).map_err(|errno| Error::os(attempt, errno))?;
        let (woken, wake) = std::io::pipe().map_err(|error| Error::os("cannot make a pipe", error))?;
        let woken = Arc::new(woken);
        let work = Work { listener, decisions: supervision.decisions(), woken: Arc::clone(&woken) };
        let thread = thread::Builder::new().name("keelbox-notify".into()).spawn(move || work.run());
        let thread =
            thread.map_err(|error| Error::os("cannot start a thread that decides about system calls", error))?;
        Ok(Self { wake, _woken: woken, thread: Some(thread) })
    }

    /// Whether the thread has ended.
    #[cfg(test)]
    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // A byte, as closing would not do: a process that this program has forked may hold the pipe open.
        let _woken = self.wake.write(&[0]);
        // Dropped by a decision, this is the thread itself, which ends after its answer.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            let _ended = thread.join();
        }
    }
}

/// What the thread has. Dropping it closes the listener.
pub(super) struct Work {
    pub(super) listener: Listener,
    pub(super) decisions: Decisions,
    pub(super) woken: Arc<PipeReader>,
}

impl Work {
    fn run(self) {
        while self.is_wanted() {
            match self.listener.receive() {
                Ok(notification) => self.answer(&notification),
                // Killed, or interrupted by a signal, in the meantime.
                Err(Errno::ENOENT | Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for a call; `false` if there will be none, or nobody wants it answered.
    fn is_wanted(&self) -> bool {
        let (listener, woken) = (self.listener.as_fd(), self.woken.as_fd());
        let mut polled = [listener, woken].map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        loop {
            match poll(&mut polled, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return false,
                Ok(_) => {}
            }
            let [calls, wake] = polled.map(|polled| polled.revents().unwrap_or(PollFlags::POLLERR));
            // Without a call the listener is hung up: to receive from it would block for ever before Linux 6.11.
            return wake.is_empty() && calls.contains(PollFlags::POLLIN);
        }
    }

    fn answer(&self, notification: &Notification) {
        let call = (notification.architecture, notification.number);
        let answer = match self.decisions.get(&call) {
            Some((name, decide)) => {
                let call = Call { name, notification, listener: &self.listener };
                // What a decision leaves broken behind a panic is its own; nothing of ours is shared with it.
                catch_unwind(AssertUnwindSafe(|| decide(&call))).unwrap_or_else(|payload| {
                    // Its destructor might panic as well.
                    std::mem::forget(payload);
                    Answer::Errno(Errno::EPERM.0)
                })
            }
            // The filter is somebody else's, and has this one notified too. As without anybody who listens.
            None => Answer::Errno(Errno::ENOSYS.0),
        };
        self.give(notification.id, answer);
    }

    fn give(&self, id: u64, answer: Answer) {
        match answer {
            Answer::Continue => self.respond(id, Response::Continue),
            Answer::Errno(error) => self.respond(id, refusal(error)),
            Answer::Value(value) => self.respond(id, Response::Value(value)),
            Answer::Descriptor(descriptor, on_exec) => {
                let (descriptor, flags) = (descriptor.as_fd(), on_exec.flags());
                let sent = self.listener.answer_with_descriptor(id, descriptor, flags);
                self.settle(id, descriptor, flags, sent);
            }
        }
    }

    /// Finishes an answer with a descriptor, given how the attempt to do it in one step went.
    pub(super) fn settle(&self, id: u64, descriptor: BorrowedFd<'_>, flags: i32, sent: Result<i32, Errno>) {
        let added = match sent {
            Ok(_) => return,
            // Before Linux 5.14: in two steps.
            Err(Errno::EINVAL) => self.listener.add_descriptor(id, descriptor, flags),
            Err(errno) => Err(errno),
        };
        let response = added.map_or_else(Response::Error, |number| Response::Value(i64::from(number)));
        self.respond(id, response);
    }

    fn respond(&self, id: u64, response: Response) {
        // A caller that has been killed needs no answer, and nobody else can get it: ids are not given twice.
        let _answered = self.listener.respond(id, response);
    }
}
