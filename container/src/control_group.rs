//! The control group of one container: made before the process exists, gone after it.

use std::os::fd::BorrowedFd;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keelbox_cgroups::{Builder, Controller, Group, Hierarchy, Limits, Parent};
use keelbox_launch::Seat;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::Spec;

static COUNTER: AtomicU64 = AtomicU64::new(0);
static SWEPT: Once = Once::new();

/// A group made for one container, and on cgroup v1 the thread that sits in it to clone.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    group: Group,
    /// Behind a lock that is never contended, so that a process handle can be shared between threads.
    seat: Mutex<Option<Seat>>,
}

impl ControlGroup {
    /// Makes a group with these limits. It carries the name of this process, so that a later one can sweep up after a crash.
    pub(crate) fn create(spec: &Spec, hierarchy: &Hierarchy) -> Result<Self> {
        SWEPT.call_once(|| {
            // What programs left that were killed. Whoever cannot sweep can still make groups.
            let _swept = keelbox_cgroups::gc(&Parent::Own);
        });
        let name = format!("keelbox-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let group = builder(&name, spec, hierarchy).owned().create().map_err(cannot)?;
        restrict(&group, spec)?;
        let seat = Mutex::new(seat(&group)?);
        Ok(Self { group, seat })
    }

    /// The thread that clones on cgroup v1; once.
    pub(crate) fn take_seat(&mut self) -> Option<Seat> {
        self.seat.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The directory to be born in on cgroup v2; beside the seat on a hybrid host.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.group.directory()
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Ends every process of the group and removes it.
    pub(crate) fn end(mut self) -> Result<()> {
        if let Some(seat) = self.take_seat() {
            seat.leave();
        }
        // The end of a pid namespace has ended everything in it: mostly there is nothing left to kill.
        if self.group.delete_within(Duration::ZERO).is_ok() {
            return Ok(());
        }
        self.group.kill().map_err(cannot)?;
        self.group.wait_empty(Duration::from_secs(10)).map_err(cannot)?;
        self.group.delete().map_err(cannot)
    }
}

/// Whether a group with `limits` can be made here at all: for limits that the caller does not insist on. It is tried, since who
/// may make groups is a question of owners, modes and read-only mounts in every hierarchy.
pub(crate) fn possible(limits: &Limits) -> Result<bool> {
    let name = format!("keelbox-try-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    match Group::create_owned(&name, limits).map_err(cannot) {
        Ok(group) => group.delete().map(|()| true).map_err(cannot),
        Err(error) if error.kind() == ErrorKind::Limit => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // A thread that still sits in the group would keep it from being removed by the group's own drop, which comes next.
        if let Some(seat) = self.take_seat() {
            seat.leave();
        }
    }
}

/// A group for `spec`, to be made: with its limits, and with what its device rules need.
pub(crate) fn builder(name: &str, spec: &Spec, hierarchy: &Hierarchy) -> Builder {
    let devices = spec.devices.as_ref().map(|_| Controller::Devices);
    Group::builder(name).limits(&spec.limits).hierarchy(hierarchy).controllers(devices)
}

/// Forbids the processes of the group what the device rules of `spec` forbid.
pub(crate) fn restrict(group: &Group, spec: &Spec) -> Result<()> {
    spec.devices.as_ref().map_or(Ok(()), |rules| group.devices(rules).map_err(cannot))
}

/// On cgroup v1, a thread in the group that clones.
pub(crate) fn seat(group: &Group) -> Result<Option<Seat>> {
    let tasks = group.tasks_files().map_err(cannot)?;
    let seat = if tasks.is_empty() { None } else { Some(Seat::take(tasks)) };
    seat.transpose().map_err(|error| Error::os("cannot start a thread in the control group", error))
}

/// A limit that cannot be had is the caller's business by its own kind.
pub(crate) fn cannot(error: keelbox_cgroups::Error) -> Error {
    use keelbox_cgroups::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::InvalidLimit | Kind::InvalidPath => ErrorKind::Invalid,
        Kind::PermissionDenied | Kind::Unsupported | Kind::NotApplied | Kind::InternalProcesses => ErrorKind::Limit,
        // What the kernel says to a value that it cannot take: a processor that is not there, for instance.
        Kind::Os(22 | 34) => ErrorKind::Limit,
        Kind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Other,
    };
    Error::from_part(kind, "cannot set up the control group", error)
}
