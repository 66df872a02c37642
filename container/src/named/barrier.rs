//! The barrier that a created container waits at: a listening socket in its directory, whose only holder is the container.
//!
//! As long as the container waits, somebody is bound to the name; once it goes on, or is gone, nobody is. So the socket also
//! tells the two apart, without disturbing the one who waits. Oldest kernel: 5.10.

use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use keelbox_launch::{OwnedStep, Slot, Step, Wait};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect as connect_to, listen, socket,
};

use super::root::Place;
use crate::error::{Error, Result};

const NAME: &str = "start";

/// Makes the socket. Its descriptor goes to the container, and to nobody else.
pub(crate) fn make(place: &Place) -> Result<OwnedFd> {
    let file = place.file(NAME);
    let cannot = |errno: Errno| Error::os(format!("cannot make the start socket of container {}", place.id()), errno);
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(cannot)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&file).map_err(cannot)?).map_err(cannot)?;
    // The caller's mask may have taken away the right to connect.
    let opened = fs::set_permissions(&file, Permissions::from_mode(0o600));
    opened.map_err(|error| Error::os(format!("cannot open the start socket of container {}", place.id()), error))?;
    listen(&listener, Backlog::new(1).map_err(cannot)?).map_err(cannot)?;
    Ok(listener)
}

/// Connects to the one who waits. It goes on with this connection, and ends if nothing is said over it.
pub(crate) fn connect(place: &Place) -> Result<OwnedFd, Errno> {
    // Without waiting: of two connections at most one is taken.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connection = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect_to(connection.as_raw_fd(), &UnixAddr::new(&place.file(NAME))?)?;
    fcntl(&connection, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(connection)
}

/// Whether the container, or the one who makes it, still holds the socket.
///
/// A socket of another type cannot connect, but only where there is something to connect to it is told so (unix(7)).
pub(crate) fn is_held(place: &Place) -> bool {
    let probe = || {
        let probe = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        connect_to(probe.as_raw_fd(), &UnixAddr::new(&place.file(NAME))?)
    };
    probe() == Err(Errno::EPROTOTYPE)
}

/// Puts the barrier into the steps of a run: after all that is set up, before the filter, which may forbid what waiting needs,
/// and before signals are let through. Gives the number of the first step behind it.
///
/// First comes a word of the one who creates the container, that it is written down. If that one dies before, the container is
/// unknown, and ends.
pub(crate) fn insert(steps: &mut Vec<OwnedStep>, listener: Slot) -> usize {
    let at = place(steps);
    let barrier = [
        // The wait may be long, and others of its user id may be around.
        Step::Conceal {},
        Step::Wait { what: Wait::Start, listener: Slot::NONE },
        Step::Wait { what: Wait::Connection, listener },
    ];
    let count = barrier.len();
    steps.splice(at..at, barrier);
    at + count
}

/// Looks for the program before the barrier: whoever creates a container is to be told if there is none, not only whoever starts it.
pub(crate) fn find(steps: &mut Vec<OwnedStep>) {
    let Some(Step::Exec { paths, arguments, .. }) = steps.last() else { return };
    if let Ok(name) = CStr::from_bytes_until_nul(arguments) {
        let find = Step::Find { paths: paths.clone(), name: name.to_owned() };
        steps.insert(place(steps), find);
    }
}

/// Before the filter and before signals.
fn place(steps: &[OwnedStep]) -> usize {
    let position = |found: fn(&OwnedStep) -> bool| steps.iter().position(found).unwrap_or(steps.len());
    let filter = position(|step| matches!(step, Step::Seccomp { .. }));
    let signals = position(|step| matches!(step, Step::Signals { .. }));
    filter.min(signals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_barrier_comes_before_the_filter_and_before_signals() {
        let filter = || Step::Seccomp { flags: 0, filter: vec![] };
        let ids = || Step::Ids { user: 0, group: 0 };
        let cases = [
            (vec![ids(), Step::Signals {}, filter()], 4),
            (vec![filter(), ids(), Step::Signals {}], 3),
            (vec![ids(), Step::Signals {}], 4),
        ];
        for (mut steps, behind) in cases {
            let before = steps.clone();
            assert_eq!(insert(&mut steps, Slot(7)), behind);
            assert_eq!(steps.len(), before.len() + 3);
            assert_eq!(steps[behind - 1], Step::Wait { what: Wait::Connection, listener: Slot(7) });
            assert_eq!(steps[behind - 2], Step::Wait { what: Wait::Start, listener: Slot::NONE });
            assert_eq!(steps[behind..], before[behind - 3..]);
        }
    }

    #[test]
    fn the_program_is_looked_for_before_the_barrier() {
        let exec = Step::Exec { paths: b"/bin/x\0/x\0".to_vec(), arguments: b"x\0y\0".to_vec(), environment: vec![] };
        let mut steps = vec![Step::Session {}, Step::Signals {}, exec];
        find(&mut steps);
        let found = Step::Find { paths: b"/bin/x\0/x\0".to_vec(), name: c"x".to_owned() };
        assert_eq!(steps[1], found);
        assert_eq!(insert(&mut steps, Slot(7)), 5);
        assert_eq!(steps[1], found);
    }
}
