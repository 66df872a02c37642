//! Makes a container up to the barrier, so that a crash at any moment leaves nothing that could not be found and removed.
//!
//! The order is: its directory, what is about to be made (the intent), the control group, the process, the process written down,
//! and only then the word that lets it wait for its start: a container that nobody has written down ends by itself.
//! Leaves out hooks. Oldest kernel: 5.10.

use std::fs::{self, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keelbox_cgroups::Group;
use keelbox_launch::{Event, Launch, Seat, Slot, Started, Step, Wait};
use keelbox_mounts::SlotAllocator;
use keelbox_runtime_spec::ContainerId;

use super::handle::Handle;
use super::identity::Identity;
use super::record::{Barrier, Phase, Record};
use super::root::{Place, Root};
use super::{barrier, group, remove};
use crate::built::Built;
use crate::control_group::cannot;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, namespaces_refused, run_with};
use crate::start::{clone_error, write_maps};
use crate::stdio::Stdio;
use crate::terminal::Tty;

/// Creates the container `id` below `root`.
pub(crate) fn create(built: &Built, root: &Path, id: ContainerId) -> Result<Handle> {
    let stdio = streams(built, &id)?;
    let place = Place::make(Root::make(root)?, id)?;
    let attempt = format!("cannot create container {}", place.id());
    let _lock = place.lock(&attempt)?;
    let mut making = Making { built, place: &place, record: None, group: None, launched: None, terminal: None };
    match making.make(&stdio) {
        Ok(()) => {
            let Making { launched, terminal, .. } = making;
            Ok(Handle::new(place, launched.map(|(pidfd, _)| pidfd), terminal))
        }
        Err(error) => {
            making.undo();
            Err(error)
        }
    }
}

/// The streams, if they can be those of a container that outlives this program; and nothing else that needs it.
fn streams(built: &Built, id: &ContainerId) -> Result<[Stdio; 3]> {
    let spec = &built.spec;
    let stdio = crate::builder::inherited(&spec.stdio);
    let listens = built.filter.as_ref().is_some_and(|filter| filter.flags & 8 != 0);
    let needs = [
        (
            stdio.iter().any(Stdio::needs_other_end),
            "streams through pipes need somebody at their other end: give files",
        ),
        (spec.descriptors.iter().any(Stdio::needs_other_end), "descriptors cannot be new pipes"),
        (spec.time_limit.is_some(), "nobody is there to enforce a time limit"),
        (spec.keep_changes, "nobody is there to collect its changes"),
        (spec.supervision.is_some() || listens, "nobody is there to decide about its system calls"),
    ];
    match needs.into_iter().find(|(needed, _)| *needed) {
        Some((_, why)) => {
            let why = format!("cannot create container {id}, which outlives this program: {why}");
            Err(Error::new(ErrorKind::Unsupported, why))
        }
        None => Ok(stdio),
    }
}

/// What has been made so far.
struct Making<'a> {
    built: &'a Built,
    place: &'a Place,
    record: Option<Record>,
    group: Option<Group>,
    launched: Option<(OwnedFd, u32)>,
    terminal: Option<Tty>,
}

impl Making<'_> {
    fn make(&mut self, stdio: &[Stdio; 3]) -> Result<()> {
        let built = self.built;
        let (plan, behind) = plan(built, stdio)?;
        let prospect = group::Prospect::new(self.place.id(), built)?;
        let kinds = built.inside().kinds;
        let mut intent =
            Record::intent(prospect.directories.clone(), built.spec.bundle.clone(), kinds, built.filter.as_ref());
        intent.made.clone_from(&prospect.made);
        self.place.write(&intent)?;
        self.record = Some(intent);
        self.write_config()?;
        let mut seat = None;
        if let Some((group, taken)) = prospect.make(built)? {
            (self.group, seat) = (Some(group), taken);
        }
        let mut started = self.launch(&plan, behind, stdio, seat)?;
        self.written_down(&started.pidfd, started.pid)?;
        self.talk(&mut started, &plan)?;
        // Waited for only where the stage cloned once more: it has ended by now.
        if self.launched.as_ref().is_some_and(|(_, pid)| *pid != started.pid) {
            let _reaped = keelbox_launch::sys::wait(&started.pidfd);
        }
        Ok(())
    }

    /// The whole configuration, since later changes of the bundle must not matter.
    fn write_config(&self) -> Result<()> {
        crate::bundle::write(self.built, &self.place.file("."))?;
        let file = self.place.file("config.json");
        let closed = fs::set_permissions(file, Permissions::from_mode(0o600));
        closed.map_err(|error| {
            Error::os(format!("cannot write down the configuration of container {}", self.place.id()), error)
        })
    }

    fn launch(&mut self, plan: &Plan, behind: usize, stdio: &[Stdio; 3], seat: Option<Seat>) -> Result<Started> {
        let streams = crate::start::Streams::open(stdio, &self.built.spec.descriptors)?;
        let joins = plan.namespaces.open().map_err(namespaces_refused)?;
        let listener = barrier::make(self.place)?;
        let theirs = streams.theirs.iter().map(AsFd::as_fd).chain(joins.iter().map(AsFd::as_fd));
        let descriptors: Vec<BorrowedFd<'_>> = theirs.chain([listener.as_fd()]).collect();
        let barrier = Barrier::of(plan, behind, descriptors.len());
        if let Some(record) = &mut self.record {
            record.barrier = Some(barrier);
        }
        let launch = Launch::new(&plan.steps)
            .descriptors(descriptors)
            .namespaces(plan.namespaces.clone_flags())
            .cgroup(self.group.as_ref().and_then(Group::directory))
            .reserve(plan.reserve)
            .seat(seat);
        let started = launch.start().map_err(|error| clone_error(error, plan))?;
        let copy = started.pidfd.try_clone().map_err(|error| Error::os("cannot duplicate a pidfd", error));
        match copy {
            Ok(copy) => self.launched = Some((copy, started.pid)),
            Err(error) => {
                remove::end(&started.pidfd);
                return Err(error);
            }
        }
        Ok(started)
    }

    /// Writes down the process, with the phase that the record has.
    fn written_down(&mut self, pidfd: &OwnedFd, pid: u32) -> Result<()> {
        let identity = Identity::of(pid, pidfd.as_fd())?;
        match &mut self.record {
            Some(record) => {
                record.process = Some(identity);
                self.place.write(record)
            }
            None => Ok(()),
        }
    }

    /// Answers the stage until it waits at the barrier.
    fn talk(&mut self, started: &mut Started, plan: &Plan) -> Result<()> {
        let lost = |error| Error::os("cannot talk to the stage", error);
        loop {
            match started.control.event(None).map_err(lost)? {
                Event::Waiting(Wait::Connection) => return Ok(()),
                Event::Waiting(wait) => {
                    match wait {
                        Wait::Maps => write_maps(started.pid, plan)?,
                        Wait::Start => self.complete()?,
                        _ => {}
                    }
                    started.control.proceed(&[], &[], plan.reserve).map_err(lost)?;
                }
                Event::Failed(failure) => return Err(plan.sentence(failure)),
                Event::Running => {
                    let why = format!("cannot create container {}: its process was killed", self.place.id());
                    return Err(Error::new(ErrorKind::State, why));
                }
                Event::Forked { pidfd, pid } => {
                    self.written_down(&pidfd, pid)?;
                    self.launched = Some((pidfd, pid));
                }
                Event::Descriptor { step, descriptor } => {
                    if matches!(plan.steps.get(step as usize), Some(Step::Terminal { .. })) {
                        self.terminal = Some(Tty::new(descriptor));
                    }
                }
                _ => {}
            }
        }
    }

    /// All is set up: from now on the container lives without us.
    fn complete(&mut self) -> Result<()> {
        if let (Some(group), Some(limits)) = (&self.group, group::late(&self.built.spec)) {
            group.update(&limits).map_err(cannot)?;
        }
        let Some(record) = &mut self.record else { return Ok(()) };
        record.phase = Phase::Created;
        match &self.group {
            Some(group) => group::note(record, group),
            None => record.group.clear(),
        }
        self.place.write(record)
    }

    /// Takes everything back. What cannot be taken back stays written down, so that it can be deleted later.
    fn undo(self) {
        if let Some((pidfd, _)) = &self.launched {
            remove::end(pidfd);
        }
        let emptied = self.group.is_none_or(|group| remove::remove_group(&group).is_ok());
        if emptied {
            let _left = self.place.remove();
        }
    }
}

/// The steps of a run that nobody ends, with the barrier in them; and the number of the first step behind it.
fn plan(built: &Built, stdio: &[Stdio; 3]) -> Result<(Plan, usize)> {
    let mut built = built.clone();
    (built.spec.detached, built.seated) = (true, false);
    let streams = crate::plan::Streams::of(stdio, built.spec.descriptors.len());
    let mut listener = Slot::NONE;
    let mut plan = run_with(&built, &streams, None, &mut SlotAllocator::default(), |root, slots| {
        // The first free slot is the one behind the streams and the joined namespaces, where the launch puts it.
        listener = slots.allocate()?;
        root.plan(slots)
    })?;
    let behind = barrier::insert(&mut plan.steps, listener);
    Ok((plan, behind))
}
