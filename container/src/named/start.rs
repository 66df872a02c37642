//! Starts the program of a created container: one message over one connection.
//!
//! Leaves out hooks. Oldest kernel: 5.10.

use std::time::{Duration, Instant};

use keelbox_launch::{Control, Event};
use keelbox_runtime_spec::Status;
use nix::errno::Errno;

use super::barrier;
use super::handle::Handle;
use crate::error::{Error, ErrorKind, Result};

/// How long the program may take to be executed, from a slow file system say.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the program of a created container run.
pub(crate) fn start(handle: &Handle) -> Result<()> {
    let place = handle.place();
    let attempt = format!("cannot start container {}", place.id());
    let _lock = place.lock(&attempt)?;
    let (mut record, status) = handle.look(&attempt)?;
    let barrier = match (status, record.barrier.clone()) {
        (Status::Created, Some(barrier)) => barrier,
        _ => return Err(Error::new(ErrorKind::State, format!("{attempt}: it is {status}, not created"))),
    };
    let connection = barrier::connect(place).map_err(|errno| match errno {
        // It ended between our look and this.
        Errno::ECONNREFUSED | Errno::ENOENT => Error::new(ErrorKind::State, format!("{attempt}: it has ended")),
        errno => Error::os(attempt.clone(), errno),
    })?;
    let mut control = Control::over(connection, barrier.steps, barrier.slots);
    let lost = |error: std::io::Error| match error.raw_os_error() {
        Some(32 | 104) => Error::new(ErrorKind::State, format!("{attempt}: it has ended")),
        _ => Error::os(attempt.clone(), error),
    };
    control.proceed(&[], &[], barrier.reserve).map_err(lost)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match control.event(Some(left)).map_err(lost)? {
            Event::Running => break,
            Event::Failed(failure) => return Err(barrier.sentence(failure)),
            _ => {}
        }
    }
    record.mark_started();
    place.write(&record)
}
