//! What a program wrote and how it ended.

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::changes::Changes;
use crate::error::{Error, ErrorKind, Result};
use crate::exit::ExitStatus;
use crate::poll;
use crate::process::Process;

/// How long after a container was killed its pipes may stay open: a process that was passed them and lives elsewhere.
const AFTERMATH: Duration = Duration::from_millis(200);

/// What a program wrote and how it ended: [`std::process::Output`], with the files it changed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    pub(crate) changes: Option<Changes>,
}

impl Output {
    /// The files that the program left, if the container was told to [keep them](crate::Container::keep_changes).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if it was not.
    pub fn changes(&self) -> Result<&Changes> {
        let lost =
            || Error::new(ErrorKind::State, "the changes are gone: the container was not told to keep_changes()");
        self.changes.as_ref().ok_or_else(lost)
    }
}

struct Stream {
    pipe: Option<File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(pipe: Option<PipeReader>) -> Self {
        Self { pipe: pipe.map(|pipe| File::from(OwnedFd::from(pipe))), bytes: Vec::new() }
    }

    /// Reads what is there; forgets the pipe at its end.
    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut buffer = [0u8; 65536];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Reads both outputs until they are closed, and waits for the end. A time limit ends both, whoever holds the pipes.
pub(crate) fn collect(process: &mut Process) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    drop(process.stdin.take());
    let mut streams = [Stream::new(process.stdout.take()), Stream::new(process.stderr.take())];
    let read = drain(&mut streams, process.life.deadline());
    let complete = read.map_err(|error| Error::os("cannot read the program's output", error))?;
    let status = process.wait()?;
    if !complete {
        let _whatever_came = drain(&mut streams, Some(Instant::now() + AFTERMATH));
    }
    let [stdout, stderr] = streams.map(|stream| stream.bytes);
    Ok((status, stdout, stderr))
}

/// Reads until both pipes are at their end; `false` if `until` comes first.
fn drain(streams: &mut [Stream; 2], until: Option<Instant>) -> io::Result<bool> {
    loop {
        let open: Vec<usize> = (0..2).filter(|index| streams[*index].pipe.is_some()).collect();
        if open.is_empty() {
            return Ok(true);
        }
        let ready = {
            let pipes: Vec<BorrowedFd<'_>> =
                streams.iter().filter_map(|stream| stream.pipe.as_ref()).map(AsFd::as_fd).collect();
            poll::any_readable(&pipes, until)?
        };
        if !ready.contains(&true) {
            return Ok(false);
        }
        for (index, _) in open.iter().zip(&ready).filter(|(_, ready)| **ready) {
            streams[*index].read()?;
        }
    }
}

/// Standard output and error as text, for messages.
impl Output {
    /// Standard output as text, with what is not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }
}
