//! The end of a named container: signals to all of it, and how it ended, from whoever still knows.
//!
//! Leaves out removing it. Oldest kernel: 5.10.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use keelbox_cgroups::Group;
use keelbox_launch::Errno;
use keelbox_launch::sys::{self, Exit};

use super::group;
use super::handle::Handle;
use super::record::Record;
use crate::control_group::cannot;
use crate::error::{Error, Result};
use crate::exit::{ExitStatus, Reason, Usage};
use crate::further;
use crate::signal::Signal;

/// How long one who cannot know himself waits for the parent, who reaps the process at about this moment, to write it down.
const AFTERMATH: Duration = Duration::from_millis(200);

/// Sends a signal to every process in the group.
pub(crate) fn kill_all(group: &Group, signal: Signal, attempt: &str) -> Result<()> {
    if signal == Signal::KILL {
        return group.kill().map_err(cannot);
    }
    for pid in group.processes().map_err(cannot)? {
        let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
        // Looked at again behind the descriptor: the number may have become another process's before that was opened.
        if !group.processes().map_err(cannot)?.contains(&pid) {
            continue;
        }
        match sys::send_signal(pidfd.as_fd(), signal.number()) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::os(attempt, errno)),
        }
    }
    Ok(())
}

/// Waits for the end of the first process, and tells what is known of it.
pub(crate) fn wait(handle: &Handle) -> Result<Option<ExitStatus>> {
    let attempt = format!("cannot wait for container {}", handle.id());
    let (record, _) = handle.look(&attempt)?;
    if let Some(status) = record.end() {
        return Ok(Some(status));
    }
    let Some(process) = handle.process(&record) else { return Ok(None) };
    let pid = record.process.as_ref().map_or(0, |process| process.pid);
    further::wait_for(pid, process.as_fd(), None).map_err(|error| Error::os(attempt.clone(), error))?;
    match learn(&process, &record, &attempt)? {
        Some(status) => {
            write_down(handle, &status);
            Ok(Some(status))
        }
        None => Ok(overheard(handle)),
    }
}

/// From the kernel: as its parent, from what it remembers, or of the zombie.
fn learn(process: &OwnedFd, record: &Record, attempt: &str) -> Result<Option<ExitStatus>> {
    let group = group::find(record)?;
    let raw = match sys::wait(process) {
        Ok(exit) => {
            let usage = usage(&exit, record, group.as_ref());
            return Ok(Some(explained(ExitStatus::new(&exit, None, usage), group.as_ref())));
        }
        Err(Errno::ECHILD) => {
            let remembered = || sys::remembered_status(process.as_fd());
            // It may be reaped between the first two questions, but not back.
            remembered().or_else(|| record.process.as_ref()?.zombie_status()).or_else(remembered)
        }
        Err(errno) => return Err(Error::os(attempt, errno)),
    };
    Ok(raw.map(|raw| explained(ExitStatus::from_raw(raw), group.as_ref())))
}

/// A bare `SIGKILL` does not tell that the kernel sent it for want of memory.
fn explained(status: ExitStatus, group: Option<&Group>) -> ExitStatus {
    let kills = group.and_then(|group| group.oom_kills().ok().flatten()).unwrap_or(0);
    let killed = status.signal() == Some(Signal::KILL.number());
    if killed && kills > 0 { status.because(Reason::OutOfMemory) } else { status }
}

fn usage(exit: &Exit, record: &Record, group: Option<&Group>) -> Usage {
    let used = group.map(Group::used).unwrap_or_default();
    let cpu = used.cpu.unwrap_or(exit.user_time + exit.system_time);
    let peak_memory = used.peak_memory.unwrap_or(exit.peak_memory);
    Usage { cpu, peak_memory, wall: record.age() }
}

/// For those who ask later. That it cannot be written down does not make it less true.
fn write_down(handle: &Handle, status: &ExitStatus) {
    let place = handle.place();
    if let Ok(_lock) = place.lock("cannot write down the end")
        && let Ok(Some(mut record)) = place.read()
        && record.end().is_none()
    {
        record.mark_ended(status);
        let _written = place.write(&record);
    }
}

/// What somebody else has learnt and written down.
fn overheard(handle: &Handle) -> Option<ExitStatus> {
    let deadline = Instant::now() + AFTERMATH;
    loop {
        let status = handle.place().read().ok().flatten().and_then(|record| record.end());
        if status.is_some() || Instant::now() >= deadline {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
