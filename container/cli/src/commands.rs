//! The commands that do one thing and end: plan, create, start, state, kill, delete.
//!
//! Oldest kernel: 5.10.

use std::fs;
use std::path::{Path, PathBuf};

use keelbox::{ErrorKind, Handle, Runtime, Signal};

use crate::arguments::New;
use crate::failure::{Failure, Outcome};
use crate::{print, support};

pub(crate) fn plan(bundle: &Path, explain: bool) -> Outcome {
    let plan = support::open(bundle)?.plan()?;
    print(&if explain { plan.explain() } else { plan.to_string() })
}

pub(crate) fn create(runtime: &Runtime, new: &New) -> Outcome {
    made(runtime, new).map(|_handle| 0)
}

/// A container up to its start. None is left if its process id cannot be told.
pub(crate) fn made(runtime: &Runtime, new: &New) -> Result<Handle, Failure> {
    let handle = runtime.create(&support::open(&new.bundle)?, &new.id)?;
    if let Some(file) = &new.pid_file
        && let Err(failure) = write_pid(file, &handle)
    {
        let _deleted = handle.delete_force();
        return Err(failure);
    }
    Ok(handle)
}

/// Whoever waits for the file finds the whole number in it: it gets its name when it is complete.
fn write_pid(file: &Path, handle: &Handle) -> Result<(), Failure> {
    let pid = handle.pid().ok_or_else(|| Failure::new(format!("the container {} has ended already", handle.id())))?;
    let attempt = format!("cannot write the process id to {}", file.display());
    let name = file.file_name().ok_or_else(|| Failure::new(format!("{attempt}: that is no name of a file")))?;
    let mut unfinished = std::ffi::OsString::from(".");
    unfinished.push(name);
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished: PathBuf = file.with_file_name(unfinished);
    let written = fs::write(&unfinished, pid.to_string()).and_then(|()| fs::rename(&unfinished, file));
    written.map_err(|error| {
        let _removed = fs::remove_file(&unfinished);
        Failure::io(&attempt, &error)
    })
}

pub(crate) fn start(runtime: &Runtime, id: &str) -> Outcome {
    runtime.open(id)?.start()?;
    Ok(0)
}

pub(crate) fn state(runtime: &Runtime, id: &str) -> Outcome {
    let state = runtime.open(id)?.state()?;
    let json = state.to_json().map_err(|error| Failure::new(error.to_string()))?;
    print(&format!("{}\n", json.trim_end()))
}

pub(crate) fn kill(runtime: &Runtime, id: &str, signal: Signal, all: bool) -> Outcome {
    let handle = runtime.open(id)?;
    if all {
        handle.kill_all(signal)?
    } else {
        handle.kill(signal)?
    }
    Ok(0)
}

/// By force it is no failure that there is none any more, as with `rm -f`.
pub(crate) fn delete(runtime: &Runtime, id: &str, force: bool) -> Outcome {
    let deleted = match force {
        false => runtime.open(id).and_then(|handle| handle.delete()),
        true => runtime.open(id).and_then(|handle| handle.delete_force()),
    };
    match deleted {
        Err(error) if force && error.kind() == ErrorKind::NotFound => Ok(0),
        other => other.map(|()| 0).map_err(Failure::from),
    }
}
