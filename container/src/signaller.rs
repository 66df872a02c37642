//! Signals from any thread, while another one waits for the program. Leaves out waiting. Oldest kernel: 5.1.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use keelbox_cgroups::Group;
use keelbox_launch::{Errno, sys};

use crate::control_group::cannot;
use crate::error::{Error, ErrorKind, Result};
use crate::signal::Signal;

/// Sends signals to a program, from any thread and as long as anybody likes: [`Process::signaller`](crate::Process::signaller).
///
/// It names the program for good (by a pidfd), and cannot hit another one that got its number. It does not keep the container
/// alive, nor wait for it.
///
/// ```no_run
/// use keelbox::{Container, Signal};
/// let mut process = Container::from_rootfs("/srv/root").args(["server"]).spawn()?;
/// let signaller = process.signaller()?;
/// std::thread::spawn(move || signaller.signal(Signal::TERM));
/// println!("{}", process.wait()?);
/// # Ok::<(), keelbox::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Signaller {
    pidfd: Arc<OwnedFd>,
    /// The control group of the container, for as long as the container's own handle has it.
    group: Weak<Group>,
}

impl Signaller {
    pub(crate) fn new(pidfd: BorrowedFd<'_>, group: Option<&Arc<Group>>) -> Result<Self> {
        let pidfd = pidfd.try_clone_to_owned().map_err(|error| Error::os("cannot copy the pidfd", error))?;
        Ok(Self { pidfd: Arc::new(pidfd), group: group.map(Arc::downgrade).unwrap_or_default() })
    }

    /// Sends a signal to the program, as [`Process::signal`](crate::Process::signal).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if it has ended and been waited for; [`ErrorKind::PermissionDenied`] if it may not be signalled.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.pidfd.as_fd(), signal)
    }

    /// Kills the container: every process in it. Of a further program, that one.
    ///
    /// # Errors
    ///
    /// The kernel's answer. A container that has ended already is no error.
    pub fn kill(&self) -> Result<()> {
        let killed = || match sys::send_signal(self.pidfd.as_fd(), Signal::KILL.number()) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(Error::os("cannot kill the container", errno)),
        };
        // Once it is waited for, the group is gone or about to go.
        let Some(group) = self.group.upgrade() else { return killed().map(|_| ()) };
        if !killed()? {
            return Ok(());
        }
        match group.kill() {
            Err(error) if killed()? => Err(cannot(error)),
            _ => Ok(()),
        }
    }
}

/// Sends a signal to the program behind `pidfd`.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    let attempt = || format!("cannot send {signal} to the container");
    sys::send_signal(pidfd, signal.number()).map_err(|errno| match errno {
        Errno::ESRCH => Error::os(attempt(), errno).with_kind(ErrorKind::State),
        errno => Error::os(attempt(), errno),
    })
}
