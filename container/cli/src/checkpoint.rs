//! The commands checkpoint and restore: a container written to disk, and read from there.
//!
//! Oldest kernel: 5.10.

use std::path::{Path, PathBuf};

use keelbox::{Checkpoint, Restore};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::new::{self, New};
use crate::read::Given;
use crate::run;

/// Where images are if nobody says, as with runc.
const IMAGES: &str = "checkpoint";

/// What both say alike.
macro_rules! settings {
    ($how:ident, $given:ident) => {{
        crate::checkpoint::groups(&$given)?;
        let mut how = $how;
        if let Some(work) = $given.path("work-path") {
            how = how.work(work);
        }
        if let Some(program) = crate::checkpoint::program() {
            how = how.program(program);
        }
        how = if $given.has("tcp-established") { how.tcp_established() } else { how };
        how = if $given.has("tcp-skip-in-flight") { how.skip_in_flight() } else { how };
        how = if $given.has("ext-unix-sk") { how.external_unix_sockets() } else { how };
        how = if $given.has("shell-job") { how.shell_job() } else { how };
        how = if $given.has("file-locks") { how.file_locks() } else { how };
        how = if $given.has("link-remap") { how.link_remap() } else { how };
        if crate::checkpoint::empty_network(&$given)? { how.empty_network() } else { how }
    }};
}

pub(crate) fn checkpoint(context: &Context<'_>, mut given: Given) -> Outcome {
    let handle = context.open(&given.id()?)?;
    let mut how = Checkpoint::new(given.path("image-path").unwrap_or_else(|| IMAGES.into()));
    how = settings!(how, given);
    if let Some(parent) = given.path("parent-path") {
        if parent.is_absolute() {
            return Err(Failure::new("cannot honour --parent-path: it is to be relative to --image-path"));
        }
        how = how.parent(parent);
    }
    let (goes_on, memory_alone) = (given.has("leave-running"), given.has("pre-dump"));
    how = if goes_on { how.leave_running() } else { how };
    how = if memory_alone { how.memory_alone() } else { how };
    context.log.debug(|| format!("writing container {} to disk", handle.id()));
    handle.checkpoint(&how)?;
    if !goes_on && !memory_alone {
        // As runc does: what is on disk is no container of this machine any more.
        let deleted = handle.delete_force();
        context.warn(&handle);
        deleted?;
    }
    Ok(0)
}

pub(crate) fn restore(context: &Context<'_>, given: Given) -> Outcome {
    let mut how = Restore::new(given.path("image-path").unwrap_or_else(|| IMAGES.into()));
    how = settings!(how, given);
    if let Some(profile) = given.text("lsm-profile")? {
        how = how.security_profile(&profile);
    }
    let detach = given.has("detach");
    let new = New::read(given)?;
    run::anew(context, detach, || new::restored(context, &new, &how))
}

/// Groups are always made anew from the configuration, which is what these two leave to the runtime.
pub(crate) fn groups(given: &Given) -> Result<(), Failure> {
    match given.text("manage-cgroups-mode")?.as_deref() {
        None | Some("soft" | "ignore") => Ok(()),
        Some(other) => Err(Failure::new(format!(
            "cannot honour --manage-cgroups-mode={other}: control groups are made anew by the configuration, not written to disk"
        ))),
    }
}

/// The network is the only namespace that others can see to.
pub(crate) fn empty_network(given: &Given) -> Result<bool, Failure> {
    match given.text("empty-ns")?.as_deref() {
        None => Ok(false),
        Some("network") => Ok(true),
        Some(other) => Err(Failure::new(format!("cannot honour --empty-ns: it can be network, not {other:?}"))),
    }
}

/// The program, looked for where the shell would: the library does not read the environment.
pub(crate) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|place| place.is_absolute())
        .map(|place| place.join("criu"))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
