//! The `keelbox` program: an OCI runtime, by the public API of the library alone.
//!
//! Leaves out, with a message that says so, what is not there yet: see `table.rs`. Oldest kernel: 5.10.
#![forbid(unsafe_code)]

mod checkpoint;
mod completions;
mod context;
mod events;
mod exec;
mod failure;
mod features;
mod forward;
mod grammar;
mod help;
#[cfg(feature = "images")]
mod image;
mod life;
mod list;
mod log;
mod manual;
mod new;
mod passed;
mod plan;
mod ps;
mod read;
mod relay;
mod run;
mod spec;
mod stats;
mod table;
mod time;
#[cfg(feature = "images")]
mod up;
mod update;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use context::Context;
use failure::{Failure, Outcome};
use log::Log;
use read::Line;

fn main() -> ExitCode {
    let mut log = Log::default();
    let done = perform(std::env::args_os().skip(1), &mut log);
    match done {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            log.fail(&failure.to_string());
            ExitCode::from(failure.status())
        }
    }
}

/// Does what was asked for, and tells the exit status.
fn perform(arguments: impl IntoIterator<Item = OsString>, log: &mut Log) -> Outcome {
    match read::line(arguments)? {
        Line::Help(command) => {
            print(&help::text(command))?;
            Ok(0)
        }
        Line::Version => print(&help::version_text()),
        Line::Command { global, command, mut given } => {
            given.hold(command);
            *log = context::log(&global)?;
            (command.perform)(&Context::of(&global, log)?, given)
        }
    }
}

/// Writes to standard output; that it is closed is a failure like any other.
fn print(text: &str) -> Outcome {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| Failure::io("cannot write to standard output", &error))?;
    Ok(0)
}
