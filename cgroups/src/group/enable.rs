//! Enabling v2 controllers: only those that are needed, only on the levels that lack them; or all that are on offer.
//!
//! Leaves out: disabling them again, since other groups may use them by then. Oldest kernel: 4.5.

use super::Node;
use crate::controller::{Controller, Version};
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};

/// Controllers that could not be enabled, and why.
pub(super) type Troubles = Vec<(Controller, String)>;

/// Makes the controllers of these names available in the group of `node`. In best effort, what cannot be enabled is returned.
pub(super) fn enable(node: &Node, controllers: &[String], best_effort: bool) -> Result<Troubles> {
    let mut needed: Vec<&str> = controllers.iter().map(String::as_str).filter(|needed| !is_implicit(needed)).collect();
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
    for name in needed {
        // One by one, since the kernel enables all of a write or none.
        if let Err(error) = enable_on(&levels, &[name]) {
            troubles.push((Controller::parse(name).unwrap_or(Controller::Core), error.line()));
        }
    }
    Ok(troubles)
}

/// Has every controller that is on offer enabled down to the group of `node`, as far as that is allowed: for those who read its
/// statistics. A group with processes on the way, or a controller that is not to be had, is no failure.
pub(super) fn enable_offered(node: &Node) -> Result<()> {
    for level in node.levels()? {
        let (offered, enabled) = (names(&level, "cgroup.controllers")?, names(&level, "cgroup.subtree_control")?);
        let missing: Vec<&str> =
            offered.iter().map(String::as_str).filter(|name| !enabled.iter().any(|other| other == name)).collect();
        if !missing.is_empty() && ask(&level, &missing).is_err() {
            for name in missing {
                let _refused = ask(&level, &[name]);
            }
        }
    }
    Ok(())
}

/// Controllers that v2 has in every group, or not at all.
fn is_implicit(name: &str) -> bool {
    use Controller::{Core, Cpuacct, Devices, Freezer, PerfEvent};
    matches!(Controller::parse(name), Some(Core | Cpuacct | Devices | Freezer | PerfEvent))
}

/// The directories whose children need the controllers, from the lowest that already has all of them.
fn levels(node: &Node, needed: &[&str]) -> Result<Vec<Directory>> {
    let mut levels = node.levels()?;
    while let Some(top) = levels.first() {
        let available = names(top, "cgroup.controllers")?;
        let all = needed.iter().all(|name| available.iter().any(|other| other == name));
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

fn enable_on(levels: &[Directory], needed: &[&str]) -> Result<()> {
    if let Some(top) = levels.first() {
        let available = names(top, "cgroup.controllers")?;
        if let Some(missing) = needed.iter().find(|name| !available.iter().any(|other| other == *name)) {
            let place = top.path().display();
            let message = format!("cannot use the {missing} controller: {place} does not offer it");
            return Err(Error::unsupported(message));
        }
    }
    for level in levels {
        let enabled = names(level, "cgroup.subtree_control")?;
        let missing: Vec<&str> =
            needed.iter().copied().filter(|name| !enabled.iter().any(|other| other == name)).collect();
        if !missing.is_empty() {
            ask(level, &missing).map_err(explain)?;
        }
    }
    Ok(())
}

/// Has controllers enabled for the groups below `level`.
fn ask(level: &Directory, controllers: &[&str]) -> Result<()> {
    let text: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    level.write("cgroup.subtree_control", &text.join(" "))
}

/// EBUSY here means that processes sit in the directory itself, whose children are to be controlled.
fn explain(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Busy => error.of_kind(ErrorKind::InternalProcesses),
        _ => error,
    }
}

fn names(directory: &Directory, file: &str) -> Result<Vec<String>> {
    Ok(directory.read(file)?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// What v2 calls these controllers.
pub(super) fn named<'a>(controllers: impl IntoIterator<Item = &'a Controller>) -> Vec<String> {
    controllers.into_iter().map(|controller| controller.name(Version::V2).to_owned()).collect()
}
