//! The launch of a stage and the talk with it: what it waits for, what it hands over, which process goes on with its steps.
//!
//! Every container and every further program comes this way. Leaves out what becomes of the program afterwards. Oldest kernel:
//! 5.10.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use keelbox_launch::{Event, Launch, OwnedStep, Seat, Started, Step, Wait};
use keelbox_namespaces::{Attempt, Refusal};

use crate::control_group::ControlGroup;
use crate::error::{Error, ErrorKind, Result};
use crate::handover::{self, Agent};
use crate::network::Wired;
use crate::notify::{Supervision, Supervisor};
use crate::plan::Plan;
use crate::stdio::Descriptor;
use crate::terminal::Tty;

/// What the stage handed over on the way.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) terminal: Option<Tty>,
    pub(crate) forked: Option<(OwnedFd, u32)>,
    pub(crate) supervisor: Option<Supervisor>,
    /// What connects the container.
    pub(crate) wired: Option<Wired>,
    /// A listener that could not be handed over: closed when the program has ended, lest it be told `ENOSYS` meanwhile.
    left: Option<OwnedFd>,
}

impl Received {
    /// The process that goes on with the steps, as this program knows it.
    fn current<'a>(&'a self, started: &'a Started) -> (&'a OwnedFd, u32) {
        self.forked.as_ref().map_or((&started.pidfd, started.pid), |(pidfd, pid)| (pidfd, *pid))
    }

    /// The process that is left to wait for. A stage that cloned once more has ended, and is reaped.
    pub(crate) fn survivor(&mut self, started: Started) -> (OwnedFd, u32) {
        match self.forked.take() {
            Some(forked) => {
                let _reaped = keelbox_launch::sys::wait(&started.pidfd);
                forked
            }
            None => (started.pidfd, started.pid),
        }
    }
}

/// Whoever looks on while a stage is talked with. A failure of its own ends the launch.
pub(crate) trait Witness {
    /// This process performs the steps from now on.
    fn process(&mut self, pidfd: &OwnedFd, pid: u32) -> Result<()>;

    /// It waits, and goes on when this returns.
    fn waiting(&mut self, what: Wait, pidfd: &OwnedFd, pid: u32) -> Result<()>;
}

/// For those who only want the end of it.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Witness for Nobody {
    fn process(&mut self, _: &OwnedFd, _: u32) -> Result<()> {
        Ok(())
    }

    fn waiting(&mut self, _: Wait, _: &OwnedFd, _: u32) -> Result<()> {
        Ok(())
    }
}

/// Who gets the listener of a system call filter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decider<'a> {
    /// Nobody: it is closed at once, and what it would have been asked is answered with `ENOSYS`.
    Nobody,
    /// A thread of this program.
    Here(&'a Supervision),
    /// Another program.
    Agent(&'a Agent),
}

/// Where a stage is born.
#[derive(Debug, Default)]
pub(crate) struct Cradle<'a> {
    pub(crate) directory: Option<BorrowedFd<'a>>,
    pub(crate) seat: Option<Seat>,
}

impl<'a> Cradle<'a> {
    /// In this group, if there is one.
    pub(crate) fn of(group: &'a mut Option<ControlGroup>) -> Self {
        let seat = group.as_mut().and_then(ControlGroup::take_seat);
        Self { directory: group.as_ref().and_then(ControlGroup::directory), seat }
    }
}

/// How far to talk with the stage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Until {
    /// Until the program runs.
    Running,
    /// Until the stage waits for this.
    Waiting(Wait),
}

/// What is needed to talk with a stage about its steps.
pub(crate) struct Talk<'a> {
    pub(crate) plan: &'a Plan,
    /// What the stage was sent before; it counts on from there.
    pub(crate) done: &'a [OwnedStep],
    pub(crate) steps: &'a [OwnedStep],
    pub(crate) decider: Decider<'a>,
    /// The socket that gets the terminal; it stays here otherwise.
    pub(crate) console: Option<&'a Path>,
    pub(crate) until: Until,
}

/// Launches the stage and talks with it. If that fails nothing of it is left, but the group, which is the caller's.
pub(crate) fn launch(
    talk: &Talk<'_>,
    theirs: &[Descriptor],
    opened: &[OwnedFd],
    cradle: Cradle<'_>,
    received: &mut Received,
    witness: &mut dyn Witness,
) -> Result<Started> {
    let plan = talk.plan;
    let joins = match plan.open() {
        Ok(joins) => joins,
        Err(error) => {
            // Its thread holds files of the group.
            let _left = cradle.seat.map(Seat::leave);
            return Err(error);
        }
    };
    let descriptors = theirs.iter().map(AsFd::as_fd).chain(joins.iter().chain(opened).map(AsFd::as_fd));
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.collect();
    let launched = Launch::new(talk.steps)
        .descriptors(descriptors)
        .namespaces(plan.namespaces.clone_flags())
        .cgroup(cradle.directory)
        .reserve(plan.reserve)
        .seat(cradle.seat)
        .start();
    let mut started = launched.map_err(|error| clone_error(error, plan))?;
    let born = witness.process(&started.pidfd, started.pid);
    match born.and_then(|()| talk.listen(&mut started, received, witness)) {
        Ok(()) => Ok(started),
        Err(error) => {
            abandon(&started, received);
            Err(error)
        }
    }
}

/// Ends what was started and reaps it.
pub(crate) fn abandon(started: &Started, received: &Received) {
    // Of a further program both have to go: a zombie in a pid namespace would keep its container from ever ending.
    let forked = received.forked.as_ref().map(|(pidfd, _)| pidfd);
    for pidfd in [Some(&started.pidfd), forked].into_iter().flatten() {
        let _killed = keelbox_launch::sys::send_signal(pidfd.as_fd(), 9);
        let _reaped = keelbox_launch::sys::wait(pidfd);
    }
}

impl Talk<'_> {
    /// Answers the stage until it is where it should be.
    pub(crate) fn listen(
        &self,
        started: &mut Started,
        received: &mut Received,
        witness: &mut dyn Witness,
    ) -> Result<()> {
        let lost = |error| Error::os("cannot talk to the stage", error);
        loop {
            match started.control.event(None).map_err(lost)? {
                Event::Running if self.until == Until::Running => return Ok(()),
                Event::Running => return Err(Error::new(ErrorKind::State, "the stage ended before its start")),
                Event::Failed(failure) => {
                    return Err(crate::plan::step_error(&[self.done, self.steps].concat(), failure));
                }
                Event::Waiting(what) if self.until == Until::Waiting(what) => return Ok(()),
                Event::Waiting(what) => {
                    if what == Wait::Maps {
                        write_maps(started.pid, self.plan)?;
                    }
                    if what == Wait::Devices {
                        let (_, pid) = received.current(started);
                        received.wired = Some(self.plan.wiring.connect(pid)?);
                    }
                    let (pidfd, pid) = received.current(started);
                    witness.waiting(what, pidfd, pid)?;
                    started.control.proceed(&[], &[], self.plan.reserve).map_err(lost)?;
                }
                Event::Forked { pidfd, pid } => {
                    let told = witness.process(&pidfd, pid);
                    received.forked = Some((pidfd, pid));
                    told?;
                }
                Event::Descriptor { step, descriptor } => self.keep(step, descriptor, started, received)?,
                _ => {}
            }
        }
    }

    fn keep(&self, step: u32, descriptor: OwnedFd, started: &Started, received: &mut Received) -> Result<()> {
        let step = self.done.iter().chain(self.steps).nth(step as usize);
        if matches!(step, Some(Step::Terminal { .. })) {
            match self.console {
                Some(socket) => handover::terminal(socket, &descriptor)?,
                None => received.terminal = Some(Tty::new(descriptor)),
            }
            return Ok(());
        }
        match self.decider {
            Decider::Nobody => {}
            Decider::Here(supervision) => {
                received.supervisor = Some(crate::filter::supervise(descriptor, supervision)?);
            }
            Decider::Agent(agent) => {
                let told = agent.tell(&descriptor, received.current(started).1);
                if told.is_err() {
                    received.left = Some(descriptor);
                }
                return told;
            }
        }
        Ok(())
    }
}

fn write_maps(pid: u32, plan: &Plan) -> Result<()> {
    let Some((maps, method)) = plan.namespaces.maps_to_write() else { return Ok(()) };
    keelbox_namespaces::write(pid, maps, method)
        .map_err(|error| Error::from_part(ErrorKind::PermissionDenied, "cannot write the id maps", error))
}

/// Why the clone was refused: often a setting of the machine, which the namespaces crate knows to name.
fn clone_error(error: std::io::Error, plan: &Plan) -> Error {
    let kinds = keelbox_namespaces::NamespaceSet::from_flags(plan.namespaces.clone_flags() as u32);
    let number = error.raw_os_error();
    let error = Error::os("cannot clone into new namespaces", error);
    match number {
        // Which setting of the machine forbids it; for other error numbers the kernel's word is all there is.
        Some(number @ (1 | 22 | 28 | 87)) if !kinds.is_empty() => {
            error.with_hint(Refusal::explain(Attempt::Create(kinds), number).to_string())
        }
        _ => error,
    }
}
