//! From a plan to a running process: opens what the plan needs, launches, talks with the stage until the program runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use keelbox_launch::{Event, Launch, Started, Wait};
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
            let nothing = || Error::new(ErrorKind::Invalid, "a further descriptor can be neither a new pipe nor inherited");
            theirs.push(descriptor.output()?.0.ok_or_else(nothing)?);
        }
        Ok(Self { theirs, stdin, stdout, stderr })
    }
}

/// What the stage sent on the way.
#[derive(Default)]
struct Received {
    terminal: Option<Tty>,
    listener: Option<OwnedFd>,
    forked: Option<(OwnedFd, u32)>,
    supervisor: Option<Supervisor>,
}

/// Starts the program of a plan.
pub(crate) fn start(mut start: Start<'_>) -> Result<Process> {
    let begun = Instant::now();
    let streams = Streams::open(&start.stdio, start.descriptors)?;
    let joins = start.plan.namespaces.open().map_err(namespaces_refused)?;
    let seat = start.group.as_mut().and_then(ControlGroup::take_seat);
    let launched = {
        let theirs = streams.theirs.iter().map(AsFd::as_fd);
        let opened = joins.iter().chain(start.trees).map(AsFd::as_fd);
        let descriptors: Vec<BorrowedFd<'_>> = theirs.chain(opened).collect();
        let plan = start.plan;
        Launch::new(&plan.steps)
            .descriptors(descriptors)
            .namespaces(plan.namespaces.clone_flags())
            .cgroup(start.group.as_ref().and_then(ControlGroup::directory))
            .reserve(plan.reserve)
            .seat(seat)
            .start()
    };
    let mut started = launched.map_err(|error| clone_error(error, start.plan))?;
    drop((streams.theirs, joins));
    let mut received = Received::default();
    let talked = talk(&mut started, &start, &mut received);
    if let Err(error) = talked {
        // Of a further program both have to go: a zombie in a pid namespace would keep its container from ever ending.
        let forked = received.forked.as_ref().map(|(pidfd, _)| pidfd);
        for pidfd in [Some(&started.pidfd), forked].into_iter().flatten() {
            let _killed = keelbox_launch::sys::send_signal(pidfd.as_fd(), 9);
            let _reaped = keelbox_launch::sys::wait(pidfd);
        }
        if let Some(group) = start.group.take() {
            let _ended = group.end();
        }
        return Err(error);
    }
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

/// Answers the stage until the program runs.
fn talk(started: &mut Started, start: &Start<'_>, received: &mut Received) -> Result<()> {
    let lost = |error| Error::os("cannot talk to the stage", error);
    loop {
        match started.control.event(None).map_err(lost)? {
            Event::Running => return Ok(()),
            Event::Failed(failure) => return Err(start.plan.sentence(failure)),
            Event::Waiting(Wait::Maps) => {
                write_maps(started.pid, start.plan)?;
                started.control.proceed(&[], &[], start.plan.reserve).map_err(lost)?;
            }
            Event::Waiting(_) => {
                started.control.proceed(&[], &[], start.plan.reserve).map(|_| ()).map_err(lost)?;
            }
            Event::Forked { pidfd, pid } => received.forked = Some((pidfd, pid)),
            Event::Descriptor { step, descriptor } => keep(step, descriptor, start, received)?,
            _ => {}
        }
    }
}

fn keep(step: u32, descriptor: OwnedFd, start: &Start<'_>, received: &mut Received) -> Result<()> {
    use keelbox_launch::Step;
    match start.plan.steps.get(step as usize) {
        Some(Step::Terminal { .. }) => received.terminal = Some(Tty::new(descriptor)),
        _ => match start.supervision {
            Some(supervision) => received.supervisor = Some(crate::filter::supervise(descriptor, supervision)?),
            None => received.listener = Some(descriptor),
        },
    }
    Ok(())
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
