//! Removing a group from all its hierarchies.
//!
//! Leaves out: killing, which is asked for separately; moving processes elsewhere, which would set them free of their limits.
//! Oldest kernel: 4.5.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::wait::{self, Pause};
use super::{Group, Node};
use crate::error::{Error, ErrorKind, Result};

pub(super) fn delete(group: &Group, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut first = None;
    for node in group.nodes() {
        if let Err(error) = remove(group, &node, deadline) {
            // The other hierarchies are tried all the same, so that no more than the busy one remains.
            first.get_or_insert(error);
        }
    }
    match first {
        None => {
            group.gone.store(true, Ordering::Release);
            Ok(())
        }
        Some(error) if error.kind() == ErrorKind::Busy => Err(describe(group, error)),
        Some(error) => Err(error),
    }
}

fn remove(group: &Group, node: &Node, deadline: Instant) -> Result<()> {
    let mut pause = Pause::new();
    loop {
        match node.remove() {
            Err(error) if error.kind() == ErrorKind::Busy => {
                // On v2 the kernel tells when the last one leaves. EBUSY may remain for a moment, hence the pause in both cases.
                if group.unified().is_some_and(|unified| std::ptr::eq(unified, node)) {
                    wait::event(&node.directory, "populated", 0, deadline)?;
                }
                if !pause.wait(deadline) {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

/// Names who is in the way.
fn describe(group: &Group, error: Error) -> Error {
    let Ok(processes) = group.processes() else {
        return error;
    };
    let shown: Vec<String> = processes.iter().take(8).map(u32::to_string).collect();
    let more = if processes.len() > shown.len() { ", …" } else { "" };
    Error::new(ErrorKind::Busy, format!("{}: processes {}{more} are in it", error.line(), shown.join(", ")))
}
