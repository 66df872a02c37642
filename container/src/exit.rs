//! How a program ended, as a value.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use keelbox_launch::sys::Exit;

use crate::signal::Signal;

/// Why a program is no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// It ended by itself, with this code.
    Exited(i32),
    /// A signal killed it.
    Signaled(Signal),
    /// The kernel killed it, or a process of its container, for want of memory.
    OutOfMemory,
    /// It ran longer than its time limit.
    TimeLimit,
}

/// What a program used, with all of its children that it waited for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time, user and system together. Of the whole container if it has a cgroup that counts it.
    pub cpu: Duration,
    /// The most memory at one moment, in bytes: of the whole container if it has a memory limit, else of its largest process.
    pub peak_memory: u64,
    /// From start to end.
    pub wall: Duration,
}

/// How a program ended: [`std::process::ExitStatus`] with the reason and what was used.
///
/// ```no_run
/// # let image = keelbox::Image::open("oci:./debian:12")?;
/// use keelbox::{Container, MIB, Reason};
/// let end = Container::from_image(&image).args(["./solve"]).memory(256 * MIB).status()?;
/// match end.reason() {
///     Reason::Exited(code) => println!("code {code}"),
///     Reason::OutOfMemory => println!("over 256 MiB"),
///     other => println!("{other:?} after {:?}", end.usage().wall),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExitStatus {
    reason: Reason,
    raw: i32,
    usage: Usage,
}

impl ExitStatus {
    /// `special` is the reason that a bare signal does not tell.
    pub(crate) fn new(exit: &Exit, special: Option<Reason>, usage: Usage) -> Self {
        let plain = match (exit.code, exit.signal) {
            (Some(code), _) => Reason::Exited(code),
            (None, signal) => Reason::Signaled(Signal::new(signal.unwrap_or(9))),
        };
        let core = if exit.core_dumped { 0x80 } else { 0 };
        let raw = exit.code.map_or(exit.signal.unwrap_or(9) | core, |code| (code & 0xff) << 8);
        Self { reason: special.unwrap_or(plain), raw, usage }
    }

    /// From a wait status, where nothing else is known any more.
    pub(crate) fn from_raw(raw: i32) -> Self {
        let reason =
            if raw & 0x7f == 0 { Reason::Exited(raw >> 8 & 0xff) } else { Reason::Signaled(Signal::new(raw & 0x7f)) };
        Self { reason, raw, usage: Usage::default() }
    }

    /// The wait status.
    pub(crate) fn raw(&self) -> i32 {
        self.raw
    }

    /// The same, where the reason is known better than from the wait status.
    pub(crate) fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.reason == Reason::Exited(0)
    }

    /// The exit code, unless something killed it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        std::process::ExitStatus::from_raw(self.raw).code()
    }

    /// The number of the signal that killed it, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        std::process::ExitStatus::from_raw(self.raw).signal()
    }

    /// Why it ended.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What it used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

impl From<ExitStatus> for std::process::ExitStatus {
    fn from(status: ExitStatus) -> Self {
        Self::from_raw(status.raw)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Exited(code) => write!(f, "exit code {code}"),
            Reason::Signaled(signal) => write!(f, "killed by {signal}"),
            Reason::OutOfMemory => f.write_str("killed for want of memory"),
            Reason::TimeLimit => f.write_str("killed at its time limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read_as_std_reads_them() {
        for raw in [0, 0x100, 0x2a00, 9, 15, 0x8b] {
            let status = ExitStatus::from_raw(raw);
            let std = std::process::ExitStatus::from_raw(raw);
            assert_eq!((status.code(), status.signal(), status.success()), (std.code(), std.signal(), std.success()));
        }
    }
}
