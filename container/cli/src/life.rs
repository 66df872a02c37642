//! The commands that do one thing to one container and end: create, start, state, pause, resume, kill, delete.
//!
//! Oldest kernel: 5.10.

use keelbox::{ErrorKind, Handle, Signal, Status};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::new::{self, New};
use crate::print;
use crate::read::{Given, text};

pub(crate) fn create(context: &Context<'_>, given: Given) -> Outcome {
    let new = New::read(given)?;
    new::made(context, &new, new::Owner::Nobody).map(|_handle| 0)
}

pub(crate) fn start(context: &Context<'_>, mut given: Given) -> Outcome {
    context.open(&given.id()?)?.start()?;
    Ok(0)
}

/// The state of the specification, and what other runtimes tell beyond it.
pub(crate) fn state(context: &Context<'_>, mut given: Given) -> Outcome {
    let handle = context.open(&given.id()?)?;
    let state = crate::list::json(&handle)?;
    print(&format!("{state:#}\n"))
}

pub(crate) fn pause(context: &Context<'_>, mut given: Given) -> Outcome {
    context.open(&given.id()?)?.pause()?;
    Ok(0)
}

pub(crate) fn resume(context: &Context<'_>, mut given: Given) -> Outcome {
    context.open(&given.id()?)?.resume()?;
    Ok(0)
}

pub(crate) fn kill(context: &Context<'_>, mut given: Given) -> Outcome {
    let id = given.id()?;
    let signal = given.words.pop().map(text).transpose()?;
    if signal.as_deref() == Some("0") {
        return asked(&context.open(&id)?, given.has("all"));
    }
    let signal: Signal = signal.map_or(Ok(Signal::TERM), |signal| signal.parse())?;
    let handle = context.open(&id)?;
    let sent = if given.has("all") { handle.kill_all(signal) } else { handle.kill(signal) };
    match sent {
        // By these words engines know that there is nothing left to kill.
        Err(error) if error.kind() == ErrorKind::State => Err(Failure::new(format!("container not running: {error}"))),
        other => other.map(|()| 0).map_err(Failure::from),
    }
}

/// Signal 0 reaches nobody, and asks whether there is somebody (kill(2)); that among all there is nobody is no failure.
fn asked(handle: &Handle, all: bool) -> Outcome {
    match handle.status() {
        status @ (Status::Creating | Status::Stopped) if !all => {
            Err(Failure::new(format!("container not running: it is {status}")))
        }
        _ => Ok(0),
    }
}

/// By force it is no failure that there is none any more, as with `rm -f`.
pub(crate) fn delete(context: &Context<'_>, mut given: Given) -> Outcome {
    let id = given.id()?;
    if !given.has("force") {
        let handle = context.open(&id)?;
        let deleted = handle.delete();
        context.warn(&handle);
        deleted?;
        return Ok(0);
    }
    let by_force = |handle: Handle| {
        let deleted = handle.delete_force();
        context.warn(&handle);
        deleted
    };
    match context.runtime.open(&id).and_then(by_force) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        other => other.map(|()| 0).map_err(Failure::from),
    }
}
