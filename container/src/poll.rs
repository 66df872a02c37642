//! Waiting for descriptors until a moment in time.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until `descriptor` is readable; `false` if `until` comes first.
pub(crate) fn readable(descriptor: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<bool> {
    any_readable(&[descriptor], until).map(|ready| ready.first() == Some(&true))
}

/// Waits until one of `descriptors` is readable or closed; says which. None is if `until` comes first.
pub(crate) fn any_readable(descriptors: &[BorrowedFd<'_>], until: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN)).collect();
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up to a millisecond, lest the end of the wait be a busy loop; a month at most.
        let milliseconds = left.map(|left| left.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32);
        let timeout =
            milliseconds.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut polled, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(polled.iter().map(|polled| polled.any().unwrap_or(true)).collect()),
        }
    }
}
