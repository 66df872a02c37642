//! The commands that last as long as a program in a container, and end as it does: run, exec.
//!
//! Oldest kernel: 5.10; from 6.15 on it is also known how a program ended that somebody else has reaped.

use std::os::fd::AsFd;

use keelbox::crates::launch::sys;
use keelbox::{ExitStatus, Handle, Runtime};

use crate::arguments::{Further, New};
use crate::commands;
use crate::failure::{Failure, Outcome};
use crate::forward::Forwarded;

pub(crate) fn run(runtime: &Runtime, new: &New) -> Outcome {
    let signals = Forwarded::hold()?;
    let handle = commands::made(runtime, new)?;
    let end = lived(runtime, &handle, signals);
    // What went wrong first is told first; by force, since others of its processes may outlive the first one.
    let deleted = handle.delete_force();
    let status = end?;
    deleted?;
    Ok(status)
}

fn lived(runtime: &Runtime, handle: &Handle, signals: Forwarded) -> Outcome {
    handle.start()?;
    let target = runtime.open(handle.id())?;
    signals.pass_on(move |signal| {
        // It may have ended meanwhile.
        let _sent = target.kill(signal);
    })?;
    match handle.wait()? {
        Some(end) => Ok(status(&end)),
        None => Err(Failure::new(format!("nobody knows how the container {} ended", handle.id()))),
    }
}

pub(crate) fn exec(runtime: &Runtime, further: Further) -> Outcome {
    let Further { id, arguments, user, environment, directory } = further;
    let handle = runtime.open(id)?;
    let signals = Forwarded::hold()?;
    let mut exec = environment.iter().fold(handle.exec(arguments), |exec, (name, value)| exec.env(name, value));
    if let Some(user) = user {
        exec = exec.user(user);
    }
    if let Some(directory) = directory {
        exec = exec.current_dir(directory);
    }
    let mut process = exec.spawn()?;
    let target = process.as_fd().try_clone_to_owned();
    let target = target.map_err(|error| Failure::io("cannot duplicate a pidfd", &error))?;
    signals.pass_on(move |signal| {
        // It may have ended meanwhile.
        let _sent = sys::send_signal(target.as_fd(), signal.number());
    })?;
    Ok(status(&process.wait()?))
}

/// As shells tell it.
fn status(end: &ExitStatus) -> u8 {
    let code = end.code().or_else(|| end.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
