//! The control group of one container: made before the process exists, gone after it.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use keelbox_cgroups::{
    Builder, Controller, ErrorKind as GroupError, Existing, Group, Hierarchy, Layout, Limits, Parent, Reach,
};
use keelbox_launch::Seat;
use keelbox_namespaces::Kind;
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::Spec;

static COUNTER: AtomicU64 = AtomicU64::new(0);
static SWEPT: Once = Once::new();

/// A group made for one container, and on cgroup v1 the thread that sits in it to clone.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    group: Arc<Group>,
    /// Behind a lock that is never contended, so that a process handle can be shared between threads.
    seat: Mutex<Option<Seat>>,
}

impl ControlGroup {
    /// Makes a group with these limits. It carries the name of this process, so that a later one can sweep up after a crash. None is made where
    /// the caller may not make one and nothing depends on it.
    pub(crate) fn create(spec: &Spec, hierarchy: &Hierarchy) -> Result<Option<Self>> {
        SWEPT.call_once(|| {
            // What programs left that were killed. Whoever cannot sweep can still make groups.
            let _swept = keelbox_cgroups::gc(&Parent::Own);
        });
        if spec.systemd.is_some() {
            let why = "cannot have systemd make the control group of a container without a name";
            return Err(Error::new(ErrorKind::Unsupported, why).with_hint("create it with a name"));
        }
        room_for_one(spec, hierarchy)?;
        let name = format!("keelbox-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let builder = builder(&name, spec, &spec.limits, hierarchy);
        // A place that somebody else names cannot bear our mark.
        let builder = if spec.placement.is_some() { builder } else { builder.owned() };
        let group = match builder.create() {
            Err(error) if !insisted(spec) && is_closed(&error) => return Ok(None),
            made => made.map_err(cannot)?,
        };
        complete(&group, spec, hierarchy)?;
        let seat = Mutex::new(seat(&group)?);
        Ok(Some(Self { group: Arc::new(group), seat }))
    }

    /// The group, for those who do not keep it.
    pub(crate) fn shared(&self) -> &Arc<Group> {
        &self.group
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
///
/// That it can is remembered, for these limits and the groups that this thread is in. That it cannot is tried again, which costs
/// little, and may change when somebody hands groups over to this user.
pub(crate) fn possible(limits: &Limits) -> Result<bool> {
    /// Limits that a group could be made with, by the text that says where this thread was.
    static POSSIBLE: Mutex<Vec<(String, Limits)>> = Mutex::new(Vec::new());
    const MOST: usize = 64;
    let place = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
    let known = || POSSIBLE.lock().unwrap_or_else(PoisonError::into_inner);
    if known().iter().any(|(other, same)| *other == place && same == limits) {
        return Ok(true);
    }
    let possible = tried(limits)?;
    if possible {
        let mut known = known();
        if known.len() == MOST {
            let _oldest = known.remove(0);
        }
        known.push((place, limits.clone()));
    }
    Ok(possible)
}

fn tried(limits: &Limits) -> Result<bool> {
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

/// The limit of processes and threads below which nothing can be cloned into a group: there the limit has to come later.
pub(crate) const CROWDED: u64 = 1;

/// The program is cloned into its group, on v1 by a thread in it.
fn room_for_one(spec: &Spec, hierarchy: &Hierarchy) -> Result<()> {
    match spec.limits.values().pids {
        Some(0) => Err(Error::new(ErrorKind::Invalid, "cannot limit pids to 0: the program is a process itself")
            .with_hint("a container with a name can be limited so")),
        Some(CROWDED) if !hierarchy.legacy().is_empty() => {
            let why = "cannot limit pids to 1 on cgroup v1, where the thread that clones is counted too";
            Err(Error::new(ErrorKind::Limit, why).with_hint("2 is the least, but for a container with a name"))
        }
        _ => Ok(()),
    }
}

/// A group for `spec`, to be made: where it is wanted or else called `name`, with limits, and with what its device rules need.
pub(crate) fn builder(name: &str, spec: &Spec, limits: &Limits, hierarchy: &Hierarchy) -> Builder {
    let devices = spec.devices.as_ref().map(|_| Controller::Devices);
    let builder = match &spec.placement {
        Some(placement) => Group::builder(placement.path())
            .parent(placement.parent.clone())
            .existing(Existing::Adopted)
            .reach(Reach::All),
        None => Group::builder(name),
    };
    builder.limits(limits).hierarchy(hierarchy).controllers(devices)
}

/// Forbids the processes of the group what the device rules of `spec` forbid, and gives the group to its user where it is to be his.
pub(crate) fn complete(group: &Group, spec: &Spec, hierarchy: &Hierarchy) -> Result<()> {
    if let Some(rules) = &spec.devices {
        match group.devices(rules) {
            // An ordinary user's processes open no device that he could not open himself, and he cannot make nodes.
            Err(error) if spec.modest && is_closed(&error) => {}
            other => other.map_err(cannot)?,
        }
    }
    match heir(spec).filter(|_| hierarchy.layout() == Layout::V2) {
        Some(owner) => group.chown(owner).map_err(cannot),
        None => Ok(()),
    }
}

/// Whether the container is to have a group.
pub(crate) fn wanted(spec: &Spec) -> bool {
    insisted(spec) || spec.devices.is_some() || spec.placement.is_some()
}

/// Whether the container cannot be without its group.
pub(crate) fn insisted(spec: &Spec) -> bool {
    let restricted = spec.devices.is_some() && !spec.modest;
    spec.grouped || spec.systemd.is_some() || restricted || !spec.limits.is_empty()
}

/// Whether a group is simply not the caller's to make or change.
pub(crate) fn is_closed(error: &keelbox_cgroups::Error) -> bool {
    matches!(error.kind(), GroupError::PermissionDenied | GroupError::Unsupported | GroupError::InternalProcesses)
}

/// The host's id of the user to whom the group is to belong: the one of the program, if the container can see and change its group.
fn heir(spec: &Spec) -> Option<u32> {
    let shown = |mount: &oci::Mount| matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
    let read_only = |mount: &oci::Mount| mount.options().iter().flatten().any(|option| option == "ro");
    let writable = spec.oci.mounts().iter().flatten().any(|mount| shown(mount) && !read_only(mount));
    if !writable || !spec.has_new(Kind::Cgroup) {
        return None;
    }
    let user = spec.oci.process().as_ref().map_or(0, |process| process.user().uid());
    if !spec.has(Kind::User) {
        return Some(user);
    }
    let maps = spec.oci.linux().as_ref()?.uid_mappings().iter().flatten();
    let inside =
        |map: &&oci::LinuxIdMapping| user.checked_sub(map.container_id()).is_some_and(|offset| offset < map.size());
    let map = maps.into_iter().find(inside)?;
    map.host_id().checked_add(user - map.container_id())
}

/// On cgroup v1, a thread in the group that clones.
pub(crate) fn seat(group: &Group) -> Result<Option<Seat>> {
    let tasks = group.tasks_files().map_err(cannot)?;
    let seat = if tasks.is_empty() { None } else { Some(Seat::take(tasks)) };
    seat.transpose().map_err(|error| Error::os("cannot start a thread in the control group", error))
}

/// A limit that cannot be had is the caller's business by its own kind.
pub(crate) fn cannot(error: keelbox_cgroups::Error) -> Error {
    Error::from_part(kind_of(&error), "cannot set up the control group", error)
}

/// What kind of failure of ours an error of that crate is.
pub(crate) fn kind_of(error: &keelbox_cgroups::Error) -> ErrorKind {
    use keelbox_cgroups::ErrorKind as Kind;
    match error.kind() {
        Kind::InvalidLimit | Kind::InvalidPath => ErrorKind::Invalid,
        Kind::PermissionDenied | Kind::Unsupported | Kind::NotApplied | Kind::InternalProcesses => ErrorKind::Limit,
        // What the kernel says to a value that it cannot take: a processor that is not there, for instance.
        Kind::Os(22 | 34) => ErrorKind::Limit,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::AlreadyExists => ErrorKind::Exists,
        Kind::Busy => ErrorKind::State,
        _ => ErrorKind::Other,
    }
}
