//! The control group of a named container: where it may come to be, told before it is made, so that it is found after a crash.
//!
//! Every named container has one, limits or not, where the caller may make one: pausing it, counting it and killing all of it
//! need one. Leaves out what groups are. Oldest kernel: 5.10.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keelbox_cgroups::{
    Controller, ErrorKind as GroupError, Group, Hierarchy, Limits, Mount, Reach, UNLIMITED, Version,
};
use keelbox_launch::Seat;
use keelbox_runtime_spec::ContainerId;

use super::record::{Phase, Record, Scope};
use super::scope::{self, Asked, Keeper};
use crate::built::Built;
use crate::control_group::{CROWDED, builder, cannot, complete, insisted, is_closed, seat};
use crate::error::{Error, Result};
use crate::host::hierarchy;
use crate::spec::Spec;

/// A group to be made, and all the directories that it may come to have.
#[derive(Debug)]
pub(crate) struct Prospect {
    name: String,
    hierarchy: Hierarchy,
    pub(crate) directories: Vec<PathBuf>,
    /// Of a group whose place is named: the directories that would be made for it. One with a name of our own is ours altogether.
    pub(crate) made: Option<Vec<PathBuf>>,
    /// Of one that systemd is to make.
    asked: Option<Asked>,
}

/// A group that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) group: Group,
    pub(crate) seat: Option<Seat>,
    /// What systemd calls it, and what holds it until the container does.
    pub(crate) scope: Option<(Scope, Keeper)>,
}

impl Prospect {
    /// The named place, or a name that no other group has: two state directories may know containers of the same id.
    pub(crate) fn new(id: &ContainerId, built: &Built) -> Result<Self> {
        let file = "/proc/sys/kernel/random/uuid";
        let unique = fs::read_to_string(file).map_err(|error| Error::os(format!("cannot read {file}"), error))?;
        let (id, unique) = (id.as_str(), unique.trim());
        let name = format!("keelbox-{}-{}", id.get(..64).unwrap_or(id), unique.get(..8).unwrap_or(unique));
        let hierarchy = hierarchy()?;
        if let Some(bus) = &built.spec.systemd {
            // Where it will be, systemd decides; it goes by itself when this program is killed in the midst of it.
            let asked = Some(Asked::of(bus, id, &built.spec)?);
            return Ok(Self { name, hierarchy, directories: Vec::new(), made: Some(Vec::new()), asked });
        }
        if built.spec.placement.is_some() {
            let found = builder(&name, &built.spec, &Limits::new(), &hierarchy).prospect().map_err(cannot)?;
            let (directories, made) = (found.directories, Some(found.missing));
            return Ok(Self { name, hierarchy, directories, made, asked: None });
        }
        let mounts = hierarchy.unified().into_iter().chain(hierarchy.legacy());
        let directories = mounts.flat_map(|mount| places(mount, &name)).collect();
        Ok(Self { name, hierarchy, directories, made: None, asked: None })
    }

    /// Makes the group, and on cgroup v1 the thread in it that clones. Without limits it is no failure if the caller may not.
    pub(crate) fn make(self, built: &Built, crowd: u64) -> Result<Option<Made>> {
        let spec = &built.spec;
        let limits =
            if late(spec, crowd).is_some() { spec.limits.clone().pids(UNLIMITED) } else { spec.limits.clone() };
        if let Some(asked) = self.asked {
            let (group, scope) = asked.make(&limits)?;
            complete(&group, spec, &self.hierarchy)?;
            return Ok(Some(Made { group, seat: None, scope: Some(scope) }));
        }
        // On a host with v1 only, a group has no freezer unless it is asked for.
        let freezer = self.hierarchy.unified().is_none() && self.hierarchy.find(Controller::Freezer).is_some();
        let builder = builder(&self.name, spec, &limits, &self.hierarchy);
        // Whoever holds a name may ask for statistics later, so every controller is at hand.
        let builder = builder.reach(Reach::All).controllers(freezer.then_some(Controller::Freezer));
        let group = match builder.create() {
            Ok(group) => group,
            Err(error) if !insisted(spec) && is_closed(&error) => return Ok(None),
            Err(error) => return Err(cannot(error)),
        };
        // Until the rules hold, the group goes with this function.
        complete(&group, spec, &self.hierarchy)?;
        let group = group.keep();
        let seat = seat(&group)?;
        Ok(Some(Made { group, seat, scope: None }))
    }
}

/// The limit of processes below which a creation does not come to its end.
pub(crate) fn crowd(spec: &Spec) -> u64 {
    // In a scope there is a process of ours beside it at first, and one that clones once more.
    if spec.systemd.is_some() { CROWDED + 2 } else { CROWDED }
}

/// The limit of processes that can only be set once the container's process is there.
pub(crate) fn late(spec: &Spec, crowd: u64) -> Option<Limits> {
    let crowded = spec.limits.values().pids.filter(|count| *count <= crowd)?;
    Some(Limits::new().pids(crowded))
}

/// Where below `mount` a group of this name may be made: below the caller's own, or on v2 below one above that.
fn places(mount: &Mount, name: &str) -> Vec<PathBuf> {
    let Some(own) = mount.own() else { return Vec::new() };
    let inside = |directory: &&Path| directory.starts_with(mount.mount_point());
    let above = own.ancestors().take_while(inside).map(|directory| directory.join(name));
    if mount.version() == Version::V1 { above.take(1).collect() } else { above.collect() }
}

/// The group of a container; nothing if it has none, or none any more.
///
/// Of one whose creation was cut off, only what was made for it: where it was to be, there may be somebody else's processes.
pub(crate) fn find(record: &Record) -> Result<Option<Group>> {
    if record.scope.as_ref().is_some_and(|scope| inode(record) != Some(scope.inode)) {
        return Ok(None);
    }
    let unsure = record.made.as_ref().filter(|_| record.phase == Phase::Creating);
    let ours = |directory: &&PathBuf| unsure.is_none_or(|made| made.contains(directory));
    match Group::from_directories(record.group.iter().filter(ours)) {
        Ok(group) => Ok(Some(match &record.made {
            Some(made) => group.made(made),
            None => group,
        })),
        Err(error) if error.kind() == GroupError::NotFound => Ok(None),
        Err(error) => Err(cannot(error)),
    }
}

/// Tells the container's systemd of new limits, if it has one, and writes them.
pub(crate) fn update(record: &Record, group: &Group, limits: &Limits) -> Result<()> {
    if let Some(scope) = &record.scope {
        scope::update(scope, group, limits)?;
    }
    group.update(limits).map(drop).map_err(cannot)
}

/// Has systemd forget the scope of a container that has ended, unless what bears its name now is another one.
pub(crate) fn forget(record: &Record) -> Result<()> {
    match &record.scope {
        Some(scope) if inode(record).is_none_or(|inode| inode == scope.inode) => scope::stop(scope),
        _ => Ok(()),
    }
}

fn inode(record: &Record) -> Option<u64> {
    let found = record.group.first()?.symlink_metadata().ok()?;
    Some(found.ino())
}

/// Takes note of the directories that the group has now.
pub(crate) fn note(record: &mut Record, group: &Group) {
    (record.group, record.made) = (group.directories(), Some(group.directories_made()));
}

/// Takes note of directories that the group has got since.
pub(crate) fn remember(record: &mut Record, group: &Group) -> bool {
    let changed = group.directories().iter().any(|directory| !record.group.contains(directory));
    if changed {
        let made = record.made.get_or_insert_with(|| record.group.clone());
        made.extend(group.directories_made());
        record.group.extend(group.directories());
        for list in [&mut record.group, made] {
            list.sort();
            list.dedup();
        }
    }
    changed
}
