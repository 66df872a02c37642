//! The launch: one clone, one execution of the stage, and the talk with it afterwards.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::time::Duration;

use crate::channel;
use crate::launcher::{self, Order, Seat};
use crate::owned::OwnedStep;
use crate::script;
use crate::stage;
use crate::step::Wait;
use crate::sys::Errno;

const CLONE_NEWUSER: u64 = 0x1000_0000;

/// What is launched: the stage with its steps.
///
/// ```
/// use keelbox_launch::{Launch, Step, list, sys};
///
/// let steps = [Step::Exec { paths: list(["/bin/true"]), arguments: list(["true"]), environment: vec![] }];
/// let mut started = Launch::new(&steps).start()?;
/// started.control.running()?;
/// assert_eq!(sys::wait(&started.pidfd)?.code, Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Launch<'a> {
    steps: &'a [OwnedStep],
    descriptors: Vec<BorrowedFd<'a>>,
    namespaces: u64,
    cgroup: Option<BorrowedFd<'a>>,
    reserve: u32,
    seat: Option<Seat>,
    without_clone3: bool,
    patience: Duration,
}

impl<'a> Launch<'a> {
    /// A launch of `steps` in the namespaces and cgroup of this program.
    ///
    /// They are those of the launcher thread, which the first launch starts and which lives as long as the program: it has what
    /// the thread had that launched first. A thread that has entered other namespaces since (or has other credentials, a seccomp
    /// filter, another cgroup) and wants its programs there takes a [`seat`](Self::seat) for them.
    pub fn new(steps: &'a [OwnedStep]) -> Self {
        let (descriptors, namespaces, cgroup, reserve, seat) = (Vec::new(), 0, None, 3, None);
        let patience = Duration::from_secs(10);
        Self { steps, descriptors, namespaces, cgroup, reserve, seat, without_clone3: false, patience }
    }

    /// The descriptors that the steps use, in slots 0, 1, 2, …
    pub fn descriptors(mut self, descriptors: impl IntoIterator<Item = BorrowedFd<'a>>) -> Self {
        self.descriptors = descriptors.into_iter().collect();
        self
    }

    /// The namespaces to be born in, as `CLONE_NEW*` flags. Default: none new.
    pub fn namespaces(mut self, flags: u64) -> Self {
        self.namespaces = flags;
        self
    }

    /// The cgroup v2 directory to be born in (`CLONE_INTO_CGROUP`, Linux 5.7). Default: the caller's.
    pub fn cgroup(mut self, directory: Option<BorrowedFd<'a>>) -> Self {
        self.cgroup = directory;
        self
    }

    /// The thread that clones. Default: the launcher thread of this process.
    ///
    /// A seat has the namespaces, credentials and cgroup of the thread that took it, and ends with the launch: a script that has a
    /// [`Step::Dies`](crate::Step::Dies) must come to a [`Wait::Parent`] first, and be told to proceed after this launch.
    pub fn seat(mut self, seat: Option<Seat>) -> Self {
        self.seat = seat;
        self
    }

    /// Keeps the stage's own descriptors at or above this number, out of the way of [`crate::Step::Descriptor`]. Default: 3.
    pub fn reserve(mut self, first: u32) -> Self {
        self.reserve = first;
        self
    }

    /// How long the stage may take from its clone to its execution; then it is killed, and the launch has failed. Default: 10 s,
    /// of which it usually needs a tenth of a millisecond.
    ///
    /// It is a matter for a cgroup that is frozen, where nothing that is born comes to life, and the thread that clones waits.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Acts as if the kernel had no `clone3(2)`: for tests of the fallback.
    #[doc(hidden)]
    pub fn without_clone3(mut self) -> Self {
        self.without_clone3 = true;
        self
    }

    /// Clones and executes the stage. It begins with its steps at once; the returned [`Control`] tells how they went.
    ///
    /// # Errors
    ///
    /// The kernel's answer to the clone, or to the execution of the stage; nothing is left behind then. `ETIMEDOUT` after the
    /// [`patience`](Self::patience); `InvalidInput` for more than 253 descriptors, or 252 with a script of more than 64 KiB.
    pub fn start(self) -> io::Result<Started> {
        let stage = stage::descriptor()?;
        let (host, control) = channel::pair()?;
        let script = script::encode(self.steps, 0, self.reserve, 0);
        channel::send(&host, &script, &self.descriptors)?;
        // An unmapped user, or one that is not root, loses its capabilities at the execution unless they are ambient.
        let ambient = self.namespaces & CLONE_NEWUSER != 0 || !crate::sys::is_root();
        let cgroup = self.cgroup.map(|cgroup| cgroup.try_clone_to_owned()).transpose()?;
        let (namespaces, without_clone3) = (self.namespaces, self.without_clone3);
        let (pidfd, late) = (Arc::new(AtomicI32::new(-1)), Arc::new(AtomicBool::new(false)));
        let patience = self.patience;
        let order = Order { stage, control, namespaces, cgroup, ambient, without_clone3, patience, pidfd, late };
        let (pidfd, pid) = match self.seat {
            Some(seat) => seat.order(order)?,
            None => launcher::order(order, || {
                // Too late is judged by the launcher's own watch.
                let _spoken = channel::await_readable(&host, patience);
            })?,
        };
        let slots = self.descriptors.len() as u32;
        Ok(Started { pidfd, pid, control: Control::new(host, self.steps, slots) })
    }
}

/// A stage at work.
#[derive(Debug)]
pub struct Started {
    /// The process, for good.
    pub pidfd: OwnedFd,
    /// Its number in this process's pid namespace, for showing.
    pub pid: u32,
    /// The line to it.
    pub control: Control,
}

/// The line to a stage, until it executes the program.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
    steps: u32,
    slots: u32,
    /// The numbers of the `Fork` steps that have not been told of.
    forks: VecDeque<u32>,
    /// What a process that goes on said before the other one told of it, in the order of the steps.
    early: VecDeque<(u32, Event)>,
}

/// What a stage has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// It waits for [`Control::proceed`].
    Waiting(Wait),
    /// A step made this descriptor for the host.
    Descriptor {
        /// The step's number.
        step: u32,
        /// The descriptor.
        descriptor: OwnedFd,
    },
    /// It cloned the process that goes on, and ends itself.
    Forked {
        /// The process that goes on.
        pidfd: OwnedFd,
        /// Its number in the stage's pid namespace.
        pid: u32,
    },
    /// It came to a [`crate::Step::Tell`].
    Told(u32),
    /// A step failed; the stage has ended.
    Failed(Failure),
    /// The line is closed: the program runs, or the stage was killed.
    Running,
}

/// A step that the kernel refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The step's number, from 0.
    pub step: u32,
    /// The kernel's answer.
    pub errno: Errno,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step + 1, self.errno)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        failure.errno.into()
    }
}

impl Control {
    /// A line over an existing connection to a stage that waits with [`Wait::Connection`]; `steps` and `slots` are how many its
    /// script already had.
    #[must_use]
    pub fn over(socket: OwnedFd, steps: u32, slots: u32) -> Self {
        Self { socket, steps, slots, forks: VecDeque::new(), early: VecDeque::new() }
    }

    fn new(socket: OwnedFd, steps: &[OwnedStep], slots: u32) -> Self {
        let mut control = Self::over(socket, 0, slots);
        control.count(steps);
        control
    }

    fn count(&mut self, steps: &[OwnedStep]) {
        let forks = (self.steps..).zip(steps).filter(|(_, step)| matches!(step, crate::Step::Fork { .. }));
        self.forks.extend(forks.map(|(number, _)| number));
        self.steps += steps.len() as u32;
    }

    /// Waits for the next thing the stage says.
    ///
    /// [`Event::Forked`] always comes before what the forked process says. After [`Event::Failed`] nothing more comes but
    /// [`Event::Running`], whose meaning then is that the line is closed.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` after `patience`, if one is given; the kernel's answer otherwise.
    pub fn event(&mut self, patience: Option<Duration>) -> io::Result<Event> {
        loop {
            let told = |step: u32| self.forks.iter().all(|fork| *fork >= step);
            if self.early.front().is_some_and(|(step, _)| told(*step))
                && let Some((_, event)) = self.early.pop_front()
            {
                return Ok(event);
            }
            let (step, event) = channel::receive(&self.socket, patience)?;
            match event {
                Event::Forked { .. } => self.forks.retain(|fork| *fork != step),
                // The line closes when all processes have ended or gone on: who has not told of a fork by now never will.
                Event::Running => self.forks.clear(),
                _ => {}
            }
            let place = self.early.partition_point(|(other, _)| *other <= step);
            self.early.insert(place, (step, event));
        }
    }

    /// Lets a waiting stage go on, first with `steps`. Their descriptors go into the next free slots; gives the first of them.
    ///
    /// # Errors
    ///
    /// `EPIPE` if the stage has ended.
    pub fn proceed(&mut self, steps: &[OwnedStep], descriptors: &[BorrowedFd<'_>], reserve: u32) -> io::Result<u32> {
        let script = script::encode(steps, self.steps, reserve, self.slots);
        let first = self.slots;
        channel::send(&self.socket, &script, descriptors)?;
        self.count(steps);
        self.slots += descriptors.len() as u32;
        Ok(first)
    }

    /// Waits until the program runs, or until a script without a program has ended well: until the line is closed.
    ///
    /// For scripts that wait for nothing and make nothing for the host. What else the stage says is dropped, descriptors
    /// included: the pidfd of a fork, for instance, whose process can then only be reaped by its number. A stage that is killed
    /// closes the line too; its exit status tells.
    ///
    /// # Errors
    ///
    /// The [`Failure`] of a step; `EPROTO` if the stage waits for something; the kernel's answer to the reading, as step 0.
    pub fn running(&mut self) -> Result<(), Failure> {
        loop {
            match self.event(None) {
                Ok(Event::Running) => return Ok(()),
                Ok(Event::Failed(failure)) => return Err(failure),
                Ok(Event::Waiting(_)) => return Err(Failure { step: 0, errno: Errno::EPROTO }),
                Ok(_) => {}
                Err(error) => {
                    let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
                    return Err(Failure { step: 0, errno });
                }
            }
        }
    }

    /// The number of the socket, for waiting in an event loop.
    #[must_use]
    pub fn raw(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}
