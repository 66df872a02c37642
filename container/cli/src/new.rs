//! Containers made as the options of create and run say, up to their start.
//!
//! Oldest kernel: 5.10.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use keelbox::{Built, Container, Handle, Restore};

use crate::context::Context;
use crate::failure::Failure;
use crate::passed::Passed;
use crate::read::Given;

/// A container to be made.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) id: String,
    bundle: PathBuf,
    config: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    passed: Passed,
    keyring: Keyring,
}

/// Which session keyring the programs have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keyring {
    New,
    Callers,
}

/// Who holds the host's side of a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// Nobody after this program, so that it has to be handed over.
    Nobody,
    /// This program.
    Caller,
}

impl New {
    pub(crate) fn read(mut given: Given) -> Result<Self, Failure> {
        let bundle = given.path("bundle").unwrap_or_else(|| ".".into());
        let keyring = if given.has("no-new-keyring") { Keyring::Callers } else { Keyring::New };
        Ok(Self {
            id: given.id()?,
            bundle,
            config: given.path("config"),
            pid_file: given.path("pid-file"),
            console_socket: given.path("console-socket"),
            pidfd_socket: given.path("pidfd-socket"),
            passed: given.passed()?,
            keyring,
        })
    }
}

/// A container up to its start. None is left if its process id cannot be told.
pub(crate) fn made(context: &Context<'_>, new: &New, owner: Owner) -> Result<Handle, Failure> {
    let built = built(context, new)?;
    let process = built.oci().process().as_ref();
    let wants_terminal = process.is_some_and(|process| process.terminal().unwrap_or(false));
    match (wants_terminal, &new.console_socket) {
        (true, None) if owner == Owner::Nobody => {
            return Err(Failure::new("cannot honour process.terminal: nobody would hold it; give --console-socket"));
        }
        (false, Some(_)) => {
            return Err(Failure::new(
                "cannot honour --console-socket: the bundle asks for no terminal (process.terminal)",
            ));
        }
        _ => {}
    }
    context.log.debug(|| format!("creating container {} of bundle {}", new.id, new.bundle.display()));
    told(new, context.runtime.create(&built, &new.id)?)
}

/// A container read from disk, which runs. None is left if its process id cannot be told.
pub(crate) fn restored(context: &Context<'_>, new: &New, how: &Restore) -> Result<Handle, Failure> {
    told(new, context.runtime.restore(&built(context, new)?, &new.id, how)?)
}

fn built(context: &Context<'_>, new: &New) -> Result<Built, Failure> {
    context.can_group()?;
    let mut container = match &new.config {
        None => Container::from_bundle(&new.bundle)?,
        Some(file) => Container::from_bundle_file(&new.bundle, file)?,
    };
    container = context.grouped(container).home_from_passwd();
    if let Some(socket) = &new.console_socket {
        container = container.console_socket(socket);
    }
    if let Some(socket) = &new.pidfd_socket {
        container = container.pidfd_socket(socket);
    }
    if new.keyring == Keyring::Callers {
        container = container.no_new_keyring();
    }
    for (name, value) in new.passed.variables() {
        container = container.env(name, value);
    }
    for descriptor in new.passed.descriptors() {
        container = container.descriptor(descriptor);
    }
    Ok(container.build()?)
}

/// The container, whose process id is written down if that is wanted; none is left if it cannot be.
fn told(new: &New, handle: Handle) -> Result<Handle, Failure> {
    let Some(file) = &new.pid_file else { return Ok(handle) };
    let pid = handle.pid().ok_or_else(|| Failure::new(format!("the container {} has ended already", handle.id())));
    if let Err(failure) = pid.and_then(|pid| write_pid(file, pid)) {
        let _deleted = handle.delete_force();
        return Err(failure);
    }
    Ok(handle)
}

/// Whoever waits for the file finds the whole number in it: it gets its name when it is complete.
pub(crate) fn write_pid(file: &Path, pid: u32) -> Result<(), Failure> {
    let attempt = format!("cannot write the process id to {}", file.display());
    let name = file.file_name().ok_or_else(|| Failure::new(format!("{attempt}: that is no name of a file")))?;
    let mut unfinished = OsString::from(".");
    unfinished.push(name);
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished: PathBuf = file.with_file_name(unfinished);
    let written = fs::write(&unfinished, pid.to_string()).and_then(|()| fs::rename(&unfinished, file));
    written.map_err(|error| {
        let _removed = fs::remove_file(&unfinished);
        Failure::io(&attempt, &error)
    })
}
