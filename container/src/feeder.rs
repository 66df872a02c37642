//! A thread that feeds bytes to a program's standard input, and that ends with the program.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};

/// What a pipe that is writable takes without blocking (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

/// Feeds until everything is written, the program closes its end, or this is dropped: whoever else holds the pipe then.
#[derive(Debug)]
pub(crate) struct Feeder {
    /// Closed to call the thread back.
    leash: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    pub(crate) fn start(bytes: Arc<[u8]>, pipe: PipeWriter) -> Result<Self> {
        let cannot = |error| Error::os("cannot start a thread for standard input", error);
        let (called, leash) = io::pipe().map_err(cannot)?;
        // A program that does not read all of its input is none of our business.
        let work = move || drop(feed(&bytes, pipe, &called));
        let thread =
            thread::Builder::new().name("keelbox-stdin".into()).stack_size(64 * 1024).spawn(work).map_err(cannot)?;
        Ok(Self { leash: Some(leash), thread: Some(thread) })
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        drop(self.leash.take());
        // It does not panic, and if it did, the program would have had less input.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

fn feed(mut bytes: &[u8], mut pipe: PipeWriter, called: &PipeReader) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut polled =
            [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT), PollFd::new(called.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            answer => answer?,
        };
        let [room, called] = polled.map(|polled| polled.any().unwrap_or(true));
        if called {
            return Ok(());
        }
        if room {
            let length = pipe.write(&bytes[..bytes.len().min(PIECE)])?;
            bytes = &bytes[length..];
        }
    }
    Ok(())
}
