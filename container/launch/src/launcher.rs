//! The threads that clone: one that lives as long as the process, and seats that sit in a cgroup beforehand.
//!
//! A parent-death signal is sent when the *thread* that cloned ends (`PR_SET_PDEATHSIG(2const)`), so a thread that the caller
//! may end at any time must not be it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::sys::birth::{Birth, birth};
use crate::sys::{Call, Errno, Kernel, Linux};

/// A birth that owns what it needs, so that it can go to another thread.
pub(crate) struct Order {
    pub(crate) stage: Arc<File>,
    pub(crate) control: OwnedFd,
    pub(crate) namespaces: u64,
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) ambient: bool,
    pub(crate) without_clone3: bool,
}

type Answer = Result<(OwnedFd, u32), Errno>;

fn carry_out(order: Order) -> Answer {
    use std::os::fd::AsFd;
    let cgroup = order.cgroup.as_ref().map(AsFd::as_fd);
    let (stage, control) = (order.stage.as_fd(), order.control.as_fd());
    let (namespaces, ambient, without_clone3) = (order.namespaces, order.ambient, order.without_clone3);
    birth(&Birth { stage, control, namespaces, cgroup, ambient, without_clone3 })
}

/// Blocks every signal of the calling thread: no handler of the host may run in the child on the shared memory.
fn deafen() {
    let _masked = Linux.perform(Call::sigmask(&u64::MAX));
}

type Job = (Order, SyncSender<Answer>);

struct Launcher {
    /// The process that the thread belongs to: a program that forks leaves its threads behind.
    process: u32,
    jobs: SyncSender<Job>,
}

static LAUNCHER: Mutex<Option<Launcher>> = Mutex::new(None);

fn jobs() -> io::Result<SyncSender<Job>> {
    let mut launcher = LAUNCHER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let process = std::process::id();
    if let Some(launcher) = launcher.as_ref().filter(|launcher| launcher.process == process) {
        return Ok(launcher.jobs.clone());
    }
    let (jobs, orders) = sync_channel::<Job>(64);
    thread::Builder::new().name("keelbox".into()).stack_size(128 * 1024).spawn(move || serve(&orders))?;
    *launcher = Some(Launcher { process, jobs: jobs.clone() });
    Ok(jobs)
}

fn serve(orders: &Receiver<Job>) {
    deafen();
    for (order, reply) in orders {
        // The caller waits for the answer; if it has gone, dropping the pidfd is all there is to do.
        let _answered = reply.send(carry_out(order));
    }
}

/// Carries out `order` on the launcher thread.
pub(crate) fn order(order: Order) -> io::Result<(OwnedFd, u32)> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (reply, answer) = sync_channel(1);
    jobs()?.send((order, reply)).map_err(|_| gone())?;
    Ok(answer.recv().map_err(|_| gone())??)
}

/// A thread that sits in cgroups of version 1, so that what it clones is born there.
///
/// Moving a process into a cgroup costs milliseconds after a pause (an RCU grace period); being born there costs nothing. The
/// thread ends when it has cloned: until then it is counted in the cgroup as a task, but it never is the payload's parent.
#[derive(Debug)]
pub struct Seat {
    order: SyncSender<Order>,
    answer: Receiver<Answer>,
    thread: thread::JoinHandle<()>,
}

impl Seat {
    /// Starts a thread that joins the cgroups whose `tasks` files are given, and waits there. Version 1 only: a cgroup of
    /// version 2 takes whole processes, and `clone3(2)` puts children there directly.
    ///
    /// # Errors
    ///
    /// The kernel's answer to the thread's start. A refusal to join is told when the seat is used.
    pub fn take(tasks: Vec<File>) -> io::Result<Self> {
        let (order, orders) = sync_channel::<Order>(1);
        let (reply, answer) = sync_channel(1);
        let work = move || {
            deafen();
            let joined = tasks.into_iter().try_for_each(|mut tasks| tasks.write_all(b"0"));
            let refused = joined.err().map(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)));
            if let Ok(order) = orders.recv() {
                let _answered = reply.send(refused.map_or_else(|| carry_out(order), Err));
            }
        };
        let thread = thread::Builder::new().name("keelbox-seat".into()).stack_size(128 * 1024).spawn(work)?;
        Ok(Self { order, answer, thread })
    }

    /// Gives the seat up and waits until its thread has left the cgroups.
    pub fn leave(self) {
        drop(self.order);
        let _ended = self.thread.join();
    }

    /// Carries out `order` and ends the thread, so that whoever is alive longest becomes the parent.
    pub(crate) fn order(self, order: Order) -> io::Result<(OwnedFd, u32)> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.order.send(order).map_err(|_| gone())?;
        let answer = self.answer.recv().map_err(|_| gone())?;
        self.thread.join().map_err(|_| gone())?;
        Ok(answer?)
    }
}
