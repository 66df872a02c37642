//! Starts the program of a created container: hooks in the container, one message over one connection, hooks outside.
//!
//! Oldest kernel: 5.10.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use keelbox_launch::{Control, Event};
use keelbox_runtime_spec::Status;
use nix::errno::Errno;

use super::barrier;
use super::handle::Handle;
use super::hooks::Scene;
use super::record::{Barrier, Record};
use super::remove::{self, Living};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Exec;
use crate::handover::Agent;
use crate::hooks::HookPoint;
use crate::signal::Signal;

/// How long the program may take to be executed, from a slow file system say.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the program of a created container run.
pub(crate) fn start(handle: &Handle) -> Result<()> {
    let place = handle.place();
    let attempt = format!("cannot start container {}", place.id());
    let lock = place.lock(&attempt)?;
    let (mut record, status) = handle.look(&attempt)?;
    let barrier = match (status, record.barrier.clone()) {
        (Status::Created, Some(barrier)) => barrier,
        _ => return Err(Error::new(ErrorKind::State, format!("{attempt}: it is {status}, not created"))),
    };
    let scene = Scene::of(place, &record)?;
    if scene.as_ref().is_some_and(|scene| !scene.has_program()) {
        return Err(Error::new(ErrorKind::Invalid, format!("{attempt}: its configuration names no program to run")));
    }
    let pid = record.process.as_ref().map_or(0, |process| process.pid);
    if let Some(scene) = &scene
        && let Err(error) = in_container(handle, scene, pid)
    {
        return Err(destroyed(error, remove::clear(handle, &record, &attempt), handle));
    }
    let agent = scene.as_ref().and_then(|scene| scene.agent(status, pid));
    go(handle, barrier, agent.as_ref(), pid, &attempt)?;
    mark(handle, &mut record)?;
    // The hooks may want to know of the container, or change it.
    drop(lock);
    match scene.map(|scene| scene.outside(HookPoint::Poststart, Status::Running, pid)) {
        Some(Err(error)) => Err(destroyed(error, remove::delete(handle, Living::Killed), handle)),
        _ => Ok(()),
    }
}

fn mark(handle: &Handle, record: &mut Record) -> Result<()> {
    record.mark_started();
    handle.place().write(record)
}

/// The hooks that run in the container, as its user, before its program.
fn in_container(handle: &Handle, scene: &Scene, pid: u32) -> Result<()> {
    let site = handle.site()?;
    let user = site.inside.process.clone();
    let enter = |arguments| Exec::new(handle.site(), arguments);
    scene.inside(HookPoint::StartContainer, (Status::Created, pid), &user, enter)
}

/// A hook has failed, and the container had to go: that this failed too is told as well.
fn destroyed(error: Error, deleted: Result<()>, handle: &Handle) -> Error {
    let failed = deleted.err().filter(|error| error.kind() != ErrorKind::NotFound);
    let more: Vec<String> = failed.iter().chain(&handle.warnings()).map(Error::report).collect();
    if more.is_empty() { error } else { error.with_hint(more.join("; ")) }
}

/// Says the word, and waits until the program runs.
fn go(handle: &Handle, barrier: Barrier, agent: Option<&Agent>, pid: u32, attempt: &str) -> Result<()> {
    let ended = || Error::new(ErrorKind::State, format!("{attempt}: it has ended"));
    let connection = barrier::connect(handle.place()).map_err(|errno| match errno {
        // It ended between our look and this.
        Errno::ECONNREFUSED | Errno::ENOENT => ended(),
        errno => Error::os(attempt, errno),
    })?;
    let mut control = Control::over(connection, barrier.steps, barrier.slots);
    let lost = |error: std::io::Error| match error.raw_os_error() {
        Some(32 | 104) => ended(),
        _ => Error::os(attempt, error),
    };
    control.proceed(&[], &[], barrier.reserve).map_err(lost)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match control.event(Some(left)).map_err(lost)? {
            Event::Running => return Ok(()),
            Event::Failed(failure) => return Err(barrier.sentence(failure)),
            // The only one that is made behind the barrier.
            Event::Descriptor { descriptor, .. } => ask(handle, agent, &descriptor, pid)?,
            _ => {}
        }
    }
}

/// Gives the listener of the filter to the agent. Without that the program must not go on: it ends before the listener is closed.
fn ask(handle: &Handle, agent: Option<&Agent>, listener: &OwnedFd, pid: u32) -> Result<()> {
    let told = agent.map_or(Ok(()), |agent| agent.tell(listener, pid));
    if told.is_err() {
        let _killed = handle.kill(Signal::KILL);
    }
    told
}
