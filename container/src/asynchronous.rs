//! Waiting in a program that runs on tokio: the pidfd and the time limit as things that its event loop watches.
//!
//! Leaves out streams and everything else that blocks for moments only. Needs the crate's feature `tokio`; oldest kernel: 5.10.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};
use crate::exit::ExitStatus;
use crate::process::Process;

impl Process {
    /// As [`wait`](Self::wait), without blocking the thread. Honours the time limit. Closes standard input first.
    ///
    /// It may be dropped before it is ready, as `select!` does; nothing is lost, and the container goes on.
    ///
    /// ```no_run
    /// # async fn shutdown() {}
    /// # async fn example(image: &keelbox::Image) -> Result<(), keelbox::Error> {
    /// use keelbox::Container;
    /// let mut p = Container::from_image(image).args(["sleep", "1"]).spawn()?;
    /// tokio::select! {
    ///     end = p.wait_async() => println!("{:?}", end?),
    ///     _ = shutdown() => p.kill()?,
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, or in one without I/O (`enable_io`), as everything of tokio does.
    pub async fn wait_async(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            // Reaps the process if it has ended, and ends it if its time is over.
            if let Some(status) = self.wait_until(Some(Instant::now()))? {
                return Ok(status);
            }
            let ended = watched(self.life.pidfd.as_fd().try_clone_to_owned())?;
            let over = self.life.deadline().map(|deadline| watched(alarm(deadline))).transpose()?;
            poll_fn(|context| {
                let over = over.as_ref().map_or(Poll::Pending, |over| ready(over, context));
                // Both are asked, so that both wake the task.
                match (ready(&ended, context), over) {
                    (Poll::Pending, over) => over,
                    (ended, _) => ended,
                }
            })
            .await?;
        }
    }
}

fn ready(descriptor: &AsyncFd<OwnedFd>, context: &mut Context<'_>) -> Poll<Result<()>> {
    descriptor.poll_read_ready(context).map(|ready| ready.map(|_| ()).map_err(cannot_wait))
}

/// Puts a descriptor under the eyes of the event loop.
///
/// The function is deprecated for types that could give another descriptor each time; what it became is `unsafe`, and its
/// condition is what [`OwnedFd`] promises.
#[allow(deprecated, reason = "see above; earlier versions of tokio have no other")]
fn watched(descriptor: io::Result<OwnedFd>) -> Result<AsyncFd<OwnedFd>> {
    descriptor.and_then(|descriptor| AsyncFd::with_interest(descriptor, Interest::READABLE)).map_err(cannot_wait)
}

/// A descriptor that is readable from `deadline` on (`timerfd_create(2)`): tokio's own timers are a part that a program may lack.
fn alarm(deadline: Instant) -> io::Result<OwnedFd> {
    // Nothing at all would mean never.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    timer.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())?;
    Ok(timer.into())
}

fn cannot_wait(error: io::Error) -> Error {
    Error::os("cannot wait for the container", error)
}
