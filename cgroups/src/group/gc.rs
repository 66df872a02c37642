//! Groups that remember their owner, and the removal of those whose owner is gone.
//!
//! Leaves out: groups with processes in them; those somebody has to look at. Oldest kernel: 4.5.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};

use super::{Parent, base, node, processes_below};
use crate::directory::{Directory, Visit, unless_gone};
use crate::error::{Error, Result};
use crate::hierarchy::Hierarchy;

/// A shared lock on the directory, held as long as the group's value lives. It shows over the borders of pid namespaces, where the pid in the name
/// means nothing.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, never looked at")] Flock<OwnedFd>);

pub(super) fn lock(directory: &Directory) -> Result<Lock> {
    let path = directory.path().display().to_string();
    let locked = Flock::lock(directory.apart()?, FlockArg::LockSharedNonblock);
    locked.map(Lock).map_err(|(_, errno)| Error::os(format!("cannot lock group {path}"), errno))
}

/// The suffix of the calling process: `-PID.STARTTIME`, the start time in clock ticks since boot as in proc_pid_stat(5), in at
/// least twelve digits, so that no version number (`app-1.2`) is ever taken for an owner.
pub(super) fn suffix() -> Result<String> {
    // Remembered with the pid it belongs to: a program that forks is another owner.
    static KNOWN: Mutex<Option<(u32, String)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if let Some((_, suffix)) = known.as_ref().filter(|(owner, _)| *owner == pid) {
        return Ok(suffix.clone());
    }
    let text =
        fs::read_to_string("/proc/self/stat").map_err(|source| Error::io("cannot read /proc/self/stat", source))?;
    let start = start_time(&text).ok_or_else(|| Error::unsupported("cannot find the start time in /proc/self/stat"))?;
    let suffix = format!("-{pid}.{start:0DIGITS$}");
    *known = Some((pid, suffix.clone()));
    Ok(suffix)
}

/// The 22nd field. The second is the name of the program in parentheses, and may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

const DIGITS: usize = 12;

/// The owner named in the name of a group.
fn owner(name: &str) -> Option<(u32, u64)> {
    let (_, suffix) = name.rsplit_once('-')?;
    let (pid, start) = suffix.split_once('.').filter(|(_, start)| start.len() >= DIGITS)?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

fn is_alive((pid, start): (u32, u64)) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => start_time(&text) == Some(start),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound && error.raw_os_error() != Some(nix::libc::ESRCH),
    }
}

/// Removes the groups below `parent` that [`Group::create_owned`](crate::Group::create_owned) made, that are empty, and whose owner ended without
/// removing them. Returns what was removed, as absolute paths.
///
/// A group is left alone as long as a process with its owner's pid and start time is there, or its owner's lock is held, and when there are
/// processes in it. Call it now and then, or when a program starts; it looks at every group below `parent` in every hierarchy.
///
/// ```no_run
/// for path in keelbox_cgroups::gc(&keelbox_cgroups::Parent::Own)? {
///     println!("removed {}", path.display());
/// }
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
///
/// # Errors
/// If the hierarchies cannot be detected or listed. A group that cannot be removed is passed over.
pub fn gc(parent: &Parent) -> Result<Vec<PathBuf>> {
    let hierarchy = Hierarchy::detect()?;
    let mut removed = Vec::new();
    for mount in hierarchy.unified().into_iter().chain(hierarchy.legacy()) {
        let Ok(top) = base::find(mount, parent) else {
            continue;
        };
        top.walk(&mut |visit| {
            if let Visit::Leave { parent, name } = visit
                && name.to_str().and_then(owner).is_some_and(|owner| !is_alive(owner))
                && sweep(parent, name).is_ok_and(|swept| swept)
            {
                removed.push(parent.path().join(name));
            }
            Ok(())
        })?;
    }
    Ok(removed)
}

fn sweep(parent: &Directory, name: &OsStr) -> Result<bool> {
    let Some(group) = unless_gone(parent.child(name))? else {
        return Ok(false);
    };
    // Taken and given back at once: whoever holds the shared lock is alive, in whatever namespace.
    if Flock::lock(group.apart()?, FlockArg::LockExclusiveNonblock).is_err() || !processes_below(&group)?.is_empty() {
        return Ok(false);
    }
    node::remove_tree(parent, name, &group)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_owner() {
        let cases = [
            ("job-7-12.000000000345", Some((12, 345))),
            ("job-12.1234567890123", Some((12, 1_234_567_890_123))),
            ("postgres-13.4", None),
            ("job-7", None),
            ("job-7.scope", None),
            ("job", None),
            ("job--1.000000000002", Some((1, 2))),
            ("job-1.2.000000000003", None),
        ];
        for (name, expected) in cases {
            assert_eq!(owner(name), expected, "{name}");
        }
        let own = format!("x{}", suffix().unwrap());
        let (pid, start) = owner(&own).unwrap();
        assert_eq!(pid, std::process::id());
        assert!(is_alive((pid, start)));
        assert!(!is_alive((pid, start + 1)), "the pid was used again");
        assert!(!is_alive((u32::MAX, start)));
    }

    #[test]
    fn a_program_name_may_hold_anything() {
        let rest = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        for name in ["sh", "a b", ") S 9 9 (", "((("] {
            assert_eq!(start_time(&format!("5 ({name}) {rest}")), Some(777), "{name}");
        }
        assert_eq!(start_time("5 sh"), None);
    }
}
