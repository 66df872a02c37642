//! Enabling v2 controllers: only those that are needed, only on the levels that lack them.
//!
//! Leaves out: disabling them again, since other groups may use them by then. Oldest kernel: 4.5.

use super::Node;
use crate::controller::{Controller, Version};
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};

/// Controllers that could not be enabled, and why.
pub(super) type Troubles = Vec<(Controller, String)>;

/// Makes `controllers` available in the group of `node`. In best effort, what cannot be enabled is returned.
pub(super) fn enable(node: &Node, controllers: &[Controller], best_effort: bool) -> Result<Troubles> {
    let mut needed: Vec<Controller> = controllers.iter().copied().filter(|needed| !is_implicit(*needed)).collect();
    needed.sort_unstable();
    needed.dedup();
    if needed.is_empty() {
        return Ok(Troubles::new());
    }
    let levels = levels(node, &needed)?;
    if !best_effort {
        enable_on(&levels, &needed)?;
        return Ok(Troubles::new());
    }
    let mut troubles = Troubles::new();
    for controller in needed {
        // One by one, since the kernel enables all of a write or none.
        if let Err(error) = enable_on(&levels, &[controller]) {
            troubles.push((controller, error.line()));
        }
    }
    Ok(troubles)
}

/// Controllers that v2 has in every group, or not at all.
fn is_implicit(controller: Controller) -> bool {
    use Controller::{Core, Cpuacct, Devices, Freezer, PerfEvent};
    matches!(controller, Core | Cpuacct | Devices | Freezer | PerfEvent)
}

/// The directories whose children need the controllers, from the lowest that already has all of them.
fn levels(node: &Node, needed: &[Controller]) -> Result<Vec<Directory>> {
    let mut levels = node.levels()?;
    while let Some(top) = levels.first() {
        let available = names(top, "cgroup.controllers")?;
        let all = needed.iter().all(|controller| available.contains(controller));
        // Above the base nothing is tried that cannot be written.
        if all || !top.has("cgroup.type") || !top.is_writable() {
            break;
        }
        match top.parent() {
            Ok(parent) if parent.has("cgroup.subtree_control") => levels.insert(0, parent),
            _ => break,
        }
    }
    Ok(levels)
}

fn enable_on(levels: &[Directory], needed: &[Controller]) -> Result<()> {
    if let Some(top) = levels.first() {
        let available = names(top, "cgroup.controllers")?;
        if let Some(missing) = needed.iter().find(|controller| !available.contains(controller)) {
            let place = top.path().display();
            let message = format!("cannot use the {missing} controller: {place} does not offer it");
            return Err(Error::unsupported(message));
        }
    }
    for level in levels {
        let enabled = names(level, "cgroup.subtree_control")?;
        let missing = needed.iter().filter(|controller| !enabled.contains(controller));
        let text: Vec<String> = missing.map(|controller| format!("+{}", controller.name(Version::V2))).collect();
        if !text.is_empty() {
            level.write("cgroup.subtree_control", &text.join(" ")).map_err(explain)?;
        }
    }
    Ok(())
}

/// EBUSY here means that processes sit in the directory itself, whose children are to be controlled.
fn explain(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Busy => error.of_kind(ErrorKind::InternalProcesses),
        _ => error,
    }
}

fn names(directory: &Directory, file: &str) -> Result<Vec<Controller>> {
    Ok(directory.read(file)?.split_ascii_whitespace().filter_map(Controller::parse).collect())
}
