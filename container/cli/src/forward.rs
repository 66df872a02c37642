//! Signals that this program gets on behalf of the container's program: they are held back until that runs, and then passed on.
//!
//! Leaves out what is about this program alone (`SIGCHLD`, `SIGPIPE`, `SIGURG`), stopping and going on, which a shell tells this
//! program by its own means, and signals that only the kernel has reason for. Oldest kernel: any.

use std::thread;

use keelbox::{Signal, Tty};
use nix::sys::signal::{SigSet, Signal as Number};

use crate::failure::Failure;
use crate::relay;

/// Holds signals back from the moment it is made.
#[derive(Debug)]
pub(crate) struct Forwarded(SigSet);

impl Forwarded {
    pub(crate) fn hold() -> Result<Self, Failure> {
        use Number::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
        let set: SigSet = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH].into_iter().collect();
        set.thread_block().map_err(|errno| Failure::io("cannot hold signals back", &errno.into()))?;
        Ok(Self(set))
    }

    /// Hands every signal to `send` from now on, as long as this program runs; but that the window has another size, to the container's
    /// terminal, if it has one.
    pub(crate) fn pass_on(self, terminal: Option<Tty>, send: impl Fn(Signal) + Send + 'static) -> Result<(), Failure> {
        let pass = move || {
            while let Ok(number) = self.0.wait() {
                match ((number as i32).to_string().parse(), &terminal) {
                    (Ok(Signal::WINCH), Some(tty)) => relay::resize(tty),
                    (Ok(signal), _) => send(signal),
                    (Err(_), _) => {}
                }
            }
        };
        let started = thread::Builder::new().name("signals".into()).spawn(pass);
        started.map(|_thread| ()).map_err(|error| Failure::io("cannot start a thread for signals", &error))
    }
}
