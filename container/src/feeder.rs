//! A thread that feeds bytes to a program's standard input.

use std::io::{PipeWriter, Write};
use std::sync::Arc;
use std::thread;

use crate::error::{Error, Result};

/// Feeds until everything is written or the program closes its end. Not waited for: it ends with the pipe.
#[derive(Debug)]
pub(crate) struct Feeder;

impl Feeder {
    pub(crate) fn start(bytes: Arc<[u8]>, mut pipe: PipeWriter) -> Result<Self> {
        let work = move || {
            // A program that does not read all of its input is none of our business.
            let _fed = pipe.write_all(&bytes);
        };
        let thread = thread::Builder::new().name("keelbox-stdin".into()).stack_size(64 * 1024).spawn(work);
        thread.map(|_| Self).map_err(|error| Error::os("cannot start a thread for standard input", error))
    }
}
