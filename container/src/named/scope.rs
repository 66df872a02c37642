//! The control group of a named container where systemd makes it: asked for, told of new limits, ended.
//!
//! Leaves out the talk itself, which is a feature of the control groups crate. Needs systemd 244 or later; Linux 5.10.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use keelbox_cgroups::systemd::{Bus, Systemd, Unit};
use keelbox_cgroups::{Group, Limits};

use super::record::Scope;
use crate::control_group::cannot;
use crate::error::{Error, Result};
use crate::spec::Spec;

/// What holds a scope until the container is in it.
pub(crate) type Keeper = keelbox_cgroups::systemd::Holder;

/// A scope to be asked for. That systemd is there is known.
#[derive(Debug)]
pub(crate) struct Asked {
    systemd: Systemd,
    bus: Bus,
    unit: Unit,
    description: String,
}

impl Asked {
    pub(crate) fn of(bus: &Path, id: &str, spec: &Spec) -> Result<Self> {
        let bus = Bus::at(bus);
        let unit = match path(spec) {
            Some(path) => Unit::parse(path),
            None => Unit::scope("", "keelbox", id),
        };
        let unit = unit.map_err(cannot)?;
        let systemd = Systemd::connect(&bus).map_err(cannot)?;
        Ok(Self { systemd, bus, unit, description: format!("keelbox container {id}") })
    }

    /// Has it made, with these limits.
    pub(crate) fn make(mut self, limits: &Limits) -> Result<(Group, (Scope, Keeper))> {
        let scope = self.systemd.scope(&self.unit, &self.description, limits).map_err(cannot)?;
        let (group, keeper) = scope.into_parts();
        let directory = group.directories().into_iter().next().unwrap_or_default();
        let found = directory.symlink_metadata();
        let found = found.map_err(|error| Error::os(format!("cannot look at {}", directory.display()), error))?;
        let (bus, unit) = (self.bus.socket().to_owned(), self.unit.name().to_owned());
        Ok((group, (Scope { bus, unit, inode: found.ino() }, keeper)))
    }
}

fn path(spec: &Spec) -> Option<&str> {
    let path = spec.oci.linux().as_ref()?.cgroups_path().as_ref()?;
    path.to_str().filter(|path| !path.is_empty())
}

/// Refuses what systemd could not be asked for.
pub(crate) fn check(spec: &Spec) -> Result<()> {
    match (&spec.systemd, path(spec)) {
        (Some(_), Some(path)) => Unit::parse(path).map(drop).map_err(cannot),
        _ => Ok(()),
    }
}

/// Tells systemd of new limits.
pub(crate) fn update(scope: &Scope, group: &Group, limits: &Limits) -> Result<()> {
    let told =
        Systemd::connect(&Bus::at(&scope.bus)).and_then(|mut systemd| systemd.update(&scope.unit, group, limits));
    told.map_err(cannot)
}

/// Ends the scope, and with it what is left in it.
pub(crate) fn stop(scope: &Scope) -> Result<()> {
    let stopped = Systemd::connect(&Bus::at(&scope.bus)).and_then(|mut systemd| systemd.stop(&scope.unit));
    stopped.map_err(cannot)
}
