//! Killing everything in a group.
//!
//! Leaves out: other signals, and the calling process. Oldest kernel: 2.6.28; at its best since 5.14.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use super::wait::Pause;
use super::{Group, freeze, wait};
use crate::error::{Error, ErrorKind, Result};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn kill(group: &Group) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    if by_kernel(group)? && wait::empty(group, PATIENCE)? {
        return Ok(());
    }
    let mut pause = Pause::new();
    loop {
        if group.others()?.is_empty() {
            return Ok(());
        }
        // Frozen processes neither fork nor end, so the list stays true while we go through it. Where they cannot be frozen
        // (the caller may be among them) repeating the round catches those that were born meanwhile.
        let frozen = freeze::freeze(group).is_ok();
        let result = round(group);
        if frozen {
            // On v1 SIGKILL works only after thawing.
            freeze::thaw(group)?;
        }
        result?;
        if !pause.wait(deadline) {
            let left = group.others()?;
            if left.is_empty() {
                return Ok(());
            }
            let message = format!("cannot kill processes {left:?} within {} s", PATIENCE.as_secs());
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
    }
}

fn round(group: &Group) -> Result<()> {
    for pid in group.others()? {
        let Ok(number) = i32::try_from(pid) else {
            continue;
        };
        match send(Pid::from_raw(number), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::os(format!("cannot kill process {pid}"), errno)),
        }
    }
    Ok(())
}

/// One write to `cgroup.kill`, which misses nobody. It would not spare the caller, so not if the caller is inside.
///
/// Not in a group that stays either: since Linux 6.14 `CLONE_INTO_CGROUP` compares how often the caller's group and the new one were
/// killed so (`kill_seq` in kernel/cgroup/cgroup.c), and kills the child if that is not the same.
fn by_kernel(group: &Group) -> Result<bool> {
    let Some(node) = group.unified().filter(|node| !node.adopted && node.directory.has("cgroup.kill")) else {
        return Ok(false);
    };
    group.gather(node)?;
    if node.processes()?.contains(&std::process::id()) {
        return Ok(false);
    }
    match node.directory.write("cgroup.kill", "1") {
        Ok(()) => Ok(true),
        // A threaded group has the file but not the right to use it.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}
