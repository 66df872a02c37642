//! The `keelbox` program: OCI bundles planned, run and managed from a shell, by the public API of the library alone.
//!
//! Leaves out, with a message that says so, what is not there yet: see `form.rs` and `support.rs`. Oldest kernel: 5.10.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod failure;
mod form;
mod forward;
mod help;
mod list;
mod run;
mod support;

use std::io::{self, Write};
use std::process::ExitCode;

use arguments::{Command, Invocation};
use failure::{Failure, Outcome};

fn main() -> ExitCode {
    let done = arguments::parse(std::env::args_os().skip(1)).and_then(perform);
    match done {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            // There is nowhere to say that this cannot be said.
            let _said = writeln!(io::stderr().lock(), "keelbox: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

/// Does what was asked for, and tells the exit status.
fn perform(Invocation { runtime, command }: Invocation) -> Outcome {
    match command {
        Command::Help => print(help::TEXT),
        Command::Version => print(concat!("keelbox ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Plan { bundle, explain } => commands::plan(&bundle, explain),
        Command::Run(new) => run::run(&runtime, &new),
        Command::Create(new) => commands::create(&runtime, &new),
        Command::Start { id } => commands::start(&runtime, &id),
        Command::State { id } => commands::state(&runtime, &id),
        Command::Kill { id, signal, all } => commands::kill(&runtime, &id, signal, all),
        Command::Delete { id, force } => commands::delete(&runtime, &id, force),
        Command::List { format } => list::list(&runtime, format),
        Command::Exec(further) => run::exec(&runtime, further),
    }
}

/// Writes to standard output; that it is closed is a failure like any other.
fn print(text: &str) -> Outcome {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| Failure::io("cannot write to standard output", &error))?;
    Ok(0)
}
