//! The threads that clone: one that lives as long as the process, and seats that sit in a cgroup beforehand.
//!
//! A parent-death signal is sent when the *thread* that cloned ends (`PR_SET_PDEATHSIG(2const)`), so a thread that the caller
//! may end at any time must not be it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::birth::{Birth, IDLE, Stillborn, birth};
use crate::sys::{Call, Errno, Kernel, Linux};

/// A birth that owns what it needs, so that it can go to another thread.
pub(crate) struct Order {
    pub(crate) stage: Arc<File>,
    pub(crate) control: OwnedFd,
    pub(crate) namespaces: u64,
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) ambient: bool,
    pub(crate) without_clone3: bool,
    /// How long the stage may take to come to life.
    pub(crate) patience: Duration,
    /// The number of its pidfd, once there is one.
    pub(crate) pidfd: Arc<AtomicI32>,
    /// Set before that is killed for being late.
    pub(crate) late: Arc<AtomicBool>,
}

type Answer = Result<(OwnedFd, u32), Stillborn>;

fn carry_out(order: Order) -> Answer {
    let cgroup = order.cgroup.as_ref().map(AsFd::as_fd);
    let (stage, control) = (order.stage.as_fd(), order.control.as_fd());
    let (namespaces, ambient, without_clone3) = (order.namespaces, order.ambient, order.without_clone3);
    let (pidfd, late) = (&*order.pidfd, &*order.late);
    birth(&Birth { stage, control, namespaces, cgroup, ambient, without_clone3, pidfd, late })
}

/// Blocks the signals of the calling thread: the host's handlers run on its own threads.
fn deafen() {
    let _masked = Linux.perform(Call::sigmask(&IDLE));
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
    // What a fork left of the other process's channel may be locked for good: it is left alone.
    std::mem::forget(launcher.replace(Launcher { process, jobs: jobs.clone() }));
    Ok(jobs)
}

fn serve(orders: &Receiver<Job>) {
    deafen();
    for (order, reply) in orders {
        answer(&reply, carry_out(order));
    }
}

/// Gives the answer to the caller. If that has lost its patience, nobody wants the stage any more.
fn answer(reply: &SyncSender<Answer>, answer: Answer) {
    if let Err(SendError(Ok((pidfd, _)))) = reply.send(answer) {
        let _killed = crate::sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
        let _reaped = crate::sys::wait(&pidfd);
    }
}

/// Carries out `order` on the launcher thread. `spoken` comes back once the stage has said something or is gone: to wait for
/// that alone spares the caller a wake-up in between, which on a small machine takes the processor from the stage.
pub(crate) fn order(order: Order, spoken: impl FnOnce()) -> io::Result<(OwnedFd, u32)> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (reply, answer) = sync_channel(1);
    let watch = Watch::of(&order);
    jobs()?.send((order, reply)).map_err(|_| gone())?;
    spoken();
    watch.receive(&answer)
}

/// What a caller knows of a birth that it waits for.
struct Watch {
    patience: Duration,
    pidfd: Arc<AtomicI32>,
    late: Arc<AtomicBool>,
}

impl Watch {
    fn of(order: &Order) -> Self {
        Self { patience: order.patience, pidfd: Arc::clone(&order.pidfd), late: Arc::clone(&order.late) }
    }

    /// Waits for the stage to live. One that does not come to life (in a frozen cgroup, for instance) holds the thread that
    /// cloned it, and is killed when patience ends.
    fn receive(&self, answer: &Receiver<Answer>) -> io::Result<(OwnedFd, u32)> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut late = false;
        loop {
            match answer.recv_timeout(self.patience) {
                Ok(Ok((pidfd, _))) if late => {
                    // It came to life in the last moment, or ended as it was told.
                    let _killed = crate::sys::send_signal(pidfd.as_fd(), libc::SIGKILL);
                    let _reaped = crate::sys::wait(&pidfd);
                    return Err(Errno::ETIMEDOUT.into());
                }
                Ok(Ok(born)) => return Ok(born),
                Ok(Err(Stillborn { errno, pidfd })) => {
                    drop(pidfd);
                    return Err(if late { Errno::ETIMEDOUT } else { errno }.into());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                // It cannot be killed either: a frozen cgroup of version 1 lets nothing end.
                Err(RecvTimeoutError::Timeout) if late => return Err(Errno::ETIMEDOUT.into()),
                Err(RecvTimeoutError::Timeout) => {
                    late = true;
                    self.late.store(true, Ordering::Release);
                    let number = self.pidfd.load(Ordering::Acquire);
                    if number >= 0 {
                        let _killed = Linux.perform(Call::pidfd_send_signal(number, libc::SIGKILL));
                    }
                }
            }
        }
    }
}

/// A thread that sits in cgroups of version 1, so that what it clones is born there.
///
/// The thread is born of the one that takes the seat, and so has its namespaces, credentials and filters too.
///
/// Moving a process into a cgroup costs milliseconds after a pause (an RCU grace period); being born there costs nothing. The
/// thread ends when it has cloned: until then it is counted in the cgroup as a task, but it never is the payload's parent.
#[derive(Debug)]
pub struct Seat {
    order: SyncSender<Order>,
    answer: Receiver<Answer>,
    thread: thread::JoinHandle<()>,
    /// The kernel's number of the thread, which it tells when it sits.
    number: Receiver<u32>,
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
        let (name, number) = sync_channel(1);
        let work = move || {
            deafen();
            let _named = name.send(Linux.perform(Call::gettid()).unwrap_or(0) as u32);
            let joined = tasks.into_iter().try_for_each(|mut tasks| tasks.write_all(b"0"));
            let refused = joined.err().map(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)));
            if let Ok(order) = orders.recv() {
                self::answer(&reply, refused.map_or_else(|| carry_out(order), |errno| Err(errno.into())));
            }
        };
        let thread = thread::Builder::new().name("keelbox-seat".into()).stack_size(128 * 1024).spawn(work)?;
        Ok(Self { order, answer, thread, number })
    }

    /// Gives the seat up and waits until its thread has left the cgroups.
    pub fn leave(self) {
        let Self { order, thread, number, .. } = self;
        drop(order);
        end(thread, &number);
    }

    /// Carries out `order` and ends the thread, so that whoever is alive longest becomes the parent.
    pub(crate) fn order(self, order: Order) -> io::Result<(OwnedFd, u32)> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let watch = Watch::of(&order);
        self.order.send(order).map_err(|_| gone())?;
        let answer = watch.receive(&self.answer);
        if !matches!(&answer, Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT)) {
            end(self.thread, &self.number);
        }
        answer
    }
}

/// Waits until the kernel has done with a thread. `join` comes back earlier: when the thread's memory is free, but before it
/// leaves its cgroups and hands its children over to another thread, at which moment it sends their parent-death signals.
fn end(thread: thread::JoinHandle<()>, number: &Receiver<u32>) {
    const MOST: Duration = Duration::from_secs(10);
    let number = number.recv();
    let _ended = thread.join();
    let (Ok(number), begun) = (number, Instant::now()) else { return };
    while Linux.perform(Call::ask_for_thread(std::process::id(), number)).is_ok() && begun.elapsed() < MOST {
        thread::sleep(Duration::from_micros(20));
    }
}
