//! The kernel's message interface (netlink(7)): a socket, requests with attributes, and their answers.
//!
//! One encoder serves rtnetlink and nf_tables, which no maintained crate covers together. Leaves out multicast groups.
//! Oldest kernel: 5.10.

mod body;
pub(crate) mod route;

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

pub(crate) use body::{Body, attributes, number, text_of};

/// A connection to the kernel about one network namespace, wherever the caller's threads are later.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
}

/// Which part of the kernel to talk with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// Devices, addresses, routes (rtnetlink(7)).
    Route,
    /// Packet filters (nf_tables).
    Filter,
}

/// An answer: its type and its body.
pub(crate) type Answer = (u16, Vec<u8>);

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACKNOWLEDGE: u16 = 4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const DUMP: u16 = 0x300;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// What was listed changed meanwhile (`NLM_F_DUMP_INTR`).
const INTERRUPTED: u16 = 0x10;
/// The size of `nlmsghdr`.
const HEAD: usize = 16;

impl Socket {
    /// About the calling thread's namespace.
    pub(crate) fn here(part: Part) -> Result<Self, Errno> {
        let protocol = match part {
            Part::Route => SockProtocol::NetlinkRoute,
            Part::Filter => SockProtocol::NetlinkNetFilter,
        };
        let descriptor = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // What a table's owner is known by.
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { descriptor, sequence: 0 })
    }

    /// About the namespace behind a descriptor.
    pub(crate) fn inside(network: BorrowedFd<'_>, part: Part) -> Result<Self, Errno> {
        within(network, || Self::here(part))?
    }

    /// Sends a request and collects what is answered to it.
    pub(crate) fn ask(&mut self, kind: u16, flags: u16, body: &Body) -> Result<Vec<Answer>, Errno> {
        loop {
            self.sequence = self.sequence.wrapping_add(1);
            let message = message(kind, REQUEST | flags, self.sequence, body);
            send(self.descriptor.as_raw_fd(), &message, MsgFlags::empty())?;
            if let (answers, false) = self.answers()? {
                return Ok(answers);
            }
        }
    }

    /// Sends several requests as one that happens as a whole or not at all: nf_tables' batches. The first and the last are not answered.
    pub(crate) fn transact(&mut self, requests: &[(u16, u16, Body)]) -> Result<(), Errno> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for (kind, flags, body) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(message(*kind, REQUEST | *flags, self.sequence, body));
        }
        send(self.descriptor.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let expected = requests.iter().filter(|(_, flags, _)| flags & ACKNOWLEDGE != 0).count();
        let mut failure = None;
        let mut room = vec![0u8; 64 << 10];
        let mut heard = 0;
        while heard < expected {
            let length = receive(&self.descriptor, &mut room)?;
            for (kind, _, sequence, body) in messages(room.get(..length).unwrap_or_default()) {
                if kind != ERROR || sequence.wrapping_sub(first) >= requests.len() as u32 {
                    continue;
                }
                match code(body) {
                    // The batch as a whole: nothing else will be answered.
                    Some(errno) if sequence == first => return Err(errno),
                    Some(errno) => failure = failure.or(Some(errno)),
                    None => {}
                }
                heard += 1;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// What is answered to the last request, and whether it changed meanwhile.
    fn answers(&self) -> Result<(Vec<Answer>, bool), Errno> {
        let (mut answers, mut room, mut interrupted, mut heard) = (Vec::new(), vec![0u8; 64 << 10], false, false);
        while !heard {
            let length = receive(&self.descriptor, &mut room)?;
            for (kind, flags, sequence, body) in messages(room.get(..length).unwrap_or_default()) {
                if sequence != self.sequence {
                    continue;
                }
                interrupted |= flags & INTERRUPTED != 0;
                match (kind, code(body)) {
                    (DONE, _) | (ERROR, None) => heard = true,
                    (ERROR, Some(errno)) => return Err(errno),
                    (kind, _) => answers.push((kind, body.to_vec())),
                }
            }
        }
        Ok((answers, interrupted))
    }
}

/// Does something in the network namespace behind a descriptor, by a thread that ends then.
pub(crate) fn within<T: Send>(network: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let work = || setns(network, CloneFlags::CLONE_NEWNET).map(|()| work());
        let thread = std::thread::Builder::new().name("keelbox-network".into()).stack_size(128 << 10);
        let thread = thread.spawn_scoped(scope, work).map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or(Err(Errno::EPROTO))
    })
}

/// The network namespace of a process.
pub(crate) fn namespace_of(pid: u32) -> std::io::Result<File> {
    File::open(format!("/proc/{pid}/ns/net"))
}

fn receive(descriptor: &OwnedFd, room: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match recv(descriptor.as_raw_fd(), room, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            length => return length,
        }
    }
}

fn message(kind: u16, flags: u16, sequence: u32, body: &Body) -> Vec<u8> {
    let body = body.bytes();
    let mut message = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    message.extend([sequence.to_ne_bytes(), [0; 4]].concat());
    message.extend(body);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

/// The error number in the body of an `NLMSG_ERROR`; none for success.
fn code(body: &[u8]) -> Option<Errno> {
    let number = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    (number != 0).then(|| Errno::from_raw(number.wrapping_neg()))
}

/// Type, flags, sequence number and body of each message in what was received.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length).filter(|_| length >= HEAD)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
        let flags = u16::from_ne_bytes(*message.get(6..)?.first_chunk()?);
        let sequence = u32::from_ne_bytes(*message.get(8..)?.first_chunk()?);
        Some((kind, flags, sequence, message.get(HEAD..)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_off_messages_are_none() {
        let whole = message(7, 1, 3, &Body::new(&[1, 2, 3, 4]));
        assert_eq!(messages(&whole).collect::<Vec<_>>(), [(7, 1, 3, [1u8, 2, 3, 4].as_slice())]);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
        let mut wrong = whole.clone();
        wrong[0] = 3;
        assert_eq!(messages(&wrong).count(), 0);
    }
}
