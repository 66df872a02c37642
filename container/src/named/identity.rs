//! Which process it is: what tells it from a later one of its number.
//!
//! A pid alone means nothing once its process has ended. With the time of its start, the boot it belongs to, and the inode of
//! its pidfd (unique since Linux 6.9, constant before), no other process is ever taken for it. Oldest kernel: 5.10.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Instant;

use keelbox_launch::sys;
use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// A process, for good.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// In clock ticks since boot, as proc_pid_stat(5) has it.
    start_time: u64,
    boot: String,
    pidfd_inode: u64,
}

impl Identity {
    /// The identity of the process behind `pidfd`, which must not have been reaped.
    pub(crate) fn of(pid: u32, pidfd: BorrowedFd<'_>) -> Result<Self> {
        let unknown = || Error::new(ErrorKind::State, format!("cannot tell which process {pid} is: it has ended"));
        let start_time = Stat::read(pid).map(|stat| stat.start_time).ok_or_else(unknown)?;
        Ok(Self { pid, start_time, boot: boot()?.to_owned(), pidfd_inode: inode(pidfd)? })
    }

    /// The process itself, running or a zombie; nothing if it is gone, or has become another.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        let pidfd = sys::pidfd_open(self.pid).ok()?;
        // In this order: whatever had the number when the descriptor was opened had it from before that on, so if the number is
        // still (or again) that of our process, it was then.
        let same = self.is_there() && inode(pidfd.as_fd()).ok()? == self.pidfd_inode && boot().ok()? == self.boot;
        same.then_some(pidfd)
    }

    fn is_there(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start_time == self.start_time)
    }

    /// Whether the process has begun to end and cannot go back (`PF_EXITING`): its files, memory and namespaces are given up before
    /// it can be waited for.
    pub(crate) fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 4;
        Stat::read(self.pid).is_none_or(|stat| stat.start_time != self.start_time || stat.flags & PF_EXITING != 0)
    }

    /// The wait status of the process, if it is a zombie that its parent has not reaped yet and we may know.
    pub(crate) fn zombie_status(&self) -> Option<i32> {
        let stat = Stat::read(self.pid).filter(|stat| stat.start_time == self.start_time && stat.state == "Z")?;
        // The kernel says 0 to those who may not know, so that must not be taken for success.
        stat.status.filter(|status| *status != 0 || may_look_into(self.pid))
    }
}

/// Whether the process behind `pidfd` has ended.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    crate::poll::readable(pidfd, Some(Instant::now())).unwrap_or(true)
}

/// The right that the exit status in `stat` needs (`PTRACE_MODE_READ`), asked for with a link that needs it too. A zombie has no
/// directory any more, so those who may know are told that there is none.
fn may_look_into(pid: u32) -> bool {
    let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    !fs::read_link(format!("/proc/{pid}/cwd")).as_ref().is_err_and(refused)
}

fn inode(pidfd: BorrowedFd<'_>) -> Result<u64> {
    fstat(pidfd).map(|found| found.st_ino).map_err(|errno| Error::os("cannot look at a pidfd", errno))
}

/// No process outlives its boot, so one look is enough.
fn boot() -> Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let file = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(file).map_err(|error| Error::os(format!("cannot read {file}"), error))?;
    Ok(BOOT.get_or_init(|| text.trim().to_owned()))
}

/// The text of a small file of the kernel's, in as few reads as possible.
fn small(path: &str) -> Option<String> {
    const USUAL: usize = 1024;
    let mut text = String::with_capacity(USUAL);
    File::open(path).and_then(|file| file.take(64 * USUAL as u64).read_to_string(&mut text)).ok()?;
    Some(text)
}

/// What `/proc/PID/stat` tells.
#[derive(Debug, Eq, PartialEq)]
struct Stat {
    state: String,
    /// `PF_*` of the kernel.
    flags: u32,
    start_time: u64,
    /// The wait status, once it has ended.
    status: Option<i32>,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&small(&format!("/proc/{pid}/stat"))?)
    }

    /// The second field is the name of the program in parentheses, and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let (state, flags) = ((*fields.first()?).to_owned(), fields.get(6)?.parse().ok()?);
        let status = fields.get(49).and_then(|status| status.parse().ok());
        Some(Self { state, flags, start_time: fields.get(19)?.parse().ok()?, status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_parentheses_may_hold_anything() {
        let numbers = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        for name in ["sh", "a b", ") Z 9 9 (", "((("] {
            let stat = Stat::parse(&format!("5 ({name}) {numbers}")).unwrap();
            assert_eq!((stat.state.as_str(), stat.start_time, stat.status), ("S", 777, None), "{name}");
        }
        assert_eq!(Stat::parse("5 (sh) S"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn another_process_is_never_taken_for_it() {
        let own = std::process::id();
        let pidfd = sys::pidfd_open(own).unwrap();
        let identity = Identity::of(own, pidfd.as_fd()).unwrap();
        assert!(identity.open().is_some() && !identity.is_exiting());
        let others = [
            Identity { start_time: identity.start_time + 1, ..identity.clone() },
            Identity { boot: "another".into(), ..identity.clone() },
            Identity { pidfd_inode: identity.pidfd_inode + 1, ..identity.clone() },
            Identity { pid: 1, ..identity.clone() },
            Identity { pid: u32::MAX, ..identity.clone() },
        ];
        for other in others {
            assert!(other.open().is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_status_of_a_zombie_can_be_read() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pidfd = sys::pidfd_open(child.id()).unwrap();
        let identity = Identity::of(child.id(), pidfd.as_fd()).unwrap();
        assert!(crate::poll::readable(pidfd.as_fd(), None).unwrap());
        assert!(has_ended(pidfd.as_fd()));
        assert_eq!(identity.zombie_status(), Some(7 << 8));
        assert!(identity.open().is_some() && identity.is_exiting());
        child.wait().unwrap();
        assert_eq!(identity.zombie_status(), None);
        assert!(identity.open().is_none());
    }
}
