//! Freezing and thawing.
//!
//! Leaves out: freezing single processes. Oldest kernel: 5.2 for v2, 2.6.28 for v1.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Group, Node, wait};
use crate::controller::Controller;
use crate::error::{Error, ErrorKind, Result};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn freeze(group: &Group) -> Result<()> {
    if let Some(node) = group.unified() {
        group.gather(node)?;
        refuse_own(node)?;
        return freeze_unified(node);
    }
    let node = group.join(Controller::Freezer)?;
    group.gather(&node)?;
    refuse_own(&node)?;
    freeze_legacy(group, &node)
}

/// A process that freezes itself is never thawed by itself.
fn refuse_own(node: &Node) -> Result<()> {
    if !node.processes()?.contains(&std::process::id()) {
        return Ok(());
    }
    let path = node.directory.path().display();
    Err(Error::new(ErrorKind::Busy, format!("cannot freeze {path}: the calling process is in it")))
}

fn freeze_unified(node: &Node) -> Result<()> {
    node.directory.write("cgroup.freeze", "1").map_err(without_freezer)?;
    if wait::event(&node.directory, "frozen", 1, Instant::now() + PATIENCE)? {
        return Ok(());
    }
    node.directory.write("cgroup.freeze", "0")?;
    Err(timed_out(node))
}

/// A v1 freezer may stay in FREEZING for ever when processes fork or get signals at the wrong moment. Writing FROZEN again makes it look again;
/// if that does not help for a while, a moment of THAWED lets them come to a better place.
fn freeze_legacy(group: &Group, node: &Node) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for attempt in 1u32.. {
        node.directory.write("freezer.state", "FROZEN")?;
        if node.directory.read("freezer.state")?.trim() == "FROZEN" {
            // Who joined while the others froze is in now, and frozen from the start.
            group.gather(node)?;
            return Ok(());
        }
        if Instant::now() >= deadline {
            break;
        }
        if attempt % 50 == 0 {
            node.directory.write("freezer.state", "THAWED")?;
            thread::sleep(Duration::from_millis(10));
        } else {
            thread::sleep(Duration::from_micros(500));
        }
    }
    node.directory.write("freezer.state", "THAWED")?;
    Err(timed_out(node))
}

fn timed_out(node: &Node) -> Error {
    let path = node.directory.path().display();
    Error::new(ErrorKind::TimedOut, format!("cannot freeze {path} within {} s", PATIENCE.as_secs()))
}

fn without_freezer(error: Error) -> Error {
    match error.kind() {
        // Before Linux 5.2.
        ErrorKind::NotFound => error.of_kind(ErrorKind::Unsupported),
        _ => error,
    }
}

pub(super) fn thaw(group: &Group) -> Result<()> {
    if let Some(node) = group.unified()
        && node.directory.has("cgroup.freeze")
    {
        node.directory.write("cgroup.freeze", "0")?;
        wait::event(&node.directory, "frozen", 0, Instant::now() + PATIENCE)?;
    }
    match group.legacy(Controller::Freezer) {
        Some(node) => node.directory.write("freezer.state", "THAWED"),
        None => Ok(()),
    }
}

pub(super) fn is_frozen(group: &Group) -> Result<bool> {
    if let Some(node) = group.unified()
        && wait::value(&node.directory.read("cgroup.events")?, "frozen") == Some(1)
    {
        return Ok(true);
    }
    match group.legacy(Controller::Freezer) {
        Some(node) => Ok(node.directory.read("freezer.state")?.trim() == "FROZEN"),
        None => Ok(false),
    }
}

/// Of the directories of one group: of version 2 there is one at most, and of the freezer's hierarchy too.
pub(super) fn is_frozen_in(directories: &[&Path]) -> Result<bool> {
    // Mostly its name tells which one that is, but nobody has to call it so.
    let is_named =
        |directory: &Path| directory.as_os_str().as_encoded_bytes().windows(7).any(|part| part == b"freezer");
    let mut likely = directories.to_vec();
    likely.sort_by_key(|directory| !is_named(directory));
    for directory in likely {
        if let Some(state) = read(directory, "freezer.state")? {
            if state.trim() == "FROZEN" {
                return Ok(true);
            }
            break;
        }
    }
    for directory in directories {
        if let Some(events) = read(directory, "cgroup.events")? {
            return Ok(wait::value(&events, "frozen") == Some(1));
        }
    }
    Ok(false)
}

/// Nothing if the directory is of another version, or of another hierarchy, or gone.
fn read(directory: &Path, name: &str) -> Result<Option<String>> {
    match fs::read_to_string(directory.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENODEV)) => {
            Ok(None)
        }
        Err(error) => Err(Error::io(format!("cannot read {name} of {}", directory.display()), error)),
    }
}
