//! A process that only waits, so that systemd has one to begin a scope with.
//!
//! Leaves out what is born in the scope afterwards. Oldest kernel: 5.10.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use keelbox_launch::{Launch, Slot, Started, Step, Wait, sys};

use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::{Hierarchy, Mount};

/// A process that only waits; it ends when this is dropped, and with this program.
#[derive(Debug)]
pub struct Holder {
    started: Started,
}

impl Holder {
    pub(super) fn start() -> Result<Self> {
        let cannot = |error| Error::io("cannot start a process to begin a scope with", error);
        let steps = [Step::Dies { signal: 9 }, Step::Wait { what: Wait::Start, listener: Slot::NONE }];
        let started = Launch::new(&steps).start().map_err(cannot)?;
        Ok(Self { started })
    }

    pub(super) fn pid(&self) -> u32 {
        self.started.pid
    }

    /// The directory of the group that it is in, which must be that of `unit`: the kernel knows better than we where that is.
    pub(super) fn directory(&self, unit: &str) -> Result<PathBuf> {
        let file = format!("/proc/{}/cgroup", self.pid());
        let text = fs::read_to_string(&file).map_err(|error| Error::io(format!("cannot read {file}"), error))?;
        let mountinfo = "/proc/self/mountinfo";
        let mounts = fs::read(mountinfo).map_err(|error| Error::io(format!("cannot read {mountinfo}"), error))?;
        let found = Hierarchy::detect_from(&mounts, &text);
        let own = found.unified().and_then(Mount::own).filter(|own| own.ends_with(unit));
        own.map(PathBuf::from).ok_or_else(|| {
            let why = format!("cannot find the control group of {unit}: its process is in {}", text.trim());
            Error::new(ErrorKind::NotFound, why)
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _killed = sys::send_signal(self.started.pidfd.as_fd(), 9);
        let _reaped = sys::wait(&self.started.pidfd);
    }
}
