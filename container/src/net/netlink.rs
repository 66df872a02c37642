//! The kernel's interface for network devices (rtnetlink(7)), as far as devices that move need it.
//!
//! Leaves out everything else that netlink can: no multicast, no filters, no cache. Oldest kernel: 5.10.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use keelbox_launch::sys::namespace;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// A connection to the kernel about the devices of one network namespace, wherever the caller's threads are.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
}

/// A network device, by what identifies it in its namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
}

/// An address of a device, ready to be given to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Address {
    /// Family, length of the prefix, flags, scope: the beginning of `ifaddrmsg`.
    head: [u8; 4],
    attributes: Vec<u8>,
}

/// Requests and answers of `linux/rtnetlink.h` and `linux/netlink.h`.
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE_NEW: u16 = 0x600;
const DUMP: u16 = 0x300;

/// Attributes of `linux/if_link.h` and `linux/if_addr.h`.
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_LABEL: u16 = 3;
const ADDRESS_CACHE: u16 = 6;
const ADDRESS_FLAGS: u16 = 8;

const UP: u32 = 1;
const PERMANENT: u32 = 0x80;
const GLOBAL: u8 = 0;

impl Socket {
    /// About the calling thread's namespace.
    pub(super) fn here() -> Result<Self, Errno> {
        let descriptor =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(Self { descriptor, sequence: 0 })
    }

    /// About the namespace behind a descriptor, by a thread that enters it and ends.
    pub(super) fn inside(network: BorrowedFd<'_>) -> Result<Self, Errno> {
        const CLONE_NEWNET: u32 = 0x4000_0000;
        std::thread::scope(|scope| {
            let work = || {
                namespace::join(network, CLONE_NEWNET).map_err(|errno| Errno::from_raw(errno.0))?;
                Self::here()
            };
            let thread = std::thread::Builder::new().name("keelbox-network".into()).spawn_scoped(scope, work);
            thread.map_err(|_| Errno::EAGAIN)?.join().unwrap_or(Err(Errno::EPROTO))
        })
    }

    /// The device of this name; nothing if there is none.
    pub(super) fn link(&mut self, name: &str) -> Result<Option<Link>, Errno> {
        let body = [link_head(0, 0, 0), attribute(LINK_NAME, &terminated(name))].concat();
        match self.ask(GET_LINK, ACKNOWLEDGE, &body) {
            Ok(answers) => Ok(answers.iter().find(|(kind, _)| *kind == NEW_LINK).and_then(|(_, body)| link(body))),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Starts or stops a device.
    pub(super) fn switch(&mut self, index: u32, up: bool) -> Result<(), Errno> {
        self.ask(NEW_LINK, ACKNOWLEDGE, &link_head(index, if up { UP } else { 0 }, UP)).map(drop)
    }

    /// Gives a device another name; the kernel finds a number for `%d`.
    pub(super) fn rename(&mut self, index: u32, name: &str) -> Result<(), Errno> {
        let body = [link_head(index, 0, 0), attribute(LINK_NAME, &terminated(name))].concat();
        self.ask(NEW_LINK, ACKNOWLEDGE, &body).map(drop)
    }

    /// Moves a device into another namespace, under a name that nothing there has.
    pub(super) fn give(&mut self, index: u32, to: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let namespace = attribute(LINK_NAMESPACE, &to.as_raw_fd().to_ne_bytes());
        let body = [link_head(index, 0, 0), attribute(LINK_NAME, &terminated(name)), namespace].concat();
        self.ask(NEW_LINK, ACKNOWLEDGE, &body).map(drop)
    }

    /// The addresses of a device that are there to stay and mean the same everywhere.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Errno> {
        let answers = self.ask(GET_ADDRESS, DUMP, &[0; 8])?;
        let found = answers.iter().filter(|(kind, _)| *kind == NEW_ADDRESS);
        Ok(found.filter_map(|(_, body)| address(body, index)).collect())
    }

    /// Gives a device an address, unless it has it.
    pub(super) fn add(&mut self, index: u32, address: &Address) -> Result<(), Errno> {
        let body = [address.head.as_slice(), &index.to_ne_bytes(), &address.attributes].concat();
        match self.ask(NEW_ADDRESS, ACKNOWLEDGE | CREATE_NEW, &body) {
            Ok(_) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a request and collects what is answered to it.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
        self.sequence += 1;
        let head = HEAD as u32 + body.len() as u32;
        let mut message = head.to_ne_bytes().to_vec();
        message.extend([kind.to_ne_bytes(), (REQUEST | flags).to_ne_bytes()].concat());
        message.extend([self.sequence.to_ne_bytes(), [0; 4]].concat());
        message.extend(body);
        send(self.descriptor.as_raw_fd(), &message, MsgFlags::empty())?;
        let (mut answers, mut room) = (Vec::new(), vec![0u8; 64 << 10]);
        loop {
            let length = match recv(self.descriptor.as_raw_fd(), &mut room, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            for (kind, sequence, body) in messages(room.get(..length).unwrap_or_default()) {
                match kind {
                    _ if sequence != self.sequence => {}
                    DONE => return Ok(answers),
                    ERROR => {
                        let number = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                        return if number == 0 { Ok(answers) } else { Err(Errno::from_raw(-number)) };
                    }
                    kind => answers.push((kind, body.to_vec())),
                }
            }
        }
    }
}

/// The size of `nlmsghdr`.
const HEAD: usize = 16;

/// Type, sequence number and body of each message in what was received.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length).filter(|_| length >= HEAD)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
        let sequence = u32::from_ne_bytes(*message.get(8..)?.first_chunk()?);
        Some((kind, sequence, message.get(HEAD..)?))
    })
}

/// Type, value and all bytes of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        let end = length.next_multiple_of(4).min(bytes.len());
        let (whole, rest) = bytes.split_at(end);
        bytes = rest;
        Some((kind, value, whole))
    })
}

/// `ifinfomsg`: flags and which of them are to change.
fn link_head(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), change.to_ne_bytes()].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn link(body: &[u8]) -> Option<Link> {
    let word = |at: usize| body.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    Some(Link { index: word(4)?, up: word(8)? & UP != 0 })
}

/// An address of the device `of`, if it is one to be kept. Its label is the device's name, which may become another.
fn address(body: &[u8], of: u32) -> Option<Address> {
    let (head, rest) = body.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk::<4>()?;
    let [_, _, flags, scope] = *head;
    let long = attributes(rest).find(|(kind, ..)| *kind == ADDRESS_FLAGS);
    let long = long.and_then(|(_, value, _)| value.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes));
    let permanent = long.unwrap_or(u32::from(flags)) & PERMANENT != 0;
    if u32::from_ne_bytes(*index) != of || scope != GLOBAL || !permanent {
        return None;
    }
    let kept = attributes(rest).filter(|(kind, ..)| !matches!(*kind, ADDRESS_LABEL | ADDRESS_CACHE));
    Some(Address { head: *head, attributes: kept.flat_map(|(.., whole)| whole.iter().copied()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_the_loopback_device_and_no_other_of_no_name() {
        let mut socket = Socket::here().unwrap();
        assert_eq!(socket.link("lo").unwrap().unwrap().index, 1);
        assert_eq!(socket.link("keelbox-none").unwrap(), None);
        // Its addresses are permanent, but mean nothing elsewhere.
        assert_eq!(socket.addresses(1).unwrap(), []);
        assert_eq!(socket.rename(u32::MAX >> 1, "x").unwrap_err(), Errno::ENODEV);
    }

    #[test]
    fn addresses_lose_label_and_age() {
        let parts =
            [attribute(1, &[10, 0, 0, 1]), attribute(ADDRESS_LABEL, b"eth0\0"), attribute(ADDRESS_CACHE, &[0; 16])];
        let flags = attribute(ADDRESS_FLAGS, &PERMANENT.to_ne_bytes());
        let body = |scope: u8, flags: &[u8]| {
            [&[2, 24, 0, scope], 7u32.to_ne_bytes().as_slice(), &parts.concat(), flags].concat()
        };
        let kept = address(&body(0, &flags), 7).unwrap();
        assert_eq!(kept.attributes, [parts[0].clone(), flags.clone()].concat());
        assert_eq!(address(&body(0, &flags), 8), None);
        assert_eq!(address(&body(254, &flags), 7), None);
        assert_eq!(address(&body(0, &attribute(ADDRESS_FLAGS, &[0; 4])), 7), None);
    }

    #[test]
    fn torn_answers_end_the_list() {
        let whole = [&20u32.to_ne_bytes()[..], &[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(messages(&whole).count(), 1);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
