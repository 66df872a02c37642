//! Who the program runs as: names looked up in the container's own files, ids taken as they are.

use std::path::Path;

use keelbox_image_spec::{Unpacked, User};
use keelbox_mounts::Root;
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};
use crate::plan::set_variable;
use crate::spec::RootSource;

/// The most of `/etc/passwd` or `/etc/group` that is read, in bytes.
const MOST: u64 = 8 << 20;

/// Looks `user` up in the image's layers or the root directory and sets the ids (and `HOME`, unless it is set) of `process`.
pub(crate) fn resolve(
    user: &str,
    root: &RootSource,
    image: Option<&Unpacked>,
    process: &mut oci::Process,
) -> Result<()> {
    let read = |file: &str| match (root, image) {
        (_, Some(image)) => read_layers(image, file),
        (RootSource::Directory(directory), None) => read_in(directory, file),
        _ => Ok(Vec::new()),
    };
    apply(user, &read("/etc/passwd")?, &read("/etc/group")?, process)
}

/// As [`resolve`], in the directory that is the root of `process`. With `moves`, the home that it has from its user goes first, so that the
/// other one gets his own.
pub(crate) fn resolve_in(directory: &Path, user: &str, moves: bool, process: &mut oci::Process) -> Result<()> {
    let passwd = read_in(directory, "/etc/passwd")?;
    if moves {
        let own = format!("HOME={}", home_in(&passwd, process));
        if let Some(environment) = process.env_mut() {
            environment.retain(|variable| *variable != own);
        }
    }
    apply(user, &passwd, &read_in(directory, "/etc/group")?, process)
}

fn apply(text: &str, passwd: &[u8], group: &[u8], process: &mut oci::Process) -> Result<()> {
    let unknown = |error| {
        Error::from_part(ErrorKind::UnknownUser, format!("cannot find the user {text:?} in the container"), error)
    };
    let user: User = text.parse().map_err(unknown)?;
    let found = user.resolve(passwd, group).map_err(unknown)?;
    let (umask, more) = (process.user().umask(), process.user().additional_gids().clone().unwrap_or_default());
    // The first group stays among the further ones when a program changes to another: what a group may not, none of its members
    // may (CVE-2023-25173).
    let mut groups = Vec::new();
    for group in std::iter::once(found.gid).chain(found.additional_gids).chain(more) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut ids = oci::User::default();
    ids.set_uid(found.uid).set_gid(found.gid).set_umask(umask).set_additional_gids(Some(groups));
    process.set_user(ids);
    let environment = process.env_mut().get_or_insert_with(Vec::new);
    if !environment.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.push(format!("HOME={}", found.home.as_deref().unwrap_or("/")));
    }
    Ok(())
}

/// The home of the user that `process` names by its number: `/` where nothing tells one.
fn home_in(passwd: &[u8], process: &oci::Process) -> String {
    let number = format!("{}:{}", process.user().uid(), process.user().gid());
    let found = number.parse::<User>().ok().and_then(|user| user.resolve(passwd, &[]).ok());
    found.and_then(|user| user.home).unwrap_or_else(|| "/".into())
}

/// Gives `process` the home of its user, unless `HOME` is set.
pub(crate) fn go_home(directory: &Path, process: &mut oci::Process) {
    if !process.env().iter().flatten().any(|variable| variable.starts_with("HOME=")) {
        let home = home_in(&read_in(directory, "/etc/passwd").unwrap_or_default(), process);
        set_variable(process, "HOME", &home);
    }
}

fn read_in(directory: &Path, file: &str) -> Result<Vec<u8>> {
    let cannot = |error| {
        Error::from_part(ErrorKind::NotFound, format!("cannot open root file system {}", directory.display()), error)
    };
    let root = Root::at(directory).map_err(cannot)?;
    match root.read(file, MOST) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == keelbox_mounts::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => {
            Err(Error::from_part(ErrorKind::UnknownUser, format!("cannot read {file} of the container"), error))
        }
    }
}

fn read_layers(image: &Unpacked, file: &str) -> Result<Vec<u8>> {
    let cannot = |error| Error::from_part(ErrorKind::UnknownUser, format!("cannot read {file} of the image"), error);
    let view = image.view().map_err(cannot)?;
    match view.read(file) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == keelbox_image_spec::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(cannot(error)),
    }
}
