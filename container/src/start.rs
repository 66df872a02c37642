//! From a plan to a running process: opens what the plan needs, launches, talks with the stage until the program runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use keelbox_launch::{Event, Launch, OwnedStep, Started, Step, Wait};
use keelbox_namespaces::{Attempt, Refusal};

use crate::control_group::ControlGroup;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Inside;
use crate::feeder::Feeder;
use crate::notify::{Supervision, Supervisor};
use crate::plan::Plan;
use crate::plan::namespaces_refused;
use crate::process::{Life, Process};
use crate::stdio::{Descriptor, Stdio};
use crate::terminal::Tty;

/// What a start needs beside its plan.
pub(crate) struct Start<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) descriptors: &'a [Stdio],
    /// Open files that come after joined namespaces: prepared mount trees.
    pub(crate) trees: &'a [OwnedFd],
    pub(crate) group: Option<ControlGroup>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) supervision: Option<&'a Supervision>,
    pub(crate) detached: bool,
    pub(crate) inside: Inside,
}

/// The program's and our own ends of its standard streams.
pub(crate) struct Streams {
    pub(crate) theirs: Vec<Descriptor>,
    stdin: Option<std::io::PipeWriter>,
    stdout: Option<std::io::PipeReader>,
    stderr: Option<std::io::PipeReader>,
}

impl Streams {
    pub(crate) fn open(stdio: &[Stdio; 3], more: &[Stdio]) -> Result<Self> {
        let (input, stdin) = stdio[0].input()?;
        let (output, stdout) = stdio[1].output()?;
        let (errors, stderr) = stdio[2].output()?;
        let mut theirs: Vec<Descriptor> = [input, output, errors].into_iter().flatten().collect();
        for descriptor in more {
            let nothing =
                || Error::new(ErrorKind::Invalid, "a further descriptor can be neither a new pipe nor inherited");
            theirs.push(descriptor.output()?.0.ok_or_else(nothing)?);
        }
        Ok(Self { theirs, stdin, stdout, stderr })
    }
}

/// What the stage sent on the way.
#[derive(Debug, Default)]
pub(crate) struct Received {
    terminal: Option<Tty>,
    pub(crate) forked: Option<(OwnedFd, u32)>,
    supervisor: Option<Supervisor>,
}

/// Starts the program of a plan.
pub(crate) fn start(mut start: Start<'_>) -> Result<Process> {
    let begun = Instant::now();
    let streams = Streams::open(&start.stdio, start.descriptors)?;
    let mut received = Received::default();
    let talk = Talk {
        plan: start.plan,
        done: &[],
        steps: &start.plan.steps,
        supervision: start.supervision,
        until: Until::Running,
    };
    let started = launch(&talk, &streams.theirs, start.trees, &mut start.group, &mut received)?;
    finish(started, start, streams, received, begun)
}

/// Launches the stage and talks with it. Nothing is left behind if that fails.
pub(crate) fn launch(
    talk: &Talk<'_>,
    theirs: &[Descriptor],
    trees: &[OwnedFd],
    group: &mut Option<ControlGroup>,
    received: &mut Received,
) -> Result<Started> {
    let plan = talk.plan;
    let joins = plan.namespaces.open().map_err(namespaces_refused)?;
    let seat = group.as_mut().and_then(ControlGroup::take_seat);
    let descriptors = theirs.iter().map(AsFd::as_fd).chain(joins.iter().chain(trees).map(AsFd::as_fd));
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.collect();
    let launched = Launch::new(talk.steps)
        .descriptors(descriptors)
        .namespaces(plan.namespaces.clone_flags())
        .cgroup(group.as_ref().and_then(ControlGroup::directory))
        .reserve(plan.reserve)
        .seat(seat)
        .start();
    let mut started = launched.map_err(|error| clone_error(error, plan))?;
    match talk.listen(&mut started, received) {
        Ok(()) => Ok(started),
        Err(error) => {
            abandon(&started, received, group.take());
            Err(error)
        }
    }
}

/// Ends what was started and reaps it.
pub(crate) fn abandon(started: &Started, received: &Received, group: Option<ControlGroup>) {
    // Of a further program both have to go: a zombie in a pid namespace would keep its container from ever ending.
    let forked = received.forked.as_ref().map(|(pidfd, _)| pidfd);
    for pidfd in [Some(&started.pidfd), forked].into_iter().flatten() {
        let _killed = keelbox_launch::sys::send_signal(pidfd.as_fd(), 9);
        let _reaped = keelbox_launch::sys::wait(pidfd);
    }
    let _ended = group.map(ControlGroup::end);
}

/// The handle of a program that runs.
pub(crate) fn finish(
    started: Started,
    start: Start<'_>,
    streams: Streams,
    received: Received,
    begun: Instant,
) -> Result<Process> {
    let (pidfd, pid) = match received.forked {
        Some((pidfd, pid)) => {
            // The stage that cloned once more has ended; only the program is left to wait for.
            let _reaped = keelbox_launch::sys::wait(&started.pidfd);
            (pidfd, pid)
        }
        None => (started.pidfd, started.pid),
    };
    let mut life = Life {
        pidfd,
        pid,
        begun,
        time_limit: start.time_limit,
        group: start.group,
        layer: None,
        terminal: received.terminal,
        inside: start.inside,
        feeder: None,
        detached: start.detached,
        status: None,
        over_time: false,
        supervisor: received.supervisor,
        further: None,
    };
    let stdin = match (start.stdio[0].bytes(), streams.stdin) {
        (Some(bytes), Some(pipe)) => {
            // Whoever fails from here on takes the program along.
            life.feeder = Some(Feeder::start(bytes, pipe)?);
            None
        }
        (_, pipe) => pipe,
    };
    Ok(Process { stdin, stdout: streams.stdout, stderr: streams.stderr, life })
}

/// How far to talk with the stage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Until {
    /// Until the program runs.
    Running,
    /// Until the stage waits for its start.
    Barrier,
}

/// What is needed to talk with a stage about its steps.
pub(crate) struct Talk<'a> {
    pub(crate) plan: &'a Plan,
    /// What the stage was sent before; it counts on from there.
    pub(crate) done: &'a [OwnedStep],
    pub(crate) steps: &'a [OwnedStep],
    pub(crate) supervision: Option<&'a Supervision>,
    pub(crate) until: Until,
}

impl Talk<'_> {
    /// Answers the stage until it is where it should be.
    pub(crate) fn listen(&self, started: &mut Started, received: &mut Received) -> Result<()> {
        let lost = |error| Error::os("cannot talk to the stage", error);
        loop {
            match started.control.event(None).map_err(lost)? {
                Event::Running if self.until == Until::Barrier => {
                    return Err(Error::new(ErrorKind::State, "the stage ended before its start"));
                }
                Event::Running => return Ok(()),
                Event::Failed(failure) => {
                    return Err(crate::plan::step_error(&[self.done, self.steps].concat(), failure));
                }
                Event::Waiting(Wait::Start) if self.until == Until::Barrier => return Ok(()),
                Event::Waiting(what) => {
                    if what == Wait::Maps {
                        write_maps(started.pid, self.plan)?;
                    }
                    started.control.proceed(&[], &[], self.plan.reserve).map_err(lost)?;
                }
                Event::Forked { pidfd, pid } => received.forked = Some((pidfd, pid)),
                Event::Descriptor { step, descriptor } => self.keep(step, descriptor, received)?,
                _ => {}
            }
        }
    }

    /// A listener that nobody supervises is closed at once: what it would have been asked is answered with `ENOSYS`.
    fn keep(&self, step: u32, descriptor: OwnedFd, received: &mut Received) -> Result<()> {
        match (self.done.iter().chain(self.steps).nth(step as usize), self.supervision) {
            (Some(Step::Terminal { .. }), _) => received.terminal = Some(Tty::new(descriptor)),
            (_, Some(supervision)) => received.supervisor = Some(crate::filter::supervise(descriptor, supervision)?),
            (_, None) => drop(descriptor),
        }
        Ok(())
    }
}

pub(crate) fn write_maps(pid: u32, plan: &Plan) -> Result<()> {
    let Some((maps, method)) = plan.namespaces.maps_to_write() else { return Ok(()) };
    keelbox_namespaces::write(pid, maps, method)
        .map_err(|error| Error::from_part(ErrorKind::PermissionDenied, "cannot write the id maps", error))
}

/// Why the clone was refused: often a setting of the machine, which the namespaces crate knows to name.
pub(crate) fn clone_error(error: std::io::Error, plan: &Plan) -> Error {
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
