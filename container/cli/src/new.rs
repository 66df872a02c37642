//! Containers made as the options of create and run say, up to their start.
//!
//! Oldest kernel: 5.10.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use keelbox::{Container, Handle};

use crate::context::{Context, Manager};
use crate::failure::Failure;
use crate::read::Given;

/// A container to be made.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) id: String,
    bundle: PathBuf,
    pid_file: Option<PathBuf>,
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
        let preserved = given.number::<u32>("preserve-fds")?.is_some_and(|count| count > 0);
        let asked = [
            (given.value("console-socket").is_some(), "console-socket"),
            (given.value("pidfd-socket").is_some(), "pidfd-socket"),
            (preserved, "preserve-fds"),
            (given.has("no-new-keyring"), "no-new-keyring"),
        ];
        not_yet(&asked)?;
        let bundle = given.path("bundle").unwrap_or_else(|| ".".into());
        Ok(Self { id: given.id()?, bundle, pid_file: given.path("pid-file") })
    }
}

/// Refuses what is asked for and not there yet.
pub(crate) fn not_yet(asked: &[(bool, &str)]) -> Result<(), Failure> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, name)) => Err(Failure::new(format!("the option \"--{name}\" is not supported yet"))),
        None => Ok(()),
    }
}

/// A container up to its start. None is left if its process id cannot be told.
pub(crate) fn made(context: &Context<'_>, new: &New, owner: Owner) -> Result<Handle, Failure> {
    if context.manager != Manager::Cgroupfs {
        return Err(Failure::new("cannot honour --cgroup-manager: it is not supported yet"));
    }
    let built = Container::from_bundle(&new.bundle)?.build()?;
    let wants_terminal = built.oci().process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false));
    if wants_terminal && owner == Owner::Nobody {
        return Err(Failure::new("cannot honour process.terminal: nobody would hold it; give --console-socket"));
    }
    context.log.debug(|| format!("creating container {} of bundle {}", new.id, new.bundle.display()));
    let handle = context.runtime.create(&built, &new.id)?;
    if let Err(failure) = told(new, &handle) {
        let _deleted = handle.delete_force();
        return Err(failure);
    }
    Ok(handle)
}

fn told(new: &New, handle: &Handle) -> Result<(), Failure> {
    let Some(file) = &new.pid_file else { return Ok(()) };
    let pid = handle.pid().ok_or_else(|| Failure::new(format!("the container {} has ended already", handle.id())))?;
    write_pid(file, pid)
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
