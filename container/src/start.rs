//! From a plan to a running process: opens what the plan needs, launches, gives the handle of what runs then.
//!
//! Leaves out the talk with the stage, see `talk.rs`. Oldest kernel: 5.10.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use keelbox_launch::Started;

use crate::control_group::ControlGroup;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Inside;
use crate::feeder::Feeder;
use crate::handover;
use crate::network::Wired;
use crate::plan::Plan;
use crate::process::{Life, Process};
use crate::stdio::{Descriptor, Stdio};
use crate::talk::{Cradle, Decider, Nobody, Received, Talk, Until, launch};

/// What a start needs beside its plan.
pub(crate) struct Start<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) descriptors: &'a [Stdio],
    /// Open files that come after joined namespaces: prepared mount trees.
    pub(crate) trees: &'a [OwnedFd],
    pub(crate) group: Option<ControlGroup>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) decider: Decider<'a>,
    pub(crate) sockets: Sockets<'a>,
    pub(crate) detached: bool,
    pub(crate) inside: Inside,
}

/// Sockets of other programs that get something of a start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sockets<'a> {
    /// Gets the master of the terminal.
    pub(crate) console: Option<&'a Path>,
    /// Gets a pidfd of the program.
    pub(crate) pidfd: Option<&'a Path>,
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

/// Starts the program of a plan.
pub(crate) fn start(mut start: Start<'_>) -> Result<Process> {
    let begun = Instant::now();
    let streams = Streams::open(&start.stdio, start.descriptors)?;
    let mut received = Received::default();
    let talk = Talk {
        plan: start.plan,
        done: &[],
        steps: &start.plan.steps,
        decider: start.decider,
        console: start.sockets.console,
        until: Until::Running,
    };
    let cradle = Cradle::of(&mut start.group);
    match launch(&talk, &streams.theirs, start.trees, cradle, &mut received, &mut Nobody) {
        Ok(started) => finish(started, start, streams, received, begun),
        Err(error) => {
            let _ended = start.group.map(ControlGroup::end);
            Err(error)
        }
    }
}

/// The handle of a program that runs.
pub(crate) fn finish(
    started: Started,
    start: Start<'_>,
    streams: Streams,
    mut received: Received,
    begun: Instant,
) -> Result<Process> {
    let (pidfd, pid) = received.survivor(started);
    let mut life = Life {
        pidfd,
        pid,
        begun,
        time_limit: start.time_limit,
        group: start.group,
        layer: None,
        attachment: None,
        terminal: received.terminal,
        inside: start.inside,
        feeder: None,
        detached: start.detached,
        status: None,
        over_time: false,
        supervisor: received.supervisor,
        further: None,
    };
    if let Some(socket) = start.sockets.pidfd
        && let Err(error) = handover::pidfd(socket, life.pidfd.as_fd(), pid)
    {
        // The program goes with its handle.
        life.detached = false;
        return Err(error);
    }
    let stdin = match (start.stdio[0].bytes(), streams.stdin) {
        (Some(bytes), Some(pipe)) => {
            life.feeder = Some(Feeder::start(bytes, pipe)?);
            None
        }
        (_, pipe) => pipe,
    };
    life.attachment = received.wired.and_then(Wired::keep);
    Ok(Process { stdin, stdout: streams.stdout, stderr: streams.stderr, life })
}
