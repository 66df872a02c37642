//! The control group of a named container: where it may come to be, told before it is made, so that it is found after a crash.
//!
//! Every named container has one, limits or not, where the caller may make one: pausing it, counting it and killing all of it
//! need one. Leaves out what groups are. Oldest kernel: 5.10.

use std::fs;
use std::path::{Path, PathBuf};

use keelbox_cgroups::{Controller, ErrorKind as GroupError, Group, Hierarchy, Mount, Version};
use keelbox_launch::Seat;
use keelbox_runtime_spec::ContainerId;

use super::record::Record;
use crate::built::Built;
use crate::control_group::{builder, cannot, restrict, seat};
use crate::error::{Error, Result};
use crate::host::hierarchy;

/// A name, and all the directories that a group of this name may come to have.
#[derive(Debug)]
pub(crate) struct Prospect {
    name: String,
    hierarchy: Hierarchy,
    pub(crate) directories: Vec<PathBuf>,
}

impl Prospect {
    /// A name that no other group has: two state directories may know containers of the same id.
    pub(crate) fn new(id: &ContainerId) -> Result<Self> {
        let file = "/proc/sys/kernel/random/uuid";
        let unique = fs::read_to_string(file).map_err(|error| Error::os(format!("cannot read {file}"), error))?;
        let (id, unique) = (id.as_str(), unique.trim());
        let name = format!("keelbox-{}-{}", id.get(..64).unwrap_or(id), unique.get(..8).unwrap_or(unique));
        let hierarchy = hierarchy()?;
        let mounts = hierarchy.unified().into_iter().chain(hierarchy.legacy());
        let directories = mounts.flat_map(|mount| places(mount, &name)).collect();
        Ok(Self { name, hierarchy, directories })
    }

    /// Makes the group, and on cgroup v1 the thread in it that clones. Without limits it is no failure if the caller may not.
    pub(crate) fn make(self, built: &Built) -> Result<Option<(Group, Option<Seat>)>> {
        let spec = &built.spec;
        // On a host with v1 only, a group has no freezer unless it is asked for.
        let freezer = self.hierarchy.unified().is_none() && self.hierarchy.find(Controller::Freezer).is_some();
        let builder = builder(&self.name, spec, &self.hierarchy);
        let made = builder.controllers(freezer.then_some(Controller::Freezer)).create();
        let asked = spec.grouped || spec.devices.is_some() || !spec.limits.is_empty();
        let group = match made {
            Ok(group) => group,
            Err(error) if !asked && is_closed(&error) => return Ok(None),
            Err(error) => return Err(cannot(error)),
        };
        // Until the rules hold, the group goes with this function.
        restrict(&group, spec)?;
        let group = group.keep();
        let seat = seat(&group)?;
        Ok(Some((group, seat)))
    }
}

/// Where below `mount` a group of this name may be made: below the caller's own, or on v2 below one above that.
fn places(mount: &Mount, name: &str) -> Vec<PathBuf> {
    let Some(own) = mount.own() else { return Vec::new() };
    let inside = |directory: &&Path| directory.starts_with(mount.mount_point());
    let above = own.ancestors().take_while(inside).map(|directory| directory.join(name));
    if mount.version() == Version::V1 { above.take(1).collect() } else { above.collect() }
}

fn is_closed(error: &keelbox_cgroups::Error) -> bool {
    matches!(error.kind(), GroupError::PermissionDenied | GroupError::Unsupported | GroupError::InternalProcesses)
}

/// The group of a container; nothing if it has none, or none any more.
pub(crate) fn find(record: &Record) -> Result<Option<Group>> {
    match Group::from_directories(&record.group) {
        Ok(group) => Ok(Some(group)),
        Err(error) if error.kind() == GroupError::NotFound => Ok(None),
        Err(error) => Err(cannot(error)),
    }
}

/// Takes note of directories that the group has got since.
pub(crate) fn remember(record: &mut Record, group: &Group) -> bool {
    let new: Vec<PathBuf> =
        group.directories().into_iter().filter(|directory| !record.group.contains(directory)).collect();
    let changed = !new.is_empty();
    record.group.extend(new);
    changed
}
