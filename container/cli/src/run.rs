//! The command run: a container from its creation to its end.
//!
//! Oldest kernel: 5.10; from 6.15 on it is also known how a program ended that somebody else has reaped.

use keelbox::{ExitStatus, Handle};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::forward::Forwarded;
use crate::new::{self, New, Owner};
use crate::read::Given;
use crate::relay::Relay;

pub(crate) fn run(context: &Context<'_>, given: Given) -> Outcome {
    let (detach, keep) = (given.has("detach"), given.has("keep"));
    if detach && keep {
        context.log.warn("a detached container is kept anyway: --keep says nothing more");
    }
    let new = New::read(given)?;
    if detach {
        return begun(&new::made(context, &new, Owner::Nobody)?);
    }
    attended(context, keep, || new::made(context, &new, Owner::Caller), Handle::start)
}

/// A container that is read from disk, and so runs already.
pub(crate) fn anew(context: &Context<'_>, detach: bool, make: impl FnOnce() -> Result<Handle, Failure>) -> Outcome {
    if detach { make().map(|_handle| 0) } else { attended(context, false, make, |_| Ok(())) }
}

/// Waits for the end of a container, and deletes it unless it is to be kept.
pub(crate) fn attended(
    context: &Context<'_>,
    keep: bool,
    make: impl FnOnce() -> Result<Handle, Failure>,
    start: impl FnOnce(&Handle) -> keelbox::Result<()>,
) -> Outcome {
    let signals = Forwarded::hold()?;
    let handle = make()?;
    let end = lived(context, &handle, signals, start);
    if keep && end.is_ok() {
        return end;
    }
    // What went wrong first is told first; by force, since others of its processes may outlive the first one.
    let deleted = handle.delete_force();
    context.warn(&handle);
    let status = end?;
    deleted?;
    Ok(status)
}

/// Lets the program of a container run that goes on without this one. If it cannot, none is left.
pub(crate) fn begun(handle: &Handle) -> Outcome {
    if let Err(error) = handle.start() {
        let _deleted = handle.delete_force();
        return Err(error.into());
    }
    Ok(0)
}

/// From its start, whatever that is, to its end.
fn lived(
    context: &Context<'_>,
    handle: &Handle,
    signals: Forwarded,
    start: impl FnOnce(&Handle) -> keelbox::Result<()>,
) -> Outcome {
    let terminal = handle.terminal();
    let relay = terminal.as_ref().map(Relay::begin).transpose()?;
    start(handle)?;
    let target = context.runtime.open(handle.id())?;
    signals.pass_on(terminal, move |signal| {
        // It may have ended meanwhile.
        let _sent = target.kill(signal);
    })?;
    let end = handle.wait()?;
    if let Some(relay) = relay {
        relay.end();
    }
    match end {
        Some(end) => Ok(status(&end)),
        None => Err(Failure::new(format!("nobody knows how the container {} ended", handle.id()))),
    }
}

/// As shells tell it.
pub(crate) fn status(end: &ExitStatus) -> u8 {
    let code = end.code().or_else(|| end.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
