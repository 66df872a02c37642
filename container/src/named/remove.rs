//! Deletes a container: its process, its control group, its directory, in this order, with the hooks before the last, so that it can be said again after a crash.
//!
//! Leaves out what the container did not make itself: namespaces it joined, the bundle, volumes. Oldest kernel: 5.10.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use keelbox_cgroups::{ErrorKind as GroupError, Group};
use keelbox_launch::sys;
use keelbox_runtime_spec::Status;
use nix::errno::Errno;

use super::handle::Handle;
use super::hooks::Scene;
use super::identity::Identity;
use super::record::{Phase, Record};
use super::root::{PATIENCE, Place};
use super::{barrier, group};
use crate::control_group::cannot;
use crate::error::{Error, ErrorKind, Result};
use crate::further;

const SIGKILL: i32 = 9;
/// How long a killed process is waited for before it matters why it does not end.
const LINGERING: Duration = Duration::from_secs(1);

/// How long a killed process mostly takes to end.
const SOON: Duration = Duration::from_millis(20);
/// How long a process that has ended may still be counted.
const MOMENT: Duration = Duration::from_millis(2);

/// What happens to a container that has not ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Living {
    Refused,
    Killed,
}

/// Removes everything that belongs to a container.
pub(crate) fn delete(handle: &Handle, living: Living) -> Result<()> {
    let place = handle.place();
    let attempt = format!("cannot delete container {}", place.id());
    let _lock = place.lock(&attempt)?;
    let Some(record) = place.read()? else {
        // Whoever made it came no further than the directory.
        return place.remove();
    };
    let status = handle.status_under_lock(&record);
    if living == Living::Refused && status != Status::Stopped {
        let error = Error::new(ErrorKind::State, format!("{attempt}: it is {status}"));
        return Err(error.with_hint("stop it first, or delete it by force"));
    }
    clear(handle, &record, &attempt)
}

/// Ends what is left of the container and takes it away: the caller holds the lock.
pub(crate) fn clear(handle: &Handle, record: &Record, attempt: &str) -> Result<()> {
    let place = handle.place();
    let pidfd = handle.process(record);
    if let Some(pidfd) = &pidfd {
        kill(pidfd, attempt)?;
    }
    let made = record.phase == Phase::Created;
    let group = group::find(record)?.filter(|group| !(made && is_spent(group, pidfd.as_deref())));
    // At a place that was only to become ours there may be a container of somebody else by now; of ours, nothing is left there
    // that the next steps do not end.
    let unsure = record.phase == Phase::Creating && record.made.is_some();
    if let Some(group) = group.as_ref().filter(|_| !unsure) {
        group.kill().map_err(cannot)?;
    }
    if record.phase == Phase::Creating {
        turn_away(place, attempt)?;
    }
    if let Some(pidfd) = &pidfd {
        let gone = is_gone(pidfd, record).map_err(|error| Error::os(attempt, error))?;
        if !gone {
            return Err(Error::new(ErrorKind::State, format!("{attempt}: its process does not end")));
        }
        // It is ours to reap if we made it; the status was told to those who waited.
        let _reaped = sys::try_wait(pidfd);
    }
    match &group {
        Some(group) if unsure => remove_empty(group)?,
        Some(group) => remove_group(group)?,
        None => {}
    }
    if record.phase == Phase::Created {
        // It is empty, and so goes by itself, unless systemd is gone.
        handle.warn(group::forget(record).err());
    }
    keelbox_cgroups::resctrl::remove(&record.classes).map_err(crate::rdt::cannot)?;
    handle.warn(afterwards(place, record));
    place.remove()
}

/// Whether the group is gone already because nothing was left in it: the end of its first process is mostly the end of all, and to look
/// for others in every hierarchy takes longer than to try.
fn is_spent(group: &Group, process: Option<&OwnedFd>) -> bool {
    let ended =
        |process: &OwnedFd| crate::poll::readable(process.as_fd(), Some(Instant::now() + SOON)).unwrap_or(false);
    process.is_none_or(ended) && group.delete_within(MOMENT).is_ok()
}

/// Runs the hooks that come after the end, if the container was made at all, or other hooks of it have run. The directory is
/// still there: who is killed meanwhile runs them again.
pub(crate) fn afterwards(place: &Place, record: &Record) -> Vec<Error> {
    if record.phase == Phase::Creating && !record.hooked {
        return Vec::new();
    }
    match Scene::of(place, record) {
        Ok(scene) => scene.map(|scene| scene.afterwards()).unwrap_or_default(),
        Err(error) => vec![error],
    }
}

fn kill(pidfd: &OwnedFd, attempt: &str) -> Result<()> {
    match sys::send_signal(pidfd.as_fd(), SIGKILL) {
        Ok(()) | Err(keelbox_launch::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::os(attempt, errno)),
    }
}

/// Waits until the killed process has ended, or is nothing but a number: the first process of a pid namespace stays until all
/// others in it are reaped, which is the business of whatever program executed them there.
fn is_gone(pidfd: &OwnedFd, record: &Record) -> std::io::Result<bool> {
    let pid = record.process.as_ref().map_or(0, |process| process.pid);
    let wait = |patience| further::wait_for(pid, pidfd.as_fd(), Some(Instant::now() + patience));
    if wait(LINGERING)? {
        return Ok(true);
    }
    if record.process.as_ref().is_some_and(Identity::is_exiting) {
        return Ok(true);
    }
    wait(PATIENCE)
}

/// Waits until nobody holds the barrier of a container whose maker died in the midst of it. A process that was not written down
/// ends when it finds its maker gone, or when it is connected to and told nothing.
fn turn_away(place: &Place, attempt: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    loop {
        match barrier::connect(place) {
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => return Ok(()),
            Ok(_) | Err(Errno::EAGAIN) if Instant::now() < deadline => {}
            Ok(_) | Err(Errno::EAGAIN) => {
                return Err(Error::new(
                    ErrorKind::State,
                    format!("{attempt}: a process that was being made does not end"),
                ));
            }
            Err(errno) => return Err(Error::os(attempt, errno)),
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Removes the group unless somebody is in it.
fn remove_empty(group: &Group) -> Result<()> {
    match group.delete_within(LINGERING) {
        Err(error) if error.kind() == GroupError::Busy => Ok(()),
        other => other.map_err(cannot),
    }
}

/// Ends every process of the group and removes it.
pub(crate) fn remove_group(group: &Group) -> Result<()> {
    group.kill().map_err(cannot)?;
    group.wait_empty(PATIENCE).map_err(cannot)?;
    group.delete().map_err(cannot)
}

/// Ends a child that came to nothing.
pub(crate) fn end(pidfd: &OwnedFd) {
    let _ended = sys::send_signal(pidfd.as_fd(), SIGKILL);
    let _reaped = sys::wait(pidfd);
}
