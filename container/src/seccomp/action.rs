//! What a filter may answer: the actions of OCI and the return values of seccomp(2).
//!
//! Oldest kernel: 4.14 for all but [`Action::Notify`], which came with 5.0.

use std::fmt;

/// What happens to a system call, from harmless to deadly.
///
/// The kernel runs all filters of a thread and takes the most severe answer, which is the opposite order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Action {
    /// The call is made.
    Allow,
    /// The call is made, and written to the audit log.
    Log,
    /// A tracer decides, and sees this number as its event message. Without a tracer the call fails with `ENOSYS`.
    Trace(u16),
    /// The holder of the notification descriptor decides (`seccomp_unotify(2)`).
    Notify,
    /// The call is not made and fails with this error number. 0 makes it look like a success.
    Errno(u16),
    /// The call is not made; the thread receives `SIGSYS`.
    Trap,
    /// The thread dies as if by `SIGSYS`. This is also OCI's `SCMP_ACT_KILL`.
    KillThread,
    /// The whole process dies as if by `SIGSYS`.
    KillProcess,
}

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
const DATA: u32 = 0xffff;

/// The largest error number the kernel hands out: `MAX_ERRNO`. It clamps what is larger.
pub(super) const MAX_ERRNO: u64 = 4095;
pub(super) const EPERM: u16 = 1;
pub(super) const ENOSYS: u16 = 38;

impl Action {
    /// The 32-bit value a filter returns for this action (`SECCOMP_RET_*` of seccomp(2)).
    pub fn to_return(self) -> u32 {
        match self {
            Self::Allow => ALLOW,
            Self::Log => LOG,
            Self::Trace(message) => TRACE | u32::from(message),
            Self::Notify => USER_NOTIF,
            Self::Errno(errno) => ERRNO | u32::from(errno),
            Self::Trap => TRAP,
            Self::KillThread => KILL_THREAD,
            Self::KillProcess => KILL_PROCESS,
        }
    }

    /// Reads a filter's return value as the kernel does: what it does not know kills the process.
    pub fn from_return(value: u32) -> Self {
        let data = (value & DATA) as u16;
        match value & !DATA {
            ALLOW => Self::Allow,
            LOG => Self::Log,
            TRACE => Self::Trace(data),
            USER_NOTIF => Self::Notify,
            ERRNO => Self::Errno(data),
            TRAP => Self::Trap,
            KILL_THREAD => Self::KillThread,
            _ => Self::KillProcess,
        }
    }

    /// True for the actions that make the call at once.
    pub fn is_permissive(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Log => f.write_str("log"),
            Self::Trace(message) => write!(f, "trace({message})"),
            Self::Notify => f.write_str("notify"),
            Self::Errno(errno) => write!(f, "errno({errno})"),
            Self::Trap => f.write_str("trap"),
            Self::KillThread => f.write_str("kill-thread"),
            Self::KillProcess => f.write_str("kill-process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_values_are_those_of_the_kernel_header() {
        let table = [
            (Action::KillProcess, 0x8000_0000),
            (Action::KillThread, 0),
            (Action::Trap, 0x0003_0000),
            (Action::Errno(38), 0x0005_0026),
            (Action::Notify, 0x7fc0_0000),
            (Action::Trace(7), 0x7ff0_0007),
            (Action::Log, 0x7ffc_0000),
            (Action::Allow, 0x7fff_0000),
        ];
        for (action, value) in table {
            assert_eq!((action.to_return(), Action::from_return(value)), (value, action));
        }
        assert_eq!(Action::from_return(0x1234_0000), Action::KillProcess);
    }
}
